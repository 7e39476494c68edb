"""The page: one `PromptCanvas`, one session per visitor, and the events between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gradio as gr

from mobilesam.ui import everything, saving, segment
from mobilesam.ui.api import add_endpoints
from mobilesam.ui.compare import build_compare
from mobilesam.ui.courtesy import Courtesy
from mobilesam.ui.examples import ReadyEmbeddings, find_examples, thumbnails
from mobilesam.ui.models import FALLBACK, ModelShelf
from mobilesam.ui.page_files import discard, keep_sweeping, store_in
from mobilesam.ui.prompt_canvas import PromptCanvas
from mobilesam.ui.sessions import DEFAULT_BUDGET_BYTES, MemoryBudget, Session
from mobilesam.ui.theme import page_theme

EXAMPLES_FOLDER = Path(__file__).resolve().parents[2] / "examples"
TITLE = "MobileSAM: click anything in a photo, get its mask"

LAUNCH_OPTIONS: dict[str, Any] = {
    "max_file_size": "20mb",
    "state_session_capacity": 256,
    "ssr_mode": False,
    "enable_monitoring": False,
    "run_history": False,
    "show_error": False,
    "footer_links": ["api", "gradio", "settings"],
    "theme": page_theme(),
}

QUEUE_SIZE = 256  # events of all kinds that wait; one that may not is lost to its visitor
QUEUE_SLEEP_S = 0.01  # between two looks at it: with Gradio's 0.001 and 0.01 a server without
PROGRESS_SLEEP_S = 0.1  # visitors takes 7 % of a core
SAVES_HEARD = 16  # files that are being made or wait and say so; further ones wait unheard

# One event at a time from each page, and the last one is never lost.
_PAGE_EVENT: dict[str, Any] = {
    "trigger_mode": "always_last",
    "show_progress": "hidden",
    "api_visibility": "private",
}


def build_demo(
    model: str | None = None,
    checkpoint: str | Path | None = None,
    *,
    examples_folder: str | Path = EXAMPLES_FOLDER,
    fetch_official: bool = True,
    backend: str | None = "torch",
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    models: ModelShelf | None = None,
) -> gr.Blocks:
    """Build the demo's page; `launch(**LAUNCH_OPTIONS)` serves it.

    Args:
        model: Name of the model that answers; by default the official MobileSAM where its
            checkpoint is on this machine, else the embedded model.
        checkpoint: A checkpoint file that goes before `model`.
        examples_folder: Folder of the example photographs (`*.jpg`).
        fetch_official: Download a missing official checkpoint in the background, unless the
            embedded model or a file was asked for.
        backend: What encodes pictures as soon as it is ready, see `ModelShelf.start_backend`; None
            for the fastest that is installed.
        budget_bytes: Bound on what all sessions hold in memory together.
        models: Ready-made models, instead of `model`, `checkpoint` and `backend`.

    Raises:
        CheckpointError: The checkpoint file cannot be used.
        ValueError: There is no model of that name, or no such backend.
    """
    shelf = models or ModelShelf(model, checkpoint)
    budget = MemoryBudget(budget_bytes)
    examples = find_examples(Path(examples_folder))
    courtesy = Courtesy()
    ready = ReadyEmbeddings(examples, shelf, courtesy.wait)
    if fetch_official and models is None and checkpoint is None and model != FALLBACK:
        shelf.start_download()
    if backend != "torch" and models is None:
        shelf.start_backend(backend)

    day = 24 * 3600
    with gr.Blocks(
        title=TITLE,
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(day, day),  # and at the end; until then `keep_sweeping` does it
    ) as demo:
        session = gr.State(Session())
        canvas = PromptCanvas(examples=thumbnails(examples), models=shelf.status())
        studio = segment.Studio(
            shelf,
            budget,
            store_in(canvas.GRADIO_CACHE, canvas.temp_files.add),
            discard,
            {name: example.path for name, example in examples.items()},
            ready,
            courtesy,
        )
        _wire(demo, canvas, session, studio)
        add_endpoints(studio)
        build_compare(canvas, session, studio)
    demo.queue(max_size=QUEUE_SIZE, api_open=False)  # nobody goes past the queue
    demo._queue.sleep_when_free = QUEUE_SLEEP_S
    demo._queue.progress_update_sleep_when_free = PROGRESS_SLEEP_S
    ready.start()
    keep_sweeping(demo)
    return demo


def _wire(demo: gr.Blocks, canvas: PromptCanvas, session: gr.State, studio: segment.Studio) -> None:
    """Connect the page's events with their handlers."""
    opening = asyncio.Semaphore(1)  # photos that wait for their turn hold no thread
    making = asyncio.Semaphore(1)  # of files

    async def open_picture(
        message: Mapping[str, Any], visited: Session, request: gr.Request
    ) -> tuple[Any, Session]:
        async with opening:
            props = await asyncio.to_thread(segment.open_picture, studio, visited, message)
        studio.budget.touch(visited, request.session_hash)
        return gr.update(**props), visited

    def encode_picture(
        message: Mapping[str, Any], visited: Session, request: gr.Request
    ) -> Iterator[Any]:
        for props in segment.encode_picture(studio, visited, message):
            studio.budget.touch(visited, request.session_hash)
            yield gr.update(**props)

    def ask_mask(message: Mapping[str, Any], visited: Session, request: gr.Request) -> Any:
        studio.budget.touch(visited, request.session_hash)
        return gr.update(**segment.answer_prompts(studio, visited, message))

    async def save_result(
        message: Mapping[str, Any], visited: Session, request: gr.Request
    ) -> AsyncIterator[Any]:
        studio.budget.touch(visited, request.session_hash)
        # closed as soon as the visitor leaves: others wait behind
        async with aclosing(saving.save_in_turn(studio, visited, message, making)) as told:
            async for props in told:
                yield gr.update(**props)

    def start_everything(
        message: Mapping[str, Any], visited: Session, request: gr.Request
    ) -> Iterator[Any]:
        for props in everything.search(studio, visited, message):
            studio.budget.touch(visited, request.session_hash)  # or its embedding might have to go
            yield gr.update(**props)

    def stop_everything(message: Mapping[str, Any], visited: Session) -> Any:
        return gr.update(**everything.stop(studio, visited, message))

    def ask_models() -> Any:
        return gr.update(models=studio.models.status())

    def listen() -> None:
        """Do nothing: with an event in the queue the page hears what it has missed."""

    def leave(request: gr.Request) -> None:
        studio.budget.release_visitor(request.session_hash)

    page = {"inputs": [canvas, session], "outputs": canvas, **_PAGE_EVENT}
    canvas.open_picture(open_picture, **{**page, "outputs": [canvas, session]}, queue=False)
    canvas.encode_picture(encode_picture, **page, concurrency_id="encode", concurrency_limit=1)
    canvas.ask_mask(ask_mask, **page, queue=False)
    canvas.save_result(save_result, **page, concurrency_id="save", concurrency_limit=SAVES_HEARD)
    canvas.start_everything(
        start_everything,
        **{**page, "trigger_mode": "multiple"},
        concurrency_id="everything",
        concurrency_limit=1,
    )
    canvas.stop_everything(stop_everything, **{**page, "trigger_mode": "multiple"}, queue=False)
    canvas.ask_models(ask_models, inputs=None, outputs=canvas, **_PAGE_EVENT, queue=False)
    canvas.listen(
        listen, None, None, **{**_PAGE_EVENT, "trigger_mode": "multiple"}, concurrency_limit=None
    )
    demo.load(ask_models, None, canvas, **_PAGE_EVENT, queue=False)
    demo.unload(leave)
