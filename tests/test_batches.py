"""Batches: what they show, and that they come out the same every way."""

from __future__ import annotations

import logging
import tarfile
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from mobilesam.modeling.image_encoder import EMBED_STRIDE
from mobilesam.training.batches import Batch, PhotoBatch, PhotoBatches, TrainingBatches
from mobilesam.training.buckets import MOST_STRETCH, bucket_of, join_small
from mobilesam.training.data_config import BUCKET_STEP, DataConfig
from mobilesam.training.items import canonical_pixels
from mobilesam.training.loader import training_loader
from mobilesam.training.memory import InMemory
from mobilesam.training.sources import open_source
from mobilesam.transforms import resize
from tests.shards import add_bytes, add_picture, write_shards

SMALL = {"image_size": 64, "images_per_batch": 2, "masks_per_image": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"), "train", photos=8)


def _equal(one: Batch | PhotoBatch, other: Batch | PhotoBatch) -> None:
    for name, tensor in vars(one).items():
        torch.testing.assert_close(tensor, getattr(other, name), rtol=0, atol=0)


def _joined(parts: list[Batch]) -> Batch:
    return Batch(
        *(torch.cat(tensors) for tensors in zip(*(vars(p).values() for p in parts), strict=True))
    )


def test_batches_have_one_shape_and_true_boxes(data: Path) -> None:
    batches = TrainingBatches(DataConfig(data=str(data), **SMALL), seed=0)
    for batch in islice(batches, 8):
        height, width = batch.pixels.shape[2:]
        assert batch.pixels.dtype == torch.uint8
        assert (height, width) in {(64, 64), (64, 32), (32, 64)}
        batch = batch.to(torch.device("cpu"))
        assert batch.targets.shape == batch.valid.shape == (6, height // 4, width // 4)
        assert batch.targets.dtype == batch.valid.dtype == batch.boxes.dtype == torch.float32
        assert ((batch.targets >= 0) & (batch.targets <= 1)).all() and batch.targets.max() == 1
        assert ((batch.valid == 0) | (batch.valid == 1)).all()
        _equal(batch, batch.to(torch.device("cpu")))  # a second time nothing changes
        for target, (x0, y0, x1, y1) in zip(batch.targets, batch.boxes, strict=True):
            rows, columns = torch.nonzero(target > 0.5, as_tuple=True)
            if len(rows):
                assert x0 - 4 <= 4 * columns.min() and 4 * columns.max() <= x1 + 4
                assert y0 - 4 <= 4 * rows.min() and 4 * rows.max() <= y1 + 4


def test_two_processes_see_what_one_with_twice_the_batch_sees(data: Path) -> None:
    config = DataConfig(data=str(data), **SMALL)
    double = DataConfig(data=str(data), **{**SMALL, "images_per_batch": 4})
    one = TrainingBatches(double, 3)
    parts = [TrainingBatches(config, 3, rank, world=2) for rank in range(2)]
    for step in range(4):
        _equal(one.batch(step), _joined([part.batch(step) for part in parts]))
    photos = [PhotoBatches(config, 3, rank, 2, square=True, augment=True) for rank in range(2)]
    together = PhotoBatches(double, 3, square=True, augment=True).batch(5)
    halves = [part.batch(5) for part in photos]
    torch.testing.assert_close(together.indices, torch.cat([half.indices for half in halves]))
    torch.testing.assert_close(together.pixels, torch.cat([half.pixels for half in halves]))


def test_a_resumed_run_sees_what_an_unbroken_one_does(data: Path) -> None:
    config = DataConfig(data=str(data), **SMALL)
    unbroken = list(islice(TrainingBatches(config, seed=1), 6))
    resumed = islice(TrainingBatches(config, 1, first_step=4), 2)
    for batch, expected in zip(resumed, unbroken[4:], strict=True):
        _equal(batch, expected)
    assert not torch.equal(unbroken[0].boxes, TrainingBatches(config, seed=2).batch(0).boxes)


@pytest.mark.parametrize("in_memory", [False, True])
def test_workers_and_memory_change_nothing(data: Path, in_memory: bool) -> None:
    expected = islice(TrainingBatches(DataConfig(data=str(data), **SMALL), 5, first_step=2), 6)
    config = DataConfig(data=str(data), in_memory=in_memory, **SMALL)
    batches = TrainingBatches(config, 5, first_step=2)
    loader = training_loader(batches, workers=2)
    for batch, wanted in zip(islice(loader, 6), expected, strict=True):
        _equal(batch, wanted)


def test_every_place_of_a_batch_sees_every_photo(data: Path) -> None:
    """A place's draws must not hang on the draw of the bucket."""
    config = DataConfig(data=str(data), **{**SMALL, "image_size": 128})  # upright ones apart
    batches = PhotoBatches(config, seed=0, square=False, augment=False)
    seen: list[Counter] = [Counter(), Counter()]
    for step in range(200):
        for place, index in enumerate(batches.batch(step).indices.tolist()):
            seen[place][index] += 1
    for counts in seen:
        assert sorted(counts) == list(range(8))
        assert min(counts.values()) > 8  # 25 on average


def test_sets_are_drawn_by_their_weights(data: Path) -> None:
    options = {**SMALL, "images_per_batch": 20}
    weights = (("bars", 3.0), ("disks", 1.0))
    config = DataConfig(data=str(data), set_weights=weights, **options)
    batches = PhotoBatches(config, seed=0, square=True, augment=False)
    indices = torch.cat([batches.batch(step).indices for step in range(20)])
    assert 0.68 < (indices % 2 == 1).float().mean() < 0.82  # bars have the odd numbers
    none = DataConfig(data=str(data), set_weights=(("bars", 0.0),), **options)
    batches = PhotoBatches(none, seed=0, square=True, augment=False)
    assert (batches.batch(0).indices % 2 == 0).all()
    assert batches.set_names == ["disks"]
    typo = DataConfig(data=str(data), set_weights=(("bar", 3.0), ("ccp", 1.0)), **options)
    with pytest.raises(ValueError, match=r"names bar, of which .* sets are bars, disks\."):
        TrainingBatches(typo, seed=0)  # ccp is among the defaults, whatever the data
    with pytest.raises(ValueError, match="sets have weight 0"):
        TrainingBatches(
            DataConfig(data=str(data), set_weights=(("bars", 0.0), ("disks", 0.0))), seed=0
        )


@pytest.mark.parametrize("square", [False, True])
def test_photos_without_changes_are_canonical(data: Path, square: bool) -> None:
    config = DataConfig(data=str(data), **{**SMALL, "images_per_batch": 5})
    batches = PhotoBatches(config, seed=0, square=square, augment=False)
    batch = batches.batch(7)
    for pixels, size, index in zip(batch.pixels, batch.sizes, batch.indices, strict=True):
        sample = batches.source.samples[index]
        height, width = size.tolist()
        shape = (48, 64) if sample.size == (96, 128) else (64, 48)
        if not square:  # to multiples of 32; a half goes to the even one
            shape = (64, 64)
        assert (height, width) == shape
        photo = np.asarray(batches.source.photo(sample))
        expected = torch.from_numpy(resize(photo, shape).copy()).permute(2, 0, 1)
        torch.testing.assert_close(pixels[:, :height, :width], expected, rtol=0, atol=1)
        assert not pixels[:, height:].any() and not pixels[:, :, width:].any()
        alone, its_size = canonical_pixels(batches.source, sample, 64, square)
        torch.testing.assert_close(alone, pixels, rtol=0, atol=0)
        assert its_size.tolist() == [height, width]
    assert batch.to(torch.device("cpu")).sizes.dtype == torch.int64


def test_changed_photos_keep_their_place(data: Path) -> None:
    config = DataConfig(data=str(data), **{**SMALL, "images_per_batch": 6})
    batches = PhotoBatches(config, seed=0, square=True, augment=True)
    plain = PhotoBatches(config, seed=0, square=True, augment=False)
    batch, unchanged = batches.batch(0), plain.batch(0)
    assert batch.indices.tolist() == unchanged.indices.tolist()
    assert batch.sizes.tolist() == unchanged.sizes.tolist()
    assert not torch.equal(batch.pixels, unchanged.pixels)
    for pixels, (height, width) in zip(batch.pixels, batch.sizes.tolist(), strict=True):
        assert not pixels[:, height:].any() and not pixels[:, :, width:].any()


def test_photos_without_masks(data: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train-000.tar", "w") as tar:
        add_picture(tar, "bare-0.webp", np.full((96, 128, 3), 9, np.uint8), lossless=True)
        add_picture(tar, "empty-0.webp", np.full((96, 128, 3), 9, np.uint8), lossless=True)
        add_picture(tar, "empty-0.png", np.zeros((96, 128), np.uint8))
    config = DataConfig(data=str(tmp_path), **SMALL)
    assert PhotoBatches(config, 0, square=False, augment=True).set_names == ["bare", "empty"]
    batches = TrainingBatches(config, 0)
    assert batches.set_names == ["empty"]
    with pytest.raises(ValueError, match=r"100 photos of one aspect ratio .*showed no mask"):
        batches.batch(0)


def test_masks_that_are_all_too_small_are_reported(data: Path) -> None:
    config = DataConfig(data=str(data), image_size=64, min_mask_share=0.99)
    for workers in (0, 1):  # a process of its own says the same
        with pytest.raises(ValueError, match=r"^100 photos .*lower min_mask_share, or name other"):
            next(training_loader(TrainingBatches(config, seed=0), workers))


def test_all_photos_can_be_kept_in_memory(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = open_source(data, "train")
    with caplog.at_level(logging.INFO):
        kept = InMemory(source, source.samples[:5])
    assert kept.nbytes == 5 * 96 * 128 * (3 + 2)  # a photo and two label maps
    said = [record.getMessage() for record in caplog.records]
    assert "decoded 5 of 5 photos" in said
    assert "GiB of memory" in said[-1]
    sample = source.samples[3]
    np.testing.assert_array_equal(kept.photo(sample), source.photo(sample))
    assert kept.objects(sample) is kept.objects(sample)


def test_only_the_first_photos(data: Path) -> None:
    config = DataConfig(data=str(data), limit=3, in_memory=True, **SMALL)
    batches = PhotoBatches(config, seed=0, square=True, augment=True)
    assert len(batches.samples) == 3
    indices = torch.cat([batches.batch(step).indices for step in range(20)])
    assert set(indices.tolist()) == {0, 1, 2}


@pytest.fixture
def one_odd(tmp_path: Path) -> Path:
    """Eight good photos, and a damaged one that is the only one of its aspect ratio."""
    folder = write_shards(tmp_path, "train", photos=8)
    with tarfile.open(folder / "train-001.tar", "w") as tar:
        add_bytes(tar, "odd-0.webp", b"RIFF damaged")
        add_picture(tar, "odd-0.png", np.ones((32, 256), np.uint8))
    return folder


@pytest.mark.parametrize("augment", [False, True])
def test_a_damaged_photo_without_its_like_is_skipped(
    one_odd: Path, augment: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Augmented, it joins photos of another aspect ratio; shown whole, its batches do not come."""
    weights = (("odd", 30.0),)
    config = DataConfig(data=str(one_odd), **{**SMALL, "image_size": 128}, set_weights=weights)
    batches = PhotoBatches(config, seed=0, square=False, augment=augment)
    indices = torch.cat([batches.batch(step).indices for step in range(12)])
    assert set(indices.tolist()) <= set(range(8)) and len(set(indices.tolist())) > 4
    assert [record.getMessage().split(" is ")[0] for record in caplog.records] == ["odd-0"]
    later = PhotoBatches(config, 0, first_step=7, square=False, augment=augment)
    for step in (7, 11):
        _equal(later.batch(step), batches.batch(step))
    if augment:
        parts = [PhotoBatches(config, 0, r, 2, square=False, augment=True) for r in range(2)]
        double = DataConfig(**{**vars(config), "images_per_batch": 4})
        one = PhotoBatches(double, 0, square=False, augment=True)
        for step in range(4):
            halves = [part.batch(step).pixels for part in parts]
            torch.testing.assert_close(torch.cat(halves), one.batch(step).pixels, rtol=0, atol=0)


def test_rare_aspect_ratios_join_the_nearest() -> None:
    wide, nearly, taller, square = (480, 640), (448, 640), (544, 640), (640, 640)
    buckets = {wide: [0, 4, 5], nearly: [1], taller: [2, 8], square: [3, 6, 7]}
    assert join_small(buckets, 1) == buckets
    assert join_small(buckets, 2) == {wide: [0, 1, 4, 5], taller: [2, 8], square: [3, 6, 7]}
    assert join_small(buckets, 3) == {wide: [0, 1, 2, 4, 5, 8], square: [3, 6, 7]}
    assert join_small({wide: [0]}, 9) == {wide: [0]}


def test_no_photo_is_stretched_much_to_join_others() -> None:
    rng = np.random.default_rng(0)
    sizes = [(int(h), int(w)) for h, w in rng.integers(100, 1000, (200, 2))]
    buckets: dict[tuple[int, int], list[int]] = {}
    for number, size in enumerate(sizes):
        buckets.setdefault(bucket_of(size, 640), []).append(number)
    joined = join_small(buckets, 10_000)
    assert len(joined) < len(buckets) / 2
    assert sorted(n for numbers in joined.values() for n in numbers) == list(range(200))
    for frame, numbers in joined.items():
        for number in numbers:
            own = bucket_of(sizes[number], 640)
            stretch = frame[0] * own[1] / (frame[1] * own[0])
            assert 1 / MOST_STRETCH - 1e-9 <= stretch <= MOST_STRETCH + 1e-9
    panorama, others = (128, 640), list(range(1, 999))
    kept = join_small({panorama: [0], (480, 640): others}, 10_000)
    assert kept == {panorama: [0], (480, 640): others}


def test_buckets() -> None:
    assert BUCKET_STEP == 2 * EMBED_STRIDE
    assert bucket_of((288, 384), 384) == (288, 384)
    assert bucket_of((384, 250), 512) == (512, 320)
    assert bucket_of((10, 384), 384) == (32, 384)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", 100),
        ("image_size", 0),
        ("images_per_batch", 0),
        ("masks_per_image", 65),
        ("masks_per_image", 0),
        ("min_scale", 0.0),
        ("min_scale", 1.5),
        ("max_zoom", 0.9),
        ("max_zoom", float("nan")),
        ("whole_photo_share", 1.1),
        ("min_mask_share", -0.1),
        ("copy_paste_share", 2.0),
        ("limit", 0),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must .*; got {value}"):
        DataConfig(**{name: value})


def test_weights_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="weight of ccp must be 0 or more; got -1"):
        DataConfig(set_weights=(("ccp", -1.0),))


@pytest.mark.parametrize(
    "changes", [{"rank": 2, "world": 2}, {"rank": -1}, {"first_step": -1}, {"seed": -1}]
)
def test_places_out_of_range_are_refused(data: Path, changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="Expected 0 <= rank < world"):
        TrainingBatches(DataConfig(data=str(data), **SMALL), **{"seed": 0, **changes})
