"""A click on a large photo: what is needed on top of the decoder, by the page's own clock."""

from __future__ import annotations

import pytest

from tests.browser.pace import assert_median_within
from tests.browser.pictures import large_photo

MOST_MS_OVER_DECODER = 150


@pytest.mark.alone
@pytest.mark.parametrize("others", [0, 4])
def test_a_click_on_12_megapixels_is_painted_soon_after_it_is_decoded(demo, tmp_path, others):
    path = tmp_path / "large.jpg"
    large_photo(path, "examples/coffee.jpg")
    demo.open_file(path)
    for index in range(others):  # other objects cost next to nothing
        demo.click(400 + 700 * index, 600)
        demo.wait_mask()
        demo.page.locator("[data-action=new-object]").click()

    def click(row: int) -> list[float]:
        over_ms = []
        for index in range(9):
            demo.click(600 + 300 * index, 1500 + 200 * row)  # an earlier point would be removed
            demo.wait_mask()
            status = demo.page.locator(".ms-status").inner_text()
            amount, unit = status.split("decoded in ")[1].split()[:2]
            decoder_ms = float(amount) * (1000 if unit.startswith("s") else 1)
            over_ms.append(float(demo.data("paint-ms")) - decoder_ms)
        return over_ms

    assert_median_within(MOST_MS_OVER_DECODER, click)
