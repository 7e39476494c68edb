from __future__ import annotations

import io
import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from mobilesam import rendering

RED = (200, 10, 20)


def blob(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A ragged mask that reaches the picture's edges here and there."""
    coarse = np.random.default_rng(seed).random((height // 5 + 1, width // 5 + 1)) < 0.4
    return np.kron(coarse, np.ones((5, 5), dtype=bool))[:height, :width]


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def edge_by_definition(mask: np.ndarray, width_px: int) -> np.ndarray:
    """Measure, for every pixel, the distance to every pixel outside; slow and plainly right."""
    outside = np.argwhere(~np.pad(mask, width_px)) - width_px
    result = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        squared = ((outside - (y, x)) ** 2).sum(axis=1)
        result[y, x] = squared.min() <= width_px**2
    return result


@pytest.mark.parametrize("width_px", [1, 2, 3, 5])
def test_an_outline_is_what_lies_within_its_width_of_the_outside(width_px: int) -> None:
    mask = blob(37, 43)
    expected = edge_by_definition(mask, width_px)
    np.testing.assert_array_equal(rendering.outline(mask, width_px), expected)


def test_an_outline_closes_along_the_pictures_edge() -> None:
    line = rendering.outline(np.ones((20, 30), dtype=bool), 2)
    assert line[:2].all()
    assert line[:, -2:].all()
    assert not line[2:-2, 2:-2].any()


def test_an_outline_is_as_wide_as_the_picture_deserves() -> None:
    for side, expected in ((64, 1), (1024, 2), (4000, 8)):
        mask = np.zeros((40, side), dtype=bool)
        mask[:, side // 2 :] = True
        assert rendering.outline(mask)[20, side // 2 : side // 2 + 20].sum() == expected


def test_an_empty_mask_has_no_outline_and_changes_nothing() -> None:
    image, mask = photo(20, 30), np.zeros((20, 30), dtype=bool)
    assert not rendering.outline(mask).any()
    np.testing.assert_array_equal(rendering.overlay(image, mask), image)
    assert not rendering.cut_out(image, mask).any()


def test_an_overlay_tints_the_inside_and_nothing_else() -> None:
    image, mask = photo(60, 80), blob(60, 80)
    before = image.copy()
    result = rendering.overlay(image, mask, RED, opacity=0.25, outline=False)
    expected = np.rint(image * 0.75 + np.array(RED) * 0.25)
    np.testing.assert_allclose(result[mask], expected[mask], atol=1)
    np.testing.assert_array_equal(result[~mask], image[~mask])
    np.testing.assert_array_equal(image, before)


def test_an_overlays_outline_has_the_full_color() -> None:
    image, mask = photo(60, 80), blob(60, 80)
    result = rendering.overlay(image, mask, RED, opacity=0.25)
    assert (result[rendering.outline(mask)] == RED).all()
    np.testing.assert_array_equal(result[~mask], image[~mask])


def test_an_overlay_of_a_read_only_photo_is_writable() -> None:
    image = photo(20, 30)
    image.setflags(write=False)
    assert rendering.overlay(image, np.ones((20, 30), dtype=bool)).flags.writeable


def test_a_cut_out_keeps_the_inside_and_forgets_the_rest() -> None:
    image, mask = photo(60, 80), blob(60, 80)
    result = rendering.cut_out(image, mask)
    np.testing.assert_array_equal(result[..., 3], np.where(mask, 255, 0))
    np.testing.assert_array_equal(result[mask][:, :3], image[mask])
    assert not result[~mask].any()


def test_a_mask_image_is_grey_and_survives_png() -> None:
    mask = blob(61, 83)
    picture = rendering.mask_image(mask)
    assert (picture.mode, picture.size) == ("L", (83, 61))
    again = np.asarray(Image.open(io.BytesIO(rendering.png_bytes(picture))))
    np.testing.assert_array_equal(again, np.where(mask, 255, 0))


def test_png_bytes_take_arrays_too() -> None:
    cut = rendering.cut_out(photo(20, 30), blob(20, 30))
    again = Image.open(io.BytesIO(rendering.png_bytes(cut)))
    assert again.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(again), cut)


@pytest.mark.parametrize("size", [(61, 83), (1, 9), (8, 8), (1, 1)])
def test_a_palette_png_shows_the_mask_and_nothing_outside(size: tuple[int, int]) -> None:
    mask = blob(*size)
    data = rendering.palette_mask_png(mask)
    picture = Image.open(io.BytesIO(data))
    assert picture.mode == "P"
    assert data[24:26] == b"\x01\x03"  # bit depth 1, color type palette
    rgba = np.asarray(picture.convert("RGBA"))
    assert (rgba[mask][:, 3] == 255).all()
    assert not rgba[~mask][:, 3].any()


def quickest(work: Callable[[], object]) -> float:
    """Return the seconds of the quickest of five runs: what a busy machine disturbs least."""

    def once() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return min(once() for _ in range(5))


def test_a_palette_png_is_small_and_quick() -> None:
    y, x = np.mgrid[:768, :1024]
    mask = (y - 380) ** 2 + (x - 500) ** 2 < 300**2
    assert len(rendering.palette_mask_png(mask)) < 4096
    ours = quickest(lambda: rendering.palette_mask_png(mask))
    photograph = np.zeros((768, 1024, 3), np.uint8)
    assert ours < 2 * quickest(lambda: rendering.png_bytes(photograph))  # the emptiest there is


def test_twelve_megapixels_are_quick_however_ragged_the_mask() -> None:
    image = np.zeros((3000, 4000, 3), dtype=np.uint8)
    plain = np.zeros((3000, 4000), dtype=bool)
    plain[500:2500, 1000:3000] = True
    ragged = plain.copy()
    ragged[1000:2000:2, 1500:2500:2] = False
    seconds = [quickest(lambda m=mask: rendering.overlay(image, m)) for mask in (plain, ragged)]
    assert seconds[1] < 3 * seconds[0]


def test_bad_input_is_refused_with_what_was_expected() -> None:
    image, mask = photo(20, 30), blob(20, 30)
    with pytest.raises(ValueError, match=r"mask's size \(20, 30\); got uint8 \(30, 20, 3\)"):
        rendering.overlay(photo(30, 20), mask)
    with pytest.raises(ValueError, match=r"array of bool; got float64 \(20, 30\)"):
        rendering.cut_out(image, mask.astype(float))
    with pytest.raises(ValueError, match=r"got bool \(0, 5\)"):
        rendering.mask_image(np.zeros((0, 5), dtype=bool))
    with pytest.raises(ValueError, match="opacity must lie between 0 and 1"):
        rendering.overlay(image, mask, opacity=50)
    with pytest.raises(ValueError, match="color values"):
        rendering.overlay(image, mask, (0, 0, 256))
    for color in ("red", (1, 2), (1, 2, 3, 4), 7):
        with pytest.raises(ValueError, match="color must be three values, red, green and b"):
            rendering.overlay(image, mask, color)
    with pytest.raises(ValueError, match=r"image must be an \(H, W, 3\) array; got Image"):
        rendering.cut_out(Image.fromarray(image), mask)
    with pytest.raises(ValueError, match=r"mask must be an \(H, W\) array of bool; got list"):
        rendering.mask_image(mask.tolist())
    with pytest.raises(ValueError, match="width_px must be at least 1"):
        rendering.outline(mask, 0)
