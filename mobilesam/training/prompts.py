"""Prompts for training: clicks and boxes of masks, corrections of mistakes (SAM, appendix A).

Everything random comes from numbers in 0..1 that are handed in, one row for each mask, so that a
photo is prompted alike whichever process has it, on whatever device, and in a resumed run, too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from mobilesam.modeling.prompt_encoder import (
    BOX_CORNER_LABELS,
    FOREGROUND_LABEL,
    PADDING_LABEL,
)
from mobilesam.transforms import LOW_RES_STRIDE

BOX_NOISE_STD = 0.1  # of the box's side
BOX_NOISE_MAX = 20.0  # px of the input frame
CANDIDATES = 8  # places in a mask, of which a click may take the most interior
BOX_NUMBERS = 5  # random numbers for a box: its four sides, and whether it is exact
POINT_NUMBERS = CANDIDATES + 3  # for a click: places, which of them, where in the cell
CORRECTION_NUMBERS = POINT_NUMBERS  # for a correction: the same
INTERIOR_SHARE = 0.5  # of clicks take the most interior one of the candidates
DEPTH_SIDE = 9  # cells a side of the square round a cell whose share inside tells how deep it is
COARSE = 4  # cells a side of one cell of the grid for larger squares
COARSE_SIDES = (9, 17)  # of its cells: in large regions many of the small squares are all inside
MARGIN = 1e-6  # random numbers stay so far from 0 and 1
_PROMPT_STREAM = 1  # the data of a slot are drawn without this fourth word


def prompt_numbers(
    seed: int, step: int, first_slot: int, photos: int, masks_per_photo: int, count: int
) -> torch.Tensor:
    """Draw the random numbers of a step's prompts.

    Args:
        seed: The run's.
        step: The step's number.
        first_slot: The place of this process's first photo in the step's whole batch.
        photos: Photos of this process.
        masks_per_photo: Prompts for each.
        count: Numbers for each prompt.

    Returns:
        (photos * masks_per_photo, count) float32, between 0 and 1.
    """
    drawn = [
        np.random.default_rng([seed, step, first_slot + photo, _PROMPT_STREAM]).random(
            (masks_per_photo, count), np.float32
        )
        for photo in range(photos)
    ]
    return torch.from_numpy(np.concatenate(drawn)).clamp_(MARGIN, 1 - MARGIN)


def box_prompts(
    boxes: torch.Tensor, numbers: torch.Tensor, exact_share: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make corners and labels of boxes, some exact and some jittered.

    Args:
        boxes: (B, 4) x0, y0, x1, y1 in the input frame.
        numbers: (B, BOX_NUMBERS) random numbers.
        exact_share: Share of the boxes that stay as they are.

    Returns:
        (B, 2, 2) corners and (B, 2) labels.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    noise = torch.special.ndtri(numbers[:, :4]) * sides * BOX_NOISE_STD
    noise = noise.clamp(-BOX_NOISE_MAX, BOX_NOISE_MAX)
    jittered = boxes + noise * (numbers[:, 4:] >= exact_share)
    top_left = torch.minimum(jittered[:, :2], jittered[:, 2:] - 1)
    corners = torch.stack([top_left, jittered[:, 2:]], dim=1)
    return corners, _labels(boxes, *BOX_CORNER_LABELS)


def point_prompts(
    targets: torch.Tensor, numbers: torch.Tensor, interior_share: float = INTERIOR_SHARE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make one foreground click for each target.

    People click in the middle of things: a share of the clicks is the most interior one of
    several, the others fall anywhere in the mask.

    Args:
        targets: (B, h, w) in 0..1.
        numbers: (B, POINT_NUMBERS) random numbers.
        interior_share: Share of interior clicks.

    Returns:
        (B, 2, 2) coordinates and (B, 2) labels; the second row of each is padding, as SAM has it
        where there is no box.
    """
    inside = (targets >= targets.amax((1, 2), keepdim=True).clamp(max=0.5)).float()
    cells = _draw_clicks(inside.flatten(1), _depth(inside), numbers, interior_share)
    coords = _to_coords(cells, targets.shape[-1], numbers[:, CANDIDATES + 1 :])
    labels = _labels(targets, FOREGROUND_LABEL, PADDING_LABEL)
    return torch.stack([coords, torch.zeros_like(coords)], dim=1), labels


def correction_clicks(
    logits: torch.Tensor,
    targets: torch.Tensor,
    valid: torch.Tensor,
    numbers: torch.Tensor,
    interior_share: float = INTERIOR_SHARE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make the next click of each prompt where the prediction is wrong.

    Foreground where mask is missing, background where there is too much (SAM, appendix A). A
    prediction without a mistake gets another click into the mask. The deeper a place lies in the
    mistake the more likely it is, and as with first clicks a share of them is the most interior
    one of several: people, and the measurements, correct a mistake in its middle.

    Args:
        logits: (B, h, w) of the prediction.
        targets: (B, h, w) in 0..1.
        valid: (B, h, w), 0 where a cell shall not count.
        numbers: (B, CORRECTION_NUMBERS) random numbers.
        interior_share: Share of interior clicks.

    Returns:
        (B, 1, 2) coordinates and (B, 1) labels.
    """
    truth = targets >= targets.amax((1, 2), keepdim=True).clamp(max=0.5)
    wrong = (truth != (logits > 0)) & (valid > 0)
    region = torch.where(wrong.flatten(1).any(1)[:, None, None], wrong, truth).float()
    depth = _depth(region)
    cells = _draw_clicks(region.flatten(1) * depth.square(), depth, numbers, interior_share)
    labels = truth.flatten(1).gather(1, cells[:, None]).long()
    coords = _to_coords(cells, targets.shape[-1], numbers[:, CANDIDATES + 1 :])
    return coords[:, None], labels


def _depth(region: torch.Tensor) -> torch.Tensor:
    """Return how much of each cell's surroundings a region covers: (B, h, w) to (B, h * w).

    The mean over squares of three sizes.
    """
    fine = region[:, None]
    coarse = F.avg_pool2d(fine, COARSE, ceil_mode=True)
    wide = torch.stack([_share_inside(coarse, side) for side in COARSE_SIDES]).sum(0)
    wide = F.interpolate(wide, scale_factor=COARSE)[..., : region.shape[1], : region.shape[2]]
    squares = 1 + len(COARSE_SIDES)
    return ((_share_inside(fine, DEPTH_SIDE) + wide) / squares).flatten(1)


def _share_inside(region: torch.Tensor, side: int) -> torch.Tensor:
    return F.avg_pool2d(region, side, stride=1, padding=side // 2)


def _draw_clicks(
    weights: torch.Tensor, depth: torch.Tensor, numbers: torch.Tensor, interior_share: float
) -> torch.Tensor:
    """Draw one of (B, cells) by its weight, or for a share of them the deepest of several."""
    drawn = _draw_cells(weights, numbers[:, :CANDIDATES])
    deepest = depth.gather(1, drawn).argmax(1)
    pick = torch.where(numbers[:, CANDIDATES] < interior_share, deepest, 0)
    return drawn.gather(1, pick[:, None])[:, 0]


def _draw_cells(weights: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Draw cells with odds (B, cells), none of them negative; (B, n) numbers give (B, n) cells."""
    cumulative = weights.cumsum(1)
    sought = numbers * cumulative[:, -1:]
    return torch.searchsorted(cumulative, sought, right=True).clamp(max=weights.shape[1] - 1)


def _labels(like: torch.Tensor, *labels: int) -> torch.Tensor:
    """Return a row of labels for each of ``like``'s, (B, len(labels)), made on its device."""
    columns = [like.new_full((len(like),), label, dtype=torch.long) for label in labels]
    return torch.stack(columns, dim=1)


def _to_coords(cells: torch.Tensor, columns: int, numbers: torch.Tensor) -> torch.Tensor:
    """Turn flat cell numbers into x, y of the input frame, anywhere within the cell."""
    xy = torch.stack([cells % columns, cells // columns], dim=-1).float()
    return (xy + numbers) * LOW_RES_STRIDE - 0.5
