"""Photos with object masks in SA-1B's layout: ``sa_N.jpg``, and ``sa_N.json`` with run lengths."""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mobilesam import rle
from mobilesam.training.sources import Reports, Sample, Window, window_of

SET_NAME = "sa1b"
VAL_ONE_IN = 50  # photos; which ones, the CRC32 of their file names decides
SPLITS = ("train", "val")
HEADERS_AT_ONCE = 16
HEADERS_IN_A_ROW = 256
MAX_STEP = 8  # a JPEG can be decoded at a half, a quarter or an eighth of its sides

logger = logging.getLogger(__name__)


class RunLengths:
    """The masks of one photo as compressed run lengths.

    Args:
        sample: The photo.
        annotations: SA-1B's: each with ``segmentation``, ``bbox`` (x, y, width, height) and
            ``area``.
        reports: Where a mask that is damaged is reported.

    Raises:
        ValueError: If an annotation is of another size than the photo, or damaged.
    """

    def __init__(
        self, sample: Sample, annotations: Sequence[Mapping[str, Any]], reports: Reports
    ) -> None:
        self._sample, self._reports = sample, reports
        texts = [_text_of(annotation, sample.size) for annotation in annotations]
        # One run of bytes instead of many objects: worker processes share it without a copy.
        self._text = "".join(texts).encode("ascii")
        self._ends = np.cumsum([0, *map(len, texts)])
        self.nbytes = len(self._text)
        self.areas = np.array([annotation["area"] for annotation in annotations], np.int64)
        boxes = np.array([annotation["bbox"] for annotation in annotations], np.float64)
        if not np.isfinite(boxes).all():
            raise ValueError("a box that is not finite")
        boxes = boxes.reshape(-1, 4)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:] + 1], axis=1)
        height, width = sample.size  # SA-1B's widths are without the last column: hence + 1
        self.boxes = np.clip(corners, 0, [width, height, width, height]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.areas)

    def mask(self, index: int, window: Window | None = None, step: int = 1) -> np.ndarray:
        """Return one mask, as ``Objects.mask``."""
        height, width = self._sample.size
        text = self._text[self._ends[index] : self._ends[index + 1]]
        x0, y0, x1, y1 = window or (0, 0, -(-width // step), -(-height // step))
        first, last = max(x0 * step, 0), min(x1 * step, width)
        if first >= last:  # beside the photo
            return np.zeros((y1 - y0, x1 - x0), bool)
        with self._reports.reading(self._sample, f"its mask {index}"):
            columns = rle.decode({"size": (height, width), "counts": text}, (first, last))
            whole = (first, last) == (0, width)
            if whole and self.areas[index] > 0 and not columns.any():
                raise ValueError(f"it is empty, and {self.areas[index]} pixels were announced")
        shift = first // step
        return window_of(columns, (x0 - shift, y0, x1 - shift, y1), step)

    def valid(self, index: int, window: Window | None = None, step: int = 1) -> None:
        """Return None: everything is known, as in ``Objects.valid``."""


def _text_of(annotation: Mapping[str, Any], size: tuple[int, int]) -> str:
    spelled = annotation["segmentation"]
    if tuple(spelled["size"]) != size:
        raise ValueError(f"a mask of size {spelled['size']} on a photo of {list(size)}")
    counts = spelled["counts"]
    return counts if isinstance(counts, str) else rle.compress(spelled)["counts"]


class Listing(NamedTuple):
    """What lies in a folder in SA-1B's layout or below it.

    Attributes:
        photos: Paths of the ``sa_*.jpg`` relative to the folder, in the order of their parts.
        annotated: Those of the ``sa_*.json``, without the ending.
    """

    photos: list[str]
    annotated: set[str]


def has_photos(folder: Path) -> bool:
    """Tell whether there is any ``sa_*.jpg`` in a folder or below it; the first one ends this."""
    return any(_is_photo(name) for _, _, names in os.walk(folder) for name in names)


def _is_photo(name: str) -> bool:
    return name.startswith("sa_") and name.endswith(".jpg")


def list_photos(folder: Path) -> Listing:
    """Walk once through a folder and all below it; nothing is opened."""
    photos, annotated = [], set()
    for place, _, names in os.walk(folder):
        below = os.path.relpath(place, folder)
        prefix = "" if below == os.curdir else f"{below}{os.sep}"
        for name in names:
            if _is_photo(name):
                photos.append(prefix + name)
            elif name.startswith("sa_") and name.endswith(".json"):
                annotated.add(prefix + name.removesuffix(".json"))
    return Listing(sorted(photos, key=lambda path: path.split(os.sep)), annotated)


class SA1BFolder:
    """The photos of one split of a folder in SA-1B's layout, readable in any order.

    ``sa_N.jpg`` and ``sa_N.json`` lie beside each other, in the folder or anywhere below it. A
    photo without a JSON file is one without masks. Masks are decoded when they are asked for.

    Args:
        folder: Where they lie.
        split: ``val`` is about one photo in fifty, by the CRC32 of its file name, so that it stays
            the same when the folder grows; ``train`` is the rest.
        limit: How many photos are wanted, the first ones; of the others not even a header is read.
        listing: What ``list_photos`` says of the folder, where somebody has asked already.

    Raises:
        FileNotFoundError: If there is no such photo.
        ValueError: If ``split`` is another one.
    """

    max_step = MAX_STEP

    def __init__(
        self,
        folder: str | Path,
        split: str,
        *,
        limit: int | None = None,
        listing: Listing | None = None,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(
                f"A folder in SA-1B's layout has the splits {' and '.join(SPLITS)}; got {split!r}. "
                "Choose one of them."
            )
        self.folder = Path(folder)
        found, annotated = listing or list_photos(self.folder)
        mine = [p for p in found if _falls_to_val(os.path.basename(p)) == (split == "val")]
        if not mine:
            raise FileNotFoundError(
                f"None of the {len(found)} sa_*.jpg in {self.folder.resolve()} falls to {split}, "
                f"which takes about {'one' if split == 'val' else VAL_ONE_IN - 1} in {VAL_ONE_IN}; "
                "name another folder with --data."
            )
        self.samples: list[Sample] = []
        for name, size in _sizes_of(self.folder, mine):
            if len(self.samples) == limit:
                break
            if size is not None:
                stem = name.removesuffix(".jpg")
                key, place = Path(stem).as_posix(), self.folder / name
                number, has_masks = len(self.samples), stem in annotated
                self.samples.append(Sample(number, key, SET_NAME, size, has_masks, place))
        bare = [sample.key for sample in self.samples if not sample.has_masks]
        if bare:
            logger.warning(
                "%d photos have no JSON file, so they are used without masks; the first is %s.",
                len(bare),
                bare[0],
            )
        self._reports = Reports(len(self.samples))

    def __len__(self) -> int:
        return len(self.samples)

    def photo(self, sample: Sample, step: int = 1) -> Image.Image:
        """Read a photo, as ``Source.photo``; a JPEG is only decoded as finely as asked for."""
        height, width = sample.size
        with self._reports.reading(sample, "its photo"), Image.open(sample.place) as opened:
            if opened.size != (width, height):
                raise ValueError(f"it is now {opened.width}×{opened.height}, not {width}×{height}")
            opened.draft("RGB", (width // step, height // step))
            photo = opened.convert("RGB")
        wanted = (-(-width // step), -(-height // step))
        return photo if photo.size == wanted else photo.reduce(step)

    def objects(self, sample: Sample) -> RunLengths:
        """Read a photo's masks, as ``Source.objects``."""
        if not sample.has_masks:
            return RunLengths(sample, [], self._reports)
        with self._reports.reading(sample, "its JSON file"):
            content = json.loads(sample.place.with_suffix(".json").read_bytes())
            return RunLengths(sample, content["annotations"], self._reports)


def _falls_to_val(name: str) -> bool:
    return zlib.crc32(name.encode()) % VAL_ONE_IN == 0


def _sizes_of(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, tuple[int, int] | None]]:
    """Yield each photo with its size; hardly more headers are read than are asked for."""
    with ThreadPoolExecutor(HEADERS_AT_ONCE) as pool:
        for start in range(0, len(names), HEADERS_IN_A_ROW):
            some = names[start : start + HEADERS_IN_A_ROW]
            yield from zip(some, pool.map(_size_of, [folder / n for n in some]), strict=True)


def _size_of(path: Path) -> tuple[int, int] | None:
    """Return a photo's (height, width) from its header; None, with a warning, if it is damaged."""
    try:
        with Image.open(path) as photo:
            return photo.size[::-1]
    except Exception as error:  # a damaged file can make a decoder fail in any way
        logger.warning("%s is skipped: it is damaged (%s).", path.name, error)
        return None
