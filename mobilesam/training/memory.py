"""A source whose photos and masks are decoded once and kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from mobilesam.machine import usable_cores
from mobilesam.training.sources import Objects, Sample, SampleError, Source

LOG_PARTS = 5  # lines of progress
THREADS = 16

logger = logging.getLogger(__name__)
Kept = tuple[np.ndarray | None, Objects | None]


class InMemory:
    """Another source's samples, every one decoded when this is made.

    Worker processes that are forked afterwards share the memory.

    Args:
        source: What reads them.
        samples: Which ones; the first so many of the source.
        masks: Whether masks are kept, too; without, ``objects`` asks the other source.
    """

    def __init__(self, source: Source, samples: Sequence[Sample], *, masks: bool = True) -> None:
        self.source = source
        self.samples = list(samples)
        self.max_step = source.max_step
        self._masks = masks
        start = time.perf_counter()
        self._kept: list[Kept] = []
        part = max(1, -(-len(self.samples) // LOG_PARTS))
        with ThreadPoolExecutor(min(THREADS, usable_cores())) as pool:
            for kept in pool.map(self._read, self.samples):
                self._kept.append(kept)
                if len(self._kept) % part == 0 or len(self._kept) == len(self.samples):
                    logger.info("decoded %d of %d photos", len(self._kept), len(self.samples))
        logger.info(
            "photos and masks take %.2f GiB of memory; decoding them took %.0f s",
            self.nbytes / 2**30,
            time.perf_counter() - start,
        )

    @property
    def nbytes(self) -> int:
        """How much memory the pixels and the masks take."""
        photos = sum(photo.nbytes for photo, _ in self._kept if photo is not None)
        return photos + sum(objects.nbytes for _, objects in self._kept if objects is not None)

    def _read(self, sample: Sample) -> Kept:
        photo: np.ndarray | None = None
        objects: Objects | None = None
        try:
            photo = np.asarray(self.source.photo(sample))
            if self._masks:
                objects = self.source.objects(sample)
        except SampleError:  # said by the source
            pass
        return photo, objects

    def photo(self, sample: Sample, step: int = 1) -> Image.Image:
        """Return a photo, as ``Source.photo``."""
        pixels, _ = self._kept[sample.index]
        if pixels is None:
            raise SampleError(f"{sample.key} cannot be read.")
        photo = Image.fromarray(pixels)
        return photo.reduce(step) if step > 1 else photo

    def objects(self, sample: Sample) -> Objects:
        """Return a photo's masks, as ``Source.objects``."""
        if not self._masks:
            return self.source.objects(sample)
        _, objects = self._kept[sample.index]
        if objects is None:
            raise SampleError(f"The masks of {sample.key} cannot be read.")
        return objects
