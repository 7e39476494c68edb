"""What starting costs, and how much memory the demo holds after twenty pictures."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import (
    ROOT,
    DemoPage,
    chromium,
    print_table,
    resized_photo,
    running_demo,
    untrained_checkpoint,
)

IMPORTS = 3
PICTURES = 20
WIDTH, HEIGHT = 4000, 3000  # px


def import_s(statement: str) -> tuple[float, bool]:
    """Return the median seconds of an import statement, and whether that imported Gradio."""
    code = (
        f"import sys, time; start = time.perf_counter(); {statement}; "
        "print(time.perf_counter() - start, 'gradio' in sys.modules)"
    )
    seconds, loaded = [], set()
    for _ in range(IMPORTS):
        printed = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split()
        seconds.append(float(printed[0]))
        loaded.add(printed[1])
    return statistics.median(seconds), "True" in loaded


def main() -> None:
    """Start the demo twice, the second time with warm caches; open and click twenty pictures."""
    rows: list[list[object]] = []
    for statement in ("import mobilesam", "from mobilesam import Predictor, load_model"):
        seconds, loads_gradio = import_s(statement)
        loads = "imports Gradio" if loads_gradio else "without Gradio"
        rows.append([f"`{statement}`, median of {IMPORTS}, {loads}", f"{seconds:.2f} s"])
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        folder = Path(name)
        arguments = ("--checkpoint", str(untrained_checkpoint(folder)))
        photos = [resized_photo(folder, WIDTH, HEIGHT, f"photo{n}") for n in range(PICTURES)]
        with running_demo(*arguments):
            pass
        with running_demo(*arguments) as demo:
            page = DemoPage(browser, demo.url)
            drawn_s = time.perf_counter() - demo.started
            page.wait_until_ready()
            ready_s = time.perf_counter() - demo.started
            rows += [
                ["python app.py until the server answers", f"{demo.ready_s:.1f} s"],
                ["... until the page stands in the browser", f"{drawn_s:.1f} s"],
                ["... until its first photo can be clicked", f"{ready_s:.1f} s"],
                ["RSS of app.py, one picture", f"{demo.rss_mib():,.0f} MiB"],
            ]
            for photo in photos:
                page.open_photo(photo)
                page.click_ms(0.5, 0.5)
            rows += [
                [f"RSS after {PICTURES} of {WIDTH} x {HEIGHT} px", f"{demo.rss_mib():,.0f} MiB"],
                ["highest RSS on the way", f"{demo.rss_mib(peak=True):,.0f} MiB"],
            ]
    print_table("Start and memory, MobileSAM's shape, warm caches", ["", "measured"], rows)


if __name__ == "__main__":
    main()
