"""The page loaded again, by the visitor or by Gradio after a lost connection: nothing is lost."""

from __future__ import annotations

import os

import pytest

from tests.browser.demo_page import LOST, iou
from tests.browser.demo_server import Server
from tests.browser.pictures import disc

CLIPBOARD = ["clipboard-read", "clipboard-write"]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "my disc ü.png"
    disc((320, 240), (160, 120), 60).save(path)
    return path


def loaded_again(demo, title):
    demo.reload()
    demo.page.wait_for_selector(f'.ms[data-title="{title}"][data-state=ready]')
    demo.wait_mask()


def without_ids(objects):
    return [{key: value for key, value in one.items() if key != "id"} for one in objects]


def test_an_own_photo_and_its_objects_survive_a_reload(demo, photo):
    demo.open_file(photo)
    demo.click(160, 120)
    demo.wait_mask()
    demo.action("new-object")
    demo.click(20, 20)
    demo.wait_mask()
    demo.page.get_by_role("button", name="Rename Object 2").click()
    demo.page.keyboard.type("Ground")
    demo.page.keyboard.press("Enter")
    before, mask = demo.objects, demo.saved_mask()
    loaded_again(demo, photo.name)
    assert without_ids(demo.objects) == without_ids(before)
    assert iou(demo.saved_mask(), mask) == 1
    assert demo.notice == ""
    demo.open_example("cat.jpg", keep_objects=True)
    demo.wait_mask()
    loaded_again(demo, "cat.jpg")
    demo.click(20, 280)  # an example's own objects are still a beginning: this is another one
    demo.wait_mask()
    assert [one["name"] for one in demo.objects] == ["Cat", "Object 2"]


def test_a_photo_that_this_browser_did_not_keep_is_asked_for(demo, photo):
    demo.open_file(photo)
    demo.click(160, 120)
    demo.wait_mask()
    demo.page.evaluate(
        "() => new Promise((go) => (indexedDB.deleteDatabase('mobilesam').onsuccess = go))"
    )
    loaded_again(demo, "raccoon.jpg")
    assert "could not be kept" in demo.notice
    demo.open_file(photo)
    demo.wait_mask()
    assert demo.points == [[160, 120, 1]]
    assert demo.notice == ""


def test_the_address_bar_shows_what_the_page_shows(visit):
    demo = visit(permissions=CLIPBOARD)
    demo.click(560, 220)
    demo.wait_mask()
    assert "#" not in demo.page.url  # a visitor's address stays short until a link is asked for
    demo.action("share")
    demo.page.wait_for_function("() => location.hash.includes('+560,220')")
    demo.open_example("cat.jpg")
    demo.click(250, 100)
    demo.page.wait_for_function("() => location.hash.includes('example=cat.jpg')")
    demo.page.wait_for_function("() => location.hash.includes('+250,100')")
    loaded_again(demo, "cat.jpg")
    assert demo.points == [[250, 100, 1]]


def test_a_click_without_a_connection_is_answered_when_there_is_one(demo, photo):
    demo.open_file(photo)
    demo.page.context.set_offline(True)
    demo.click(160, 120)
    demo.page.wait_for_selector(".ms-notice:has-text('There is no connection')")
    demo.page.context.set_offline(False)
    demo.wait_mask()
    assert demo.data("title") == photo.name
    assert demo.points == [[160, 120, 1]]
    assert demo.painted(160, 120)
    assert demo.notice == ""
    demo.forgive(LOST)


@pytest.mark.skipif("MOBILESAM_DEMO_URL" in os.environ, reason="starts a server of its own")
def test_a_click_while_the_server_is_away_is_not_lost(visit, photo, tmp_path):
    server = Server(tmp_path)
    try:
        demo = visit(server.url)
        demo.open_file(photo)
        server.stop()
        demo.click(160, 120)
        server = Server(tmp_path, server.port)
        demo.page.wait_for_function(  # at once: Gradio loads the page again when it likes
            """(title) => {
              const shown = document.querySelector(".ms")?.dataset;
              const isPainted = shown?.rev && shown.rev === shown.paintedRev;
              return isPainted && shown.title === title && shown.points === "[[160,120,1]]";
            }""",
            arg=photo.name,
        )
        demo.page.goto("about:blank")
        demo.forgive(LOST)
    finally:
        server.stop()
