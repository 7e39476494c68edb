"""Real processes that are interrupted, killed or run out of space: nothing is half-written."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilesam.folders import progress
from tests import processes
from tests.conftest import Run

pytestmark = pytest.mark.usefixtures("empty_machine")

COUNT = 24
BOX = ("--box", "5,6,250,240")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of noise, large enough to take their time."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = random.integers(0, 256, (300, 400, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png", compress_level=1)
    return folder


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob(pattern)}


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize(("sent", "expected"), [("SIGINT", 130), ("SIGKILL", -9)])
def test_a_run_that_is_cut_off_leaves_whole_files_and_is_completed_by_the_next(
    run: Run, photos: Path, checkpoint: Path, tmp_path: Path, sent: str, expected: int
) -> None:
    words = ("segment", photos, *BOX, "--model", checkpoint, "--format", "cutout")
    out, whole = tmp_path / "out", tmp_path / "whole"
    process = processes.start(*words, "--out", out)
    processes.wait_until(lambda: len(list(out.glob("*.png"))) >= 2, process)
    process.send_signal(signal.Signals[sent])
    stdout, stderr = process.communicate(timeout=processes.SECONDS)
    assert process.returncode == expected
    left = contents(out, "[!.]*")
    assert run(*words, "--out", whole)[0] == 0
    complete = contents(whole, "*.png")
    assert 2 <= len(left) < len(complete) == COUNT
    assert left.items() <= complete.items()
    if sent == "SIGINT":
        assert not list(out.rglob("*.part"))
        assert "Traceback" not in stderr
        assert "interrupted" in stderr
        report = json.loads(stdout)
        assert report["status"] == 130
        assert report["done"] + report["unfinished"] == COUNT
        assert report["objects"] in (report["done"], None)  # None: some were done but not told of
    status, stdout, _ = run(*words, "--out", out)
    assert status == 0
    assert json.loads(stdout)["skipped"] == len(left)
    assert contents(out, "[!.]*") == complete
    assert not list(out.rglob("*.part"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_files_that_cannot_be_written_to_their_end_are_not_there(
    checkpoint: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, side in (("large", 200), ("small", 40)):
        pixels = random.integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    out = tmp_path / "out"
    words = ("segment", folder, "--point", "20,20", "--model", checkpoint, "--out", out)
    process = processes.start(*words, "--format", "cutout", limit_bytes=10_000)
    stdout, stderr = process.communicate(timeout=processes.SECONDS)
    assert process.returncode == 1, stderr
    report = json.loads(stdout)
    assert (report["done"], report["failed"]) == (1, 1)
    assert "large.png could not be written: File too large" in report["failures"][0]["error"]
    assert contents(out, "*.png").keys() == {"small.png"}
    assert not list(out.rglob("*.part"))


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only for root"
)
def test_a_read_only_folder_of_results_is_one_sentence(
    run: Run, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    try:
        words = ("segment", photos, *BOX, "--model", checkpoint, "--out", tmp_path)
        status, stdout, stderr = run(*words, "--format", "yolo")
    finally:
        tmp_path.chmod(0o700)
    assert (status, stdout) == (2, "")
    assert "Permission denied" in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(
    run: Run,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
) -> None:
    for number in range(3):
        Image.new("RGB", (40, 30)).save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").touch()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    words = ("segment", tmp_path, "--point", "20,20", "--model", checkpoint, "--format", "yolo")
    status, stdout, stderr = run(*words, "--out", tmp_path / "out")
    assert status == 1
    assert stdout.count("\n") == 1
    assert "bad.png: bad.png is empty" in stderr
    if terminal:
        assert "\r100%" in stderr
        assert "picture/s]" in stderr or "s/picture]" in stderr
    else:
        assert "\r" not in stderr
        assert "2 of 4 pictures, " in stderr
        assert "pictures/s, 00:0" in stderr
