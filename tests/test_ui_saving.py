"""Downloads, without Gradio and without a browser: the right mask, names, files, visitors."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilesam.refinement import Refinement
from mobilesam.ui import saving, segment
from mobilesam.ui.sessions import Session
from tests.ui_stubs import ask, make_photo, make_studio, opened, save, upload


@pytest.fixture
def studio(tmp_path):
    return make_studio(tmp_path)


@pytest.fixture
def photo(tmp_path):
    return make_photo(tmp_path)


@pytest.mark.parametrize(("kind", "mode"), [("mask", "L"), ("cutout", "RGBA"), ("overlay", "RGB")])
def test_downloads_have_the_photos_own_size(studio, photo, kind, mode):
    session, picture = opened(studio, photo)
    look = {"choices": [0], "color": "#ff0000"}
    message = save(picture, kind, token=9, object=look, opacity=1)
    saved = saving.save_result(studio, session, message)["saved"]
    assert (saved["status"], saved["token"]) == ("ok", 9)
    assert saved["title"] == f"photo-{kind}.png"
    with Image.open(saved["file"]["path"]) as result:
        assert (result.size, result.mode) == ((80, 50), mode)
        values = np.asarray(result)
    if kind == "mask":
        assert (values[:, :40] == 255).all()
        assert (values[:, 40:] == 0).all()
    elif kind == "cutout":
        assert (values[:, :40, 3] == 255).all()
        assert (values[:, 40:, 3] == 0).all()
    else:
        assert (values[25, 10] == (255, 0, 0)).all()
        assert (values[25, 70] == (0, 128, 0)).all()


@pytest.mark.parametrize("kind", [None, "../x", "gif", 3, ["mask"]])
def test_unknown_downloads_are_refused(studio, photo, kind):
    session, picture = opened(studio, photo)
    message = save(picture, kind)
    assert saving.save_result(studio, session, message)["saved"]["status"] == "failed"


@pytest.mark.parametrize("odd", [None, 3, "mask", ["mask"], {}])
def test_odd_downloads_are_refused(studio, photo, odd):
    session, _ = opened(studio, photo)
    assert saving.save_result(studio, session, {"saving": odd})["saved"]["status"] != "ok"


def test_a_download_is_of_its_own_prompts_not_of_the_pages_latest(studio, photo):
    session, picture = opened(studio, photo)
    message = save(picture, "mask") | ask({"id": "other"}, [[70, 40, 0]])
    assert saving.save_result(studio, session, message)["saved"]["status"] == "ok"
    assert studio.models.predictor().asked[-1]["points"] == [(1.0, 1.0)]


def test_all_objects_but_hidden_ones_are_in_a_download_of_all(studio, photo):
    session, picture = opened(studio, photo)
    message = save(picture, "indexed", object={"choices": [0]})
    message["saving"]["objects"] += [
        {"id": 2, "name": "Top", "points": [[2, 2, 1]], "choices": [1]},
        {"id": 3, "name": "All", "points": [[2, 2, 1]], "choices": [2], "hidden": True},
    ]
    saved = saving.save_result(studio, session, message)["saved"]
    assert saved["status"] == "ok"
    with Image.open(saved["file"]["path"]) as result:
        numbers = np.asarray(result)
    assert numbers.shape == (50, 80)
    assert (numbers[40, 10], numbers[10, 70], numbers[40, 70]) == (1, 2, 0)


def test_more_than_memory_can_bear_is_refused(studio, photo, monkeypatch):
    monkeypatch.setattr(saving, "MAX_PIXELS", 80 * 50)
    session, picture = opened(studio, photo)
    message = save(picture, "overlay")
    message["saving"]["objects"].append({"id": 2, "points": [[2, 2, 1]]})
    saved = saving.save_result(studio, session, message)["saved"]
    assert saved["status"] == "failed"
    assert "at most 1 " in saved["text"]


def test_nothing_to_save_gets_a_sentence(studio, photo):
    session, picture = opened(studio, photo)
    hidden = {"hidden": True}
    for message in (save(picture, "overlay", object=hidden), save(picture, "mask", active=7)):
        saved = saving.save_result(studio, session, message)["saved"]
        assert saved["status"] == "failed"
        assert saved["text"] == "There is no mask to save; click on the photo first."


def test_the_clean_up_is_exact_in_a_download(studio, photo):
    session, picture = opened(studio, photo)
    refine = {"area": 0, "smooth": 0, "feather": 3}
    message = save(picture, "cutout", object={"choices": [0], "refine": refine})
    saved = saving.save_result(studio, session, message)["saved"]
    with Image.open(saved["file"]["path"]) as result:
        alpha = np.asarray(result)[25, :, 3]
    half = np.zeros((50, 80), bool)
    half[:, :40] = True
    assert (alpha == Refinement(feather=3.0).alpha(half)[25]).all()


def test_a_visitor_keeps_two_files_of_each_kind(studio, photo):
    session, picture = opened(studio, photo)
    results = [
        saving.save_result(studio, session, save(picture, "mask"))["saved"]["file"]["path"]
        for _ in range(5)
    ]
    photos = [
        segment.open_picture(studio, session, upload(photo))["picture"]["file"]["path"]
        for _ in range(5)
    ]
    for paths in (results, photos):
        assert [Path(path).exists() for path in paths] == [False, False, False, True, True]


@pytest.mark.parametrize(
    "name",
    ["x" * 400 + ".png", "é" * 200 + ".png", "a\0b\n.png", "C:\\x\\a.png", "n" * 300, "", ".png"],
)
def test_any_file_name_can_be_saved_under(studio, photo, name):
    session = Session()
    message = upload(photo, name=name)
    picture = segment.open_picture(studio, session, message)["picture"]
    assert picture["title"]
    assert len(picture["title"].encode()) <= 170
    list(segment.encode_picture(studio, session, {}))
    saved = saving.save_result(studio, session, save(picture, "mask"))["saved"]
    assert saved["status"] == "ok"
    assert saved["title"].endswith("-mask.png")
    assert saved["title"].isprintable()
    assert "\\" not in saved["title"]


def test_two_visitors_at_once_are_not_mixed(studio, photo):
    first, one = opened(studio, photo)
    second = Session()
    two = segment.open_picture(studio, second, {"example": "example.jpg", "token": 2})["picture"]
    list(segment.encode_picture(studio, second, {}))
    assert one["id"] != two["id"]
    results = {}

    def visit(name, session, picture, size):
        for _ in range(20):
            saved = saving.save_result(studio, session, save(picture, "mask"))["saved"]
            with Image.open(saved["file"]["path"]) as result:
                results.setdefault(name, set()).add(result.size == size)

    threads = [
        threading.Thread(target=visit, args=("first", first, one, (80, 50))),
        threading.Thread(target=visit, args=("second", second, two, (60, 40))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {"first": {True}, "second": {True}}
    assert segment.answer_prompts(studio, first, ask(two))["answer"]["status"] == "stale"


def test_a_file_that_waits_says_so_and_is_of_what_it_was_asked_for(studio, photo, monkeypatch):
    monkeypatch.setattr(saving, "TELL_EVERY_S", 0.05)
    session, picture = opened(studio, photo)

    async def visit():
        turn = asyncio.Semaphore(1)
        await turn.acquire()  # for another visitor's file
        news = saving.save_in_turn(studio, session, save(picture, "mask", token=7), turn)
        told = [(await anext(news))["saved"] for _ in range(2)]
        segment.open_picture(studio, session, {"example": "example.jpg"})
        turn.release()
        return told + [props["saved"] async for props in news]

    first, second, *_, last = asyncio.run(visit())
    assert (first["token"], first["status"], second["status"]) == (7, "queued", "queued")
    assert first != second  # or the page would not notice
    assert (last["token"], last["status"], last["title"]) == (7, "ok", "photo-mask.png")
    with Image.open(last["file"]["path"]) as result:
        assert result.size == (80, 50)  # not the example's


def test_a_file_being_made_says_so(studio, photo, monkeypatch):
    monkeypatch.setattr(saving, "TELL_EVERY_S", 0.05)
    session, picture = opened(studio, photo)
    may_go_on, export = threading.Event(), saving.export

    def wait_and_export(*args, **options):
        assert may_go_on.wait(10)
        return export(*args, **options)

    monkeypatch.setattr(saving, "export", wait_and_export)

    async def visit():
        news = saving.save_in_turn(studio, session, save(picture, "mask"), asyncio.Semaphore(1))
        told = [(await anext(news))["saved"]["status"] for _ in range(3)]
        may_go_on.set()
        return told + [props["saved"]["status"] async for props in news]

    statuses = asyncio.run(visit())
    assert set(statuses[:-1]) == {"making"}
    assert statuses[-1] == "ok"


def test_who_leaves_while_a_file_waits_keeps_nobody_waiting(studio, photo, monkeypatch):
    monkeypatch.setattr(saving, "TELL_EVERY_S", 0.05)
    session, picture = opened(studio, photo)

    async def visit():
        turn = asyncio.Semaphore(1)
        await turn.acquire()
        news = saving.save_in_turn(studio, session, save(picture, "mask"), turn)
        await anext(news)
        await news.aclose()
        turn.release()
        await asyncio.sleep(0.2)
        return turn.locked()

    assert asyncio.run(visit()) is False
    assert studio.models.predictor().asked == []
