"""What a phone's small screen shows, upright and held sideways, and windows as small."""

from __future__ import annotations

import pytest

UPRIGHT = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}


@pytest.mark.parametrize("width", [390, 360, 320])
def test_the_numbers_of_a_mask_stand_in_two_lines_beside_the_zoom(visit, width):
    demo = visit(**{**UPRIGHT, "viewport": {"width": width, "height": 800}}, keep_objects=True)
    demo.wait_mask()
    numbers = demo.page.locator(".ms-of-mask > span")
    assert numbers.count() == 2  # area and score
    boxes = [one.bounding_box() for one in numbers.all()]
    zoom = demo.page.locator(".ms-zoom").bounding_box()
    assert all(box["height"] < 24 and box["x"] + box["width"] <= zoom["x"] for box in boxes)
    assert demo.page.locator(".ms-below").bounding_box()["height"] <= 90
    model = demo.page.locator(".ms-of-model").bounding_box()
    assert model["y"] >= zoom["y"] + zoom["height"]
    if width >= 360:
        tools = demo.page.locator(".ms-toolbar > div")
        assert tools.nth(1).bounding_box()["y"] < tools.nth(2).bounding_box()["y"] + 10
