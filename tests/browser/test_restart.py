"""The server ends, and is started again, while pages are open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.demo_page import LOST
from tests.browser.demo_server import Server
from tests.browser.pictures import disc, phone_photo

FORGET_COPY = """() => new Promise((go) => {
  indexedDB.deleteDatabase("mobilesam").onsuccess = go;
})"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("restarted")


@pytest.fixture(scope="module")
def restarted(folder: Path) -> Iterator[Server]:
    """A demo that tests may end; `demo` starts it again."""
    if "MOBILESAM_DEMO_URL" in os.environ:
        pytest.skip("starts a server of its own")
    started = Server(folder)
    yield started
    started.stop()


@pytest.fixture
def demo(restarted, visit):
    if restarted.process.poll() is not None:
        restarted.start()  # a test before ended it
    demo = visit(restarted.url)
    yield demo
    demo.forgive(LOST)


def test_a_page_outlives_a_restart_of_the_server(restarted, demo):
    demo.open_example("coffee.jpg")
    demo.click(300, 200)
    demo.wait_mask()
    restarted.stop()
    restarted.start()
    demo.click(350, 230)
    demo.wait_mask()
    assert demo.points == [[300, 200, 1], [350, 230, 1]]
    assert demo.data("title") == "coffee.jpg"
    assert demo.saved_mask().any()


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "my disc ü.png"
    disc((320, 240), (160, 120), 60).save(path)
    return path


def test_a_click_while_the_server_is_away_is_not_lost(restarted, demo, photo):
    demo.open_file(photo)
    restarted.stop()
    demo.click(160, 120)
    restarted.start()
    demo.page.wait_for_function(  # at once: Gradio loads the page again when it likes
        """(title) => {
          const shown = document.querySelector(".ms")?.dataset;
          const isPainted = shown?.rev && shown.rev === shown.paintedRev;
          return isPainted && shown.title === title && shown.points === "[[160,120,1]]";
        }""",
        arg=photo.name,
    )
    demo.page.goto("about:blank")


def test_a_save_opens_a_photo_again_whose_file_was_missing(restarted, demo, tmp_path):
    path, elsewhere = tmp_path / "photo.jpg", tmp_path / "elsewhere.jpg"
    _, center = phone_photo(path)
    demo.open_file(path)
    demo.click(*center)
    demo.wait_mask()
    restarted.stop()
    path.rename(elsewhere)
    demo.page.evaluate(FORGET_COPY)
    restarted.start()
    demo.click(100, 100)
    demo.page.wait_for_selector(".ms[data-state=failed]")
    assert "no longer on the server" in demo.notice
    elsewhere.rename(path)
    with demo.page.expect_download() as waiting:
        demo.page.locator(".ms-save[data-save=mask]").click()
    assert waiting.value.suggested_filename == "photo-mask.png"


def test_a_server_that_ends_deletes_what_visitors_sent_though_a_page_is_open(
    restarted, demo, folder, photo
):
    def served():
        return {path for path in (folder / "gradio").rglob("*") if path.is_file()}

    before = served()
    demo.open_file(photo)
    demo.click(160, 120)
    demo.wait_mask()
    demo.saved_mask()
    assert len(served() - before) >= 3
    restarted.stop()
    assert served() == set()
    demo.page.goto("about:blank")
