"""Downloads: what was on the visitor's screen, at the photo's own size."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

from mobilesam.errors import PAGE_LENGTH, sentence
from mobilesam.photo_exports import KINDS, PhotoObject, export
from mobilesam.ui.messages import PromptError, parse_opacity
from mobilesam.ui.page_objects import PageObject, parse_object, parse_objects
from mobilesam.ui.segment import Props, Studio, find_embedding, read_again
from mobilesam.ui.trouble import trouble

if TYPE_CHECKING:
    from mobilesam.predictor import ImageEmbedding, Predictor
    from mobilesam.ui.sessions import Session, Snapshot

LOGGER = logging.getLogger(__name__)

MAX_PIXELS = 400_000_000  # of all masks of a file together; about as many bytes, alphas again
TELL_EVERY_S = 2.0  # that a file will come: a page that hears nothing takes its request for lost
KINDS_OF_ONE = ("mask", "cutout")  # they show the selected object alone


async def save_in_turn(
    studio: Studio, session: Session, value: Mapping[str, Any], turn: asyncio.Semaphore
) -> AsyncGenerator[Props, None]:
    """Make the file asked for when those before it are made, see `save_result`.

    It is of the photo and the embedding that the session has now: while it waits, the visitor may
    open another photo or choose another model.

    Args:
        studio: What all visitors share.
        session: Whose photo it is.
        value: The page's message.
        turn: Held while a file is made; those that wait for it hold no thread.

    Yields:
        `saved`, every `TELL_EVERY_S`: the token with the status "queued" or "making" and a count,
        since the page takes no notice of a message like the one before; last the outcome.
    """
    photo = session.snapshot()._replace(pixels=None)  # of no use here, and large
    is_begun = False

    async def make() -> Props:
        nonlocal is_begun
        async with turn:
            is_begun = True
            return await asyncio.to_thread(save_result, studio, session, value, photo)

    making = asyncio.create_task(make())
    try:
        for count in itertools.count():
            await asyncio.wait([making], timeout=TELL_EVERY_S)
            if making.done():
                break
            status = "making" if is_begun else "queued"
            token = _wanted(value).get("token")
            yield {"saved": {"token": token, "status": status, "count": count}}
        yield making.result()
    finally:
        if not is_begun:
            making.cancel()  # the visitor has left


def save_result(
    studio: Studio, session: Session, value: Mapping[str, Any], photo: Snapshot | None = None
) -> Props:
    """Make the chosen masks at the photo's own size and write the file asked for.

    The message's `saving` says all that the file depends on: the page's prompts may have changed
    since, and the file must show what was on the screen.

    Args:
        studio: What all visitors share.
        session: Whose photo it is.
        value: The page's message.
        photo: The photo as it was when the message came; None for as it is now.
    """
    wanted = _wanted(value)
    saved: Props = {"token": wanted.get("token"), "kind": wanted.get("kind")}
    photo = photo or session.snapshot()
    try:
        outcome, predictor, embedding = find_embedding(studio, photo, wanted)
        if embedding is None:
            return {"saved": saved | outcome}
        file_name, data = _make(studio, photo, predictor, embedding, wanted)
        file = studio.hand_over(session, "result", data, file_name)
    except FileNotFoundError:
        return {"saved": saved | {"status": "lost"}}
    except (ValueError, TypeError) as error:
        return {"saved": saved | {"status": "failed", "text": sentence(error, PAGE_LENGTH)}}
    except Exception as error:
        LOGGER.exception("A result could not be saved")
        return {"saved": saved | {"status": "failed", "text": trouble(error)}}
    return {"saved": saved | {"status": "ok", "file": file, "title": file_name}}


def _wanted(value: Mapping[str, Any]) -> Mapping[str, Any]:
    wanted = value.get("saving")
    return wanted if isinstance(wanted, Mapping) else {}


def _make(
    studio: Studio,
    photo: Snapshot,
    predictor: Predictor,
    embedding: ImageEmbedding,
    wanted: Mapping[str, Any],
) -> tuple[str, bytes]:
    """Return the file's name and content.

    Raises:
        ValueError: What was asked for cannot be.
    """
    kind = wanted.get("kind")
    if kind not in KINDS:
        raise PromptError(f"The page can save {', '.join(KINDS)}; got something else.")
    all_objects = [
        parse_object(raw, photo.original_size) for raw in parse_objects(wanted.get("objects"))
    ]
    active = wanted.get("active")
    if kind in KINDS_OF_ONE:
        objects = [entry for entry in all_objects if entry.id == active][:1]
    else:
        objects = [entry for entry in all_objects if not entry.hidden]
    if not objects:
        raise PromptError("There is no mask to save; click on the photo first.")
    height, width = photo.original_size
    if len(objects) * height * width > MAX_PIXELS:
        most = max(1, MAX_PIXELS // (height * width))
        raise PromptError(
            f"{len(objects)} objects of a photo of {width} x {height} pixels are too much for one"
            f" file; hide some, so that at most {most} are left."
        )
    ids = [entry.id for entry in objects]
    drawn = [photo_object(studio, photo, predictor, embedding, entry) for entry in objects]
    return export(
        kind,
        photo.title,
        photo.original_size,
        drawn,
        ids.index(active) if active in ids else 0,
        lambda: read_again(studio, photo),
        opacity=parse_opacity(wanted.get("opacity")),
    )


def photo_object(
    studio: Studio,
    photo: Snapshot,
    predictor: Predictor,
    embedding: ImageEmbedding,
    wanted: PageObject,
) -> PhotoObject:
    """Decode one object at the photo's own size.

    Args:
        studio: Where decoding takes its turn.
        photo: The visitor's photo.
        predictor: Who decodes.
        embedding: Of the photo.
        wanted: The object.
    """
    with studio.courtesy.first(), studio.decode_slots:
        prediction = wanted.predict(predictor, embedding, photo.steps)
    return wanted.exported(prediction, wanted.mask(prediction))
