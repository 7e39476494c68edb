"""Where clicks fall, against brute force and by hand."""

from __future__ import annotations

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
