"""Photos with object masks in tar files: one photo, and label maps whose values are the masks."""

from __future__ import annotations

import io
import logging
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mobilesam.masks import mask_to_box
from mobilesam.training.sources import Reports, Sample, Window, shards_of, window_of

logger = logging.getLogger(__name__)

IGNORE = 255  # label of pixels that belong to neither side
Place = tuple[int, int, int]  # file index, offset, length


class LabelMaps:
    """The masks of one photo, from maps in which every value but 0 and 255 is a mask.

    Args:
        maps: (H, W) uint8 each: 0 unlabelled, 255 ignore.
    """

    def __init__(self, maps: Sequence[np.ndarray]) -> None:
        self.maps = maps
        self.places: list[tuple[int, int]] = []  # of each mask: its map's index, its label
        areas, boxes = [], []
        for index, labels in enumerate(maps):
            highest = int(labels.max(initial=0, where=labels != IGNORE))
            for label in range(1, highest + 1):  # quicker than counting all values at once
                mask = labels == label
                if area := np.count_nonzero(mask):
                    self.places.append((index, label))
                    areas.append(area)
                    boxes.append(mask_to_box(mask))
        self.areas = np.array(areas, np.int64)
        self.boxes = np.array(boxes, np.int64).reshape(-1, 4)
        self.nbytes = sum(labels.nbytes for labels in maps)
        self._ignores = [bool((labels == IGNORE).any()) for labels in maps]

    def __len__(self) -> int:
        return len(self.places)

    def mask(self, index: int, window: Window | None = None, step: int = 1) -> np.ndarray:
        """Return one mask, as ``Objects.mask``."""
        map_index, label = self.places[index]
        return window_of(self.maps[map_index], window, step) == label

    def valid(self, index: int, window: Window | None = None, step: int = 1) -> np.ndarray | None:
        """Return where the label map does not say ignore, as ``Objects.valid``."""
        map_index, _ = self.places[index]
        if not self._ignores[map_index]:
            return None
        return window_of(self.maps[map_index], window, step) != IGNORE


class Shards:
    """All samples of a split, readable in any order, from any process.

    Of each sample, ``KEY.webp`` is the photo and ``KEY.png``, ``KEY.1.png``... are label maps of
    the same size; ``KEY`` is ``SET-CRC32``. They may lie in folders: ``tar cf train-000.tar .``
    puts all into one of the name ``.``.

    Args:
        folder: Where ``SPLIT-000.tar``, ``SPLIT-001.tar``... lie.
        split: ``train`` or ``val``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If one of them is no tar file, or cut off, or there is no photo in any.
    """

    max_step = 1  # these photos are small

    def __init__(self, folder: str | Path, split: str) -> None:
        self.paths = sorted(shards_of(Path(folder), split))
        if not self.paths:
            place = Path(folder).resolve()
            raise FileNotFoundError(
                f"There is no {split}-*.tar in {place}; name the folder with --data."
            )
        self.samples: list[Sample] = []
        self._found = ""  # the name of some file
        for file_index, path in enumerate(self.paths):
            try:
                self._index(file_index)
            except (tarfile.TarError, EOFError) as error:
                raise ValueError(
                    f"{path} is no whole tar file ({error}); copy it again, or take it away."
                ) from error
        if not self.samples:
            raise ValueError(
                f"There is no photo that can be read in {split}-*.tar of {Path(folder).resolve()}; "
                f"expected KEY.webp with KEY.png, and found {self._found or 'no file'}."
            )
        self._reports = Reports(len(self.samples))

    def __len__(self) -> int:
        return len(self.samples)

    def _index(self, file_index: int) -> None:
        photos: dict[str, Place] = {}
        maps: dict[str, list[Place]] = {}
        with tarfile.open(self.paths[file_index]) as tar:
            for member in tar:
                if not member.isfile():
                    continue
                self._found = self._found or member.name
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                stem, _, kind = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                place = (file_index, member.offset_data, member.size)
                if kind == "webp":
                    photos[key] = place
                elif kind.endswith("png"):
                    maps.setdefault(key, []).append(place)
        for key, place in photos.items():
            label_maps = tuple(maps.get(key, ()))
            try:  # a map is of the photo's size, and its header is quicker to read
                size = self._open(label_maps[0] if label_maps else place).size[::-1]
            except Exception as error:  # a damaged file can make a decoder fail in any way
                logger.warning("%s is skipped: it is damaged (%s).", key, error)
                continue
            self.samples.append(
                Sample(
                    index=len(self.samples),
                    key=key,
                    set_name=key.rpartition("/")[2].rsplit("-", 1)[0],
                    size=size,
                    has_masks=bool(label_maps),
                    place=(place, label_maps),
                )
            )

    def _open(self, place: Place) -> Image.Image:
        file_index, offset, length = place
        with open(self.paths[file_index], "rb") as file:
            file.seek(offset)
            return Image.open(io.BytesIO(file.read(length)))

    def photo(self, sample: Sample, step: int = 1) -> Image.Image:
        """Read a photo, as ``Source.photo``."""
        with self._reports.reading(sample, "its photo"):
            photo = self._open(sample.place[0]).convert("RGB")
            _check(photo, sample, "RGB")
        return photo.reduce(step) if step > 1 else photo

    def objects(self, sample: Sample) -> LabelMaps:
        """Read a photo's masks, as ``Source.objects``."""
        with self._reports.reading(sample, "its label maps"):
            images = [self._open(place) for place in sample.place[1]]
            for image in images:
                _check(image, sample, "L")
            return LabelMaps([np.asarray(image) for image in images])


def _check(image: Image.Image, sample: Sample, mode: str) -> None:
    if image.mode != mode or image.size[::-1] != sample.size:
        height, width = sample.size
        raise ValueError(
            f"it is {image.width}×{image.height} {image.mode}, not {width}×{height} {mode}"
        )
