"""What happens when a photo is opened, encoded and clicked on.

Plain functions of a `Studio`, a `Session` and the page's message; each returns the properties of
the canvas that change. None of them knows Gradio, and none of them raises for what a visitor did:
the page shows errors as a sentence beside the photo, and a raised one would lose a waiting click.
"""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mobilesam import rendering
from mobilesam.errors import PAGE_LENGTH, sentence
from mobilesam.machine import usable_cores
from mobilesam.masks import mask_to_box
from mobilesam.transforms import read_image
from mobilesam.ui.courtesy import Courtesy
from mobilesam.ui.messages import PromptError, parse_file_name
from mobilesam.ui.page_objects import (
    PageObject,
    find_objects,
    parse_object,
    parse_objects,
    stability_scores,
)
from mobilesam.ui.sessions import MemoryBudget, Session, Snapshot
from mobilesam.ui.trouble import trouble

if TYPE_CHECKING:
    from mobilesam.predictor import ImageEmbedding, MaskPrediction, Predictor
    from mobilesam.ui.examples import ReadyEmbeddings
    from mobilesam.ui.models import ModelShelf

LOGGER = logging.getLogger(__name__)

LOSSY = (".jpg", ".jpeg", ".heic", ".heif")
DISPLAY_SIDE = 2048  # px, longest side of the copy the browser draws
LOSSLESS_SIDE = 1024  # px, up to which that copy is a PNG unless the photo was LOSSY
PREVIEW_SIDE = 1024  # px, longest side of the masks the browser paints
OBJECTS_AT_ONCE = 8  # that one request is answered for; a visitor's others wait

Props = dict[str, Any]


@dataclass(frozen=True)
class Studio:
    """What all visitors share: models, the memory budget, example photos, a place for files.

    Attributes:
        models: The predictors.
        budget: Bounds the memory of all sessions together.
        store: Writes bytes under a file name where the web server may serve them, and returns the
            file description the page needs.
        discard: Deletes such a file again, by its path.
        examples: Example photos by file name.
        ready: Embeddings of the examples that were made in advance, or None.
        courtesy: Lets long work step back while somebody waits for a click.
        decode_slots: How many masks are decoded at once.
        encode_slots: How many photos are encoded at once, of the page's and of other programs:
            two at a time on two cores make everybody wait longer.
        open_slots: How many photos are read at once: a large one takes hundreds of megabytes.
    """

    models: ModelShelf
    budget: MemoryBudget
    store: Callable[[bytes, str], dict[str, Any]]
    discard: Callable[[str], None]
    examples: Mapping[str, Path] = field(default_factory=dict)
    ready: ReadyEmbeddings | None = None
    courtesy: Courtesy = field(default_factory=Courtesy)
    decode_slots: threading.Semaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(max(1, usable_cores() // 2))
    )
    encode_slots: threading.Semaphore = field(default_factory=lambda: threading.BoundedSemaphore(1))
    open_slots: threading.Semaphore = field(default_factory=lambda: threading.BoundedSemaphore(1))

    def hand_over(self, session: Session, kind: str, data: bytes, name: str) -> dict[str, Any]:
        """Write a file for the page, and delete one of its kind that it needs no more."""
        file = self.store(data, name)
        outdated = session.note_file(kind, file["path"])
        if outdated:
            self.discard(outdated)
        return file


def open_picture(studio: Studio, session: Session, value: Mapping[str, Any]) -> Props:
    """Read the photo that was chosen, dropped, pasted or picked from the examples.

    A photo that cannot be read leaves the one before, with its prompts, as it is.
    """
    token = value.get("token")
    try:
        source, title, is_lossy = _find_source(studio, value)
        with studio.open_slots:
            pixels = read_image(source)
            copy_bytes, suffix = display_copy(pixels, lossless=not is_lossy)
        picture_id = secrets.token_hex(8)
        file = studio.hand_over(session, "photo", copy_bytes, f"photo{suffix}")
    except FileNotFoundError:
        text = "The file is no longer on the server; please open it again."
        return {"notice": {"token": token, "text": text}}
    except (ValueError, TypeError) as error:
        return {"notice": {"token": token, "text": sentence(error, PAGE_LENGTH)}}
    except Exception as error:
        LOGGER.exception("A photo could not be opened")
        return {"notice": {"token": token, "text": trouble(error)}}
    example = title if value.get("example") is not None else None
    content = hashlib.sha256(copy_bytes).hexdigest()
    session.show(picture_id, source, title, pixels, example, content)
    height, width = pixels.shape[:2]
    picture = {
        "token": token,
        "id": picture_id,
        "content": content,
        "file": file,
        "width": width,
        "height": height,
        "title": title,
    }
    return {"picture": picture}


def encode_picture(studio: Studio, session: Session, value: Mapping[str, Any]) -> Iterator[Props]:
    """Encode the session's photo with the chosen model, saying so first and last."""
    photo = session.snapshot()
    progress: Props = {"picture": photo.picture_id, "encoding": value.get("encoding")}
    if not photo.picture_id:
        yield {"progress": progress | {"state": "lost"}}
        return
    predictor = studio.models.predictor(value.get("model"))
    embedding = current_embedding(photo, predictor)
    if embedding is None and studio.ready is not None and photo.example is not None:
        embedding = studio.ready.embedding(photo.example, predictor)
        if embedding is not None and embedding.model_name != predictor.model.name:
            embedding = None  # the same weights under another name
        if embedding is not None:
            session.keep(photo.picture_id, embedding, shared=True)
    if embedding is None:
        yield {"progress": progress | {"state": "encoding"}}
        try:
            pixels = photo.pixels if photo.pixels is not None else read_again(studio, photo)
            with studio.encode_slots, studio.courtesy.first():
                embedding = predictor.encode(pixels)
        except FileNotFoundError:
            yield {"progress": progress | {"state": "lost"}}
            return
        except Exception as error:
            LOGGER.exception("A photo could not be encoded")
            yield {"progress": progress | {"state": "failed", "text": trouble(error)}}
            return
        session.keep(photo.picture_id, embedding)
    yield {
        "progress": progress
        | {
            "state": "ready",
            "model": predictor.model.name,
            "encode_ms": round(embedding.encode_ms, 1),
        }
    }


def answer_prompts(studio: Studio, session: Session, value: Mapping[str, Any]) -> Props:
    """Turn the prompts of the objects asked about into candidate masks for the browser to paint."""
    answer: Props = {"rev": value.get("rev"), "picture": value.get("picture")}
    photo = session.snapshot()
    outcome, predictor, embedding = find_embedding(studio, photo, value)
    if outcome.get("status") in ("lost", "stale"):
        return {"answer": answer | outcome}
    try:
        objects = find_objects(parse_objects(value.get("objects")), value.get("wanted"))
        objects = objects[:OBJECTS_AT_ONCE]  # the page asks again for the others
    except PromptError as error:
        return {"answer": answer | {"status": "refused", "text": str(error)}}
    answers = [_answer_object(studio, photo, predictor, embedding, raw) for raw in objects]
    if embedding is None and any(entry["status"] == "encode" for entry in answers):
        return {"answer": answer | outcome}
    return {"answer": answer | {"status": "ok", "model": predictor.model.name, "objects": answers}}


def _answer_object(
    studio: Studio,
    photo: Snapshot,
    predictor: Predictor,
    embedding: ImageEmbedding | None,
    raw: Mapping[str, Any],
) -> Props:
    """Return the candidates of one object, or why there are none."""
    answer: Props = {"id": raw.get("id")}
    try:
        wanted = parse_object(raw, photo.original_size)
        if embedding is None:
            return answer | {"status": "encode"}
        with studio.courtesy.first(), studio.decode_slots:
            prediction = wanted.predict(predictor, embedding, photo.steps)
        masks = _drawn(wanted, prediction, stability_scores(prediction, predictor))
    except (ValueError, TypeError) as error:
        return answer | {"status": "refused", "text": sentence(error, PAGE_LENGTH)}
    except Exception as error:
        LOGGER.exception("Prompts could not be answered")
        return answer | {"status": "failed", "text": trouble(error)}
    return answer | {
        "status": "ok",
        "masks": masks,
        "best": int(prediction.best),
        "decode_ms": round(prediction.decode_ms, 1),
    }


def _drawn(wanted: PageObject, prediction: MaskPrediction, stability: list[float]) -> list[Props]:
    """Return what the browser paints of each candidate, cleaned up nearly as the file will be."""
    previews = prediction.preview(PREVIEW_SIDE)
    height, width = prediction.original_size
    across, down = width / previews.shape[2], height / previews.shape[1]
    refinement = wanted.refinement.scaled(max(previews.shape[1:]) / max(height, width))
    drawn = []
    for preview, score, stable in zip(previews, prediction.iou_predictions, stability, strict=True):
        mask = refinement.mask(preview)
        x0, y0, x1, y1 = mask_to_box(mask)
        png = (
            rendering.alpha_mask_png(refinement.alpha(mask))
            if refinement.feather
            else rendering.palette_mask_png(mask)
        )
        drawn.append(
            {
                "png": "data:image/png;base64," + base64.b64encode(png).decode("ascii"),
                "score": round(float(score), 4),
                "stability": round(stable, 4),
                "area": round(float(mask.mean()) * height * width),
                "box": [x0 * across, y0 * down, x1 * across, y1 * down],
                "feather": wanted.refinement.feather,  # that it was made with
            }
        )
    return drawn


def display_copy(pixels: np.ndarray, lossless: bool) -> tuple[bytes, str]:
    """Return the picture the browser draws, at most `DISPLAY_SIDE` long, and its file suffix.

    Args:
        pixels: (H, W, 3) uint8.
        lossless: Make a PNG if the photo is small, so that drawings keep their pixels.
    """
    picture = Image.fromarray(pixels)
    lossless = lossless and max(picture.size) <= LOSSLESS_SIDE
    if max(picture.size) > DISPLAY_SIDE:
        scale = DISPLAY_SIDE / max(picture.size)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    if lossless:
        picture.save(buffer, format="PNG", compress_level=3)
        return buffer.getvalue(), ".png"
    picture.save(buffer, format="JPEG", quality=90)
    return buffer.getvalue(), ".jpg"


def find_embedding(
    studio: Studio, photo: Snapshot, value: Mapping[str, Any]
) -> tuple[Props, Predictor, ImageEmbedding | None]:
    """Return the predictor asked for and its embedding of the photo, or why there is none.

    The status "lost" asks the page to open its photo again, "encode" to have it encoded again.
    """
    predictor = studio.models.predictor(value.get("model"))
    if not photo.picture_id:
        return {"status": "lost"}, predictor, None
    if value.get("picture") != photo.picture_id:
        return {"status": "stale"}, predictor, None
    embedding = current_embedding(photo, predictor)
    return ({} if embedding else {"status": "encode"}), predictor, embedding


def current_embedding(photo: Snapshot, predictor: Predictor) -> ImageEmbedding | None:
    """Return the photo's embedding if this predictor's model made it."""
    embedding = photo.embedding
    if embedding is None or embedding.model_name != predictor.model.name:
        return None
    return embedding


def _find_source(studio: Studio, value: Mapping[str, Any]) -> tuple[Path, str, bool]:
    """Return the file to open, its title, and whether its name says that it is lossy."""
    example = value.get("example")
    if example is not None:
        if not isinstance(example, str) or example not in studio.examples:
            raise ValueError("There is no such example; please choose one below the photo.")
        source, title = studio.examples[example], example
    else:
        image = value.get("image")
        if not isinstance(image, Mapping) or not image.get("path"):
            raise ValueError("No file arrived; please choose a photo again.")
        source = Path(image["path"])
        title = parse_file_name(image.get("orig_name") or source.name)
    return source, title, source.suffix.lower() in LOSSY


def read_again(studio: Studio, photo: Snapshot) -> np.ndarray:
    """Return the photo's (H, W, 3) uint8 pixels from its file.

    Raises:
        FileNotFoundError: It is not there any more.
    """
    if photo.source is None:
        raise FileNotFoundError("no photo")
    with studio.open_slots:
        return read_image(photo.source)
