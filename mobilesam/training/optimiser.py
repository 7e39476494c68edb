"""How weights are changed and averaged: AdamW, its learning rate, the moving average."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from mobilesam.training.config import RunConfig

LAST_RATE = 0.01  # of the learning rate is left at the end of the cosine
LONGEST_WARMUP = 0.1  # of the schedule


def build_optimizer(model: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """Return AdamW over what is to be trained, in groups by learning rate and weight decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    decayed = decayed_names(model)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_backbone = name.startswith("image_encoder.backbone.")
        rate = config.backbone_learning_rate if in_backbone else config.learning_rate
        decay = config.weight_decay if name in decayed else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        fused=True,
    )


def decayed_names(model: nn.Module) -> set[str]:
    """Return the names of the parameters that weight decay pulls towards zero.

    Those that multiply: matrices and convolutions. What is looked up or added is left alone:
    embeddings, tokens, positions (absolute and relative), biases, norms.
    """
    return {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))
    }


def take_step(
    optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], longest: float
) -> torch.Tensor:
    """Clip the gradients and change the weights, unless a gradient is not finite.

    Nothing is read back from a GPU: fused AdamW itself heeds ``found_inf``, by which a gradient
    scaler tells it the same, and then leaves weights, averages and its count of steps as they are.

    Args:
        optimizer: From ``build_optimizer``.
        parameters: Whose gradients are clipped, all together.
        longest: Length of the gradient; a longer one is scaled down to it.

    Returns:
        () bool, whether this step was skipped; the same in all processes, whose gradients are.
    """
    norm = nn.utils.clip_grad_norm_(parameters, longest)
    skipped = norm.isfinite().logical_not()
    optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]
    optimizer.step()
    return skipped


@torch.no_grad()
def restore_statistics(model: nn.Module, before: nn.Module, skipped: torch.Tensor) -> None:
    """Undo what a skipped step has done to BatchNorm's running averages, on their device.

    Args:
        model: Whose averages a forward has changed; one that was not finite would stay in them.
        before: The same network with the averages of the step before.
        skipped: () bool.
    """
    now, had = (
        [b for b in module.buffers() if b.is_floating_point()] for module in (model, before)
    )
    flat = [torch.cat([b.flatten() for b in buffers]) for buffers in (had, now)]
    kept = torch.where(skipped, flat[0], flat[1])
    parts = kept.split([b.numel() for b in now])
    torch._foreach_copy_(now, [part.view_as(b) for part, b in zip(parts, now, strict=True)])


def set_learning_rates(
    optimizer: torch.optim.Optimizer, step: int, warmup_steps: int, progress: float
) -> float:
    """Set the learning rates of a step; returns the share of the full rate.

    It rises from zero over ``warmup_steps``, or over the first tenth of the schedule if that is
    shorter, and falls as a cosine over the schedule's progress.
    """
    warm = min(1.0, max((step + 1) / warmup_steps, progress / LONGEST_WARMUP))
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
