"""The compare tab in the real page: two models, one of them slow, and weights that are missing."""

from __future__ import annotations

import io
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

from mobilesam.registry import MODELS
from tests.browser.demo_page import LOST, SCROLLED, TOUCH, DemoPage
from tests.browser.demo_server import Server
from tests.browser.pace import slowness
from tests.conftest import EMBEDDED_FILE
from tests.official_checkpoints import write_official_checkpoint
from tests.processes import descendants

LONG_MS = 120_000  # for a comparison, on a very busy machine


@pytest.fixture(scope="module")
def comparing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a file of its own, SAM ViT-B with random weights, and no other weights."""
    folder = tmp_path_factory.mktemp("comparing")
    mine = folder / "mine.safetensors"
    shutil.copy(EMBEDDED_FILE, mine)
    write_official_checkpoint("b", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOBILESAM_CHECKPOINT_DIR", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("HF_HOME", str(folder / "hub"))
        started = Server(folder, options=["--checkpoint", str(mine)])
    yield started
    started.stop()


@pytest.fixture
def open_tab(visit, comparing: Server):
    def open_it(**options: object) -> CompareTab:
        return CompareTab(visit(comparing.url, keep_objects=True, **options))

    return open_it


class CompareTab:
    """The tab as a visitor uses it."""

    def __init__(self, demo: DemoPage) -> None:
        self.demo, self.page = demo, demo.page
        self.show("compare")

    def show(self, tab: str) -> None:
        self.page.locator(f"[data-tab={tab}].ms-tab").click()

    def choose(self, label: str, option: str) -> None:
        self.page.get_by_label(label).click()
        self.page.get_by_role("option", name=option).click()

    def press(self, name: str) -> None:
        self.page.locator(f"#ms-compare-{name}").click()

    @property
    def said(self) -> str:
        return (self.page.locator(".ms-compare-say").text_content() or "").strip()

    def wait_said(self, start: str, timeout: float = LONG_MS) -> None:
        self.page.wait_for_function(
            "start => document.querySelector('.ms-compare-say').textContent.startsWith(start)",
            arg=start,
            timeout=timeout,
        )

    def place(self, selector: str) -> dict[str, float]:
        return self.page.locator(selector).first.bounding_box()

    @property
    def line(self) -> float:
        """How much of the second picture is cut away, per cent."""
        style = self.page.locator("#ms-compare-slider img").nth(1).get_attribute("style")
        return float(style.split("inset(")[1].split("%")[0].split()[-1])

    def wait_line(self) -> None:
        """Until Gradio has cut the second picture there, some time after both are loaded."""
        self.page.wait_for_function(
            "document.querySelectorAll('#ms-compare-slider img')[1]?.style.clipPath"
        )

    def wait_focused(self, name: str) -> None:
        self.page.wait_for_function("name => document.activeElement.id === name", arg=name)

    def listen(self) -> None:
        """Note from now on what the page's live region says."""
        self.page.evaluate(
            """() => {
              window.heard = [];
              const live = document.querySelector(".ms > [role=status]");
              const note = () => window.heard.push(live.textContent);
              new MutationObserver(note).observe(live, { childList: true });
            }"""
        )

    @property
    def heard(self) -> list[str]:
        return self.page.evaluate("window.heard")

    @property
    def told(self) -> int:
        """Where the line is, as screen readers are told."""
        handle = self.page.get_by_role("slider", name="Line between the two masks")
        return int(handle.get_attribute("aria-valuenow"))

    def wait_told(self, low: int, high: int) -> None:
        """Until the line is from low to high, as screen readers are told."""
        self.page.wait_for_function(
            """([low, high]) => {
              const handle = document.querySelector("#ms-compare-slider [role=slider]");
              const place = Number(handle.getAttribute("aria-valuenow"));
              return place >= low && place <= high;
            }""",
            arg=[low, high],
        )

    @property
    def grip(self) -> tuple[float, float]:
        """The middle of the line, on the screen."""
        box = self.place("#ms-compare-slider [role=slider]")
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    @property
    def zoom(self) -> str:
        return self.page.locator("#ms-compare-slider img").first.evaluate("i => i.style.transform")

    @property
    def picture_left(self) -> float:
        """Where the slider's picture begins, which is drawn as large as its element allows."""
        return self.page.locator("#ms-compare-slider img").first.evaluate(
            """(picture) => {
              const { left, width, height } = picture.getBoundingClientRect();
              const drawn = Math.min(width, height * picture.naturalWidth / picture.naturalHeight);
              return left + (width - drawn) / 2;
            }"""
        )

    def swipe(self, start: tuple[float, float], across: float, down: float) -> None:
        """Draw a finger over the screen."""
        fingers = self.page.context.new_cdp_session(self.page)
        send = lambda kind, points: fingers.send(  # noqa: E731
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": points}
        )
        for step in range(9):
            x, y = start[0] + across * step / 8, start[1] + down * step / 8
            send("touchMove" if step else "touchStart", [{"x": x, "y": y}])
            self.page.wait_for_timeout(16)
        send("touchEnd", [])

    def row(self, name: str) -> list[str]:
        row = self.page.locator("#ms-compare-measured tr", has_text=name)
        return row.locator("td").all_inner_texts()


def test_the_two_models_that_ship_can_be_compared_at_once(demo):
    """Without any download, and whatever else there is not."""
    demo.open_example("coffee.jpg", keep_objects=True)
    tab = CompareTab(demo)
    labels = ("First model", "Second model")
    titles = [MODELS[name].title for name in ("embedded", "embedded_student")]
    assert [tab.page.get_by_label(label).input_value() for label in labels] == titles
    tab.page.locator("#ms-compare-start").press("Enter")
    tab.wait_said("Embedded")
    tab.wait_focused("ms-compare-stop")  # the one that is of use meanwhile
    tab.wait_said("Done.")
    tab.wait_focused("ms-compare-start")
    assert tab.row("parameters") == ["10.65 M", "9.81 M"]


def test_two_models_are_compared(open_tab):
    tab = open_tab()
    page = tab.page
    assert "mine" in page.get_by_label("First model").input_value()
    assert "SAM ViT-B" in page.get_by_label("Second model").input_value()
    tab.choose("Second model", MODELS["embedded"].title)
    places = ("#ms-compare-slider", ".ms-compare-frame", "#ms-compare-measured")
    assert not page.locator(places[0]).is_visible()  # nothing to show yet
    tab.listen()
    tab.press("start")
    tab.wait_said("mine (1 of 2)")
    page.evaluate("scrollTo(0, 0)")
    before = [tab.place(selector) for selector in places]
    assert page.get_by_role("progressbar", name="Comparison").is_visible()
    assert "Measuring…" in page.locator("#ms-compare-measured").inner_text()
    tab.show("segment")  # the results arrive while nobody looks
    assert not page.locator("#mobilesam-compare").is_visible()
    tab.wait_said("Done.")
    assert tab.heard[0] == "Starting; one comparison runs at a time."
    assert tab.heard[-1].startswith("Done. Raccoon in raccoon.jpg: mine encoded")
    assert len(tab.heard) < 12
    tab.show("compare")
    page.wait_for_function("document.querySelectorAll('#ms-compare-slider img').length === 2")
    page.evaluate("scrollTo(0, 0)")
    for box, selector in zip(before, places, strict=True):
        assert tab.place(selector) == pytest.approx(box, abs=2), selector

    page.wait_for_function(
        "[...document.querySelectorAll('#mobilesam-compare figure img')]"
        ".every((picture) => picture.naturalWidth > 300)"
    )
    assert tab.place("#ms-compare-slider img")["width"] > 300
    tab.wait_line()
    assert tab.line == pytest.approx(50, abs=2)
    handle = page.get_by_role("slider", name="Line between the two masks")
    handle.scroll_into_view_if_needed()
    assert tab.told == 50
    x, y = tab.grip
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 200, y, steps=5)
    page.mouse.up()
    tab.wait_told(11, 39)
    assert tab.line < 40
    dragged = tab.told
    handle.focus()
    for key, expected in (("ArrowRight", dragged + 5), ("End", 100), ("Home", 0)):
        page.keyboard.press(key)
        tab.wait_told(expected - 1, expected + 1)
    assert tab.picture_left == pytest.approx(tab.grip[0], abs=2)  # the line is at its edge
    top = page.evaluate("scrollY")
    page.mouse.move(x, y)
    page.mouse.wheel(0, 60)
    page.wait_for_function("top => scrollY > top", arg=top)
    assert "scale(1)" in tab.zoom
    page.keyboard.down("Control")
    page.mouse.wheel(0, -60)
    page.keyboard.up("Control")
    page.wait_for_function(
        "() => !document.querySelector('#ms-compare-slider img').style.transform"
        ".includes('scale(1)')"
    )
    names = [
        picture.get_attribute("alt") for picture in page.locator("#mobilesam-compare img").all()
    ]
    assert len(names) == 4
    assert all("photo" in name for name in names)

    found = Axe().run(page, context={"include": [["#mobilesam-compare"]]}).response
    assert [(rule["id"], rule["nodes"]) for rule in found["violations"]] == []

    assert tab.row("parameters") == ["10.65 M", "10.65 M"]
    assert tab.row("file size") == ["21.3 MB", "21.3 MB"]
    for name in ("load", "encode", "decode"):
        assert all(float(cell[:-3].replace(",", "")) > 0 for cell in tab.row(name)), name
    assert all(int(cell[:-3].replace(",", "")) > 100 for cell in tab.row("peak memory"))
    assert tab.row("IoU between the two") == ["1.000"]
    published = page.locator("#ms-compare-published").inner_text()
    for text in ("611 M, 452 ms", "5 M, 8 ms", "615 M, 456 ms", "arXiv:2306.14289"):
        assert text in published
    with page.expect_download() as waiting:
        tab.press("figure")
    assert waiting.value.suggested_filename == "raccoon-Raccoon-comparison.png"
    figure = Image.open(io.BytesIO(Path(waiting.value.path()).read_bytes()))
    assert figure.format == "PNG"
    assert figure.width > 1000

    subject = page.locator(".ms-compare-subject")
    stale = page.locator(".ms-compare-stale:not([hidden])")
    assert subject.inner_text() == "Raccoon in raccoon.jpg"
    assert not stale.is_visible()
    tab.demo.open_example("coffee.jpg")
    assert stale.inner_text().startswith("This is of a photo that was opened before")
    tab.press("start")
    tab.wait_said("There is no object yet")
    assert subject.inner_text() == "Raccoon in raccoon.jpg"
    tab.demo.open_example("raccoon.jpg", keep_objects=True)
    assert not stale.is_visible()
    tab.demo.click(900, 370)  # another object
    assert not stale.is_visible()
    tab.page.locator(".ms-stage").press("[")
    tab.demo.click(560, 400, button="right")  # Raccoon is another one now
    expect(stale).to_have_text(re.compile("^The points or the box have changed since"))
    tab.page.keyboard.press("Control+z")
    expect(stale).to_be_hidden()


def test_a_slow_comparison_is_in_nobodys_way(open_tab, comparing):
    def workers() -> list[int]:
        found = descendants(comparing.process.pid)
        return [pid for pid, command in found.items() if "comparison.worker" in command]

    first, second = open_tab(), open_tab()
    first.choose("First model", "SAM ViT-B")
    first.press("start")
    first.wait_said("SAM ViT-B (1 of 2): encoding the photo")
    second.press("start")
    second.wait_said("Another comparison runs first; yours starts by itself.")
    second.press("stop")
    second.wait_said("Cancelled.", 5_000)

    second.show("segment")
    second.demo.open_example("coffee.jpg")
    start = time.monotonic()
    second.demo.click(300, 200)
    second.demo.wait_mask()
    assert time.monotonic() - start < 10  # a click takes its time here, but does not wait
    assert first.said.startswith("SAM ViT-B (1 of 2)")

    assert len(workers()) == 2  # of one comparison
    first.press("stop")
    first.wait_said("Cancelled.", 5_000)
    end = time.monotonic() + 2 * slowness()
    while workers():
        assert time.monotonic() < end, "a process stays"
        time.sleep(0.05)
    first.press("start")
    first.wait_said("SAM ViT-B (1 of 2)")
    end = time.monotonic() + 10
    while len(workers()) != 2:
        assert time.monotonic() < end, "they do not start"
        time.sleep(0.05)
    first.page.close()
    end = time.monotonic() + 10
    while workers():
        assert time.monotonic() < end, "a process outlives its visitor"
        time.sleep(0.1)


def test_what_is_missing_is_said(open_tab):
    tab = open_tab()
    tab.choose("Second model", "SAM ViT-L: not on this server, 1,250 MB")
    missing = tab.page.locator(".ms-compare-missing")
    missing.get_by_text("SAM ViT-L is not on this server. To download: 1,250 MB").wait_for()
    missing.get_by_text("Compare works once it is here.").wait_for()
    assert tab.page.locator("#ms-compare-start").is_disabled()
    fetch = tab.page.get_by_role("button", name="Download SAM ViT-L, 1,250 MB")
    for width in (320, 800, 1280):
        tab.page.set_viewport_size({"width": width, "height": 860})
        is_whole = "(b) => b.scrollHeight <= b.clientHeight && b.scrollWidth <= b.clientWidth"
        assert fetch.evaluate(is_whole), width
    fetch.press("Enter")
    tab.wait_said("SAM ViT-L could not be downloaded: this server is told to stay offline.")
    tab.wait_focused("ms-compare-fetch")
    assert tab.page.locator("#ms-compare-start").is_disabled()
    tab.choose("Second model", "mine")
    missing.wait_for(state="hidden")
    tab.demo.clear_objects()
    tab.press("start")
    tab.wait_said("There is no object yet; click on the photo, then press Compare.")


def test_what_the_server_refuses_is_said(open_tab):
    tab = open_tab()
    start, stop = (tab.page.locator(f"#ms-compare-{name}") for name in ("start", "stop"))
    for address in ("**/run/predict*", "**/queue/join*"):  # handed in, and its turn
        tab.demo.route(address, lambda route: route.fulfill(status=500, json={"error": None}))
        with tab.page.expect_response(address):  # what is said may be of the one before
            start.press("Enter")
        tab.page.unroute(address)
        tab.wait_said("The server did not take that; please try again in a moment.", 10_000)
        expect(start).to_be_enabled()
        expect(stop).to_be_disabled()
        tab.wait_focused("ms-compare-start")
    tab.demo.forgive("500")
    tab.press("start")
    tab.wait_said("mine (1 of 2)")
    stop.press("Enter")
    tab.wait_said("Cancelled.", 5_000)
    tab.wait_focused("ms-compare-start")


def test_a_press_without_a_connection_waits_for_it(demo):
    demo.open_example("coffee.jpg", keep_objects=True)
    tab = CompareTab(demo)
    tab.page.evaluate("window.isStillHere = true")
    tab.page.context.set_offline(True)
    tab.press("start")
    tab.page.wait_for_selector(".ms-notice:has-text('There is no connection')")
    tab.page.wait_for_timeout(500)
    tab.page.context.set_offline(False)
    tab.wait_said("Done.")
    assert demo.notice == ""
    assert tab.page.evaluate("window.isStillHere")  # Gradio did not load the page anew
    assert len(demo.objects) > 1
    demo.forgive(LOST)


def test_the_name_of_an_object_is_not_edited_out_of_sight(demo):
    demo.open_example("coffee.jpg", keep_objects=True)
    tab = CompareTab(demo)
    tab.page.locator(".ms-stage").press("F2")
    assert tab.page.locator(".ms-rename").count() == 0
    tab.show("segment")
    tab.page.locator(".ms-stage").press("F2")
    assert tab.page.locator(".ms-rename").is_visible()


def test_it_is_said_which_object_is_compared(open_tab):
    tab = open_tab()
    panel = tab.page.get_by_role("tabpanel", name="Compare")
    panel.get_by_text("To be compared: Raccoon.").wait_for()
    tab.demo.open_example("astronaut.jpg", keep_objects=True)
    third = tab.demo.objects[2]["name"]
    panel.get_by_text(f"To be compared: object 3 of 3, {third}. Another one: [ and ]").wait_for()
    tab.page.locator(".ms-stage").press("[")
    panel.get_by_text("To be compared: object 2 of 3").wait_for()
    tab.demo.clear_objects()
    panel.get_by_text("No object is selected yet: click on the photo.").wait_for()


def test_the_tab_fits_a_phone(open_tab):
    tab = open_tab(**TOUCH)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
    for selector in ("#ms-compare-start", "#ms-compare-stop"):
        assert tab.place(selector)["height"] >= 44
    tab.choose("Second model", MODELS["embedded"].title)
    tab.press("start")
    tab.wait_said("Done.")
    tab.page.get_by_role("slider").evaluate("(line) => line.scrollIntoView({ block: 'center' })")
    tab.wait_line()
    top = tab.page.evaluate("scrollY")
    x, y = tab.grip
    tab.swipe((x - 90, y), 0, -100)
    tab.page.wait_for_function("(top) => scrollY > top", arg=top + 50)  # over the picture
    tab.page.evaluate(SCROLLED)
    top = tab.page.evaluate("scrollY")
    tab.swipe(tab.grip, 5, 100)
    tab.page.wait_for_function("(top) => scrollY < top", arg=top - 50)  # and over the line
    tab.page.evaluate(SCROLLED)
    assert tab.told == pytest.approx(50, abs=4)  # which stays
    tab.swipe(tab.grip, -90, 5)
    tab.wait_told(0, 39)
    for button in tab.page.locator("#ms-compare-slider button").all():
        assert min(button.bounding_box()[side] for side in ("width", "height")) >= 44
    tab.show("segment")
    assert not tab.page.locator("#mobilesam-compare").is_visible()
