"""A search for everything in a thread of its own, and what the page is told of it.

It works at the size of the masks the browser paints. So a photo of 12 megapixels takes neither
longer nor more memory than a small one, and the areas it tells are measured on that preview.
"""

from __future__ import annotations

import base64
import logging
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilesam import rle
from mobilesam.everything import EverythingCancelled, EverythingOptions, MaskRecord, generate
from mobilesam.ui.segment import PREVIEW_SIDE
from mobilesam.ui.trouble import trouble

if TYPE_CHECKING:
    from mobilesam.predictor import ImageEmbedding, Predictor
    from mobilesam.ui.segment import Props

LOGGER = logging.getLogger(__name__)

UPDATE_SECONDS = 0.2  # between two messages
MAX_MASKS = 1000  # more are of no use to a person


@dataclass(frozen=True, eq=False)
class PageOptions:
    """What the page asked for, checked.

    Attributes:
        search: Options of the search.
        min_area: Masks of fewer pixels of the photo are left out.
    """

    search: EverythingOptions
    min_area: float


def preview_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) at which a photo of that size is searched."""
    height, width = size
    scale = min(1.0, PREVIEW_SIDE / max(height, width))
    # halves go up: the page's own reckoning must give the same, and round() takes the even one
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


class Run:
    """One search.

    The generator that Gradio iterates, `messages`, only looks a few times a second what there is
    to tell.

    Args:
        predictor: Who is asked.
        embedding: Of the photo.
        options: How to search.
        is_over: Whether to stop.
        courtesy: Called before each batch; returns when nobody waits for a click.
    """

    def __init__(
        self,
        predictor: Predictor,
        embedding: ImageEmbedding,
        options: PageOptions,
        is_over: Callable[[], bool],
        courtesy: Callable[[], object],
    ) -> None:
        self._predictor, self._options = predictor, options
        self._is_over, self._courtesy = is_over, courtesy
        self._photo_size = embedding.original_size
        self._size = preview_size(embedding.original_size)
        self._embedding = replace(embedding, original_size=self._size)
        self._ended = threading.Event()
        self._masks: list[Props] = []  # as found; the thread only ever appends
        self._final: list[Props] = []
        self._known: dict[tuple[Any, ...], Props] = {}
        self._done, self._total = 0, len(options.search.grids()[0])
        self._outcome: Props = {}  # before the search has ended

    def start(self) -> None:
        """Begin to search."""
        threading.Thread(target=self._work, name="everything", daemon=True).start()

    def messages(self) -> Iterator[Props]:
        """Give news as they come, the last message when the search has ended."""
        told = (-1, 0)
        while not self._ended.is_set():
            done, count = self._done, len(self._masks)
            if (done, count) != told:
                sent = told[1]
                news = {"state": "running", "from": sent, "masks": self._masks[sent:count]}
                yield news | {"done": done, "total": self._total}
                told = done, count
            self._ended.wait(UPDATE_SECONDS)
        last = {"from": 0, "masks": self._final, "done": self._done, "total": self._total}
        yield self._outcome | last

    def _work(self) -> None:
        try:
            records = generate(
                self._predictor,
                self._embedding,
                self._options.search,
                progress=self._note_progress,
                cancelled=self._must_stop,
                found=self._note_found,
            )
            final = [mask for record in records if (mask := self._mask(record)) is not None]
            self._outcome = {"state": "done", "text": _too_many(len(final))}
        except EverythingCancelled:
            final = self._masks
            self._outcome = {"state": "cancelled"}
        except Exception as error:
            final = self._masks
            LOGGER.exception("A search for everything failed")
            self._outcome = {"state": "failed", "text": trouble(error)}
        self._final = sorted(final, key=lambda mask: -mask["area"])[:MAX_MASKS]
        self._known.clear()
        self._ended.set()

    def _must_stop(self) -> bool:
        self._courtesy()
        return self._is_over()

    def _note_progress(self, done: int, total: int) -> None:
        self._done, self._total = done, total

    def _note_found(self, record: MaskRecord) -> None:
        if self._is_over():  # a batch may find many, and each takes a while
            raise EverythingCancelled("The search was cancelled.")
        before = len(self._known)
        mask = self._mask(record)
        is_new = len(self._known) > before  # two may be the same without their specks
        if mask is not None and is_new and len(self._masks) < MAX_MASKS:
            self._masks.append(mask)

    def _mask(self, record: MaskRecord) -> Props | None:
        """Return a mask for the page, the same for the same record; None for one too small."""
        key = (record.point_coords, record.bbox, record.area)
        if key in self._known:
            return self._known[key]
        (height, width), (rows, columns) = self._photo_size, self._size
        across, down = width / columns, height / rows
        area = round(record.area * across * down)
        if not record.area or area < self._options.min_area:
            return None
        x, y, right, bottom = record.bbox
        right, bottom = x + right + 1, y + bottom + 1  # SAM's boxes end at the last pixel
        crop = rle.decode(record.rle, columns=(x, right))[y:bottom]
        mask = {
            "id": len(self._known) + 1,
            "x": round(x * across, 3),
            "y": round(y * down, 3),
            "width": round((right - x) * across, 3),
            "height": round((bottom - y) * down, 3),
            "columns": crop.shape[1],
            "rows": crop.shape[0],
            "bits": _packed(crop),
            "area": area,
            "iou": round(record.predicted_iou, 4),
            "stability": round(record.stability_score, 4),
            "point": [
                round(record.point_coords[0] * across, 2),
                round(record.point_coords[1] * down, 2),
            ],
        }
        self._known[key] = mask
        return mask


def _packed(mask: np.ndarray) -> str:
    """Return a mask's pixels, one bit each, row by row, deflated.

    It is no picture: some browsers give a page noise, against tracking, for the pixels of one.
    """
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode("ascii")


def _too_many(count: int) -> str:
    return f"The {MAX_MASKS} largest of {count} masks are shown." if count > MAX_MASKS else ""
