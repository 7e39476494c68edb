"""Models by name and by file, and what is said of files that are something else."""

from __future__ import annotations

import copy
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mobilesam import (
    CheckpointError,
    available,
    default_model_name,
    load_model,
    registry,
    sam_model_registry,
)
from mobilesam.checkpoints import read_checkpoint
from mobilesam.modeling import build_model
from mobilesam.registry import MODELS
from mobilesam.training.checkpointing import save_model
from tests.conftest import EMBEDDED_FILE
from tests.official_checkpoints import official_state_dict, write_official_checkpoint


@pytest.fixture
def folder(empty_machine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOBILESAM_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_the_official_model_is_the_default_where_it_is(folder: Path) -> None:
    assert default_model_name() == "embedded"
    assert not available("mobile_sam")
    write_official_checkpoint("t", folder)
    assert available("mobile_sam")
    assert default_model_name() == "mobile_sam"


@pytest.mark.parametrize("name", ["embedded", "embedded_student"])
def test_a_model_that_ships_describes_itself(name: str) -> None:
    model, spec = load_model(name), MODELS[name]
    assert available(name)
    assert model.name == name
    assert model.image_size == spec.image_size
    assert model.encoder_name == spec.encoder
    assert "research and demonstration" in model.metadata["licence"]
    assert spec.shipped_file.stat().st_size <= 24_000_000
    assert load_model(name) is model


def test_a_checkpoint_path_is_a_model_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_model(build_model("deit_tiny", 64, pads_to_square=False), path, {"licence": "none"})
    model = load_model(path)
    assert (model.name, model.image_size, model.pads_to_square) == ("mine", 64, False)
    assert load_model(path).metadata["licence"] == "none"
    assert load_model(EMBEDDED_FILE).encoder_name == "deit_tiny"


@pytest.mark.parametrize("name", ["sam2", "missing.pt", ""])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="neither a model nor a checkpoint file; the models are"):
        load_model(name)
    with pytest.raises(ValueError, match="There is no model"):
        available(name)


@pytest.mark.parametrize("device", ["cuda", "mps", "xpu", "gpu", "meta", "cpu:x", ""])
def test_an_absent_device_is_refused(device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ValueError, match=rf"'{device}' cannot be used on this machine; use 'cpu'"):
        load_model("embedded", device)


def test_a_missing_embedded_file_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "WEIGHTS_FOLDER", tmp_path)
    with pytest.raises(CheckpointError, match=r"is missing; install or check out .* again"):
        load_model("embedded")


@pytest.mark.parametrize(
    "metadata",
    [
        {"encoder": "deit_tiny"},
        {"encoder": "deit_tiny", "image_size": "large"},
        {"encoder": "deit_tiny", "image_size": "100"},
        {"encoder": "resnet", "image_size": "512"},
    ],
)
def test_metadata_that_describe_no_model_are_refused(tmp_path: Path, metadata: dict) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"encoder='\w+' and image_size='.*cannot be built"):
        load_model(path)


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_model(build_model("deit_tiny", 64), path, {})
    return path


def test_no_device_is_the_cpu() -> None:
    assert load_model("embedded", device=None) is load_model("embedded")
    with pytest.raises(ValueError, match="cannot be used on this machine"):
        load_model("embedded", device=["cpu"])


def test_a_shared_model_cannot_be_moved_or_changed(small_file: Path) -> None:
    model = load_model(small_file)
    assert model.to("cpu").float() is model  # nothing changes
    for change in (model.double, model.half, lambda: model.to("meta")):
        with pytest.raises(RuntimeError, match=r"shared by all.*copy\.deepcopy"):
            change()
    with pytest.raises(RuntimeError, match="given other weights"):
        model.load_state_dict(model.state_dict())
    for change in (model.train, model.requires_grad_):
        with pytest.raises(RuntimeError, match=r"put into training mode|given gradients"):
            change()
    assert not model.eval().requires_grad_(False).training
    assert copy.deepcopy(model).train().training
    for part in (model.image_encoder, model.prompt_encoder, model.mask_decoder):
        for change in (part.double, part.train, part.requires_grad_):
            with pytest.raises(RuntimeError, match=r"shared by all.*copy\.deepcopy"):
                change()
        with pytest.raises(RuntimeError, match="given other weights"):
            part.load_state_dict(part.state_dict())
    assert copy.deepcopy(model).mask_decoder.train().training
    assert copy.deepcopy(model.mask_decoder).train().training
    twin = copy.deepcopy(model).double()
    assert (twin.pixel_mean.dtype, model.pixel_mean.dtype) == (torch.float64, torch.float32)


def test_a_model_is_known_by_its_weights_wherever_they_lie(
    small_file: Path, tmp_path: Path
) -> None:
    kept = load_model(small_file).identity
    os.utime(small_file, (1, 1))
    assert load_model(small_file).identity == kept
    (tmp_path / "elsewhere").mkdir()
    copied = shutil.copy(small_file, tmp_path / "elsewhere/copy.safetensors")
    assert load_model(copied).identity == kept
    tensors, said = load_file(small_file), load_model(small_file).description
    tensors["mask_decoder.iou_token.weight"] += 1e-3
    save_file(tensors, tmp_path / "other.safetensors", metadata=said)
    assert load_model(tmp_path / "other.safetensors").identity != kept
    assert load_model("embedded").identity == load_model(EMBEDDED_FILE).identity


def test_models_of_one_s_own_are_told_apart_also_if_they_began_alike(tmp_path: Path) -> None:
    path = write_official_checkpoint("t", tmp_path)
    one, other = (sam_model_registry["vit_t"](checkpoint=path) for _ in range(2))
    assert one.identity != other.identity  # each may be trained


@pytest.mark.parametrize("name", ["embedded", "embedded_student"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_of_ours_that_do_not_say_their_size_are_refused(
    tmp_path: Path, name: str, suffix: str
) -> None:
    """A student's tensors have MobileSAM's names, and are no MobileSAM at 1024 px."""
    path = tmp_path / f"mine.{suffix}"
    tensors = {key: tensor.contiguous() for key, tensor in load_model(name).state_dict().items()}
    torch.save(tensors, path) if suffix == "pt" else save_file(tensors, path)
    with pytest.raises(CheckpointError, match="a model of this project, but not its image size"):
        load_model(path)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, small_file: Path) -> None:
    tensors = load_file(small_file)
    tensors["mask_decoder.iou_token.weight"][0, 3] = float("nan")
    path = tmp_path / "diverged.safetensors"
    save_file(tensors, path, metadata=load_model(small_file).description)
    message = r"NaN or infinity in 1 of its \d+ tensors \(mask_decoder\.iou_token\.weight first\)"
    with pytest.raises(CheckpointError, match=message):
        load_model(path)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "model.", "module._orig_mod."])
def test_names_that_a_wrapper_made_longer_are_known(tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "wrapped.pt"
    state = official_state_dict("t")
    torch.save({prefix + name: tensor for name, tensor in state.items()}, path)
    assert load_model(path).encoder_name == "tiny_vit"


def test_threads_that_ask_at_once_get_one_model(
    small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []

    def read_slowly(path: Path) -> tuple:
        reads.append(path)
        time.sleep(0.05)
        return read_checkpoint(path)

    monkeypatch.setattr(registry, "read_checkpoint", read_slowly)
    with ThreadPoolExecutor(3) as pool:
        models = list(pool.map(load_model, [small_file] * 3))
    assert len(reads) == 1
    assert models[0] is models[1] is models[2]


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
