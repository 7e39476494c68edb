"""What calls from outside are answered with: the same masks as the page and the library give.

Plain functions of a `Studio`. They raise `ValueError` or `TypeError` with one sentence for the
caller, and keep nothing of a call but the photo's embedding, see `RecentEmbeddings`.
"""

from __future__ import annotations

import io
import json
import math
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from mobilesam import rle
from mobilesam.everything import (
    EverythingCancelled,
    EverythingOptions,
    MaskRecord,
    generate,
)
from mobilesam.exporting import ObjectMask, coco_dataset, coco_picture, indexed_png
from mobilesam.masks import mask_to_box
from mobilesam.photo_exports import KINDS, export, fit_for_files
from mobilesam.predictor import MaskPrediction, Predictor
from mobilesam.registry import MODELS, available
from mobilesam.ui.api.schemas import (
    Candidate,
    EverythingKind,
    EverythingResult,
    FoundMask,
    ModelInfo,
    RunLengths,
    SegmentResult,
)
from mobilesam.ui.messages import PromptError, check_color
from mobilesam.ui.page_objects import PageObject, parse_object, stability_scores

if TYPE_CHECKING:
    from mobilesam.ui.api.photos import CalledPhoto
    from mobilesam.ui.segment import Studio

MAX_POINTS_PER_SIDE = 32  # SAM's own
MAX_SEARCH_S = 120.0  # others wait, and a caller who has gone is not noticed
POINTS_PER_BATCH = 8  # decoded between two looks at whether a visitor waits for a click
EVERYTHING_KINDS: tuple[str, ...] = get_args(EverythingKind)
SEARCH_OPTIONS = (
    "points_per_side",
    "pred_iou_thresh",
    "stability_score_thresh",
    "stability_score_offset",
    "box_nms_thresh",
    "crop_n_layers",
    "min_mask_region_area",
    "fast",
)

File = tuple[str, bytes]  # its name and its content


class PoliteDecoder(Predictor):
    """Takes a turn for each decode, so that the clicks of visitors come in between.

    Args:
        predictor: Whose model decodes.
        studio: Where the turns are taken.
    """

    def __init__(self, predictor: Predictor, studio: Studio) -> None:
        super().__init__(predictor.model)
        self._studio = studio

    def candidates(self, *args: Any, **prompts: Any) -> MaskPrediction:
        """Predict all masks worth offering, when it is this call's turn."""
        with self._studio.courtesy.first(), self._studio.decode_slots:
            return super().candidates(*args, **prompts)


def segment(
    studio: Studio, photo: CalledPhoto, request: Mapping[str, Any]
) -> tuple[SegmentResult, File | None]:
    """Return the mask of one object, and the file that was asked for.

    Args:
        studio: What all callers and visitors share.
        photo: The picture.
        request: The object, see `parse_called`, and `model` and `output`; none of it checked.

    Raises:
        ValueError, TypeError: Something of it cannot be answered.
    """
    predictor = find_predictor(studio, request["model"])
    kind = one_of(request["output"], KINDS, "output")
    wanted = parse_called(request, photo.size(predictor))
    with studio.courtesy.first():
        embedding, encode_ms = photo.embedding(predictor)
    prediction = wanted.predict(PoliteDecoder(predictor, studio), embedding)
    choice = wanted.chosen(prediction)
    mask = wanted.mask(prediction)
    candidates = _candidates(prediction, stability_scores(prediction, predictor))
    result: SegmentResult = {
        "model": prediction.model_name,
        "size": list(mask.shape),
        "box": list(mask_to_box(mask)),
        "area": int(np.count_nonzero(mask)),
        "predicted_iou": candidates[choice]["predicted_iou"],
        "stability": candidates[choice]["stability"],
        "rle": run_lengths(mask),
        "choice": choice,
        "candidates": candidates,
        "encode_ms": round(encode_ms, 1),
        "decode_ms": round(prediction.decode_ms, 1),
    }
    if kind is None:
        return result, None
    item = wanted.exported(prediction, mask)
    return result, export(kind, photo.name, embedding.original_size, [item], 0, photo.read)


def parse_called(request: Mapping[str, Any], size: tuple[int, int]) -> PageObject:
    """Check the object that a call asks for.

    Args:
        request: `points`, `box`, `steps` and `choices`; if it is to be cleaned up `min_area`,
            `smooth` and `feather`; if it is to be exported `name` and `color`.
        size: (height, width) of the photo, pixels.

    Raises:
        PromptError: Something of it cannot be.
    """
    if not request["points"] and request["box"] is None:
        raise PromptError("Give points on the object as [x, y, 1], a box round it, or both.")
    check_color(request.get("color"))
    refine = {key: request.get(key) for key in ("smooth", "feather")}
    refine["area"] = request.get("min_area")
    return parse_object({**request, "refine": refine}, size)


def everything(
    studio: Studio, photo: CalledPhoto, request: Mapping[str, Any]
) -> tuple[EverythingResult, File | None]:
    """Return all masks of a picture, and the file that was asked for.

    Args:
        studio: What all callers and visitors share.
        photo: The picture.
        request: `model`, `output` and `SEARCH_OPTIONS`, None for the model's own; not checked.

    Raises:
        ValueError, TypeError: Something of it cannot be answered.
    """
    predictor = find_predictor(studio, request["model"])
    kind = one_of(request["output"], EVERYTHING_KINDS, "output")
    options = _search_options(predictor, request)
    studio.courtesy.wait()
    embedding, encode_ms = photo.embedding(predictor)

    start = time.perf_counter()

    def is_over() -> bool:
        studio.courtesy.wait()
        return time.perf_counter() - start > MAX_SEARCH_S

    try:
        records = list(generate(predictor, embedding, options, cancelled=is_over))
    except EverythingCancelled as error:
        raise PromptError(
            f"The search was ended after {MAX_SEARCH_S:.0f} seconds, since others wait. Ask at "
            "fewer points, raise the thresholds or send a smaller photo; the command line has no "
            "such limit."
        ) from error
    size = embedding.original_size
    result: EverythingResult = {
        "model": predictor.model.name,
        "size": list(size),
        "masks": [_found_mask(record) for record in records],
        "encode_ms": round(encode_ms, 1),
        "search_ms": round((time.perf_counter() - start) * 1000, 1),
    }
    objects = [ObjectMask(record.rle, score=record.predicted_iou) for record in records]
    return result, None if kind is None else _file_of_all(kind, photo.name, size, objects)


def models(studio: Studio) -> list[ModelInfo]:
    """Return the models that can be named, those that answer first."""
    shelf = studio.models.status()
    titles = {choice["name"]: choice["title"] for choice in shelf["choices"]}
    return [
        {
            "name": name,
            "title": titles[name] if name in titles else MODELS[name].title,
            "parameters": _parameters(studio, name),
            "available": name in titles or available(name),
            "loaded": name in titles,
            "standard": name == shelf["standard"],
        }
        for name in [*titles, *(name for name in MODELS if name not in titles)]
    ]


def find_predictor(studio: Studio, name: Any) -> Predictor:
    """Return the predictor of a model that is loaded; the standard one for None.

    Raises:
        PromptError: None of that name is.
    """
    names = [choice["name"] for choice in studio.models.status()["choices"]]
    if name is not None and name not in names:
        raise PromptError(
            f"There is no model {shown(name)} that answers here; there is {', '.join(names)}."
        )
    return studio.models.predictor(name)


def _parameters(studio: Studio, name: str) -> int:
    if name in MODELS:
        return MODELS[name].parameters
    network = studio.models.predictor(name).model
    return sum(parameter.numel() for parameter in network.parameters())


def _search_options(predictor: Predictor, request: Mapping[str, Any]) -> EverythingOptions:
    chosen = {name: request[name] for name in SEARCH_OPTIONS if request[name] is not None}
    per_side, fast = chosen.get("points_per_side"), chosen.get("fast", True)
    if isinstance(per_side, int) and per_side > MAX_POINTS_PER_SIDE:
        raise PromptError(
            f"points_per_side must be 1 to {MAX_POINTS_PER_SIDE} here; got {shown(per_side)}. "
            "The command line searches denser grids."
        )
    if not isinstance(fast, bool):
        raise PromptError(f"fast must be true or false; got {shown(fast)}.")
    if chosen.get("crop_n_layers"):
        raise PromptError(
            "crop_n_layers must be 0 here, since each crop is encoded anew; the command line "
            "searches crops, too."
        )
    return EverythingOptions.for_model(predictor.model, **chosen, points_per_batch=POINTS_PER_BATCH)


def _candidates(prediction: MaskPrediction, stability: Sequence[float]) -> list[Candidate]:
    scores = zip(prediction.iou_predictions, stability, prediction.areas, strict=True)
    return [
        {"predicted_iou": share(score), "stability": share(stable), "area": round(float(area))}
        for score, stable, area in scores
    ]


def _found_mask(record: MaskRecord) -> FoundMask:
    return {
        "rle": _compressed(record.rle),
        "area": record.area,
        "bbox": list(record.bbox),
        "predicted_iou": share(record.predicted_iou),
        "stability_score": share(record.stability_score),
        "point_coords": list(record.point_coords),
    }


def _file_of_all(
    kind: str, photo_name: str, size: tuple[int, int], objects: Sequence[ObjectMask]
) -> File:
    stem = fit_for_files(PurePosixPath(photo_name).stem) or "photo"
    if kind == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for part in ("indexed", "coco"):
                archive.writestr(*_file_of_all(part, photo_name, size, objects))
        return f"{stem}-masks.zip", buffer.getvalue()
    if kind == "indexed":
        return f"{stem}-indexed.png", indexed_png(objects, size)
    coco = coco_dataset([coco_picture(photo_name, size, objects)])
    return f"{stem}-coco.json", json.dumps(coco).encode()


def run_lengths(mask: np.ndarray) -> RunLengths:
    """Return an (H, W) bool mask as the calls' answers have it."""
    return _compressed(rle.encode(mask))


def _compressed(counts: Mapping[str, Any]) -> RunLengths:
    text = rle.compress(counts)
    return {"size": text["size"], "counts": text["counts"]}


def share(value: float) -> float:
    """Round a share for JSON, which knows no NaN: that is the stability of an empty mask."""
    return 0.0 if math.isnan(value) else round(float(value), 4)


def one_of(value: Any, known: Sequence[str], what: str) -> str | None:
    """Check a value that is one of a few, or None.

    Raises:
        PromptError: It is something else.
    """
    if value is None or (isinstance(value, str) and value in known):
        return value
    raise PromptError(f"The {what} must be {', '.join(known)} or null; got {shown(value)}.")


def shown(value: Any) -> str:
    """Return a value as an error may quote it."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
