"""How far a comparison is: a share of the whole, and words."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilesam.machine import usable_cores
from mobilesam.registry import MODELS

REPORT_SECONDS = 0.3  # between two reports of the same stage
# For the progress bar only: two cores with PyTorch take about 0.13 s to encode a photo of 1024 px
# with every million parameters, from MobileSAM to ViT-H.
ENCODE_SECONDS_PER_PARAMETER = 0.26e-6  # with one core
LOAD_BYTES_PER_SECOND = 400e6
START_SECONDS, DECODE_SECONDS = 4.0, 1.0
BUSY_FACTOR = 1.5  # a stage that takes so much longer than expected is on a busy machine
STAGES = ("starting", "loading", "encoding", "decoding")

Progress = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and what is being done, in words."""


@dataclass(frozen=True)
class Plan:
    """A model that is about to run.

    Attributes:
        name: What results call it.
        title: What people read.
        path: Its checkpoint.
        file_bytes: Size of that file.
    """

    name: str
    title: str
    path: Path
    file_bytes: int


class Reporter:
    """Turn stages into a share of the whole and words."""

    def __init__(self, plans: Sequence[Plan], progress: Progress | None) -> None:
        self._plans, self._progress = list(plans), progress
        self._costs = [_expected_seconds(plan) for plan in plans]
        for later in self._costs[1:]:
            later[STAGES.index("starting")] = 0.0  # it has started beside the first
        self._number, self._stage = 0, ""
        self._began = self._reported = 0.0
        self._share = 0.0

    def begin(self, stage: str) -> None:
        """Note that a stage of the model has begun."""
        self._stage, self._began, self._reported = stage, time.monotonic(), 0.0
        self.tick()

    def next_model(self, number: int) -> None:
        """Note that this model works from now on; the first one does from the start."""
        self._number = number

    def tick(self) -> None:
        """Report, unless that was done a moment ago."""
        now = time.monotonic()
        if self._progress is None or now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        costs, index = self._costs[self._number], STAGES.index(self._stage)
        elapsed, expected = now - self._began, costs[index]
        done = sum(map(sum, self._costs[: self._number])) + sum(costs[:index])
        done += min(elapsed, 0.95 * expected)
        self._share = max(self._share, done / sum(map(sum, self._costs)))
        self._progress(self._share, self._words(elapsed, expected))

    def _words(self, elapsed: float, expected: float) -> str:
        plan = self._plans[self._number]
        size = f"{plan.file_bytes / 1e6:,.0f} MB"
        words = {
            "starting": "starting a process of its own",
            "loading": f"loading {size}",
            "encoding": "encoding the photo",
            "decoding": "decoding the prompts",
        }[self._stage]
        text = f"{plan.title} ({self._number + 1} of {len(self._plans)}): {words}"
        if self._stage != "encoding" or max(elapsed, expected) < 3:
            return text
        if elapsed > BUSY_FACTOR * expected:
            return f"{text}, {elapsed:.0f} s so far; this machine is busy"
        return f"{text}, {elapsed:.0f} s of about {expected:.0f} s (an estimate)"


def _expected_seconds(plan: Plan) -> list[float]:
    """Estimate how long each stage takes; of a file that is not known by its size."""
    parameters = MODELS[plan.name].parameters if plan.name in MODELS else plan.file_bytes / 4
    encoding = ENCODE_SECONDS_PER_PARAMETER * parameters / usable_cores()
    loading = 0.5 + plan.file_bytes / LOAD_BYTES_PER_SECOND
    return [START_SECONDS, loading, encoding, DECODE_SECONDS]
