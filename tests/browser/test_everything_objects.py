"""Masks that the everything tab has found, and the objects that are made of them."""

from __future__ import annotations


def test_what_is_said_of_a_mask_follows_undo_and_redo(demo):
    demo.open_example("dahlia.jpg")
    demo.page.get_by_role("tab", name="Everything").click()
    demo.page.get_by_role("radio", name="8×8").check()
    demo.page.get_by_role("button", name="Find everything").click()
    demo.page.wait_for_selector(".ms[data-everything=done]")
    status = demo.page.locator(".ms-found-status")
    demo.page.locator(".ms-found-box tbody tr").first.click()
    assert status.inner_text().startswith("It is an object now")
    demo.action("undo")
    assert demo.objects == []
    assert status.inner_text() == "It is no object any more."
    demo.action("redo")
    assert status.inner_text().startswith("It is an object now")
