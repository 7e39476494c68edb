"""What can be said of binary masks: boxes and overlaps."""

from __future__ import annotations

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
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
