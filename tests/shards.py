"""Tar shards like those in `../shared/data`, made of disks and bars, for tests that train."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import disk_photo


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
            _add(tar, f"{set_name}-{number:08x}.webp", photo, lossless=True)
            _add(tar, f"{set_name}-{number:08x}.png", labels)
            _add(tar, f"{set_name}-{number:08x}.1.png", both)
    return folder


def _add(tar: tarfile.TarFile, name: str, pixels: np.ndarray, **options: bool) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, name.rsplit(".", 1)[-1], **options)
    member = tarfile.TarInfo(name)
    member.size = buffer.tell()
    buffer.seek(0)
    tar.addfile(member, buffer)
