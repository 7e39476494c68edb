"""A really running demo and a headless Chromium, once for each process of the tests."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright import sync_api

from tests.browser.demo_page import DemoPage
from tests.browser.demo_server import REPOSITORY, Server, free_port

if TYPE_CHECKING:
    from mobilesam.ui.models import ModelShelf

DISABLED_FEATURES = [
    # pages of the address bar, which nobody sees: a fifth of the time of most tests
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    # of Playwright's own list, which this one replaces, what matters here
    "DestroyProfileOnBrowserClose",
    "HttpsUpgrades",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
    "SpareRendererForSitePerProcess",  # a process for a page that no test opens
]
SIZE = {"width": 1280, "height": 860}  # px, of the page
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a camera that shows a test pattern
    f"--disable-features={','.join(DISABLED_FEATURES)}",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in Path(item.fspath).parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def machine_lock(run_folder: Path) -> Path:
    """A file that the processes of one test run have in common."""
    return run_folder / "machine.lock"


@pytest.fixture(autouse=True)
def machine(request: pytest.FixtureRequest, machine_lock: Path) -> Iterator[None]:
    """Let a test marked `alone` wait until no other browser test runs, and others wait for it."""
    alone = request.node.get_closest_marker("alone")
    with machine_lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("server"))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> str:
    """Address of the demo: one started here, or a running one named by MOBILESAM_DEMO_URL."""
    return os.environ.get("MOBILESAM_DEMO_URL") or request.getfixturevalue("server").url


@pytest.fixture(scope="session")
def few_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the examples: a demo in this process encodes all that it has, beside the tests."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("raccoon.jpg", "coffee.jpg", "cat.jpg", "prompts.json"):
        shutil.copy(REPOSITORY / "examples" / name, folder)
    return folder


@pytest.fixture(scope="module")
def launch(
    few_examples: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., str]]:
    """Serve a demo from this process, where a test may replace its parts; returns its address.

    To be named before `visit`, whose pages are to be closed before it ends.
    """
    from mobilesam.ui import LAUNCH_OPTIONS, build_demo

    demos = []
    patch = pytest.MonkeyPatch()
    patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("launched")))

    def serve(models: ModelShelf, **options: Any) -> str:
        demos.append(build_demo(models=models, examples_folder=few_examples, **options))
        _, url, _ = demos[-1].launch(
            server_port=free_port(), prevent_thread_lock=True, quiet=True, **LAUNCH_OPTIONS
        )
        return url.rstrip("/")

    yield serve
    for demo in demos:
        demo.close()
    patch.undo()


def launch_chromium(browser_type: sync_api.BrowserType, **options: Any) -> sync_api.Browser:
    found = (shutil.which(name) for name in ("chromium", "google-chrome", "chromium-browser"))
    path = next(filter(None, found), None)
    return browser_type.launch(executable_path=path, args=CHROMIUM_FLAGS, **options)


@pytest.fixture(scope="session")
def chromium() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = launch_chromium(playwright.chromium)
        yield browser
        browser.close()


def new_page(chromium: sync_api.Browser, **options: Any) -> sync_api.Page:
    """Open an empty page as a new visitor, of 1280 x 860 px unless another size is given."""
    return chromium.new_context(**{"viewport": SIZE, **options}).new_page()


@pytest.fixture
def visit(chromium: sync_api.Browser, server_url: str) -> Iterator[Callable[..., DemoPage]]:
    """Open the demo as a new visitor; at the end no page may have had an error or left the host."""
    pages: list[DemoPage] = []

    def open_demo(
        url: str = server_url,
        *,
        address: str = "",
        keep_objects: bool = False,
        has_clock: bool = False,
        script: str = "",
        **options: object,
    ) -> DemoPage:
        """Open the page; the objects it opens with are deleted unless they are to be seen.

        With a clock, the test may let the page's time pass; a script runs before the page's own.
        """
        page = DemoPage(new_page(chromium, **options), url)
        pages.append(page)
        if has_clock:
            page.page.clock.install()
        if script:
            page.page.add_init_script(script)
        page.start(address)
        if not keep_objects and not address:
            page.clear_objects()
        return page

    yield open_demo
    for page in pages:
        page.page.context.close()
    for page in pages:
        assert page.errors == []
        assert page.foreign_requests == []


@pytest.fixture
def demo(visit: Callable[..., DemoPage]) -> DemoPage:
    return visit()


@pytest.fixture(scope="module")
def lasting(chromium: sync_api.Browser, server_url: str) -> Iterator[list[DemoPage]]:
    """The page that a module's tests share, once the first of them has opened it."""
    pages: list[DemoPage] = []
    yield pages
    for page in pages:
        page.page.context.close()


@pytest.fixture
def coffee(
    request: pytest.FixtureRequest,
    lasting: list[DemoPage],
    chromium: sync_api.Browser,
    server_url: str,
) -> Iterator[DemoPage]:
    """A page that shows coffee.jpg as if just opened; loading it takes longer than most tests.

    A test that leaves more behind than prompts, a tool or the size of its window has to take
    ``new_coffee`` instead. After a failure the next test gets a new page.
    """
    page = lasting.pop() if lasting else None
    if page is None:
        page = DemoPage(new_page(chromium), server_url)
        page.start()
    page.start_over(SIZE)
    failed = request.session.testsfailed
    yield page
    if request.session.testsfailed == failed and not page.errors and not page.foreign_requests:
        lasting.append(page)  # else it is left to the browser's end
    assert page.errors == []
    assert page.foreign_requests == []


@pytest.fixture
def new_coffee(demo: DemoPage) -> DemoPage:
    """A page of the test's own that shows coffee.jpg."""
    demo.open_example("coffee.jpg")
    return demo
