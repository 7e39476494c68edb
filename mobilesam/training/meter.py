"""Means of what steps log, without waiting for a GPU at every step."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mobilesam.training import processes


class Meter:
    """Sums up what steps log, where they compute it; only reading waits for a GPU.

    Args:
        device: Where the processes exchange their means.
        world: How many processes there are.
    """

    def __init__(self, device: torch.device, world: int) -> None:
        self._device, self._world = device, world
        self._sums: dict[str, torch.Tensor | float] = {}
        self.steps = 0

    def add(self, values: Mapping[str, torch.Tensor | float]) -> None:
        """Add a step's values; every step has the same."""
        self.steps += 1
        for key, value in values.items():
            self._sums[key] = self._sums.get(key, 0.0) + value

    def read(self) -> dict[str, float]:
        """Return the means over all steps and processes, and begin anew."""
        sums = [torch.as_tensor(value, dtype=torch.float32) for value in self._sums.values()]
        means = torch.stack([value.to(self._device) for value in sums]) / self.steps
        if self._world > 1:
            means = processes.mean_of_all(means)
        values = dict(zip(self._sums, means.tolist(), strict=True))
        self._sums, self.steps = {}, 0
        return values
