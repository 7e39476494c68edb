"""How far a run is, by steps or by the clock, and the learning rate there."""

from __future__ import annotations

import math

import torch

LAST_RATE = 0.01  # of the learning rate is left at the end of the cosine
LONGEST_WARMUP = 0.1  # of the schedule
FEWEST_TIMED = 8  # steps, before it is judged by the quickest how many there will be


class Schedule:
    """Ends after so many steps or so many minutes, whichever comes first.

    Args:
        steps: The most of them; None where only the clock counts.
        minutes: The most of them; None where only the steps count.

    Attributes:
        quickest: How many seconds the quickest step took; infinite where none is known.
    """

    def __init__(self, steps: int | None, minutes: float | None) -> None:
        self._steps = steps or math.inf
        self._seconds = 60 * minutes if minutes else math.inf
        self.quickest = math.inf

    def note(self, seconds: float) -> None:
        """Note how long a step took."""
        self.quickest = min(self.quickest, seconds)

    def progress(self, step: int, seconds: float) -> float:
        """Return how much of it is used up after so many steps and seconds, 0 to 1."""
        return min(1.0, max(step / self._steps, seconds / self._seconds))

    def expected_steps(self, step: int, seconds: float) -> float:
        """Estimate how many steps there will be in all; infinite where nothing tells yet.

        By the quickest step so far: the first ones of a process wait for kernels, which a GPU
        compiles for every new shape of photos.
        """
        if step < FEWEST_TIMED or math.isinf(self.quickest):
            return self._steps
        by_clock = step + max(0.0, self._seconds - seconds) / self.quickest
        return min(self._steps, by_clock)


def set_learning_rates(
    optimizer: torch.optim.Optimizer,
    step: int,
    warmup_steps: int,
    expected_steps: float,
    progress: float,
) -> float:
    """Set the learning rates of a step; returns the share of the full rate.

    It rises from zero over ``warmup_steps``, or over a tenth of all the steps there will be if
    those are fewer, and falls as a cosine over the schedule's progress.
    """
    rising = max(1.0, min(warmup_steps, LONGEST_WARMUP * expected_steps))
    warm = min(1.0, (step + 1) / rising)
    share = warm * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress)))
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * share
    return share
