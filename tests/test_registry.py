"""Models by name and by file, and what is said of files that are something else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mobilesam import CheckpointError, available, default_model_name, load_model
from mobilesam.modeling import build_model
from mobilesam.registry import EMBEDDED_CHECKPOINT, MODELS
from mobilesam.training.checkpointing import read_metadata, save_model
from tests.official_checkpoints import official_state_dict, write_official_checkpoint


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOBILESAM_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_the_official_model_is_the_default_where_it_is(folder: Path) -> None:
    assert default_model_name() == "embedded"
    assert not available("mobile_sam")
    write_official_checkpoint("t", folder)
    assert available("mobile_sam")
    assert default_model_name() == "mobile_sam"


def test_the_embedded_model_describes_itself() -> None:
    model = load_model("embedded")
    assert model.name == "embedded"
    assert model.image_size == MODELS["embedded"].image_size
    assert model.encoder_name == MODELS["embedded"].encoder
    assert "research and demonstration" in model.metadata["licence"]
    assert EMBEDDED_CHECKPOINT.stat().st_size <= 24_000_000
    assert load_model("embedded") is model


def test_a_checkpoint_path_is_a_model_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_model(build_model("deit_tiny", 64, pads_to_square=False), path, {"licence": "none"})
    model = load_model(path)
    assert (model.name, model.image_size, model.pads_to_square) == ("mine", 64, False)
    assert read_metadata(path)["licence"] == "none"
    assert load_model(EMBEDDED_CHECKPOINT).encoder_name == "deit_tiny"


@pytest.mark.parametrize("name", ["sam2", "missing.pt", ""])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="neither a model nor a checkpoint file; the models are"):
        load_model(name)
    with pytest.raises(ValueError, match="There is no model"):
        available(name)


def test_an_absent_device_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ValueError, match="CUDA"):
        load_model("embedded", "cuda")


def test_tensors_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="neither MobileSAM's nor SAM's"):
        load_model(path)


def test_a_misfit_names_the_tensors(tmp_path: Path) -> None:
    state = official_state_dict("t")
    state.pop("mask_decoder.iou_token.weight")
    state["image_encoder.neck.0.weight"] = torch.zeros(256, 300, 1, 1)
    state["surplus"] = torch.zeros(1)
    path = tmp_path / "mobile_sam.pt"
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"missing mask_decoder.iou_token.weight") as caught:
        load_model(path)
    assert "unexpected surplus" in str(caught.value)
    assert "(256, 300, 1, 1) instead of (256, 320, 1, 1)" in str(caught.value)
