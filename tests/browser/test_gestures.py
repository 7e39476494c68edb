"""What a hand does: double clicks, slips, pens, the box's handles, keys on the toolbar."""

from __future__ import annotations

import pytest

PEN = """([kind, x, y]) => {
  const stage = document.querySelector(".ms-stage");
  stage.setPointerCapture = () => {};
  const place = { clientX: x, clientY: y, pointerId: 7, pointerType: "pen" };
  stage.dispatchEvent(new PointerEvent(kind, { ...place, bubbles: true, cancelable: true }));
}"""


def test_a_double_click_is_one_point(coffee):
    coffee.page.mouse.dblclick(*coffee.screen(300, 200))
    coffee.wait_mask()
    assert coffee.points == [[300, 200, 1]]
    coffee.page.wait_for_timeout(550)
    coffee.click(300, 200)
    assert coffee.points == []


def test_a_right_click_may_slip_and_control_excludes_as_on_a_mac(coffee):
    mouse = coffee.page.mouse
    x, y = coffee.screen(300, 200)
    mouse.move(x, y)
    mouse.down(button="right")
    mouse.move(x + 6, y + 5)
    mouse.up(button="right")
    assert [label for _, _, label in coffee.points] == [0]
    coffee.page.keyboard.down("Control")
    coffee.click(100, 100)
    coffee.page.keyboard.up("Control")
    assert [label for _, _, label in coffee.points] == [0, 0]


def test_a_pinch_on_the_trackpad_zooms_in_safari_too(coffee):
    x, y = coffee.screen(300, 200)
    kept = coffee.page.evaluate(
        """([x, y]) => [["start", 1], ["change", 1.2], ["change", 1.5]].map(([what, scale]) => {
          const event = new Event(`gesture${what}`, { bubbles: true, cancelable: true });
          Object.assign(event, { scale, clientX: x, clientY: y });
          return document.querySelector(".ms-stage").dispatchEvent(event);
        })""",
        [x, y],
    )
    assert kept == [False, False, False]  # the page itself stays as it is
    assert coffee.page.locator(".ms-zoom-fit").inner_text() == "150 %"
    coffee.wait_frame()
    assert coffee.screen(300, 200) == pytest.approx((x, y), abs=1)


def test_a_stroke_keeps_moves_that_a_busy_browser_made_one(coffee):
    coffee.tool("sketch")
    corners = [coffee.screen(*place) for place in ((300, 100), (300, 200), (100, 200), (100, 110))]
    mouse = coffee.page.mouse
    mouse.move(*coffee.screen(100, 100))
    mouse.down()
    coffee.page.evaluate(
        """(corners) => {
          const moves = corners.flatMap(([x, y], index) => [0.25, 0.5, 0.75, 1].map((share) => {
            const [fromX, fromY] = corners[Math.max(0, index - 1)];
            const clientX = fromX + share * (x - fromX);
            const place = { clientX, clientY: fromY + share * (y - fromY), pointerId: 1 };
            return new PointerEvent("pointermove", { ...place, pointerType: "mouse" });
          }));
          const { clientX, clientY, pointerId } = moves.at(-1);
          const all = { clientX, clientY, pointerId, pointerType: "mouse", coalescedEvents: moves };
          document.querySelector(".ms-stage").dispatchEvent(new PointerEvent("pointermove", all));
        }""",
        corners,
    )
    mouse.up()
    assert coffee.box == pytest.approx([100, 100, 300, 200], abs=2)


def test_every_handle_of_a_box_at_the_photos_edge_can_be_taken(coffee):
    width, height = coffee.photo_size
    coffee.drag((100, 100), (300, 300))
    for corner, sides in (((100, 100), (0, 1)), ((300, 300), (2, 3))):
        target = tuple(0 if side < 2 else (width, height)[side - 2] for side in sides)
        coffee.drag(corner, target)
    assert coffee.box == [0, 0, width, height]
    coffee.drag((width - 1, 0), (width - 60, 60))
    x0, y0, x1, y1 = coffee.box
    assert (x0, y1) == (0, height)
    assert x1 < width - 50
    assert y0 > 50
    coffee.page.keyboard.press("Control+z")
    assert coffee.box == [0, 0, width, height]


@pytest.mark.parametrize("change", ["wheel", "key", "window"])
def test_the_first_corner_of_a_drag_stays_where_it_was_pressed(coffee, change):
    page = coffee.page
    page.mouse.move(*coffee.screen(150, 100))
    page.mouse.down()
    page.mouse.move(*coffee.screen(200, 150), steps=4)
    before = coffee.page.locator(".ms-stage").get_attribute("data-transform")
    if change == "wheel":
        page.keyboard.down("Control")
        page.mouse.wheel(0, -200)
        page.keyboard.up("Control")
    elif change == "key":
        page.keyboard.press("+")
    else:
        page.set_viewport_size({"width": 900, "height": 860})
    page.wait_for_function(
        "before => document.querySelector('.ms-stage').dataset.transform !== before", arg=before
    )
    page.mouse.move(*coffee.screen(260, 220), steps=4)
    page.mouse.up()
    assert coffee.box == pytest.approx([150, 100, 261, 221], abs=2)


@pytest.mark.parametrize("key", ["Escape", "Control+z", "Control+y"])
def test_a_key_gives_up_what_is_drawn_or_moved(coffee, key):
    mouse, keyboard = coffee.page.mouse, coffee.page.keyboard
    for tool in ("include", "sketch", "box"):
        coffee.tool(tool)
        mouse.move(*coffee.screen(100, 100))
        mouse.down()
        mouse.move(*coffee.screen(300, 250), steps=4)
        keyboard.press(key)
        mouse.move(*coffee.screen(320, 270))
        mouse.up()
        assert coffee.objects == []
    coffee.tool("include")
    coffee.click(300, 200)
    coffee.wait_mask()
    coffee.page.wait_for_timeout(550)
    mouse.move(*coffee.screen(300, 200))
    mouse.down()
    mouse.move(*coffee.screen(350, 250), steps=4)
    assert coffee.points != [[300, 200, 1]]
    keyboard.press(key)
    mouse.move(*coffee.screen(380, 280))
    mouse.up()
    assert coffee.points == [[300, 200, 1]]
    coffee.wait_mask()


def test_a_pen_draws_a_box_and_excludes_by_holding(new_coffee):
    def pen(kind, x, y):
        new_coffee.page.evaluate(PEN, [kind, *new_coffee.screen(x, y)])

    pen("pointerenter", 100, 100)
    stage = new_coffee.page.locator(".ms-stage")
    assert stage.evaluate("(element) => element.style.touchAction") == "none"
    pen("pointerdown", 100, 100)
    pen("pointermove", 200, 200)
    pen("pointermove", 300, 250)
    pen("pointerup", 300, 250)
    assert new_coffee.box is not None
    assert new_coffee.points == []
    pen("pointerdown", 400, 300)
    new_coffee.page.wait_for_selector('.ms:not([data-points="[]"])')
    pen("pointerup", 400, 300)
    assert [label for _, _, label in new_coffee.points] == [0]
    pen("pointerleave", 400, 300)
    assert stage.evaluate("(element) => element.style.touchAction") != "none"


def test_the_arrow_keys_choose_a_tool(coffee):
    page = coffee.page
    page.locator(".ms-tool[data-tool=include]").focus()
    page.keyboard.press("ArrowRight")
    chosen = page.locator(".ms-tool[aria-checked=true]")
    assert chosen.get_attribute("data-tool") == "exclude"
    assert page.evaluate("document.activeElement.dataset.tool") == "exclude"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert chosen.get_attribute("data-tool") == "pan"


def test_the_first_corner_of_a_box_is_forgotten_with_its_photo(coffee):
    page = coffee.page
    page.locator(".ms-stage").focus()
    page.keyboard.press("b")
    coffee.open_example("cat.jpg")
    page.locator(".ms-stage").focus()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("b")
    assert coffee.box is None


def test_focus_is_not_lost(coffee):
    page = coffee.page
    coffee.click(300, 200)
    coffee.wait_mask()
    page.locator(".ms-candidate[aria-checked=true]").focus()
    page.keyboard.press("Control+z")
    assert page.evaluate("document.activeElement.className") == "ms-stage"
    page.evaluate("document.querySelector('.ms-notice').hidden = false")
    page.get_by_label("Close this message").click()
    assert page.evaluate("document.activeElement.className") == "ms-stage"


def test_equal_sentences_in_a_row_are_both_announced(coffee):
    coffee.click(300, 200)
    coffee.click(100, 300)
    coffee.wait_mask()
    first, second = coffee.page.evaluate(
        """() => {
          const live = document.querySelector(".ms > [aria-live=polite]");
          return [0, 1].map(() => {
            document.querySelector("[data-action=undo]").click();
            return live.textContent;
          });
        }"""
    )
    assert first != second
    assert first.strip() == second.strip() == "Undone."


@pytest.mark.parametrize("tool", ["box", "sketch"])
def test_what_is_drawn_ends_with_its_photo(coffee, tool):
    page = coffee.page
    coffee.tool(tool)
    page.mouse.move(*coffee.screen(100, 100))
    page.mouse.down()
    page.mouse.move(*coffee.screen(200, 150), steps=4)
    page.evaluate("document.querySelector('.ms-example[data-example=\"cat.jpg\"]').click()")
    page.wait_for_selector('.ms[data-title="cat.jpg"][data-state=ready]')
    shown = coffee.objects
    page.mouse.move(*coffee.screen(300, 250), steps=4)
    page.mouse.up()
    assert coffee.objects == shown
    assert coffee.page.locator("[data-action=undo]").is_disabled()


TOUCH = """(moves) => {
  const stage = document.querySelector(".ms-stage");
  stage.setPointerCapture = () => {};
  const { left, top } = stage.getBoundingClientRect();
  for (const [kind, pointerId, x, y] of moves) {
    const place = { clientX: left + x, clientY: top + y, pointerId, pointerType: "touch" };
    stage.dispatchEvent(new PointerEvent(kind, { ...place, bubbles: true, cancelable: true }));
  }
}"""


def test_a_third_finger_does_not_make_a_pinch_jump(new_coffee):
    pinch = [
        ("pointerdown", 1, 200, 200),
        ("pointerdown", 2, 300, 200),
        ("pointermove", 2, 350, 200),
    ]
    new_coffee.page.evaluate(TOUCH, pinch)
    zoom = new_coffee.page.locator(".ms-zoom-fit").inner_text()
    assert zoom == "150 %"
    palm = [
        ("pointerdown", 3, 350, 420),
        ("pointerup", 1, 200, 200),
        ("pointermove", 2, 350, 201),
        ("pointermove", 2, 350, 200),
    ]
    new_coffee.page.evaluate(TOUCH, palm)
    assert new_coffee.page.locator(".ms-zoom-fit").inner_text() == zoom


def test_the_cursor_says_what_a_press_would_do(coffee):
    coffee.click(300, 200)
    coffee.wait_mask()
    cursor = "() => getComputedStyle(document.querySelector('.ms-stage')).cursor"
    coffee.page.mouse.move(*coffee.screen(100, 100))
    coffee.page.mouse.move(*coffee.screen(300, 200))
    assert coffee.page.evaluate(cursor) == "pointer"  # the point is removed
    coffee.tool("pan")
    coffee.page.mouse.move(*coffee.screen(301, 200))
    assert coffee.page.evaluate(cursor) == "grab"


def test_the_outline_stays_on_the_photo(coffee):
    coffee.drag((1, 1), tuple(side - 2 for side in coffee.photo_size))
    coffee.wait_mask()
    coffee.wait_frame()
    outside = coffee.page.evaluate(
        """() => {
          const stage = document.querySelector(".ms-stage");
          const [scale, dx] = stage.dataset.transform.split(" ").map(Number);
          const layer = stage.querySelectorAll("canvas")[1];
          const width = Math.floor((dx * layer.width) / stage.clientWidth) - 1;
          if (width < 1) return 0;
          const { data } = layer.getContext("2d").getImageData(0, 0, width, layer.height);
          return data.reduce((sum, level) => sum + level, 0);
        }"""
    )
    assert outside == 0


def test_opacity_says_its_value(coffee):
    coffee.page.get_by_label("Opacity").fill("30")
    assert (
        coffee.page.locator(".ms-slider", has_text="Opacity").locator("output").inner_text()
        == "30 %"
    )
