"""What can be said of masks: boxes, overlaps, stability, connected parts."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np


def mask_iou(a: np.ndarray, b: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Return the intersection over union of two (H, W) bool masks.

    Args:
        a: One mask.
        b: The other.
        valid: (H, W) bool, the pixels that count; all of them if left out.

    Returns:
        0 to 1; 1 where both are empty.
    """
    both, either = a & b, a | b
    if valid is not None:
        both, either = both & valid, either & valid
    union = np.count_nonzero(either)
    return np.count_nonzero(both) / union if union else 1.0


def mask_to_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Return the tight box x0, y0, x1, y1 of an (H, W) bool mask, pixels.

    x1 and y1 lie behind the last column and row, so that x1 - x0 is the width. An empty mask has
    the box (0, 0, 0, 0).
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def stability_score(logits: np.ndarray, threshold: float, offset: float) -> float:
    """Tell how little a mask depends on where exactly its logits are cut (SAM, section B).

    Args:
        logits: Of any shape.
        threshold: Where they are cut.
        offset: By which the cut is moved up and down.

    Returns:
        The area of the smaller mask divided by that of the larger one, 0 to 1; NaN, as in SAM,
        where even the larger one is empty.
    """
    larger = np.count_nonzero(logits > np.float32(threshold - offset))
    smaller = np.count_nonzero(logits > np.float32(threshold + offset))
    return float(smaller / larger) if larger else float("nan")


def remove_small_regions(
    mask: np.ndarray, min_area: float, kind: Literal["holes", "islands"]
) -> tuple[np.ndarray, bool]:
    """Fill a mask's small holes, or remove its small islands.

    Pixels that touch at a corner belong together. A small part of the ground counts as a hole
    also at the picture's edge. If all islands are small, the largest one stays; an empty mask stays
    empty.

    Args:
        mask: (H, W) bool; not changed.
        min_area: Parts of fewer pixels are small.
        kind: Which of the two.

    Returns:
        The mask, and whether anything was small.

    Raises:
        ValueError: If ``kind`` is neither.
    """
    if kind not in ("holes", "islands"):
        raise ValueError(f"kind must be 'holes' or 'islands'; got {kind!r}.")
    from scipy import ndimage

    x0, y0, x1, y1 = (int(side) for side in mask_to_box(mask))
    if not x1:
        return mask, False
    mask = mask.astype(bool, copy=False)
    height, width = mask.shape
    if kind == "holes":  # with so much of the ground around that what goes on outside is not small
        enough = min(min_area, mask.size)
        rows, columns = math.ceil(enough / (x1 - x0)), math.ceil(enough / (y1 - y0))
        x0, x1 = max(x0 - columns, 0), min(x1 + columns, width)
        y0, y1 = max(y0 - rows, 0), min(y1 + rows, height)
    window = mask[y0:y1, x0:x1]
    parts, count = ndimage.label(~window if kind == "holes" else window, np.ones((3, 3)))
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    small = areas < min_area
    small[0] = False  # not a part: what is left when the parts are taken away
    if not small.any():
        return mask, False
    if kind == "islands" and small[1:].all():
        small[1 + areas[1:].argmax()] = False
    result = mask.copy()
    result[y0:y1, x0:x1] = np.where(small[parts], kind == "holes", window)
    return result, True
