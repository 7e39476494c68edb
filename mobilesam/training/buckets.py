"""Aspect ratios: photos of about the same one share a batch, so that nothing is padded."""

from __future__ import annotations

import math

from mobilesam.training.data_config import BUCKET_STEP

Shape = tuple[int, int]


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

    Args:
        buckets: The photos of each (h, w).
        fewest: Photos that each must have in the end, unless it has them all.

    Returns:
        All the photos, by those (h, w) that are left.
    """
    joined = dict(buckets)
    while len(joined) > 1:
        rarest = min(joined, key=lambda shape: (len(joined[shape]), shape))
        if len(joined[rarest]) >= fewest:
            break
        photos = joined.pop(rarest)
        ratio = rarest[0] / rarest[1]
        nearest = min(joined, key=lambda shape: (abs(math.log(shape[0] / shape[1] / ratio)), shape))
        joined[nearest] = sorted([*joined[nearest], *photos])
    return joined
