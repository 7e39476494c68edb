"""The compare tab: two models, the photo and the selected object's prompts."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context

from mobilesam.comparison import ComparisonError
from mobilesam.ui.compare import page
from mobilesam.ui.compare.jobs import CANCELLED, Desk, Job
from mobilesam.ui.compare.models import (
    Choice,
    describe_missing,
    download_job,
    first_two,
    list_choices,
)
from mobilesam.ui.compare.work import Outcome, Subject, comparison_job, summary
from mobilesam.ui.prompt_canvas import PromptCanvas
from mobilesam.ui.segment import Studio
from mobilesam.ui.sessions import Session
from mobilesam.ui.trouble import trouble

LOGGER = logging.getLogger(__name__)

SCRIPTS = ("slider.js", "speech.js", "focus.js", "subject.js", "offline.js", "begin.js")
COMPARISON, DOWNLOAD = "Comparison", "Download"  # names of the progress bar
READY = "Choose two models that are on this server, and press Compare."
_REFUSED = page.status_html("The server did not take that; please try again in a moment.", "warn")
_EVENT: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
Changes = dict[Any, Any]


@dataclass
class CompareTab:
    """The tab's components, and what its events do with them.

    Attributes:
        studio: What all visitors share.
        desk: The comparisons under way, and those that wait.
        downloads: The same for downloads.
    """

    studio: Studio
    desk: Desk = field(default_factory=Desk)
    downloads: Desk = field(default_factory=Desk)

    def build(self) -> None:
        """Make the components; must be called inside `gr.Blocks`."""
        choices = self._choices()
        options = [(choice.label, choice.value) for choice in choices.values()]
        first, second = first_two(list(choices.values()), self.studio.models.default)
        with gr.Column(elem_id="mobilesam-compare"):
            gr.HTML(page.intro_html(), elem_classes="ms-compare-head")
            with gr.Row(elem_classes="ms-compare-controls"):
                self.first = gr.Dropdown(options, value=first.value, label="First model")
                self.second = gr.Dropdown(options, value=second.value, label="Second model")
                self.start = gr.Button(
                    "Compare",
                    variant="primary",
                    interactive=first.is_here and second.is_here,
                    elem_id="ms-compare-start",
                )
                self.stop = gr.Button("Cancel", interactive=False, elem_id="ms-compare-stop")
            with gr.Row(visible=False, elem_classes="ms-compare-missing") as self.missing:
                self.missing_text = gr.HTML()
                self.fetch = gr.Button("Download", variant="primary", elem_id="ms-compare-fetch")
            gr.HTML('<p class="ms-compare-object"></p>', elem_classes="ms-compare-head")
            self.status = gr.HTML(page.status_html(READY), elem_id="ms-compare-status")
            self.sides = gr.HTML(page.sides_html(), elem_id="ms-compare-sides")
            self.slider = gr.ImageSlider(
                label="Before and after: drag the line",
                show_label=False,
                interactive=False,
                buttons=["fullscreen"],
                elem_id="ms-compare-slider",
            )
            self.pictures = gr.HTML(page.pictures_html(), elem_id="ms-compare-pictures")
            with gr.Row(elem_classes="ms-compare-tables"):
                self.measured = gr.HTML(page.measured_html(), elem_id="ms-compare-measured")
                gr.HTML(page.published_html(), elem_id="ms-compare-published")
            self.figure = gr.DownloadButton(
                "Download as one figure (PNG)", interactive=False, elem_id="ms-compare-figure"
            )

    def wire(self, canvas: PromptCanvas, session: gr.State) -> None:
        """Connect the events; must be called inside `gr.Blocks`."""
        chosen = [self.first, self.second]
        controls = [self.status, self.start, self.stop, self.fetch]
        results = [self.sides, self.slider, self.pictures, self.measured, self.figure]
        missing = [self.start, self.missing, self.missing_text, self.fetch]
        now: dict[str, Any] = {"queue": False, **_EVENT}
        # Started again right after a cancel: the event that was cancelled may still be ending.
        again: dict[str, Any] = {"trigger_mode": "multiple"}
        handed_in = self.start.click(
            self.hand_in, [*chosen, canvas, session], [*controls, *results], **now, **again
        )
        worked = handed_in.then(
            self.work,
            session,
            [*controls, *results],
            concurrency_id="compare",
            concurrency_limit=1,
            **_EVENT,
            **again,
        )
        worked.then(
            self.show_missing, chosen, missing, **now, **again
        )  # as they are chosen by then
        fetch_handed_in = self.fetch.click(self.hand_in_download, chosen, controls, **now, **again)
        fetched = fetch_handed_in.then(
            self.download,
            chosen,
            [self.status, self.stop, *missing, *chosen],
            concurrency_id="compare-download",
            concurrency_limit=1,
            **_EVENT,
            **again,
        )
        stopped = self.stop.click(self.cancel, chosen, [self.status, self.stop, *missing], **now)
        for refused in (handed_in, fetch_handed_in, stopped):
            refused.failure(None, None, self.status, js=_answers(_REFUSED), **again)
        off, on = gr.update(interactive=False), gr.update(interactive=True)
        for refused, buttons in ((worked, [self.start, self.fetch]), (fetched, [self.fetch])):
            idle = _answers(_REFUSED, off, *[on] * len(buttons))
            refused.failure(None, None, [self.status, self.stop, *buttons], js=idle, **again)
            refused.failure(
                self.leave, None, None, **now, **again
            )  # it may wait there all the same
        gr.on([self.first.change, self.second.change], self.show_missing, chosen, missing, **now)
        blocks = Context.root_block
        if blocks is None:
            raise RuntimeError("The tab belongs to a page; call build_compare inside gr.Blocks.")
        blocks.load(self.refresh, chosen, [*chosen, *missing], **now)
        blocks.load(None, js=_script(), api_visibility="private")
        blocks.unload(self.leave)

    # --- what a visitor does ---------------------------------------------------------------------

    def hand_in(
        self,
        first: Any,
        second: Any,
        message: Mapping[str, Any] | None,
        visited: Session,
        request: gr.Request,
    ) -> Changes:
        """Check what is to be compared, and let it wait for its turn."""
        try:
            models = self._chosen(first, second)
            asked = message or {}
            answering = self.studio.models.source(asked.get("model"))
            subject, job = comparison_job(
                models, visited.snapshot(), asked, self.studio.courtesy, answering
            )
        except (ComparisonError, ValueError, FileNotFoundError) as error:
            return {self.status: page.status_html(str(error), "warn")}
        ahead = self.desk.hand_in(str(request.session_hash), job)
        if ahead:
            others = "Another comparison runs" if ahead == 1 else f"{ahead} other comparisons run"
            text = f"{others} first; yours starts by itself."
        else:
            text = "Starting; one comparison runs at a time."
        return {**self._busy(text, COMPARISON), **self._no_results(subject)}

    def work(self, visited: Session, request: gr.Request) -> Iterator[Changes]:
        """Run the comparison whose turn has come, and show how far it is."""
        visitor = str(request.session_hash)
        job = self.desk.take(visitor)
        if job is None:
            yield {self.status: gr.skip()}  # cancelled while it waited
            return
        yield from self._follow(job, COMPARISON)
        if not self.desk.finish(visitor, job):
            yield {self.status: gr.skip()}  # the visitor has cancelled it, or gone on
        elif job.result is None:
            yield self._idle(job.trouble, "" if job.trouble == CANCELLED else "warn")
        else:
            try:
                results = self._results(job.result, visited)
            except OSError as error:
                LOGGER.exception("A comparison's pictures could not be written")
                yield self._idle(trouble(error), "warn")
                return
            yield {**self._idle(summary(job.result)), **results}

    def cancel(self, first: Any, second: Any, request: gr.Request) -> Changes:
        """End what the visitor has under way or waiting."""
        visitor = str(request.session_hash)
        self.desk.cancel(visitor)
        self.downloads.cancel(visitor)
        return {**self._idle(CANCELLED), **self.show_missing(first, second, request)}

    def leave(self, request: gr.Request) -> None:
        """End what a visitor has under way who closes the page, or is not answered."""
        visitor = str(request.session_hash)
        self.desk.cancel(visitor)
        self.downloads.cancel(visitor)

    def hand_in_download(self, first: Any, second: Any, request: gr.Request) -> Changes:
        """Check whether missing weights can be had, and let the download wait for its turn."""
        choice = self._missing_choice(first, second)
        if choice is None:
            return {self.status: page.status_html("Both models are here already.")}
        try:
            job = download_job(choice)
        except ComparisonError as error:
            return {self.status: page.status_html(str(error), "warn")}
        ahead = self.downloads.hand_in(str(request.session_hash), job)
        text = "Another download runs first." if ahead else "Looking for a server."
        return self._busy(text, DOWNLOAD)

    def download(self, first: Any, second: Any, request: gr.Request) -> Iterator[Changes]:
        """Download the weights whose turn has come, and show how far that is."""
        visitor = str(request.session_hash)
        job = self.downloads.take(visitor)
        if job is None:
            yield {self.status: gr.skip()}
            return
        yield from self._follow(job, DOWNLOAD)
        if not self.downloads.finish(visitor, job):
            yield {self.status: gr.skip()}
        elif job.result is None:
            yield self._idle(job.trouble, "" if job.trouble == CANCELLED else "warn")
        else:
            text = "The weights are here now; press Compare."
            yield {**self._idle(text), **self.refresh(first, second, request)}

    def refresh(self, first: Any, second: Any, request: gr.Request) -> Changes:
        """Say anew which models are here."""
        options = [(choice.label, choice.value) for choice in self._choices().values()]
        return {
            self.first: gr.update(choices=options),
            self.second: gr.update(choices=options),
            **self.show_missing(first, second, request),
        }

    def show_missing(self, first: Any, second: Any, request: gr.Request) -> Changes:
        """Offer the download of a chosen model that is not here; without it nothing is compared."""
        choice = self._missing_choice(first, second)
        visitor = str(request.session_hash)
        is_busy = self.desk.has(visitor) or self.downloads.has(visitor)
        start = gr.update(interactive=choice is None and not is_busy)
        if choice is None:
            return {self.start: start, self.missing: gr.update(visible=False)}
        label = f"Download {choice.title}, {choice.size_bytes / 1e6:,.0f} MB"
        text = f"<p>{page.escape(describe_missing(choice))} Compare works once it is here.</p>"
        return {
            self.start: start,
            self.missing: gr.update(visible=True),
            self.missing_text: text,
            self.fetch: gr.update(value=label, interactive=not is_busy),
        }

    # --- how it is done --------------------------------------------------------------------------

    def _choices(self) -> dict[str, Choice]:
        listed = list_choices(self.studio.models.sources())
        return {choice.value: choice for choice in listed}

    def _chosen(self, first: Any, second: Any) -> list[Choice | None]:
        choices = self._choices()
        return [choices.get(str(value)) for value in (first, second)]

    def _missing_choice(self, first: Any, second: Any) -> Choice | None:
        chosen = self._chosen(first, second)
        return next((choice for choice in chosen if choice and not choice.is_here), None)

    def _follow(self, job: Job, of: str) -> Iterator[Changes]:
        for update in job.follow():
            if not job.is_cancelled():
                yield {self.status: page.status_html(update.text, share=update.share, of=of)}

    def _busy(self, text: str, of: str) -> Changes:
        return {
            self.status: page.status_html(text, share=0.0, of=of),
            self.start: gr.update(interactive=False),
            self.stop: gr.update(interactive=True),
            self.fetch: gr.update(interactive=False),
        }

    def _idle(self, text: str, kind: str = "") -> Changes:
        return {
            self.status: page.status_html(text, kind),
            self.stop: gr.update(interactive=False),
            self.fetch: gr.update(interactive=True),
        }

    def _no_results(self, subject: Subject) -> Changes:
        return {
            self.sides: page.sides_html(subject),
            self.slider: None,
            self.pictures: page.pictures_html(),
            self.measured: page.measured_html(),
            self.figure: gr.update(value=None, interactive=False),
        }

    def _results(self, outcome: Outcome, visited: Session) -> Changes:
        comparison, pictures = outcome.comparison, outcome.pictures
        store = self.studio.hand_over
        sides = [
            store(visited, f"compared-{side}", page.jpeg_bytes(picture), f"{side}.jpg")["path"]
            for side, picture in (("first", pictures.first), ("second", pictures.second))
        ]
        figure = store(visited, "comparison", outcome.figure, outcome.subject.file_name)["path"]
        return {
            self.sides: page.sides_html(outcome.subject, comparison.titles),
            self.slider: tuple(sides),
            self.pictures: page.pictures_html(comparison, pictures),
            self.measured: page.measured_html(comparison),
            self.figure: gr.update(value=figure, interactive=True),
        }


def _script() -> str:
    """Return the tab's JavaScript, as the one function that Gradio calls."""
    folder = Path(__file__).parent
    return "() => {\n" + "\n".join((folder / name).read_text("utf-8") for name in SCRIPTS) + "}"


def _answers(*values: Any) -> str:
    """Return the JavaScript that gives the components these values, without the server."""
    return f"() => {json.dumps(values if len(values) > 1 else values[0])}"


def build_compare(canvas: PromptCanvas, session: gr.State, studio: Studio) -> None:
    """Build the compare tab and connect its events; must be called inside `gr.Blocks`."""
    tab = CompareTab(studio)
    tab.build()
    tab.wire(canvas, session)
