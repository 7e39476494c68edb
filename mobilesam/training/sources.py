"""Where photos with object masks come from: what every source offers, and which one a folder is."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_bool
from dataclasses import dataclass, field
from multiprocessing import Array
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

logger = logging.getLogger(__name__)

Window = tuple[int, int, int, int]  # x0, y0, x1, y1, pixels; it may reach beyond the photo


class SampleError(ValueError):
    """One photo, or its masks, cannot be read; the others can. Skip it: the log tells why."""


@dataclass(frozen=True)
class Sample:
    """One photo of a source.

    Attributes:
        index: Its place in ``Source.samples``.
        key: Its name within the source.
        set_name: The data set that it comes from.
        size: (height, width), pixels.
        has_masks: False where it is known to have none.
        place: Where its source finds it; of no use to others.
    """

    index: int
    key: str
    set_name: str
    size: tuple[int, int]
    has_masks: bool = True
    place: Any = field(default=None, repr=False, compare=False)


class Objects(Protocol):
    """The object masks of one photo, each made when it is asked for.

    Attributes:
        areas: (K,) int64, pixels.
        boxes: (K, 4) int64 x0, y0, x1, y1 round each, tight or nearly so, pixels of the photo.
        nbytes: How much memory it all takes.
    """

    areas: np.ndarray
    boxes: np.ndarray
    nbytes: int

    def __len__(self) -> int:
        """Return K."""

    def mask(self, index: int, window: Window | None = None, step: int = 1) -> np.ndarray:
        """Return one mask.

        Args:
            index: 0 to K - 1.
            window: The part wanted, in pixels of the photo reduced by ``step``; False beyond the
                photo. The whole photo if left out.
            step: Take only the middle one of so many pixels, along both axes.

        Returns:
            (H, W) bool, or of the window's size.

        Raises:
            SampleError: If the mask is damaged.
        """

    def valid(self, index: int, window: Window | None = None, step: int = 1) -> np.ndarray | None:
        """Return where that mask is known, as ``mask`` does; None where everything is."""


class Source(Protocol):
    """All photos of a split, readable in any order, from any process.

    Attributes:
        samples: The photos.
        max_step: By how much ``photo`` can reduce at a gain: 1, 2, 4 or 8.
    """

    samples: list[Sample]
    max_step: int

    def photo(self, sample: Sample, step: int = 1) -> Image.Image:
        """Read a photo, RGB; its sides divided by ``step`` and rounded up.

        Raises:
            SampleError: If it cannot be read; the log says so once.
        """

    def objects(self, sample: Sample) -> Objects:
        """Read a photo's masks; none at all where it has none.

        Raises:
            SampleError: If they cannot be read; the log says so once.
        """


class Reports:
    """Say once what is wrong with a sample, however many worker processes meet it."""

    def __init__(self, samples: int) -> None:
        self._said = Array(c_bool, max(1, samples))

    @contextmanager
    def reading(self, sample: Sample, what: str) -> Iterator[None]:
        """Turn whatever goes wrong inside into a ``SampleError``, and log it the first time."""
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # a damaged file can make a decoder fail in any way
            why = f"{type(error).__name__}: {error}"
            text = f"{sample.key} is skipped: {what} cannot be used ({why})."
            with self._said.get_lock():  # two processes may meet it at the same moment
                is_first = not self._said[sample.index]
                self._said[sample.index] = True
            if is_first:
                logger.warning("%s", text)
            raise SampleError(text) from error


def window_of(pixels: np.ndarray, window: Window | None = None, step: int = 1) -> np.ndarray:
    """Cut a window out of an (H, W) array that is reduced by ``step``; 0 beyond its edges.

    Of every ``step`` rows and columns the middle ones are taken.
    """
    height, width = (-(-side // step) for side in pixels.shape)
    x0, y0, x1, y1 = window or (0, 0, width, height)
    pixels = pixels[step // 2 :: step, step // 2 :: step]
    height, width = pixels.shape
    if x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height:
        return pixels[y0:y1, x0:x1]
    out = np.zeros((y1 - y0, x1 - x0), pixels.dtype)
    inside = pixels[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    top, left = max(-y0, 0), max(-x0, 0)
    out[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return out


def open_source(folder: str | Path, split: str, limit: int | None = None) -> Source:
    """Open a folder of photos with masks, in whichever layout it is.

    ``SPLIT-000.tar``, ``SPLIT-001.tar``... are shards of photos and label maps. ``sa_*.jpg`` with
    ``sa_*.json`` beside them, in the folder or below it, are in SA-1B's layout; about 2 % of those
    photos, always the same, are the split ``val``, and the rest is ``train``.

    Args:
        folder: Where they lie.
        split: ``train`` or ``val``.
        limit: How many photos are wanted, the first ones; a source may then leave out the others.

    Raises:
        FileNotFoundError: If the folder holds neither.
        ValueError: If there can be no such split.
    """
    from mobilesam.training.sa1b import SA1BFolder, list_photos
    from mobilesam.training.shards import Shards

    folder = Path(folder)
    if _has_shards(folder, split):
        return Shards(folder, split)
    listing = list_photos(folder)
    if listing.photos:
        return SA1BFolder(folder, split, limit=limit, listing=listing)
    raise _nothing_in(folder, split)


def check_source(folder: str | Path, split: str) -> None:
    """Check, by names alone, that a folder has what ``open_source`` opens; that takes longer.

    Raises:
        FileNotFoundError: If it has not.
        ValueError: If there can be no such split.
    """
    from mobilesam.training.sa1b import has_photos

    folder = Path(folder)
    if not (_has_shards(folder, split) or has_photos(folder)):
        raise _nothing_in(folder, split)


def shards_of(folder: Path, split: str) -> Iterator[Path]:
    """Find the tar files of a split, in any order.

    Raises:
        ValueError: If ``split`` cannot be the beginning of their names.
    """
    if not re.fullmatch(r"[\w.-]+", split):
        raise ValueError(
            f"A split is called as its tar files begin, of letters, digits, '-', '_' and '.'; got "
            f"{split!r}. Give train or val."
        )
    return folder.glob(f"{split}-*.tar")


def _has_shards(folder: Path, split: str) -> bool:
    return any(shards_of(folder, split))


def _nothing_in(folder: Path, split: str) -> FileNotFoundError:
    if not folder.is_dir():
        found = "is no folder"
    else:
        found = "holds neither" if any(folder.iterdir()) else "is empty"
    return FileNotFoundError(
        f"{folder.resolve()} {found}; expected {split}-*.tar, or sa_*.jpg with sa_*.json as SA-1B "
        "has them. Name the folder with --data."
    )
