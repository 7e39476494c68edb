"""Where clicks fall, against brute force and by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mobilesam.training.clicks import innermost, innermost_and_depth, next_click


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.6, 0.95, 1.0])
def test_the_innermost_pixel_equals_brute_force(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    region = random.random(random.integers(1, 24, 2)) < share
    region[0, 0] = True
    outside = np.argwhere(~np.pad(region, 1)) - 1
    depths = np.zeros(region.shape, int)
    for row, column in np.argwhere(region):
        depths[row, column] = ((outside - (row, column)) ** 2).sum(1).min()
    row, column = np.unravel_index(depths.argmax(), depths.shape)  # the first in reading order
    assert innermost_and_depth(region) == ((column, row), depths.max())


def depths_of(region: np.ndarray) -> np.ndarray:
    """Squared distances to the nearest pixel outside, from every pixel to every one of its row."""
    height, width = region.shape
    padded = np.pad(region, 1)
    up = np.zeros(padded.shape, int)  # the way up or down that is shorter
    for row in range(1, height + 1):
        up[row] = np.where(padded[row], up[row - 1] + 1, 0)
    down = np.zeros(padded.shape, int)
    for row in range(height, 0, -1):
        down[row] = np.where(padded[row], down[row + 1] + 1, 0)
    vertical = np.minimum(up, down)[1:-1] ** 2  # (h, w + 2)
    sideways = (np.arange(1, width + 1)[:, None] - np.arange(width + 2)) ** 2  # (w, w + 2)
    return (vertical[:, None] + sideways).min(axis=2)


@pytest.mark.parametrize("seed", range(24))
def test_the_innermost_pixel_of_large_regions(seed: int) -> None:
    """Regions with wide parts, narrow ones and holes; ties go to the first in reading order."""
    random = np.random.default_rng(seed)
    height, width = random.integers(60, 140, 2)
    y, x = np.mgrid[:height, :width]
    angle, share = random.uniform(0, np.pi), random.choice([1.0, 0.999, 0.99, 0.8])
    across = (x - width / 2) * np.cos(angle) + (y - height / 2) * np.sin(angle)
    shapes = (
        np.abs(across) < random.integers(4, 50),  # a band
        across % 37 < random.integers(8, 36),  # stripes
        (x - width / 2) ** 2 + 2 * (y - height / 2) ** 2 < 45**2,
        np.ones((height, width), bool),
    )
    region = shapes[seed % 4] & (random.random((height, width)) < share)
    depths = depths_of(region)
    row, column = np.unravel_index(depths.argmax(), depths.shape)
    assert innermost_and_depth(region) == ((column, row), depths.max())


def test_no_large_mask_takes_long() -> None:
    """By the processor's clock, in one thread; ten seconds once for a mask with pinholes."""
    region = np.ones((2250, 1500), bool)
    region[::50, ::50] = False
    start = time.process_time()
    innermost_and_depth(region)
    assert time.process_time() - start < 4  # 0.7 where it was written


def test_the_innermost_pixel_of_a_square() -> None:
    region = np.zeros((20, 30), bool)
    region[4:11, 10:17] = True
    assert innermost(region) == (13, 7)
    assert innermost(region[4:11, 10:17]) == (3, 3)  # beyond the array is outside


def test_the_next_click_is_in_the_larger_mistake() -> None:
    truth = np.zeros((40, 40), bool)
    truth[10:30, 10:30] = True
    missing = truth.copy()
    missing[12:21, 12:21] = False  # 9 x 9 missing
    missing[0:3, 0:3] = True  # 3 x 3 too much
    assert next_click(missing, truth, None) == ((16, 16), 1)
    too_much = truth.copy()
    too_much[0:7, 0:7] = True
    assert next_click(too_much, truth, None) == ((3, 3), 0)


def test_a_mistake_where_nothing_is_known_gets_no_click() -> None:
    truth = np.zeros((40, 40), bool)
    truth[10:31, 10:31] = True
    mask = truth.copy()
    mask[0:7, 0:7] = True
    valid = np.ones((40, 40), bool)
    assert next_click(mask, truth, valid) == ((3, 3), 0)
    valid[:8, :8] = False
    assert next_click(mask, truth, valid) == ((20, 20), 1)  # no mistake left: the innermost pixel
