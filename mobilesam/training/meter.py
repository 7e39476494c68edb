"""Means of what steps log, and how many were skipped, without waiting for a GPU at every step."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mobilesam.training import processes

MOST_SKIPPED = 0.5  # of the steps since the last line of the log; more are too many
LEAST_JUDGED = 10  # steps: where lines are more frequent, several of them are judged together


class Skips:
    """Counts the steps that were skipped because their gradients were not finite.

    Attributes:
        total: All of them, up to the last line of the log.
    """

    def __init__(self) -> None:
        self.total = 0
        self._steps = self._skipped = 0  # since they were judged

    def add(self, steps: int, skipped: int) -> str:
        """Add what a line of the log tells; returns what is wrong, if too many were skipped."""
        self.total += skipped
        steps, skipped = self._steps + steps, self._skipped + skipped
        judged = steps >= LEAST_JUDGED
        self._steps, self._skipped = (0, 0) if judged else (steps, skipped)
        if judged and skipped > MOST_SKIPPED * steps:
            return f"Gradients were not finite in {skipped} of {steps} steps"
        return ""


class Meter:
    """Sums up what steps log, where they compute it; only reading waits for a GPU.

    Args:
        device: Where the steps compute, and the processes exchange their means.
        world: How many processes there are.

    Attributes:
        steps: How many were added since the last reading.
    """

    def __init__(self, device: torch.device, world: int) -> None:
        self._device, self._world = device, world
        self._begin()

    def _begin(self) -> None:
        self.steps = 0
        self._measured: dict[str, float] = {}
        self._names: tuple[str, ...] = ()
        self._sums = torch.zeros((), device=self._device)  # (len(names) + 1,): last, the skipped

    def add(
        self,
        logged: Mapping[str, torch.Tensor],
        measured: Mapping[str, float],
        skipped: torch.Tensor,
    ) -> None:
        """Add a step; every step has the same names.

        Args:
            logged: () tensors that the step has computed; those of a skipped step do not count.
            measured: Numbers that every step has, skipped or not.
            skipped: () bool tensor.
        """
        self.steps += 1
        self._names = tuple(logged)
        values = torch.stack([value.float() for value in logged.values()])
        counted = torch.where(skipped, 0.0, values)
        self._sums = self._sums + torch.cat([counted, skipped.float()[None]])
        for key, value in measured.items():
            self._measured[key] = self._measured.get(key, 0.0) + value

    def read(self) -> dict[str, float]:
        """Return the means over all processes and steps, and begin anew.

        Last comes ``skipped``, the number of steps that were skipped: all processes skip alike.
        """
        sums = torch.cat([self._sums, self._sums.new_tensor([*self._measured.values()])])
        if self._world > 1:
            sums = processes.mean_of_all(sums)
        told = sums.tolist()
        count = len(self._names)
        skipped = told[count]
        counted = max(self.steps - skipped, 1.0)
        values = {name: told[at] / counted for at, name in enumerate(self._names)}
        for at, name in enumerate(self._measured, start=count + 1):
            values[name] = told[at] / self.steps
        self._begin()
        return {**values, "skipped": skipped}
