"""What several test modules need: small models, and the one that ships."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from filelock import FileLock
from http_server import FlakyServer, closed_port
from safetensors.torch import save_file

from mobilesam import Predictor, checkpoints, cli, load_model
from mobilesam.modeling import Sam, build_model, prepare_for_inference
from mobilesam.registry import MODELS
from mobilesam.training import curves
from tests.browser.demo_server import Server

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else ONNX Runtime reports to its makers
Run = Callable[..., tuple[int, str, str]]
SHARE_A_SERVER = "tests/test_api"  # how the names of those modules begin
LONGEST = ("test_reload", "test_compare", "test_saving", "test_trouble")
EMBEDDED_FILE = MODELS["embedded"].shipped_file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the browser's tests be the last: they wait for a page, and want the machine for it.

    Of these the longest modules come first: two processes that share them end together.
    """
    items.sort(key=lambda item: _place(item.nodeid.split("::")[0]))


def _place(module: str) -> int:
    if not module.startswith("tests/browser/"):
        return 0
    return 1 + (Path(module).stem not in LONGEST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process of `pytest -n 2` whole modules, in their order."""
    from xdist.scheduler import LoadScopeScheduling

    class WholeModules(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return SHARE_A_SERVER if nodeid.startswith(SHARE_A_SERVER) else nodeid.split("::")[0]

    config.option.loadscopereorder = False
    return WholeModules(config, log)


@pytest.fixture(scope="session")
def small_model() -> Sam:
    """A real architecture at 128 px with random weights: quick, and right about shapes."""
    torch.manual_seed(0)
    return prepare_for_inference(build_model("deit_tiny", 128, pads_to_square=False))


@pytest.fixture(scope="session")
def small_predictor(small_model: Sam) -> Predictor:
    return Predictor(small_model)


@pytest.fixture(scope="session")
def embedded() -> Predictor:
    """The model that ships."""
    return Predictor(load_model("embedded"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with untrained weights, as our own training would have saved it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    metadata = {"encoder": "deit_tiny", "image_size": "128", "pads_to_square": "false"}
    save_file(build_model("deit_tiny", 128).state_dict(), path, metadata=metadata)
    return path


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of one test run have in common."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def exported_encoders(run_folder: Path) -> Path:
    """A cache folder that tests share for what takes long: image encoders for other backends."""
    return run_folder / "cache"


@pytest.fixture(scope="session")
def exported_onnx(run_folder: Path) -> Path:
    """The embedded model as ONNX, in a folder with a space and a letter of its own."""
    out = run_folder / "für das Netz"
    with FileLock(run_folder / "export.lock"):
        if not out.exists():
            unfinished = out.with_name("unfinished")
            words = ["export", "--model", "embedded", "--out", str(unfinished), "--quantize"]
            assert cli.main(words) == 0
            unfinished.rename(out)
    return out


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyServer]:
    """A web server on this machine that misbehaves as told."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FlakyServer() as running:
        yield running


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A really running `python app.py`, with the tools for agents where their package is here."""
    options = ["--mcp"] if find_spec("mcp") else []
    started = Server(tmp_path_factory.mktemp("api"), options=options)
    yield started
    started.stop()


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training draws no picture of its curves, which takes longer than a short run itself."""
    monkeypatch.setattr(curves, "draw_curves", lambda *_: None)


@pytest.fixture
def noise_photo() -> np.ndarray:
    """A 90 x 160 photo of noise."""
    return np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoint anywhere, and every host a closed port of this machine."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for variable in checkpoints.HOST_VARIABLES.values():
        monkeypatch.setenv(variable, f"http://127.0.0.1:{closed_port()}")
    for variable in (checkpoints.FOLDER_VARIABLE, checkpoints.OFFLINE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: (exit status, standard output, standard error)."""

    def run_command(*words: object) -> tuple[int, str, str]:
        try:
            status = cli.main([str(word) for word in words])
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_command


@pytest.fixture
def refuses(run: Run) -> Callable[..., None]:
    """Expect a command to end with status 2 and one line that holds the given words."""

    def check(expected: str, *words: object) -> None:
        status, out, err = run(*words)
        assert status == 2
        assert out == ""
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert expected in err

    return check


def disk_photo(
    height: int, width: int, centre: tuple[int, int], radius: int
) -> tuple[np.ndarray, np.ndarray]:
    """Paint a bright disk on a dark, slightly noisy ground; returns the photo and its mask."""
    y, x = np.mgrid[:height, :width]
    mask = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2
    photo = np.where(mask[..., None], (240, 200, 60), (30, 60, 70)).astype(np.int16)
    photo += np.random.default_rng(0).integers(-8, 8, photo.shape, np.int16)
    return photo.clip(0, 255).astype(np.uint8), mask
