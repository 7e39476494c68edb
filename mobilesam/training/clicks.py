"""Where a person would click: in a region's middle, and in the middle of the largest mistake."""

from __future__ import annotations

import numpy as np

from mobilesam.masks import mask_to_box

PIXELS_AT_A_TIME = 512  # whose distances are worked out at once: bounds the memory that takes
SQUARES_PER_DEPTH = 3  # the first squares' sides are the longest way straight out, over 4 to 8
ROUNDING = 1e-6  # px, of distances: nothing is dropped for less

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

    Exact, and the first such pixel in reading order. Distances are worked out in the middles of
    squares, at first large ones. Between two pixels the distance cannot change by more than they
    lie apart; so squares that cannot hold a deeper pixel than the deepest middle are dropped, and
    the others quartered, down to single pixels. In a wide region few are ever looked at, in a
    narrow one each costs little: the work grows with the number of pixels.

    Args:
        region: (H, W) bool, not empty. Beyond the array everything counts as outside.

    Returns:
        x, y of the pixel; the squared distance, pixels squared.
    """
    x0, y0, x1, y1 = (int(v) for v in mask_to_box(region))
    window = region[y0:y1, x0:x1]
    height, width = window.shape
    vertical = _steps_out(window)  # (h, w)
    straight = np.minimum(vertical, _steps_out(window.T).T)
    side = 1 << max(0, int(straight.max()).bit_length() - SQUARES_PER_DEPTH)
    tops, lefts = (
        corner.ravel() for corner in np.mgrid[0:height:side, 0:width:side]
    )  # of the squares
    best = 0
    while True:
        middle = side // 2
        rows = np.minimum(tops + middle, height - 1)
        columns = np.minimum(lefts + middle, width - 1)
        if side == 1:  # no pixel is deeper than the way straight out is long
            hopeful = straight[rows, columns] ** 2 >= best
            rows, columns = rows[hopeful], columns[hopeful]
        squared = _squared_depths(rows, columns, vertical, straight)
        best = max(best, int(squared.max()))
        if side == 1:
            break
        reach = middle * 2**0.5  # from a middle to its square's farthest pixel
        kept = np.sqrt(squared) + reach >= best**0.5 - ROUNDING
        side //= 2
        tops = np.concatenate([top + tops[kept] for top in (0, 0, side, side)])
        lefts = np.concatenate([left + lefts[kept] for left in (0, side, 0, side)])
        inside = (tops < height) & (lefts < width)
        tops, lefts = tops[inside], lefts[inside]
    deepest = squared == best
    row, column = divmod(int((rows[deepest] * width + columns[deepest]).min()), width)
    return (float(x0 + column), float(y0 + row)), best


def _squared_depths(
    rows: np.ndarray, columns: np.ndarray, vertical: np.ndarray, straight: np.ndarray
) -> np.ndarray:
    """Return the squared distances (K,) of K pixels to the nearest pixel outside.

    The nearest one in each column is known, and none is farther than the shortest way straight
    out: only the columns up to there are looked at.

    Args:
        rows: (K,)
        columns: (K,)
        vertical: (h, w) steps up or down that lead out.
        straight: (h, w) steps up, down, left or right.
    """
    width = vertical.shape[1]
    squared = np.zeros(len(rows), np.int64)
    steps = straight[rows, columns]
    order = np.argsort(steps)
    start = int(np.searchsorted(steps[order], 1))  # those before are outside
    while start < len(order):
        some = order[start : start + PIXELS_AT_A_TIME]
        row, column, most = rows[some, None], columns[some, None], int(steps[some[-1]])
        across = column + np.arange(-most, most + 1)
        up = vertical[row, np.clip(across, 0, width - 1)]
        up[(across < 0) | (across >= width)] = 0  # beside the window all is outside
        squared[some] = (up.astype(np.int64) ** 2 + (across - column) ** 2).min(axis=1)
        start += len(some)
    return squared


def _steps_out(region: np.ndarray) -> np.ndarray:
    """Return for each pixel of (h, w) how many steps up or down lead out of the region."""
    height = len(region)
    rows = np.arange(height, dtype=np.int32)[:, None]
    above = np.maximum.accumulate(np.where(region, np.int32(-1), rows), axis=0)
    below = np.minimum.accumulate(np.where(region, np.int32(height), rows)[::-1], axis=0)[::-1]
    return np.minimum(rows - above, below - rows)
