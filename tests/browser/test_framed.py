"""The page in a frame of another server's page, as Hugging Face shows a Space.

The frame is as tall as what is in it: the page around it scrolls, and the window tells nothing of
what is on the screen.
"""

from __future__ import annotations

import re

import httpx
import pytest

from tests.browser.demo_page import PHONE, TIMEOUT_MS, DemoPage
from tests.browser.pictures import phone_photo
from tests.http_server import Answer, FlakyServer

HEADER = 66  # CSS pixels over the frame
ALLOWED = "camera; clipboard-read; clipboard-write"
AROUND = """<!doctype html><meta name="viewport" content="width=device-width">
<body style="margin: 0"><header style="height: %(header)dpx">A Space</header>
<iframe src="%(url)s" allow="%(allowed)s" sandbox="allow-downloads allow-same-origin allow-scripts"
  style="display: block; width: 100%%; height: calc(100vh - %(header)dpx); border: 0"></iframe>
<script>
  // What iframe-resizer does, which Gradio loads into the frame.
  const frame = document.querySelector("iframe");
  const MARK = "[iFrameSizer]";
  const settings = ["space", 8, false, false, 32, true, false, null, "bodyOffset"];
  const begin = () => frame.contentWindow.postMessage(MARK + settings.join(":"), "*");
  frame.addEventListener("load", begin);
  addEventListener("message", ({ data }) => {
    if (data === "[iFrameResizerChild]Ready") begin();
    if (typeof data !== "string" || !data.startsWith(MARK)) return;
    const [id, height, width, what] = data.slice(MARK.length).split(":");
    if (what === "size") frame.style.height = height + "px";
    if (what === "scrollToOffset") scrollTo(Number(width), Number(height) + frame.offsetTop);
  });
</script>"""


@pytest.fixture
def other_server():
    with FlakyServer() as server:
        yield server


@pytest.fixture
def open_framed(chromium, server_url, other_server):
    """Open the demo in a frame; returns the page around it and the frame."""
    contexts = []

    def open_page(allowed=ALLOWED, address="", **options):
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        body = AROUND % {"header": HEADER, "url": server_url + address, "allowed": allowed}
        address = other_server.serve("/space", Answer(body.encode(), content_type="text/html"))
        page.goto(address.replace("127.0.0.1", "localhost"))  # another site than the demo's
        frame = page.frames[1]
        frame.wait_for_selector(".ms[data-state=ready]")
        frame.wait_for_selector("html[data-ms-frame=tall]", state="attached")
        return page, frame

    yield open_page
    for context in contexts:
        context.close()


COMPONENT = """<!doctype html><body><h1>A page of somebody's</h1>
<script type="module" src="%(url)s/%(script)s"></script><gradio-app src="%(url)s"></gradio-app>"""


def bounds(frame, selector):
    """(left, top, right, bottom) of what a selector finds, on the screen."""
    box = frame.locator(selector).first.bounding_box()
    return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]


def grown(page, more_than):
    page.wait_for_function(
        "(height) => document.querySelector('iframe').clientHeight > height", arg=more_than
    )


def stage_height(frame):
    return frame.locator(".ms-stage").bounding_box()["height"]


def scroll_to(page, y):
    page.evaluate("(y) => scrollTo(0, y)", y)
    page.wait_for_function("(y) => Math.abs(scrollY - y) < 2", arg=y)


def test_the_photo_keeps_its_size_while_the_frame_grows(open_framed):
    page, frame = open_framed()
    stage = stage_height(frame)
    assert bounds(frame, ".ms-stage")[3] <= 800
    grown(page, 800 - HEADER)
    before = page.locator("iframe").bounding_box()["height"]
    frame.get_by_text("Python and command line").click()
    grown(page, before + 100)
    frame.get_by_role("tab", name="Everything").click()
    frame.get_by_role("tab", name="Segment").click()
    assert stage_height(frame) == stage
    page.set_viewport_size({"width": 900, "height": 700})
    frame.wait_for_function("innerWidth === 900")
    assert stage_height(frame) <= 700


def test_an_example_far_down_brings_the_photo_into_sight(open_framed):
    page, frame = open_framed(**PHONE)
    frame.evaluate("document.querySelector('.ms').style.paddingTop = '900px'")
    grown(page, 2000)
    scroll_to(page, 1400)
    assert bounds(frame, ".ms-stage")[1] < 0
    frame.locator(".ms-example").last.evaluate("(button) => button.click()")
    page.wait_for_function("scrollY < 1400")
    frame.wait_for_selector(".ms[data-state=ready]:not([data-title='raccoon.jpg'])")
    _, top, _, bottom = bounds(frame, ".ms-stage")
    assert top >= 0 and bottom <= 844


def test_the_compare_tab_shows_what_there_is_to_press(open_framed):
    page, frame = open_framed(**PHONE)
    grown(page, 1000)
    frame.get_by_role("tab", name="Compare").tap()
    page.wait_for_function("scrollY > 0")
    assert bounds(frame, ".ms-compare-head h2")[1] >= 0
    assert bounds(frame, "#ms-compare-start")[3] <= 844


def test_a_sentence_is_seen_wherever_the_page_around_is(open_framed, tmp_path):
    page, frame = open_framed(**PHONE)
    grown(page, 1200)
    (tmp_path / "empty.png").write_bytes(b"")
    frame.set_input_files(".ms input[type=file]", str(tmp_path / "empty.png"))
    frame.get_by_text("empty.png is empty").first.wait_for()
    assert bounds(frame, ".ms-notice")[1] >= bounds(frame, ".ms-stage")[1]
    frame.get_by_role("button", name="Close this message").click()
    scroll_to(page, 700)
    frame.set_input_files(".ms input[type=file]", str(tmp_path / "empty.png"))
    frame.wait_for_selector(".ms-notice.ms-afar")
    frame.wait_for_function("document.querySelector('.ms-notice').style.cssText.includes('px')")
    left, top, right, bottom = bounds(frame, ".ms-notice")
    assert 0 <= top < 100 and bottom <= 844 and left >= 0 and right <= 390
    scroll_to(page, 0)
    frame.wait_for_selector(".ms-notice:not(.ms-afar)")
    assert bounds(frame, ".ms-notice")[1] >= bounds(frame, ".ms-stage")[1]


@pytest.mark.parametrize("size", [(390, 844), (1280, 800)])
def test_the_camera_is_seen_whole(open_framed, size):
    width, height = size
    options = {"viewport": {"width": width, "height": height}, "permissions": ["camera"]}
    page, frame = open_framed(**options)
    grown(page, height - HEADER)
    scroll_to(page, 40)
    frame.get_by_role("button", name="Take a photo with the camera").click()
    shutter = frame.locator(".ms-shutter:not([aria-disabled=true])")
    shutter.wait_for()
    left, top, right, bottom = bounds(frame, ".ms-camera")
    assert top >= 0 and bottom <= height and left >= 0 and right <= width
    shutter.click()
    frame.wait_for_selector(".ms[data-title^='camera-'][data-state=ready]")


def copied(page, frame):
    frame.get_by_role("button", name="Copy link").click()
    frame.get_by_role("button", name="Link copied").wait_for()
    return page.evaluate("navigator.clipboard.readText()")


@pytest.mark.parametrize("allowed", [ALLOWED, ""])
def test_a_link_is_copied_and_holds_nothing_of_this_visitor(open_framed, server_url, allowed):
    """A private Space is let into by a signature in the frame's address."""
    page, frame = open_framed(allowed, "/?__theme=light&__sign=secret&lang=en")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    frame.get_by_role("button", name="Copy link").focus()
    scroll_to(page, 60)
    link = copied(page, frame)
    assert re.fullmatch(re.escape(f"{server_url}/?lang=en#v=1") + ".*raccoon.*", link)
    assert page.evaluate("scrollY") == 60


def test_a_link_that_cannot_be_copied_is_told(open_framed, server_url):
    _, frame = open_framed("")
    frame.evaluate("document.execCommand = () => false")
    frame.get_by_role("button", name="Copy link").click()
    frame.wait_for_selector(".ms-notice:not([hidden])")
    said = frame.locator(".ms-notice span").first.inner_text()
    assert f"the link is {server_url}/#v=1" in said
    assert "address bar" not in said


def test_it_works_as_a_component_of_another_page(chromium, server_url, other_server, tmp_path):
    script = re.search(r"assets/index-\w+\.js", httpx.get(server_url).text).group()
    body = COMPONENT % {"url": server_url, "script": script}
    address = other_server.serve("/blog", Answer(body.encode(), content_type="text/html"))
    address = address.replace("127.0.0.1", "localhost")
    page = chromium.new_page()
    demo = DemoPage(page, address)
    demo.start()
    _, center = phone_photo(tmp_path / "phone.jpg")
    demo.open_file(tmp_path / "phone.jpg")
    demo.click(*center)
    demo.wait_mask()
    assert demo.saved_mask()[center[1], center[0]]
    assert page.url == address
    assert demo.notice == ""
    demo.forgive("favicon.ico")
    assert demo.errors == []
    page.close()
