"""What ``val`` is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """What to measure; enough for a process that knows nothing else.

    Attributes:
        data: Folder of the photos and masks.
        split: Which of them.
        model: A model's name or checkpoint path.
        against: Another one to measure agreement with; None for none.
        seed: Of the two-point prompts.
        prompts_per_distance: Two-point prompts for each photo and distance.
        device: Where to compute.
        limit: Only the first so many photos; None for all.
        jobs: Processes.
    """

    data: str
    split: str = "val"
    model: str = "embedded"
    against: str | None = None
    seed: int = 0
    prompts_per_distance: int = 1
    device: str = "cpu"
    limit: int | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        for name in ("prompts_per_distance", "limit", "jobs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}.")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative; got {self.seed}.")
