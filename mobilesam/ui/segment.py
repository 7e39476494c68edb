"""What happens when a photo is opened, encoded, clicked on and saved.

Plain functions of a `Studio`, a `Session` and the page's message; each returns the properties of
the canvas that change. None of them knows Gradio, and none of them raises for what a visitor did:
the page shows errors as a sentence beside the photo, and a raised one would lose a waiting click.
"""

from __future__ import annotations

import base64
import io
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mobilesam import rendering
from mobilesam.transforms import read_image
from mobilesam.ui.messages import (
    PromptError,
    parse_color,
    parse_file_name,
    parse_index,
    parse_opacity,
    parse_prompts,
)
from mobilesam.ui.sessions import MemoryBudget, Session, Snapshot

if TYPE_CHECKING:
    from mobilesam.predictor import ImageEmbedding, MaskPrediction, Predictor
    from mobilesam.ui.models import ModelShelf

LOGGER = logging.getLogger(__name__)

DISPLAY_SIDE = 2048  # px, longest side of the copy the browser draws
LOSSLESS_SIDE = 1024  # px, up to which that copy is a PNG unless the photo was a JPEG
PREVIEW_SIDE = 1024  # px, longest side of the masks the browser paints
SAVE_KINDS = ("mask", "cutout", "overlay")
TROUBLE = "Something went wrong on the server; please try again."

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
        decode_slots: How many masks are decoded at once.
        open_slots: How many photos are read at once: a large one takes hundreds of megabytes.
    """

    models: ModelShelf
    budget: MemoryBudget
    store: Callable[[bytes, str], dict[str, Any]]
    discard: Callable[[str], None]
    examples: Mapping[str, Path] = field(default_factory=dict)
    decode_slots: threading.Semaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(max(1, (os.cpu_count() or 1) // 2))
    )
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
        source, title, is_jpeg = _find_source(studio, value)
        with studio.open_slots:
            pixels = read_image(source)
            copy_bytes, suffix = display_copy(pixels, lossless=not is_jpeg)
        picture_id = secrets.token_hex(8)
        file = studio.hand_over(session, "photo", copy_bytes, f"photo{suffix}")
    except FileNotFoundError:
        text = "The file is no longer on the server; please open it again."
        return {"notice": {"token": token, "text": text}}
    except (ValueError, TypeError) as error:
        return {"notice": {"token": token, "text": _sentence(error)}}
    except Exception:
        LOGGER.exception("A photo could not be opened")
        return {"notice": {"token": token, "text": TROUBLE}}
    session.show(picture_id, source, title, pixels)
    height, width = pixels.shape[:2]
    picture = {
        "token": token,
        "id": picture_id,
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
    embedding = _current_embedding(photo, predictor)
    if embedding is None:
        yield {"progress": progress | {"state": "encoding"}}
        try:
            pixels = photo.pixels if photo.pixels is not None else _read_again(studio, photo)
            embedding = predictor.encode(pixels)
        except FileNotFoundError:
            yield {"progress": progress | {"state": "lost"}}
            return
        except Exception:
            LOGGER.exception("A photo could not be encoded")
            yield {"progress": progress | {"state": "failed", "text": TROUBLE}}
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
    """Turn the points and the box into candidate masks for the browser to paint."""
    answer: Props = {"rev": value.get("rev"), "picture": value.get("picture")}
    photo = session.snapshot()
    outcome, prediction = _predict(studio, photo, value)
    if prediction is None:
        return {"answer": answer | outcome}
    try:
        previews = prediction.preview(PREVIEW_SIDE)
        color = parse_color(value.get("color"))
        height, width = photo.original_size
        masks = [
            {
                "png": _data_uri(preview, color),
                "score": round(float(score), 4),
                "area": round(float(preview.mean()) * height * width),
            }
            for preview, score in zip(previews, prediction.iou_predictions, strict=True)
        ]
    except Exception:
        LOGGER.exception("Masks could not be drawn")
        return {"answer": answer | {"status": "failed", "text": TROUBLE}}
    return {
        "answer": answer
        | {
            "status": "ok",
            "masks": masks,
            "best": int(prediction.best),
            "decode_ms": round(prediction.decode_ms, 1),
            "model": prediction.model_name,
            "prompts": {"points": value.get("points"), "box": value.get("box")},
        }
    }


def save_result(studio: Studio, session: Session, value: Mapping[str, Any]) -> Props:
    """Make the chosen mask at the photo's own size and write it as the PNG asked for.

    The message's `saving` says all that the file depends on: the page's prompts may have changed
    since, and the file must show what was on the screen.
    """
    wanted = value.get("saving")
    wanted = wanted if isinstance(wanted, Mapping) else {}
    saved: Props = {"token": wanted.get("token"), "kind": wanted.get("kind")}
    if saved["kind"] not in SAVE_KINDS:
        text = f"The page can save a {', a '.join(SAVE_KINDS)}; got something else."
        return {"saved": saved | {"status": "failed", "text": text}}
    photo = session.snapshot()
    outcome, prediction = _predict(studio, photo, wanted)
    if prediction is None:
        return {"saved": saved | outcome}
    try:
        count = len(prediction.iou_predictions)
        mask = prediction.mask(parse_index(wanted.get("choice"), count, prediction.best))
        png = result_png(
            saved["kind"],
            mask,
            lambda: _read_again(studio, photo),
            parse_color(wanted.get("color")),
            parse_opacity(wanted.get("opacity")),
        )
        file_name = f"{Path(photo.title).stem or 'photo'}-{saved['kind']}.png"
        file = studio.hand_over(session, "result", png, file_name)
    except FileNotFoundError:
        return {"saved": saved | {"status": "lost"}}
    except Exception:
        LOGGER.exception("A result could not be saved")
        return {"saved": saved | {"status": "failed", "text": TROUBLE}}
    return {"saved": saved | {"status": "ok", "file": file, "title": file_name}}


def result_png(
    kind: str,
    mask: np.ndarray,
    read_photo: Callable[[], np.ndarray],
    color: tuple[int, int, int],
    opacity: float,
) -> bytes:
    """Return a PNG of the photo's own size.

    Args:
        kind: "mask" (black and white), "cutout" (the photo, transparent outside the mask) or
            "overlay" (the photo with the mask painted over it).
        mask: (H, W) bool.
        read_photo: Returns the (H, W, 3) uint8 photo; called only for the kinds that show it.
        color: RGB of the overlay.
        opacity: Of the overlay, 0 to 1.
    """
    if kind == "mask":
        picture = rendering.mask_image(mask)
    elif kind == "cutout":
        picture = Image.fromarray(rendering.cut_out(read_photo(), mask))
    else:
        picture = Image.fromarray(rendering.overlay(read_photo(), mask, color, opacity))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


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


def _predict(
    studio: Studio, photo: Snapshot, value: Mapping[str, Any]
) -> tuple[Props, MaskPrediction | None]:
    """Decode the request's prompts, or say why not.

    The status "lost" asks the page to open its photo again, "encode" to have it encoded again.
    """
    if not photo.picture_id:
        return {"status": "lost"}, None
    if value.get("picture") != photo.picture_id:
        return {"status": "stale"}, None
    try:
        prompts = parse_prompts(value, photo.original_size)
    except PromptError as error:
        return {"status": "refused", "text": str(error)}, None
    predictor = studio.models.predictor(value.get("model"))
    embedding = _current_embedding(photo, predictor)
    if embedding is None:
        return {"status": "encode"}, None
    try:
        with studio.decode_slots:
            return {}, predictor.candidates(embedding, **prompts.as_arguments())
    except (ValueError, TypeError) as error:
        return {"status": "refused", "text": _sentence(error)}, None
    except Exception:
        LOGGER.exception("Prompts could not be answered")
        return {"status": "failed", "text": TROUBLE}, None


def _current_embedding(photo: Snapshot, predictor: Predictor) -> ImageEmbedding | None:
    embedding = photo.embedding
    if embedding is None or embedding.model_name != predictor.model.name:
        return None
    return embedding


def _find_source(studio: Studio, value: Mapping[str, Any]) -> tuple[Path, str, bool]:
    """Return the file to open, its title, and whether it is named as a JPEG."""
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
    return source, title, source.suffix.lower() in (".jpg", ".jpeg")


def _read_again(studio: Studio, photo: Snapshot) -> np.ndarray:
    if photo.source is None:
        raise FileNotFoundError("no photo")
    with studio.open_slots:
        return read_image(photo.source)


def _data_uri(mask: np.ndarray, color: tuple[int, int, int]) -> str:
    png = rendering.palette_mask_png(mask, color)
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _sentence(error: Exception) -> str:
    """Return the first line of an error's text, not too long."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else TROUBLE
    return text[:300]
