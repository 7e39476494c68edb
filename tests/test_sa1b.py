"""Folders in SA-1B's layout: masks against what pycocotools encoded, and every kind of damage."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobilesam import rle
from mobilesam.training import sa1b
from mobilesam.training.augment import draw_patch
from mobilesam.training.batches import PhotoBatches, TrainingBatches
from mobilesam.training.data_config import DataConfig
from mobilesam.training.loader import training_loader
from mobilesam.training.memory import InMemory
from mobilesam.training.sa1b import SA1BFolder
from mobilesam.training.sources import Sample, SampleError, open_source
from tests.shards import write_sa1b

SMALL = {"image_size": 64, "images_per_batch": 2, "masks_per_image": 3}


def test_masks_equal_those_that_were_written(tmp_path: Path) -> None:
    masks = write_sa1b(tmp_path)
    source = open_source(tmp_path, "train")
    assert isinstance(source, SA1BFolder)
    assert [sample.key for sample in source.samples] == [f"sa_{n}" for n in range(1, 7)]
    for sample in source.samples:
        objects = source.objects(sample)
        assert len(objects) == 3
        for index, mask in enumerate(masks[sample.key]):
            np.testing.assert_array_equal(objects.mask(index), mask)
            assert objects.valid(index) is None
            assert objects.areas[index] == mask.sum()
            rows, columns = np.nonzero(mask)
            x0, y0, x1, y1 = objects.boxes[index]
            assert (x0, y0) == (columns.min(), rows.min())
            assert (x1, y1) == (columns.max() + 1, rows.max() + 1)
        assert sample.set_name == "sa1b"
        assert source.photo(sample).size == sample.size[::-1]


def test_windows_and_steps_of_masks(tmp_path: Path) -> None:
    mask = write_sa1b(tmp_path, size=(90, 131))["sa_1"][2]
    source = SA1BFolder(tmp_path, "train")
    objects = source.objects(source.samples[0])
    beyond = np.pad(mask, 40)
    for x0, y0, x1, y1 in ((10, 20, 90, 85), (-30, -10, 40, 50), (100, 60, 160, 120)):
        part = objects.mask(2, (x0, y0, x1, y1))
        np.testing.assert_array_equal(part, beyond[y0 + 40 : y1 + 40, x0 + 40 : x1 + 40])
    assert not objects.mask(2, (131, 0, 140, 5)).any()
    assert objects.mask(2, (-9, 0, 0, 5)).shape == (5, 9)
    middles = mask[2::4, 2::4]  # of 4 x 4 pixels
    reduced = objects.mask(2, step=4)
    assert reduced.shape == (23, 33)
    np.testing.assert_array_equal(reduced[:22, :33], middles[:22])
    part = objects.mask(2, (5, 3, 20, 19), step=4)
    np.testing.assert_array_equal(part, middles[3:19, 5:20])


@pytest.mark.parametrize("step", [1, 2, 4, 8])
def test_photos_are_decoded_smaller(tmp_path: Path, step: int) -> None:
    write_sa1b(tmp_path, photos=1, size=(123, 185))
    source = SA1BFolder(tmp_path, "train")
    sample = source.samples[0]
    whole, small = source.photo(sample), source.photo(sample, step)
    assert small.mode == "RGB"
    assert small.size == (-(-185 // step), -(-123 // step))
    difference = np.abs(np.asarray(whole.reduce(step), int) - np.asarray(small, int))
    assert difference.mean() < 4  # of 255: the decoder averages as well


def test_about_one_photo_in_fifty_is_for_validation(tmp_path: Path) -> None:
    write_sa1b(tmp_path, photos=1, val=1)
    for number in range(1000, 2000):
        (tmp_path / f"sa_{number}.jpg").hardlink_to(tmp_path / "sa_1.jpg")
    val, train = SA1BFolder(tmp_path, "val"), SA1BFolder(tmp_path, "train")
    assert "sa_42" in {sample.key for sample in val.samples}
    assert 8 <= len(val) <= 35
    assert len(val) + len(train) == 1002
    assert not {s.key for s in val.samples} & {s.key for s in train.samples}


def test_photos_lie_in_folders_below(tmp_path: Path) -> None:
    write_sa1b(tmp_path / "sa_000020", photos=2, val=0)
    write_sa1b(tmp_path / "b", photos=1, val=0)
    source = open_source(tmp_path, "train")
    assert [s.key for s in source.samples] == ["b/sa_1", "sa_000020/sa_1", "sa_000020/sa_2"]
    assert [s.index for s in source.samples] == [0, 1, 2]
    assert len(source.objects(source.samples[1])) == 3


def test_of_a_huge_folder_only_what_is_wanted_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sa1b(tmp_path / "b", photos=3, val=0)
    (tmp_path / "b/sa_2.jpg").write_bytes(b"no picture")
    for number in range(1000, 1600):
        (tmp_path / f"b/sa_{number}.jpg").hardlink_to(tmp_path / "b/sa_1.jpg")
    opened, walks = [], []
    size_of, walk = sa1b._size_of, os.walk
    monkeypatch.setattr(sa1b, "_size_of", lambda path: opened.append(path) or size_of(path))
    monkeypatch.setattr(os, "walk", lambda *args: walks.append(args) or walk(*args))
    monkeypatch.setattr(sa1b, "HEADERS_IN_A_ROW", 2)
    limited = open_source(tmp_path, "train", 4)
    assert len(limited) == 4 and len(opened) < 10 and len(walks) == 1
    monkeypatch.setattr(sa1b, "HEADERS_IN_A_ROW", 256)
    assert limited.samples == open_source(tmp_path, "train").samples[:4]
    config = DataConfig(data=str(tmp_path), limit=3, **SMALL)
    opened.clear()
    monkeypatch.setattr(sa1b, "HEADERS_IN_A_ROW", 2)
    assert len(TrainingBatches(config, seed=0).samples) == 3 and len(opened) < 10


def test_uncompressed_counts_are_read_as_well(tmp_path: Path) -> None:
    masks = write_sa1b(tmp_path, photos=1)["sa_1"]
    path = tmp_path / "sa_1.json"
    content = json.loads(path.read_text())
    for annotation, mask in zip(content["annotations"], masks, strict=True):
        annotation["segmentation"] = rle.encode(mask)
    path.write_text(json.dumps(content))
    source = SA1BFolder(tmp_path, "train")
    np.testing.assert_array_equal(source.objects(source.samples[0]).mask(1), masks[1])


def _damage(folder: Path) -> None:
    """Damage sa_1 to sa_6, each in another way."""

    def change(name: str, **values: object) -> None:
        path = folder / f"{name}.json"
        content = json.loads(path.read_text())
        content["annotations"][0].update(values)
        path.write_text(json.dumps(content))

    (folder / "sa_1.json").write_text((folder / "sa_1.json").read_text()[:200])
    change("sa_2", segmentation={"size": [96, 127], "counts": "0"})
    (folder / "sa_3.jpg").write_bytes((folder / "sa_3.jpg").read_bytes()[:-900])
    change("sa_4", segmentation={"size": [128, 96], "counts": "damaged!"})
    (folder / "sa_5.json").write_text(json.dumps({"annotations": [{"bbox": [0, 0, 1, 1]}]}))
    change("sa_6", bbox=[0, 0, float("nan"), 3])


def test_damage_is_said_once_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_sa1b(tmp_path, photos=9, val=0)
    _damage(tmp_path)
    (tmp_path / "sa_7.json").unlink()
    (tmp_path / "sa_8.jpg").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING):
        batches = TrainingBatches(DataConfig(data=str(tmp_path), **SMALL), seed=0)
        keys = set()
        for step in range(40):
            keys |= {sample.key for sample, _ in batches._items(step)[1]}
    assert keys == {"sa_4", "sa_9"}  # of sa_4, the masks that are whole
    said = [record.getMessage() for record in caplog.records]
    for name in ("sa_1", "sa_2", "sa_3", "sa_4", "sa_5", "sa_6"):
        assert sum(text.startswith(f"{name} is skipped") for text in said) == 1
    assert sum("sa_8.jpg is skipped" in text for text in said) == 1
    assert sum("1 photos have no JSON file" in text and "sa_7" in text for text in said) == 1


def test_every_damage_raises_the_same_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_sa1b(tmp_path, photos=6, val=0)
    _damage(tmp_path)
    source = SA1BFolder(tmp_path, "train")
    samples = {sample.key: sample for sample in source.samples}
    for _ in range(2):
        for name in ("sa_1", "sa_2", "sa_5", "sa_6"):
            with pytest.raises(SampleError, match=f"{name} is skipped: its JSON file"):
                source.objects(samples[name])
        with pytest.raises(SampleError, match="sa_3 is skipped: its photo"):
            source.photo(samples["sa_3"])
        objects = source.objects(samples["sa_4"])
        with pytest.raises(SampleError, match="sa_4 is skipped: its mask 0"):
            objects.mask(0)
        assert objects.mask(1).any()
    assert len(caplog.records) == 6  # once each
    for name in ("sa_3", "sa_4"):
        (tmp_path / f"{name}.jpg").unlink()
    with pytest.raises(SampleError, match="No such file"):
        source.photo(samples["sa_4"])


def test_worker_processes_say_it_once_together(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    write_sa1b(tmp_path, photos=3, val=0)
    (tmp_path / "sa_1.json").write_text("{")
    batches = TrainingBatches(DataConfig(data=str(tmp_path), **SMALL), seed=0)
    handler = logging.StreamHandler()  # to the file descriptor that all processes have
    logger = logging.getLogger("mobilesam.training.sources")
    logger.addHandler(handler)
    try:
        loader = training_loader(batches, workers=2)
        for _ in range(12):
            next(loader)
        del loader
    finally:
        logger.removeHandler(handler)
    assert capfd.readouterr().err.count("sa_1 is skipped") == 1


def test_photos_without_masks_can_be_distilled(tmp_path: Path) -> None:
    write_sa1b(tmp_path, photos=3, val=0)
    for path in tmp_path.glob("*.json"):
        path.unlink()
    config = DataConfig(data=str(tmp_path), **SMALL)
    batch = PhotoBatches(config, seed=0, square=False, augment=True).batch(0)
    assert batch.pixels.shape[:2] == (2, 3)
    with pytest.raises(ValueError, match="have no masks"):
        TrainingBatches(config, seed=0)


def test_batches_of_large_photos_show_their_masks(tmp_path: Path) -> None:
    """The disks are bright on dark ground: what is bright must be what the targets say."""
    write_sa1b(tmp_path, photos=4, size=(600, 900), val=0)
    config = DataConfig(data=str(tmp_path), image_size=96, copy_paste_share=0, images_per_batch=4)
    batches = TrainingBatches(config, seed=0)
    compared = 0
    for step in range(6):
        batch = batches.batch(step)
        targets = batch.targets.unflatten(0, (4, -1)).amax(1).float() / 255  # of each photo: all
        bright = batch.pixels[:, :2].float().mean(1, keepdim=True)
        bright = torch.nn.functional.avg_pool2d(bright, 4)[:, 0]
        for share, value in zip(targets, bright, strict=True):
            if (share > 0.99).any() and (share < 0.01).any():
                inside, ground = value[share > 0.99], value[share < 0.01]
                assert inside.median() > ground.median() + 30
                compared += 1
    assert compared > 12  # of 24 photos; the others show nothing but disk


def test_objects_of_large_photos_are_pasted(tmp_path: Path) -> None:
    write_sa1b(tmp_path, photos=1, size=(1200, 1800), val=0)
    source = SA1BFolder(tmp_path, "train")
    sample = source.samples[0]
    steps = []
    photo = source.photo

    def spied(sample: Sample, step: int = 1) -> Image.Image:
        steps.append(step)
        return photo(sample, step)

    source.photo = spied
    for seed in range(12):
        patch = draw_patch(source, sample, (100, 150), np.random.default_rng(seed))
        assert patch is not None
        assert 0.008 < patch.mask.sum() / (100 * 150) < 0.05  # the larger disk has 3.3 %
        inside = np.asarray(patch.pixels)[patch.mask][:, 0]
        outside = np.asarray(patch.pixels)[~patch.mask][:, 0]
        assert np.median(inside) > 200 and np.median(outside) < 60  # bright disk, dark ground
    assert set(steps) == {8}  # 1800 pixels on 150


def test_in_memory_it_is_the_same(tmp_path: Path) -> None:
    masks = write_sa1b(tmp_path, photos=3, size=(200, 300))
    (tmp_path / "sa_2.json").write_text("{")
    source = SA1BFolder(tmp_path, "train")
    kept = InMemory(source, source.samples)
    assert kept.nbytes > 3 * 200 * 300 * 3
    for path in tmp_path.iterdir():
        path.unlink()
    first, second, _ = kept.samples
    assert kept.photo(first).size == (300, 200)
    assert kept.photo(first, 4).size == (75, 50)
    np.testing.assert_array_equal(kept.objects(first).mask(0), masks["sa_1"][0])
    with pytest.raises(SampleError):
        kept.objects(second)
    assert kept.photo(second).size == (200, 300)


def test_folders_without_photos_say_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is empty; expected train-.*--data"):
        open_source(tmp_path, "train")
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(FileNotFoundError, match=r"holds neither; expected train-.*sa_"):
        open_source(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="is no folder"):
        open_source(tmp_path / "missing", "train")
    write_sa1b(tmp_path, photos=1, val=0)
    with pytest.raises(FileNotFoundError, match=r"None of the 1 sa_.*falls to val"):
        open_source(tmp_path, "val")
    with pytest.raises(ValueError, match="splits train and val; got 'test'"):
        open_source(tmp_path, "test")
