"""The embedded model as ONNX files: what they say, and that they compute what PyTorch computes."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilesam import MODELS, Predictor, onnx_export
from mobilesam.modeling import build_model
from mobilesam.predictor import ImageEmbedding
from tests.onnx_models import check_decoder, decoder_inputs, encoder_input, open_session

onnx = pytest.importorskip("onnx", reason="the optional extra onnx is not installed")
ROOT = Path(__file__).resolve().parent.parent
VAL_PICTURES = ROOT.parent / "shared" / "data" / "val-000.tar"
SIDE = MODELS["embedded"].image_size
PARTS = ("encoder", "decoder", "encoder.int8", "decoder.int8")


@pytest.fixture(scope="module")
def folder(exported_onnx: Path) -> Path:
    """The folder that the command has written to."""
    return exported_onnx


@pytest.fixture(scope="module")
def sessions(folder: Path) -> dict[str, Any]:
    return {part: open_session(folder / f"embedded.{part}.onnx") for part in PARTS}


def test_there_are_four_whole_files_and_nothing_else(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"embedded.{part}.onnx" for part in PARTS
    )
    for part in ("encoder", "decoder"):
        whole = (folder / f"embedded.{part}.onnx").stat().st_size
        assert (folder / f"embedded.{part}.int8.onnx").stat().st_size < whole / 2.5


@pytest.mark.parametrize("part", PARTS)
def test_a_file_says_what_it_is(folder: Path, part: str) -> None:
    path = folder / f"embedded.{part}.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["model"] == "embedded"
    assert said["image_size"] == str(SIDE)
    assert said["licence"] == "research and demonstration"
    assert (model.producer_name, model.producer_version) == ("mobilesam", said["mobilesam"])
    # What onnxruntime-web 1.14, which SAM's own page uses, can read.
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert model.ir_version <= 8
    assert str(ROOT).encode() not in path.read_bytes()


def test_the_decoder_has_the_inputs_and_outputs_of_sams_export(sessions: dict[str, Any]) -> None:
    decoder = sessions["decoder"]
    assert {i.name: len(i.shape) for i in decoder.get_inputs()} == {
        "image_embeddings": 4,
        "point_coords": 3,
        "point_labels": 2,
        "mask_input": 4,
        "has_mask_input": 1,
        "orig_im_size": 1,
    }
    names = [output.name for output in decoder.get_outputs()]
    assert names == ["masks", "iou_predictions", "low_res_masks"]
    assert {i.type for i in decoder.get_inputs()} == {"tensor(float)"}


@pytest.mark.parametrize("size", [(333, 517), (401, 96), (64, 64), (1, 200), (5, 3)])
def test_parity_with_pytorch(
    sessions: dict[str, Any], embedded: Predictor, size: tuple[int, int]
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (7, 9, 3), np.uint8)
    photo = np.asarray(Image.fromarray(noise).resize(size[::-1], Image.Resampling.BICUBIC))
    embedding = embedded.encode(photo)
    (features,) = sessions["encoder"].run(None, {"pixels": encoder_input(photo, SIDE)})
    assert features.shape == tuple(embedding.features.shape)
    assert np.abs(features - embedding.features.numpy()).max() <= 1e-4
    check_decoder(sessions["decoder"], embedded, embedding)


@pytest.mark.skipif(not VAL_PICTURES.exists(), reason=f"there is no {VAL_PICTURES}")
def test_weights_of_8_bits_keep_the_masks(sessions: dict[str, Any]) -> None:
    ious = []
    for photo, objects in val_pictures(8):
        pixels = {"pixels": encoder_input(photo, SIDE)}
        for prompt in prompts_for(objects):
            outputs = []
            for kind in ("", ".int8"):
                (features,) = sessions[f"encoder{kind}"].run(None, pixels)
                inputs = decoder_inputs(embedding_of(features, photo), **prompt)
                outputs.append(sessions[f"decoder{kind}"].run(None, inputs))
            chosen = 0 if "box" in prompt else 1 + outputs[0][1][0, 1:].argmax()
            ours, theirs = (logits[0, chosen] > 0 for logits, _, _ in outputs)
            ious.append((ours & theirs).sum() / (ours | theirs).sum())
    assert len(ious) == 16
    assert np.mean(ious) >= 0.98


def val_pictures(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return evenly spread validation pictures with their label maps."""
    with tarfile.open(VAL_PICTURES) as tar:
        keys = sorted({name.split(".")[0] for name in tar.getnames()})

        def read(name: str) -> Image.Image:
            return Image.open(io.BytesIO(tar.extractfile(name).read()))

        return [
            (np.asarray(read(f"{key}.webp").convert("RGB")), np.asarray(read(f"{key}.png")))
            for key in keys[:: len(keys) // count][:count]
        ]


def prompts_for(objects: np.ndarray) -> list[dict[str, Any]]:
    """Return the box of a picture's first object and a click on it."""
    label = objects[(objects > 0) & (objects < 251)].min()
    y, x = np.nonzero(objects == label)
    box = (x.min(), y.min(), x.max() + 1, y.max() + 1)
    middle = len(x) // 2
    return [{"box": box}, {"points": [(x[middle], y[middle])], "labels": [1]}]


def embedding_of(features: np.ndarray, photo: np.ndarray) -> ImageEmbedding:
    import torch

    from mobilesam.transforms import input_size_for

    size = photo.shape[:2]
    frame = input_size_for(size, SIDE)
    return ImageEmbedding(torch.from_numpy(features), None, size, frame, SIDE, "", "", 0.0)


def test_the_report_is_one_line_of_json(run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"abc")
    asked = {}

    def export(model: Any, folder: str, **options: Any) -> list[Path]:
        asked.update(options, folder=folder)
        return [path]

    monkeypatch.setattr(onnx_export, "export", export)
    words = ["export", "--model", "embedded", "--out", tmp_path, "--opset", "20", "--single-mask"]
    status, out, _ = run(*words)
    assert (status, out.count("\n")) == (0, 1)
    assert asked == {"folder": str(tmp_path), "opset": 20, "single_mask": True, "quantize": False}
    assert json.loads(out) == {
        "model": "embedded",
        "image_size": SIDE,
        "opset": 20,
        "files": [{"path": str(path), "bytes": 3}],
    }


def test_bad_arguments_are_one_sentence(refuses: Any, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_bytes(b"")
    refuses("opset must be 18 to 23; got 17", "export", "--out", tmp_path, "--opset", 17)
    refuses("is not a folder", "export", "--out", taken)
    refuses("cannot be written", "export", "--out", "/proc/nowhere")
    out = tmp_path / "out"
    refuses("neither a model nor", "export", "--out", out, "--model", "nonsense")
    assert not out.exists()


def test_a_model_that_was_cast_is_refused(tmp_path: Path) -> None:
    model = build_model("deit_tiny", 64).half()
    with pytest.raises(ValueError, match=r"deit_tiny is in torch.float16: .*\.float\(\)"):
        onnx_export.export(model, tmp_path)


@pytest.mark.parametrize("other", ["embedded", None])
def test_what_is_no_model_is_refused(tmp_path: Path, other: object) -> None:
    with pytest.raises(TypeError, match=r"export takes a model, as load_model\(\.\.\.\) gives one"):
        onnx_export.export(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_packages_are_named_with_the_command(
    refuses: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    refuses("run: pip install onnx onnxscript", "export", "--out", tmp_path)
