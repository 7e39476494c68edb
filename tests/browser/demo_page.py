"""Drives the demo's page: what a visitor does, and what he sees."""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from playwright.sync_api import Route

TIMEOUT_MS = 60_000  # a slow machine with other tests beside this one takes half of it
TOUCH = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
PHONE = {**TOUCH, "device_scale_factor": 2}
LOST = "net::ERR_"  # what Chromium says of requests without a connection
CUT_OFF = "^(AbortError: signal is aborted|Unexpected error Connection errored out)"

# Until the page has come to rest, for some frames.
SCROLLED = """() => new Promise((go) => {
  let [top, rests] = [NaN, 0];
  const look = () => {
    rests = scrollY === top ? rests + 1 : 0;
    top = scrollY;
    if (rests < 10) requestAnimationFrame(look);
    else go();
  };
  look();
})"""


class DemoPage:
    """One visitor's page.

    Attributes:
        errors: Console errors and exceptions seen so far.
        foreign_requests: Addresses on other hosts that the page asked for.
    """

    def __init__(self, page, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        self.foreign_requests: list[str] = []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.errors.append(f"exception: {error}"))
        page.on("request", self._note_request)

    def _note_console(self, message) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url')})")

    def _note_request(self, request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != urlsplit(self.url).netloc:
            self.foreign_requests.append(request.url)

    def start(self, address: str = "") -> None:
        """Open the page (or one with something behind its address), as a visitor finds it."""
        self.page.goto(self.url + address)
        self.wait_ready()

    def start_over(self, size: dict[str, int]) -> None:
        """Make a used page like one that has just opened coffee.jpg."""
        page = self.page
        page.mouse.up()
        page.unroute_all()
        page.set_viewport_size(size)
        page.evaluate("scrollTo(0, 0)")
        page.locator(".ms-tab[data-tab=segment]").click()
        self.tool("include")
        page.evaluate(
            """() => {
              const opacity = document.querySelector(".ms [aria-label=Opacity]");
              opacity.value = 50;
              opacity.dispatchEvent(new Event("input"));
              for (const part of document.querySelectorAll(".ms details")) part.open = false;
            }"""
        )
        self.open_example("coffee.jpg")

    def reload(self) -> None:
        """Load the page anew; what Gradio says of an answer that this cuts off is no error."""
        before = len(self.errors)
        self.page.reload()
        self.wait_ready()
        self.forgive(CUT_OFF, since=before)

    def route(self, address: str, handler: Callable[[Route], object]) -> None:
        """Let a handler decide on requests to an address (a glob), from now on.

        For a moment after Playwright's own `route` the browser still sends some past it, which
        then nobody hears of: so it is asked until it does not.
        """
        probe = re.compile(r"\?is-routed$")
        self.page.route(probe, lambda route: route.fulfill(status=204))
        self.page.route(address, handler)
        self.page.evaluate(
            """async () => {
              const ask = () => fetch("?is-routed", { method: "HEAD" }).catch(() => ({}));
              while ((await ask()).status !== 204);
            }"""
        )
        self.page.unroute(probe)

    def forgive(self, pattern: str, since: int = 0) -> None:
        """Forget errors that hold a pattern, which the test has brought about itself."""
        later = self.errors[since:]
        self.errors[since:] = [error for error in later if not re.search(pattern, error)]

    def slow_uploads(self, bytes_per_second: float) -> Callable[[], None]:
        """Let the page send no faster; returns what ends that."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("Network.enable")

        def limit(throughput: float) -> None:
            limits = {"offline": False, "latency": 0, "downloadThroughput": -1}
            limits["uploadThroughput"] = throughput
            session.send("Network.emulateNetworkConditions", limits)

        limit(bytes_per_second)
        return lambda: limit(-1)

    def listen(self) -> Callable[[], list[str]]:
        """Note what is said to screen readers from now on; returns what gives it."""
        self.page.evaluate(
            """() => {
              const live = document.querySelector(".ms > .ms-hidden[role=status]");
              window.said = [];
              window.listener?.disconnect();
              window.listener = new MutationObserver(() => said.push(live.textContent.trim()));
              listener.observe(live, { childList: true, characterData: true, subtree: true });
            }"""
        )
        return lambda: self.page.evaluate("() => said")

    def clear_objects(self) -> None:
        """Delete the objects that an example opens with; nothing can be undone then."""
        self.wait_ready()
        if self.objects:
            # not by mouse, which would scroll a small screen down to the button
            self.page.locator("[data-action=remove-all]").evaluate("(button) => button.click()")

    def wait_ready(self) -> None:
        self.page.wait_for_selector(".ms[data-state=ready]")

    def data(self, name: str) -> str:
        return self.page.locator(".ms").get_attribute(f"data-{name}") or ""

    @property
    def points(self) -> list[list[int]]:
        return json.loads(self.data("points"))

    @property
    def box(self) -> list[int] | None:
        return json.loads(self.data("box"))

    @property
    def objects(self) -> list[dict]:
        """All objects, as the server gets them."""
        return json.loads(self.data("objects"))

    @property
    def photo_size(self) -> tuple[int, int]:
        """(width, height) of the photo shown."""
        width, height = self.data("photo").split("x")
        return int(width), int(height)

    @property
    def notice(self) -> str:
        locator = self.page.locator(".ms-notice")
        return locator.inner_text().strip() if locator.is_visible() else ""

    # --- doing -----------------------------------------------------------------------------------

    def open_file(self, path: Path) -> None:
        """Choose a file and wait until its photo is ready."""
        self.page.set_input_files(".ms input[type=file]", str(path))
        self.page.wait_for_selector(f'.ms[data-title="{Path(path).name}"][data-state=ready]')

    def open_example(self, name: str, keep_objects: bool = False) -> None:
        """Open an example; what it shows by itself is deleted unless it is to be seen."""
        self.page.locator(f'.ms-example[data-example="{name}"]').click()
        self.page.wait_for_selector(f'.ms[data-title="{name}"][data-state=ready]')
        if not keep_objects:
            self.clear_objects()

    def screen(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the photo lies on the screen."""
        stage = self.page.locator(".ms-stage")
        scale, dx, dy = map(float, stage.get_attribute("data-transform").split())
        bounds = stage.bounding_box()
        return bounds["x"] + (x + 0.5) * scale + dx, bounds["y"] + (y + 0.5) * scale + dy

    def click(self, x: float, y: float, **options) -> None:
        """Click on a pixel of the photo."""
        self.page.mouse.click(*self.screen(x, y), **options)

    def drag(self, *path: tuple[float, float], steps: int = 6) -> None:
        """Press on the first pixel, go through the others, let go on the last."""
        mouse = self.page.mouse
        mouse.move(*self.screen(*path[0]))
        mouse.down()
        for position in path[1:]:
            mouse.move(*self.screen(*position), steps=steps)
        mouse.up()

    def action(self, name: str) -> None:
        self.page.locator(f"[data-action={name}]").click()

    def tool(self, name: str) -> None:
        self.page.locator(f"[data-tool={name}].ms-button").click()

    def wait_mask(self) -> None:
        """Wait until the mask for the prompts as they are now is painted, thumbnails included."""
        self.page.wait_for_function(
            """() => {
              const { rev, paintedRev, shownRev } = document.querySelector(".ms").dataset;
              return rev && rev === paintedRev && rev === shownRev;
            }"""
        )

    # --- seeing ----------------------------------------------------------------------------------

    def wait_frame(self) -> None:
        """Wait until what has changed is drawn."""
        self.page.evaluate(
            "() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))"
        )

    def painted(self, x: float, y: float) -> bool:
        """Whether the mask's colour lies on a pixel of the photo."""
        return self._pixel(x, y)[3] > 60

    def paint(self, x: float, y: float) -> list[int]:
        """The mask's colour on a pixel of the photo: red, green, blue."""
        return self._pixel(x, y)[:3]

    def _pixel(self, x: float, y: float) -> list[int]:
        self.wait_frame()
        return self.page.evaluate(
            """([x, y]) => {
              const stage = document.querySelector(".ms-stage");
              const [scale, dx, dy] = stage.dataset.transform.split(" ").map(Number);
              const layer = stage.querySelectorAll("canvas")[1];
              const ratio = layer.width / stage.clientWidth;
              const at = [((x + 0.5) * scale + dx) * ratio, ((y + 0.5) * scale + dy) * ratio];
              return [...layer.getContext("2d").getImageData(...at.map(Math.floor), 1, 1).data];
            }""",
            [x, y],
        )

    def painted_share(self) -> float:
        """Share of the stage that the mask's colour covers."""
        self.wait_frame()
        return self.page.evaluate(
            """() => {
              const layer = document.querySelectorAll(".ms-stage canvas")[1];
              const { data } = layer.getContext("2d").getImageData(0, 0, layer.width, layer.height);
              let count = 0;
              for (let i = 3; i < data.length; i += 4) count += data[i] > 60;
              return count / (data.length / 4);
            }"""
        )

    def download(self, kind: str) -> tuple[str, bytes]:
        """Download a result; returns its file name and content."""
        with self.page.expect_download() as waiting:
            self.page.locator(f".ms-save[data-save={kind}]").click()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "result"
            waiting.value.save_as(path)
            return waiting.value.suggested_filename, path.read_bytes()

    def save(self, kind: str) -> Image.Image:
        """Download a result and return it as a picture."""
        name, data = self.download(kind)
        assert name.endswith(f"-{kind}.png")
        picture = Image.open(io.BytesIO(data))
        picture.load()
        return picture

    def saved_mask(self) -> np.ndarray:
        """(H, W) bool mask as downloaded."""
        values = np.asarray(self.save("mask"))
        assert set(np.unique(values)) <= {0, 255}
        return values == 255


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two bool masks."""
    union = np.logical_or(first, second).sum()
    return float(np.logical_and(first, second).sum() / union) if union else 1.0
