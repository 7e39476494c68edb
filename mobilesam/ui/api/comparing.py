"""Comparisons of two models for calls from outside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from mobilesam.comparison import ModelRun, tables
from mobilesam.comparison import compare as compare_models
from mobilesam.masks import mask_to_box
from mobilesam.registry import MODELS, available
from mobilesam.ui.api.answers import File, one_of, parse_called, run_lengths, share, shown
from mobilesam.ui.api.schemas import ComparedModel, CompareKind, CompareResult
from mobilesam.ui.messages import PromptError

if TYPE_CHECKING:
    from mobilesam.ui.api.photos import CalledPhoto
    from mobilesam.ui.segment import Studio

COMPARE_KINDS: tuple[str, ...] = get_args(CompareKind)


def compare(
    studio: Studio, photo: CalledPhoto, request: Mapping[str, Any]
) -> tuple[CompareResult, File | None]:
    """Return two models' masks for the same prompts, and the figure if it was asked for.

    Args:
        studio: What all callers and visitors share.
        photo: The picture.
        request: `first`, `second`, `points`, `box`, `steps`, `choices` and `output`; not checked.

    Raises:
        ValueError, TypeError, CheckpointError, ComparisonError: It cannot be answered.
    """
    kind = one_of(request["output"], COMPARE_KINDS, "output")
    first, second = (_source(studio, request[side]) for side in ("first", "second"))
    height, width = photo.pixels.shape[:2]
    wanted = parse_called(request, (height, width))
    comparison = compare_models(
        photo.pixels,
        (first, second),
        **wanted.prompts.as_arguments(),
        steps=wanted.steps,
        choices=wanted.choices,
    )
    result: CompareResult = {
        "size": [height, width],
        "iou": share(comparison.iou),
        "first": _compared(comparison.first),
        "second": _compared(comparison.second),
        "measured": [
            list(row)
            for row in (tables.measured_head(comparison), *tables.measured_rows(comparison))
        ],
        "note": tables.measured_note(comparison),
    }
    if kind is None:
        return result, None
    from mobilesam.comparison.figure import figure_png  # brings matplotlib, which takes a while

    stem = Path(photo.name).stem or "photo"
    return result, (f"{stem}-comparison.png", figure_png(photo.pixels, comparison, photo.name))


def _source(studio: Studio, name: Any) -> str | Path:
    """Return what a model is loaded from, in a comparison.

    Raises:
        PromptError: There is no such model, or its weights are not here.
    """
    files = {
        Path(source).stem: source for source in studio.models.sources() if source not in MODELS
    }
    if isinstance(name, str) and name in files:
        return files[name]
    if not isinstance(name, str) or name not in MODELS:
        known = ", ".join([*MODELS, *files])
        raise PromptError(f"There is no model {shown(name)}; the models are {known}.")
    if not available(name):
        raise PromptError(
            f"The weights of {MODELS[name].title} are not on this server; /models says which are."
        )
    return name


def _compared(run: ModelRun) -> ComparedModel:
    return {
        "model": run.name,
        "title": run.title,
        "box": list(mask_to_box(run.mask)),
        "area": int(np.count_nonzero(run.mask)),
        "predicted_iou": share(run.predicted_iou),
        "rle": run_lengths(run.mask),
        "parameters": run.parameters,
        "file_bytes": run.file_bytes,
        "load_ms": round(run.load_ms, 1),
        "encode_ms": round(run.encode_ms, 1),
        "decode_ms": round(run.decode_ms, 1),
        "peak_bytes": run.peak_bytes,
    }
