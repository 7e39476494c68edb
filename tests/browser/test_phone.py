"""What a phone's small screen shows, upright and held sideways, and windows as small."""

from __future__ import annotations

import pytest

from tests.browser.demo_page import PHONE
from tests.browser.pictures import disc


def bounds(demo, selector):
    box = demo.page.locator(selector).bounding_box()
    return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "a name as cameras and people give them, &c., with some more of it.png"
    disc((320, 240), (160, 120), 60).save(path)
    return path


def tap_disc(demo, photo):
    demo.open_file(photo)
    demo.page.touchscreen.tap(*demo.screen(160, 120))
    demo.wait_mask()


@pytest.mark.parametrize("width", [390, 360, 320])
def test_the_numbers_of_a_mask_stand_in_two_lines_beside_the_zoom(visit, width):
    demo = visit(**{**PHONE, "viewport": {"width": width, "height": 800}}, keep_objects=True)
    demo.wait_mask()
    numbers = demo.page.locator(".ms-of-mask > span")
    assert numbers.count() == 2  # area and score
    boxes = [one.bounding_box() for one in numbers.all()]
    zoom = demo.page.locator(".ms-zoom").bounding_box()
    assert all(box["height"] < 24 and box["x"] + box["width"] <= zoom["x"] for box in boxes)
    assert demo.page.locator(".ms-below").bounding_box()["height"] <= 90
    model = demo.page.locator(".ms-of-model").bounding_box()
    assert model["y"] >= zoom["y"] + zoom["height"]
    tools = [one.bounding_box() for one in demo.page.locator(".ms-toolbar > div").all()]
    assert tools[1]["y"] + tools[1]["height"] > tools[2]["y"] + 10  # these two share a line


def test_a_message_with_a_button_leaves_the_photo_in_sight(visit, photo):
    demo = visit(**PHONE)
    tap_disc(demo, photo)
    demo.open_example("cat.jpg", keep_objects=True)
    assert demo.notice.startswith("a name as cameras and pe…")
    _, top, _, bottom = bounds(demo, ".ms-notice")
    _, stage_top, _, stage_bottom = bounds(demo, ".ms-stage")
    assert top >= stage_top and bottom - top < (stage_bottom - stage_top) / 2
    for button in demo.page.locator(".ms-notice button").all():
        box = button.bounding_box()
        assert box["x"] >= 12 and box["x"] + box["width"] <= 378 and box["height"] >= 44


def test_a_message_is_seen_while_the_photo_is_scrolled_away(visit, photo):
    demo = visit(**PHONE)
    tap_disc(demo, photo)
    demo.page.locator("[data-action=share]").tap()
    demo.page.get_by_text("your photo stays here").first.wait_for()
    assert bounds(demo, ".ms-stage")[3] < 200
    left, top, right, bottom = bounds(demo, ".ms-notice")
    assert min(left, top) >= 0 and right <= 390 and bottom <= 844
    demo.page.evaluate("scrollTo(0, 0)")
    demo.page.wait_for_function("!document.querySelector('.ms-afar')")
    assert bounds(demo, ".ms-notice")[1] >= bounds(demo, ".ms-stage")[1]


def test_a_phone_held_sideways_has_the_whole_photo_on_its_screen(visit):
    demo = visit(**{**PHONE, "viewport": {"width": 844, "height": 390}}, keep_objects=True)
    assert demo.page.evaluate("scrollY") == 0
    assert bounds(demo, ".ms-stage")[3] <= 390


def test_the_model_s_name_stands_in_one_line_of_the_head(demo):
    for width in (568, 621, 776, 777, 844, 1000):
        demo.page.set_viewport_size({"width": width, "height": 700})
        name = demo.page.locator(".ms-model-name").bounding_box()
        tabs = demo.page.locator(".ms-tabs").bounding_box()
        assert name["height"] < 24, width
        is_below = name["y"] >= tabs["y"] + tabs["height"]
        assert name["x"] <= 120 if is_below else name["x"] >= tabs["x"] + tabs["width"], width


def test_the_page_opens_at_its_top_in_a_low_window(visit, photo):
    demo = visit(viewport={"width": 640, "height": 430})
    assert demo.page.evaluate("scrollY") == 0
    demo.open_file(photo)  # one of the visitor's own is brought into sight
    assert demo.page.evaluate("scrollY") > 0
    assert bounds(demo, ".ms-toolbar")[1] >= 0


@pytest.mark.parametrize("size", [(390, 844), (844, 390)], ids=["upright", "sideways"])
def test_the_compare_tab_shows_what_there_is_to_press(visit, size):
    width, height = size
    demo = visit(**{**PHONE, "viewport": {"width": width, "height": height}}, keep_objects=True)
    demo.page.get_by_role("tab", name="Compare").tap()
    demo.page.wait_for_function("scrollY > 0")
    assert bounds(demo, ".ms-compare-head h2")[1] >= 0
    assert bounds(demo, "#ms-compare-start")[3] <= height
    demo.page.get_by_role("tab", name="Segment").tap()
    assert demo.page.locator(".ms-examples").is_visible()
    demo.page.evaluate("scrollTo(0, 0)")
    demo.page.get_by_role("tab", name="Segment").press("ArrowLeft")
    assert demo.data("tab") == "compare"
    assert demo.page.evaluate("scrollY") == 0  # the arrow keys go on from the tab


def test_the_compare_tab_names_no_keys_to_a_finger(visit):
    demo = visit(**PHONE)
    demo.open_example("coffee.jpg", keep_objects=True)
    demo.page.get_by_role("tab", name="Compare").tap()
    demo.page.get_by_text("Another one: the list in the Segment tab.").wait_for()
