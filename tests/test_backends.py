"""Other backends for the image encoder: same masks, one export, clear refusals."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mobilesam import MODELS, Predictor, backends, export_cache, load_model, onnx_export, registry
from mobilesam.modeling import Sam
from mobilesam.ui import build_demo
from mobilesam.ui.models import ModelShelf
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
        assert not twin.shared
        torch.testing.assert_close(twin.encode_image(pixels), expected)
        for change in (twin.half, twin.double, lambda twin=twin: twin.to("meta")):
            with pytest.raises(RuntimeError, match=r"cannot be moved or cast.*backend='torch'"):
                change()
        assert twin.pixel_mean.dtype == torch.float32
        with pytest.raises(RuntimeError, match="takes no other weights"):
            twin.load_state_dict(load_model("embedded").state_dict())


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


# The cache itself, with something quicker than an export in it.


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    return path


def write_two_files(path: Path) -> None:
    path.write_bytes(b"graph")
    path.with_name("encoder.onnx.data").write_bytes(b"weights")


def test_what_was_built_is_found(checkpoint: Path, tmp_path: Path) -> None:
    assert export_cache.find(checkpoint) is None
    path = export_cache.find_or_build(checkpoint, write_two_files)
    assert path.read_bytes() == b"graph"
    assert tmp_path / "cache" / "mobilesam" / "exported" in path.parents
    assert export_cache.find(checkpoint) == path
    same = tmp_path / "copy.pt"
    same.write_bytes(checkpoint.read_bytes())
    assert export_cache.find(same) == path
    checkpoint.write_bytes(b"Weights")
    assert export_cache.find(checkpoint) is None


@pytest.mark.parametrize("constant", ["OPSET", "FORMAT", "__version__"])
def test_another_version_is_another_export(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, constant: str
) -> None:
    path = export_cache.find_or_build(checkpoint, write_two_files)
    monkeypatch.setattr(export_cache, constant, "another")
    assert export_cache.find(checkpoint) is None
    assert export_cache.find_or_build(checkpoint, write_two_files) != path


def test_what_nobody_uses_any_more_is_deleted(checkpoint: Path) -> None:
    old = time.time() - (export_cache.UNUSED_DAYS + 1) * export_cache.DAY_S
    paths = {}
    for name in ("unused", "used"):
        checkpoint.write_text(name)
        paths[name] = export_cache.find_or_build(checkpoint, write_two_files)
        os.utime(paths[name].with_name("SHA256SUMS"), (old, old))
    assert export_cache.find(checkpoint) == paths["used"]  # a use counts, however old it is
    checkpoint.write_text("new")
    made = export_cache.find_or_build(checkpoint, write_two_files)
    assert made.exists() and paths["used"].exists()
    assert not paths["unused"].parent.exists()


@pytest.mark.parametrize("name", ["encoder.onnx", "encoder.onnx.data", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_export_is_made_again(
    checkpoint: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = export_cache.find_or_build(checkpoint, write_two_files).parent
    if damage == "missing":
        (folder / name).unlink()
    else:
        content = bytearray((folder / name).read_bytes())
        content[2] ^= 1
        (folder / name).write_bytes(content)
    assert export_cache.find(checkpoint) is None
    with caplog.at_level(logging.WARNING):
        path = export_cache.find_or_build(checkpoint, write_two_files)
    assert "is damaged and made again" in caplog.text
    assert path.read_bytes() == b"graph"
    assert export_cache.find(checkpoint) == path


def test_of_many_that_ask_at_once_one_builds(checkpoint: Path) -> None:
    built = []

    def build(path: Path) -> None:
        built.append(path)
        time.sleep(0.1)
        write_two_files(path)

    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: export_cache.find_or_build(checkpoint, build), range(4)))
    assert len(built) == 1
    assert len(set(paths)) == 1


def test_a_build_that_fails_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    def stop(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_cache.find_or_build(checkpoint, stop)
    exported = tmp_path / "cache" / "mobilesam" / "exported"
    assert [path.suffix for path in exported.iterdir()] == [".lock"]
    killed = exported / f"{next(exported.iterdir()).stem}.xyz.part"  # as a kill would leave it
    killed.mkdir()
    export_cache.find_or_build(checkpoint, write_two_files)
    assert not killed.exists()


def test_a_cache_that_cannot_be_written_is_one_sentence(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"cannot be stored in .*set XDG_CACHE_HOME to a folder"):
        export_cache.find_or_build(checkpoint, write_two_files)


# The page's shelf.


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> tuple[ModelShelf, list[Any]]:
    """A shelf with the embedded model, and what was loaded for it."""
    loaded: list[Any] = []

    def loader(source: Any, download: bool, backend: str = "torch") -> Any:
        loaded.append((source, backend))
        return copy.copy(load_model("embedded"))

    monkeypatch.setattr("mobilesam.ui.models.available", lambda name: name == "embedded")
    return ModelShelf("embedded", loader=loader), loaded


def test_the_page_changes_over_when_the_export_is_there(
    shelf: tuple[ModelShelf, list[Any]], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    models, loaded = shelf
    before, may_go_on = models.predictor(), threading.Event()
    monkeypatch.setattr(backends, "installed", lambda: ["openvino", "torch"])
    monkeypatch.setattr(backends, "build_elsewhere", lambda path: may_go_on.wait(10))
    with caplog.at_level(logging.INFO):
        thread = models.start_backend()
        assert models.predictor() is before
        may_go_on.set()
        thread.join(10)
    assert loaded == [("embedded", "torch"), ("embedded", "openvino")]
    assert models.predictor() is not before
    assert [choice["source"] for choice in models.status()["choices"]] == ["embedded"]
    assert "OpenVINO encodes pictures for Embedded" in caplog.text


def test_a_backend_that_fails_leaves_pytorch_in_place(
    shelf: tuple[ModelShelf, list[Any]], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def fail(path: Path) -> None:
        raise RuntimeError("no space")

    models, _ = shelf
    before = models.predictor()
    monkeypatch.setattr(backends, "installed", lambda: ["onnxruntime", "torch"])
    monkeypatch.setattr(backends, "build_elsewhere", fail)
    models.start_backend().join(10)
    assert models.predictor() is before
    assert "ONNX Runtime cannot encode pictures here: no space" in caplog.text


def test_without_extras_or_by_choice_pytorch_stays(
    shelf: tuple[ModelShelf, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    models, loaded = shelf
    monkeypatch.setattr(backends, "installed", lambda: ["torch"])
    assert models.start_backend() is None
    assert models.start_backend("torch") is None
    assert loaded == [("embedded", "torch")]
    with pytest.raises(ValueError, match="There is no backend 'fast'"):
        models.start_backend("fast")


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [({}, []), ({"backend": None}, [None]), ({"backend": "openvino"}, ["openvino"])],
)
def test_the_page_asks_for_another_backend_only_if_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: dict[str, Any], asked: list[Any]
) -> None:
    started: list[Any] = []
    monkeypatch.setattr("mobilesam.ui.models.available", lambda name: name == "embedded")
    monkeypatch.setattr(ModelShelf, "start_backend", lambda shelf, backend: started.append(backend))
    build_demo("embedded", examples_folder=tmp_path, **arguments)
    assert started == asked
