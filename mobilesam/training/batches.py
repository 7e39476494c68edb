"""Endless batches of photos and masks, the same for any number of processes and workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from mobilesam.training.buckets import Shape, bucket_of, join_small
from mobilesam.training.data_config import DataConfig
from mobilesam.training.items import FULL, Item, make_item, make_photo, whole_photo
from mobilesam.training.memory import InMemory
from mobilesam.training.sources import Sample, SampleError, Source, open_source
from mobilesam.transforms import LOW_RES_STRIDE

MAX_DRAWS = 10_000  # photos for one place in a batch
TRIED = 100  # photos of an aspect ratio that is never used if nothing can be made of any of them
# Photos of one aspect ratio should fill so many, or they join a near one: a GPU compiles a
# TinyViT's kernels anew for each shape, 4.4 s on an H200.
FEWEST_BATCHES = 16


@dataclass
class Batch:
    """One training step's photos and masks.

    Attributes:
        pixels: (I, 3, h, w) uint8 RGB, h and w multiples of 32.
        targets: (I * K, h/4, w/4) share of each low-res cell that the mask covers. From a loader
            uint8, 255 for all of it, a quarter of the memory; after ``to`` float32 in 0..1.
        valid: (I * K, h/4, w/4), 0 where the label map says ignore; bool, then float32.
        boxes: (I * K, 4) float32, tight x0, y0, x1, y1 of each mask in the input frame.
    """

    pixels: torch.Tensor
    targets: torch.Tensor
    valid: torch.Tensor
    boxes: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """Move everything to a device; targets and valid become float32 there."""
        pixels, targets, valid, boxes = (
            tensor.to(device, non_blocking=True) for tensor in vars(self).values()
        )
        if targets.dtype == torch.uint8:
            targets = targets.float() / FULL
        return Batch(pixels, targets, valid.float(), boxes)

    def pin_memory(self) -> Batch:
        """Return it in memory from which a GPU copies quickly; a loader calls this."""
        return Batch(*(tensor.pin_memory() for tensor in vars(self).values()))


@dataclass
class PhotoBatch:
    """One step's photos, without masks.

    Attributes:
        pixels: (I, 3, h, w) uint8 RGB.
        sizes: (I, 2) int64 (height, width) of the picture in the upper left corner; zeros beyond.
        indices: (I,) int64 places in the source's samples.
    """

    pixels: torch.Tensor
    sizes: torch.Tensor
    indices: torch.Tensor

    def to(self, device: torch.device) -> PhotoBatch:
        """Move everything to a device."""
        return PhotoBatch(*(t.to(device, non_blocking=True) for t in vars(self).values()))

    def pin_memory(self) -> PhotoBatch:
        """Return it in memory from which a GPU copies quickly; a loader calls this."""
        return PhotoBatch(*(tensor.pin_memory() for tensor in vars(self).values()))


class Batches(Protocol):
    """An endless stream of batches that know how to go ``to`` a device."""

    @property
    def set_names(self) -> list[str]:
        """The data sets drawn from."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the batch of the first step, of the next..."""


class _Batches(IterableDataset):
    """What batches with and without masks share: which photo comes when.

    Everything in place ``p`` of step ``t``'s batch, counted over all processes, is drawn from a
    generator of its own, made of (seed, t, p). So two processes see what one with twice the batch
    sees, a resumed run sees what an unbroken one does, and the number of workers changes nothing.

    Args:
        masks: Whether photos without masks are left out.
        joins: Whether photos of a rare aspect ratio are brought to one that is near.
    """

    def __init__(
        self,
        config: DataConfig,
        seed: int,
        rank: int,
        world: int,
        first_step: int,
        *,
        masks: bool,
        joins: bool,
    ) -> None:
        if not 0 <= rank < world or first_step < 0 or seed < 0:
            raise ValueError(
                "Expected 0 <= rank < world, first_step >= 0 and seed >= 0; "
                f"got rank {rank}, world {world}, first_step {first_step}, seed {seed}."
            )
        self.config, self.seed = config, seed
        self.rank, self.world, self.first_step = rank, world, first_step
        self.source: Source = open_source(config.data, "train", config.limit)
        self.samples = self.source.samples[: config.limit]
        weights = dict(config.set_weights)
        sets = {sample.set_name for sample in self.source.samples}
        if unknown := sorted(weights.keys() - sets - dict(DataConfig.set_weights).keys()):
            raise ValueError(
                f"set_weights names {', '.join(unknown)}, of which {config.data} has no photo; its "
                f"sets are {', '.join(sorted(sets))}."
            )
        self._drawn = [
            sample
            for sample in self.samples
            if weights.get(sample.set_name, 1.0) > 0 and (sample.has_masks or not masks)
        ]
        if not self._drawn:
            raise ValueError(
                f"None of the {len(self.samples)} photos in {config.data} can be trained with: "
                f"{'they have no masks, or ' if masks else ''}their sets have weight 0. "
                "Name other data, or raise limit or set_weights."
            )
        if config.in_memory:
            self.source = InMemory(self.source, self.samples, masks=masks)
        self._weights = np.array([weights.get(s.set_name, 1.0) for s in self._drawn])
        self._everything = np.cumsum(self._weights)
        buckets: dict[Shape, list[int]] = {}
        for number, sample in enumerate(self._drawn):
            buckets.setdefault(self._shape_of(sample), []).append(number)
        if joins:
            buckets = join_small(buckets, FEWEST_BATCHES * config.images_per_batch * world)
        self._shapes = sorted(buckets)
        self._buckets = [np.array(buckets[shape]) for shape in self._shapes]
        self._in_bucket = [np.cumsum(self._weights[bucket]) for bucket in self._buckets]
        self._bucket_weights = np.array([weights[-1] for weights in self._in_bucket])
        self._usable: dict[int, bool] = {}

    @property
    def set_names(self) -> list[str]:
        """The data sets drawn from, in alphabetical order."""
        return sorted({sample.set_name for sample in self._drawn})

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        step = self.first_step + (worker.id if worker else 0)
        while True:
            yield self.batch(step)
            step += worker.num_workers if worker else 1

    def batch(self, step: int) -> Any:
        """Return this process's batch of a step."""
        raise NotImplementedError

    def _shape_of(self, sample: Sample) -> Shape:
        return bucket_of(sample.size, self.config.image_size)

    def _items(self, step: int) -> tuple[Shape, list[tuple[Sample, Any]]]:
        """Return the shape of a step's batch, and this process's photos of it."""
        # Zeros at the end of a seed change nothing: places are counted from 1.
        bucket = self._draw_bucket(np.random.default_rng([self.seed, step]))
        first = 1 + self.rank * self.config.images_per_batch
        drawn = []
        for place in range(first, first + self.config.images_per_batch):
            item = self._item(bucket, np.random.default_rng([self.seed, step, place]), MAX_DRAWS)
            if item is None:
                raise ValueError(self._why_none(MAX_DRAWS))
            drawn.append(item)
        return self._shapes[bucket], drawn

    def _draw_bucket(self, rng: np.random.Generator) -> int:
        """Draw an aspect ratio; another one where nothing can be made of any of its photos.

        Whether that is so hangs on nothing but the photos, so that all processes draw the same.
        """
        weights = self._bucket_weights.copy()
        while weights.any():
            bucket = _pick(np.cumsum(weights), rng)
            if bucket not in self._usable:
                tried = self._item(bucket, np.random.default_rng([self.seed, bucket]), TRIED)
                self._usable[bucket] = tried is not None
            if self._usable[bucket]:
                return bucket
            weights[bucket] = 0
        raise ValueError(self._why_none(TRIED))

    def _item(self, bucket: int, rng: np.random.Generator, draws: int) -> tuple[Sample, Any] | None:
        for _ in range(draws):
            number = self._buckets[bucket][_pick(self._in_bucket[bucket], rng)]
            try:
                made = self._make(self._drawn[number], self._shapes[bucket], rng)
            except SampleError:  # said by the source
                continue
            if made is not None:
                return self._drawn[number], made
        return None

    def _why_none(self, draws: int) -> str:
        return (
            f"{draws:,} photos of one aspect ratio were damaged, or showed no mask over "
            f"{self.config.min_mask_share:.2%} of the frame; lower min_mask_share, or name other "
            "data."
        )

    def _make(self, sample: Sample, shape: Shape, rng: np.random.Generator) -> Any:
        raise NotImplementedError


class TrainingBatches(_Batches):
    """Photos with masks: an endless stream of ``Batch``, reproducible from a seed.

    Photos of one aspect ratio share a batch, so that nothing is padded. Where they fill fewer than
    ``FEWEST_BATCHES`` they are brought to another one, if that stretches none by more than
    ``buckets.MOST_STRETCH``.

    Args:
        config: What batches are made of.
        seed: Of everything drawn.
        rank: This process's number of ...
        world: ... so many, each of which makes its own part of every step's batch.
        first_step: The step of the first batch.

    Raises:
        FileNotFoundError: If there is no training data.
        ValueError: If none of it has masks, or an argument is out of range.
    """

    def __init__(
        self, config: DataConfig, seed: int, rank: int = 0, world: int = 1, first_step: int = 0
    ) -> None:
        super().__init__(config, seed, rank, world, first_step, masks=True, joins=True)

    def _make(self, sample: Sample, shape: Shape, rng: np.random.Generator) -> Item | None:
        def draw_donor() -> Sample:
            return self._drawn[_pick(self._everything, rng)]

        return make_item(self.source, sample, shape, self.config, draw_donor, rng)

    def batch(self, step: int) -> Batch:
        """Return this process's batch of a step."""
        shape, drawn = self._items(step)
        count, per_image = len(drawn), self.config.masks_per_image
        low_res = (shape[0] // LOW_RES_STRIDE, shape[1] // LOW_RES_STRIDE)
        pixels = np.empty((count, *shape, 3), np.uint8)
        targets = np.empty((count, per_image, *low_res), np.uint8)
        valid = np.empty((count, per_image, *low_res), bool)
        boxes = np.empty((count, per_image, 4), np.float32)
        for place, (_, item) in enumerate(drawn):
            pixels[place], targets[place] = item.pixels, item.targets
            valid[place], boxes[place] = item.valid, item.boxes
        return Batch(
            torch.from_numpy(pixels).permute(0, 3, 1, 2),
            torch.from_numpy(targets).flatten(0, 1),
            torch.from_numpy(valid).flatten(0, 1),
            torch.from_numpy(boxes).flatten(0, 1),
        )


class PhotoBatches(_Batches):
    """Photos alone: an endless stream of ``PhotoBatch``, drawn as ``TrainingBatches`` draws.

    Args:
        config: What batches are made of.
        seed: Of everything drawn.
        rank: This process's number of ...
        world: ... so many, each of which makes its own part of every step's batch.
        first_step: The step of the first batch.
        square: For models that see the whole frame: a photo keeps its aspect ratio, and what
            remains is zero. Else photos of one aspect ratio share a batch and fill it.
        augment: Show parts of photos, mirrored and in other colours, as for masks; else whole
            photos as ``canonical_pixels`` has them, none of them brought to another aspect ratio.

    Raises:
        FileNotFoundError: If there is no training data.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        config: DataConfig,
        seed: int,
        rank: int = 0,
        world: int = 1,
        first_step: int = 0,
        *,
        square: bool,
        augment: bool,
    ) -> None:
        self.square, self.augment = square, augment
        super().__init__(config, seed, rank, world, first_step, masks=False, joins=augment)

    def _shape_of(self, sample: Sample) -> Shape:
        side = self.config.image_size
        return (side, side) if self.square else bucket_of(sample.size, side)

    def _make(self, sample: Sample, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        if not self.augment:
            return whole_photo(self.source, sample, shape, self.square)
        return make_photo(self.source, sample, shape, self.square, self.config, rng)

    def batch(self, step: int) -> PhotoBatch:
        """Return this process's batch of a step."""
        shape, drawn = self._items(step)
        pixels = np.zeros((len(drawn), *shape, 3), np.uint8)
        for place, (_, photo) in enumerate(drawn):
            pixels[place, : photo.shape[0], : photo.shape[1]] = photo
        return PhotoBatch(
            torch.from_numpy(pixels).permute(0, 3, 1, 2),
            torch.tensor([photo.shape[:2] for _, photo in drawn]),
            torch.tensor([sample.index for sample, _ in drawn]),
        )


def _pick(cumulative: np.ndarray, rng: np.random.Generator) -> int:
    """Draw a number by its weight, from the weights added up."""
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
