"""Photos with masks like those in `../shared/data`, made of disks and bars, for tests that train.

In tar shards, in SA-1B's layout, or not in files at all.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from mobilesam.training.shards import LabelMaps
from mobilesam.training.sources import Sample
from tests.conftest import disk_photo

SA1B_VAL = (42, 115, 153)  # CRC32 of sa_42.jpg and so on is a multiple of 50


def write_shards(folder: Path, split: str, photos: int = 6) -> Path:
    """Write one shard; each photo has a disk (label 1), a bar (2) and, in a second map, both."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / f"{split}-000.tar", "w") as tar:
        for number in range(photos):
            height, width = ((96, 128), (128, 96))[number % 2]
            photo, disk = disk_photo(height, width, (width // 3, height // 2), 14 + number)
            labels = np.zeros((height, width), np.uint8)
            labels[disk] = 1
            labels[:, -20:-8] = 2
            labels[:3] = 255
            both = (labels > 0).astype(np.uint8)
            set_name = ("disks", "bars")[number % 2]
            add_picture(tar, f"{set_name}-{number:08x}.webp", photo, lossless=True)
            add_picture(tar, f"{set_name}-{number:08x}.png", labels)
            add_picture(tar, f"{set_name}-{number:08x}.1.png", both)
    return folder


def add_picture(tar: tarfile.TarFile, name: str, pixels: np.ndarray, **options: bool) -> None:
    """Add a picture to a tar file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, name.rsplit(".", 1)[-1], **options)
    add_bytes(tar, name, buffer.getvalue())


def add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add any file to a tar file."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_sa1b(
    folder: Path, photos: int = 6, size: tuple[int, int] = (96, 128), val: int = 2
) -> dict[str, list[np.ndarray]]:
    """Write ``sa_*.jpg`` and ``sa_*.json`` of disks, masks as pycocotools encodes them.

    Args:
        folder: Where to.
        photos: How many for training, ``sa_1`` and on; every second is turned upright.
        size: Their (height, width).
        val: How many for validation, at most three.

    Returns:
        The masks, (H, W) bool, of each photo by its file name without suffix.
    """
    folder.mkdir(parents=True, exist_ok=True)
    masks: dict[str, list[np.ndarray]] = {}
    for number in [*range(1, photos + 1), *SA1B_VAL[:val]]:
        height, width = size if number % 2 else size[::-1]
        radius = min(height, width) // 8 + number % 5
        photo, disk = disk_photo(height, width, (width // 3, height // 3), radius)
        other, far = disk_photo(height, width, (2 * width // 3, 2 * height // 3), radius // 2 + 2)
        photo[far] = other[far]
        name = f"sa_{number}"
        masks[name] = [disk, far, disk | far]
        Image.fromarray(photo).save(folder / f"{name}.jpg", quality=95, subsampling=0)
        content = {
            "image": {
                "image_id": number,
                "width": width,
                "height": height,
                "file_name": f"{name}.jpg",
            },
            "annotations": [sa1b_annotation(mask, at) for at, mask in enumerate(masks[name])],
        }
        (folder / f"{name}.json").write_text(json.dumps(content))
    return masks


def sa1b_annotation(mask: np.ndarray, number: int) -> dict[str, object]:
    """Describe a mask as SA-1B does; the box is without the last column and row, as there."""
    spelled = coco.encode(np.asfortranarray(mask, np.uint8))
    rows, columns = np.nonzero(mask)
    x, y = int(columns.min()), int(rows.min())
    return {
        "segmentation": {"size": list(mask.shape), "counts": spelled["counts"].decode()},
        "bbox": [x, y, int(columns.max()) - x, int(rows.max()) - y],
        "area": int(mask.sum()),
        "predicted_iou": 0.9,
        "stability_score": 0.95,
        "point_coords": [[x, y]],
        "crop_box": [0, 0, mask.shape[1], mask.shape[0]],
        "id": number,
    }


class ArraySource:
    """Photos and label maps from arrays.

    Args:
        photos: (H, W, 3) uint8 each.
        maps: The label maps of each photo, (H, W) uint8.
    """

    max_step = 1

    def __init__(self, photos: Sequence[np.ndarray], maps: Sequence[Sequence[np.ndarray]]) -> None:
        self.photos, self.maps = photos, maps
        self.samples = [
            Sample(number, f"set-{number}", "set", photo.shape[:2])
            for number, photo in enumerate(photos)
        ]

    def photo(self, sample: Sample, step: int = 1) -> Image.Image:
        return Image.fromarray(self.photos[sample.index])

    def objects(self, sample: Sample) -> LabelMaps:
        return LabelMaps(self.maps[sample.index])
