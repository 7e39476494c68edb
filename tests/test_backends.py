"""Other backends for the image encoder: same masks, one export, clear refusals."""

from __future__ import annotations

import copy
import ctypes
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mobilesam import MODELS, Predictor, backends, load_model, onnx_export, registry
from mobilesam.modeling import Sam
from tests.conftest import EMBEDDED_FILE

EXPORTED = ["onnxruntime", "openvino"]
PHOTO = Path(__file__).parents[1] / "examples" / "raccoon.jpg"
CLICK = {"points": [(512, 300)], "labels": [1]}


def installed(backend: str) -> str:
    for package in ("onnx", "onnxscript", backend):
        if find_spec(package) is None:
            pytest.skip(f"the optional package {package} is not installed")
    return backend


@pytest.fixture(scope="module")
def cache(exported_encoders: Path) -> Iterator[Path]:
    """A cache of the tests' own, and no model in memory that would hide it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(exported_encoders))
        registry._load.cache_clear()
        yield exported_encoders / "mobilesam" / "exported"
        registry._load.cache_clear()


@pytest.fixture(params=EXPORTED)
def accelerated(request: pytest.FixtureRequest, cache: Path) -> Sam:
    """The embedded model, encoded by another backend; only the first one has to be exported."""
    return load_model("embedded", backend=installed(request.param))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the thread's state from Linux")
def test_openvino_leaves_the_stack_of_signal_handlers_alone(cache: Path) -> None:
    installed("openvino")

    def signal_stack() -> tuple[Any, int, int]:
        stack = backends._SignalStack()
        ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
        return stack.address, stack.flags, stack.size

    def open_in_this_thread() -> list[tuple[Any, int, int]]:
        before = signal_stack()
        load_model("embedded", backend="openvino")
        return [before, signal_stack()]

    before, after = ThreadPoolExecutor().submit(open_in_this_thread).result()
    assert after == before


def test_masks_and_embeddings_are_those_of_pytorch(accelerated: Sam, embedded: Predictor) -> None:
    predictor = Predictor(accelerated)
    ours, theirs = predictor.encode(PHOTO), embedded.encode(PHOTO)
    side = MODELS["embedded"].image_size // 16
    assert ours.features.shape == theirs.features.shape == (1, 256, side * 3 // 4, side)
    assert (ours.features - theirs.features).abs().max() <= 1e-4
    assert ours.model_identity == theirs.model_identity
    expected = embedded.predict(theirs, **CLICK).masks
    for holder, embedding in ((predictor, ours), (embedded, ours), (predictor, theirs)):
        masks = holder.predict(embedding, **CLICK).masks
        overlap = (masks & expected).sum((1, 2)) / (masks | expected).sum((1, 2))
        assert overlap.min() >= 0.999


@pytest.mark.parametrize("size", [(64, 96), (17, 200), (300, 3)])
def test_pictures_of_any_shape_go_in(
    accelerated: Sam, embedded: Predictor, size: tuple[int, int]
) -> None:
    photo = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    ours, theirs = Predictor(accelerated).encode(photo), embedded.encode(photo)
    assert (ours.features - theirs.features).abs().max() <= 1e-4


def test_a_batch_and_several_threads_at_once(accelerated: Sam, embedded: Predictor) -> None:
    pixels = torch.rand(3, 3, 64, 48, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        expected = embedded.model.encode_image(pixels)
        assert (accelerated.encode_image(pixels) - expected).abs().max() <= 1e-4
    with ThreadPoolExecutor(3) as pool, torch.no_grad():
        for index, features in enumerate(pool.map(accelerated.encode_image, pixels[:, None])):
            assert (features[0] - expected[index]).abs().max() <= 1e-4


def test_it_is_exported_once(accelerated: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = accelerated.image_encoder.backend
    assert load_model("embedded", backend=backend) is accelerated
    assert load_model("embedded") is not accelerated
    monkeypatch.setattr(backends, "_export", None)  # another export would call it
    registry._load.cache_clear()
    again = load_model("embedded", backend=backend)
    assert again is not accelerated
    assert again.image_encoder.path == accelerated.image_encoder.path


def test_copies_compute_the_same_and_are_free(accelerated: Sam) -> None:
    pixels = torch.rand(1, 3, 32, 48) * 255
    expected = accelerated.encode_image(pixels)
    for twin in (copy.deepcopy(accelerated), pickle.loads(pickle.dumps(accelerated))):
        assert twin.shared_as is None
        torch.testing.assert_close(twin.encode_image(pixels), expected)
        for change in (twin.half, twin.double, lambda twin=twin: twin.to("meta")):
            with pytest.raises(RuntimeError, match=r"cannot be moved or cast.*backend='torch'"):
                change()
        assert twin.pixel_mean.dtype == torch.float32
        with pytest.raises(RuntimeError, match="takes no other weights"):
            twin.load_state_dict(load_model("embedded").state_dict())
        with pytest.raises(RuntimeError, match="its weights are not here; load the model with ba"):
            twin.state_dict()  # which would lack the encoder without a word


def test_a_copy_whose_file_is_gone_says_so(accelerated: Sam, tmp_path: Path) -> None:
    twin = copy.deepcopy(accelerated)
    twin.image_encoder.path = tmp_path / "encoder.onnx"
    with pytest.raises(FileNotFoundError, match=r"not on this machine; load the model here"):
        pickle.loads(pickle.dumps(twin))


def test_an_export_is_not_exported_again(accelerated: Sam, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is an export already.*backend='torch'"):
        onnx_export.export(accelerated, tmp_path)


@pytest.mark.parametrize("backend", EXPORTED)
def test_as_many_threads_as_pytorch(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(backends, f"_open_{backend}", lambda path, threads: asked.append(threads))
    backends.ExportedEncoder(PHOTO, backend, 64)
    assert asked == [3]


def test_only_what_can_answer_at_once_is_chosen_by_itself(
    accelerated: Sam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = accelerated.image_encoder.backend
    monkeypatch.setattr(backends, "installed", lambda: [backend, "torch"])
    assert backends.fastest(EMBEDDED_FILE) == backend
    assert backends.fastest(EMBEDDED_FILE, "cuda") == "torch"
    assert load_model("embedded", backend=None) is accelerated
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert backends.fastest(EMBEDDED_FILE) == "torch"
    assert load_model("embedded", backend=None) is load_model("embedded")


@pytest.fixture(scope="module")
def padded(cache: Path) -> dict[str, Sam]:
    """A small MobileSAM, of which other backends take pictures of one size only."""
    from tests.onnx_models import small_mobile_sam

    models = {"torch": small_mobile_sam()}
    for backend in filter(find_spec, EXPORTED):
        models[backend] = copy.deepcopy(models["torch"])
        backends.replace_encoder(models[backend], PHOTO, backend)  # any file's content is a key
    return models


@pytest.mark.parametrize("backend", EXPORTED)
def test_a_padded_model(padded: dict[str, Sam], backend: str) -> None:
    model = padded[installed(backend)]
    assert model.image_encoder.img_size == 128
    photo = np.random.default_rng(0).integers(0, 255, (40, 90, 3), np.uint8)
    expected = Predictor(padded["torch"]).encode(photo).features
    assert expected.std() > 0.1
    assert (Predictor(model).encode(photo).features - expected).abs().max() <= 1e-4


def test_a_failed_export_elsewhere_says_why(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.pt"
    path.write_bytes(b"PK and no more")
    with pytest.raises(RuntimeError, match=r"damaged\.pt was not exported: .*cut off or damaged"):
        backends.build_elsewhere(path)


@pytest.mark.parametrize("backend", ["tensorrt", "", "Torch"])
def test_unknown_backends_are_refused(backend: Any) -> None:
    with pytest.raises(ValueError, match=r"the backends are onnxruntime, openvino, torch"):
        load_model("embedded", backend=backend)


@pytest.mark.parametrize("backend", EXPORTED)
def test_missing_packages_are_named_with_the_command(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"'{backend}' needs .*run: pip install {backend}"):
        load_model("embedded", backend=backend)


def test_without_the_exporter_the_missing_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_model: Sam
) -> None:
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"run: pip install onnx onnxscript"):
        backends._export(small_model, tmp_path / "encoder.onnx")


def test_another_device_than_the_cpu_is_refused() -> None:
    with pytest.raises(ValueError, match=r"computes on the CPU only; got the device 'cuda'"):
        backends.check(installed("onnxruntime"), "cuda")


def test_a_runtime_that_cannot_open_it_is_one_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "encoder.onnx"
    broken.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"ONNX Runtime cannot be used here .*backend='torch'"):
        backends.ExportedEncoder(broken, installed("onnxruntime"), 64)
