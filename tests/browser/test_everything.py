"""The everything tab: searching, looking, sorting, choosing, cancelling; mouse, keyboard, touch."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import pytest

from mobilesam import Predictor, load_model
from tests.browser.demo_page import DemoPage, iou

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CLICKS = 6  # of a second visitor


class EverythingTab:
    """The tab of one visitor's page."""

    def __init__(self, demo: DemoPage, example: str) -> None:
        self.demo, self.page = demo, demo.page
        demo.open_example(example)
        self.show()

    def show(self, name: str = "everything") -> None:
        self.page.locator(f"[role=tab][data-tab={name}]").click()

    def choose(self, density: int = 16, fast: bool = True, **thresholds: float) -> None:
        self.page.get_by_role("radio", name=f"{density}×{density}").check()
        self.page.get_by_role("radio", name="Fast" if fast else "Exact").check()
        for name, value in thresholds.items():
            slider = self.page.get_by_role("slider", name=name.replace("_", " "), exact=True)
            slider.fill(str(value))

    def start(self) -> None:
        self.page.get_by_role("button", name="Find everything").click()

    def wait_done(self) -> None:
        self.page.wait_for_selector(".ms[data-everything=done]")

    def search(self, **options) -> None:
        self.choose(**options)
        self.start()
        self.wait_done()

    @property
    def count(self) -> int:
        return int(self.demo.data("found"))

    @property
    def status(self) -> str:
        return self.page.locator(".ms-found-status").inner_text()

    @property
    def rows(self):
        return self.page.locator(".ms-found-box tbody tr")

    def column(self, number: int) -> list[float]:
        """The numbers of a column of the table, from the top; of the area its pixels."""
        cells = self.rows.locator(f"td:nth-child({number})").all_inner_texts()
        return [float(text.removesuffix(" px").split()[-1].replace(",", "")) for text in cells]

    def spot_of_lit(self) -> None:
        """Move the mouse over the photo until it shows a mask alone."""
        width, height = self.demo.photo_size
        for x, y in [(0.5, 0.5), (0.4, 0.6), (0.6, 0.4), (0.3, 0.5), (0.5, 0.8)]:
            self.page.mouse.move(*self.demo.screen(width * x, height * y))
            if self.demo.data("lit"):
                return
        raise AssertionError("no mask under any of five spots")


@pytest.fixture(scope="module")
def predictor():
    return Predictor(load_model("embedded"))


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
    for name, number in (("IoU", 3), ("Stability", 4)):
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


def test_looking_at_masks_asks_the_server_nothing(demo):
    tab = EverythingTab(demo, "rocket.jpg")
    tab.search(fast=False, Predicted_IoU=0.2, Stability=0.3)
    assert tab.count >= 100
    requests = []
    demo.page.on("request", lambda request: requests.append(request.url))
    tab.spot_of_lit()
    number = demo.data("lit")
    lit = demo.page.locator(".ms-found-box tr.ms-lit")
    assert lit.get_attribute("data-mask") == number
    text = demo.page.locator(".ms-tag").inner_text()
    assert "IoU" in text and "px" in text and "stability" in text
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


def test_a_click_makes_an_object_of_nearly_that_mask(demo, predictor):
    tab = EverythingTab(demo, "photographer.jpg")
    tab.search()
    area = tab.column(2)[0]
    tab.rows.first.hover()
    tab.rows.first.click()
    demo.wait_mask()
    assert len(demo.objects) == 1
    assert demo.page.locator(".ms-adopted").count() == 1
    tab.rows.first.click()  # it is one object, however often it is taken
    demo.page.locator(".ms-found-box tr.ms-adopted").press("Enter")
    assert len(demo.objects) == 1
    for step, count in (("undo", 0), ("redo", 1)):
        demo.action(step)
        assert demo.page.locator(".ms-adopted").count() == count

    before = demo.objects  # not seen here, so not changed here
    assert demo.page.locator("[data-action=clear]").is_disabled()
    demo.page.locator(".ms-stage").focus()
    for key in ("ArrowLeft", "Delete", "b", "Shift+ArrowUp", "b", "n", "F2", "3"):
        demo.page.keyboard.press(key)
    assert demo.objects == before
    assert demo.page.locator(".ms-tool[aria-checked=true]").get_attribute("data-tool") == "include"

    found = found_mask(predictor, "photographer.jpg", area)
    tab.show("segment")
    assert demo.page.locator("[data-action=clear]").is_enabled()
    sharpness = "(canvas) => canvas.width / canvas.clientWidth"
    assert demo.page.locator(".ms-candidate canvas").first.evaluate(sharpness) > 1.8
    assert iou(demo.saved_mask(), found) >= 0.95

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
    found = found_mask(predictor, "photographer.jpg", float(lit[:-3].replace(",", "")))
    tab.show("segment")
    assert iou(demo.saved_mask(), found) >= 0.95


def test_after_moving_the_photo_masks_can_be_picked_again(demo):
    tab = EverythingTab(demo, "photographer.jpg")
    tab.search()
    tools = demo.page.locator(".ms-tool[aria-disabled=false]")
    assert tools.all_inner_texts() == ["Pick", "Move"]
    tools.last.click()
    x, y = (side / 2 for side in demo.photo_size)
    demo.page.mouse.click(*demo.screen(x, y))
    assert demo.objects == []
    tools.first.click()
    tab.spot_of_lit()
    demo.page.mouse.down()
    demo.page.mouse.up()
    demo.wait_mask()
    assert len(demo.objects) == 1
    tab.show("segment")
    assert demo.page.locator(".ms-tool[aria-disabled=false]").first.inner_text() == "Include"


def found_mask(predictor: Predictor, example: str, area: float) -> np.ndarray:
    """The library's mask of that area, searched for as the page does by default."""
    from mobilesam import generate
    from mobilesam.ui.everything import parse_options

    embedding = predictor.encode(EXAMPLES / example)
    options = parse_options({}, predictor.model, embedding.original_size).search
    masks = [record for record in generate(predictor, embedding, options) if record.area == area]
    assert len(masks) == 1
    return masks[0].mask()


def test_a_search_can_be_cancelled_and_begun_again(demo):
    tab = EverythingTab(demo, "rocket.jpg")
    tab.choose(32, fast=False, Predicted_IoU=0.2, Stability=0.3)
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
    assert time.monotonic() - started < 6
    assert demo.page.get_by_role("button", name="Cancel").is_hidden()


def test_nothing_found_is_said_and_another_photo_starts_anew(demo):
    tab = EverythingTab(demo, "cat.jpg")
    tab.search(density=8)
    assert tab.count > 0
    tab.search(density=8, Predicted_IoU=1, Stability=1)
    assert tab.count == 0
    assert "lower the thresholds" in tab.status
    assert "lower the thresholds" in demo.page.locator(".ms-found-empty").inner_text()
    tab.search(density=8, Predicted_IoU=0.3, Stability=0.3)
    assert tab.count > 0
    demo.open_example("coffee.jpg", keep_objects=True)
    assert tab.count == 0
    assert tab.rows.count() == 0


def test_the_whole_flow_by_keyboard(demo):
    EverythingTab(demo, "photographer.jpg").show("segment")
    keys, page = demo.page.keyboard, demo.page
    focused = "() => document.activeElement.textContent.trim()"

    def tab_to(wanted: str) -> None:
        for _ in range(60):
            if page.evaluate(focused).startswith(wanted):
                return
            keys.press("Tab")
        raise AssertionError(f"no way to {wanted}")

    page.locator("[role=tab][data-tab=segment]").focus()
    keys.press("ArrowRight")
    assert demo.data("tab") == "everything"
    tab_to("Find everything")
    keys.press("Enter")
    page.wait_for_selector(".ms[data-everything=done]")
    assert page.evaluate(focused) == "Find everything"  # the focus is not lost
    tab_to("IoU")
    keys.press("Enter")
    tab_to("Mask")
    keys.press("Home")
    first = demo.data("lit")
    keys.press("ArrowDown")
    assert demo.data("lit") not in ("", first)
    keys.press("Home")
    assert demo.data("lit") == first
    keys.press("End")
    keys.press("ArrowUp")
    keys.press("Enter")
    demo.wait_mask()
    assert len(demo.objects) == 1
    page.locator(".ms-stage").focus()
    assert demo.data("lit") == ""
    keys.press("ArrowLeft")
    keys.press("ArrowLeft")
    page.wait_for_function("() => document.querySelector('.ms').dataset.lit !== ''")
    keys.press("Enter")
    demo.wait_mask()
    assert len(demo.objects) == 2


def test_the_button_on_a_small_photo_works_by_keyboard(visit):
    demo = visit(viewport={"width": 390, "height": 844})
    tab = EverythingTab(demo, "cat.jpg")
    button = demo.page.locator(".ms-tag button")
    assert button.inner_text() == "Find everything"
    button.focus()
    demo.page.keyboard.press("Enter")
    tab.wait_done()
    assert tab.count > 0


def test_a_finger_shows_a_mask_first_and_then_takes_it(visit):
    demo = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    tab = EverythingTab(demo, "photographer.jpg")
    page = demo.page
    page.locator(".ms-tag").get_by_role("button", name="Find everything").tap()
    tab.wait_done()
    assert page.locator(".ms-tag").is_hidden()
    page.locator(".ms-stage").scroll_into_view_if_needed()
    page.touchscreen.tap(*demo.screen(150, 250))
    assert demo.data("lit") != ""
    assert demo.objects == []
    tag = page.locator(".ms-tag")
    tag.get_by_role("button", name="Make it an object").tap()
    demo.wait_mask()
    assert len(demo.objects) == 1
    assert "✓ An object now: Object 1" in tag.inner_text()  # the panel is out of sight
    tag.get_by_role("button", name="Remove").tap()
    assert demo.objects == []
    tag.get_by_role("button", name="Make it an object").tap()
    demo.wait_mask()
    assert len(demo.objects) == 1
    taken = demo.data("lit")
    row = demo.page.locator(f"[data-mask]:not([data-mask='{taken}'])").first
    row.tap()
    assert demo.data("lit") == row.get_attribute("data-mask")
    assert len(demo.objects) == 1
    row.tap()
    demo.wait_mask()
    assert len(demo.objects) == 2
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_leaving_the_zoomed_photo_shows_all_masks_again(demo):
    tab = EverythingTab(demo, "photographer.jpg")
    tab.search(density=8)
    for _ in range(4):
        demo.action("zoom-in")
    tab.spot_of_lit()
    assert demo.data("lit") != ""
    demo.page.mouse.move(5, 5)
    demo.page.wait_for_function("() => document.querySelector('.ms').dataset.lit === ''")


def test_a_finger_takes_a_mask_of_the_zoomed_photo(visit):
    demo = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    tab = EverythingTab(demo, "photographer.jpg")
    demo.page.locator(".ms-tag").get_by_role("button", name="Find everything").tap()
    tab.wait_done()
    demo.page.evaluate("() => document.querySelector('[data-action=zoom-in]').click()")
    demo.page.evaluate("() => document.querySelector('[data-action=zoom-in]').click()")
    demo.page.locator(".ms-stage").scroll_into_view_if_needed()
    place = demo.screen(200, 250)
    demo.page.touchscreen.tap(*place)
    demo.page.wait_for_timeout(100)
    lit = demo.data("lit")
    assert lit != ""
    demo.page.touchscreen.tap(*place)
    demo.wait_mask()
    assert len(demo.objects) == 1


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
    tab.choose(32, fast=False, Predicted_IoU=0.2, Stability=0.3)
    tab.start()
    tab.page.wait_for_function("() => Number(document.querySelector('.ms').dataset.found) > 0")
    busy = [click(number) for number in range(CLICKS)]
    assert tab.demo.data("everything") == "running"
    tab.page.get_by_role("button", name="Cancel").click()
    assert statistics.median(busy) < 3 * statistics.median(quiet) + 400  # ms
