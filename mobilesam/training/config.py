"""What a training run is told."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from mobilesam.training.data import DataConfig

# What a resumed run may set anew: where, how long and how often, but not what it learns.
MAY_CHANGE = (
    "out",
    "data",
    "steps",
    "minutes",
    "workers",
    "log_steps",
    "checkpoint_minutes",
    "device",
)


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    The schedule ends when ``steps`` or ``minutes`` are used up, whichever is sooner; the learning
    rate follows a cosine over that progress, so a run on a busy machine still ends well.

    Attributes:
        out: Folder for state, weights and log.
        encoder: The image encoder's name.
        backbone: Classifier weights (safetensors, timm's names) to start the plain ViT from.
        init: Safetensors of an earlier run to start from.
        draws_prompts: Whether the model takes prompts as a drawn mask, too.
        steps: Optimiser steps at most.
        minutes: Training time at most, added up over resumed runs.
        learning_rate: Of decoder, prompt encoder and neck.
        backbone_learning_rate: Of the image encoder's backbone.
        weight_decay: AdamW's.
        warmup_steps: Steps over which the learning rate rises from zero.
        box_share: Share of prompts that are boxes.
        max_corrections: Correction clicks after the first prompt, at most.
        one_round_share: Share of the run, from its start, without correction clicks.
        ema_decay: Of the averaged weights that are saved.
        checkpoint_minutes: How often the state is saved.
        log_steps: How often losses are logged.
        workers: Processes that read data; 0 reads in the training process.
        seed: Of everything random.
        device: ``cpu`` or ``cuda``.
        licence: Written into the weights' metadata.
    """

    out: str = "runs/first"
    encoder: str = "deit_tiny"
    backbone: str | None = None
    init: str | None = None
    draws_prompts: bool = True
    steps: int = 20_000
    minutes: float = 120.0
    learning_rate: float = 5e-4
    backbone_learning_rate: float = 1.5e-4
    weight_decay: float = 0.05
    warmup_steps: int = 200
    box_share: float = 0.5
    max_corrections: int = 3
    one_round_share: float = 0.2
    ema_decay: float = 0.998
    checkpoint_minutes: float = 5.0
    log_steps: int = 50
    workers: int = 1
    seed: int = 0
    device: str = "cpu"
    licence: str = "research and demonstration"
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "minutes", "warmup_steps", "log_steps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}.")
        for name in ("box_share", "one_round_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0 to 1; got {getattr(self, name)}.")

    def fixed(self) -> dict[str, str]:
        """Return, as text, the settings that a resumed run may not change."""
        settings = dataclasses.asdict(self)
        settings |= settings.pop("data")
        return {key: str(value) for key, value in settings.items() if key not in MAY_CHANGE}
