"""Masks made visible: overlay, outline, cut-out, and the images they are saved as.

Only numpy and Pillow; arrays are (H, W) or (H, W, 3) as everywhere. Work is confined to the mask's
bounding box, so that a small object on a large photo costs little more than a copy of the photo.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mobilesam.masks import mask_to_box

DODGER_BLUE = (30, 144, 255)  # stands out on most photos, also for red-green-blind eyes
OUTLINE_SHARE = 1 / 512  # of the longer side: 2 px at 1024
PNG_COMPRESS_LEVEL = 1  # photographs: 3 to 5 times as fast as zlib's default, about 5 % larger

Color = tuple[int, int, int]


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    color: Color = DODGER_BLUE,
    opacity: float = 0.5,
    outline: bool = True,
    alpha: np.ndarray | None = None,
) -> np.ndarray:
    """Tint the masked part of a photo, and draw the mask's outline in the full color.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        mask: (H, W) bool.
        color: RGB, 0-255.
        opacity: Of the tint, 0 to 1.
        outline: Whether to draw the outline.
        alpha: (H, W) uint8, the mask with a feathered edge: the tint then fades along it, and no
            outline is drawn.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: The shapes do not fit, or the color or the opacity is out of range.
    """
    _check_pair(image, mask)
    _check_color(color)
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie between 0 and 1; got {opacity}.")
    result = np.array(image, dtype=np.uint8, order="C")
    window = mask_window(mask if alpha is None else _seen(mask, alpha))
    if window is None:
        return result
    inside, pixels = mask[window], result[window]
    if alpha is not None:
        share = alpha[window][..., None] * np.float32(opacity / 255)
        pixels[...] = np.rint(pixels + (np.array(color, np.float32) - pixels) * share)
        return result
    for channel, value in enumerate(color):
        plane = pixels[..., channel]
        blended = np.arange(256) * (1 - opacity) + value * opacity
        np.copyto(plane, np.rint(blended).astype(np.uint8)[plane], where=inside)
    if outline:
        pixels[_inner_edge(inside, _line_width(mask.shape))] = color
    return result


def outline(mask: np.ndarray, width_px: int | None = None) -> np.ndarray:
    """Return the mask's pixels that lie within `width_px` of a pixel outside it.

    What lies beyond the picture counts as outside, so the line is closed along the picture's edge.

    Args:
        mask: (H, W) bool.
        width_px: Of the line; by default in proportion to the picture, 2 at 1024.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: The mask is not two-dimensional, or the width is less than 1.
    """
    _check_mask(mask)
    width_px = _line_width(mask.shape) if width_px is None else width_px
    if width_px < 1:
        raise ValueError(f"width_px must be at least 1; got {width_px}.")
    result = np.zeros(mask.shape, dtype=bool)
    window = mask_window(mask)
    if window is not None:
        result[window] = _inner_edge(mask[window], width_px)
    return result


def cut_out(image: np.ndarray, mask: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
    """Return the masked part of a photo on a transparent background, at the photo's own size.

    Transparent pixels are black: what was cut away cannot be brought back from the file.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool.
        alpha: (H, W) uint8, the mask with a feathered edge; what it shows is in the file.

    Returns:
        (H, W, 4) uint8 RGBA; alpha is 255 inside the mask and 0 outside, or what was given.

    Raises:
        ValueError: The shapes do not fit.
    """
    _check_pair(image, mask)
    seen = mask if alpha is None else _seen(mask, alpha)
    result = np.zeros((*mask.shape, 4), dtype=np.uint8)
    window = mask_window(seen)
    if window is not None:
        inside = seen[window]
        np.copyto(result[window][..., :3], image[window], where=inside[..., None])
        np.copyto(result[window][..., 3], 255 if alpha is None else alpha[window], where=inside)
    return result


def mask_image(mask: np.ndarray) -> Image.Image:
    """Return a (H, W) bool mask as a grey image, 255 inside and 0 outside."""
    _check_mask(mask)
    return Image.fromarray(mask.astype(np.uint8) * np.uint8(255))


def png_bytes(picture: np.ndarray | Image.Image) -> bytes:
    """Encode a picture as PNG, rather quickly than in the fewest bytes.

    Args:
        picture: An image, or an array that Pillow takes: (H, W), (H, W, 3) or (H, W, 4) uint8.
    """
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=PNG_COMPRESS_LEVEL)
    return buffer.getvalue()


def palette_mask_png(mask: np.ndarray) -> bytes:
    """Encode a mask as the smallest PNG a browser can paint: one bit a pixel, clear outside.

    Args:
        mask: (H, W) bool; at most about 1024 px a side where it answers a click.

    Raises:
        ValueError: The mask is not two-dimensional.
    """
    _check_mask(mask)
    height, width = mask.shape
    indices = Image.frombytes("P", (width, height), mask.astype(np.uint8).tobytes())
    indices.putpalette((0, 0, 0, *DODGER_BLUE))
    buffer = io.BytesIO()
    indices.save(buffer, "PNG", bits=1, transparency=bytes((0, 255)))
    return buffer.getvalue()


def alpha_mask_png(alpha: np.ndarray) -> bytes:
    """Encode a mask with a soft edge as a small PNG whose transparency is the mask.

    Args:
        alpha: (H, W) uint8, 255 inside and 0 outside.

    Raises:
        ValueError: It has another shape or type.
    """
    if alpha.ndim != 2 or alpha.dtype != np.uint8 or not alpha.size:
        raise ValueError(f"alpha must be (H, W) uint8; got {alpha.dtype} {alpha.shape}.")
    height, width = alpha.shape
    indices = Image.frombytes("P", (width, height), alpha.tobytes())
    indices.putpalette((*DODGER_BLUE,) * 256)
    buffer = io.BytesIO()
    indices.save(buffer, "PNG", transparency=bytes(range(256)))
    return buffer.getvalue()


def mask_window(mask: np.ndarray) -> tuple[slice, slice] | None:
    """Return a (H, W) bool mask's bounding box as slices of rows and columns; None if it is empty.

    Raises:
        ValueError: The mask is not a non-empty two-dimensional array of bool.
    """
    _check_mask(mask)
    x0, y0, x1, y1 = (int(side) for side in mask_to_box(mask))
    return (slice(y0, y1), slice(x0, x1)) if x1 else None


def _inner_edge(mask: np.ndarray, width_px: int) -> np.ndarray:
    """Return the pixels of a mask within `width_px` of its outside, Euclidean.

    Whether a row has outside pixels near x is told by a running count of them, one subtraction for
    any reach; so the time depends on the mask's size alone, not on how ragged it is.
    """
    height, width = mask.shape
    outside = np.pad(~mask, width_px, constant_values=True)
    counts = np.zeros((outside.shape[0], outside.shape[1] + 1), dtype=np.uint16)
    np.cumsum(outside, axis=1, dtype=np.uint16, out=counts[:, 1:])  # may wrap: only compared
    near = np.zeros(mask.shape, dtype=bool)
    for down in range(width_px + 1):
        reach = math.isqrt(width_px**2 - down**2)
        left = counts[:, width_px - reach : width_px - reach + width]
        right = counts[:, width_px + reach + 1 : width_px + reach + 1 + width]
        in_row = left != right
        near |= in_row[width_px + down : width_px + down + height]
        near |= in_row[width_px - down : width_px - down + height]
    return near & mask


def _line_width(shape: tuple[int, ...]) -> int:
    return max(1, round(max(shape) * OUTLINE_SHARE))


def _check_mask(mask: np.ndarray) -> None:
    if not isinstance(mask, np.ndarray):
        raise ValueError(f"mask must be an (H, W) array of bool; got {type(mask).__name__}.")
    if mask.ndim != 2 or mask.dtype != bool or not mask.size:
        raise ValueError(
            f"mask must be a non-empty (H, W) array of bool; got {mask.dtype} {mask.shape}."
        )


def _check_pair(image: np.ndarray, mask: np.ndarray) -> None:
    _check_mask(mask)
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image must be an (H, W, 3) array; got {type(image).__name__}.")
    if image.shape != (*mask.shape, 3) or image.dtype != np.uint8:
        raise ValueError(
            f"image must be (H, W, 3) uint8 and of the mask's size {mask.shape};"
            f" got {image.dtype} {image.shape}."
        )


def _seen(mask: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return the (H, W) bool pixels that a feathered mask shows."""
    if alpha.shape != mask.shape or alpha.dtype != np.uint8:
        raise ValueError(
            f"alpha must be (H, W) uint8 of the mask's size {mask.shape};"
            f" got {alpha.dtype} {alpha.shape}."
        )
    return alpha > 0


def _check_color(color: Sequence[int]) -> None:
    if isinstance(color, str) or np.shape(color) != (3,):
        raise ValueError(f"color must be three values, red, green and blue; got {color!r:.60}.")
    if not all(0 <= value <= 255 for value in color):
        raise ValueError(f"color values must lie between 0 and 255; got {color}.")
