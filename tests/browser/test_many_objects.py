"""Many objects in one photo: the list, the requests, and the most there can be."""

from __future__ import annotations

import pytest

from tests.browser.demo_page import DemoPage


def selected_row_is_in_sight(demo: DemoPage) -> bool:
    """Whether the list shows all of the selected object's row, and the page has not scrolled."""
    return demo.page.evaluate(
        """() => {
          const [box, row] = [".ms-object-box", ".ms-object[data-selected=true]"]
            .map((one) => document.querySelector(one).getBoundingClientRect());
          return scrollY === 0 && row.top >= box.top - 1 && row.bottom <= box.bottom + 1;
        }"""
    )


def test_many_objects_are_answered_a_few_at_a_time_and_all_of_them(visit):
    demo = visit()
    demo.open_example("coffee.jpg")
    for index in range(9):
        if index:
            demo.action("new-object")
        demo.click(60 + 60 * index, 60 + 30 * index)
        assert selected_row_is_in_sight(demo)
    demo.wait_mask()
    box, row = (demo.page.locator(one).first for one in (".ms-object-box", ".ms-object"))
    rows = box.evaluate("(node) => node.clientHeight") / row.bounding_box()["height"]
    assert 0.3 < rows % 1 < 0.7  # a row is cut: there are more
    demo.action("share")
    demo.page.wait_for_function("location.hash.length > 20")
    link = demo.page.evaluate("location.href")
    other = visit(address=link.removeprefix(demo.url))
    other.page.wait_for_function("document.querySelectorAll('.ms-object').length === 9")
    other.wait_mask()
    assert [entry["points"] for entry in other.objects] == [
        entry["points"] for entry in demo.objects
    ]
    assert other.painted_share() == pytest.approx(demo.painted_share(), abs=0.003)

    # at the limit a click changes no object, and the masks that arrive do not hide why
    objects = "".join(
        f"&object=A{i};1e90ff;+{60 + i % 10 * 50},{50 + i // 10 * 60}" for i in range(50)
    )
    link = f"#v=1&example=coffee.jpg&size={other.data('photo')}{objects}"
    other.page.evaluate("(link) => { location.hash = link; }", link)
    other.page.wait_for_function("document.querySelectorAll('.ms-object').length === 50")
    other.wait_ready()
    assert selected_row_is_in_sight(other)
    other.action("new-object")
    other.click(300, 200)
    other.wait_mask()
    assert [len(entry["points"]) for entry in other.objects] == [1] * 50
    assert other.notice == "At most 50 objects can be had; delete one first."
    other.page.locator(".ms-object [data-do=remove]").first.click()
    assert other.notice == ""
    other.click(300, 200)
    assert [len(entry["points"]) for entry in other.objects] == [1] * 50
    assert other.objects[-1]["points"] == [[300, 200, 1]]
