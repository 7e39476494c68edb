"""How weights are changed and averaged: AdamW and the moving average."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from mobilesam.training.config import RunConfig


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


class Average:
    """The averaged weights of a network, which follow it.

    Args:
        average: Gets the averages; the same network as ``model``.
        model: What is trained.
    """

    def __init__(self, average: nn.Module, model: nn.Module) -> None:
        networks = (average, model)  # walked through once: a step has other things to do
        self._parameters = [[*network.parameters()] for network in networks]
        buffers = [[*network.buffers()] for network in networks]
        self._statistics = [[b for b in of if b.is_floating_point()] for of in buffers]
        self._counts = [[b for b in of if not b.is_floating_point()] for of in buffers]

    @torch.no_grad()
    def restore_statistics(self, skipped: torch.Tensor) -> None:
        """Undo what a skipped step has done to BatchNorm's running averages, on their device.

        Args:
            skipped: () bool; those of a forward that was not finite would stay in the model.
        """
        had, now = self._statistics
        flat = [torch.cat([b.flatten() for b in buffers]) for buffers in (had, now)]
        kept = torch.where(skipped, flat[0], flat[1])
        parts = kept.split([b.numel() for b in now])
        torch._foreach_copy_(now, [part.view_as(b) for part, b in zip(parts, now, strict=True)])

    @torch.no_grad()
    def update(self, step: int, decay: float) -> None:
        """Move the averages towards the weights; quicker while the run is young."""
        decay = min(decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(*self._parameters, 1 - decay)
        for pair in (self._statistics, self._counts):  # of one type each: else copied one by one
            if pair[0]:
                torch._foreach_copy_(*pair)  # BatchNorm's are averages already
