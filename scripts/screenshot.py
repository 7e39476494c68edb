"""Take docs/screenshot.png from the running demo: ``python -m scripts.screenshot``."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image

from benchmarks.common import PHOTO, ROOT, DemoPage, chromium, running_demo
from mobilesam import default_model_name

SCREENSHOT = ROOT / "docs" / "screenshot.png"


def main() -> None:
    """Open an example, click on it, and save what the page shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None, help="a model's name or a checkpoint")
    parser.add_argument("--photo", type=Path, default=PHOTO, help="the photo to open")
    parser.add_argument("--at", default="0.6,0.4", help="where to click, in shares of the stage")
    options = parser.parse_args()
    x_share, y_share = map(float, options.at.split(","))
    with (
        running_demo("--model", options.model or default_model_name()) as demo,
        chromium() as browser,
    ):
        page = DemoPage(browser, demo.url)
        page.open_photo(options.photo)
        page.click_ms(x_share, y_share)
        page.page.wait_for_timeout(500)  # thumbnails are drawn after the mask
        shot = Image.open(io.BytesIO(page.page.screenshot())).convert("RGB")
    SCREENSHOT.parent.mkdir(exist_ok=True)
    shot.save(SCREENSHOT, optimize=True)
    print(f"{SCREENSHOT}: {SCREENSHOT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
