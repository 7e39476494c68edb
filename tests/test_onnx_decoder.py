"""The official models' architectures as ONNX, how weights are rounded, how files are written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mobilesam import Predictor, onnx_export, onnx_files
from mobilesam.modeling import Sam
from mobilesam.onnx_quantize import quantize, quantized
from mobilesam.predictor import ImageEmbedding
from mobilesam.transforms import input_size_for, upscale_logits
from tests.onnx_models import (
    check_decoder,
    decoder_inputs,
    encoder_input,
    open_session,
    small_mobile_sam,
    small_sam_vit,
)

onnx = pytest.importorskip("onnx", reason="the optional extra onnx is not installed")
PHOTO_SIZE = (75, 133)


@pytest.fixture(scope="module")
def model() -> Sam:
    return small_mobile_sam()


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (5, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize(PHOTO_SIZE[::-1], Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def embedding(model: Sam, photo: np.ndarray) -> ImageEmbedding:
    return Predictor(model).encode(photo)


@pytest.fixture(scope="module")
def decoder(model: Sam) -> Any:
    return open_session(onnx_export.decoder_to_onnx(model, onnx_export.OPSET, single_mask=False))


def test_the_encoder_pads_inside(model: Sam, photo: np.ndarray, embedding: ImageEmbedding) -> None:
    encoder = open_session(onnx_export.encoder_to_onnx(model, onnx_export.OPSET))
    (features,) = encoder.run(None, {"pixels": encoder_input(photo, 128)})
    assert features.shape == (1, 256, 8, 8)
    assert np.abs(features - embedding.features.numpy()).max() <= 1e-4
    upright = np.random.default_rng(1).random((1, 3, 128, 1), np.float32) * 255
    (features,) = encoder.run(None, {"pixels": upright})
    with torch.no_grad():
        expected = model.encode_image(torch.from_numpy(upright))
    assert np.abs(features - expected.numpy()).max() <= 1e-4


def test_sams_encoder_with_its_positions_in_attention() -> None:
    model = small_sam_vit()
    encoder = open_session(onnx_export.encoder_to_onnx(model, 20, raw_pixels=False))
    pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    (features,) = encoder.run(None, {"pixels": pixels.numpy()})
    expected = model.image_encoder(pixels).numpy()
    assert expected.std() > 0.1
    assert np.abs(features - expected).max() <= 1e-4
    assert all(block.attn.fused_attn for block in model.image_encoder.backbone.blocks)


def test_parity_with_pytorch(decoder: Any, model: Sam, embedding: ImageEmbedding) -> None:
    check_decoder(decoder, Predictor(model), embedding)


def test_the_padding_rows_coordinates_do_not_matter(
    decoder: Any, embedding: ImageEmbedding
) -> None:
    inputs = decoder_inputs(embedding, points=[(40, 30)], labels=[1])
    low_res = decoder.run(["low_res_masks"], inputs)[0]
    inputs["point_coords"][0, -1] = (77, 5)
    np.testing.assert_allclose(decoder.run(["low_res_masks"], inputs)[0], low_res, atol=1e-5)
    inputs["point_labels"][0, -1] = 0
    assert np.abs(decoder.run(["low_res_masks"], inputs)[0] - low_res).max() > 1e-3


def test_a_single_mask_is_chosen_as_sam_chooses(
    decoder: Any, model: Sam, embedding: ImageEmbedding
) -> None:
    chooser = onnx_export.decoder_to_onnx(model, onnx_export.OPSET, single_mask=True)
    session = open_session(chooser)
    for count in (1, 2, 3, 4):
        points = [(10.0 * index, 20.0) for index in range(count)]
        inputs = decoder_inputs(embedding, points=points, labels=[1] * count)
        masks, iou, low_res = decoder.run(None, inputs)
        # Of SAM's export script: the number of rows decides by outweighing every score.
        rows = inputs["point_labels"].shape[1]
        best = int((iou[0] + (rows - 2.5) * np.array([1000, 0, 0, 0])).argmax())
        assert (best == 0) is (rows > 2)
        chosen = session.run(None, inputs)
        for got, expected in zip(chosen, (masks, iou, low_res), strict=True):
            np.testing.assert_allclose(got[:, 0], expected[:, best], atol=1e-5)


# Among them sizes whose scaling ends in exactly one half, one-pixel sides, and no scaling at all.
@pytest.mark.parametrize(
    "size", [(1, 1), (1, 999), (64, 64), (63, 128), (129, 4), (37, 50), (9, 6)]
)
@pytest.mark.parametrize("padded", [True, False])
def test_resizing_is_that_of_the_predictor(size: tuple[int, int], padded: bool) -> None:
    frame = input_size_for(size, 64)
    cells = (16, 16) if padded else tuple(-(-side // 16) * 4 for side in frame)
    graph = onnx.parser.parse_graph(onnx_export._resizing(64))
    opsets = [onnx.helper.make_opsetid("", onnx_export.OPSET)]
    session = open_session(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8))
    low_res = np.random.default_rng(0).normal(size=(1, 3, *cells)).astype(np.float32)
    inputs = {"low_res_masks": low_res, "orig_im_size": np.array(size, np.float32)}
    (masks,) = session.run(None, inputs)
    expected = upscale_logits(torch.from_numpy(low_res[0]), frame, 64, size)
    assert masks.shape == (1, 3, *size)
    assert np.abs(masks[0] - expected.numpy()).max() <= 1e-5


def test_weights_are_rounded_to_a_scale_for_each_channel() -> None:
    weight = np.array([[1.27, 10.0, 0.0], [-0.6349, -12.7, 0.0]], np.float32)
    integers, scales = quantize(weight, axis=1)
    np.testing.assert_allclose(scales, [0.01, 0.1, 1.0], rtol=1e-6)
    assert integers.tolist() == [[127, 100, 0], [-63, -127, 0]]
    assert integers.dtype == np.int8


def small_graph(*nodes: Any, **weights: np.ndarray) -> Any:
    """Return a model from x, (8, 64), to y that consists of a few nodes."""
    floats = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "small",
        [onnx.helper.make_tensor_value_info("x", floats, [8, 64])],
        [onnx.helper.make_tensor_value_info("y", floats, [None, None])],
        [onnx.numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_one_weight_may_serve_two_products() -> None:
    rng = np.random.default_rng(0)
    model = small_graph(
        onnx.helper.make_node("MatMul", ["x", "w"], ["a"]),
        onnx.helper.make_node("Gemm", ["a", "w", "bias"], ["y"], transB=1),
        w=rng.normal(size=(64, 64)).astype(np.float32),
        bias=rng.normal(size=64).astype(np.float32),
    )
    small = quantized(model)
    onnx.checker.check_model(small, full_check=True)
    kept = {tensor.name: tuple(tensor.dims) for tensor in small.graph.initializer}
    assert kept == {
        "bias": (64,),
        "w.axis1.int8": (64, 64),
        "w.axis1.scale": (64,),
        "w.axis0.int8": (64, 64),
        "w.axis0.scale": (64,),
    }
    x = rng.normal(size=(8, 64)).astype(np.float32)
    (expected,), (got,) = (open_session(m).run(None, {"x": x}) for m in (model, small))
    assert 0 < np.abs(got - expected).max() < 0.02 * np.abs(expected).max()


@pytest.fixture
def product() -> Any:
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    return small_graph(onnx.helper.make_node("MatMul", ["x", "w"], ["y"]), w=weight)


def test_weights_that_no_file_can_hold_go_beside_it(
    product: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = {"x": np.ones((8, 64), np.float32)}
    expected = open_session(product).run(None, x)
    monkeypatch.setattr(onnx_files, "MAX_FILE_BYTES", 1000)
    onnx_files.write(product, tmp_path / "large.onnx")
    assert sorted(os.listdir(tmp_path)) == ["large.onnx", "large.onnx.data"]
    assert (tmp_path / "large.onnx").stat().st_size < 1000
    np.testing.assert_array_equal(open_session(tmp_path / "large.onnx").run(None, x), expected)


@pytest.mark.parametrize("limit", [1000, 10**9], ids=["with data", "alone"])
def test_a_full_disk_leaves_nothing(
    product: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(onnx_files, "MAX_FILE_BYTES", limit)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"large\.onnx could not be written: No space left"):
        onnx_files.write(product, tmp_path / "large.onnx")
    assert os.listdir(tmp_path) == []


def test_an_opset_that_the_exporter_does_not_write_is_refused() -> None:
    layer = torch.nn.Linear(3, 3)
    with pytest.raises(ValueError, match=r"cannot write opset 40"):
        onnx_files.to_onnx(layer, {"x": torch.zeros(2, 3)}, [{}], ["y"], 40, {}, "")
