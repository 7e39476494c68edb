"""The page as Gradio sees it: the component, its script, the events, the launch options."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from mobilesam.ui import LAUNCH_OPTIONS, build_demo, segment
from mobilesam.ui.examples import find_examples, thumbnails
from mobilesam.ui.prompt_canvas import (
    CANVAS_FOLDER,
    EVENTS,
    SCRIPTS,
    STYLES,
    PromptCanvas,
    PromptMessage,
    page_script,
)
from mobilesam.ui.sessions import MemoryBudget, Session

PROPERTIES = ("picture", "progress", "answer", "saved", "notice", "models", "examples")


class StubShelf:
    default = "stub"

    def predictor(self, name=None):
        return SimpleNamespace(model=SimpleNamespace(name="stub", identity="stub"))

    def sources(self):
        return {}

    def status(self):
        choice = {"name": "stub", "title": "Stub", "source": "stub"}
        return {"choices": [choice], "standard": "stub", "notice": "", "percent": None}


@pytest.mark.parametrize(
    ("arguments", "is_fetched"),
    [
        ({}, True),
        ({"model": "mobile_sam"}, True),
        ({"model": "embedded"}, False),
        ({"checkpoint": "mine.safetensors"}, False),
        ({"fetch_official": False}, False),
    ],
)
def test_the_official_model_is_fetched_unless_another_was_asked_for(
    monkeypatch, tmp_path, arguments, is_fetched
):
    started = []

    class Shelf(StubShelf):
        def __init__(self, model, checkpoint):
            pass

        def start_download(self):
            started.append(True)

    monkeypatch.setattr("mobilesam.ui.demo.ModelShelf", Shelf)
    build_demo(**arguments, examples_folder=tmp_path)
    assert bool(started) is is_fetched


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    for name in ("b.jpg", "a_small-cat.jpg"):
        Image.new("RGB", (600, 400), "red").save(folder / name)
    return build_demo(models=StubShelf(), examples_folder=folder)


def canvas_of(demo):
    return next(block for block in demo.blocks.values() if isinstance(block, PromptCanvas))


def test_properties_are_no_events():
    canvas = PromptCanvas(render=False)
    for name in PROPERTIES:
        assert not hasattr(canvas, name)
        assert not re.search(rf"""(['"`]){name}\1""", page_script()), name
    assert not hasattr(canvas, "everything")  # quoted as a tab's name, and no event all the same
    for name in EVENTS:
        assert callable(getattr(canvas, name))
        assert f'"{name}"' in page_script()


def test_updates_carry_their_properties_and_nothing_else():
    from gradio.blocks import postprocess_update_dict

    canvas = PromptCanvas(render=False, answer={"rev": 1})
    update = postprocess_update_dict(canvas, {"answer": {"rev": 2}, "__type__": "update"})
    assert update["props"]["answer"] == {"rev": 2}
    assert set(update) == {"props", "__type__"}


def test_the_schema_costs_nothing():
    canvas = PromptCanvas(render=False)
    assert canvas.api_info() is canvas.api_info()


def test_the_script_is_read_once(monkeypatch):
    PromptCanvas(render=False)
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_: pytest.fail("read a file"))
    PromptCanvas(render=False)


def test_every_file_of_the_canvas_is_part_of_the_script():
    files = {path.name for path in CANVAS_FOLDER.iterdir()}
    assert files == {*SCRIPTS, *STYLES}
    for name in (*SCRIPTS, *STYLES):
        assert len((CANVAS_FOLDER / name).read_text("utf-8").splitlines()) < 350, name


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_script_is_valid(tmp_path):
    path = tmp_path / "script.js"
    path.write_text(f"(function (element, trigger, props, upload, watch) {{{page_script()}}})")
    subprocess.run(["node", "--check", str(path)], check=True, capture_output=True, timeout=60)


def test_nothing_a_visitor_supplies_is_put_in_as_html():
    assert "innerHTML" not in page_script()
    assert "insertAdjacentHTML" not in page_script()


def test_the_page_names_no_other_host():
    hosts = set(re.findall(r"https?://[^/\"'` ]+", page_script()))
    assert hosts <= {"http://www.w3.org"}  # the name of SVG, never fetched


def test_hostile_fields_pass_the_message_model_to_reach_the_handler():
    message = PromptMessage.model_validate({"objects": "x", "active": [], "rev": None, "other": 1})
    assert message.objects == "x"


@pytest.mark.parametrize(
    "address", ["http://localhost/x.png", "https://example.org/x.png", "ftp://x"]
)
def test_addresses_are_not_fetched(address):
    canvas = PromptCanvas(render=False)
    with pytest.raises(ValueError, match="uploaded"):
        canvas.move_resource_to_block_cache(address)
    with ThreadPoolExecutor() as pool:  # after browser tests this thread has Playwright's loop
        moved = pool.submit(asyncio.run, canvas.async_move_resource_to_block_cache(address))
        with pytest.raises(ValueError, match="uploaded"):
            moved.result()


def test_events_are_wired_as_measured(demo):
    wired = {fn.targets[0][1]: fn for fn in demo.fns.values() if fn.targets}
    assert set(EVENTS) < set(wired)
    for name in EVENTS:
        waits_for_none = name in ("start_everything", "stop_everything", "listen")
        assert wired[name].trigger_mode == ("multiple" if waits_for_none else "always_last"), name
        assert wired[name].show_progress == "hidden", name
        assert wired[name].api_visibility == "private", name
    assert not wired["ask_mask"].queue
    assert not wired["open_picture"].queue
    assert wired["encode_picture"].queue
    assert wired["encode_picture"].concurrency_limit == 1
    assert wired["encode_picture"].concurrency_id == "encode"
    assert wired["start_everything"].concurrency_limit == 1
    assert not wired["stop_everything"].queue
    assert wired["listen"].queue
    assert wired["listen"].concurrency_limit is None
    loads = [fn for fn in demo.fns.values() if fn.targets and fn.targets[0][1] == "load" and fn.fn]
    assert not any(fn.queue for fn in loads)  # the first photo is sent as they end
    assert "unload" in wired


def test_many_photos_at_once_are_opened_one_by_one_and_hold_no_threads(demo, monkeypatch):
    running, most, before = [], [], threading.active_count()

    def open_slowly(studio, session, message):
        running.append(message)
        most.append((len(running), threading.active_count()))
        time.sleep(0.01)
        running.pop()
        return {"notice": message}

    monkeypatch.setattr(segment, "open_picture", open_slowly)
    handler = next(fn.fn for fn in demo.fns.values() if fn.targets[0][1] == "open_picture")

    async def all_at_once():
        request = SimpleNamespace(session_hash="abc")
        return await asyncio.gather(*(handler({"n": n}, Session(), request) for n in range(60)))

    answers = asyncio.run(all_at_once())
    assert [update["notice"]["n"] for update, _ in answers] == list(range(60))
    assert max(opened for opened, _ in most) == 1
    assert max(threads for _, threads in most) < before + 10


def test_a_closed_tab_is_known_by_its_session(demo, monkeypatch):
    left = []
    monkeypatch.setattr(MemoryBudget, "release_visitor", lambda _, visitor: left.append(visitor))
    named = [fn for fn in demo.fns.values() if fn.targets]
    unload = next(fn for fn in named if fn.targets[0][1] == "unload")
    unload.fn(SimpleNamespace(session_hash="abc"))
    assert left == ["abc"]


def test_the_pages_own_events_are_no_public_endpoints(demo):
    endpoints = demo.get_api_info()["named_endpoints"]
    assert set(endpoints) == {"/segment", "/everything", "/compare", "/models"}


def test_the_canvas_starts_with_models_and_examples(demo):
    props = canvas_of(demo).get_config()["props"]
    assert [example["name"] for example in props["examples"]] == ["a_small-cat.jpg", "b.jpg"]
    assert props["examples"][0]["title"] == "A small cat"
    assert props["models"]["standard"] == "stub"


def test_thumbnails_are_small(tmp_path):
    Image.effect_noise((3000, 2000), 60).save(tmp_path / "noise.jpg")
    (thumbnail,) = thumbnails(find_examples(tmp_path))
    assert thumbnail["thumbnail"].startswith("data:image/jpeg;base64,")
    assert len(thumbnail["thumbnail"]) < 60_000


def test_no_examples_is_no_error(tmp_path):
    assert thumbnails(find_examples(tmp_path / "missing")) == []


def test_launch_options_are_known_to_gradio():
    import inspect

    known = inspect.signature(gr.Blocks.launch).parameters
    assert set(LAUNCH_OPTIONS) <= set(known)
    assert LAUNCH_OPTIONS["show_error"] is False
    assert LAUNCH_OPTIONS["ssr_mode"] is False
