"""Specks, teeth and soft edges, counted by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from mobilesam.masks import mask_iou
from mobilesam.refinement import MAX_SIGMA, Refinement


def drawn(text: str) -> np.ndarray:
    return np.array([[mark == "#" for mark in row] for row in text.split()])


def disk(radius: float, size: tuple[int, int] = (200, 220)) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (columns - 110) ** 2 + (rows - 100) ** 2 <= radius**2


SPECK_AND_HOLE = drawn("""
    ##.........
    #..########
    ...#..#####
    ...##.#####
    ...########
    ...########
""")  # a speck of 3 pixels, a hole of 3


def test_a_speck_and_a_hole_go_at_one_more_than_their_area() -> None:
    np.testing.assert_array_equal(Refinement(min_area=3).mask(SPECK_AND_HOLE), SPECK_AND_HOLE)
    expected = np.zeros_like(SPECK_AND_HOLE)
    expected[1:, 3:] = True
    before = SPECK_AND_HOLE.copy()
    np.testing.assert_array_equal(Refinement(min_area=4).mask(SPECK_AND_HOLE), expected)
    np.testing.assert_array_equal(SPECK_AND_HOLE, before)


def test_no_area_removes_the_whole_mask_or_fills_the_whole_photo() -> None:
    mask = drawn(".......... .##....... .#......#. .......... ..........")
    left = Refinement(min_area=10**9).mask(mask)
    np.testing.assert_array_equal(
        left, drawn(".......... .##....... .#........ .......... ..........")
    )


def test_a_smoothed_disk_is_the_disk() -> None:
    mask = disk(60)
    smoothed = Refinement(smooth=4).mask(mask)
    assert mask_iou(smoothed, mask) > 0.99
    assert (smoothed != mask).any()


def test_a_saw_loses_its_teeth() -> None:
    mask = np.zeros((80, 90), bool)
    mask[:, :40] = True
    for row in range(0, 80, 4):
        mask[row : row + 2, 40:44] = True  # teeth of 4 pixels on half of the rows
    ends = Refinement(smooth=4).mask(mask).sum(axis=1)
    assert set(ends[4:-4].tolist()) == {42}  # where the teeth's mean is
    assert set(mask.sum(axis=1).tolist()) == {40, 44}


def test_what_is_thin_goes_and_what_is_not_stays() -> None:
    mask = np.zeros((60, 100), bool)
    mask[10:15, 10:90] = True  # 5 px: less than 1.35 of 4
    mask[30:36, 10:90] = True  # 6 px: more
    smoothed = Refinement(smooth=4).mask(mask)
    assert not smoothed[:20].any()
    assert smoothed[32:34, 30:70].all()


def test_the_photos_edge_is_not_eaten() -> None:
    half = np.zeros((60, 80), bool)
    half[:, :30] = True
    corner = half.copy()
    corner[20:] = False
    np.testing.assert_array_equal(Refinement(smooth=10).mask(half), half)
    smoothed = Refinement(smooth=5).mask(corner)
    assert smoothed[0, :30].all() and smoothed[:20, 0].all()  # only the inner corner is rounded
    assert not smoothed[19, 29]
    alpha = Refinement(feather=4).alpha(half)
    assert (alpha[:, 0] == 255).all()
    assert (alpha == alpha[0]).all()


def test_the_alpha_is_one_half_at_the_edge_and_follows_the_normal_distribution() -> None:
    mask = np.zeros((60, 80), bool)
    mask[:, :30] = True
    sigma = 5
    row = Refinement(feather=sigma).alpha(mask)[30].astype(float)
    assert (row[29] + row[30]) / 2 == pytest.approx(127.5, abs=0.5)
    for column in range(80):
        share = 0.5 * math.erfc((column + 0.5 - 30) / sigma / math.sqrt(2))
        assert row[column] == pytest.approx(255 * share, abs=2), column
    assert (row[:14] == 255).all() and (row[46:] == 0).all()  # 3 sigma and the rest


def test_one_pixel_feathered_by_hand() -> None:
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    side = math.exp(-1 / (2 * 0.4**2))
    side, middle = side / (1 + 2 * side), 1 / (1 + 2 * side)
    expected = 255 * np.outer([0, side, middle, side, 0], [0, side, middle, side, 0])
    alpha = Refinement(feather=0.4).alpha(mask)
    assert alpha.dtype == np.uint8
    np.testing.assert_array_equal(alpha, np.rint(expected))
    assert alpha[2].tolist() == [0, 9, 215, 9, 0]


@pytest.mark.parametrize("sigma", [0.7, 3, 11.3])
def test_working_round_the_outline_is_exact(sigma: float) -> None:
    noise = np.random.default_rng(0).random((700, 900))
    mask = ndimage.gaussian_filter(noise, 12) > 0.503  # many parts, some cut off by the edge
    mask[:150] = mask[600:] = mask[:, :200] = False
    assert mask[:, -1].any()
    radius = int(3 * sigma + 0.5)
    blurred = mask.astype(np.float32)
    for axis in (1, 0):
        blurred = ndimage.gaussian_filter1d(blurred, sigma, axis, mode="nearest", radius=radius)
    np.testing.assert_array_equal(Refinement(smooth=sigma).mask(mask), blurred > 0.5)
    alpha = Refinement(feather=sigma).alpha(mask)
    np.testing.assert_array_equal(alpha, np.rint(np.clip(blurred * 255, 0, 255)))


def test_without_anything_to_do_the_mask_is_the_same() -> None:
    mask = disk(60)
    for nothing in (Refinement(), Refinement(min_area=1), Refinement(feather=9)):
        assert nothing.mask(mask) is mask
    np.testing.assert_array_equal(Refinement().alpha(mask), np.where(mask, 255, 0))
    for one_value in (np.zeros((50, 60), bool), np.ones((50, 60), bool)):
        all_of_it = Refinement(min_area=99, smooth=5, feather=5)
        assert all_of_it.mask(one_value) is one_value
        assert set(np.unique(all_of_it.alpha(one_value))) == {255 * int(one_value[0, 0])}


def test_a_preview_is_refined_as_the_photo_is() -> None:
    assert Refinement(100, 8, 4).scaled(0.5) == Refinement(25, 4, 2)
    assert Refinement(3, 40, 0).scaled(2) == Refinement(12, MAX_SIGMA, 0)
    whole = Refinement(smooth=8).mask(disk(60)[::1])
    small = Refinement(smooth=8).scaled(0.5).mask(disk(60)[::2, ::2])
    assert mask_iou(small, whole[::2, ::2]) > 0.98


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"min_area": -1}, "min_area must be a whole number of pixels from 0; got -1"),
        ({"min_area": 2.5}, "got 2.5"),
        ({"min_area": True}, "got True"),
        ({"smooth": -0.1}, "smooth must be 0 to 50 pixels; got -0.1"),
        ({"smooth": math.nan}, "got nan"),
        ({"feather": 50.1}, "feather must be 0 to 50 pixels; got 50.1"),
        ({"feather": "2"}, "got '2'"),
    ],
)
def test_bad_values_are_refused(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError) as refused:
        Refinement(**values)
    assert expected in str(refused.value)


def test_what_is_no_mask_is_refused() -> None:
    for make in (Refinement().mask, Refinement().alpha):
        with pytest.raises(ValueError, match=r"must be a non-empty \(H, W\) array of bool"):
            make(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="factor must be above 0; got 0"):
        Refinement().scaled(0)


def test_a_large_photo_costs_what_its_outline_does(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels: list[int] = []

    def noting(do: Callable[..., Any], values: np.ndarray, *args: Any, **settings: Any) -> Any:
        pixels.append(values.size)
        return do(values, *args, **settings)

    for name in ("gaussian_filter1d", "label"):
        monkeypatch.setattr(ndimage, name, partial(noting, getattr(ndimage, name)))
    mask = np.zeros((3000, 4000), bool)
    mask[700:1500, 900:1900] = True
    refinement = Refinement(min_area=500, smooth=4, feather=4)
    assert refinement.alpha(refinement.mask(mask)).any()
    outline = 2 * (800 + 1000)
    assert pixels[0] < 1.01 * 800 * 1000  # holes, then islands: of the mask's window
    assert pixels[1] == 800 * 1000
    assert 0 < sum(pixels[2:]) / 4 < 250 * outline  # two passes each, in squares of 128 px
