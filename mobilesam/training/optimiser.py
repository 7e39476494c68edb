"""How weights are changed and averaged: AdamW, its learning rate, the moving average."""

from __future__ import annotations

import math

import torch
from torch import nn

from mobilesam.training.config import RunConfig

LAST_RATE = 0.01  # of the learning rate is left at the end of the cosine


def build_optimizer(model: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """Return AdamW over what is to be trained, in groups by learning rate and weight decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_backbone = name.startswith("image_encoder.backbone.")
        rate = config.backbone_learning_rate if in_backbone else config.learning_rate
        plain = parameter.ndim < 2 or "embed" in name or "token" in name or "biases" in name
        decay = 0.0 if plain else config.weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        fused=True,
    )


def set_learning_rates(
    optimizer: torch.optim.Optimizer, step: int, warmup_steps: int, progress: float
) -> float:
    """Set the learning rates of a step; returns the share of the full rate.

    It rises from zero over ``warmup_steps`` and falls as a cosine over the schedule's progress.
    """
    warm = min(1.0, (step + 1) / warmup_steps)
    share = warm * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress)))
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * share
    return share


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move averaged weights towards a model's; quicker while the run is young."""
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_([*average.parameters()], [*model.parameters()], 1 - decay)
    buffers = [*average.buffers()], [*model.buffers()]  # BatchNorm's are averages already
    torch._foreach_copy_(*buffers)
