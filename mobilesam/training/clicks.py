"""Where a person would click: in a region's middle, and in the middle of the largest mistake."""

from __future__ import annotations

import numpy as np

from mobilesam.masks import mask_to_box

PIXELS_AT_A_TIME = 512  # whose distances are worked out at once: bounds the memory that takes

Point = tuple[float, float]


def innermost(region: np.ndarray) -> Point:
    """Return the x, y of a region's pixel that lies farthest from its edge.

    Args:
        region: (H, W) bool, not empty. Beyond the array everything counts as outside.
    """
    point, _ = innermost_and_depth(region)
    return point


def next_click(mask: np.ndarray, truth: np.ndarray, valid: np.ndarray | None) -> tuple[Point, int]:
    """Return the point in the middle of the largest error, and its label.

    That is the erroneous pixel farthest from the error's edge, as SAM's evaluation has it
    (SAM, section 7.1). A mask without an error gets its innermost pixel again.

    Args:
        mask: (H, W) bool, what the model says.
        truth: (H, W) bool, not empty.
        valid: (H, W) bool, the pixels that count; None if all do.
    """
    deepest, best = 0, None
    for region, label in ((truth & ~mask, 1), (mask & ~truth, 0)):
        if valid is not None:
            region = region & valid
        if region.any():
            point, depth = innermost_and_depth(region)
            if depth > deepest:
                deepest, best = depth, (point, label)
    return best or (innermost(truth), 1)


def innermost_and_depth(region: np.ndarray) -> tuple[Point, int]:
    """Return a region's innermost pixel and its squared distance to the nearest pixel outside.

    Exact, and the first such pixel in reading order. The way straight out, up, down, left or right,
    is never shorter than the shortest way out; so pixels are looked at from the longest straight
    way down, and those that cannot beat the best one found are left alone.

    Args:
        region: (H, W) bool, not empty. Beyond the array everything counts as outside.

    Returns:
        x, y of the pixel; the squared distance, pixels squared.
    """
    x0, y0, x1, y1 = (int(v) for v in mask_to_box(region))
    window = region[y0:y1, x0:x1]
    width = window.shape[1]
    vertical = _steps_out(window)  # (h, w)
    straight = np.minimum(vertical, _steps_out(window.T).T)
    beyond = np.pad(vertical**2, ((0, 0), (1, 1)))  # (h, w + 2): outside on both sides
    depth, at = 0, 0
    for steps in range(int(straight.max()), 0, -1):
        if steps**2 < depth:
            break
        pixels = np.flatnonzero(straight == steps)
        if steps**2 == depth:
            pixels = pixels[pixels < at]  # no deeper, but sooner in reading order
        for start in range(0, len(pixels), PIXELS_AT_A_TIME):
            some = pixels[start : start + PIXELS_AT_A_TIME]
            rows, columns = np.divmod(some, width)
            sideways = (columns[:, None] - np.arange(-1, width + 1)) ** 2
            squared = (beyond[rows] + sideways).min(axis=1)
            deepest = int(squared.max())
            first = int(some[squared == deepest][0])
            if deepest > depth or (deepest == depth and first < at):
                depth, at = deepest, first
    row, column = divmod(at, width)
    return (float(x0 + column), float(y0 + row)), depth


def _steps_out(region: np.ndarray) -> np.ndarray:
    """Return for each pixel of (h, w) how many steps up or down lead out of the region."""
    height = len(region)
    rows = np.arange(height)[:, None]
    above = np.maximum.accumulate(np.where(region, -1, rows), axis=0)
    below = np.minimum.accumulate(np.where(region, height, rows)[::-1], axis=0)[::-1]
    return np.minimum(rows - above, below - rows)
