"""Masks as polygons along the edges of their pixels, and such polygons with fewer corners.

The pixel in row r and column c is the square from (c, r) to (c + 1, r + 1); its centre is
(c + 0.5, r + 0.5). So the outline of a mask's pixels has whole numbers for corners, and filling it
gives the mask back exactly wherever a pixel counts as inside when its centre is, as pycocotools has
it. Pixels that touch only at a corner belong to different parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilesam.rendering import mask_window

Ring = np.ndarray  # (N, 2) float64 x, y; closed: the last corner is joined to the first
GRID = 5  # simplified corners lie on fifths of a pixel, as pycocotools rounds them
TOLERANCE = 1.0  # px
MIN_IOU = 0.995  # of a simplified part with its pixels
MOST_NEAREST = 250  # rings of which the nearest are sought
MIN_AREA = 400  # px: smaller parts keep every corner, where one pixel more would be felt


@dataclass(frozen=True, eq=False)
class Part:
    """One piece of a mask: pixels that are connected through their sides.

    Attributes:
        outer: The ring around it.
        holes: The rings around what it leaves out.
    """

    outer: Ring
    holes: tuple[Ring, ...] = ()

    @property
    def rings(self) -> list[Ring]:
        """The outer ring, then the holes."""
        return [self.outer, *self.holes]


def mask_to_parts(mask: np.ndarray, tolerance: float = TOLERANCE) -> list[Part]:
    """Outline a mask.

    Args:
        mask: (H, W) bool.
        tolerance: How far, in pixels, a left out corner may lie from the outline. 0 keeps all
            corners. A part is simplified only as far as its IoU with its pixels stays at
            ``MIN_IOU``, and not at all below ``MIN_AREA`` pixels.

    Returns:
        The parts, from top to bottom; none for an empty mask.

    Raises:
        ValueError: The mask is no (H, W) array of bool, or the tolerance is negative.
    """
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"tolerance must be 0 or more pixels; got {tolerance}.")
    window = mask_window(mask)
    if window is None:
        return []
    inside = mask[window]
    corner = np.array([window[1].start, window[0].start], np.float64)
    parts = []
    for part in _exact_parts(inside):
        chosen = simplify(part, tolerance) if tolerance else part
        parts.append(Part(chosen.outer + corner, tuple(hole + corner for hole in chosen.holes)))
    return parts


def simplify(part: Part, tolerance: float = TOLERANCE) -> Part:
    """Leave out corners of a part's pixel outline, as ``mask_to_parts`` describes it."""
    pixels = _area(part.rings)
    if pixels < MIN_AREA:
        return part
    corner = np.floor(part.outer.min(axis=0))
    width, height = (np.ceil(part.outer.max(axis=0)) - corner).astype(int)
    exact = _fill([ring - corner for ring in part.rings], (height, width))
    for reach in (tolerance, tolerance / 2, tolerance / 4):
        rings = [_fewer_corners(ring - corner, reach) for ring in part.rings]
        if abs(_area(rings) - pixels) > (1 - MIN_IOU) * pixels:
            continue
        filled = _fill(rings, (height, width))
        if np.count_nonzero(filled & exact) >= MIN_IOU * np.count_nonzero(filled | exact):
            return Part(rings[0] + corner, tuple(ring + corner for ring in rings[1:]))
    return part


def join(rings: Sequence[Ring]) -> Ring:
    """Join rings into one, by bridges of no width between the corners that are nearest.

    Of more than ``MOST_NEAREST`` each is joined to the one before it. Each bridge is gone along
    forth and back. So filling the outcome gives what filling all rings together by the even-odd
    rule does: holes stay holes, parts stay parts.

    Raises:
        ValueError: There is no ring.
    """
    if not rings:
        raise ValueError("join needs at least one ring; got none.")
    if len(rings) == 1:
        return rings[0]
    from scipy.spatial import cKDTree

    corners = np.concatenate(rings)
    starts = np.cumsum([0, *map(len, rings)])
    ring_of = np.repeat(np.arange(len(rings)), np.diff(starts))
    after = np.arange(1, len(corners) + 1)
    after[starts[1:] - 1] = starts[:-1]
    following, place = after.tolist(), list(range(len(corners)))  # of every corner of the path
    nearest = np.zeros(len(corners), np.int64)  # the joined corner that is nearest, and how far
    distance = np.full(len(corners), np.inf)
    newest = 0
    for number in range(1, len(rings)):
        own = slice(starts[newest], starts[newest + 1])
        tree = cKDTree(corners[own])
        if len(rings) > MOST_NEAREST:  # one after the other: to look at all takes their square
            newest = number
            apart, found = tree.query(corners[starts[number] : starts[number + 1]])
            closest = int(apart.argmin())
            there, here = int(starts[number]) + closest, int(found[closest]) + own.start
        else:
            distance[own], ring_of[own] = np.inf, -1
            waiting = np.flatnonzero(ring_of >= 0)
            apart, found = tree.query(corners[waiting])
            closer = apart < distance[waiting]
            distance[waiting[closer]] = apart[closer]
            nearest[waiting[closer]] = found[closer] + own.start
            there = int(distance.argmin())
            here, newest = int(nearest[there]), int(ring_of[there])
        before = there - 1 if there > starts[newest] else int(starts[newest + 1]) - 1
        back_there, back_here = len(place), len(place) + 1
        place += [there, here]
        following += [back_here, following[here]]
        following[here], following[before] = there, back_there
    path, step = [0], following[0]
    while step:
        path.append(step)
        step = following[step]
    return corners[[place[step] for step in path]]


def _exact_parts(mask: np.ndarray) -> list[Part]:
    from scipy import ndimage

    labels = np.pad(ndimage.label(mask)[0], 1)
    outers: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    for ring in _pixel_rings(mask):
        x, y = ring[0].astype(int)  # its topmost corner, of those the leftmost
        if label := labels[y + 1, x + 1]:
            outers[label] = ring
        else:
            holes.setdefault(labels[y, x + 1], []).append(ring[::-1])
    return [Part(outer, tuple(holes.get(label, ()))) for label, outer in outers.items()]


def _pixel_rings(mask: np.ndarray) -> list[Ring]:
    """Follow the edges between the mask's pixels and the others.

    A corner is where an odd number of the four pixels around it is inside; where two that touch
    only there are inside, there are two corners. Along every row, and along every column, corners
    then are the ends of edges, by pairs.
    """
    around = np.pad(mask, 1)
    top_left, top_right = around[:-1, :-1], around[:-1, 1:]
    bottom_left, bottom_right = around[1:, :-1], around[1:, 1:]
    odd = top_left ^ top_right ^ bottom_left ^ bottom_right
    crossing = (top_left == bottom_right) & (top_right == bottom_left) & (top_left != top_right)
    rows, columns = np.nonzero(odd | crossing)
    twice = crossing[rows, columns]
    index = np.repeat(np.arange(len(rows)), 1 + twice)
    y, x = rows[index], columns[index]
    is_second = np.diff(index, prepend=-1) == 0
    # Of two corners in one place the first ends the edge on the left, the second the one on the
    # right. The edge upwards belongs to the left one if the pixel at the top left is inside.
    is_lower = is_second ^ (twice[index] & ~top_left[y, x])
    by_column = np.lexsort((is_lower, y, x)).reshape(-1, 2)
    vertical = np.empty(len(index), np.int64)
    vertical[by_column] = by_column[:, ::-1]
    across = vertical.tolist()
    seen = bytearray(len(across))
    corners = np.stack([x, y], axis=1).astype(np.float64)
    rings = []
    for start in range(len(across)):
        if seen[start]:
            continue
        path, step = [], start
        while not seen[step]:
            path += [step, step ^ 1]
            seen[step] = seen[step ^ 1] = 1
            step = across[step ^ 1]
        rings.append(corners[path])
    return rings


def _fewer_corners(ring: Ring, tolerance: float) -> Ring:
    """Simplify a pixel outline by Douglas and Peucker's method; itself if that saves nothing.

    It starts from the middles of the pixels' edges: a staircase of pixels has them on the slope
    that it stands for, its corners to either side.
    """
    steps = np.roll(ring, -1, axis=0) - ring
    counts = np.abs(steps).sum(axis=1).astype(int)
    edge = np.repeat(np.arange(len(ring)), counts)
    nth = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    middles = ring[edge] + steps[edge] * ((nth + 0.5) / counts[edge])[:, None]
    far = int(((middles - middles[0]) ** 2).sum(axis=1).argmax())
    closed = np.concatenate([middles, middles[:1]])
    kept = np.zeros(len(closed), bool)
    kept[[0, far]] = True
    spans = [(0, far), (far, len(middles))]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        chord = closed[last] - closed[first]
        between = closed[first + 1 : last] - closed[first]
        length = np.hypot(*chord)
        if length:
            along = np.clip(between @ chord / length**2, 0, 1)
            between = between - along[:, None] * chord
        off = (between**2).sum(axis=1)
        if off.max() > tolerance**2:
            middle = first + 1 + int(off.argmax())
            kept[middle] = True
            spans += [(first, middle), (middle, last)]
    chosen = np.round(closed[:-1][kept[:-1]] * GRID) / GRID
    return chosen if 3 <= len(chosen) < len(ring) else ring


def _fill(rings: Sequence[Ring], size: tuple[int, int]) -> np.ndarray:
    """Return (height, width) bool, the pixels whose centres lie inside by the even-odd rule."""
    height, width = size
    start = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    first, last = (np.ceil(np.sort([start[:, 1], end[:, 1]], axis=0) - 0.5)).astype(int)
    counts = last - first  # rows whose centre an edge crosses: first up to, but without, last
    edge = np.repeat(np.arange(len(start)), counts)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    (x0, y0), (x1, y1) = start[edge].T, end[edge].T
    crossing = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
    toggles = np.bincount(row * (width + 1) + column, minlength=height * (width + 1))
    parity = np.cumsum(toggles.reshape(height, width + 1)[:, :width], axis=1) % 2
    return parity == 1


def _area(rings: Sequence[Ring]) -> float:
    """Return the area within the first ring and outside the others, pixels."""
    areas = []
    for ring in rings:
        (x, y), (x1, y1) = ring.T, np.roll(ring, -1, axis=0).T
        areas.append(abs(float((x * y1 - x1 * y).sum())) / 2)
    return areas[0] - sum(areas[1:])
