"""Painting a mask near its bounds only gives what painting the whole stage gives."""

from __future__ import annotations

import pytest

from mobilesam.ui.prompt_canvas import CANVAS_FOLDER
from tests.browser.conftest import new_page

# Three masks, two of them side by side, in previews of half the photo's size. Returns how many
# values differ by more than an edge's rounding, and how many are not empty.
PAINT = """({ scale, dx, dy, ratio, feather }) => {
  const [size, stage] = [{ width: 400, height: 300 }, { width: 320, height: 240 }];
  const places = [[20, 20, 30, 40], [52, 24, 20, 60], [120, 90, 80, 60]];
  const masks = places.map(([x, y, width, height]) => {
    const alpha = document.createElement("canvas");
    [alpha.width, alpha.height] = [200, 150];
    const pen = alpha.getContext("2d");
    if (feather) pen.filter = `blur(${feather / 2}px)`;
    pen.fillRect(x, y, width, height);
    const box = [2 * x, 2 * y, 2 * (x + width), 2 * (y + height)];
    return { alpha, bounds: box.map((at, side) => at + (side < 2 ? -4 : 4) * feather) };
  });
  const everywhere = [0, 0, size.width, size.height];
  const painted = [true, false].map((isWhole) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [stage.width * ratio, stage.height * ratio];
    const context = canvas.getContext("2d");
    const paint = createMaskPainter();
    masks.forEach(({ alpha, bounds }, index) => {
      const color = ["#1e90ff", "#e69f00", "#009e73"][index];
      const options = { color, opacity: 0.5, ratio, hasLine: !feather };
      options.bounds = isWhole ? everywhere : bounds;
      paint(context, alpha, size, { scale, dx, dy }, options);
    });
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const seen = (value, at) => (at % 4 === 3 ? value : (value * data[at | 3]) / 255);
    return data.map(seen);
  });
  const [whole, near] = painted;
  const others = whole.filter((value, at) => Math.abs(value - near[at]) > 20);
  return [others.length, whole.filter(Boolean).length];
}"""


@pytest.fixture(scope="module")
def page(chromium):
    page = new_page(chromium)
    page.add_script_tag(path=CANVAS_FOLDER / "masks.js")
    yield page
    page.context.close()


@pytest.mark.parametrize("feather", [0, 6])
@pytest.mark.parametrize("ratio", [1, 1.5, 2])
@pytest.mark.parametrize(
    ("scale", "dx", "dy"), [(0.8, 0, 0), (0.73, 14.3, 10.5), (6.4, -180, -120), (12.8, -600, -400)]
)
def test_nothing_is_missing_and_nothing_of_another_mask_shows(page, scale, dx, dy, ratio, feather):
    place = {"scale": scale, "dx": dx, "dy": dy, "ratio": ratio, "feather": feather}
    others, painted = page.evaluate(PAINT, place)
    assert painted > 1000
    assert others == 0


def test_a_mask_that_is_out_of_sight_is_not_painted(page):
    place = {"scale": 12.8, "dx": -4000, "dy": 300, "ratio": 1, "feather": 0}
    assert page.evaluate(PAINT, place) == [0, 0]
