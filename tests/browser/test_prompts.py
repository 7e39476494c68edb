"""Clicks, boxes, strokes, undo and redo, by mouse and keyboard."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from mobilesam import predict_steps
from tests.browser.demo_page import iou
from tests.browser.pictures import disc


@pytest.fixture(scope="module")
def library(embedded):
    """Predictor and the example's embedding, straight from the library."""
    return embedded, embedded.encode("examples/coffee.jpg")


def expected_mask(library, points=(), box=None):
    predictor, embedding = library
    result = predict_steps(
        predictor,
        embedding,
        points=[(x, y) for x, y, _ in points] or None,
        labels=[label for _, _, label in points] or None,
        box=box,
    )
    return result.mask(result.best)


def spot(demo, across, down):
    """A pixel at a share of the photo's width and height."""
    width, height = demo.photo_size
    return int(across * width), int(down * height)


def test_a_click_paints_the_mask_the_library_makes(coffee, library):
    x, y = spot(coffee, 0.45, 0.5)
    coffee.click(x, y)
    coffee.wait_mask()
    assert coffee.points == [[x, y, 1]]
    mask = coffee.saved_mask()
    assert mask.shape == coffee.photo_size[::-1]
    assert iou(mask, expected_mask(library, coffee.points)) >= 0.999
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(5, mask.shape[0] - 5, 60), rng.integers(5, mask.shape[1] - 5, 60)
    for row, column in zip(rows, columns, strict=True):
        around = mask[row - 5 : row + 6, column - 5 : column + 6]
        if around.all() or not around.any():  # away from the outline
            assert coffee.painted(int(column), int(row)) == bool(mask[row, column])
    status = coffee.page.locator(".ms-status").inner_text()
    for fact in ("encoded in", "decoded in", "area", "score"):
        assert fact in status


def test_a_right_click_and_a_shift_click_exclude(coffee, library):
    coffee.click(*spot(coffee, 0.45, 0.5))
    coffee.click(*spot(coffee, 0.2, 0.8), button="right")
    coffee.page.keyboard.down("Shift")
    coffee.click(*spot(coffee, 0.8, 0.2))
    coffee.page.keyboard.up("Shift")
    coffee.wait_mask()
    assert [label for _, _, label in coffee.points] == [1, 0, 0]
    assert iou(coffee.saved_mask(), expected_mask(library, coffee.points)) >= 0.999


def test_the_exclude_tool_excludes(coffee):
    coffee.tool("exclude")
    coffee.click(*spot(coffee, 0.2, 0.8))
    coffee.wait_mask()
    assert [label for _, _, label in coffee.points] == [0]


def test_a_drag_is_a_box(coffee, library):
    coffee.drag(spot(coffee, 0.2, 0.15), spot(coffee, 0.5, 0.5), spot(coffee, 0.8, 0.9))
    coffee.wait_mask()
    box = coffee.box
    assert coffee.points == []
    assert np.allclose(box[:2], spot(coffee, 0.2, 0.15), atol=3)
    assert np.allclose(box[2:], spot(coffee, 0.8, 0.9), atol=3)
    assert iou(coffee.saved_mask(), expected_mask(library, box=box)) >= 0.999
    assert coffee.page.locator(".ms-candidate").count() == 4


def test_a_box_can_be_resized_and_closed(coffee):
    coffee.drag(spot(coffee, 0.3, 0.3), spot(coffee, 0.7, 0.7))
    coffee.wait_mask()
    x0, y0, x1, y1 = coffee.box
    coffee.drag((x1, y1), spot(coffee, 0.9, 0.9))
    coffee.wait_mask()
    assert coffee.box[:2] == [x0, y0]
    assert np.allclose(coffee.box[2:], spot(coffee, 0.9, 0.9), atol=4)
    coffee.action("undo")
    assert coffee.box == [x0, y0, x1, y1]
    sx, sy = coffee.screen(x1, y0)
    coffee.page.mouse.click(sx + 18, sy - 18)
    assert coffee.box is None
    assert coffee.painted_share() == 0


def test_a_stroke_round_something_is_its_box(coffee):
    coffee.tool("sketch")
    angles = np.linspace(0, 2 * np.pi, 24)
    width, height = coffee.photo_size
    path = [
        (width * (0.5 + 0.25 * np.cos(angle)), height * (0.5 + 0.3 * np.sin(angle)))
        for angle in angles
    ]
    coffee.drag(*path, steps=2)
    coffee.wait_mask()
    assert coffee.points == []
    expected = [0.25 * width, 0.2 * height, 0.75 * width, 0.8 * height]
    assert np.allclose(coffee.box, expected, atol=0.02 * width)


def test_a_stroke_along_something_is_points(coffee):
    coffee.tool("sketch")
    coffee.drag(spot(coffee, 0.3, 0.5), spot(coffee, 0.5, 0.55), spot(coffee, 0.7, 0.5), steps=20)
    coffee.wait_mask()
    assert coffee.box is None
    assert 8 <= len(coffee.points) <= 16
    assert {label for _, _, label in coffee.points} == {1}


def test_a_stroke_that_has_room_for_some_points_says_how_many(coffee):
    said = coffee.listen()
    coffee.click(*spot(coffee, 0.5, 0.1))
    coffee.tool("sketch")
    for height in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        path = (spot(coffee, 0.1, height), spot(coffee, 0.5, height), spot(coffee, 0.9, height))
        before = len(coffee.points)
        coffee.drag(*path, steps=20)
        if len(coffee.points) == 64:
            break
    assert 0 < 64 - before < 16
    coffee.wait_mask()
    assert any(f"{64 - before} include points added" in text for text in said())


def test_a_short_stroke_has_each_pixel_once(coffee):
    coffee.tool("sketch")
    coffee.drag((340, 250), (400, 320))
    coffee.wait_mask()
    places = [(x, y) for x, y, _ in coffee.points]
    assert len(places) >= 4
    assert len(set(places)) == len(places)


def test_undo_redo_and_clear(coffee):
    assert coffee.page.get_by_role("button", name="Undo (Ctrl+Z)").count() == 1
    first, second = spot(coffee, 0.45, 0.5), spot(coffee, 0.6, 0.5)
    coffee.click(*first)
    coffee.click(*second)
    coffee.wait_mask()
    both = coffee.saved_mask()
    coffee.action("undo")
    coffee.wait_mask()
    assert coffee.points == [[*first, 1]]
    coffee.action("redo")
    coffee.wait_mask()
    assert coffee.points == [[*first, 1], [*second, 1]]
    assert iou(coffee.saved_mask(), both) >= 0.999
    coffee.action("clear")
    assert coffee.points == []
    assert coffee.painted_share() == 0
    assert coffee.page.locator(".ms-save[data-save=mask]").is_disabled()
    coffee.page.keyboard.press("Control+z")
    coffee.wait_mask()
    assert len(coffee.points) == 2
    requests = []
    coffee.page.on("request", lambda request: requests.append(request.url))
    coffee.page.keyboard.press("Control+z")  # its mask is still here: nobody is asked
    coffee.page.keyboard.press("Control+z")
    assert coffee.points == []
    coffee.page.wait_for_timeout(300)
    assert coffee.painted_share() == 0
    assert requests == []
    coffee.page.keyboard.press("Control+Shift+z")
    coffee.wait_mask()
    assert coffee.points == [[*first, 1]]


def test_five_fast_clicks_are_five_points_and_the_right_mask(coffee, library):
    spots = [spot(coffee, 0.3 + 0.1 * i, 0.5) for i in range(5)]
    places = [coffee.screen(*entry) for entry in spots]
    for place in places:
        coffee.page.mouse.click(*place)
    coffee.wait_mask()
    assert coffee.points == [[x, y, 1] for x, y in spots]
    assert iou(coffee.saved_mask(), expected_mask(library, coffee.points)) >= 0.999


def test_a_point_can_be_moved_and_removed(coffee):
    start, end = spot(coffee, 0.4, 0.5), spot(coffee, 0.6, 0.6)
    coffee.click(*start)
    coffee.wait_mask()
    coffee.drag(start, end)
    coffee.wait_mask()
    assert len(coffee.points) == 1
    assert np.allclose(coffee.points[0][:2], end, atol=2)
    coffee.action("undo")
    assert coffee.points == [[*start, 1]]
    coffee.page.wait_for_timeout(600)  # sooner it would be a double click, which removes nothing
    coffee.click(*start)
    assert coffee.points == []


def test_candidates_can_be_chosen_at_once(coffee, library):
    requests = []
    coffee.click(*spot(coffee, 0.45, 0.5))
    coffee.wait_mask()
    coffee.page.wait_for_selector(".ms-candidate >> nth=2")
    predictor, embedding = library
    ((x, y, _),) = coffee.points
    result = predictor.candidates(embedding, points=[(x, y)], labels=[1])
    coffee.page.on("request", lambda request: requests.append(request.url))
    for index in range(3):
        coffee.page.locator(f".ms-candidate[data-index='{index}']").click()
        assert coffee.page.locator(".ms-candidate[aria-checked=true]").count() == 1
    assert requests == []
    assert iou(coffee.saved_mask(), result.mask(2)) >= 0.999
    coffee.page.locator(".ms-candidate[data-index='0']").click()
    assert iou(coffee.saved_mask(), result.mask(0)) >= 0.999
    coffee.page.locator(".ms-candidate[data-index='2']").click()
    assert (
        f"score {min(1, max(0, result.iou_predictions[2])):.2f}"
        in coffee.page.locator(".ms-status").inner_text()
    )


def test_colour_and_opacity_need_no_request(coffee):
    coffee.click(*spot(coffee, 0.45, 0.5))
    coffee.wait_mask()
    requests = []
    coffee.page.on("request", lambda request: requests.append(request.url))
    before = coffee.painted_share()
    swatch = coffee.page.locator(".ms-swatch").nth(1)
    swatch.click()
    coffee.page.get_by_label("Opacity").fill("100")
    color = swatch.evaluate("(node) => getComputedStyle(node).backgroundColor")
    assert coffee.paint(*spot(coffee, 0.4, 0.45)) == [int(n) for n in re.findall(r"\d+", color)]
    coffee.page.get_by_label("Opacity").fill("0")
    assert 0 < coffee.painted_share() < before  # the outline is left
    assert requests == []


def test_zoom_keeps_clicks_where_they_are(coffee):
    target = spot(coffee, 0.7, 0.3)
    coffee.page.mouse.move(*coffee.screen(*target))
    zoom = coffee.page.locator(".ms-zoom-fit")
    coffee.page.keyboard.down("Control")
    for _ in range(4):
        before = zoom.inner_text()
        coffee.page.mouse.wheel(0, -120)
        expect(zoom).not_to_have_text(before)
    coffee.page.keyboard.up("Control")
    assert int(zoom.inner_text().split()[0]) > 200
    coffee.wait_frame()
    coffee.click(*target)
    coffee.wait_mask()
    assert coffee.points == [[*target, 1]]
    coffee.tool("pan")
    before = coffee.screen(*target)
    coffee.drag(target, (target[0] + 20, target[1] + 10))
    coffee.wait_frame()
    assert coffee.screen(*target) != before
    assert len(coffee.points) == 1
    coffee.action("zoom-fit")
    assert zoom.inner_text() == "100 %"


def test_a_held_key_sets_one_point(coffee):
    coffee.page.locator(".ms-stage").focus()
    for _ in range(5):
        coffee.page.keyboard.down("Enter")  # again and again, as a keyboard says it
    coffee.page.keyboard.up("Enter")
    assert coffee.points == [[300, 200, 1]]


def test_the_keyboard_alone_is_enough(coffee, library):
    page = coffee.page
    page.locator(".ms-stage").focus()
    page.keyboard.press("Enter")
    coffee.wait_mask()
    width, height = coffee.photo_size
    assert coffee.points == [[width // 2, height // 2, 1]]
    assert iou(coffee.saved_mask(), expected_mask(library, coffee.points)) >= 0.999
    page.locator(".ms-stage").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+Enter")
    coffee.wait_mask()
    (x, y, label) = coffee.points[1]
    assert x > width // 2
    assert y > height // 2
    assert label == 0
    page.keyboard.press("b")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("b")
    coffee.wait_mask()
    assert coffee.box[0] >= x - 1
    assert coffee.box[2] > coffee.box[0]
    page.keyboard.press("Delete")
    assert len(coffee.points) == 1
    page.keyboard.press("+")
    assert page.locator(".ms-zoom-fit").inner_text() == "125 %"
    page.keyboard.press("0")
    assert page.locator(".ms-zoom-fit").inner_text() == "100 %"
    remove = page.locator(".ms-list button")
    assert remove.count() == 2
    remove.first.focus()
    page.keyboard.press("Enter")
    assert coffee.points == []
    assert coffee.box is not None


def test_the_live_region_says_what_happened(coffee):
    live = coffee.page.locator(".ms > [aria-live=polite]")
    coffee.click(*spot(coffee, 0.45, 0.5))
    coffee.wait_mask()
    coffee.page.wait_for_function(
        "document.querySelector('.ms > [aria-live]').textContent.startsWith('Mask:')"
    )
    coffee.action("undo")
    assert live.inner_text() == "Undone."


def test_the_python_lines_say_what_was_asked(coffee):
    coffee.click(*spot(coffee, 0.45, 0.5))
    coffee.wait_mask()
    coffee.page.get_by_text("Python and command line").click()
    ((x, y, _),) = coffee.points
    coffee.page.wait_for_function("document.querySelector('.ms-code code').innerText.trim()")
    code = coffee.page.locator(".ms-code code").first.inner_text()
    assert f"points=[({x}, {y})], labels=[1]" in code
    assert 'load_model("embedded")' in code
    assert 'encode("examples/coffee.jpg")' in code


def test_the_command_takes_no_file_for_an_option(demo, tmp_path):
    path = tmp_path / "-x.png"
    disc((60, 40), (30, 20), 12).save(path)
    demo.open_file(path)
    demo.click(30, 20)
    demo.wait_mask()
    demo.page.get_by_text("Python and command line").click()
    command = demo.page.locator(".ms-code code").nth(1)
    command.filter(has_text="segment").wait_for()  # the lines are written once it is open
    assert command.inner_text().startswith("python -m mobilesam segment ./-x.png --model ")
    assert command.inner_text().endswith(" --out ./-x.mask.png")


def test_a_mac_has_its_own_key_for_undo(visit):
    mac = "Object.defineProperty(navigator, 'platform', { value: 'MacIntel' })"
    demo = visit(script=mac)
    demo.click(300, 200)
    demo.wait_mask()
    assert demo.page.get_by_role("button", name="Undo (⌘+Z)").is_enabled()
    demo.page.keyboard.press("Meta+z")
    assert demo.points == []


MODIFIERS = {"Alt": 1, "Control": 2, "Shift": 8}  # as the browser's protocol counts them


class Layout:
    """A keyboard of another country: what a key gives there, and its place on an English one."""

    def __init__(self, demo):
        self.session = demo.page.context.new_cdp_session(demo.page)

    def press(self, key, code, *held):
        modifiers = sum(MODIFIERS[name] for name in held)
        for kind in ("rawKeyDown", "keyUp"):
            event = {"type": kind, "key": key, "code": code, "modifiers": modifiers}
            self.session.send("Input.dispatchKeyEvent", event)


@pytest.mark.parametrize(
    ("z", "y", "places"),
    [
        ("я", "н", ("KeyZ", "KeyY")),  # Russian
        ("ζ", "υ", ("KeyZ", "KeyY")),  # Greek
        ("ז", "ט", ("KeyZ", "KeyY")),  # Hebrew
        ("z", "y", ("KeyY", "KeyZ")),  # German: the letter counts, not the place
    ],
)
def test_undo_and_redo_are_on_every_layout(coffee, z, y, places):
    layout = Layout(coffee)
    coffee.click(300, 200)
    coffee.wait_mask()
    coffee.click(100, 300)
    coffee.wait_mask()
    layout.press(z, places[0], "Control")
    assert len(coffee.points) == 1
    layout.press(y, places[1], "Control")
    assert len(coffee.points) == 2
    layout.press(z, places[0], "Control")
    layout.press(z.upper(), places[0], "Control", "Shift")
    assert len(coffee.points) == 2
    coffee.tool("box")
    coffee.page.mouse.move(*coffee.screen(200, 100))
    coffee.page.mouse.down()
    coffee.page.mouse.move(*coffee.screen(300, 250), steps=4)
    layout.press(z, places[0], "Control")  # gives up what is drawn, and no more
    coffee.page.mouse.up()
    assert (len(coffee.points), coffee.box) == (2, None)


def test_letters_and_brackets_are_on_every_layout(coffee):
    layout = Layout(coffee)
    for place in ((300, 200), (100, 300), (480, 60)):
        coffee.click(*place)
        coffee.wait_mask()
        layout.press("т", "KeyN")
    selected = coffee.page.locator(".ms-object[data-selected=true]")
    assert selected.inner_text() == "Object 4"
    for key, code, *held in (
        ("[", "Digit8", "Control", "Alt"),  # AltGr, as Windows tells of it
        ("[", "Digit5", "Alt"),  # Option on a Mac
        ("х", "BracketLeft"),
    ):
        layout.press(key, code, *held)
    assert selected.inner_text() == "Object 1"
    for key, code, *held in (("ü", "BracketLeft"), ("[", "BracketLeft", "Control")):
        layout.press(key, code, *held)
    assert selected.inner_text() == "Object 1"
    layout.press("]", "Digit9", "Control", "Alt")
    assert selected.inner_text() == "Object 2"
