"""A photo one can click on: a `gr.HTML` component whose page side lies in `canvas/`."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, GradioModel

CANVAS_FOLDER = Path(__file__).parent / "canvas"
SCRIPTS = (
    "geometry.js",
    "elements.js",
    "sight.js",
    "wire.js",
    "objects.js",
    "layout.js",
    "notice.js",
    "masks.js",
    "marks.js",
    "view.js",
    "gestures.js",
    "keyboard.js",
    "panel.js",
    "candidates.js",
    "object_list.js",
    "lines.js",
    "results.js",
    "found.js",
    "found_controls.js",
    "found_table.js",
    "everything.js",
    "share.js",
    "sharing.js",
    "keep.js",
    "camera.js",
    "saving.js",
    "server.js",
    "waits.js",
    "link.js",
    "files.js",
    "hint.js",
    "model_choice.js",
    "main.js",
)
STYLES = (
    "tokens.css",
    "page.css",
    "header.css",
    "stage.css",
    "notice.css",
    "panel.css",
    "candidates.css",
    "everything.css",
    "camera.css",
    "compare.css",
    "forced_colors.css",
)
EVENTS = (
    "open_picture",
    "encode_picture",
    "ask_mask",
    "save_result",
    "ask_models",
    "start_everything",
    "stop_everything",
    "listen",
)
SCHEMA = {"type": "object", "description": "Prompts for the photo the page shows."}


class PromptMessage(GradioModel):
    """What the page sends with every request; all prompts each time, so none can be lost.

    Only the file is checked here, by Gradio itself: it must lie in the upload folder. The other
    fields are checked by the handlers, which answer with a sentence where a validation error
    would show nothing.
    """

    objects: Any = None
    active: Any = None
    wanted: Any = None
    rev: Any = None
    picture: Any = None
    model: Any = None
    token: Any = None
    encoding: Any = None
    saving: Any = None
    everything: Any = None
    image: FileData | None = None
    example: Any = None


@functools.cache
def page_script() -> str:
    """Return the page's JavaScript, its style sheet included."""
    style = "\n".join((CANVAS_FOLDER / name).read_text("utf-8") for name in STYLES)
    scripts = "\n".join((CANVAS_FOLDER / name).read_text("utf-8") for name in SCRIPTS)
    return f'"use strict";\nconst STYLE = {json.dumps(style)};\n{scripts}'


_FIXED = ("html_template", "css_template", "js_on_load", "apply_default_css")


class PromptCanvas(gr.HTML):
    """Photo, prompts, masks and everything around them, drawn by the browser.

    Properties that Python sets (each replaced as a whole):
        picture: The photo to show: id, content, file, width, height, title, and the
            token it answers.
        progress: How far encoding is: picture, encoding, state, encode_ms, model; text where it
            failed.
        answer: Masks for the objects asked about at one `rev`, or why there are none.
        saved: The file a download asked for, or that it will come.
        notice: A sentence about a file that could not be opened.
        models: The models to choose from and the state of the official one's download.
        examples: Example photos: name, title, hint, thumbnail and the objects they open with.
        everything: How far a search for all objects is, and what it has found.
    """

    data_model = PromptMessage

    def __init__(self, value: Any = None, **props: Any) -> None:
        props.setdefault("elem_id", "mobilesam")
        super().__init__(
            value=value,
            html_template="",
            css_template="",
            js_on_load=page_script(),
            apply_default_css=False,
            **{key: entry for key, entry in props.items() if key not in _FIXED},
        )

    def __getattr__(self, name: str) -> Any:
        if name in EVENTS:
            return super().__getattr__(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def preprocess(self, payload: PromptMessage | None) -> dict[str, Any]:
        """Return the message as a dictionary."""
        return payload.model_dump() if payload is not None else {}

    def postprocess(self, value: Any) -> Any:
        """Return the value as it is; Python never writes the page's prompts."""
        return value

    def api_info(self) -> dict[str, Any]:
        """Return a constant schema: this runs with every update."""
        return SCHEMA

    def example_payload(self) -> dict[str, Any]:
        """Return a message with one point."""
        return {"objects": [{"id": 1, "points": [[10, 10, 1]]}], "wanted": [1], "rev": 1}

    def move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Take local files only: Gradio would download an address whole into memory."""
        _refuse_address(url_or_file_path)
        return super().move_resource_to_block_cache(url_or_file_path)

    async def async_move_resource_to_block_cache(
        self, url_or_file_path: str | Path | None
    ) -> str | None:
        """Take local files only: Gradio would download an address whole into memory."""
        _refuse_address(url_or_file_path)
        return await super().async_move_resource_to_block_cache(url_or_file_path)


def _refuse_address(url_or_file_path: str | Path | None) -> None:
    if "://" in str(url_or_file_path or ""):
        raise ValueError("A photo must be uploaded; an address is not fetched.")
