"""Photos that calls from outside name, and the last few of their embeddings."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilesam.transforms import read_image
from mobilesam.ui.messages import parse_file_name

if TYPE_CHECKING:
    import numpy as np

    from mobilesam.predictor import ImageEmbedding, Predictor
    from mobilesam.ui.segment import Studio

KEPT_EMBEDDINGS = 4  # of 10 MiB each, at most
Key = tuple[bytes, str]  # of the picture's content, and the model's identity


class RecentEmbeddings:
    """The last few embeddings, so that a further question about a picture costs a decode only.

    They are found by the picture's content and the model, never by who asked.
    """

    def __init__(self, count: int = KEPT_EMBEDDINGS) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, ImageEmbedding] = OrderedDict()

    def find(self, key: Key) -> ImageEmbedding | None:
        """Return what was kept under a key, if it still is."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: Key, embedding: ImageEmbedding) -> None:
        """Keep an embedding, and drop the one that was not asked for the longest."""
        with self._lock:
            self._kept[key] = embedding
            self._kept.move_to_end(key)
            while len(self._kept) > self._count:
                self._kept.popitem(last=False)


class CalledPhoto:
    """A file that a call names; it is read when its pixels are needed.

    Args:
        studio: Bounds how many photos are read at once.
        recent: Embeddings of calls before.
        path: Of the file.
        name: What the caller calls it; by default as the file is called.
    """

    def __init__(
        self, studio: Studio, recent: RecentEmbeddings, path: Path, name: Any = None
    ) -> None:
        self._studio, self._recent, self._path = studio, recent, path
        self.name = parse_file_name(name or path.name)

    @cached_property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, upright.

        Raises:
            FileNotFoundError, ValueError: As ``transforms.read_image``.
        """
        with self._studio.open_slots:
            return read_image(self._path)

    def read(self) -> np.ndarray:
        """Return `pixels`."""
        return self.pixels

    @cached_property
    def _digest(self) -> bytes:
        with self._path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def size(self, predictor: Predictor) -> tuple[int, int]:
        """Return its (height, width) in pixels, without reading it if it was encoded before."""
        known = self._recent.find((self._digest, predictor.model.identity))
        return known.original_size if known else (self.pixels.shape[0], self.pixels.shape[1])

    def embedding(self, predictor: Predictor) -> tuple[ImageEmbedding, float]:
        """Return its embedding, and how many milliseconds the encoding took; 0 if it was known."""
        key = (self._digest, predictor.model.identity)
        known = self._recent.find(key)
        if known is not None:
            return known, 0.0
        pixels = self.pixels
        with self._studio.encode_slots:
            embedding = predictor.encode(pixels)
        self._recent.keep(key, embedding)
        return embedding, embedding.encode_ms
