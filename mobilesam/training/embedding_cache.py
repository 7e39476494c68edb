"""A teacher's image embeddings on disk, so that it looks at every photo only once."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.utils.data import Dataset

from mobilesam.files import write_atomically
from mobilesam.modeling.image_encoder import EMBED_DIM, EMBED_STRIDE
from mobilesam.training.buckets import bucket_of
from mobilesam.training.checkpointing import write_tensors
from mobilesam.training.items import canonical_pixels
from mobilesam.training.loader import training_loader
from mobilesam.training.sources import Sample, SampleError, Source

INDEX = "index.json"
PHOTOS_PER_SHARD = 256
PHOTOS_PER_PASS = 8  # through the teacher
Encode = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class CacheIndex:
    """What the embeddings in a folder are of.

    Attributes:
        teacher: The teacher's name.
        teacher_sha256: Of its checkpoint file.
        image_size: Side of its input frame, pixels.
        square: Whether it sees the whole frame.
        precision: What the teacher computed in, ``bf16`` or ``fp32``.
        photos: Keys of the photos, in the order of their numbers.
    """

    teacher: str
    teacher_sha256: str
    image_size: int
    square: bool
    precision: str
    photos: list[str]


class EmbeddingCache:
    """Half-precision embeddings in safetensors shards of 256 photos each.

    A shard appears whole or not at all, so a filling that was cut off goes on with the next one;
    several processes fill shards in turn. Nothing is read before it is asked for. A damaged photo
    has no embedding: nobody will ask for it.

    Args:
        folder: Where the shards lie; several machines must all see it.
        index: What they are of.

    Raises:
        ValueError: If the folder holds embeddings of anything else.
    """

    def __init__(self, folder: str | Path, index: CacheIndex) -> None:
        self.folder = Path(folder)
        self.index = index
        self._open: dict[int, safe_open] = {}
        path = self.folder / INDEX
        if path.exists():
            self._compare(path)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(index), indent=1).encode())

    def _compare(self, path: Path) -> None:
        try:
            found = json.loads(path.read_text())
            if not isinstance(found, dict) or not isinstance(found.get("photos"), list):
                raise ValueError("not what is written there")
        except ValueError as error:
            raise ValueError(
                f"{path} is no index of embeddings; name another cache, or remove that folder."
            ) from error
        wanted = asdict(self.index)
        del wanted["teacher"]  # by whatever name: the weights count
        changed = [name for name in wanted if found.get(name) != wanted[name]]
        if changed:
            whose = f"{found.get('teacher')!r} at {found.get('image_size')} px"
            raise ValueError(
                f"{self.folder} holds embeddings by {whose} of {len(found['photos'])} "
                f"photos, which differ from what is wanted in {', '.join(changed)}; name another "
                "cache, or remove that folder."
            )

    def missing(self) -> list[int]:
        """Return the numbers of the shards that are not there."""
        count = -(-len(self.index.photos) // PHOTOS_PER_SHARD)
        return [number for number in range(count) if not self._path(number).exists()]

    def _path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:05d}.safetensors"

    def photos_of(self, shard: int) -> range:
        """Return the numbers of the photos whose embeddings a shard holds."""
        first = shard * PHOTOS_PER_SHARD
        return range(first, min(first + PHOTOS_PER_SHARD, len(self.index.photos)))

    def fill(
        self,
        shards: Sequence[int],
        source: Source,
        samples: Sequence[Sample],
        encode: Encode,
        workers: int,
        progress: Callable[[int], None],
    ) -> None:
        """Compute the embeddings of some shards.

        Args:
            shards: Their numbers.
            source: What reads the photos.
            samples: All photos, in the order of the index.
            encode: Maps (B, 3, h, w) uint8 pixels and the (B, 2) sizes of the pictures in them to
                (B, 256, h', w') embeddings.
            workers: Processes that read photos.
            progress: Called with the number of photos that were added.
        """
        numbers = [number for shard in shards for number in self.photos_of(shard)]
        read = training_loader(_Photos(source, samples, numbers, self.index), workers)
        # a shard is written while the next is computed
        with closing(read) as loader, ThreadPoolExecutor(1) as writer:
            items = zip(numbers, loader, strict=True)
            writing: Future[None] | None = None
            for shard, group in itertools.groupby(items, lambda item: item[0] // PHOTOS_PER_SHARD):
                embeddings = {}
                for chunk in _same_shape(group):
                    photos, pixels, sizes = zip(*chunk, strict=True)
                    encoded = encode(torch.stack(pixels), torch.stack(sizes)).half().cpu()
                    for number, embedding in zip(photos, encoded, strict=True):
                        embeddings[str(number)] = embedding.contiguous()
                    progress(len(chunk))
                if writing is not None:
                    writing.result()
                writing = writer.submit(write_tensors, self._path(shard), embeddings)
            if writing is not None:
                writing.result()

    def check_room(self, shards: Sequence[int], samples: Sequence[Sample]) -> None:
        """Check that the disk has room for some shards: all that will be filled, by any process.

        Raises:
            ValueError: If it has not.
        """
        needed = 0
        for shard in shards:
            for number in self.photos_of(shard):
                side = self.index.image_size
                h, w = (side, side) if self.index.square else bucket_of(samples[number].size, side)
                needed += 2 * EMBED_DIM * (h // EMBED_STRIDE) * (w // EMBED_STRIDE)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise ValueError(
                f"The embeddings need {needed / 1e9:.1f} GB in {self.folder}, which has "
                f"{free / 1e9:.1f} GB free; name a cache on another disk, or go without one."
            )

    def read(self, numbers: Sequence[int]) -> torch.Tensor:
        """Read (B, 256, h, w) float16 embeddings of photos whose embeddings have one shape.

        Raises:
            ValueError: If a shard is damaged.
        """
        return torch.stack([self._read_one(number) for number in numbers])

    def _read_one(self, number: int) -> torch.Tensor:
        shard = number // PHOTOS_PER_SHARD
        path = self._path(shard)
        try:
            if shard not in self._open:
                self._open[shard] = safe_open(path, framework="pt")
            return self._open[shard].get_tensor(str(number))
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{path} has no embedding of photo {number} that can be read ({error}); remove "
                "that file and start again: it is then computed anew."
            ) from error


class _Photos(Dataset):
    """Photos by their numbers, as the teacher sees them."""

    def __init__(
        self,
        source: Source,
        samples: Sequence[Sample],
        numbers: Sequence[int],
        index: CacheIndex,
    ) -> None:
        self.source, self.samples, self.numbers, self.index = source, samples, numbers, index

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, at: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        sample = self.samples[self.numbers[at]]
        try:
            return canonical_pixels(self.source, sample, self.index.image_size, self.index.square)
        except SampleError:  # said by the source
            return None


def _same_shape(items: Iterator[tuple[int, Any]]) -> Iterator[list[tuple]]:
    """Gather (number, pixels, size) of photos whose pixels have one shape, a few at a time."""
    waiting: dict[torch.Size, list[tuple]] = {}
    for number, photo in items:
        if photo is None:
            continue
        pixels, size = photo
        waiting.setdefault(pixels.shape, []).append((number, pixels, size))
        if len(waiting[pixels.shape]) == PHOTOS_PER_PASS:
            yield waiting.pop(pixels.shape)
    yield from waiting.values()
