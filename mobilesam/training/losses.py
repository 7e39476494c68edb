"""Losses of promptable segmentation (SAM, section 3 and appendix A)."""

from __future__ import annotations

import torch
from torch.nn import functional as F

FOCAL_WEIGHT = 20.0
DICE_WEIGHT = 1.0
FOCAL_ALPHA = 0.5  # both sides weigh alike; gamma is 2
FOCAL_EXTENT = 4.0  # the focal loss is a mean over so many times the mask's own area,
FOCAL_MIN_SHARE = 1 / 32  # over at least so much of the picture, and at most all of it
SMALL_SHARE = 0.02  # of the picture; for the log


def mask_losses(logits: torch.Tensor, targets: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Return 20 x focal + dice of each mask.

    SAM takes the focal loss's mean over the whole picture. There a small mask weighs next to
    nothing and a short training settles on leaving it empty; so the mean is taken over four times
    the mask's own area, but no less than a 32nd of the picture: with far less, the cells outside
    weigh so much that everything is left empty from the start.

    Args:
        logits: (B, M, h, w).
        targets: (B, h, w) in 0..1, the share of each cell that is mask.
        valid: (B, h, w), 0 where a cell shall not count.

    Returns:
        (B, M) float32.
    """
    logits = logits.float()
    targets, valid = targets[:, None], valid[:, None]
    probability = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(
        logits, targets.expand_as(logits), reduction="none"
    )
    focal = (probability - targets).square() * cross_entropy * valid
    cells = valid.sum((2, 3)).clamp(min=1)
    extent = torch.maximum(FOCAL_EXTENT * targets.sum((2, 3)), FOCAL_MIN_SHARE * cells)
    focal = FOCAL_ALPHA * focal.sum((2, 3)) / torch.minimum(extent, cells)
    p, t = probability * valid, targets * valid
    dice = 1 - (2 * (p * t).sum((2, 3)) + 1) / (p.square().sum((2, 3)) + t.square().sum((2, 3)) + 1)
    return FOCAL_WEIGHT * focal + DICE_WEIGHT * dice


@torch.no_grad()
def true_iou(logits: torch.Tensor, targets: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Return the (B, M) IoU of (B, M, h, w) logits with (B, h, w) targets."""
    predicted = (logits > 0) & (valid[:, None] > 0)
    truth = ((targets >= 0.5) & (valid > 0))[:, None]
    both = (predicted & truth).sum((2, 3)).float()
    either = (predicted | truth).sum((2, 3)).float()
    return both / either.clamp(min=1)


def prompt_loss(
    logits: torch.Tensor,
    iou_predictions: torch.Tensor,
    targets: torch.Tensor,
    valid: torch.Tensor,
    single_click: torch.Tensor,
    *,
    iou_weight: float,
    other_masks_weight: float,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Combine the four outputs' losses into one.

    The single-mask output is always trained, at half weight for a lone click, which is ambiguous.
    Of the multimask outputs the one with the least loss is, and a little of all three, so that
    choosing the wrong one costs less. Predicted IoU is trained on all four.

    Args:
        logits: (B, 4, h, w).
        iou_predictions: (B, 4).
        targets: (B, h, w).
        valid: (B, h, w).
        single_click: (B,) bool.
        iou_weight: Of predicted IoU's squared error.
        other_masks_weight: Of the sum of the multimask outputs' losses.

    Returns:
        The scalar loss, and what to log.
    """
    losses = mask_losses(logits, targets, valid)
    single, multi = losses[:, 0], losses[:, 1:]
    best, best_index = multi.min(dim=1)
    masks = single * torch.where(single_click, 0.5, 1.0) + best + other_masks_weight * multi.sum(1)
    iou = true_iou(logits, targets, valid)
    iou_loss = F.mse_loss(iou_predictions.float(), iou)
    small = (targets.mean((1, 2)) < SMALL_SHARE).float()
    logged = {
        "mask_loss": masks.mean().detach(),
        "iou_loss": iou_loss.detach(),
        "iou_single": iou[:, 0].mean(),
        "iou_small": (iou[:, 0] * small).sum() / small.sum().clamp(min=1),
        "iou_best": iou[:, 1:].gather(1, best_index[:, None]).mean(),
        "iou_error": (iou_predictions.detach().float() - iou).abs().mean(),
    }
    return masks.mean() + iou_weight * iou_loss, logged
