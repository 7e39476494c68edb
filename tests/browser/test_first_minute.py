"""What a visitor meets first: an example segmented, a line to read, an answer at once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from mobilesam.ui.demo import EXAMPLES_FOLDER
from mobilesam.ui.examples import find_examples
from tests.browser.conftest import launch_chromium
from tests.browser.demo_page import DemoPage
from tests.browser.pace import assert_median_within

EXAMPLES = find_examples(EXAMPLES_FOLDER)
FIRST_CLICK_MS = 300  # from the click to the painted mask


def test_the_page_opens_with_an_example_that_is_segmented(visit):
    demo = visit(keep_objects=True)
    demo.wait_mask()
    name, first = next(iter(EXAMPLES.items()))
    assert demo.data("title") == name
    assert [one["name"] for one in demo.objects] == [one["name"] for one in first.objects]
    ((x, y, _),) = demo.points
    assert demo.painted(x, y)
    assert demo.painted_share() > 0.15
    assert demo.page.locator(".ms-hint").inner_text() == first.hint
    assert demo.page.locator("[data-save=mask]").is_enabled()
    assert demo.notice == ""


def test_the_header_is_one_line_and_nothing_overflows(visit):
    page = visit(keep_objects=True).page
    for width in (1440, 1366, 1280, 1024, 920, 768, 390, 320):
        page.set_viewport_size({"width": width, "height": 768})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width
        if width > 560:
            assert page.locator(".ms-toolbar").bounding_box()["height"] < 60, width
        if width > 1000:
            parts = [page.locator(part) for part in (".ms h1", ".ms-tabs", ".ms-model-name")]
            boxes = [part.bounding_box() for part in parts]
            middles = [box["y"] + box["height"] / 2 for box in boxes]
            assert max(middles) - min(middles) < 6, width
            gaps = [right["x"] - left["x"] - left["width"] for left, right in pairwise(boxes)]
            assert min(gaps) > 12, width
    for tab in ("everything", "compare"):  # the page is 320 px wide now
        page.locator(f".ms-tab[data-tab={tab}]").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, tab
        assert page.evaluate("scrollX") == 0


def test_the_photo_stays_when_the_page_gets_taller_than_the_window(chromium, server_url):
    shows_bars = {"ignore_default_args": ["--hide-scrollbars"]}
    browser = launch_chromium(chromium.browser_type, **shows_bars)
    demo = DemoPage(browser.new_page(viewport={"width": 1280, "height": 1000}), server_url)
    demo.start()
    before = demo.page.locator(".ms-stage").bounding_box()
    demo.page.get_by_text("Keyboard and gestures").click()
    assert demo.page.evaluate("document.documentElement.scrollHeight > innerHeight")
    assert demo.page.locator(".ms-stage").bounding_box() == before
    browser.close()


def test_every_example_shows_its_objects_and_says_what_they_show(visit):
    demo = visit(keep_objects=True)
    for name, example in EXAMPLES.items():
        demo.open_example(name, keep_objects=True)
        demo.wait_mask()
        expected = [(one["name"], one["color"], one["points"]) for one in example.objects]
        assert [(one["name"], one["color"], one["points"]) for one in demo.objects] == expected
        assert demo.page.locator(".ms-hint").inner_text() == example.hint
        for width in (390, 1280):
            demo.page.set_viewport_size({"width": width, "height": 860})
            demo.wait_frame()
            assert covered_points(demo) == [], (name, width)
        for one in example.objects:
            for x, y, label in one["points"]:
                if label == 1:
                    assert demo.painted(x, y + round(14 / scale_of(demo)))  # beside the mark


def covered_points(demo):
    """The selected object's points that lie under the line over the photo."""
    place = demo.page.locator(".ms-hint").bounding_box()

    def is_covered(point):
        x, y = demo.screen(*point[:2])
        across, down = x - place["x"], y - place["y"]
        return 0 < across < place["width"] and 0 < down < place["height"]

    return [point for point in demo.points if is_covered(point)]


def test_the_example_that_is_open_is_marked(demo):
    marked = demo.page.locator(".ms-example[aria-current=true]")
    assert marked.get_attribute("data-example") == demo.data("title")
    demo.open_example("cat.jpg")
    assert marked.get_attribute("data-example") == "cat.jpg"
    demo.open_file(Path(__file__).parents[2] / "examples" / "coffee.jpg")
    assert marked.count() == 0  # a photo of the visitor's own


def test_the_examples_show_every_kind_of_prompt():
    objects = [one for example in EXAMPLES.values() for one in example.objects]
    assert any(point[2] == 0 for one in objects for point in one["points"])
    assert any(one["box"] and one["points"] for one in objects)
    assert any(one["box"] and not one["points"] for one in objects)
    assert any(len(example.objects) > 1 for example in EXAMPLES.values())
    assert any("hard" in example.hint.lower() for example in EXAMPLES.values())


def test_what_an_example_shows_is_untouched_again_after_undo(visit):
    demo = visit(keep_objects=True)
    before = demo.objects
    for spot in ((150, 700), (160, 690)):
        demo.click(*spot)
        assert len(demo.objects) == len(before) + 1
        assert demo.objects[: len(before)] == before
        demo.action("undo")
        assert demo.objects == before


def test_the_line_about_an_example_goes_when_its_mask_is_changed(visit):
    demo = visit(keep_objects=True)
    demo.wait_mask()
    hint = demo.page.locator(".ms-hint")
    before = hint.inner_text()
    assert before == EXAMPLES["raccoon.jpg"].hint
    demo.page.locator(".ms-candidate[aria-checked=false]").first.click()
    demo.wait_frame()
    assert not hint.is_visible() or hint.inner_text() != before


def scale_of(demo):
    return float(demo.page.locator(".ms-stage").get_attribute("data-transform").split()[0])


@pytest.mark.alone
def test_the_first_click_on_an_example_is_answered_at_once(visit):
    def click(_: int) -> list[float]:
        times_ms = []
        for name in list(EXAMPLES)[:4]:
            demo = visit(keep_objects=True)
            demo.open_example(name, keep_objects=True)
            count = len(demo.objects)
            width, height = demo.photo_size
            demo.click(width // 2, height - 20)
            demo.wait_mask()
            assert len(demo.objects) == count + 1  # the visitor's own
            hint = "Another click refines it; N starts the next object."
            assert demo.page.locator(".ms-hint").inner_text() == hint
            assert covered_points(demo) == []
            times_ms.append(float(demo.data("paint-ms")))
        return times_ms

    assert_median_within(FIRST_CLICK_MS, click)


WATCH_PHOTO = """() => {
  window.blanks = 0;
  window.frames = 0;
  const look = () => {
    const layer = document.querySelector(".ms-stage canvas");
    const middle = [layer.width / 2, layer.height / 2].map(Math.floor);
    window.frames += 1;
    window.blanks += layer.getContext("2d").getImageData(...middle, 1, 1).data[3] === 0;
    requestAnimationFrame(look);
  };
  look();
}"""


def test_nothing_flashes_between_pictures(visit):
    demo = visit(keep_objects=True)
    demo.wait_mask()
    demo.page.evaluate(WATCH_PHOTO)
    for name in list(EXAMPLES)[1:4]:
        demo.open_example(name, keep_objects=True)
        demo.wait_mask()
    assert demo.page.evaluate("frames") > 20
    assert demo.page.evaluate("blanks") == 0
