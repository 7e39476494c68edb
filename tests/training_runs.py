"""Small runs of every stage, for the tests of training."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mobilesam.training.config import (
    CoupledConfig,
    DistillConfig,
    FinetuneConfig,
    RunConfig,
    TeacherConfig,
)
from mobilesam.training.data_config import DataConfig

ROOT = Path(__file__).parents[1]
TIMED = ("minutes", "images_per_second", "waiting_share")  # what differs between equal runs
SMALL: dict[str, Any] = {
    "steps": 4,
    "warmup_steps": 2,
    "workers": 0,
    "log_steps": 2,
    "val_photos": 0,
    "precision": "fp32",
}


def small_data(folder: Path, **changes: Any) -> DataConfig:
    options = {"images_per_batch": 2, "masks_per_image": 3, **changes}
    return DataConfig(data=str(folder), **options)


def small_config(kind: type[RunConfig], folder: Path, out: Path, **changes: Any) -> RunConfig:
    """A run of four steps at 64 px that corrects from the start and measures nothing."""
    options = {**SMALL, "out": str(out), "data": small_data(folder)}
    if kind in (TeacherConfig, CoupledConfig) and "teacher" not in changes:
        options["image_size"] = 64
    if kind is not DistillConfig:
        options |= {"one_round_share": 0.0, "max_corrections": 2}
    return kind(**{**options, **changes})


def rows_of(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def untimed(path: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k not in TIMED} for row in rows_of(path)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def words_of(stage: str, data: Path, out: Path, *more: str) -> list[str]:
    """The command line of the small run above."""
    words = [stage, "--data", str(data), "--out", str(out), "--steps=4", "--warmup-steps=2"]
    words += ["--workers=0", "--log-steps=2", "--val-photos=0", "--precision=fp32"]
    words += ["--images-per-batch=2", "--masks-per-image=3"]
    words += [] if stage == "distill" else ["--one-round-share=0", "--max-corrections=2"]
    return ["train", *words, *more]


def in_processes(count: int, words: list[str]) -> list[str]:
    """Return the command line that runs a command with torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*command, f"--nproc_per_node={count}", "-m", "mobilesam", *words]


def train_in_processes(count: int, words: list[str]) -> None:
    """Run a command with torchrun."""
    ended = subprocess.run(
        in_processes(count, words),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


__all__ = [
    "CoupledConfig",
    "DistillConfig",
    "FinetuneConfig",
    "TeacherConfig",
    "environment",
    "in_processes",
    "rows_of",
    "small_config",
    "small_data",
    "train_in_processes",
    "untimed",
    "words_of",
]
