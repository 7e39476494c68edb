"""Everything mode on the page: masks as they are found, then the whole list.

A search ends early when the visitor cancels it, starts another one, opens another photo or leaves
the page, and waits while anybody's click is being decoded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from mobilesam.everything import EverythingOptions
from mobilesam.ui.everything_run import PageOptions, Run, preview_size
from mobilesam.ui.messages import PromptError
from mobilesam.ui.sessions import Session

if TYPE_CHECKING:
    from mobilesam.modeling import Sam
    from mobilesam.ui.segment import Props, Studio

DENSITIES = (8, 16, 32)  # points per side the page offers
USUAL_DENSITY = 16
SPECK = 1 / 2000  # of the photo: smaller islands and holes are removed from every mask
POINTS_PER_BATCH = 8  # decoded between two looks at whether to go on: 20-100 ms on two cores


def page_defaults(model: Sam) -> Props:
    """Return the options that the page starts with, for a model."""
    usual = EverythingOptions.for_model(model)
    return {
        "density": USUAL_DENSITY,
        "predicted_iou": usual.pred_iou_thresh,
        "stability": usual.stability_score_thresh,
        "min_area": 0,
        "fast": True,
    }


def parse_options(
    wanted: Mapping[str, Any], model: Sam, original_size: tuple[int, int]
) -> PageOptions:
    """Check the page's options; those that are missing get their defaults.

    Args:
        wanted: `density` (8, 16 or 32), `predicted_iou` and `stability` (0 to 1), `min_area`
            (pixels of the photo), `fast` (true or false).
        model: Who is to be asked.
        original_size: `(height, width)` of the photo, pixels.

    Raises:
        PromptError: One of them is something else; the text is a sentence for the visitor.
    """
    usual = page_defaults(model)
    chosen = {
        name: entry if wanted.get(name) is None else wanted[name] for name, entry in usual.items()
    }
    density, is_fast = chosen["density"], chosen["fast"]
    if isinstance(density, bool) or density not in DENSITIES:
        raise PromptError("The density must be 8, 16 or 32 points per side.")
    if not isinstance(is_fast, bool):
        raise PromptError("The search must be fast (true) or exact (false).")
    pixels = original_size[0] * original_size[1]
    predicted_iou = _number(chosen["predicted_iou"], 1, "The least predicted IoU")
    stability = _number(chosen["stability"], 1, "The least stability")
    min_area = _number(chosen["min_area"], pixels, "The smallest area")
    rows, columns = preview_size(original_size)
    options = EverythingOptions.for_model(
        model,
        points_per_side=int(density),
        points_per_batch=POINTS_PER_BATCH,
        pred_iou_thresh=predicted_iou,
        stability_score_thresh=stability,
        min_mask_region_area=int(rows * columns * SPECK),
        fast=is_fast,
    )
    return PageOptions(options, min_area)


def _number(value: Any, high: float, what: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= high:  # NaN is not
        raise PromptError(f"{what} must be a number from 0 to {high}.")
    return float(value)


def search(studio: Studio, session: Session, value: Mapping[str, Any]) -> Iterator[Props]:
    """Search the session's photo, and tell what is found while it is.

    Args:
        studio: What all visitors share.
        session: Whose photo it is.
        value: The page's message: `picture`, `model`, and as `everything` a token that the answers
            repeat, and options, see `parse_options`.

    Yields:
        `everything`: the token, a state (running, done, cancelled, failed with a sentence, lost
        where the server does not know the photo, encode where it is not encoded), points done and
        in all, and masks. While it runs these are the new ones, and `from` says how many the page
        must have by then. The last message holds all that are left, the largest first.
    """
    wanted = _wanted(value)
    token = wanted.get("token")
    answer: Props = {"token": token, "done": 0, "total": 0, "from": 0, "masks": []}
    turn = _TURNS.begin(session, token)
    photo = session.snapshot()
    if not photo.picture_id or value.get("picture") != photo.picture_id:
        yield {"everything": answer | {"state": "lost"}}
        return
    predictor = studio.models.predictor(value.get("model"))
    try:
        options = parse_options(wanted, predictor.model, photo.original_size)
    except PromptError as error:
        yield {"everything": answer | {"state": "failed", "text": str(error)}}
        return
    embedding = photo.embedding
    if embedding is None or embedding.model_name != predictor.model.name:
        yield {"everything": answer | {"state": "encode"}}
        return

    def is_over() -> bool:
        # another photo, another model's embedding, or none since the visitor has left
        return turn.is_set() or session.snapshot().embedding is not embedding

    run = Run(predictor, embedding, options, is_over, studio.courtesy.wait)
    run.start()
    try:
        for message in run.messages():
            yield {"everything": answer | message}
    finally:  # also when the page has gone and Gradio closes this generator
        _TURNS.finish(session, token, turn)


def stop(studio: Studio, session: Session, value: Mapping[str, Any]) -> Props:
    """End the session's search, or the one that waits to be begun; its last message says so."""
    _TURNS.end(session, _wanted(value).get("token"))
    return {}


def _wanted(value: Mapping[str, Any]) -> Mapping[str, Any]:
    wanted = value.get("everything")
    return wanted if isinstance(wanted, Mapping) else {}


class _Turns:
    """Whose search goes on: one for each session, the one begun last.

    Holds nothing but flags, and those only as long as the session lives.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: WeakKeyDictionary[Session, threading.Event] = WeakKeyDictionary()
        self._ended: WeakKeyDictionary[Session, Any] = WeakKeyDictionary()

    def begin(self, session: Session, token: Any) -> threading.Event:
        """End the session's search and return the flag that ends the new one."""
        turn = threading.Event()
        with self._lock:
            if session in self._running:
                self._running[session].set()
            self._running[session] = turn
            if token is not None and self._ended.get(session) == token:
                turn.set()  # cancelled while it waited in the queue, or asked for twice
        return turn

    def end(self, session: Session, token: Any) -> None:
        """End the session's search, and the one of that token should it come yet."""
        with self._lock:
            self._ended[session] = token
            if session in self._running:
                self._running[session].set()

    def finish(self, session: Session, token: Any, turn: threading.Event) -> None:
        """Note that a search is through."""
        with self._lock:
            if not turn.is_set():
                self._ended[session] = token
            turn.set()


_TURNS = _Turns()
