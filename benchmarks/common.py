"""Shared by the benchmarks: the machine's name, timing in pairs, tables, the running demo."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "examples" / "raccoon.jpg"
THREADS = 2  # as on a Hugging Face Space's CPU basic
START_LIMIT_S = 120  # for the demo's page to answer


def machine() -> str:
    """Name the machine in one line: processor, cores, versions, load average."""
    import torch

    from mobilesam.machine import machine_name

    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{machine_name()}, {torch.get_num_threads()} threads; "
        f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()}; "
        f"load average at the end {load}"
    )


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print one Markdown table, its title and the machine."""
    print(f"\n### {title}\n\n{machine()}\n")
    print("| " + " | ".join(header) + " |")
    print("|---" + "|--:" * (len(header) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)


def timed_ms(call: Callable[[], Any]) -> float:
    """Run ``call`` once and return its wall time in milliseconds."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000


def paired_ms(
    calls: dict[str, Callable[[], Any]], rounds: int, warm_up: int = 2
) -> dict[str, list[float]]:
    """Time several calls in turns, so that whatever else the machine does hits all of them.

    Returns:
        Per name, ``rounds`` wall times in milliseconds.
    """
    for _ in range(warm_up):
        for call in calls.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(timed_ms(call))
    return times


def spread(times_ms: Sequence[float]) -> list[str]:
    """Return median, 95th percentile and best as table cells, in milliseconds."""
    ordered = sorted(times_ms)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return [f"{value:.1f}" for value in (statistics.median(ordered), p95, ordered[0])]


def resized_photo(folder: Path, width: int, height: int, name: str = "photo") -> Path:
    """Write the example photograph at another size, and return the JPEG's path."""
    path = folder / f"{name}-{width}x{height}.jpg"
    with Image.open(PHOTO) as photo:
        photo.convert("RGB").resize((width, height), Image.Resampling.LANCZOS).save(
            path, quality=90
        )
    return path


class RunningDemo:
    """``python app.py`` in a process of its own, with as many threads as the other benchmarks.

    Attributes:
        url: Where the page is.
        started: When the process was started, on ``time.perf_counter``'s clock.
        ready_s: Seconds from the start of the process until the page answered.

    Args:
        *arguments: More of ``app.py``'s arguments.
    """

    def __init__(self, *arguments: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self.started = time.perf_counter()
        command = [sys.executable, "app.py", "--no-download", "--port", str(port)]
        self._process = subprocess.Popen(
            [*command, "--backend", "torch", *arguments],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": str(THREADS)},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        self.ready_s = time.perf_counter() - self.started

    def _wait(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            time.sleep(0.05)
        self._log.seek(0)
        raise RuntimeError(f"app.py did not answer:\n{self._log.read().decode(errors='replace')}")

    def rss_mib(self, peak: bool = False) -> float:
        """Return the process's resident memory, or its highest so far, in MiB (Linux only)."""
        key = "VmHWM:" if peak else "VmRSS:"
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"/proc/{self._process.pid}/status has no {key}")

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


@contextlib.contextmanager
def running_demo(*arguments: str) -> Iterator[RunningDemo]:
    """Run the demo for the length of a ``with`` block."""
    demo = RunningDemo(*arguments)
    try:
        yield demo
    finally:
        demo.stop()


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run headless Chromium: one already installed, else Playwright's own."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "google-chrome", "chromium-browser")
    installed = next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class DemoPage:
    """The demo's page in a browser, driven as a visitor would.

    Args:
        browser: Where to open it.
        url: The running demo's address.
    """

    def __init__(self, browser: Browser, url: str) -> None:
        self.page = browser.new_page(viewport={"width": 1440, "height": 900})
        self.page.set_default_timeout(60_000)
        self.page.goto(url)
        self.page.wait_for_selector(".ms[data-state]")

    def wait_until_ready(self) -> None:
        """Wait until the photo on the page has been encoded."""
        self.page.wait_for_selector(".ms[data-state=ready]")

    def open_photo(self, path: Path) -> None:
        """Upload a photo with another name than the one shown; wait until it has been encoded."""
        self.page.wait_for_selector(".ms:not([data-state=opening])")
        self.page.set_input_files(".ms input[type=file]", path)
        self.page.wait_for_selector(f'.ms[data-state=ready][data-title="{path.name}"]')

    def click_ms(self, x_share: float, y_share: float) -> float:
        """Click once on the photo, nothing else set, and wait for the mask.

        Args:
            x_share: Where on the stage, 0 (left) to 1.
            y_share: The same, 0 (top) to 1.

        Returns:
            Milliseconds from the click until the mask was painted, by the page's own clock.
        """
        clear = self.page.locator(".ms [data-action=clear]")
        if clear.is_enabled():
            clear.click()
        frame = self.page.locator(".ms-stage").bounding_box()
        if frame is None:
            raise RuntimeError("The page has no stage to click on.")
        x, y = frame["x"] + x_share * frame["width"], frame["y"] + y_share * frame["height"]
        self.page.mouse.click(x, y)
        self.page.wait_for_function(
            "() => { const { rev, paintedRev } = document.querySelector('.ms').dataset;"
            " return Boolean(rev) && rev === paintedRev; }"
        )
        return float(self.page.locator(".ms").get_attribute("data-paint-ms") or "nan")


def untrained_checkpoint(folder: Path) -> Path:
    """Write a checkpoint of MobileSAM's shape; random weights, the real speed."""
    import torch
    from safetensors.torch import save_file

    from mobilesam.modeling import build_model

    torch.manual_seed(0)
    path = folder / "untrained.safetensors"
    metadata = {"encoder": "tiny_vit", "image_size": "1024"}
    save_file(build_model("tiny_vit").state_dict(), path, metadata=metadata)
    return path
