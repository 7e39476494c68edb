"""How training changes photos, against brute force and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from mobilesam.masks import mask_to_box
from mobilesam.training import augment
from mobilesam.training.augment import (
    GROUND,
    Patch,
    draw_patch,
    draw_window,
    read_canvas,
    recolour,
    step_for,
)
from mobilesam.training.data_config import DataConfig
from mobilesam.training.items import Item, choose_masks, cover, make_item
from mobilesam.training.shards import LabelMaps
from mobilesam.training.sources import Sample
from tests.shards import ArraySource

RED, GREEN = np.array([220, 30, 30], np.uint8), np.array([20, 200, 40], np.uint8)


@pytest.fixture
def plain_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos keep their colours, so that a test can tell what is where."""
    monkeypatch.setattr(augment, "COLOUR_SHARE", 0.0)
    monkeypatch.setattr(augment, "GREY_SHARE", 0.0)


def _blob(height: int, width: int, rng: np.random.Generator, radius: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    cx, cy = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
    return (x - cx) ** 2 + ((y - cy) * 1.4) ** 2 < radius**2


def _scene(seed: int = 0) -> ArraySource:
    """Photo 0: three blobs of which two overlap, in two maps. Photo 1: a red blob on green."""
    rng = np.random.default_rng(seed)
    first, second = np.zeros((2, 90, 120), np.uint8)
    blobs = [_blob(90, 120, rng, radius) for radius in (22, 14, 9)]
    first[blobs[0]], first[blobs[2]] = 1, 2
    second[blobs[1]] = 7
    photo = rng.integers(100, 140, (90, 120, 3)).astype(np.uint8)
    red = _blob(100, 100, rng, 25)
    donor = np.where(red[..., None], RED, GREEN)
    return ArraySource([photo, donor], [[first, second], [red.astype(np.uint8)]])


def test_how_much_smaller_a_photo_is_read() -> None:
    assert step_for((1500, 2250), (352, 512), 8) == 4  # 375 x 562 are left
    assert step_for((1500, 2250), (384, 512), 8) == 2  # 375 rows would be too few
    assert step_for((1500, 2250), (384, 512), 1) == 1
    assert step_for((8000, 8000), (64, 64), 8) == 8
    assert step_for((100, 100), (512, 512), 8) == 1


def test_windows_lie_in_the_photo_or_round_it() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = (int(side) for side in rng.integers(40, 400, 2))
        focus = (int(rng.integers(width)), int(rng.integers(height)))
        zoom = rng.uniform(1, 2.5)
        x0, y0, x1, y1 = draw_window((height, width), zoom, focus, rng)
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert x0 <= focus[0] < x1 and y0 <= focus[1] < y1
        assert abs((x1 - x0) - width / zoom) <= 0.5 and abs((y1 - y0) - height / zoom) <= 0.5
        zoom = rng.uniform(0.3, 0.99)
        x0, y0, x1, y1 = draw_window((height, width), zoom, focus, rng)
        assert x0 <= 0 and y0 <= 0 and x1 >= width and y1 >= height
        assert abs((x1 - x0) - width / zoom) <= 0.5 and abs((y1 - y0) - height / zoom) <= 0.5
    x0, _, x1, _ = draw_window((8, 8), 2.0, (4, 4), rng)  # smaller than the smallest window
    assert x1 - x0 == 16 and x0 <= 0 and x1 >= 8


def test_a_canvas_shows_the_photo_on_flat_ground() -> None:
    source = _scene()
    sample, photo = source.samples[0], source.photos[0]
    np.testing.assert_array_equal(read_canvas(source, sample, None, 1), photo)
    part = read_canvas(source, sample, (10, 20, 50, 80), 1)
    np.testing.assert_array_equal(part, photo[20:80, 10:50])
    canvas = np.asarray(read_canvas(source, sample, (-30, -20, 150, 115), 1))
    np.testing.assert_array_equal(canvas[20:110, 30:150], photo)
    outside = np.ones((135, 180), bool)
    outside[20:110, 30:150] = False
    assert (canvas[outside] == GROUND).all()


@pytest.mark.parametrize(
    ("brightness", "contrast", "saturation"),
    [(1.2, 1.0, 1.0), (0.8, 1.0, 1.0), (1.0, 0.7, 1.0), (1.0, 1.1, 1.0), (1.0, 1.0, 0.7),
     (1.0, 1.0, 1.3), (1.0, 1.0, 0.0), (0.9, 1.1, 1.2)],
)  # fmt: skip
def test_colours_change_as_pillow_changes_them(
    brightness: float, contrast: float, saturation: float
) -> None:
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(40, 150, (64, 80, 3), np.uint8))
    expected = ImageEnhance.Brightness(photo).enhance(brightness)
    expected = ImageEnhance.Contrast(expected).enhance(contrast)
    expected = ImageEnhance.Color(expected).enhance(saturation)
    ours = recolour(photo, brightness, contrast, saturation)
    difference = np.abs(np.asarray(ours, int) - np.asarray(expected, int))
    assert difference.max() <= 3  # of 255: Pillow rounds after each


def test_cells_are_covered_as_by_hand() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:, :4] = True
    # 2 pixels to a cell: the filter is a triangle over 4 pixels, weights 1 3 3 1, cut at the edge.
    row = [1, 7 / 8, 1 / 8, 0]
    np.testing.assert_allclose(cover(mask, (0, 0, 4, 8), (4, 4)) / 255, [row] * 4, atol=1 / 255)


@pytest.mark.parametrize("shape", [(24, 32), (90, 120), (128, 160), (7, 9), (500, 301)])
def test_cells_are_covered_as_in_the_whole_frame(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for radius in (2, 5, 20, 40):
        mask = _blob(90, 120, rng, radius)
        whole = Image.fromarray(mask.astype(np.uint8) * 255)
        expected = np.asarray(whole.resize(shape[::-1], Image.Resampling.BILINEAR), int)
        assert np.abs(cover(mask, mask_to_box(mask), shape) - expected).max() <= 1


def _brute_force(objects: LabelMaps, window: tuple[int, ...], least: float) -> list[np.ndarray]:
    x0, y0, x1, y1 = window
    masks = [
        np.pad(objects.maps[index] == label, 200)[y0 + 200 : y1 + 200, x0 + 200 : x1 + 200]
        for index, label in objects.places
    ]
    return [mask for mask in masks if mask.sum() >= least]


def test_chosen_masks_equal_brute_force() -> None:
    rng = np.random.default_rng(0)
    for seed in range(60):
        source = _scene(seed)
        objects = source.objects(source.samples[0])
        focus = (int(rng.integers(120)), int(rng.integers(90)))
        window = draw_window((90, 120), rng.uniform(0.5, 3), focus, rng)
        least = rng.uniform(1, 300)
        expected = {mask.tobytes() for mask in _brute_force(objects, window, least)}
        chosen = choose_masks(objects, window, 1, None, least, 64, rng)
        assert {shown.mask.tobytes() for shown in chosen} == expected
        assert len(chosen) == len(expected)
        fewer = choose_masks(objects, window, 1, None, least, 1, rng)
        assert len(fewer) == min(1, len(expected))


def test_small_masks_come_first_more_often() -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[:, 50:] = 1  # 5000 pixels
    labels[:10, :5] = 2  # 50: by its area to the power 0.4 drawn first 6.3 times as often
    objects = LabelMaps([labels])
    rng = np.random.default_rng(0)
    small = 0
    for _ in range(400):
        (shown,) = choose_masks(objects, (0, 0, 100, 100), 1, None, 10, 1, rng)
        small += shown.mask.sum() == 50
    assert 0.81 < small / 400 < 0.91  # 6.3 / 7.3 = 0.863


def test_a_pasted_object_takes_its_pixels_from_all_maps() -> None:
    first, second = np.zeros((2, 60, 80), np.uint8)
    first[10:40, 10:40], first[5:9, 5:9] = 1, 2
    second[20:50, 20:60], second[22:28, 32:38] = 3, 4
    objects = LabelMaps([first, second])
    square = np.ones((20, 30), bool)
    square[:5] = False
    image = Image.fromarray(np.zeros((20, 30), np.uint8))
    patch = Patch(image.convert("RGB"), image, square, (30, 15))
    covered = np.zeros((60, 80), bool)
    covered[20:35, 30:60] = True
    chosen = choose_masks(objects, (0, 0, 80, 60), 1, patch, 1, 64, np.random.default_rng(0))
    np.testing.assert_array_equal(chosen[0].mask, covered)
    assert chosen[0].box == (30, 20, 60, 35)
    left = [(first == 1) & ~covered, first == 2, (second == 3) & ~covered]  # 4 is hidden
    assert {shown.mask.tobytes() for shown in chosen[1:]} == {mask.tobytes() for mask in left}
    assert len(chosen) == 4
    assert (first[20:35, 30:40] == 1).all()  # the source's own are as they were


def test_a_pasted_object_of_which_nothing_is_left_is_no_mask() -> None:
    image = Image.fromarray(np.zeros((6, 6), np.uint8))
    patch = Patch(image.convert("RGB"), image, np.zeros((6, 6), bool), (0, 0))
    labels = np.zeros((40, 40), np.uint8)
    labels[10:20, 10:20] = 1
    least = 0.0  # as of `--min-mask-share 0`
    (shown,) = choose_masks(
        LabelMaps([labels]), (0, 0, 40, 40), 1, patch, least, 9, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(shown.mask, labels == 1)


def test_a_pasted_object_makes_ignored_pixels_known() -> None:
    labels = np.full((40, 40), 255, np.uint8)
    labels[10:20, 10:20] = 1
    alpha = Image.fromarray(np.zeros((6, 6), np.uint8))
    patch = Patch(alpha.convert("RGB"), alpha, np.ones((6, 6), bool), (0, 0))
    chosen = choose_masks(
        LabelMaps([labels]), (0, 0, 40, 40), 1, patch, 1, 9, np.random.default_rng(0)
    )
    assert chosen[0].known is None
    expected = labels != 255
    expected[:6, :6] = True
    np.testing.assert_array_equal(chosen[1].known, expected)


def test_pasted_objects_have_their_size_place_and_pixels() -> None:
    source = _scene()
    own_share = source.maps[1][0].mean()
    shares = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        patch = draw_patch(source, source.samples[1], (120, 200), rng)
        assert patch is not None
        shares.append(patch.mask.sum() / (120 * 200))
        height, width = patch.mask.shape
        x, y = patch.corner
        assert 0 <= x <= 200 - width and 0 <= y <= 120 - height
        canvas = Image.new("RGB", (200, 120), "blue")
        pasted = np.asarray(patch.paste(canvas), int)
        assert np.asarray(canvas)[..., 2].min() == 255  # the canvas itself stays
        target = np.zeros((120, 200), bool)
        patch.cover(target, True)
        edge = _grown(target, 3) & ~_grown(target, -3)
        assert (np.abs(pasted[target & ~edge] - RED).max() if (target & ~edge).any() else 0) <= 2
        assert (pasted[~_grown(target, 4)] == (0, 0, 255)).all()
        closer_to_red = np.abs(pasted - RED).sum(-1) < np.abs(pasted - (0, 0, 255)).sum(-1)
        assert (closer_to_red == target).mean() > 0.99  # the edge is where the target has it
        assert len(np.unique(np.asarray(patch.alpha))) > 3  # soft
    assert min(shares) > 0.008 and max(shares) <= min(0.1, own_share) * 1.1
    assert max(shares) > 3 * min(shares)


def _grown(mask: np.ndarray, by: int) -> np.ndarray:
    """Grow a mask by so many pixels to each side, or shrink it."""
    if by < 0:
        return ~_grown(~mask, -by)
    padded = np.pad(mask, by)
    height, width = mask.shape
    rows = np.any([padded[dy : dy + height] for dy in range(2 * by + 1)], axis=0)
    return np.any([rows[:, dx : dx + width] for dx in range(2 * by + 1)], axis=0)


@pytest.mark.parametrize("case", ["cut off", "unsure edge", "all of it", "speck", "no masks"])
def test_what_is_never_pasted(case: str) -> None:
    labels = np.zeros((100, 100), np.uint8)
    if case == "cut off":
        labels[:40, 30:60] = 1
    elif case == "unsure edge":
        labels[20:50, 30:60] = 255
        labels[25:45, 35:55] = 1
    elif case == "all of it":
        labels[1:99, 1:99] = 1
    elif case == "speck":
        labels[50:53, 50:53] = 1
    source = ArraySource([np.zeros((100, 100, 3), np.uint8)], [[labels]])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert draw_patch(source, source.samples[0], (200, 200), rng) is None


def _items(source: ArraySource, count: int, **changes: float) -> list[Item]:
    config = DataConfig(image_size=128, masks_per_image=4, **changes)
    items = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        donor: Sample = source.samples[-1]
        made = make_item(source, source.samples[0], (96, 128), config, lambda d=donor: d, rng)
        items += [made] if made else []
    assert len(items) > count * 0.8
    return items


@pytest.mark.usefixtures("plain_colours")
@pytest.mark.parametrize("zooms", [(0.4, 1.0), (1.0, 3.0)])
def test_targets_and_boxes_lie_on_what_is_shown(zooms: tuple[float, float]) -> None:
    labels = np.zeros((90, 120), np.uint8)
    labels[_blob(90, 120, np.random.default_rng(4), 21)] = 1
    photo = np.where((labels == 1)[..., None], RED, GREEN)
    source = ArraySource([photo], [[labels]])
    ranges = {"min_scale": zooms[0], "max_zoom": zooms[1], "whole_photo_share": 0.1}
    sizes = []
    for item in _items(source, 40, copy_paste_share=0, **ranges):
        red = (item.pixels[..., 0] > 130) & (item.pixels[..., 1] < 100)
        share = red.reshape(24, 4, 32, 4).mean((1, 3))
        assert np.abs(item.targets[0] / 255 - share).mean() < 0.02
        assert np.abs(item.boxes[0] - mask_to_box(red)).max() < 3
        assert item.valid.all()
        for repeated in (1, 2, 3):  # there is but one mask
            np.testing.assert_array_equal(item.targets[repeated], item.targets[0])
            np.testing.assert_array_equal(item.boxes[repeated], item.boxes[0])
        sizes.append(red.mean())
    assert max(sizes) > 2 * min(sizes)


@pytest.mark.usefixtures("plain_colours")
def test_items_show_what_is_pasted() -> None:
    source = _scene()
    pasted = 0
    for item in _items(source, 40, copy_paste_share=1.0, min_scale=0.6, max_zoom=1.5):
        red = (item.pixels[..., 0] > 160) & (item.pixels[..., 1] < 100)
        if red.sum() < 60:
            continue
        pasted += 1
        share = red.reshape(24, 4, 32, 4).mean((1, 3))
        assert np.abs(item.targets[0] / 255 - share).mean() < 0.02
        assert np.abs(item.boxes[0] - mask_to_box(red)).max() < 5
        for other in item.targets[1:]:
            if not np.array_equal(other, item.targets[0]):  # it comes again if there are too few
                assert not other[_grown(share > 0.99, -1)].any()
    assert pasted > 30


def test_unsure_pixels_are_not_valid() -> None:
    labels = np.zeros((96, 128), np.uint8)
    labels[32:64, 32:64] = 1
    labels[:16] = 255
    source = ArraySource([np.zeros((96, 128, 3), np.uint8)], [[labels]])
    for item in _items(source, 6, whole_photo_share=1.0, copy_paste_share=0):
        expected = np.ones((24, 32), bool)
        expected[:4] = False
        np.testing.assert_array_equal(item.valid[0], expected)
