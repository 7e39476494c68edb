"""The same run under Ray Data, on a real Ray of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobilesam.folders import ray_jobs
from mobilesam.folders.inputs import Picture
from mobilesam.folders.jobs import Task
from mobilesam.folders.outputs import Job, Output
from tests import processes
from tests.conftest import Run

pytestmark = pytest.mark.usefixtures("empty_machine")

COUNT = 16


@pytest.fixture
def threads() -> Iterator[int]:
    """A number of threads that a worker does not have by itself."""
    before = torch.get_num_threads()
    yield 2
    torch.set_num_threads(before)


def results(out: Path) -> dict[str, bytes]:
    paths = [*out.glob("*.json"), *out.glob(".mobilesam/coco/*.json")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
@pytest.mark.skipif(sys.platform != "linux", reason="finds a worker to kill in /proc")
def test_ray_writes_the_same_bytes_even_if_a_worker_is_killed(
    run: Run, checkpoint: Path, tmp_path: Path, threads: int
) -> None:
    folder, out, plain = tmp_path / "photos", tmp_path / "out", tmp_path / "plain"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = random.integers(0, 256, (600, 800, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"ü {number:02}.png", compress_level=1)
    (folder / "bad.png").write_text("no picture")
    words = ("segment", folder, "--box", "50,60,700,500", "--model", checkpoint, "--format", "coco")
    words = (*words, "--threads", threads)
    process = processes.start(*words, "--out", out, "--ray", "local", "--jobs", "2")

    def workers() -> list[int]:
        family = processes.descendants(process.pid)
        return [pid for pid, command in family.items() if command.startswith("ray::MapWorker")]

    processes.wait_until(lambda: len(results(out)) >= 1, process)
    family = processes.descendants(process.pid)
    victim = workers()[0]
    os.kill(victim, signal.SIGKILL)
    finished = len(results(out))
    stdout, stderr = process.communicate(timeout=processes.SECONDS)
    assert process.returncode == 1, stderr
    assert finished < COUNT
    report = json.loads(stdout.splitlines()[-1])
    assert (report["done"], report["failed"], report["unfinished"]) == (COUNT, 1, 0)
    assert "not a picture" in report["failures"][0]["error"]
    assert "Traceback" not in stderr

    assert run(*words, "--out", plain)[0] == 1
    assert results(out) == results(plain)
    assert len(results(plain)) == COUNT + 1
    assert not list(out.rglob("*.part"))

    def are_gone() -> bool:
        return not any(Path(f"/proc/{pid}").exists() for pid in family)

    end = time.monotonic() + 30
    while not are_gone() and time.monotonic() < end:
        time.sleep(0.1)
    assert are_gone()


def test_without_ray_a_sentence_says_how_to_get_it(
    refuses: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(
        ray_jobs.importlib.util, "find_spec", lambda name: None if name == "ray" else name
    )
    words = ("segment", tmp_path, "--point", "3,4", "--model", "embedded", "--format", "yolo")
    expected = (
        '--ray needs Ray Data, which is not installed; install it with `pip install "ray[data]"`'
    )
    refuses(expected, *words, "--ray", "local", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_picture_that_kills_its_workers_is_given_up(checkpoint: Path, tmp_path: Path) -> None:
    output = Output(tmp_path, "yolo", False, 0.0, several=False, classes=("object",))
    job = Job(Picture(tmp_path / "a.png", tmp_path), "a", "a.png")
    notes = output.state_folder / "attempts"
    notes.mkdir(parents=True)
    note = notes / hashlib.sha256(os.fsencode(job.picture.path)).hexdigest()
    worker = ray_jobs._RayWorker()
    task = Task(output, str(checkpoint), "object", torch.get_num_threads())
    for deaths in range(5):
        note.write_bytes(b"." * deaths)
        outcome = worker._work(task, job)
        if deaths < ray_jobs.MAX_DEATHS:
            assert "There is no file" in outcome.error
            assert not note.exists()
        else:
            assert "3 workers died at it" in outcome.error
