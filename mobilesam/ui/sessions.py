"""What the server remembers of one visitor, and how much of it all visitors may hold together.

A session holds nothing that cannot be computed again: when memory runs short its embedding is
dropped, and the next click has it encoded once more without the visitor noticing.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from mobilesam.predictor import ImageEmbedding

DEFAULT_BUDGET_BYTES = 384 * 1024**2  # 38 square photos by MobileSAM, 10 MiB each
KEPT_STEPS = 32  # low-res logits of a visitor's last masks, 256 KiB each at 1024 px
KEPT_FILES = 2  # of each kind and visitor: the last one, and one that may still be on its way


class StepMemory(MutableMapping[Hashable, np.ndarray]):
    """Low-res logits of the last masks, from which further clicks go on; the oldest one goes first.

    Thread-safe: two requests of one visitor may use it at once.
    """

    def __init__(self, limit: int = KEPT_STEPS) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, key: Hashable) -> np.ndarray:
        with self._lock:
            self._kept.move_to_end(key)
            return self._kept[key]

    def __setitem__(self, key: Hashable, logits: np.ndarray) -> None:
        with self._lock:
            self._kept[key] = logits
            self._kept.move_to_end(key)
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)

    def __delitem__(self, key: Hashable) -> None:
        with self._lock:
            del self._kept[key]

    def pop(self, key: Hashable, default: Any = None) -> Any:
        """Take an entry out; the default if there is none."""
        with self._lock:
            return self._kept.pop(key, default)

    def __iter__(self) -> Iterator[Hashable]:
        with self._lock:
            return iter(list(self._kept))

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes of all logits."""
        with self._lock:
            return sum(logits.nbytes for logits in self._kept.values())


class Snapshot(NamedTuple):
    """A session's photo at one moment; its parts always belong together.

    Attributes are those of `Session`.
    """

    picture_id: str
    content: str
    source: Path | None
    title: str
    original_size: tuple[int, int]
    pixels: np.ndarray | None
    embedding: ImageEmbedding | None
    example: str | None
    steps: StepMemory


class Session:
    """One browser tab: the photo it shows and that photo's embedding.

    Lives in `gr.State`, which hands every visitor a deep copy of the initial value and keeps it by
    reference from then on; a copy is therefore a fresh, empty session, never a shared one. No
    dataclass: Gradio would turn one into a dictionary, tensors and all, with every update.

    Attributes:
        picture_id: Random name of the photo now shown, "" before the first one.
        content: Digest of what is seen of it: the same when it is opened again.
        source: The photo's file, from which everything else can be made again.
        title: File name for the visitor.
        original_size: `(height, width)` of the photo, EXIF rotation applied.
        pixels: (H, W, 3) uint8, held only from opening the photo to the end of its encoding.
        embedding: The encoded photo, or None when not yet encoded or cleared to save memory.
        example: File name of the example it is, or None for a visitor's own photo.
        steps: What earlier clicks on this embedding gave.
        last_used: `time.monotonic()` of the last request.
    """

    def __init__(self) -> None:
        self.picture_id = ""
        self.content = ""
        self.source: Path | None = None
        self.title = ""
        self.original_size: tuple[int, int] = (0, 0)
        self.pixels: np.ndarray | None = None
        self.embedding: ImageEmbedding | None = None
        self.example: str | None = None
        self.steps = StepMemory()
        self._is_shared = False  # the embedding belongs to all visitors
        self.last_used = 0.0
        self._files: dict[str, deque[str]] = {}
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        return Session()

    @property
    def nbytes(self) -> int:
        """Bytes of picture and embedding held in memory now."""
        own = None if self._is_shared else self.embedding
        held = (self.pixels, own, self.steps)  # read once: another thread may clear them
        return sum(entry.nbytes for entry in held if entry is not None)

    def snapshot(self) -> Snapshot:
        """Return the photo as it is now; another one may be opened while it is worked on."""
        with self._lock:
            return Snapshot(
                self.picture_id,
                self.content,
                self.source,
                self.title,
                self.original_size,
                self.pixels,
                self.embedding,
                self.example,
                self.steps,
            )

    def note_file(self, kind: str, path: str) -> str | None:
        """Remember a file that was made for the visitor; return one no longer needed, if any."""
        with self._lock:
            files = self._files.setdefault(kind, deque())
            files.append(path)
            return files.popleft() if len(files) > KEPT_FILES else None

    def show(
        self,
        picture_id: str,
        source: Path,
        title: str,
        pixels: np.ndarray,
        example: str | None = None,
        content: str = "",
    ) -> None:
        """Replace the photo; the embedding of the one before is dropped."""
        with self._lock:
            self.picture_id = picture_id
            self.content = content
            self.source = source
            self.title = title
            self.original_size = pixels.shape[:2]
            self.pixels = pixels
            self.example = example
            self._forget_embedding()

    def keep(self, picture_id: str, embedding: ImageEmbedding, shared: bool = False) -> bool:
        """Store an embedding unless another photo has been opened meanwhile; say which.

        Args:
            picture_id: The photo it was made of.
            embedding: The embedding.
            shared: It belongs to all visitors, so this one is not charged for it.
        """
        with self._lock:
            if picture_id != self.picture_id:
                return False
            self._forget_embedding()
            self.embedding = embedding
            self._is_shared = shared
            self.pixels = None
            return True

    def release(self) -> None:
        """Drop what can be computed again."""
        with self._lock:
            self.pixels = None
            self._forget_embedding()

    def _forget_embedding(self) -> None:
        self.embedding = None
        self._is_shared = False
        self.steps = StepMemory()  # a new one: a click under way may still write into the old one


class MemoryBudget:
    """Keep all live sessions together under a number of bytes, least recently used first.

    Sessions are held weakly: the budget counts and clears them but never keeps one alive.
    """

    def __init__(self, limit_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        if limit_bytes <= 0:
            raise ValueError(f"limit_bytes must be positive; got {limit_bytes}")
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._by_visitor: weakref.WeakValueDictionary[str, Session] = weakref.WeakValueDictionary()

    @property
    def total_bytes(self) -> int:
        """Bytes held by all live sessions."""
        with self._lock:
            return sum(session.nbytes for session in self._sessions)

    def touch(self, session: Session, visitor: str | None = None) -> None:
        """Note that a session was used, and clear others if all together hold too much.

        Args:
            session: The session of the request now served; it is never cleared here.
            visitor: Gradio's session hash, by which `release_visitor` finds the session again.
        """
        session.last_used = time.monotonic()
        with self._lock:
            self._sessions.add(session)
            if visitor:
                self._by_visitor[visitor] = session
            others = sorted(
                (other for other in self._sessions if other is not session),
                key=lambda other: other.last_used,
            )
            total_bytes = session.nbytes + sum(other.nbytes for other in others)
            for other in others:
                if total_bytes <= self.limit_bytes:
                    break
                total_bytes -= other.nbytes
                other.release()

    def release_visitor(self, visitor: str | None) -> None:
        """Clear the session of a tab that was closed or put to sleep."""
        with self._lock:
            session = self._by_visitor.get(visitor or "")
        if session is not None:
            session.release()
