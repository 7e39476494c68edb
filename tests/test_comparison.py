"""Two models side by side: the masks are the library's, the numbers plausible, nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mobilesam import CheckpointError, Predictor, load_model
from mobilesam.comparison import (
    ComparisonCancelled,
    ComparisonError,
    compare,
    comparing,
    memory,
    tables,
)
from mobilesam.comparison.process import Worker
from mobilesam.masks import mask_iou
from mobilesam.registry import MODELS
from mobilesam.steps import predict_steps
from mobilesam.transforms import read_image
from tests.conftest import EMBEDDED_FILE
from tests.official_checkpoints import write_official_checkpoint
from tests.processes import ROOT, descendants

CAT = str(ROOT / "examples" / "cat.jpg")
PROMPTS = {"points": [(220, 150), (60, 40), (300, 200)], "labels": [1, 0, 1]}
DEADLINE_S = 120  # for anything, on a very busy machine


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the official layout: MobileSAM's and SAM ViT-B's."""
    folder = tmp_path_factory.mktemp("official")
    for variant in ("t", "b"):
        write_official_checkpoint(variant, folder)
    return folder


@pytest.fixture
def official(empty_machine: None, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOBILESAM_CHECKPOINT_DIR", str(weights))
    return weights


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    assert workers() == []


def workers(pid: int | None = None) -> list[int]:
    """Return the processes that comparisons of this process, or another, have started."""
    found = descendants(pid or os.getpid())
    return [child for child, command in found.items() if "comparison.worker" in command]


def wait_for_worker(pid: int | None = None) -> int:
    end = time.monotonic() + DEADLINE_S
    while not (found := workers(pid)):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found[0]


def test_masks_and_numbers_are_those_of_the_models(official: Path) -> None:
    steps, choices = [1, 3], [2, 3]
    said: list[tuple[float, str]] = []
    made = compare(
        CAT,
        ("embedded", "mobile_sam"),
        **PROMPTS,
        steps=steps,
        choices=choices,
        progress=lambda share, text: said.append((share, text)),
    )
    files = (EMBEDDED_FILE, official / "mobile_sam.pt")
    for run, file in zip((made.first, made.second), files, strict=True):
        predictor = Predictor(load_model(run.name))
        embedding = predictor.encode(CAT)
        expected = predict_steps(predictor, embedding, **PROMPTS, steps=steps, choices=choices)
        assert mask_iou(run.mask, expected.mask(3)) > 0.9999
        score = float(expected.iou_predictions[3])
        assert run.predicted_iou == pytest.approx(score, abs=1e-4)
        assert (run.source, run.file_bytes) == (file, file.stat().st_size)
        assert run.parameters == MODELS[run.name].parameters
        assert run.title == MODELS[run.name].title
        assert min(run.load_ms, run.encode_ms, run.decode_ms) > 0
        assert run.decode_ms < run.encode_ms
        needed = memory.needed_bytes(run.file_bytes, made.first.mask.size * 3, run.name)
        assert run.file_bytes < run.peak_bytes < 1.2 * needed
    assert made.iou == mask_iou(made.first.mask, made.second.mask)
    assert made.size == made.first.mask.shape
    assert made.threads == torch.get_num_threads()
    shares = [share for share, _ in said]
    assert shares == sorted(shares)
    assert shares[0] < 0.1
    assert 0.9 < shares[-1] <= 1
    words = [text for _, text in said]
    assert words[0] == "Embedded (ours, small) (1 of 2): starting a process of its own"
    for title in ("Embedded (ours, small) (1 of 2)", "MobileSAM (2 of 2)"):
        for stage in ("loading 2", "encoding", "decoding"):
            assert any(title in text and stage[:7] in text for text in words), (title, stage)


def test_the_processes_start_together_and_work_one_after_the_other() -> None:
    at_work: dict[str, int] = {}

    def watch(_: float, text: str) -> None:
        at_work[text.partition(") (")[2][:14]] = len(workers())

    compare(CAT, ("embedded", "embedded_student"), points=[(220, 150)], progress=watch)
    stages = [
        f"{number} of 2): {stage}" for number in (1, 2) for stage in ("loadi", "encod", "decod")
    ]
    assert list(at_work) == ["1 of 2): start", *stages]  # the second has started by then
    assert at_work["1 of 2): loadi"] == at_work["1 of 2): decod"] == 2
    assert at_work["2 of 2): loadi"] == at_work["2 of 2): decod"] == 1


def test_a_process_begins_when_it_may() -> None:
    prompts = {"points": [[220, 150]], "labels": [1], "box": None, "steps": None, "choices": None}
    request = {"path": str(EMBEDDED_FILE), "name": "embedded", "prompts": prompts}
    with Worker(request, read_image(CAT)) as worker:
        assert worker.next_message(DEADLINE_S) == {"stage": "ready"}
        assert worker.next_message(1.0) is None
        worker.begin()
        assert worker.next_message(DEADLINE_S) == {"stage": "loading"}


def test_a_model_agrees_with_itself_and_its_memory_is_its_own() -> None:
    ballast = np.ones(800_000_000, np.uint8)  # a new process would inherit this one's peak
    made = compare(CAT, ("embedded", EMBEDDED_FILE), box=(20, 20, 400, 290))
    assert made.iou == 1
    assert 0 < made.first.mask.mean() < 1
    assert made.second.name == "embedded"
    assert made.first.peak_bytes < ballast.nbytes
    assert made.second.peak_bytes < ballast.nbytes


def test_a_choice_holds_for_the_model_that_it_was_made_with() -> None:
    pair = ("embedded", "embedded_student")
    point = {"points": [(220, 150)]}
    first, second = (
        predict_steps(predictor, predictor.encode(CAT), **point)
        for predictor in (Predictor(load_model(name)) for name in pair)
    )
    chosen = (first.best + 1) % 3
    made = compare(CAT, pair, **point, choices=[chosen], chosen_with=EMBEDDED_FILE)
    assert mask_iou(made.first.mask, first.mask(chosen)) > 0.9999
    assert mask_iou(made.second.mask, second.mask(second.best)) > 0.9999
    assert (made.first.is_chosen, made.second.is_chosen) == (True, False)
    assert ("mask", "as chosen", "its best") in tables.measured_rows(made)


def test_a_slow_model_can_be_cancelled_and_tells_how_far_it_is(official: Path) -> None:
    said: list[str] = []
    cancelled = threading.Event()
    asked: list[float] = []

    def watch(share: float, text: str) -> None:
        said.append(text)
        if "estimate" in text and not cancelled.is_set():
            asked.append(time.monotonic())
            cancelled.set()

    with pytest.raises(ComparisonCancelled):
        compare(
            CAT,
            ("sam_vit_b", "embedded"),
            points=[(220, 150)],
            progress=watch,
            cancelled=cancelled.is_set,
        )
    assert time.monotonic() - asked[0] < 1
    assert workers() == []
    assert any("SAM ViT-B (1 of 2): loading 375 MB" in text for text in said)
    assert "(an estimate)" in said[-1]


def test_the_process_ends_with_the_one_that_asked(official: Path) -> None:
    code = (
        "from mobilesam.comparison import compare; "
        f"compare({CAT!r}, ('sam_vit_b', 'sam_vit_b'), points=[(220, 150)], "
        "progress=lambda share, text: print(text, flush=True))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as asker:
        try:
            assert asker.stdout is not None
            while "encoding" not in (said := asker.stdout.readline()):  # it is at work
                assert said
            both = workers(asker.pid)
            assert len(both) == 2
        finally:
            asker.send_signal(signal.SIGKILL)
    end = time.monotonic() + 3  # encoding the photo three times takes longer
    for worker in both:
        while Path(f"/proc/{worker}/cmdline").exists() and state_of(worker) != "Z":
            assert time.monotonic() < end, "an orphan stays"
            time.sleep(0.05)


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_a_process_that_the_system_ends_is_reported() -> None:
    threading.Thread(target=lambda: os.kill(wait_for_worker(), signal.SIGKILL)).start()
    with pytest.raises(ComparisonError, match=r"^Embedded .*: the system ended it, most likely"):
        compare(CAT, ("embedded", "embedded"), points=[(220, 150)])


def test_the_death_of_the_process_that_waits_is_reported_at_once(official: Path) -> None:
    said: list[str] = []

    def watch(_: float, text: str) -> None:
        said.append(text)
        if "encoding" in text:
            os.kill(max(workers()), signal.SIGKILL)  # the one that was started last

    with pytest.raises(ComparisonError, match=r"^Embedded .*: the system ended it, most likely"):
        compare(CAT, ("sam_vit_b", "embedded"), points=[(220, 150)], progress=watch)
    assert not any("decoding" in text for text in said)


def test_what_cannot_be_compared_is_said_in_one_sentence(
    empty_machine: None, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(EMBEDDED_FILE.read_bytes()[:-1000])
    point = {"points": [(220, 150)]}
    for models, arguments, kind, text in (
        (("embedded", "sam_vit_b"), point, CheckpointError, "375 MB.*not on this machine"),
        (("embedded", "sam3"), point, ValueError, "neither a model nor a checkpoint file"),
        (("embedded", "embedded"), {}, ValueError, "No prompt was given"),
        (("embedded",), point, ValueError, "Two models can be compared; got 1"),
        ((broken, "embedded"), point, CheckpointError, "broken.safetensors is not a whole"),
        (("embedded", broken), point, CheckpointError, "broken.safetensors is not a whole"),
        (
            ("embedded", "embedded"),
            {**point, "steps": [7]},
            ValueError,
            "steps say how many points",
        ),
    ):
        with pytest.raises(kind, match=text) as caught:
            compare(CAT, models, **arguments)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"steps": 1}, "steps must be a list"), ({"choices": [7]}, "step 1 must be 0 to 2")],
)
def test_steps_and_choices_are_checked_before_a_process_is_started(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(comparing, "Worker", lambda *_: pytest.fail("started a process"))
    with pytest.raises((TypeError, ValueError), match=words):
        compare(CAT, ("embedded", "embedded"), points=[(220, 150)], **arguments)


def test_too_little_memory_is_told_before_anything_is_loaded(
    official: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "free_bytes", lambda: 2_000_000_000)
    monkeypatch.setattr(comparing, "Worker", lambda *_: pytest.fail("started a process"))
    with pytest.raises(ComparisonError, match=r"SAM ViT-B takes about 3\.\d GB of memory, and 2"):
        compare(CAT, ("embedded", "sam_vit_b"), points=[(220, 150)])


def test_memory_is_bounded_by_the_container_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = memory.free_bytes()
    assert free is not None
    assert free > 10_000_000
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    for name, text in (("max", "3000000"), ("current", "1500000"), ("stat", "inactive_file 7\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.free_bytes() == 1_500_007
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes() > 10_000_000
    sizes = [memory.needed_bytes(0, 0, name) for name in MODELS]
    assert sizes[:4] == sorted(sizes[:4])
    unnamed = memory.needed_bytes(375_042_383)
    assert unnamed == pytest.approx(memory.needed_bytes(0, 0, "sam_vit_b"), rel=0.01)
