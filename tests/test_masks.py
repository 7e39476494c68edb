"""What is said of masks, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mobilesam.masks import mask_iou, mask_to_box, remove_small_regions, stability_score


def test_iou_by_hand() -> None:
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    a[:2], b[1:3] = True, True  # 8 pixels each, 4 in common
    assert mask_iou(a, b) == 4 / 12
    assert mask_iou(a, b, valid=a) == 4 / 8
    assert mask_iou(a, ~a) == 0
    assert mask_iou(a & ~a, b & ~b) == 1


def test_box_by_hand() -> None:
    mask = np.zeros((10, 20), bool)
    mask[3:5, 7:12] = True
    assert mask_to_box(mask) == (7, 3, 12, 5)
    assert mask_to_box(mask & False) == (0, 0, 0, 0)


def test_stability_by_hand() -> None:
    logits = np.array([[-2, -0.5, 0.5, 2], [-2, -0.5, 1.0, 2]], np.float32)
    assert stability_score(logits, 0, 1) == 2 / 6  # over 1: two; over -1: six
    assert stability_score(logits, 0, 0.75) == 3 / 6
    assert stability_score(logits, 0, 0) == 1
    assert stability_score(logits, 1, 1) == 0  # over 2: none
    assert np.isnan(stability_score(logits, 5, 1))


def picture(text: str) -> np.ndarray:
    return np.array([[mark == "#" for mark in row] for row in text.split()])


RING = picture("""
    ......#
    .####..
    .#..#..
    .#..#..
    .####..
    #......
    .......
""")


@pytest.mark.parametrize(
    ("min_area", "expected"),
    [(4, RING), (5, picture("......# .####.. .####.. .####.. .####.. #...... ......."))],
)
def test_small_holes_are_filled(min_area: int, expected: np.ndarray) -> None:
    filled, changed = remove_small_regions(RING, min_area, "holes")
    assert changed == (min_area == 5)
    np.testing.assert_array_equal(filled, expected)


def test_small_islands_go() -> None:
    # the pixel at the lower left touches the ring's corner: one part of 13 pixels, and one of 1
    left, changed = remove_small_regions(RING, 2, "islands")
    assert changed
    np.testing.assert_array_equal(
        left, picture("....... .####.. .#..#.. .#..#.. .####.. #...... .......")
    )
    assert remove_small_regions(RING, 1, "islands")[1] is False


def test_the_largest_island_stays_even_if_it_is_small() -> None:
    mask = picture("#..## ..... .#...")
    left, changed = remove_small_regions(mask, 100, "islands")
    assert changed
    np.testing.assert_array_equal(left, picture("...## ..... ....."))


def test_small_ground_at_the_edge_counts_as_a_hole() -> None:
    filled, changed = remove_small_regions(picture("##.# #### ...."), 2, "holes")
    assert changed
    np.testing.assert_array_equal(filled, picture("#### #### ...."))


def test_nothing_small_is_left_as_it_is() -> None:
    empty = np.zeros((4, 5), bool)
    for kind in ("holes", "islands"):
        same, changed = remove_small_regions(empty, 3, kind)
        assert not changed
        assert not same.any()
    with pytest.raises(ValueError, match="'holes' or 'islands'; got 'hole'"):
        remove_small_regions(empty, 3, "hole")


def test_working_in_a_window_is_exact() -> None:
    random = np.random.default_rng(0)
    for number in range(2000):
        height, width = random.integers(1, 9, 2)
        mask = np.zeros((height, width), bool)
        y0, x0 = random.integers(0, height), random.integers(0, width)
        inner = mask[y0 : y0 + random.integers(1, 9), x0 : x0 + random.integers(1, 9)]
        inner[...] = random.random(inner.shape) < random.choice([0.3, 0.7, 1])
        mask[y0, x0] = True
        least = number % 40
        for kind, ground in (("holes", mask), ("islands", ~mask)):
            parts, count = ndimage.label(~ground, np.ones((3, 3)))
            areas = ndimage.sum_labels(~ground, parts, range(count + 1))
            small = [part for part in range(1, count + 1) if areas[part] < least]
            result, changed = remove_small_regions(mask, least, kind)
            assert changed == bool(small)
            if kind == "islands" and len(small) == count:
                small.remove(1 + int(areas[1:].argmax()))
            np.testing.assert_array_equal(result, mask ^ np.isin(parts, small))


def test_small_regions_of_masks_of_numbers_are_found_too() -> None:
    mask = np.ones((20, 20), np.uint8)
    mask[9:11, 9:11] = 0
    filled, changed = remove_small_regions(mask, 10, "holes")
    assert changed and filled.all()
