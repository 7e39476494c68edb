"""From a click on the real page to its painted mask, on a large photo and on a small one."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from benchmarks.common import (
    DemoPage,
    chromium,
    print_table,
    resized_photo,
    running_demo,
    spread,
    untrained_checkpoint,
)
from mobilesam import available

CLICKS = 30
SIZES = ((4000, 3000), (1024, 768))  # px, (width, height)


def clicks_ms(arguments: tuple[str, ...], photos: list[Path]) -> list[list[float]]:
    """Return per photo the milliseconds of each click, the demo started with ``arguments``."""
    random.seed(0)
    with running_demo(*arguments) as demo, chromium() as browser:
        page = DemoPage(browser, demo.url)
        times = []
        for photo in photos:
            page.open_photo(photo)
            page.click_ms(0.5, 0.5)  # warm
            spots = [(random.uniform(0.3, 0.7), random.uniform(0.3, 0.7)) for _ in range(CLICKS)]
            times.append([page.click_ms(x, y) for x, y in spots])
        return times


def main() -> None:
    """Measure MobileSAM's shape, whose random weights give noisy masks, and the embedded model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = {
            "MobileSAM's shape, random weights": ("--checkpoint", str(untrained_checkpoint(folder)))
        }
        if available("embedded"):
            models["embedded"] = ("--model", "embedded")
        photos = [resized_photo(folder, width, height) for width, height in SIZES]
        rows = []
        for title, arguments in models.items():
            for (width, height), times in zip(SIZES, clicks_ms(arguments, photos), strict=True):
                rows.append([f"{title}, photo of {width} x {height} px", *spread(times)])
    print_table(
        f"Click to painted mask, server and headless Chromium on one machine, {CLICKS} clicks",
        ["", "median ms", "p95 ms", "best ms"],
        rows,
    )


if __name__ == "__main__":
    main()
