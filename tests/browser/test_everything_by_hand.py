"""The everything tab by keyboard and by finger, on a small screen and on a zoomed photo."""

from __future__ import annotations

from tests.browser.demo_page import TOUCH
from tests.browser.everything_tab import EverythingTab


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
    tab_to("Score")
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
    demo = visit(**TOUCH)
    tab = EverythingTab(demo, "photographer.jpg")
    page = demo.page
    page.locator(".ms-tag").get_by_role("button", name="Find everything").tap()
    tab.wait_done()
    assert page.locator(".ms-tag").is_hidden()
    page.locator(".ms-stage").scroll_into_view_if_needed()
    page.touchscreen.tap(*demo.screen(150, 250))
    page.wait_for_selector(".ms:not([data-lit=''])")
    assert demo.objects == []
    tag = page.locator(".ms-tag")
    tag.get_by_role("button", name="Make it an object").tap()
    demo.wait_mask()
    assert len(demo.objects) == 1
    assert "✓ An object now: Object 1" in tag.inner_text()  # the panel is out of sight
    tag.get_by_role("button", name="Remove").tap()
    page.wait_for_selector('.ms[data-objects="[]"]')
    tag.get_by_role("button", name="Make it an object").tap()
    demo.wait_mask()
    assert len(demo.objects) == 1
    taken = demo.data("lit")
    row = demo.page.locator(f"[data-mask]:not([data-mask='{taken}'])").first
    row.tap()
    page.wait_for_selector(f".ms[data-lit='{row.get_attribute('data-mask')}']")
    assert len(demo.objects) == 1
    row.tap()
    page.wait_for_function("JSON.parse(document.querySelector('.ms').dataset.objects).length === 2")
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
    demo = visit(**TOUCH)
    tab = EverythingTab(demo, "photographer.jpg")
    demo.page.locator(".ms-tag").get_by_role("button", name="Find everything").tap()
    tab.wait_done()
    demo.page.evaluate("() => document.querySelector('[data-action=zoom-in]').click()")
    demo.page.evaluate("() => document.querySelector('[data-action=zoom-in]').click()")
    demo.page.locator(".ms-stage").scroll_into_view_if_needed()
    demo.wait_frame()
    place = demo.screen(200, 250)
    demo.page.touchscreen.tap(*place)
    demo.page.wait_for_selector(".ms:not([data-lit=''])")
    demo.page.touchscreen.tap(*place)
    demo.wait_mask()
    assert len(demo.objects) == 1
