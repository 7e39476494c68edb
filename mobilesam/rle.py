"""Masks as run lengths, in COCO's two spellings.

A mask is read down its columns, from the left one to the right one. The counts tell how many
pixels of 0, then of 1, then of 0... follow each other; the first count is 0 where the mask begins
with a 1. ``{"size": [height, width], "counts": [...]}`` is the uncompressed spelling, which SAM
calls ``uncompressed_rle``.

The compressed spelling holds the same counts as text. From the fourth count on, the difference
from the count two places before takes the count's place. A number is cut into groups of five
bits, the lowest first, as few as hold it with its sign (two's complement). A group becomes one
character: ``0`` plus the group, plus 32 where another group of that number follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

TILE = 256  # px: a square of this side is transposed at a time, so that it stays in the cache
GROUP_BITS = 5
GROUP_MASK = (1 << GROUP_BITS) - 1
SIGN = 1 << (GROUP_BITS - 1)  # in the last group of a number
MORE = 1 << GROUP_BITS  # in every group but the last of a number
FIRST_CHARACTER = ord("0")
MAX_GROUPS = 12  # of one number: more do not fit into 64 bits


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Turn an (H, W) bool mask into uncompressed run lengths.

    Returns:
        ``size`` as ``[H, W]`` and ``counts`` as a list of int.

    Raises:
        ValueError: If ``mask`` is no 2-D bool array, or has no pixels.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.ndim != 2 or not mask.size:
        got = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise ValueError(
            f"A mask to encode must be an (H, W) bool array with pixels; got {got}. "
            "Compare it first, as in mask > 0."
        )
    flat = np.empty(mask.size, bool)
    _transpose(mask, flat.reshape(mask.shape[::-1]))
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts_with_one = [0] if flat[0] else []
    ends = np.concatenate([starts_with_one, changes, [flat.size]]).astype(np.int64)
    return {"size": list(mask.shape), "counts": np.diff(ends, prepend=0).tolist()}


def decode(rle: Mapping[str, Any], columns: tuple[int, int] | None = None) -> np.ndarray:
    """Turn run lengths, compressed or not, into a mask.

    Args:
        rle: ``size`` as (H, W), and ``counts`` as integers or as COCO's text (str or bytes).
        columns: Decode only columns x0 up to, but without, x1; all of them if left out.

    Returns:
        (H, W) bool, or (H, x1 - x0).

    Raises:
        ValueError: If ``size`` or ``counts`` are missing or damaged, do not belong together, or
            ``columns`` do not lie in the mask.
    """
    (height, width), counts = _checked(rle)
    x0, x1 = columns or (0, width)
    if not 0 <= x0 < x1 <= width:
        raise ValueError(
            f"columns must be (x0, x1) with 0 <= x0 < x1 <= {width}; got {columns}. "
            "Clip them to the mask."
        )
    mask = np.zeros((height, x1 - x0), bool)
    ends = np.cumsum(counts)
    if len(counts) < 2:  # no pixel is 1
        return mask
    last_one = ends[len(ends) // 2 * 2 - 1]
    first, last = max(x0, ends[0] // height), min(x1, -(-last_one // height))
    if first < last:  # columns from the first 1 to the last: often a small part
        inside = np.clip(ends, first * height, last * height)
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, np.diff(inside, prepend=first * height))
        _transpose(flat.reshape(last - first, height), mask[:, first - x0 : last - x0])
    return mask


def area(rle: Mapping[str, Any]) -> int:
    """Count a mask's pixels from its run lengths.

    Raises:
        ValueError: As ``decode``.
    """
    return int(_checked(rle)[1][1::2].sum())


def compress(rle: Mapping[str, Any]) -> dict[str, Any]:
    """Turn run lengths into COCO's compressed spelling, as pycocotools writes it.

    Returns:
        ``size`` as ``[H, W]`` and ``counts`` as a str, fit for JSON.

    Raises:
        ValueError: As ``decode``.
    """
    size, counts = _checked(rle)
    numbers = counts.copy()
    numbers[3:] -= counts[1:-2]
    groups, left = [], numbers
    unwritten = np.ones(len(numbers), bool)
    while unwritten.any():
        bits = left & GROUP_MASK
        left = left >> GROUP_BITS
        more = left != np.where(bits & SIGN, -1, 0)  # the rest is more than the sign repeated
        character = FIRST_CHARACTER + bits + np.where(more, MORE, 0)
        groups.append(np.where(unwritten, character, 0))
        unwritten = unwritten & more
    characters = np.stack(groups, axis=1).ravel()  # number after number; 0 where it is short
    text = characters[characters > 0].astype(np.uint8).tobytes().decode("ascii")
    return {"size": list(size), "counts": text}


def _transpose(pixels: np.ndarray, out: np.ndarray) -> None:
    """Write the transpose of an (H, W) array into ``out``, (W, H)."""
    height, width = pixels.shape
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            out[x : x + TILE, y : y + TILE] = pixels[y : y + TILE, x : x + TILE].T


def _checked(rle: Mapping[str, Any]) -> tuple[tuple[int, int], np.ndarray]:
    """Return the (height, width) and the counts, int64."""
    if not isinstance(rle, Mapping) or "size" not in rle or "counts" not in rle:
        got = f"keys {sorted(map(str, rle))}" if isinstance(rle, Mapping) else type(rle).__name__
        raise ValueError(f"Run lengths must be a dict with size and counts; got {got}. Add them.")
    size = _integers(rle["size"])
    if size is None or len(size) != 2 or size.min() < 1:
        raise ValueError(
            f"size must be [height, width], two positive integers; got {rle['size']!r}. Correct it."
        )
    height, width = (int(side) for side in size)
    spelled = rle["counts"]
    counts = _read_text(spelled) if isinstance(spelled, str | bytes) else _integers(spelled)
    if counts is None:
        raise ValueError(
            f"counts must be integers, or COCO's text; got {_shortened(spelled)}. Encode it again."
        )
    if len(counts) and counts.min() < 0:
        raise ValueError(
            f"counts must not be negative; got {counts.min()} in {_shortened(spelled)}. "
            "The run lengths are damaged: encode the mask again."
        )
    total = int(counts.sum(dtype=np.float64))  # cannot wrap round as integers do
    if total != height * width:
        raise ValueError(
            f"counts must add up to {height * width}, the pixels of {height} rows and {width} "
            f"columns; got {total}. Give the size the mask was encoded with."
        )
    return (height, width), counts


def _integers(values: Any) -> np.ndarray | None:
    """Return a 1-D int64 array, or None where the values are something else."""
    try:
        found = np.asarray(values if len(values) else np.empty(0, np.int64))
    except (TypeError, ValueError):  # no sequence, or one of unlike things
        return None
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        return None
    return found.astype(np.int64)


def _read_text(text: str | bytes) -> np.ndarray:
    """Read the counts from COCO's text."""
    code = text.encode("utf-8", "replace") if isinstance(text, str) else text
    groups = np.frombuffer(code, np.uint8).astype(np.int64) - FIRST_CHARACTER
    if len(groups) and (groups.min() < 0 or groups.max() >= 2 * MORE):
        raise ValueError(
            f"counts as text may hold the characters 0 to o of ASCII; got {_shortened(text)}. "
            "It is no COCO run-length text, or damaged: encode the mask again."
        )
    is_last = groups & MORE == 0
    ends = np.flatnonzero(is_last)
    if len(groups) and not is_last[-1]:
        raise ValueError(
            f"counts as text must end with a whole number; got {_shortened(text)}, cut off. "
            "Encode the mask again."
        )
    if not len(ends):
        return np.empty(0, np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends + 1 - starts
    if lengths.max() > MAX_GROUPS:
        raise ValueError(
            f"counts as text must hold numbers of at most {MAX_GROUPS} characters; got one of "
            f"{lengths.max()} in {_shortened(text)}. Encode the mask again."
        )
    place = np.arange(len(groups)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((groups & GROUP_MASK) << (GROUP_BITS * place), starts)
    negative = groups[ends] & SIGN != 0
    numbers = numbers - np.where(negative, np.int64(1) << (GROUP_BITS * lengths), 0)
    for first in (1, 2):  # odd and even places hold differences of their own
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
