"""Several processes, and processes that are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mobilesam import machine
from mobilesam.modeling import build_model
from mobilesam.training import processes
from mobilesam.training.checkpointing import load_state, save_model
from mobilesam.training.commands import run_of
from mobilesam.training.config import DistillConfig, TeacherConfig
from mobilesam.training.run import Run
from tests.processes import descendants, hear_ctrl_c, wait_until
from tests.shards import write_shards
from tests.training_runs import (
    environment,
    in_processes,
    rows_of,
    small_config,
    small_data,
    train_in_processes,
    words_of,
)

pytestmark = pytest.mark.usefixtures("no_curves")

TOLERANCE = 1e-3
LOSSES = ("loss", "mask_loss", "iou_loss", "iou_single", "iou_last")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"), "train")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_model(build_model("deit_tiny", 64, pads_to_square=False), path, {})
    return path


def test_two_processes_train_as_one_with_twice_the_batch(data: Path, tmp_path: Path) -> None:
    """Photos, prompts and corrections are the same, so only the order of summing differs.

    Measured: equal to the log's six digits, give or take 2e-6. The tolerance leaves room for other
    processors; without a part of the batch the curves part by a hundred times as much at least.
    """
    more = ["--image-size=64", "--log-steps=1", "--steps=6"]
    train_in_processes(2, words_of("teacher", data, tmp_path / "two", *more))
    runs = {}
    for name, photos in (("one", 4), ("half", 2)):
        batch = small_data(data, images_per_batch=photos)
        config = small_config(
            TeacherConfig, data, tmp_path / name, data=batch, log_steps=1, steps=6
        )
        run_of(config).run()
        runs[name] = rows_of(tmp_path / name / "log.csv")
    two = rows_of(tmp_path / "two/log.csv")
    assert len(two) == 6
    for row, expected in zip(two, runs["one"], strict=True):
        for name in LOSSES:
            assert row[name] == pytest.approx(expected[name], rel=TOLERANCE, abs=TOLERANCE), name
    apart = []
    for row, other in zip(two, runs["half"], strict=True):
        assert abs(row["mask_loss"] - other["mask_loss"]) > 5 * TOLERANCE * row["mask_loss"]
        apart.append(abs(row["loss"] / other["loss"] - 1))
    assert max(apart) > 100 * TOLERANCE


def test_two_processes_fill_a_cache_and_distill(data: Path, teacher: Path, tmp_path: Path) -> None:
    more = ["--teacher", str(teacher), "--cache", str(tmp_path / "cache"), "--log-steps=1"]
    train_in_processes(2, words_of("distill", data, tmp_path / "two", *more, "--student=deit_tiny"))
    config = small_config(
        DistillConfig,
        data,
        tmp_path / "one",
        teacher=str(teacher),
        student="deit_tiny",
        cache=str(tmp_path / "cache"),
        data=small_data(data, images_per_batch=4),
        log_steps=1,
    )
    run_of(config).run()
    one, two = (rows_of(tmp_path / name / "log.csv") for name in ("one", "two"))
    assert [row["mse"] for row in two] == pytest.approx([row["mse"] for row in one], rel=TOLERANCE)
    assert load_state(tmp_path / "two/state.pt")["step"] == 4


MEASURE = """
import sys, torch
from mobilesam.modeling import build_model
from mobilesam.training import processes
from mobilesam.training.sources import open_source
from mobilesam.training.validation import measure_together

rank, world, device = processes.join("cpu")
torch.manual_seed(0)
model = build_model("tiny_vit", 64, pads_to_square=False)
if rank:  # what BatchNorm has kept there does not count
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.mul_(3)
rows = measure_together(model, device, open_source(sys.argv[1], "val"), 5, (rank, world))
assert (rows is None) == (rank > 0)
if rows is not None:
    print(repr(rows))
"""


def test_two_processes_validate_as_one(tmp_path: Path) -> None:
    """The same rows in the same order, of five photos: three and two."""
    folder = write_shards(tmp_path, "val", photos=6)
    path = tmp_path / "measure.py"
    path.write_text(MEASURE)
    told = []
    for launcher in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]):
        ended = subprocess.run(
            [sys.executable, *launcher, str(path), str(folder)],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        told.append(ended.stdout)
    assert told[0].count("Row(key=") >= 10
    assert told[1] == told[0]


def test_processes_that_cannot_be_joined_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    for name in processes.SET_BY_TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ValueError, match=r"but not LOCAL_RANK, MASTER_ADDR, .* with torchrun"):
        processes.join("cpu")
    for name in processes.SET_BY_TORCHRUN:
        monkeypatch.setenv(name, "2")
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"process 3 on .* sees 2 GPUs, .* start 2 with --nproc"):
        processes.join("cuda")


@pytest.mark.parametrize("of_first", [0, 7])
def test_processes_that_go_on_from_different_steps_are_refused(
    of_first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "first_process_says", lambda step: float(of_first))
    monkeypatch.setattr(processes, "any_of_all", lambda value: value)
    run = SimpleNamespace(step=7, state_path=Path("runs/x/state.pt"))
    refused = pytest.raises(
        ValueError, match=r"not all see runs/x/state\.pt; name an --out that all"
    )
    with refused if of_first != run.step else contextlib.nullcontext():
        Run._check_agreement(run)


@pytest.mark.parametrize(
    ("device", "cores", "processes_here", "expected"),
    [
        ("cpu", 16, 1, 1),
        ("cuda", 16, 1, 15),
        ("cuda", 16, 2, 7),
        ("cuda", 64, 1, 16),
        ("cuda", 1, 1, 1),
        ("cuda", 8, 8, 1),
    ],
)
def test_a_gpu_is_fed_by_as_many_as_there_are_cores(
    monkeypatch: pytest.MonkeyPatch, device: str, cores: int, processes_here: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    monkeypatch.setattr(machine, "CGROUP", Path("nowhere"))
    monkeypatch.delenv("CPU_CORES", raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes_here))
    assert processes.workers_for(torch.device(device)) == expected


def test_a_killed_run_loses_at_most_one_interval(data: Path, tmp_path: Path) -> None:
    more = ["--image-size=64", "--checkpoint-steps=2", "--steps=1000"]
    words = words_of("teacher", data, tmp_path, *more)
    command = [sys.executable, "-m", "mobilesam", *words, "--log-steps=1"]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as process:
        wait_until((tmp_path / "state.pt").exists, process, seconds=120)
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
    state = load_state(tmp_path / "state.pt")  # whole, whenever the kill came
    done = rows_of(tmp_path / "log.csv")[-1]["step"]  # a row is written as soon as a step is done
    assert state["step"] > 0 and state["step"] % 2 == 0
    assert 0 <= done - state["step"] <= 2
    run = run_of(small_config(TeacherConfig, data, tmp_path, steps=state["step"] + 1))
    assert run.step == state["step"]
    run.run()
    assert load_state(tmp_path / "state.pt")["step"] == state["step"] + 1


@pytest.mark.parametrize("whom", ["all", "one"])
def test_several_processes_stop_together_and_save(data: Path, tmp_path: Path, whom: str) -> None:
    """Torchrun may send a second signal, which must not end what is being saved."""
    words = words_of("teacher", data, tmp_path, "--image-size=64", "--steps=1000", "--log-steps=1")
    command = in_processes(2, [*words, "--checkpoint-minutes=60"])
    with subprocess.Popen(
        command,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    ) as process:
        wait_until((tmp_path / "log.csv").exists, process, seconds=120)
        workers = [pid for pid, line in descendants(process.pid).items() if "teacher" in line]
        assert len(workers) == 2
        if whom == "all":
            os.killpg(process.pid, signal.SIGINT)
            for worker in workers:
                os.kill(worker, signal.SIGTERM)
        else:
            os.kill(max(workers), signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    step = load_state(tmp_path / "state.pt")["step"]
    assert step == rows_of(tmp_path / "log.csv")[-1]["step"]
    assert said.count(f"stopped at step {step}; the same command goes on from there") == 1
    assert whom == "one" or said.count("stopping after this step\n") == 1


def test_a_signal_to_readers_as_well_lets_the_step_end(data: Path, tmp_path: Path) -> None:
    """As ``timeout`` and Slurm send it: to every process of the group."""
    words = words_of("teacher", data, tmp_path, "--image-size=64", "--steps=1000", "--workers=2")
    command = [sys.executable, "-m", "mobilesam", *words, "--log-steps=1"]
    with subprocess.Popen(
        command, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_until((tmp_path / "log.csv").exists, process, seconds=120)
        os.killpg(process.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert f"stopped at step {load_state(tmp_path / 'state.pt')['step']}" in said
    assert "memory" not in said
