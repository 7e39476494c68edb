"""Photos with object masks in tar files: one photo, and label maps whose values are the masks."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

IGNORE = 255  # label of pixels that belong to neither side


@dataclass(frozen=True)
class Sample:
    """Where one photo and its label maps lie.

    Attributes:
        key: ``SET-CRC32``.
        size: The photo's (height, width), pixels.
        photo: (file index, offset, length).
        label_maps: The same for each label map.
    """

    key: str
    size: tuple[int, int]
    photo: tuple[int, int, int]
    label_maps: tuple[tuple[int, int, int], ...]

    @property
    def set_name(self) -> str:
        """The data set that the photo comes from."""
        return self.key.rsplit("-", 1)[0]


class Shards:
    """All samples of a split, readable in any order, from any process.

    Args:
        folder: Where ``SPLIT-000.tar``, ``SPLIT-001.tar``... lie.
        split: ``train`` or ``val``.

    Raises:
        FileNotFoundError: If there is no such file.
    """

    def __init__(self, folder: str | Path, split: str) -> None:
        self.paths = sorted(Path(folder).glob(f"{split}-*.tar"))
        if not self.paths:
            place = Path(folder).resolve()
            raise FileNotFoundError(
                f"There is no {split}-*.tar in {place}; name the folder with --data."
            )
        self.samples = [s for index in range(len(self.paths)) for s in self._index(index)]

    def __len__(self) -> int:
        return len(self.samples)

    def _index(self, file_index: int) -> Iterator[Sample]:
        photos: dict[str, tuple[tuple[int, int], tuple[int, int, int]]] = {}
        maps: dict[str, list[tuple[int, int, int]]] = {}
        with tarfile.open(self.paths[file_index]) as tar:
            for member in tar:
                key, _, kind = member.name.partition(".")
                place = (file_index, member.offset_data, member.size)
                if kind == "webp":
                    with Image.open(tar.extractfile(member)) as photo:  # header only
                        photos[key] = (photo.size[::-1], place)
                elif kind.endswith("png"):
                    maps.setdefault(key, []).append(place)
        for key, (size, place) in photos.items():
            yield Sample(key, size, place, tuple(maps.get(key, ())))

    def _open(self, place: tuple[int, int, int]) -> Image.Image:
        file_index, offset, length = place
        with open(self.paths[file_index], "rb") as file:
            file.seek(offset)
            return Image.open(io.BytesIO(file.read(length)))

    def photo(self, sample: Sample) -> Image.Image:
        """Read a photo, RGB."""
        return self._open(sample.photo).convert("RGB")

    def label_maps(self, sample: Sample) -> list[np.ndarray]:
        """Read a photo's label maps, (H, W) uint8 each: 0 unlabelled, 255 ignore."""
        return [np.asarray(self._open(place)) for place in sample.label_maps]


def masks_of(label_maps: list[np.ndarray]) -> list[tuple[int, int, int]]:
    """List every object mask as (index of its map, label, area in pixels)."""
    found = []
    for index, labels in enumerate(label_maps):
        areas = np.bincount(labels.ravel(), minlength=256)
        found += [
            (index, label, int(areas[label])) for label in range(1, IGNORE) if areas[label] > 0
        ]
    return found
