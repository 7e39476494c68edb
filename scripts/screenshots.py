"""Take the README's pictures from the real page: ``make screenshots``."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from benchmarks.common import ROOT, chromium, running_demo

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = ROOT / "docs"
LIMIT_BYTES = 300_000  # of each picture
FLAT_COLORS = 64  # of a palette's 256 that are kept for buttons, text and swatches
DESK, PHONE = (1440, 900), (390, 844)  # CSS pixels
WAIT_MS = 120_000  # a comparison starts two processes
SETTLED = """() => {
  const { rev, paintedRev, shownRev } = document.querySelector(".ms").dataset;
  return rev && rev === paintedRev && rev === shownRev;
}"""


@dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        name: File name in `docs`; its ending is the format.
        example: The example on show.
        size: Of the window, CSS pixels.
        scheme: "light" or "dark".
        pixels_per_css: Device pixels; a phone has more.
        prepare: What is done on the page first.
    """

    name: str
    example: str
    size: tuple[int, int] = DESK
    scheme: str = "light"
    pixels_per_css: float = 1
    prepare: Callable[[Page], None] | None = None


def find_everything(page: Page) -> None:
    """Search the photo with the finest grid, and wait until it is done."""
    page.locator(".ms-tab[data-tab=everything]").click()
    page.get_by_role("radio", name="32×32").click()
    page.locator(".ms-found-start").click()
    page.wait_for_selector(".ms[data-everything=done]")


def compare_two(page: Page) -> None:
    """Compare the two models that the tab offers first, and bring the result into sight."""
    page.locator(".ms-tab[data-tab=compare]").click()
    page.locator("#ms-compare-start").click()
    page.wait_for_selector("#ms-compare-pictures img")
    page.wait_for_timeout(1000)
    page.locator("#mobilesam-compare").evaluate("(tab) => tab.scrollIntoView()")


SHOTS = (
    Shot("screenshot.png", "astronaut.jpg"),
    Shot("screenshot-dark.webp", "coffee.jpg", scheme="dark"),
    Shot("screenshot-phone.webp", "raccoon.jpg", size=PHONE, pixels_per_css=2),
    Shot("screenshot-everything.webp", "photographer.jpg", prepare=find_everything),
    Shot("screenshot-compare.webp", "raccoon.jpg", prepare=compare_two),
)


def take(browser: Browser, url: str, shot: Shot) -> None:
    """Take one picture and save it small."""
    width, height = shot.size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if shot.scheme == "dark" else "light",
        device_scale_factor=shot.pixels_per_css,
        has_touch=shot.size == PHONE,
        is_mobile=shot.size == PHONE,
    )
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(url)
    page.wait_for_selector(".ms[data-state=ready]")
    page.locator(f'.ms-example[data-example="{shot.example}"]').click()
    page.wait_for_selector(f'.ms[data-title="{shot.example}"][data-state=ready]')
    page.wait_for_function(SETTLED)
    if shot.prepare:
        shot.prepare(page)
    else:
        page.evaluate("scrollTo(0, 0)")
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(500)
    save(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), FOLDER / shot.name)
    context.close()


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture as its file name says.

    Raises:
        ValueError: It has `LIMIT_BYTES` bytes or more.
    """
    buffer = io.BytesIO()
    if path.suffix == ".png":
        with_palette(picture).save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, "WEBP", quality=85, method=6)
    size_bytes = buffer.tell()
    if size_bytes >= LIMIT_BYTES:
        raise ValueError(f"{path.name} has {size_bytes:,} bytes; expected below {LIMIT_BYTES:,}.")
    path.write_bytes(buffer.getvalue())
    size = f"{picture.width} x {picture.height}"
    print(f"{path.relative_to(ROOT)}: {size}, {size_bytes / 1000:.0f} kB")


def with_palette(picture: Image.Image) -> Image.Image:
    """Return the picture in 256 colours: the page's flat ones as they are, the photo's dithered."""
    colors, counts = np.unique(np.asarray(picture).reshape(-1, 3), axis=0, return_counts=True)
    flat = colors[counts.argsort()[::-1][:FLAT_COLORS]].ravel().tolist()
    others = picture.quantize(256 - FLAT_COLORS).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette(flat + others[: 3 * (256 - FLAT_COLORS)])
    return picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def main() -> None:
    """Take all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="file names in docs (default: all)")
    parser.add_argument("--model", default="embedded", help="the model that answers")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    with chromium() as browser, running_demo("--model", options.model) as demo:
        for shot in SHOTS:
            if not options.names or shot.name in options.names:
                take(browser, demo.url, shot)


if __name__ == "__main__":
    main()
