"""Photos from the camera (Chromium's make-believe one) and from the clipboard."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

NOTE_STREAMS = """() => {
  window.streams = [];
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await ask(wanted);
    streams.push(stream);
    return stream;
  };
}"""
LIVE_TRACKS = """() => streams.flatMap((stream) => stream.getTracks())
  .filter(({ readyState }) => readyState === "live").length"""
FILL_CLIPBOARD = """async (address) => {
  const blob = await (await fetch(address)).blob();
  await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
}"""
DIALOG = ".ms-camera[open]"


def button(demo, name):
    return demo.page.get_by_role("button", name=name, exact=True)


def open_camera(demo):
    button(demo, "Take a photo with the camera").click()
    demo.page.wait_for_selector(f"{DIALOG} .ms-shutter[aria-disabled=false]")


def wait_for_notice(demo, words):
    demo.page.locator(".ms-notice", has_text=words).wait_for()
    return demo.notice


@pytest.fixture
def with_camera(visit):
    demo = visit(permissions=["camera"])
    demo.page.evaluate(NOTE_STREAMS)
    return demo


def test_a_photo_is_taken_and_segmented(with_camera):
    demo = with_camera
    before = demo.data("title")
    open_camera(demo)
    focused = demo.page.evaluate("document.activeElement.className")
    assert "ms-shutter" in focused  # Enter or the space bar is enough
    video_size = demo.page.evaluate(
        "(({ videoWidth, videoHeight }) => [videoWidth, videoHeight])"
        "(document.querySelector('.ms-video'))"
    )
    demo.page.keyboard.press("Enter")
    demo.page.wait_for_selector('.ms[data-title^="camera-"][data-state=ready]')
    assert demo.data("title") != before
    assert list(demo.photo_size) == video_size
    assert demo.page.locator(DIALOG).count() == 0
    assert demo.page.evaluate(LIVE_TRACKS) == 0
    width, height = demo.photo_size
    demo.click(width // 2, height // 2)
    demo.wait_mask()
    assert demo.points == [[width // 2, height // 2, 1]]


def test_a_browser_that_hides_what_canvases_hold_takes_no_photo_of_noise(with_camera):
    demo = with_camera
    demo.page.evaluate(
        """() => {
          CanvasRenderingContext2D.prototype.getImageData = (x, y, width, height) =>
            new ImageData(crypto.getRandomValues(new Uint8ClampedArray(4 * width * height)), width);
        }"""
    )
    button(demo, "Take a photo with the camera").click()
    assert "open a photo instead" in wait_for_notice(demo, "This browser keeps canvas")
    assert demo.page.locator(DIALOG).count() == 0


def test_escape_closes_the_camera_and_gives_the_focus_back(with_camera):
    demo = with_camera
    title, points = demo.data("title"), demo.data("points")
    camera = button(demo, "Take a photo with the camera")
    camera.focus()
    demo.page.keyboard.press("Enter")
    demo.page.wait_for_selector(f"{DIALOG} .ms-shutter[aria-disabled=false]")
    assert demo.page.evaluate(LIVE_TRACKS) == 1
    for _ in range(4):  # Tab stays inside
        demo.page.keyboard.press("Tab")
        assert demo.page.evaluate("document.activeElement.closest('.ms-main') === null")
    demo.page.keyboard.press("Escape")
    demo.page.wait_for_selector(DIALOG, state="detached")
    demo.page.wait_for_function(f"() => ({LIVE_TRACKS})() === 0")
    assert camera.evaluate("(button) => button === document.activeElement")
    assert (demo.data("title"), demo.data("points"), demo.notice) == (title, points, "")


def test_a_camera_that_comes_after_closing_is_switched_off(with_camera):
    demo = with_camera
    demo.page.evaluate(
        """() => {
          const ask = navigator.mediaDevices.getUserMedia;
          navigator.mediaDevices.getUserMedia = async (wanted) => {
            const stream = await ask(wanted);
            await new Promise((go) => (window.goOn = go));
            return stream;
          };
        }"""
    )
    button(demo, "Take a photo with the camera").click()
    demo.page.wait_for_function("() => streams.length === 1 && Boolean(window.goOn)")
    demo.page.keyboard.press("Escape")
    assert demo.page.evaluate(LIVE_TRACKS) == 1
    demo.page.evaluate("() => goOn()")
    demo.page.wait_for_function(f"() => ({LIVE_TRACKS})() === 0")


def test_the_other_camera_can_be_chosen_where_there_is_one(with_camera):
    demo = with_camera
    open_camera(demo)
    count = demo.page.evaluate(
        "async () => (await navigator.mediaDevices.enumerateDevices())"
        ".filter(({ kind }) => kind === 'videoinput').length"
    )
    other = demo.page.get_by_role("button", name="Other camera")
    expect(other).to_be_visible(visible=count > 1)
    demo.page.evaluate(
        """() => {
          const list = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
          navigator.mediaDevices.enumerateDevices = async () => {
            const [first] = (await list()).filter(({ kind }) => kind === "videoinput");
            return [first, { kind: "videoinput", deviceId: first.deviceId }];
          };
        }"""
    )
    demo.page.keyboard.press("Escape")
    open_camera(demo)
    other.click()
    demo.page.wait_for_function("() => streams.length === 3")
    demo.page.wait_for_selector(f"{DIALOG} .ms-shutter[aria-disabled=false]")
    assert demo.page.evaluate(LIVE_TRACKS) == 1


def test_a_refused_camera_is_said_in_a_sentence(visit):
    demo = visit()
    title = demo.data("title")
    button(demo, "Take a photo with the camera").click()
    assert "allow it in the browser" in wait_for_notice(demo, "The camera was not allowed")
    assert demo.page.locator(DIALOG).count() == 0
    assert demo.data("title") == title


def test_no_camera_is_said_in_a_sentence(demo):
    fails = (
        "navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('', '{}') }}"
    )
    gone = "Object.defineProperty(navigator, 'mediaDevices', { value: undefined })"
    for change, words in (
        (fails.format("NotFoundError"), "No camera was found"),
        (fails.format("NotReadableError"), "in use by another program"),
        (gone, "has no access to a camera"),
    ):
        demo.page.evaluate(f"() => {{ {change}; }}")
        button(demo, "Take a photo with the camera").click()
        assert "open a photo instead" in wait_for_notice(demo, words)
        assert demo.page.locator(DIALOG).count() == 0


def test_a_picture_in_the_clipboard_is_pasted_by_a_button(visit):
    demo = visit(permissions=["clipboard-read", "clipboard-write"])
    address = demo.page.evaluate(
        """() => {
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [333, 222];
          const context = canvas.getContext("2d");
          context.fillStyle = "white";
          context.fillRect(0, 0, 333, 222);
          context.fillStyle = "red";
          context.fillRect(100, 60, 120, 100);
          return canvas.toDataURL("image/png");
        }"""
    )
    demo.page.evaluate(FILL_CLIPBOARD, address)
    button(demo, "Paste a photo from the clipboard").click()
    demo.page.wait_for_selector('.ms[data-title="pasted.png"][data-state=ready]')
    assert demo.photo_size == (333, 222)
    demo.click(160, 110)
    demo.wait_mask()
    assert demo.painted(160, 110)


def test_a_clipboard_without_a_picture_is_said_in_a_sentence(visit):
    demo = visit(permissions=["clipboard-read", "clipboard-write"])
    title = demo.data("title")
    for content in ("", "only words"):
        demo.page.evaluate("(text) => navigator.clipboard.writeText(text)", content)
        button(demo, "Paste a photo from the clipboard").click()
        assert "copy one first" in wait_for_notice(demo, "There is no picture in the clipboard")
        button(demo, "Close this message").click()
    assert demo.data("title") == title


def test_a_refused_clipboard_says_which_keys_paste(demo):
    button(demo, "Paste a photo from the clipboard").click()
    assert "Ctrl+V" in wait_for_notice(demo, "The clipboard was not allowed")


def test_the_camera_fits_on_a_phone(visit):
    demo = visit(permissions=["camera"], viewport={"width": 390, "height": 844}, has_touch=True)
    open_camera(demo)
    bounds = demo.page.locator(".ms-shutter").bounding_box()
    assert bounds["height"] >= 44
    assert bounds["x"] >= 0 and bounds["x"] + bounds["width"] <= 390
    assert bounds["y"] + bounds["height"] <= 844
    video = demo.page.locator(".ms-video").bounding_box()
    assert video["width"] > 340 and video["y"] + video["height"] <= bounds["y"]
