"""Photos and label maps in tar shards: whole, damaged, in part."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from mobilesam.training.batches import TrainingBatches
from mobilesam.training.data_config import DataConfig
from mobilesam.training.shards import LabelMaps, Shards
from mobilesam.training.sources import SampleError, open_source
from tests.shards import add_bytes, add_picture, write_shards


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"), "train", photos=8)


def test_shards_are_read(data: Path) -> None:
    shards = open_source(data, "train")
    assert isinstance(shards, Shards)
    assert len(shards) == 8
    sample = shards.samples[0]
    assert (sample.key, sample.set_name, sample.size) == ("disks-00000000", "disks", (96, 128))
    assert [s.index for s in shards.samples] == list(range(8))
    assert shards.photo(sample).size == (128, 96)
    assert shards.photo(sample, 4).size == (32, 24)
    objects = shards.objects(sample)
    y, x = np.mgrid[:96, :128]
    disk = (x - 42) ** 2 + (y - 48) ** 2 <= 14**2
    bar = (x >= 108) & (x < 120) & (y >= 3)
    expected = [disk, bar, disk | bar | (y < 3)]
    assert len(objects) == 3
    for index, mask in enumerate(expected):
        np.testing.assert_array_equal(objects.mask(index), mask)
        assert objects.areas[index] == mask.sum()
    np.testing.assert_array_equal(
        objects.boxes, [[28, 34, 57, 63], [108, 3, 120, 96], [0, 0, 128, 96]]
    )
    np.testing.assert_array_equal(objects.valid(0), y >= 3)
    assert objects.valid(2) is None
    with pytest.raises(FileNotFoundError, match="--data"):
        Shards(data, "test")


def test_shards_may_have_folders(data: Path, tmp_path: Path) -> None:
    with tarfile.open(data / "train-000.tar") as tar:
        tar.extractall(tmp_path / "files", filter="data")
    for name, prefix in ((".", ""), ("v1.5/part", "v1.5/part/")):
        with tarfile.open(tmp_path / "train-000.tar", "w") as tar:
            tar.add(tmp_path / "files", name)
        shards = Shards(tmp_path, "train")
        expected = {(f"{prefix}{s.key}", s.set_name) for s in Shards(data, "train").samples}
        assert {(s.key, s.set_name) for s in shards.samples} == expected
        assert len(shards.objects(shards.samples[0])) == 3


def test_shards_without_photos_say_what_is_expected(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train-000.tar", "w") as tar:
        add_bytes(tar, "one.jpg", b"a photo")
    with pytest.raises(ValueError, match=r"no photo .* KEY\.webp .*, and found one\.jpg"):
        Shards(tmp_path, "train")


def test_windows_of_label_maps() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array([0, 1, 2, 255], np.uint8), (37, 53))
    objects = LabelMaps([labels])
    beyond = np.pad(labels, 20)
    for x0, y0, x1, y1 in ((5, 6, 40, 30), (-9, -20, 60, 50), (40, 30, 73, 57), (-9, 3, 0, 9)):
        part = beyond[y0 + 20 : y1 + 20, x0 + 20 : x1 + 20]
        np.testing.assert_array_equal(objects.mask(1, (x0, y0, x1, y1)), part == 2)
        np.testing.assert_array_equal(objects.valid(1, (x0, y0, x1, y1)), part != 255)


def test_damaged_shards(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    white = np.full((96, 128, 3), 255, np.uint8)
    labels = np.zeros((96, 128), np.uint8)
    labels[20:60, 20:60] = 1
    with tarfile.open(tmp_path / "train-000.tar", "w") as tar:
        add_picture(tar, "good-0.webp", white, lossless=True)
        add_picture(tar, "good-0.png", labels)
        add_bytes(tar, "photo-0.webp", b"RIFF damaged")
        add_picture(tar, "photo-0.png", labels)
        add_picture(tar, "size-0.webp", white, lossless=True)
        add_picture(tar, "size-0.png", labels)
        add_picture(tar, "size-0.1.png", labels[1:])
        add_picture(tar, "colour-0.webp", white, lossless=True)
        add_picture(tar, "colour-0.png", white)
        add_bytes(tar, "header-0.webp", b"")
    config = DataConfig(data=str(tmp_path), set_weights=(("good", 0.2),), image_size=64)
    batches = TrainingBatches(config, seed=0)
    for step in range(10):
        assert {sample.key for sample, _ in batches._items(step)[1]} == {"good-0"}
    said = sorted(record.getMessage().split(" is ")[0] for record in caplog.records)
    assert said == ["colour-0", "header-0", "photo-0", "size-0"]
    source = Shards(tmp_path, "train")
    with pytest.raises(SampleError, match=r"size-0 is skipped: its label maps .*128×95 L, not 128"):
        source.objects(source.samples[2])
    whole = (tmp_path / "train-000.tar").read_bytes()
    (tmp_path / "train-000.tar").write_bytes(b"no tar file" * 100)
    with pytest.raises(ValueError, match=r"train-000.tar is no whole tar file"):
        Shards(tmp_path, "train")
    (tmp_path / "train-000.tar").write_bytes(whole[:700])
    with pytest.raises(ValueError, match=r"train-000.tar is no whole tar file"):
        Shards(tmp_path, "train")
