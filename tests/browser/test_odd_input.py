"""What keyboards, mice and clipboards also send: input methods, thumb buttons, spreadsheets."""

from __future__ import annotations

from urllib.parse import quote

import pytest


@pytest.fixture
def named(demo):
    """The page with one object on the coffee photo."""
    demo.open_example("coffee.jpg")
    demo.click(300, 200)
    demo.wait_mask()
    return demo


def rename_field(demo):
    demo.page.locator(".ms-stage").focus()
    demo.page.keyboard.press("F2")
    return demo.page.locator(".ms-rename")


def test_a_name_from_a_spreadsheet_is_one_line_in_links_and_after_a_reload(named):
    rename_field(named).fill("cup\t1")
    named.page.keyboard.press("Enter")
    assert [one["name"] for one in named.objects] == ["cup 1"]
    named.reload()
    named.wait_mask()
    assert [one["name"] for one in named.objects] == ["cup 1"]


def test_a_name_of_many_emoji_from_a_link_stays_whole(visit):
    name = "a" + "🦝" * 60  # JavaScript counts two for each of them
    objects = f"active=1&object={quote(name)};1e90ff;+300,200"
    demo = visit(address=f"/#v=1&example=coffee.jpg&size=600x400&{objects}")
    field = rename_field(demo)
    field.press("Enter")
    assert [one["name"] for one in demo.objects] == [name]
    assert demo.page.get_by_role("button", name="Undo").is_disabled()


def test_pasted_text_that_is_also_a_picture_goes_into_the_field(named):
    rename_field(named)
    outcomes = named.page.evaluate(
        """() => {
          const picture = new File([new Uint8Array(9)], "cells.png", { type: "image/png" });
          const paste = (target) => {
            const data = new DataTransfer();
            data.items.add(picture);
            data.setData("text/plain", "cells");
            const options = { clipboardData: data, bubbles: true, cancelable: true };
            return !target.dispatchEvent(new ClipboardEvent("paste", options));
          };
          const field = document.querySelector(".ms-rename");
          return { field: paste(field), elsewhere: paste(document.body) };
        }"""
    )
    assert outcomes == {"field": False, "elsewhere": True}  # taken as a photo
    named.page.wait_for_selector(".ms-notice:not([hidden])")
    assert "cells.png" in named.notice
    assert named.data("title") == "coffee.jpg"


def test_enter_of_an_input_method_does_not_end_a_renaming(named):
    field = rename_field(named)
    for key in ("Enter", "Escape"):
        field.dispatch_event("keydown", {"key": key, "isComposing": True, "bubbles": True})
        assert field.is_visible()
    field.fill("カップ")
    field.press("Enter")
    assert [one["name"] for one in named.objects] == ["カップ"]


def test_further_buttons_set_no_points(named):
    x, y = named.screen(100, 100)
    stage = named.page.locator(".ms-stage")
    for button in (3, 4, 5):  # back, forward, a pen's eraser
        for kind in ("pointerdown", "pointerup"):
            options = {"button": button, "clientX": x, "clientY": y, "pointerId": 1}
            stage.dispatch_event(kind, {**options, "pointerType": "mouse", "bubbles": True})
        assert named.points == [[300, 200, 1]]
