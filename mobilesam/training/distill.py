"""Decoupled distillation: a student's image encoder learns its teacher's (MobileSAM, section 3.2).

The embedding is all that prompt encoder and mask decoder know of a picture. A student whose
embeddings are near enough its teacher's can therefore take those two over as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import IterableDataset

from mobilesam.files import sha256_of
from mobilesam.modeling import Sam, prepare_for_inference
from mobilesam.registry import locate
from mobilesam.training import processes
from mobilesam.training.batches import PhotoBatch, PhotoBatches
from mobilesam.training.compiling import compile_parts
from mobilesam.training.config import DistillConfig
from mobilesam.training.embedding_cache import CacheIndex, EmbeddingCache
from mobilesam.training.initialise import (
    load_backbone,
    load_encoder,
    read_trainable,
    short_name,
    student_of,
)
from mobilesam.training.run import Run


class DistillBatch(NamedTuple):
    """Photos and, from the cache, what the teacher makes of them.

    Attributes:
        pixels: (I, 3, h, w) uint8.
        sizes: (I, 2) height and width of the picture within.
        targets: (I, 256, h/16, w/16) float16, or None where the teacher runs along.
    """

    pixels: torch.Tensor
    sizes: torch.Tensor
    targets: torch.Tensor | None

    def to(self, device: torch.device) -> DistillBatch:
        """Move everything to a device."""
        moved = (None if t is None else t.to(device, non_blocking=True) for t in self)
        return DistillBatch(*moved)


class DistillStep(nn.Module):
    """The loss of one step: the mean squared error between two image embeddings.

    Args:
        student: What is trained.
        precision: ``bf16`` for autocast, or ``fp32``.
    """

    def __init__(self, student: Sam, precision: str) -> None:
        super().__init__()
        self.student = student
        self.precision = precision

    def forward(
        self, pixels: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of (I, 3, h, w) pixels, and it and the cosine similarity to log."""
        enabled = self.precision == "bf16"
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=enabled):
            features = self.student.encode_image(pixels)
        features, targets = features.float(), targets.float()
        loss = F.mse_loss(features, targets)
        cosine = F.cosine_similarity(features.detach(), targets, dim=1).mean()
        return loss, {"mse": loss.detach(), "cosine": cosine}


class DistillRun(Run):
    """Teach a student's image encoder its teacher's image embeddings."""

    config: DistillConfig

    def build_model(self) -> Sam:
        """Return the student: its teacher, but for the image encoder."""
        config = self.config
        teacher = read_trainable(config.teacher, config.image_size)
        student = student_of(teacher, config.student)
        self.teacher = prepare_for_inference(teacher).to(self.device)
        if config.compile:
            compile_parts(self.teacher)
        if config.init:
            load_encoder(student, config.init)
        if config.backbone:
            load_backbone(student, Path(config.backbone))
        return student

    def build_step(self) -> nn.Module:
        """Freeze all but the image encoder; return the module that computes a step's loss."""
        self.model.requires_grad_(False)
        self.model.image_encoder.requires_grad_(True)
        return DistillStep(self.model, self.config.precision)

    def uses_all_parameters(self) -> bool:
        """Every step goes through the whole image encoder, and nothing else is trained."""
        return True

    def batches(self, first_step: int) -> _Targets:
        """Return this process's share of the photos of each step."""
        photos = PhotoBatches(
            self.config.data,
            self.config.seed,
            self.rank,
            self.world,
            first_step,
            square=self.model.pads_to_square,
            augment=self.config.cache is None,
        )
        cache = None if self.config.cache is None else self._filled_cache(photos)
        return _Targets(photos, cache)

    def step_arguments(self, batch: DistillBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pixels and the teacher's embeddings of them."""
        pixels = fill_outside(batch.pixels, batch.sizes, self.model.pixel_mean)
        if batch.targets is not None:
            return pixels, batch.targets
        return pixels, self._ask_teacher(pixels)

    @torch.no_grad()
    def _ask_teacher(self, pixels: torch.Tensor) -> torch.Tensor:
        enabled = self.config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled):
            return self.teacher.encode_image(pixels)

    def _filled_cache(self, photos: PhotoBatches) -> EmbeddingCache:
        path, _ = locate(self.config.teacher)
        index = CacheIndex(
            teacher=short_name(self.config.teacher),
            teacher_sha256=sha256_of(path),
            image_size=self.teacher.image_size,
            square=self.teacher.pads_to_square,
            precision=self.config.precision,
            photos=[sample.key for sample in photos.samples],
        )
        cache = EmbeddingCache(self.config.cache, index)
        shards = cache.missing()
        cache.check_room(shards, photos.samples)
        processes.wait_for_all()  # all have looked before any fills
        if shards:
            mine = shards[self.rank :: self.world]
            total = sum(len(cache.photos_of(shard)) for shard in mine)
            self.say(f"embeddings of {total} photos are computed into {cache.folder}")
            with self.progress_bar(total=total, unit="photo") as bar:
                cache.fill(
                    mine,
                    photos.source,
                    photos.samples,
                    self._encode_for_cache,
                    self.config.workers,
                    bar.update,
                )
            processes.wait_for_all()
        if cache.missing():
            raise FileNotFoundError(
                f"{cache.folder} lacks shards that another process has written; give several "
                "machines a cache folder that all of them see."
            )
        return cache

    def _encode_for_cache(self, pixels: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        pixels, sizes = (self.to_device(tensor) for tensor in (pixels, sizes))
        return self._ask_teacher(fill_outside(pixels, sizes, self.teacher.pixel_mean))

    def facts(self) -> dict[str, str]:
        """Name the teacher, too, and what the student began with."""
        facts = {**super().facts(), "teacher": short_name(self.config.teacher)}
        return facts | ({"init": short_name(self.config.init)} if self.config.init else {})


class _Targets(IterableDataset):
    """Batches of photos, with the teacher's embeddings where a cache has them."""

    def __init__(self, photos: PhotoBatches, cache: EmbeddingCache | None) -> None:
        self.photos, self.cache = photos, cache
        self.set_names = photos.set_names

    def __iter__(self) -> Iterator[DistillBatch]:
        batch: PhotoBatch
        for batch in self.photos:
            targets = self.cache.read(batch.indices.tolist()) if self.cache else None
            yield DistillBatch(batch.pixels, batch.sizes, targets)


def fill_outside(pixels: torch.Tensor, sizes: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Give what lies outside the picture the colour that normalising makes zero.

    That is what ``Sam.preprocess`` pads with, which comes too late where a batch holds pictures
    of several sizes.

    Args:
        pixels: (I, 3, h, w) uint8.
        sizes: (I, 2) height and width of the picture in the upper left corner.
        mean: (3, 1, 1) the model's mean colour.

    Returns:
        (I, 3, h, w) float32 in 0..255.
    """
    rows, columns = (torch.arange(n, device=pixels.device) for n in pixels.shape[-2:])
    inside_y, inside_x = rows < sizes[:, :1], columns < sizes[:, 1:]
    inside = inside_y[:, None, :, None] & inside_x[:, None, None, :]  # (I, 1, h, w)
    return torch.where(inside, pixels.float(), mean)
