"""A comparison in pictures: each model's mask, both outlines, and where the masks differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from mobilesam import rendering
from mobilesam.comparison.comparing import Comparison
from mobilesam.rendering import Color

SIDE = 1280  # px, longest side of the pictures
FIRST_COLOR: Color = (30, 144, 255)  # blue and orange: told apart by all kinds of colour vision
SECOND_COLOR: Color = (255, 149, 0)
BOTH_COLOR: Color = (236, 236, 236)
CASING: Color = (255, 255, 255)  # beside a line, so that it shows on any photo
LINE_SHARE, CASING_SHARE = 3 / 1024, 1.5 / 1024  # of the longer side
DIMMED = 0.45  # brightness left of the photo below a difference map
TINT, BOTH_TINT = 0.82, 0.6  # opacity of a difference map's colours


@dataclass(frozen=True, eq=False)
class ComparisonPictures:
    """Pictures of one comparison, all (h, w, 3) uint8 and of the same size.

    Attributes:
        photo: The photo, at most ``SIDE`` pixels long.
        first: The photo with the first model's mask laid over it.
        second: With the second one's.
        outlines: With both outlines.
        difference: The photo dimmed and grey, the masks in ``FIRST_COLOR`` where only the first
            is, ``SECOND_COLOR`` where only the second is, and ``BOTH_COLOR``.
    """

    photo: np.ndarray
    first: np.ndarray
    second: np.ndarray
    outlines: np.ndarray
    difference: np.ndarray


def draw(photo: np.ndarray, comparison: Comparison, max_side: int = SIDE) -> ComparisonPictures:
    """Draw a comparison.

    Args:
        photo: (H, W, 3) uint8 RGB, the one that was compared on.
        comparison: Of it.
        max_side: The pictures' longest side, pixels; a smaller photo keeps its size.

    Raises:
        ValueError: The photo has another size than the one that was compared on.
    """
    if photo.shape[:2] != comparison.size:
        raise ValueError(
            f"photo must be the one that was compared on, {comparison.size}; got {photo.shape[:2]}."
        )
    scale = min(1.0, max_side / max(comparison.size))
    height, width = (max(1, round(side * scale)) for side in comparison.size)
    small = np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BOX))
    first, second = (
        _shrunk(run.mask, (width, height)) for run in (comparison.first, comparison.second)
    )
    return ComparisonPictures(
        small,
        rendering.overlay(small, first, FIRST_COLOR),
        rendering.overlay(small, second, SECOND_COLOR),
        outlines(small, first, second),
        difference(small, first, second),
    )


def outlines(photo: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Draw two masks' outlines on a photo.

    The first runs inside its mask and the second outside, so that both show where they agree.

    Args:
        photo: (H, W, 3) uint8 RGB; not changed.
        first: (H, W) bool.
        second: (H, W) bool.
    """
    longer = max(first.shape)
    width, casing = max(1, round(longer * LINE_SHARE)), max(1, round(longer * CASING_SHARE))
    inner, outer = rendering.outline(first, width), _outer_edge(second, width)
    result = photo.copy()
    result[_outer_edge(inner | outer, casing)] = CASING
    result[inner] = FIRST_COLOR
    result[outer] = SECOND_COLOR
    return result


def difference(photo: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Colour a dimmed photo by which of two masks is where.

    Args and the result are those of ``outlines``.
    """
    grey = np.asarray(Image.fromarray(photo).convert("L"), np.float32)[..., None] * DIMMED
    result = np.repeat(grey, 3, axis=2)
    for part, color, tint in (
        (first & ~second, FIRST_COLOR, TINT),
        (second & ~first, SECOND_COLOR, TINT),
        (first & second, BOTH_COLOR, BOTH_TINT),
    ):
        result[part] = (1 - tint) * result[part] + tint * np.array(color, np.float32)
    return result.astype(np.uint8)


def _outer_edge(mask: np.ndarray, width_px: int) -> np.ndarray:
    """Return the pixels outside a mask that lie within ``width_px`` of it."""
    outside = np.pad(~mask, width_px, constant_values=True)  # the picture's edge is no edge
    edge = rendering.outline(outside, width_px)
    return edge[width_px:-width_px, width_px:-width_px]


def _shrunk(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if mask.shape == size[::-1]:
        return mask
    grey = rendering.mask_image(mask).resize(size, Image.Resampling.BOX)
    return np.asarray(grey) >= 128
