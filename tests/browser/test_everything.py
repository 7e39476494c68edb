"""The everything tab: searching, looking, sorting, choosing, cancelling, with the mouse."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import pytest

from mobilesam import generate
from mobilesam.ui.everything import parse_options
from tests.browser.demo_page import LOST, iou
from tests.browser.everything_tab import EverythingTab
from tests.browser.pace import slowness
from tests.browser.traffic import Traffic

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CLICKS = 6  # of a second visitor


@pytest.fixture(scope="module")
def photographer(embedded) -> dict[int, np.ndarray]:
    """The masks that the library finds there as the page asks for them, by their areas."""
    embedding = embedded.encode(EXAMPLES / "photographer.jpg")
    options = parse_options({"density": 16}, embedded.model, embedding.original_size).search
    records = list(generate(embedded, embedding, options))
    assert len({record.area for record in records}) == len(records)
    return {record.area: record.mask() for record in records}


def test_masks_appear_while_the_search_goes_on_and_are_sorted(demo):
    tab = EverythingTab(demo, "rocket.jpg")
    places = [demo.page.locator(name).bounding_box() for name in (".ms-stage", ".ms-found-box")]
    demo.page.evaluate(
        """() => {
          const root = document.querySelector(".ms");
          const { dataset } = root;
          window.seen = [];
          const note = () => window.seen.push([dataset.everything, Number(dataset.found)]);
          new MutationObserver(note).observe(root, { attributes: true });
        }"""
    )
    tab.search()
    seen = demo.page.evaluate("() => window.seen")
    counts = [found for state, found in seen if state == "running"]
    assert max(counts) > 0
    assert counts == sorted(counts)
    assert tab.count == tab.rows.count() > 5
    said = f"Done: {tab.count} masks. Click a mask to make it an object."
    assert demo.page.locator(".ms > [role=status]").inner_text() == said
    progress = demo.page.locator("[role=progressbar][aria-label=Search]")
    assert progress.get_attribute("aria-valuemax") == "100"
    assert progress.is_hidden()  # no empty trough

    areas = tab.column(2)
    assert areas == sorted(areas, reverse=True)
    for name, number in (("Score", 3), ("Stability", 4)):
        head = demo.page.get_by_role("columnheader", name=name)
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        assert tab.column(number) == sorted(tab.column(number), reverse=True)
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        assert tab.column(number) == sorted(tab.column(number))
    assert demo.page.locator("th[aria-sort=none]").count() == 2
    now = [demo.page.locator(name).bounding_box() for name in (".ms-stage", ".ms-found-box")]
    assert now == places  # nothing has jumped


def test_a_browser_that_hides_what_canvases_hold_shows_the_same_masks(demo):
    demo.page.evaluate(
        """() => {
          const { prototype } = CanvasRenderingContext2D;
          prototype.getImageData = (x, y, width, height) =>
            new ImageData(new Uint8ClampedArray(4 * width * height).fill(255), width, height);
        }"""
    )
    tab = EverythingTab(demo, "raccoon.jpg")
    tab.search()
    for position, name in (((560, 220), "1"), ((100, 500), "")):  # the raccoon, a leaf
        demo.page.mouse.move(*demo.screen(*position))
        assert demo.data("lit") == name


@pytest.mark.alone
def test_looking_at_masks_asks_the_server_nothing(demo):
    tab = EverythingTab(demo, "rocket.jpg")
    tab.search(density=16, fast=False, Score=0.2, Stability=0.3)
    assert tab.count >= 100
    requests = []
    demo.page.on("request", lambda request: requests.append(request.url))
    tab.spot_of_lit()
    number = demo.data("lit")
    lit = demo.page.locator(".ms-found-box tr.ms-lit")
    assert lit.get_attribute("data-mask") == number
    assert demo.page.locator(".ms-of-mask").inner_text() == ""  # the object's is hidden
    box, row = (demo.page.locator(f".ms-found-box{part}").first for part in ("", " tbody tr"))
    rows = box.evaluate("(node) => node.clientHeight") / row.bounding_box()["height"]
    assert 0.3 < rows % 1 < 0.7  # the last one is cut: there are more
    text = demo.page.locator(".ms-tag").inner_text()
    assert "score" in text and "px" in text and "stability" in text
    handling = demo.page.evaluate(
        """async () => {
          const stage = document.querySelector(".ms-stage");
          const { left, top, width, height } = stage.getBoundingClientRect();
          const times = [];
          for (let i = 0; i < 40; i += 1) {
            const clientX = left + width * (0.25 + (0.5 * ((i * 17) % 40)) / 40);
            const clientY = top + height * (0.1 + (0.8 * ((i * 23) % 40)) / 40);
            const at = { clientX, clientY, pointerType: "mouse", bubbles: true };
            const before = performance.now();
            stage.dispatchEvent(new PointerEvent("pointermove", at));
            times.push(performance.now() - before);
            await new Promise((go) => requestAnimationFrame(go));
          }
          return times;
        }"""
    )
    assert statistics.median(handling) < 16  # ms, a frame
    tab.rows.nth(2).hover()
    assert demo.data("lit") == tab.rows.nth(2).get_attribute("data-mask")
    tab.page.mouse.move(5, 5)
    assert demo.data("lit") == ""
    assert demo.page.locator(".ms-tag").is_hidden()
    assert requests == []


def test_a_click_makes_an_object_of_nearly_that_mask(demo, photographer):
    tab = EverythingTab(demo, "photographer.jpg")
    tab.search(density=16)
    area = int(tab.column(2)[0])
    tab.rows.first.hover()
    tab.rows.first.click()
    demo.wait_mask()
    assert len(demo.objects) == 1
    assert demo.page.locator(".ms-adopted").count() == 1
    assert tab.status.startswith("It is an object now")
    tab.rows.first.click()  # it is one object, however often it is taken
    demo.page.locator(".ms-found-box tr.ms-adopted").press("Enter")
    assert len(demo.objects) == 1
    for step, count, told in (("undo", 0, "It is no object any more."), ("redo", 1, "It is an")):
        demo.action(step)
        assert demo.page.locator(".ms-adopted").count() == count
        assert tab.status.startswith(told)

    before = demo.objects  # not seen here, so not changed here
    assert demo.page.locator("[data-action=clear]").is_disabled()
    demo.page.locator(".ms-stage").focus()
    for key in ("ArrowLeft", "Delete", "b", "Shift+ArrowUp", "b", "n", "F2", "3"):
        demo.page.keyboard.press(key)
    assert demo.objects == before
    assert demo.page.locator(".ms-tool[aria-checked=true]").get_attribute("data-tool") == "include"

    tab.show("segment")
    assert demo.page.locator("[data-action=clear]").is_enabled()
    sharpness = "(canvas) => canvas.width / canvas.clientWidth"
    assert demo.page.locator(".ms-candidate canvas").first.evaluate(sharpness) > 1.8
    assert iou(demo.saved_mask(), photographer[area]) >= 0.95

    demo.clear_objects()  # so that it can be taken again
    tab.show("everything")
    assert demo.page.locator(".ms-adopted").count() == 0
    assert tab.rows.count() == tab.count > 1  # the results have stayed
    tab.spot_of_lit()
    lit = demo.page.locator(".ms-found-box tr.ms-lit td:nth-child(2) small").inner_text()
    demo.page.mouse.down()
    demo.page.mouse.up()
    demo.wait_mask()
    assert len(demo.objects) == 1
    area = int(lit.removesuffix(" px").replace(",", ""))
    tab.show("segment")
    assert iou(demo.saved_mask(), photographer[area]) >= 0.95


def test_after_moving_the_photo_masks_can_be_picked_again(demo):
    tab = EverythingTab(demo, "photographer.jpg")
    tab.search()
    tools = demo.page.locator(".ms-tool[aria-disabled=false]")
    assert tools.all_inner_texts() == ["Pick", "Move"]
    spot = tab.spot_of_lit()
    tools.last.click()
    demo.page.mouse.click(*spot)
    assert demo.objects == []
    tools.first.click()
    demo.page.mouse.click(*spot)
    demo.wait_mask()
    assert len(demo.objects) == 1
    tab.show("segment")
    assert demo.page.locator(".ms-tool[aria-disabled=false]").first.inner_text() == "Include"


@pytest.mark.alone
def test_a_search_can_be_cancelled_and_begun_again(demo):
    tab = EverythingTab(demo, "rocket.jpg")
    tab.choose(32, fast=False, Score=0.2, Stability=0.3)
    tab.start()
    demo.page.wait_for_function("() => Number(document.querySelector('.ms').dataset.found) > 0")
    demo.page.get_by_role("button", name="Cancel").click()
    tab.wait_done()
    kept = tab.count
    assert tab.status.startswith("Cancelled")
    assert tab.rows.count() == kept > 0
    started = time.monotonic()
    tab.choose(8, fast=True)
    tab.start()  # on the server it goes on only when the first one has ended
    demo.page.wait_for_function(
        "() => document.querySelector('.ms-found-status').textContent.startsWith('Done')"
    )
    assert time.monotonic() - started < 6 * slowness()
    assert demo.page.get_by_role("button", name="Cancel").is_hidden()


def test_a_search_that_was_cut_short_has_not_found_nothing(demo):
    tab = EverythingTab(demo, "rocket.jpg")
    traffic = Traffic(demo)
    traffic.catch("start_everything")
    tab.start()
    traffic.wait_caught()
    demo.page.get_by_role("button", name="Cancel").click()
    tab.wait_done()
    assert "None yet" in demo.page.locator(".ms-found-empty").inner_text()
    traffic.let_go()


def test_the_right_button_makes_no_object_of_what_was_found(demo):
    tab = EverythingTab(demo, "cat.jpg")
    tab.search(density=8)
    tab.spot_of_lit()
    demo.page.mouse.down(button="right")
    demo.page.mouse.up(button="right")
    assert demo.objects == []


def test_nothing_found_is_said_and_another_photo_starts_anew(demo):
    tab = EverythingTab(demo, "cat.jpg")
    tab.search(density=8)
    assert tab.count > 0
    tab.search(density=8, Score=1, Stability=1)
    assert tab.count == 0
    assert "lower the thresholds" in tab.status
    assert "lower the thresholds" in demo.page.locator(".ms-found-empty").inner_text()
    tab.search(density=8, Score=0.3, Stability=0.3)
    assert tab.count > 0
    demo.open_example("coffee.jpg", keep_objects=True)
    assert tab.count == 0
    assert tab.rows.count() == 0


@pytest.mark.alone
def test_another_visitor_s_click_is_answered_during_a_search(visit):
    tab = EverythingTab(visit(), "rocket.jpg")
    other = visit()
    other.open_example("coffee.jpg")

    def click(number: int) -> float:
        other.click(200 + 20 * number, 180)
        other.wait_mask()
        return float(other.data("paint-ms"))

    quiet = [click(number) for number in range(CLICKS)]
    other.page.locator("[data-action=remove-all]").click()
    tab.choose(32, fast=False, Score=0.2, Stability=0.3)
    tab.start()
    tab.page.wait_for_function("() => Number(document.querySelector('.ms').dataset.found) > 0")
    busy = [click(number) for number in range(CLICKS)]
    assert tab.demo.data("everything") == "running"
    tab.page.get_by_role("button", name="Cancel").click()
    assert statistics.median(busy) < 3 * statistics.median(quiet) + 400  # ms


FIELDS = """(kind) => {
  const field = document.createElement(["select", "textarea"].includes(kind) ? kind : "input");
  if (field.tagName === "INPUT") field.type = kind;
  document.body.append(field);
  field.focus();
}"""


def test_undo_and_redo_work_beside_a_choice_but_not_in_a_text(demo):
    tab = EverythingTab(demo, "coffee.jpg")
    tab.show("segment")
    demo.click(300, 200)
    demo.wait_mask()
    tab.show()
    keys = demo.page.keyboard
    for name in ("8×8", "Fast"):
        demo.page.get_by_role("radio", name=name).locator("..").click()
        assert demo.page.evaluate("document.activeElement.type") == "radio"
        keys.press("Control+z")
        assert demo.objects == []
        keys.press("Control+Shift+z")
        assert len(demo.objects) == 1
    for kind in ("checkbox", "color", "range", "button", "select", "text", "number", "textarea"):
        demo.page.evaluate(FIELDS, kind)
        keys.press("Control+z")
        assert (len(demo.objects) == 1) == (kind in ("text", "number", "textarea")), kind
        keys.press("Control+Shift+z")
        assert len(demo.objects) == 1


def test_a_search_without_a_connection_waits_for_it_and_blames_nobody(demo):
    tab = EverythingTab(demo, "coffee.jpg")
    tab.choose(density=8)
    demo.page.context.set_offline(True)
    tab.start()
    demo.page.wait_for_function(
        "document.querySelector('.ms-found-status').textContent === 'Waiting for the connection…'"
    )
    demo.page.context.set_offline(False)
    tab.wait_done()
    assert tab.count > 0
    demo.forgive(LOST)
