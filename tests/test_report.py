"""The report of `python -m mobilesam val`: its numbers, its files, and what it says."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from shards import write_sa1b, write_shards
from validation_stubs import row

from mobilesam.modeling import build_model
from mobilesam.training.agreement import Agreement, BoxAgreement, PointAgreement
from mobilesam.training.evaluate import by_size, summarise
from mobilesam.training.measure import Measured, Measurer, measure
from mobilesam.training.plan import Plan
from mobilesam.training.report import (
    as_json,
    as_markdown,
    calibration_table,
    points_table,
    size_table,
    summary_table,
    truth_table,
    verdict,
)
from mobilesam.training.sheets import random_rows, shown_part, worst_rows
from tests.processes import descendants

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"), "val", photos=4)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two untrained models of one shape."""
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp(f"run{seed}")
        paths.append(folder / "model.safetensors")
        metadata = {"encoder": "deit_tiny", "image_size": "64", "pads_to_square": "false"}
        save_file(build_model("deit_tiny", 64).state_dict(), paths[-1], metadata=metadata)
    return paths


@pytest.fixture
def one_thread() -> Iterator[None]:
    """What each of several processes has at least; sums differ a little with their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_several_processes_measure_what_one_does(data: Path, checkpoints: list[Path]) -> None:
    model, against = map(str, checkpoints)
    done: list[tuple[int, int]] = []
    plans = [Plan(str(data), model=model, against=against, limit=2, jobs=jobs) for jobs in (1, 2)]
    alone, shared = (measure(Measurer(plan), lambda *now: done.append(now)) for plan in plans)
    assert done == [(1, 2), (2, 2)] * 2
    assert [(r.key, r.index) for r in alone.rows] == [
        (f"{key}-{number:08x}", index)
        for number, key in enumerate(("disks", "bars"))
        for index in range(3)
    ]
    assert alone == shared
    assert len(alone.points) == 10  # of 2 photos, at 5 distances
    assert alone.rows != alone.against_rows


def test_a_damaged_photo_is_counted(data: Path, checkpoints: list[Path], tmp_path: Path) -> None:
    measurer = Measurer(Plan(str(data), model=str(checkpoints[0]), limit=2))
    place = measurer.source.samples[0].place
    whole = (data / "val-000.tar").read_bytes()
    assert place is not None
    start = whole.index(b"RIFF")  # the first photo's bytes
    broken = tmp_path / "val-000.tar"
    broken.write_bytes(whole[: start + 60] + bytes(200) + whole[start + 260 :])
    damaged = Measurer(Plan(str(tmp_path), model=str(checkpoints[0]), limit=2))
    measured = measure(damaged)
    assert (measured.photos, measured.unreadable) == (2, 1)
    assert {r.key for r in measured.rows} == {measurer.source.samples[1].key}
    assert "Left out: 1 that cannot be read." in as_markdown(measured, damaged.plan, "a", "")


def test_the_command_writes_the_report(
    run: Run, data: Path, checkpoints: list[Path], tmp_path: Path
) -> None:
    model = checkpoints[0]
    words = ["val", "--data", data, "--model", model, "--limit", 2, "--out", tmp_path / "out"]
    status, text, _ = run(*words, "--against", model, "--seed", 5)
    assert status == 0
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "val.json",
        "val.md",
        "val.png",
        "calibration.png",
        "agreement.png",
        "contact_sheet.png",
        "worst.png",
    }
    assert text == (out / "val.md").read_text()
    content = json.loads((out / "val.json").read_text())
    boxes = [mask["iou"]["box"] for mask in content["masks"]]
    assert len(boxes) == 6
    assert content["summary"]["overall"]["box"] == pytest.approx(np.mean(boxes))
    assert f"| overall | 6 | {np.mean(boxes):.3f} |" in text
    agreement = content["agreement"]
    assert [values["mean_iou"] for values in agreement["two_points"]] == [1.0] * 5
    assert agreement["truth"]["overall"]["box_agreement"] == 1.0
    name = f"{model.parent.name}/model"
    assert f"| {name} with {name} | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 |" in text
    assert f"{name} is nowhere behind {name}." in text
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 10  # something was drawn


def test_without_another_model_there_is_no_agreement() -> None:
    measured, plan = Measured(1, 0, [row()]), Plan("here")
    assert "agreement" not in as_json(measured, plan, "small", "")
    text = as_markdown(measured, plan, "small", "")
    assert "Photos: 1, masks: 1." in text and "Agreement" not in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--jobs", 0], "jobs must be at least 1; got 0."),
        (["--limit", -1], "limit must be at least 1; got -1."),
        (["--prompts-per-distance", 0], "prompts_per_distance must be at least 1; got 0."),
        (["--seed", -2], "seed must not be negative; got -2."),
        (["--against", "nobody"], "'nobody' is neither a model nor a checkpoint file"),
        (["--data", "nowhere"], "--data"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    refuses: Callable[..., None], data: Path, checkpoints: list[Path], words: list, expected: str
) -> None:
    refuses(expected, "val", "--data", data, "--model", checkpoints[0], *words)


def test_a_file_where_the_report_shall_go_is_noticed_before_the_work(
    refuses: Callable[..., None], data: Path, checkpoints: list[Path], tmp_path: Path
) -> None:
    taken = tmp_path / "file"
    taken.touch()
    words = ("val", "--data", data, "--model", checkpoints[0], "--out")
    refuses("is not a folder; choose another", *words, taken)  # one line: there was no progress
    refuses("cannot be written (", *words, "/proc/nowhere")


def test_a_full_disk_does_not_take_what_was_measured(
    run: Run, data: Path, checkpoints: list[Path], tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    words = ("val", "--data", data, "--model", checkpoints[0], "--limit", 1, "--out", tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        status, text, stderr = run(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 2
    assert "| overall | 3 |" in text
    assert f"{tmp_path} could not be written (File too large); make room there" in stderr


def test_memory_that_does_not_suffice_is_one_sentence(
    run: Run, data: Path, checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("mobilesam.training.measure.measure_photo", full)
    words = ("val", "--data", data, "--model", checkpoints[0], "--limit", 1, "--out", tmp_path)
    status, _, stderr = run(*words)
    assert status == 2
    assert "error: The GPU's memory ran out: take fewer --jobs, a smaller model" in stderr


def test_a_process_that_the_system_ends_is_one_sentence(
    run: Run, data: Path, checkpoints: list[Path], tmp_path: Path
) -> None:
    others = descendants(os.getpid())

    def end_one() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for pid, command in descendants(os.getpid()).items():
                if "spawn_main" in command and pid not in others:
                    return os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    killer = threading.Thread(target=end_one)
    killer.start()
    words = ("val", "--data", data, "--model", checkpoints[0], "--jobs", 2, "--out", tmp_path)
    status, _, stderr = run(*words)
    killer.join()
    assert status == 2
    assert "A process that measures ended, most often because memory ran out: take fewer" in stderr


def test_masks_that_are_all_too_small_are_refused(
    refuses: Callable[..., None],
    run: Run,
    checkpoints: list[Path],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("evaluate", "measure"):
        monkeypatch.setattr(f"mobilesam.training.{module}.MIN_MASK_SHARE", 0.9)
    words = ("val", "--data", data, "--model", checkpoints[0], "--limit", 1, "--out", tmp_path)
    status, _, stderr = run(*words)
    assert status == 2
    assert (
        "none of the 1 photos of 'val' has one larger than 90 % of its picture; take more" in stderr
    )


def test_photos_that_cannot_be_measured_at_all_say_why(
    run: Run, checkpoints: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An SA-1B mask whose run lengths are of nothing is as damaged as one that is not there."""
    folder, out = tmp_path / "photos", tmp_path / "out"
    write_sa1b(folder, photos=0, val=2)
    words = ("val", "--data", folder, "--model", checkpoints[0], "--out", out)
    annotations = folder / "sa_42.json"
    content = json.loads(annotations.read_text())
    height, width = content["annotations"][1]["segmentation"]["size"]
    content["annotations"][1]["segmentation"]["counts"] = [height * width]
    annotations.write_text(json.dumps(content))
    status, stdout, _ = run(*words)
    assert status == 0
    assert "sa_42 is skipped: its mask 1 cannot be used (ValueError: it is empty" in caplog.text
    assert "Photos: 2, masks: 3. Left out: 1 that cannot be read." in stdout
    for path in folder.glob("*.json"):
        path.write_text("{")
    status, _, stderr = run(*words)
    assert status == 2
    assert "none of the 2 photos of 'val' can be read, for the reasons logged above." in stderr
    for path in folder.glob("*.json"):
        path.unlink()
    status, _, stderr = run(*words)
    assert status == 2
    assert "none of the 2 photos of 'val' has masks; name other data." in stderr


@pytest.mark.parametrize("split", ["/x", "**", "a/b", "", "val*"])
def test_what_can_be_no_split_is_refused(
    run: Run, checkpoints: list[Path], data: Path, tmp_path: Path, split: str
) -> None:
    words = ("val", "--data", data, "--model", checkpoints[0], "--split", split)
    status, _, stderr = run(*words, "--out", tmp_path)
    assert status == 2
    assert "A split is called as its tar files begin, of letters, digits, '-', '_'" in stderr
    assert f"got {split!r}. Give train or val." in stderr


def test_tables_by_hand() -> None:
    rows = [
        row("a-1", share=0.004, box=0.9, click_1=0.6, predicted=0.8),
        row("b-1", share=0.5, box=0.5, click_1=0.2, predicted=0.6),
    ]
    lines = summary_table(summarise(rows)).splitlines()
    assert lines[2] == (
        "| overall | 2 | 0.700 | 0.400 | 0.500 | 0.500 | 0.500 | 0.500 | 0.300 | 0.100 |"
    )
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    lines = size_table(by_size(rows)).splitlines()
    assert lines[2] == "| 0.2 to 0.5 % | 1 | 0.900 | 0.600 | 0.500 | 0.500 | 0.500 |"
    assert lines[3] == "| 0.5 to 1 % | 0 | – | – | – | – | – |"
    assert lines[6].startswith("| 10 to 100 % | 1 | 0.500 |")
    lines = calibration_table(rows).splitlines()
    assert lines[2] == "| 1 click | 0.700 | 0.400 | 0.300 | 0.300 |"
    assert lines[3] == "| tight box | 0.700 | 0.700 | 0.100 | 0.100 |"


def test_agreement_stands_beside_the_papers() -> None:
    points = [
        PointAgreement("a-1", 100, (1, 1), (2, 2), 0.5),
        PointAgreement("a-1", 500, None, None, None),
    ]
    text = points_table(Agreement(points, [], []), "small", "large").splitlines()
    assert text[0] == "| distance of the points | 100 px | 500 px |"
    assert text[2:] == [
        "| small with large | 0.500 | – |",
        "| MobileSAM (paper) | 0.73 | 0.73 |",
        "| FastSAM (paper) | 0.27 | 0.41 |",
        "| prompts here | 1 | 0 |",
        "| photos left out here | 0 | 1 |",
    ]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (0.5, "Overall, small is nowhere behind large."),
        (0.48, "small is within 0.03 of large: furthest behind with tight box, by 0.020."),
        (0.4, "small is **not** within 0.03 of large: furthest behind with tight box, by 0.100."),
    ],
)
def test_the_verdict_on_a_student(box: float, expected: str) -> None:
    rows = [row(box=box)]
    agreement = Agreement([], [BoxAgreement("a-1", "a", 0, 0.75)], [row()])
    assert verdict(rows, agreement, "small", "large").endswith(expected)
    line = truth_table(rows, agreement).splitlines()[2]
    assert line.startswith(f"| overall | 1 | 0.750 | {box:.3f} / 0.500 / {box - 0.5:+.3f} |")


def test_photos_are_drawn_and_not_chosen() -> None:
    rows = [row(f"a-{photo}", index) for photo in range(40) for index in range(photo % 3 + 1)]
    drawn = random_rows(rows, seed=1)
    assert len({r.key for r in drawn}) == len(drawn) == 24
    assert random_rows(rows, seed=1) == drawn != random_rows(rows, seed=2)
    assert {r.index for r in drawn} == {0, 1, 2}
    assert len(random_rows(rows[:3], seed=0)) == 2  # all photos there are


def test_the_worst_come_first() -> None:
    rows = [row(f"a-{n}", box=n / 20, click_1=1 - n / 20) for n in range(20)]
    rows.append(row("a-0", index=1, box=0.01))  # a photo is shown once
    assert [r.key for r in worst_rows(rows, "box")] == [f"a-{n}" for n in range(12)]
    assert worst_rows(rows, "box")[0].index == 0
    assert worst_rows(rows, "click_1")[0].key == "a-19"


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ((90, 90, 110, 110), (65, 65, 135, 135)),  # small: 35 % of the longer side, 70 px
        ((0, 0, 20, 20), (0, 0, 70, 70)),  # moved to lie within the photo
        ((20, 10, 120, 90), (0, 0, 140, 140)),  # 1.4 times as long as the region
        ((0, 0, 200, 150), (0, 0, 200, 150)),  # the whole photo
    ],
)
def test_the_part_that_is_shown(region: tuple[int, ...], expected: tuple[int, ...]) -> None:
    truth, mask = np.zeros((150, 200), bool), np.zeros((150, 200), bool)
    x0, y0, x1, y1 = region
    truth[y0 : y0 + 1, x0 : x0 + 1] = True
    mask[y1 - 1 : y1, x1 - 1 : x1] = True
    assert shown_part(truth, mask) == expected


def test_results_of_photos_are_strung_together() -> None:
    point: Any = PointAgreement("a-1", 100, None, None, None)
    total = Measured()
    total.add(Measured(1, 0, [row("a-1")], [point], [], [row("a-1")]))
    total.add(Measured(1, 1))
    assert total == Measured(2, 1, [row("a-1")], [point], [], [row("a-1")])
    assert Measured(1, 0, [row("a-1")]).agreement is None
