"""Aspect ratios: photos of about the same one share a batch, so that nothing is padded."""

from __future__ import annotations

import math

from mobilesam.training.data_config import BUCKET_STEP

Shape = tuple[int, int]
MOST_STRETCH = 1.25  # of a photo, so that it fills the frame of another aspect ratio


def bucket_of(size: tuple[int, int], image_size: int) -> tuple[int, int]:
    """Return the (h, w) that photos of about this aspect ratio are brought to in a batch."""
    scale = image_size / max(size)
    h, w = (
        min(image_size, max(BUCKET_STEP, round(side * scale / BUCKET_STEP) * BUCKET_STEP))
        for side in size
    )
    return h, w


def join_small(buckets: dict[Shape, list[int]], fewest: int) -> dict[Shape, list[int]]:
    """Let photos of rare aspect ratios join those of the nearest one, rarest first.

    None is stretched by more than ``MOST_STRETCH``: a photo that has no others near enough keeps
    its own aspect ratio, however rare.

    Args:
        buckets: The photos of each (h, w).
        fewest: Photos that each should have in the end.

    Returns:
        All the photos, by those (h, w) that are left.
    """
    joined, origins = dict(buckets), {shape: [shape] for shape in buckets}
    left = set(buckets)
    while left:
        rarest = min(left, key=lambda shape: (len(joined[shape]), shape))
        left.remove(rarest)
        if len(joined[rarest]) >= fewest:
            break
        near = [
            shape
            for shape in joined
            if shape != rarest
            and all(_stretch(origin, shape) <= MOST_STRETCH for origin in origins[rarest])
        ]
        if near:
            nearest = min(near, key=lambda shape: (_stretch(rarest, shape), shape))
            joined[nearest] = sorted([*joined[nearest], *joined.pop(rarest)])
            origins[nearest] += origins.pop(rarest)
    return joined


def _stretch(one: Shape, other: Shape) -> float:
    """By how much more one side of a photo is resized than the other; 1 for not at all."""
    return math.exp(abs(math.log(one[0] / one[1] * other[1] / other[0])))
