"""The page's functions for programs: `/segment`, `/everything`, `/compare` and `/models`.

`gradio_client`, plain HTTP and, with the extra `mcp`, agents call them; `docs/api.md` shows how.
Gradio makes the endpoints' documentation and their schemas of the methods below: of an argument it
takes the one line of its description, and the annotations must be types, not their names. That is
why this module does not postpone their evaluation.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context
from gradio.data_classes import FileData
from gradio.events import api
from gradio.state_holder import StateHolder
from gradio.utils import get_function_description, get_upload_folder

from mobilesam.comparison import ComparisonError
from mobilesam.errors import PAGE_LENGTH, sentence
from mobilesam.ui.api import answers, comparing
from mobilesam.ui.api.photos import CalledPhoto, RecentEmbeddings
from mobilesam.ui.api.schemas import (
    CompareKind,
    CompareResult,
    EverythingKind,
    EverythingResult,
    ExportKind,
    ModelInfo,
    SegmentResult,
)
from mobilesam.ui.api.uploads import holds_file, uploaded_file
from mobilesam.ui.messages import PromptError
from mobilesam.ui.segment import Studio
from mobilesam.ui.trouble import trouble

LOGGER = logging.getLogger(__name__)
TOO_LARGE = "One of the numbers is too large; give a smaller one."
EXAMPLES = {  # of values without a default, in the documentation that Gradio shows
    "image": {"path": "photo.jpg", "url": "photo.jpg", "meta": {"_type": "gradio.FileData"}},
    "first": "mobile_sam",
    "second": "embedded",
}
GONE = "The file is no longer on the server; please upload it again."


def add_endpoints(studio: Studio) -> None:
    """Add the endpoints to the page that is being built; call it inside `gr.Blocks`.

    A search and a comparison wait in the queues of the page's own, by their concurrency ids. What
    /segment does after the encoding may take long on a large photo: it has a queue of its own.
    """
    blocks = Context.root_block
    if blocks is None:
        raise RuntimeError("Endpoints belong to a page; call add_endpoints inside gr.Blocks.")
    endpoints = Endpoints(studio)
    arguments = {
        **_add(blocks, endpoints.segment, concurrency_id="segment", concurrency_limit=1),
        **_add(blocks, endpoints.everything, concurrency_id="everything", concurrency_limit=1),
        **_add(blocks, endpoints.compare, concurrency_id="compare", concurrency_limit=1),
        **_add(blocks, endpoints.models, queue=False),
    }
    _guard(blocks, arguments)


class Endpoints:
    """What can be called from outside; keeps nothing of a caller.

    Args:
        studio: What all callers and visitors share.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._recent = RecentEmbeddings()

    def segment(
        self,
        image: FileData,
        points: list[list[float]] | None = None,
        box: list[float] | None = None,
        model: str | None = None,
        steps: list[int] | None = None,
        choices: list[int | None] | None = None,
        min_area: int = 0,
        smooth: float = 0.0,
        feather: float = 0.0,
        output: ExportKind | None = None,
        name: str = "object",
        color: str = "#1e90ff",
    ) -> tuple[SegmentResult, FileData | None]:
        """Segment one object of a photo: points on it, points not on it or a box give its mask.

        All coordinates are pixels of the upright photo, from its upper left corner. With several
        points, each refines the mask of the points before it, as clicks on the page do.

        Args:
            image: The photo, uploaded before; JPEG, PNG, WebP, HEIC, GIF, BMP or TIFF.
            points: [x, y, label] of each point, at most 64; label 1 is on the object, 0 not on it.
            box: [left, top, right, bottom] round the object, with points or instead of them.
            model: Name of the model, one that /models calls loaded; null for the standard one.
            steps: Numbers of points after which a mask was made; null for all; 0 is the box alone.
            choices: Per step which candidate was chosen, from 0; null for the best everywhere.
            min_area: Holes and specks of fewer pixels are removed; 0 keeps all.
            smooth: Sigma in pixels by which the outline is smoothed; 0 leaves it.
            feather: Sigma in pixels by which a cut-out's edge is softened; 0 leaves it.
            output: The file to make: a mask, a cut-out, COCO, ...; null for none.
            name: What the object is called in that file.
            color: Its color in that file, #rrggbb.

        Returns:
            result: The mask as COCO run lengths, its box, area and scores; scores of all candidates
            file: The file that was asked for, in the photo's own size, or null
        """
        request = {
            **{"points": points, "box": box, "model": model, "steps": steps, "choices": choices},
            **{"min_area": min_area, "smooth": smooth, "feather": feather},
            **{"output": output, "name": name, "color": color},
        }
        with _sentences():
            result, file = answers.segment(self._studio, self._photo(image), request)
            return result, self._served(file)

    def everything(
        self,
        image: FileData,
        model: str | None = None,
        points_per_side: int = 16,
        pred_iou_thresh: float | None = None,
        stability_score_thresh: float | None = None,
        stability_score_offset: float | None = None,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        min_mask_region_area: int = 0,
        fast: bool = True,
        output: EverythingKind | None = None,
    ) -> tuple[EverythingResult, FileData | None]:
        """Find the masks of everything in a photo, without prompts.

        Options are those of SAM's mask generator. This takes seconds; for one object use segment.

        Args:
            image: The photo, uploaded before; JPEG, PNG, WebP, HEIC, GIF, BMP or TIFF.
            model: Name of the model, one that /models calls loaded; null for the standard one.
            points_per_side: The photo is asked about at so many points squared; 1 to 32.
            pred_iou_thresh: Least predicted IoU of a mask, 0 to 1; null for what suits the model.
            stability_score_thresh: Least stability, 0 to 1; null for what suits the model.
            stability_score_offset: Logits by which stability is measured; null for the model's.
            box_nms_thresh: Of two masks whose boxes' IoU is higher the better one is kept.
            crop_n_layers: Must be 0: searching crops, too, is left to the command line.
            min_mask_region_area: Holes and islands of fewer pixels are removed; 0 keeps all.
            fast: Ask at a sparse grid first, and again only where that found nothing.
            output: The file to make: numbered masks as PNG, COCO, or both as ZIP; null for none.

        Returns:
            result: The masks as COCO run lengths, each with its box, area, scores and point
            file: The file that was asked for, in the photo's own size, or null
        """
        request = {
            **{"model": model, "output": output, "fast": fast, "points_per_side": points_per_side},
            **{"pred_iou_thresh": pred_iou_thresh, "box_nms_thresh": box_nms_thresh},
            "stability_score_thresh": stability_score_thresh,
            "stability_score_offset": stability_score_offset,
            **{"crop_n_layers": crop_n_layers, "min_mask_region_area": min_mask_region_area},
        }
        with _sentences():
            result, file = answers.everything(self._studio, self._photo(image), request)
            return result, self._served(file)

    def compare(
        self,
        image: FileData,
        first: str,
        second: str,
        points: list[list[float]] | None = None,
        box: list[float] | None = None,
        steps: list[int] | None = None,
        choices: list[int | None] | None = None,
        output: CompareKind | None = None,
    ) -> tuple[CompareResult, FileData | None]:
        """Give the same prompts to two models: their masks, how they agree, what each one takes.

        Each model is loaded in a process of its own and measured, which takes seconds, for the
        largest models minutes.

        Args:
            image: The photo, uploaded before; JPEG, PNG, WebP, HEIC, GIF, BMP or TIFF.
            first: Name of one model, one that /models calls available.
            second: Name of the other one; both may be the same.
            points: [x, y, label] of each point, at most 64; label 1 is on the object, 0 not on it.
            box: [left, top, right, bottom] round the object, with points or instead of them.
            steps: Numbers of points after which a mask was made; null for all; 0 is the box alone.
            choices: Per step which candidate was chosen, from 0; null for the best everywhere.
            output: The file to make: a figure of masks, difference and tables; null for none.

        Returns:
            result: Both masks as COCO run lengths, their IoU, and what was measured
            file: The figure as PNG, or null
        """
        request = {
            **{"first": first, "second": second, "points": points, "box": box},
            **{"steps": steps, "choices": choices, "output": output},
        }
        with _sentences():
            result, file = comparing.compare(self._studio, self._photo(image), request)
            return result, self._served(file)

    def models(self) -> list[ModelInfo]:
        """List the models: their names, sizes, whether they are here, and which one is standard.

        Returns:
            models: Those that are loaded answer segment and everything; all here can be compared
        """
        with _sentences():
            return answers.models(self._studio)

    def _photo(self, image: Any) -> CalledPhoto:
        path = uploaded_file(image, Path(get_upload_folder()))
        return CalledPhoto(self._studio, self._recent, path, image.get("orig_name"))

    def _served(self, file: tuple[str, bytes] | None) -> FileData | None:
        return None if file is None else FileData(**self._studio.store(file[1], file[0]))


def _add(blocks: gr.Blocks, endpoint: Callable[..., Any], **queueing: Any) -> dict[int, list[str]]:
    """Register an endpoint and describe its parts; returns its number and its arguments' names."""
    number = api(endpoint, **queueing)["id"]
    function: Any = blocks.fns[number]
    _, arguments, results = get_function_description(endpoint)
    for part, (name, text) in zip(function.inputs, arguments.items(), strict=True):
        part.label = name.capitalize()  # "image" and "file" are words Gradio translates
        part._api_info |= {"description": text, "additional_description": text}
        if name == "image":
            part._api_info["required"] = ["path"]  # Gradio wants all of a file's fields
        if name in EXAMPLES:
            part.example_payload = partial(EXAMPLES.get, name)
    for part, result in zip(function.outputs, results, strict=True):
        name, _, text = result.partition(": ")
        part.label = name.capitalize()
        part._api_info |= {"description": text}
    return {number: list(arguments)}


def _guard(blocks: gr.Blocks, arguments: Mapping[int, Sequence[str]]) -> None:
    """Look at the endpoints' calls before Gradio does, and leave nothing behind them.

    Gradio would download an address whole into memory, take any value that looks like a file for
    one, and answer what it refuses without a word. Of each call it would keep values and results,
    as if a visitor's page had made it, and forget a visitor for it.

    Args:
        blocks: The page.
        arguments: The arguments' names, by the endpoint's number.
    """
    process = blocks.process_api

    async def process_api(block_fn: Any, inputs: list[Any], **others: Any) -> dict[str, Any]:
        names = arguments.get(getattr(block_fn, "_id", block_fn))
        if names is None:
            return await process(block_fn, inputs, **others)
        try:
            with _sentences():
                checked = _check_values(names, inputs)
            return await process(block_fn, checked, **others)
        finally:
            _forget(blocks.state_holder, others.get("session_hash"))

    blocks.process_api = process_api  # type: ignore[method-assign, assignment]


def _forget(sessions: StateHolder, session_hash: str | None) -> None:
    with sessions.lock:
        sessions.session_data.pop(session_hash or "", None)
        sessions.time_last_used.pop(session_hash or "", None)


def _check_values(names: Sequence[str], values: Sequence[Any]) -> list[Any]:
    """Return an endpoint's values with no file among them but the image; refuse all others."""
    if len(values) != len(names):
        raise PromptError(
            f"The values must be {len(names)}: {', '.join(names)}; got {len(values)}."
        )
    checked = []
    for name, value in zip(names, values, strict=True):
        if name == "image":
            path = uploaded_file(value, Path(get_upload_folder()))
            called = value.get("orig_name")
            called = called if isinstance(called, str) else None
            checked.append(FileData(path=str(path), orig_name=called).model_dump())
        elif holds_file(value):
            raise PromptError(f"{name} takes numbers or text; got an object.")
        else:
            checked.append(value)
    return checked


@contextmanager
def _sentences() -> Iterator[None]:
    """Tell callers in one sentence what was wrong, and nothing of how this program is made."""
    try:
        yield
    except FileNotFoundError:
        text = GONE
    except (ValueError, TypeError, ComparisonError) as error:
        text = sentence(error, PAGE_LENGTH)
    except OverflowError:
        text = TOO_LARGE
    except Exception as error:
        LOGGER.exception("A call could not be answered")
        text = trouble(error)
    else:
        return
    raise gr.Error(text, print_exception=False)
