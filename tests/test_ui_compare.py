"""What the compare tab answers: choices, refusals, waiting, cancelling, missing weights."""

from __future__ import annotations

import dataclasses
import re
import shutil
import threading
import time
from types import SimpleNamespace

import gradio as gr
import pytest

from mobilesam.checkpoints import CheckpointError
from mobilesam.comparison import ComparisonCancelled, ComparisonError
from mobilesam.registry import MODELS
from mobilesam.ui.compare import jobs
from mobilesam.ui.compare import models as compare_models
from mobilesam.ui.compare import page as compare_page
from mobilesam.ui.compare.jobs import CANCELLED, Desk, Job
from mobilesam.ui.compare.models import download_job, first_two, list_choices
from mobilesam.ui.compare.tab import CompareTab
from mobilesam.ui.compare.work import Subject
from mobilesam.ui.sessions import Session
from mobilesam.ui.trouble import UNUSABLE_WEIGHTS
from tests.conftest import EMBEDDED_FILE
from tests.ui_stubs import make_photo, make_studio, opened

VISITOR, OTHER = (SimpleNamespace(session_hash=name) for name in ("one", "two"))

pytestmark = pytest.mark.usefixtures("empty_machine")


@pytest.fixture
def studio(tmp_path):
    shelf = SimpleNamespace(
        default="embedded", sources=lambda: ["embedded"], source=lambda name: "embedded"
    )
    stub = make_studio(tmp_path)
    shelf.predictor = stub.models.predictor
    return dataclasses.replace(stub, models=shelf)


@pytest.fixture
def tab(studio):
    with gr.Blocks():
        built = CompareTab(studio)
        built.build()
    return built


@pytest.fixture
def visited(studio, tmp_path):
    return opened(studio, make_photo(tmp_path))


def said(changes, tab):
    """The sentence that the page shows."""
    return re.sub("<[^>]+>", "", changes[tab.status])


def message(picture, **others):
    return {"objects": [{"id": 4, "points": [[5, 5, 1]]}], "active": 4, **others} | {
        "picture": picture["id"]
    }


def test_all_models_are_offered_and_those_not_here_say_so(tmp_path):
    mine = tmp_path / "embedded.pt"  # called like a model
    choices = {choice.value: choice for choice in list_choices(["embedded", mine])}
    assert list(choices) == [*MODELS, "file:embedded"]
    assert choices["sam_vit_l"].label == "SAM ViT-L: not on this server, 1,250 MB"
    assert choices["embedded"].label == MODELS["embedded"].title
    assert choices["file:embedded"].source == mine
    assert choices["file:embedded"].label == "embedded (embedded.pt)"
    both = [choice.value for choice in first_two(list(choices.values()), "embedded")]
    assert both == ["file:embedded", "embedded"]  # the server's own file, and what else is here
    alone = [choice.value for choice in first_two(list_choices(["embedded"]), "embedded")]
    assert alone == ["embedded", "embedded_student"]


def test_what_cannot_be_compared_is_a_sentence(tab, visited):
    session, picture = visited
    ask = lambda first, second, value, who=session: said(  # noqa: E731
        tab.hand_in(first, second, value, who, VISITOR), tab
    )
    both = ("embedded", "embedded")
    assert ask(*both, {}, Session()) == "There is no photo yet; open one first."
    assert "There is no object yet" in ask(*both, {})
    assert "There is no object yet" in ask(*both, message(picture, active=9))
    empty = message(picture, objects=[{"id": 4}])
    assert "There is no point and no box yet" in ask(*both, empty)
    outside = message(picture, objects=[{"id": 4, "points": [[900, 5, 1]]}])
    assert "must lie in the photo" in ask(*both, outside)
    assert "has just changed" in ask(*both, message({"id": "other"}))
    assert ask("embedded", None, message(picture)) == "Choose two models first."
    assert "/etc" not in ask("embedded", "/etc/passwd", message(picture))
    assert "SAM ViT-B is not on this server" in ask("embedded", "sam_vit_b", message(picture))
    tab.desk.cancel("one")  # of nothing


def test_who_waits_is_told_and_can_cancel(tab, visited):
    session, picture = visited
    both = ("embedded", "embedded", message(picture), session)
    changes = tab.hand_in(*both, VISITOR)
    assert said(changes, tab) == "Starting; one comparison runs at a time."
    assert changes[tab.stop]["interactive"] is True
    changes = tab.hand_in(*both, OTHER)
    assert said(changes, tab) == "Another comparison runs first; yours starts by itself."
    changes = tab.show_missing("embedded", "embedded", OTHER)
    assert changes[tab.start]["interactive"] is False  # it has its turn first
    changes = tab.cancel("embedded", "embedded", OTHER)
    assert said(changes, tab) == CANCELLED
    assert changes[tab.start]["interactive"] is True
    (change,) = tab.work(session, OTHER)  # its turn comes all the same, and nothing happens
    assert list(change) == [tab.status]
    tab.leave(VISITOR)
    assert tab.desk.take("one") is None


def test_a_job_is_followed_and_ends_when_nobody_follows():
    ended = threading.Event()

    def work(job):
        job.report(0.25, "working")
        while not job.is_cancelled():
            threading.Event().wait(0.01)
        ended.set()
        raise ComparisonCancelled

    job = Job(work)
    following = job.follow()
    assert next(following) == (0.25, "working")
    following.close()
    assert ended.wait(10)
    desk, first, second = Desk(), Job(work), Job(work)
    assert desk.hand_in("one", first) == 0
    assert desk.take("one") is first
    assert desk.hand_in("one", second) == 0  # takes the place of the first one
    assert first.is_cancelled()
    assert desk.finish("one", first) is False


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ComparisonError("No memory."), "No memory."),
        (FileNotFoundError("x"), "The photo is no longer on the server; please open it again."),
        (ZeroDivisionError("secret"), "Something went wrong on the server; please try again."),
    ],
)
def test_trouble_is_a_sentence(error, text):
    def work(job):
        raise error

    job = Job(work)
    assert list(job.follow()) == []
    assert job.trouble == text


def test_missing_weights_say_what_they_take_and_are_refused_offline(tab):
    changes = tab.show_missing("embedded", "sam_vit_b", VISITOR)
    assert changes[tab.start]["interactive"] is False
    assert changes[tab.missing]["visible"] is True
    assert changes[tab.fetch]["value"] == "Download SAM ViT-B, 375 MB"
    assert re.search(r"375 MB, with [\d,.]+ GB free .* about 3\.\d GB", changes[tab.missing_text])
    changes = tab.show_missing("embedded", "embedded", VISITOR)
    assert changes[tab.missing]["visible"] is False
    assert changes[tab.start]["interactive"] is True
    tab.hand_in_download("embedded", "sam_vit_b", VISITOR)
    *_, last = tab.download("embedded", "sam_vit_b", VISITOR)
    assert re.fullmatch(
        r"SAM ViT-B could not be downloaded: 127\.0\.0\.1:\d+ refused the connection\. .*",
        said(last, tab),
    )


def test_disk_and_memory_are_looked_at_before_a_download(monkeypatch):
    (choice,) = (entry for entry in list_choices([]) if entry.value == "sam_vit_h")
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(compare_models.shutil, "disk_usage", lambda _: usage._replace(free=10**9))
    with pytest.raises(ComparisonError, match="The disk has 1,000 MB free, and SAM ViT-H takes 2,"):
        download_job(choice)
    monkeypatch.setattr(compare_models.shutil, "disk_usage", lambda _: usage._replace(free=10**11))
    monkeypatch.setattr("mobilesam.comparison.comparing.free_bytes", lambda: 10**9)
    with pytest.raises(ComparisonError, match=r"SAM ViT-H takes about \d\.\d GB of memory"):
        download_job(choice)


def test_weights_that_arrive_can_be_compared_at_once(tab, tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILESAM_CHECKPOINT_DIR", str(tmp_path))

    def resolve(name, progress):
        progress(100_000_000, 375_042_383)
        time.sleep(0.8)  # the page is told twice a second
        (tmp_path / "sam_vit_b_01ec64.pth").write_bytes(b"weights")
        return tmp_path / "sam_vit_b_01ec64.pth"

    monkeypatch.setattr(compare_models, "resolve_checkpoint", resolve)
    chosen = ("embedded", "sam_vit_b")
    changes = tab.hand_in_download(*chosen, VISITOR)
    assert changes[tab.start]["interactive"] is False
    *before, last = tab.download(*chosen, VISITOR)
    assert "Downloading SAM ViT-B: 100 of 375 MB" in said(before[-1], tab)
    assert 'aria-label="Download"' in before[-1][tab.status]
    assert 'aria-valuenow="27"' in before[-1][tab.status]
    assert said(last, tab) == "The weights are here now; press Compare."
    assert last[tab.missing]["visible"] is False
    assert last[tab.start]["interactive"] is True
    assert ("SAM ViT-B", "sam_vit_b") in last[tab.second]["choices"]


def test_a_job_that_does_not_end_keeps_nobody_waiting(monkeypatch):
    monkeypatch.setattr(jobs, "END_SECONDS", 0.1)
    go_on = threading.Event()
    job = Job(lambda _: go_on.wait(60))
    threading.Timer(0.1, job.cancel).start()
    started = time.monotonic()
    assert list(job.follow()) == []
    assert time.monotonic() - started < 5
    assert job.trouble == CANCELLED
    go_on.set()


def test_where_weights_lie_is_not_told_to_visitors():
    def work(_):
        raise CheckpointError("/home/me/sam.pth is cut off or damaged. Remove it.")

    job = Job(work)
    list(job.follow())
    assert job.trouble == UNUSABLE_WEIGHTS


def test_a_download_can_be_cancelled(monkeypatch):
    (choice,) = (entry for entry in list_choices([]) if entry.value == "sam_vit_b")
    job = download_job(choice)

    def resolve(name, progress):
        progress(100, 1000)
        job.cancel()
        progress(200, 1000)
        return EMBEDDED_FILE

    monkeypatch.setattr(compare_models, "resolve_checkpoint", resolve)
    list(job.follow())
    assert (job.result, job.trouble) == (None, CANCELLED)


def test_the_figure_is_called_after_photo_and_object():
    subject = Subject('A/B: "cup"?', "mug.v2.jpg", "x")
    assert str(subject) == 'A/B: "cup"? in mug.v2.jpg'
    assert subject.file_name == "mug.v2-A_B_ _cup__-comparison.png"
    assert len(Subject("é" * 80, "ö" * 80 + ".jpg", "x").file_name.encode()) < 200
    shown = compare_page.sides_html(Subject("<b>", "${1}.jpg", '"x"'))
    assert "<b>&lt;b&gt; in &#36;&#123;1&#125;.jpg</b>" in shown
    assert 'data-content="&quot;x&quot;"' in shown


def test_nothing_is_taken_for_a_template_or_for_html():
    text = compare_page.status_html("a ${1 + 1} {{value}} `x` <b>")
    assert not set("${}`") & set(re.sub("<[^>]+>", "", text).replace("&#36;", ""))
    assert "<b>" not in text
