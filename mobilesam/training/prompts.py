"""Prompts for training: clicks and boxes of masks, corrections of mistakes (SAM, appendix A)."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from mobilesam.modeling.prompt_encoder import BOX_CORNER_LABELS, PADDING_LABEL
from mobilesam.transforms import LOW_RES_STRIDE

BOX_NOISE_STD = 0.1  # of the box's side
BOX_NOISE_MAX = 20.0  # px of the input frame


def box_prompts(boxes: torch.Tensor, exact_share: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Make (B, 2, 2) corners and (B, 2) labels of (B, 4) boxes, some exact and some jittered."""
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    noise = torch.randn_like(boxes) * sides * BOX_NOISE_STD
    noise = noise.clamp(-BOX_NOISE_MAX, BOX_NOISE_MAX)
    jittered = boxes + noise * (torch.rand(len(boxes), 1, device=boxes.device) >= exact_share)
    top_left = torch.minimum(jittered[:, :2], jittered[:, 2:] - 1)
    corners = torch.stack([top_left, jittered[:, 2:]], dim=1)
    labels = torch.tensor(BOX_CORNER_LABELS, device=boxes.device).expand(len(boxes), 2)
    return corners, labels


def point_prompts(
    targets: torch.Tensor, interior_share: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make one foreground click for each (B, h, w) target.

    People click in the middle of things: a share of the clicks is the most interior one of
    several, the others fall anywhere in the mask.

    Returns:
        (B, 2, 2) coordinates and (B, 2) labels; the second row of each is padding, as SAM has it
        where there is no box.
    """
    inside = (targets >= targets.amax((1, 2), keepdim=True).clamp(max=0.5)).float()
    depth = F.avg_pool2d(inside[:, None], 9, stride=1, padding=4)[:, 0].flatten(1)
    drawn = torch.multinomial(inside.flatten(1), 8, replacement=True)  # (B, 8)
    deepest = depth.gather(1, drawn).argmax(1)
    first = torch.zeros_like(deepest)
    pick = torch.where(
        torch.rand(len(targets), device=targets.device) < interior_share, deepest, first
    )
    cells = drawn.gather(1, pick[:, None])[:, 0]
    coords = _to_coords(cells, targets.shape[-1])
    labels = torch.tensor([1, PADDING_LABEL], device=targets.device).expand(len(targets), 2)
    return torch.stack([coords, torch.zeros_like(coords)], dim=1), labels


def correction_clicks(
    logits: torch.Tensor, targets: torch.Tensor, valid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make the next click of each prompt where the (B, h, w) prediction is wrong.

    Foreground where mask is missing, background where there is too much (SAM, appendix A). A
    prediction without a mistake gets another click into the mask.

    Returns:
        (B, 1, 2) coordinates and (B, 1) labels.
    """
    truth = targets >= targets.amax((1, 2), keepdim=True).clamp(max=0.5)
    wrong = (truth != (logits > 0)) & (valid > 0)
    region = torch.where(wrong.flatten(1).any(1)[:, None, None], wrong, truth).float()
    depth = F.avg_pool2d(region[:, None], 5, stride=1, padding=2)[:, 0]
    cells = torch.multinomial((region * depth.square()).flatten(1) + 1e-12, 1)[:, 0]
    labels = truth.flatten(1).gather(1, cells[:, None]).long()
    return _to_coords(cells, targets.shape[-1])[:, None], labels


def _to_coords(cells: torch.Tensor, columns: int) -> torch.Tensor:
    """Turn flat cell numbers into x, y of the input frame, anywhere within the cell."""
    xy = torch.stack([cells % columns, cells // columns], dim=-1).float()
    return (xy + torch.rand_like(xy)) * LOW_RES_STRIDE - 0.5
