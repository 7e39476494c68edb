"""Polygons against masks, filled by programs that know nothing of ours."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco
from scipy import ndimage

from mobilesam.polygons import MIN_AREA, MOST_NEAREST, Part, join, mask_to_parts

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools' own

FINE = 8  # px of the fine raster per pixel


def fill_with_coco(parts: list[Part], size: tuple[int, int]) -> np.ndarray:
    """Fill parts with pycocotools, which has a polygon for each part and no holes."""
    polygons = [join(part.rings).ravel().tolist() for part in parts]
    if not polygons:
        return np.zeros(size, bool)
    return coco.decode(coco.merge(coco.frPyObjects(polygons, *size))).astype(bool)


def fill_with_pillow(rings: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Fill rings by the even-odd rule on a finer raster; a pixel is what most of it is.

    Pillow's coordinates are those of pixels' centres, and it paints the border, too.
    """
    height, width = size
    filled = np.zeros((height * FINE, width * FINE), bool)
    for ring in rings:
        picture = Image.new("1", (width * FINE, height * FINE))
        ImageDraw.Draw(picture).polygon([tuple(xy) for xy in ring * FINE - 0.5], fill=1)
        filled ^= np.asarray(picture)
    return filled.reshape(height, FINE, width, FINE).mean(axis=(1, 3)) > 0.5


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def disk(radius: float, size: tuple[int, int] = (200, 240)) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return (x - 100.3) ** 2 + (y - 99.8) ** 2 <= radius**2


def line(thickness: float, angle: float) -> np.ndarray:
    y, x = np.mgrid[:200, :240]
    return np.abs((x - 120) * np.sin(angle) + (y - 100) * np.cos(angle)) < thickness / 2


def blob(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    size = random.integers(20, 250, 2)
    field = ndimage.gaussian_filter(random.standard_normal(size), random.uniform(2, 25))
    return field > np.quantile(field, random.uniform(0.3, 0.9))


def nested() -> np.ndarray:
    mask = np.zeros((90, 120), bool)
    mask[10:80, 20:110] = True
    mask[20:60, 30:80] = False  # a hole
    mask[30:40, 40:60] = True  # a part within it
    mask[65:70, 90:100] = False  # another hole
    mask[0:8, 0:5] = True  # reaches the picture's corner
    return mask


SHAPES = {
    "pixel": disk(0.5),
    "pixel in a corner": np.eye(1, dtype=bool),
    "everything": np.ones((40, 50), bool),
    "row": np.pad(np.ones((1, 50), bool), 5),
    "nested": nested(),
    "diagonal": np.eye(40, dtype=bool),
    "chequers": np.indices((30, 40)).sum(axis=0) % 2 == 0,
    "noise": np.random.default_rng(0).random((60, 50)) < 0.6,
    "ring": disk(60) & ~disk(57),
    **{f"disk {radius}": disk(radius) for radius in (1, 2, 3, 5, 8, 12, 14, 20, 30, 90)},
    **{f"line {width} {angle}": line(width, angle) for width in (1, 2, 6) for angle in (0.1, 1.0)},
}


@pytest.mark.parametrize("name", SHAPES)
def test_exact_polygons_fill_to_the_mask_itself(name: str) -> None:
    mask = SHAPES[name]
    parts = mask_to_parts(mask, tolerance=0)
    np.testing.assert_array_equal(fill_with_coco(parts, mask.shape), mask)
    rings = [ring for part in parts for ring in part.rings]
    np.testing.assert_array_equal(fill_with_pillow(rings, mask.shape), mask)
    corners = np.concatenate(rings)
    np.testing.assert_array_equal(corners, np.round(corners))


@pytest.mark.parametrize("name", SHAPES)
def test_simplified_polygons_agree_with_the_mask(name: str) -> None:
    mask = SHAPES[name]
    parts = mask_to_parts(mask)
    assert iou(fill_with_coco(parts, mask.shape), mask) >= 0.99
    rings = [ring for part in parts for ring in part.rings]
    assert iou(fill_with_pillow(rings, mask.shape), mask) >= 0.99


def test_simplified_polygons_of_many_shapes_agree_with_their_masks() -> None:
    for seed in range(60):
        mask = blob(seed)
        parts = mask_to_parts(mask)
        assert iou(fill_with_coco(parts, mask.shape), mask) >= 0.99, seed
        joined = [join([ring for part in parts for ring in part.rings])]
        filled = coco.decode(
            coco.merge(coco.frPyObjects([joined[0].ravel().tolist()], *mask.shape))
        )
        assert iou(filled.astype(bool), mask) >= 0.99, seed


def test_a_pixels_polygon_has_its_four_corners() -> None:
    mask = np.zeros((5, 7), bool)
    mask[2, 3] = True
    (part,) = mask_to_parts(mask)
    np.testing.assert_array_equal(part.outer, [(3, 2), (4, 2), (4, 3), (3, 3)])
    assert part.holes == ()


def test_parts_and_holes_belong_together() -> None:
    corner, large, inner = mask_to_parts(nested(), tolerance=0)
    np.testing.assert_array_equal(corner.outer, [(0, 0), (5, 0), (5, 8), (0, 8)])
    np.testing.assert_array_equal(large.outer.max(axis=0), (110, 80))
    assert [sorted(map(tuple, hole)) for hole in large.holes] == [
        [(30, 20), (30, 60), (80, 20), (80, 60)],
        [(90, 65), (90, 70), (100, 65), (100, 70)],
    ]
    np.testing.assert_array_equal(inner.outer, [(40, 30), (60, 30), (60, 40), (40, 40)])
    assert inner.holes == ()


def test_pixels_that_touch_at_a_corner_are_parts_of_their_own_and_holes_then_are_one() -> None:
    falling, rising = np.eye(2, dtype=bool), ~np.eye(2, dtype=bool)
    for mask in (falling, rising):
        parts = mask_to_parts(mask)
        assert [len(part.outer) for part in parts] == [4, 4]
        (frame,) = mask_to_parts(np.pad(~mask, 2, constant_values=True), tolerance=0)
        assert [len(hole) for hole in frame.holes] == [8]


def test_an_empty_mask_has_no_parts() -> None:
    assert mask_to_parts(np.zeros((4, 5), bool)) == []


def test_a_large_shape_needs_few_corners_and_a_rectangle_four() -> None:
    exact, simple = mask_to_parts(disk(90), tolerance=0), mask_to_parts(disk(90))
    assert len(simple[0].outer) < len(exact[0].outer) / 8
    mask = np.zeros((100, 100), bool)
    mask[10:90, 20:70] = True
    assert sorted(map(tuple, mask_to_parts(mask)[0].outer)) == [
        (20, 10),
        (20, 90),
        (70, 10),
        (70, 90),
    ]


def test_small_parts_keep_all_corners() -> None:
    mask = disk(np.sqrt(MIN_AREA / np.pi) - 1)
    assert mask.sum() < MIN_AREA
    np.testing.assert_array_equal(
        mask_to_parts(mask)[0].outer, mask_to_parts(mask, tolerance=0)[0].outer
    )


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 3.0])
def test_no_left_out_corner_lies_farther_than_the_tolerance(tolerance: float) -> None:
    mask = disk(90)
    corners = mask_to_parts(mask, tolerance=0)[0].outer
    start = mask_to_parts(mask, tolerance)[0].outer
    way = np.roll(start, -1, axis=0) - start
    away = corners[:, None] - start
    along = np.clip((away * way).sum(axis=2) / (way**2).sum(axis=1), 0, 1)
    distance = np.hypot(*np.moveaxis(away - along[..., None] * way, 2, 0)).min(axis=1)
    to_a_middle, rounding = 0.5, 0.15  # from a corner; of corners to fifths of a pixel
    assert distance.max() <= tolerance + to_a_middle + rounding


def test_joined_rings_have_a_bridge_each_and_fill_as_before() -> None:
    rings = [ring for part in mask_to_parts(nested(), tolerance=0) for ring in part.rings]
    path = join(rings)
    assert len(path) == sum(map(len, rings)) + 2 * (len(rings) - 1)
    filled = coco.decode(coco.merge(coco.frPyObjects([path.ravel().tolist()], 90, 120)))
    np.testing.assert_array_equal(filled.astype(bool), nested())


def test_the_many_rings_of_a_ragged_mask_are_joined_in_time() -> None:
    mask = np.random.default_rng(0).random((120, 160)) > 0.5
    rings = [ring for part in mask_to_parts(mask, tolerance=0) for ring in part.rings]
    assert len(rings) > 4 * MOST_NEAREST
    started = time.process_time()
    path = join(rings)
    assert time.process_time() - started < 5
    assert len(path) == sum(map(len, rings)) + 2 * (len(rings) - 1)
    filled = coco.decode(coco.merge(coco.frPyObjects([path.ravel().tolist()], *mask.shape)))
    np.testing.assert_array_equal(filled.astype(bool), mask)


def test_bridges_are_the_shortest_there_are() -> None:
    squares = [np.array([(x, 0), (x + 10, 0), (x + 10, 10), (x, 10)], float) for x in (0, 90, 30)]
    path = join(squares)
    steps = np.abs(np.roll(path, -1, axis=0) - path).sum(axis=1)
    assert sorted(steps)[-4:] == [20, 20, 50, 50]


def test_bad_input_is_refused() -> None:
    mask = disk(5)
    with pytest.raises(ValueError, match=r"array of bool; got uint8"):
        mask_to_parts(mask.astype(np.uint8))
    for tolerance in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match="tolerance must be 0 or more"):
            mask_to_parts(mask, tolerance)
    with pytest.raises(ValueError, match="at least one ring"):
        join([])
