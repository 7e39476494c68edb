"""The validation measure, against numbers worked out by hand or by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from mobilesam.training.evaluate import (
    Row,
    as_table,
    innermost,
    next_click,
    squared_distance_inside,
    summarise,
)


@pytest.mark.parametrize("seed", range(5))
def test_distances_equal_brute_force(seed: int) -> None:
    region = np.random.default_rng(seed).random((13, 17)) > 0.3
    outside = np.argwhere(~np.pad(region, 1)) - 1
    expected = np.zeros(region.shape)
    for row, column in np.argwhere(region):
        expected[row, column] = ((outside - (row, column)) ** 2).sum(1).min()
    np.testing.assert_array_equal(squared_distance_inside(region), expected)


def test_the_innermost_pixel_of_a_square() -> None:
    region = np.zeros((20, 30), bool)
    region[4:11, 10:17] = True
    assert innermost(region) == (13, 7)


def test_the_next_click_is_in_the_larger_mistake() -> None:
    truth, everywhere = np.zeros((40, 40), bool), np.ones((40, 40), bool)
    truth[10:30, 10:30] = True
    missing = truth.copy()
    missing[12:21, 12:21] = False  # 9 x 9 missing
    missing[0:3, 0:3] = True  # 3 x 3 too much
    assert next_click(missing, truth, everywhere) == ((16, 16), 1)
    too_much = truth.copy()
    too_much[0:7, 0:7] = True
    assert next_click(too_much, truth, everywhere) == ((3, 3), 0)
    ignored = everywhere.copy()
    ignored[:8, :8] = False
    (x, y), label = next_click(too_much, truth, ignored)
    assert truth[int(y), int(x)] and label == 1


def test_the_table_counts_each_mask_once() -> None:
    metrics = ("box", "click_1", "click_1_oracle", "click_3", "click_5", "box_itself")
    rows = [
        Row("a-1", "a", 0.1, dict.fromkeys(metrics, 0.5), 0.7),
        Row("b-1", "b", 0.1, dict.fromkeys(metrics, 1.0), 0.9),
        Row("b-2", "b", 0.1, dict.fromkeys(metrics, 0.0), 0.1),
    ]
    summary = summarise(rows)
    assert summary["overall"]["box"] == 0.5
    assert summary["b"]["masks"] == 2
    assert abs(summary["overall"]["predicted_iou_error"] - 0.4 / 3) < 1e-9
    assert "| b | 2 | 0.500 |" in as_table(summary)
