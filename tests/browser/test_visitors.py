"""Several visitors, phones, dark mode, hostile requests, a restarted server."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from mobilesam import Predictor, load_model, predict_steps
from tests.browser.demo_page import PHONE, SCROLLED, iou
from tests.browser.demo_server import upload
from tests.browser.everything_tab import EverythingTab


def test_two_visitors_at_once_share_nothing(visit):
    first, second = visit(), visit()
    first.open_example("coffee.jpg")
    second.open_example("cat.jpg")
    first.click(300, 200)
    second.click(200, 150)
    second.click(260, 180, button="right")
    first.wait_mask()
    second.wait_mask()
    assert first.points == [[300, 200, 1]]
    assert second.points == [[200, 150, 1], [260, 180, 0]]
    predictor = Predictor(load_model("embedded"))
    for demo, name in ((first, "coffee.jpg"), (second, "cat.jpg")):
        result = predict_steps(
            predictor,
            predictor.encode(f"examples/{name}"),
            points=[(x, y) for x, y, _ in demo.points],
            labels=[label for _, _, label in demo.points],
        )
        assert iou(demo.saved_mask(), result.mask(result.best)) >= 0.999
    assert first.data("title") == "coffee.jpg"


class Fingers:
    """Touches through the browser's own protocol."""

    def __init__(self, page) -> None:
        self.page = page
        self.client = page.context.new_cdp_session(page)

    def send(self, kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        self.client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_a_phone_taps_holds_pinches_and_scrolls(visit):
    demo = visit(**PHONE)
    demo.open_example("coffee.jpg")
    page, fingers = demo.page, Fingers(demo.page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.touchscreen.tap(*demo.screen(300, 200))
    demo.wait_mask()
    assert [label for _, _, label in demo.points] == [1]

    fingers.send("touchStart", demo.screen(120, 60))
    page.wait_for_function("JSON.parse(document.querySelector('.ms').dataset.points).length === 2")
    fingers.send("touchEnd")
    demo.wait_mask()
    assert [label for _, _, label in demo.points] == [1, 0]

    x, y = demo.screen(450, 300)
    before = page.evaluate("scrollY")
    fingers.send("touchStart", (x, y))
    for step in range(1, 9):
        fingers.send("touchMove", (x, y - 20 * step))
        page.wait_for_timeout(16)
    fingers.send("touchEnd")
    page.wait_for_function("(top) => scrollY > top", arg=before + 60)
    page.evaluate(SCROLLED)
    assert len(demo.points) == 2
    page.evaluate("scrollTo(0, 0)")
    page.evaluate(SCROLLED)

    x, y = demo.screen(300, 200)
    fingers.send("touchStart", (x - 30, y), (x + 30, y))
    for step in range(1, 7):
        fingers.send("touchMove", (x - 30 - 10 * step, y), (x + 30 + 10 * step, y))
    fingers.send("touchEnd")
    page.wait_for_function("parseFloat(document.querySelector('.ms-zoom-fit').textContent) > 150")
    assert len(demo.points) == 2

    fit = page.locator(".ms-zoom-fit")
    fit.tap()
    expect(fit).to_have_text("100 %")
    page.locator("[data-action=zoom-in]").tap()  # one finger is enough
    expect(fit).to_have_text("125 %")
    assert len(demo.points) == 2


# What a finger presses: a button's, a line's or a slider's selector.
TARGETS = (
    ".ms-button",
    ".ms-tab",
    ".ms-link",
    ".ms-object-name",
    ".ms-example",
    ".ms-side summary",
    ".ms-side input[type=range]",
)


def test_fingers_find_what_they_press(visit):
    demo = visit(**PHONE, keep_objects=True)
    page = demo.page
    for width, height in ((390, 844), (844, 390), (768, 1024), (1180, 820)):
        page.set_viewport_size({"width": width, "height": height})
        for selector in TARGETS:
            targets = [one for one in page.locator(selector).all() if one.is_visible()]
            heights = [one.bounding_box()["height"] for one in targets]
            assert heights and min(heights) >= 43.9, (width, selector, heights)
        assert min(box["width"] for box in boxes_of(page, ".ms-swatch")) >= 34, width
        (stage,) = boxes_of(page, ".ms-stage")
        top = min(box["y"] for box in boxes_of(page, ".ms-zoom button"))
        assert top >= stage["y"] + stage["height"]  # not over the photo


def test_fingers_find_what_they_press_where_everything_is_looked_for(visit):
    demo = visit(**{**PHONE, "viewport": {"width": 1180, "height": 820}})
    page = demo.page
    EverythingTab(demo, "coffee.jpg").search()
    for width, height in ((1180, 820), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        for selector in (".ms-choice label", ".ms-found-start", ".ms-found-box :is(th, td)"):
            assert min(box["height"] for box in boxes_of(page, selector)) >= 43.9, (width, selector)


def boxes_of(page, selector):
    return [one.bounding_box() for one in page.locator(selector).all()]


def test_a_finger_draws_a_box_with_the_box_tool(visit):
    demo = visit(**PHONE)
    demo.open_example("coffee.jpg")
    demo.tool("box")
    fingers = Fingers(demo.page)
    assert demo.page.evaluate("scrollY") == 0
    start, end = demo.screen(150, 80), demo.screen(450, 330)
    fingers.send("touchStart", start)
    for step in range(1, 6):
        share = step / 5
        place = tuple(a + share * (b - a) for a, b in zip(start, end, strict=True))
        fingers.send("touchMove", place)
    fingers.send("touchEnd")
    demo.wait_mask()
    assert demo.page.evaluate("scrollY") == 0
    assert np.allclose(demo.box, [150, 80, 450, 330], atol=4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_jumps_when_a_mask_arrives(visit, scheme):
    demo = visit(color_scheme=scheme)
    for width in (1440, 1024, 390):
        demo.page.set_viewport_size({"width": width, "height": 900})
        demo.page.evaluate("scrollTo(0, 0)")
        assert_nothing_jumps(demo, width)
        demo.clear_objects()


def assert_nothing_jumps(demo, width):
    """Click, read a long note, draw a box: all parts stay where they were."""
    places = ".ms-stage", ".ms-status", ".ms-candidates", ".ms-saves", ".ms-examples"

    def bounds():
        return [demo.page.locator(place).bounding_box() for place in places]

    before = bounds()
    width_px, height_px = demo.photo_size
    demo.click(width_px // 2, height_px // 2)
    demo.wait_mask()
    demo.page.wait_for_selector(".ms-candidate >> nth=2")
    assert bounds() == before
    note = "MobileSAM could not be fetched; this model answers. " * 2
    line = demo.page.locator(".ms-model-note")
    line.get_by_role("status").evaluate("(element, text) => element.append(text)", note)
    assert bounds() == before
    for show, hide in ((line.hover, lambda: demo.page.mouse.move(0, 0)), (line.focus, line.blur)):
        show()  # all of it can be read, by Tab, too
        assert line.evaluate("(node) => node.scrollWidth <= node.clientWidth")
        assert line.bounding_box()["height"] > 40
        assert bounds() == before
        hide()
        assert line.bounding_box()["height"] < 40
    line.get_by_role("status").evaluate("(element) => element.lastChild.remove()")
    demo.drag((width_px // 4, height_px // 4), (width_px // 2, height_px // 2))
    demo.wait_mask()
    assert demo.page.locator(".ms-candidate").count() == 4
    assert bounds() == before
    assert demo.page.evaluate("document.documentElement.scrollWidth") <= width


class Api:
    """Requests as a hostile client would send them, past the page."""

    def __init__(self, url: str, session: str) -> None:
        self.url, self.session = url, session
        with urllib.request.urlopen(f"{url}/config", timeout=10) as answer:
            dependencies = json.load(answer)["dependencies"]
        self.indices = {
            target[1]: dependency["id"]
            for dependency in dependencies
            for target in dependency["targets"]
        }

    def call(self, event: str, message: object) -> dict:
        body = {
            "data": [message, None],
            "fn_index": self.indices[event],
            "session_hash": self.session,
        }
        request = urllib.request.Request(
            f"{self.url}/gradio_api/run/predict",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"][0]["props"]


def test_hostile_json_gets_a_sentence(server_url):
    api = Api(server_url, "hostile-visitor")
    picture = api.call("open_picture", {"example": "cat.jpg", "token": 1})["picture"]
    hostile = [
        {"points": [[1, 1, 2]]},
        {"points": [[-5, 1, 1]]},
        {"points": [[float("nan"), 1, 1]]},
        {"points": [[1e308, 1, 1]]},
        {"points": [[1, 1, 1]] * 5000},
        {"points": [["<b>", None, {}]]},
        {"box": [9, 9, 1, 1]},
        {"box": [float("inf"), 0, 1, 1]},
        {"points": [], "box": None},
    ]
    for message in hostile:
        asked = {"objects": [{"id": 1} | message], "wanted": [1], "picture": picture["id"]}
        (answer,) = api.call("ask_mask", asked)["answer"]["objects"]
        assert answer["status"] == "refused", message
        assert answer["text"].endswith(".")
    for objects in (7, "x", [[1]], [{"id": 1}] * 5000):
        asked = {"objects": objects, "wanted": [1], "picture": picture["id"]}
        assert api.call("ask_mask", asked)["answer"]["status"] == "refused"
    stranger = Api(server_url, "someone-else")
    thing = {"id": 1, "points": [[9, 9, 1]]}
    message = {"objects": [thing], "wanted": [1], "picture": picture["id"], "model": ["x"]}
    assert stranger.call("ask_mask", message)["answer"]["status"] == "lost"


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "pyproject.toml", "http://127.0.0.1:1/x.png", "https://example.org/x.png"],
)
def test_files_that_were_not_uploaded_are_not_read(server_url, path):
    api = Api(server_url, "thief")
    image = {"path": path, "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(urllib.error.HTTPError) as caught:
        api.call("open_picture", {"image": image, "token": 1})
    assert caught.value.code == 500
    assert b"root:" not in caught.value.read()
    image["path"] = upload(server_url, Path("examples/cat.jpg"))  # so asked, such a one is read
    assert api.call("open_picture", {"image": image, "token": 2})["picture"]["width"] == 451


def test_a_session_cleared_on_the_server_is_restored_without_a_word(demo):
    sessions = []
    demo.page.on("request", lambda request: sessions.append(session_of(request)))
    demo.open_example("coffee.jpg")
    demo.click(300, 200)
    demo.wait_mask()
    mask = demo.saved_mask()
    session = next(filter(None, sessions))
    heartbeat = f"{demo.url}/gradio_api/heartbeat/{session}"
    with urllib.request.urlopen(heartbeat, timeout=10) as stream:
        stream.readline()  # and hang up, as a phone does that puts the page to sleep
    queued = []
    demo.page.on("request", lambda request: queued.append("queue/join" in request.url))
    for _ in range(20):  # the server clears the session when it notices
        demo.click(350, 230)
        demo.wait_mask()
        demo.action("undo")
        demo.wait_mask()
        if any(queued):  # it was encoded again
            break
        demo.page.wait_for_timeout(250)
    assert any(queued)
    assert demo.points == [[300, 200, 1]]
    assert iou(demo.saved_mask(), mask) >= 0.999
    assert demo.notice == ""


def session_of(request) -> str | None:
    """Gradio's name for the visitor, if a request carries it."""
    found = re.search(r'"session_hash":\s*"(\w+)"', request.post_data or "")
    return found.group(1) if found and request.method == "POST" else None
