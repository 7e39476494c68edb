"""Where everything mode looks: crops of the picture, and grids of points in them (SAM, 4 and B)."""

from __future__ import annotations

import itertools
import math

import numpy as np

Size = tuple[int, int]
Box = tuple[int, int, int, int]
STEPS = (4, 2, 1)  # of the grid, from coarse to fine


def point_grid(points_per_side: int) -> np.ndarray:
    """Return (n * n, 2) x, y from 0 to 1, row after row: the middles of n x n equal cells."""
    middles = np.linspace(0.5 / points_per_side, 1 - 0.5 / points_per_side, points_per_side)
    x, y = np.meshgrid(middles, middles)
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def layer_grids(points_per_side: int, crop_n_layers: int, downscale: int) -> list[np.ndarray]:
    """Return the grid for the whole picture and for each layer of crops, ever sparser.

    Raises:
        ValueError: If a layer's grid has no points left.
    """
    sides = [int(points_per_side / downscale**layer) for layer in range(crop_n_layers + 1)]
    if sides[-1] < 1:
        raise ValueError(
            f"A grid of {points_per_side} points per side, thinned {crop_n_layers} times by "
            f"{downscale}, has no points left; give more points_per_side or fewer crop_n_layers."
        )
    return [point_grid(side) for side in sides]


def crop_boxes(size: Size, crop_n_layers: int, overlap_ratio: float) -> list[tuple[Box, int]]:
    """Divide a picture into overlapping crops, 2 x 2 in the first layer, 4 x 4 in the next...

    Args:
        size: The picture's (height, width), pixels.
        crop_n_layers: How many layers besides the whole picture.
        overlap_ratio: Of the first layer's crops, as a share of the picture's shorter side; half
            as much in each further layer.

    Returns:
        x0, y0, x1, y1 and layer of each crop; the whole picture, layer 0, comes first. Crops
        without pixels, as tiny pictures have them, are left out.
    """
    height, width = size
    crops: list[tuple[Box, int]] = [((0, 0, width, height), 0)]
    for layer in range(1, crop_n_layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / per_side))
        crop_width, crop_height = (
            math.ceil((overlap * (per_side - 1) + side) / per_side) for side in (width, height)
        )
        for column, row in itertools.product(range(per_side), repeat=2):
            x0, y0 = column * (crop_width - overlap), row * (crop_height - overlap)
            x1, y1 = min(x0 + crop_width, width), min(y0 + crop_height, height)
            if x0 < x1 and y0 < y1:
                crops.append(((x0, y0, x1, y1), layer))
    return crops


def coarse_to_fine(grid: np.ndarray) -> list[np.ndarray]:
    """Order a grid's points from coarse to fine (TinySAM, section 3.4).

    Args:
        grid: (n, 2). Of a square grid every 4th point in both directions comes first, then every
            2nd, then the rest; of any other every 16th, every 4th and the rest.

    Returns:
        Disjoint index arrays that cover the grid; none is empty.
    """
    side = math.isqrt(len(grid))
    square = side * side == len(grid) and np.allclose(grid, point_grid(side))
    levels, taken = [], np.zeros(len(grid), bool)
    for step in STEPS:
        if square:
            on_axis = np.arange(side) % step == min(1, step - 1)  # nearest to the middle
            chosen = np.outer(on_axis, on_axis).ravel()
        else:
            chosen = np.arange(len(grid)) % step**2 == 0
        levels.append(np.flatnonzero(chosen & ~taken))
        taken |= chosen
    return [level for level in levels if len(level)]
