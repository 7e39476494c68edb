"""From photos and label maps to batches: zoomed crops, flips, colour changes, targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch.utils.data import DataLoader, IterableDataset

from mobilesam.modeling.image_encoder import EMBED_STRIDE
from mobilesam.training.shards import IGNORE, Sample, Shards, masks_of
from mobilesam.transforms import LOW_RES_STRIDE

SMALL_FIRST = 0.4  # power of a mask's area by which smaller ones are drawn before larger ones
MAX_DRAWS = 1000  # photos for one batch


@dataclass(frozen=True)
class DataConfig:
    """What a training batch is made of.

    Attributes:
        data: Folder with the tar shards.
        image_size: Side of the input frame, pixels.
        images_per_batch: Photos per step and process; all of one aspect ratio.
        masks_per_image: Object masks drawn from each photo.
        max_zoom: Crops show between the whole photo and 1 / ``max_zoom`` of its sides.
        whole_photo_share: Share of photos that are not cropped.
        min_mask_share: Masks smaller than this share of a crop are not asked for.
        set_weights: How often a photo of a set is drawn, relative to once per pass.
    """

    data: str = "../shared/data"
    image_size: int = 384
    images_per_batch: int = 5
    masks_per_image: int = 5
    max_zoom: float = 2.5
    whole_photo_share: float = 0.35
    min_mask_share: float = 0.0015
    set_weights: tuple[tuple[str, float], ...] = (
        ("duts_tr", 0.5),
        ("coco_sub", 10.0),
        ("coco_person", 2.5),
        ("ccp", 2.5),
        ("car_parts", 2.5),
        ("bsds500", 1.5),
        ("human290", 1.5),
        ("animals", 1.5),
    )


@dataclass
class Batch:
    """One training step's photos and masks.

    Attributes:
        pixels: (I, 3, h, w) uint8 RGB, h and w multiples of 16.
        targets: (I * K, h/4, w/4) float32 share of each low-res cell that the mask covers.
        valid: (I * K, h/4, w/4) float32, 0 where the label map says ignore.
        boxes: (I * K, 4) tight x0, y0, x1, y1 of each mask in the input frame.
    """

    pixels: torch.Tensor
    targets: torch.Tensor
    valid: torch.Tensor
    boxes: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """Move everything to a device."""
        return Batch(*(t.to(device, non_blocking=True) for t in vars(self).values()))


class TrainingBatches(IterableDataset):
    """An endless stream of batches, reproducible from a seed.

    Photos of one aspect ratio share a batch, so that nothing is padded.
    """

    def __init__(self, config: DataConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        self.shards = Shards(Path(config.data), "train")
        weights = dict(config.set_weights)
        self.buckets: dict[tuple[int, int], list[Sample]] = {}
        for sample in self.shards.samples:
            if not sample.label_maps:
                continue
            self.buckets.setdefault(bucket_of(sample.size, config.image_size), []).append(sample)
        self.bucket_weights = {
            shape: np.array([weights.get(s.set_name, 1.0) for s in samples])
            for shape, samples in self.buckets.items()
        }

    @property
    def set_names(self) -> list[str]:
        """The data sets drawn from, in alphabetical order."""
        return sorted({sample.set_name for sample in self.shards.samples})

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        shapes = list(self.buckets)
        totals = np.array([self.bucket_weights[shape].sum() for shape in shapes])
        while True:
            shape = shapes[rng.choice(len(shapes), p=totals / totals.sum())]
            yield self._batch(shape, rng)

    def _batch(self, shape: tuple[int, int], rng: np.random.Generator) -> Batch:
        weights = self.bucket_weights[shape]
        items: list[tuple[np.ndarray, ...]] = []
        for _ in range(MAX_DRAWS):
            if len(items) == self.config.images_per_batch:
                break
            sample = self.buckets[shape][rng.choice(len(weights), p=weights / weights.sum())]
            item = self._item(sample, shape, rng)
            if item is not None:
                items.append(item)
        else:
            raise ValueError(
                f"{MAX_DRAWS} photos of about {shape[1]}×{shape[0]} gave too few masks over "
                f"{self.config.min_mask_share:.2%} of the crop; lower min_mask_share."
            )
        pixels, targets, valid, boxes = zip(*items, strict=True)
        return Batch(
            torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2),
            torch.from_numpy(np.concatenate(targets)),
            torch.from_numpy(np.concatenate(valid)),
            torch.from_numpy(np.concatenate(boxes)),
        )

    def _item(
        self, sample: Sample, shape: tuple[int, int], rng: np.random.Generator
    ) -> tuple[np.ndarray, ...] | None:
        label_maps = self.shards.label_maps(sample)
        found = masks_of(label_maps)
        if not found:
            return None
        window = self._window(label_maps, found, sample.size, rng)
        flip = rng.random() < 0.5
        crops = [_crop(labels, window, flip) for labels in label_maps]
        least = self.config.min_mask_share * crops[0].size
        inside = [found for found in masks_of(crops) if found[2] >= least]
        if not inside:
            return None
        areas = np.array([area for _, _, area in inside], dtype=np.float64)
        chosen = _draw(areas, self.config.masks_per_image, rng)
        targets, valid, boxes = zip(
            *(_target(crops[inside[i][0]], inside[i][1], shape) for i in chosen), strict=True
        )
        photo = self.shards.photo(sample).crop(window)
        photo = photo.resize(shape[::-1], Image.Resampling.BILINEAR)
        photo = _change_colours(photo, rng)
        pixels = np.asarray(photo)
        pixels = pixels[:, ::-1] if flip else pixels
        return np.ascontiguousarray(pixels), np.stack(targets), np.stack(valid), np.stack(boxes)

    def _window(
        self,
        label_maps: list[np.ndarray],
        found: list[tuple[int, int, int]],
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[int, int, int, int]:
        """Choose x0, y0, x1, y1 of a crop round a point of some mask, small ones as often."""
        height, width = size
        if rng.random() < self.config.whole_photo_share:
            return 0, 0, width, height
        zoom = np.exp(rng.uniform(0, np.log(self.config.max_zoom)))
        w, h = max(16, round(width / zoom)), max(16, round(height / zoom))
        index, label, _ = found[rng.integers(len(found))]
        ys, xs = np.nonzero(label_maps[index] == label)
        at = rng.integers(len(ys))
        x0 = int(np.clip(xs[at] - rng.uniform(0.2, 0.8) * w, 0, width - w))
        y0 = int(np.clip(ys[at] - rng.uniform(0.2, 0.8) * h, 0, height - h))
        return x0, y0, x0 + w, y0 + h


def bucket_of(size: tuple[int, int], image_size: int) -> tuple[int, int]:
    """Return the (h, w) that photos of about this aspect ratio are brought to in a batch."""
    scale = image_size / max(size)
    steps = 2 * EMBED_STRIDE
    h, w = (min(image_size, max(steps, round(side * scale / steps) * steps)) for side in size)
    return h, w


def _crop(labels: np.ndarray, window: tuple[int, int, int, int], flip: bool) -> np.ndarray:
    x0, y0, x1, y1 = window
    crop = labels[y0:y1, x0:x1]
    return crop[:, ::-1] if flip else crop


def _draw(areas: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the numbers of ``wanted`` masks, each once before any comes again.

    Small masks go first more often, so that what is learned from is spread over log-area.
    """
    odds = areas**-SMALL_FIRST
    order = rng.choice(len(areas), len(areas), replace=False, p=odds / odds.sum())
    return np.resize(order, wanted)


def _target(
    labels: np.ndarray, label: int, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mask = labels == label
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    sx, sy = shape[1] / labels.shape[1], shape[0] / labels.shape[0]
    box = np.array(
        [columns[0] * sx, rows[0] * sy, (columns[-1] + 1) * sx, (rows[-1] + 1) * sy], np.float32
    )
    low_res = (shape[1] // LOW_RES_STRIDE, shape[0] // LOW_RES_STRIDE)
    target = _cover(mask, low_res)
    ignored = labels == IGNORE
    valid = (
        (_cover(ignored, low_res) < 0.5).astype(np.float32)
        if ignored.any()
        else np.ones_like(target)
    )
    return target, valid, box


def _cover(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the share of each cell that a mask covers, (h, w) float32 from ``size`` (w, h)."""
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32) / 255


def _change_colours(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        if rng.random() < 0.5:
            photo = enhance(photo).enhance(rng.uniform(0.7, 1.3))
    return photo.convert("L").convert("RGB") if rng.random() < 0.03 else photo


def training_loader(batches: TrainingBatches, workers: int) -> DataLoader:
    """Return an endless loader of ``Batch``; several workers' batches differ."""
    return DataLoader(
        batches,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_one_thread if workers else None,
    )


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
