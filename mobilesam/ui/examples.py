"""The example photographs: their prompts, their thumbnails, and their embeddings made in advance.

What a visitor sees first is an example that is segmented already. Its prompts come from
`prompts.json` beside the photographs; without that file the photographs still come.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import os
import re
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from mobilesam.prompts import Prompts
from mobilesam.ui.models import OFFICIAL

if TYPE_CHECKING:
    from mobilesam.predictor import ImageEmbedding, Predictor
    from mobilesam.ui.models import ModelShelf

LOGGER = logging.getLogger(__name__)

PROMPTS_FILE = "prompts.json"
THUMBNAIL_SIDE = 240  # px, longest side of an example's thumbnail
COLORS = ("#1e90ff", "#e69f00", "#009e73", "#cc79a7", "#f0e442")  # of objects that name none
LIMIT_BYTES = 160 * 1024**2  # eight square photographs by two models of 1024 px, 10 MiB each
END_WAIT_S = 10.0  # for a photograph on a busy machine
LOOK_AGAIN_S = 2.0  # how often to see whether the official model has arrived
_HEX_COLOR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True)
class Example:
    """An example photograph and what it shows.

    Attributes:
        name: File name, by which the page asks for it.
        path: The file.
        title: What it is called on the page.
        thumbnail: A small data URI.
        hint: One line: what its prompts show; "" without prompts.
        credit: Who took it, and on what terms it is shown; "" where that is not said.
        source: Where it comes from, an https address, or "".
        objects: Objects in the page's form, without ids; empty without prompts.
    """

    name: str
    path: Path
    title: str
    thumbnail: str
    hint: str = ""
    credit: str = ""
    source: str = ""
    objects: list[dict[str, Any]] = field(default_factory=list)


def find_examples(folder: str | Path) -> dict[str, Example]:
    """Return the example photographs (`*.jpg`) of a folder by file name.

    Those of `prompts.json` come first, in its order; the others follow alphabetically. Prompts
    and photographs that cannot be used are left out, and the log says so.
    """
    small: dict[str, str] = {}
    for path in sorted(Path(folder).glob("*.jpg")):
        try:
            small[path.name] = _thumbnail(path)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            LOGGER.warning("The example %s is left out: %s", path, error)
    described = _read_prompts(Path(folder, PROMPTS_FILE)) if small else {}
    order = [name for name in described if name in small]
    order += [name for name in small if name not in described]
    return {name: _example(Path(folder, name), small[name], described.get(name)) for name in order}


def _read_prompts(path: Path) -> dict[str, Any]:
    try:
        described = json.loads(path.read_text("utf-8"))
        if not isinstance(described, dict):
            raise ValueError(f"expected an object, got {type(described).__name__}")
    except FileNotFoundError:
        LOGGER.warning("The examples come without prompts: there is no %s", path)
        return {}
    except (OSError, ValueError) as error:
        LOGGER.warning("The examples come without prompts: %s cannot be read: %s", path, error)
        return {}
    return described


def _example(path: Path, thumbnail: str, entry: Any) -> Example:
    title = path.stem.replace("_", " ").replace("-", " ").capitalize()
    plain = Example(path.name, path, title, thumbnail)
    if entry is None:
        return plain
    try:
        source = str(entry.get("source", ""))
        source = source if source.startswith("https://") else ""
        plain = replace(plain, credit=str(entry.get("credit", "")), source=source)
        with Image.open(path) as photo:
            width, height = ImageOps.exif_transpose(photo).size
        objects = [
            _wire_object(raw, number, (height, width))
            for number, raw in enumerate(entry["objects"], start=1)
        ]
        title, hint = str(entry.get("title", title)), str(entry.get("hint", ""))
        return replace(plain, title=title, hint=hint, objects=objects)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        LOGGER.warning("%s comes without prompts, those given cannot be used: %r", path, error)
        return plain


def _wire_object(raw: Mapping[str, Any], number: int, size: tuple[int, int]) -> dict[str, Any]:
    """Complete one object of `prompts.json`, once its prompts are known to fit the photo."""
    points, box = list(raw.get("points", [])), raw.get("box")
    Prompts.check(
        size,
        [point[:2] for point in points] or None,
        [point[2] for point in points] or None,
        box,
    )
    color = str(raw.get("color", COLORS[(number - 1) % len(COLORS)]))
    if not _HEX_COLOR.fullmatch(color):
        raise ValueError(f"a colour must be #rrggbb, got {color}")
    steps = list(range(0 if box else 1, len(points) + 1))
    return {
        "name": str(raw.get("name", f"Object {number}")),
        "color": color,
        "hidden": False,
        "points": points,
        "box": box,
        "steps": steps,
        "choices": list(raw.get("choices", [None] * len(steps))),
        "refine": {"area": 0, "smooth": 0, "feather": 0} | dict(raw.get("refine", {})),
    }


def thumbnails(examples: Mapping[str, Example]) -> list[dict[str, Any]]:
    """Return what the page knows of each example: words, objects, a small data URI."""
    return [
        {
            "name": example.name,
            "title": example.title,
            "hint": example.hint,
            "credit": example.credit,
            "source": example.source,
            "thumbnail": example.thumbnail,
            "objects": example.objects,
        }
        for example in examples.values()
    ]


def _thumbnail(path: Path) -> str:
    with Image.open(path) as photo:
        photo.draft("RGB", (2 * THUMBNAIL_SIDE, 2 * THUMBNAIL_SIDE))
        small = ImageOps.exif_transpose(photo).convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


class ReadyEmbeddings:
    """Encode the examples before anybody asks, so that their first click is answered at once.

    One photograph at a time, the first example first, in a thread that yields to everything else:
    with the standard model, then with the official one when it is there or its download has
    arrived. They end where they would hold more than a number of bytes.

    Args:
        examples: From `find_examples`.
        models: Where the predictors are.
        wait: Called before each photograph; may block while visitors are served.
        limit_bytes: Bound on all embeddings together.
    """

    def __init__(
        self,
        examples: Mapping[str, Example],
        models: ModelShelf,
        wait: Callable[[], object] = lambda: None,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self._examples = dict(examples)
        self._models = models
        self._wait = wait
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], ImageEmbedding] = {}
        self._is_full = False
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        with self._lock:
            return sum(embedding.nbytes for embedding in self._held.values())

    def start(self) -> threading.Thread:
        """Encode in the background what is still missing; returns the thread, a daemon."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._work, name="example-embeddings", daemon=True
                )
                weakref.finalize(self, _end, self._thread, self._ending)  # when Python ends
                self._thread.start()
            return self._thread

    def embedding(self, name: str, predictor: Predictor) -> ImageEmbedding | None:
        """Return an example's embedding by this predictor's model; None if there is none (yet)."""
        with self._lock:
            found = self._held.get((name, predictor.model.identity))
            may_follow = self._thread is not None and not self._is_full
        if found is None and may_follow and predictor.model.name == OFFICIAL:
            self.start()  # it came later than the thread has waited
        return found

    def _work(self) -> None:
        _yield_to_others()
        self._encode_all(self._models.default)
        while self._models.status()["percent"] is not None:
            if self._ending.wait(LOOK_AGAIN_S):
                return
        if any(choice["name"] == OFFICIAL for choice in self._models.status()["choices"]):
            self._encode_all(OFFICIAL)

    def _encode_all(self, model: str) -> None:
        """Encode what is missing, and then the first of it once more.

        The page says how long a photo took, and a process's first encoding takes several times as
        long as any other.
        """
        predictor = self._models.predictor(model)
        with self._lock:
            missing = [
                example
                for example in self._examples.values()
                if (example.name, predictor.model.identity) not in self._held
            ]
        for example in (*missing, *missing[:1]):
            self._wait()
            if self._ending.is_set() or self._is_full:
                return
            try:
                embedding = predictor.encode(example.path)
            except Exception:  # the visitor who opens it is told
                LOGGER.exception("The example %s could not be encoded", example.name)
                continue
            if not self._keep((example.name, predictor.model.identity), embedding):
                LOGGER.info("No more examples are kept encoded: %d bytes are held", self.nbytes)
                return

    def _keep(self, key: tuple[str, str], embedding: ImageEmbedding) -> bool:
        with self._lock:
            others = sum(held.nbytes for name, held in self._held.items() if name != key)
            has_room = others + embedding.nbytes <= self._limit_bytes
            if has_room:
                self._held[key] = embedding
            self._is_full = not has_room
            return has_room


def _end(thread: threading.Thread, ending: threading.Event) -> None:
    """Let the photograph that is being encoded be the last: Python's end would abort else."""
    ending.set()
    if thread is not threading.current_thread():  # the last that had the embeddings
        thread.join(END_WAIT_S)


def _yield_to_others() -> None:
    """Give this thread, and the workers it starts, what is left of the processor."""
    if sys.platform == "linux":  # the only one where a thread has a priority of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
