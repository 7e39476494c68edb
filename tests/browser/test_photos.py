"""Photos of all kinds: opened, refused, turned, large; downloads; clicks while encoding."""

from __future__ import annotations

import base64
import statistics
from pathlib import Path

import numpy as np
import pytest

from mobilesam import Predictor, load_model
from tests.browser.demo_page import DemoPage, iou
from tests.browser.pictures import broken_files, large_photo, odd_photos, phone_photo
from tests.browser.traffic import Traffic

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_page_offers_examples_and_says_what_to_do(demo):
    assert demo.page.locator(".ms-example").count() >= 6
    hint = demo.page.locator(".ms-hint")
    assert hint.is_visible()
    assert "Click what you want" in hint.inner_text()
    assert demo.page.locator(".ms-model-name").inner_text()


def test_an_example_s_photographer_is_named(demo, tmp_path):
    credit = demo.page.locator(".ms-credit")
    assert credit.inner_text().startswith("Photo: ")
    demo.open_example("dahlia.jpg")
    assert credit.inner_text() == "Photo: vultilion, CC BY 2.0"
    link = credit.get_by_role("link")
    assert link.get_attribute("href") == "https://www.flickr.com/photos/vultilion/6056698931/"
    phone_photo(tmp_path / "phone.jpg")
    demo.open_file(tmp_path / "phone.jpg")
    assert credit.inner_text() == ""


def test_a_rotated_phone_photo_has_its_mask_where_clicked(demo, tmp_path):
    path = tmp_path / "phone.jpg"
    size, center = phone_photo(path)
    demo.open_file(path)
    assert demo.photo_size == size
    demo.click(*center)
    demo.wait_mask()
    assert demo.painted(*center)
    mask = demo.saved_mask()
    assert mask.shape == size[::-1]
    assert mask[center[1], center[0]]
    predictor = Predictor(load_model("embedded"))
    result = predictor.candidates(predictor.encode(path), points=[center], labels=[1])
    assert iou(mask, result.mask(result.best)) >= 0.999


def test_the_photo_is_sharp_on_another_screen_with_more_pixels(demo):
    size = "width: 600px !important; height: 400px !important"  # so nothing else draws it again
    demo.page.add_style_tag(content=f".ms-stage {{ {size} }}")
    width = "document.querySelector('.ms-stage canvas').width"
    demo.page.wait_for_function(f"{width} === 600")
    screen = {"width": 1300, "height": 860, "deviceScaleFactor": 2, "mobile": False}
    client = demo.page.context.new_cdp_session(demo.page)
    client.send("Emulation.setDeviceMetricsOverride", screen)
    demo.page.wait_for_function(f"{width} === 1200")
    screen = {**screen, "width": 1280, "deviceScaleFactor": 1}
    client.send("Emulation.setDeviceMetricsOverride", screen)
    demo.page.wait_for_function(f"{width} === 600")


@pytest.mark.alone
def test_a_12_megapixel_photo_is_as_quick_as_a_small_one(visit, tmp_path):
    def paint_ms(page: DemoPage, across: float) -> float:
        width, height = page.photo_size
        page.click(int(across * width), int(0.5 * height))
        page.wait_mask()
        page.action("clear")
        return float(page.data("paint-ms"))

    path = tmp_path / "large.jpg"
    large_photo(path, EXAMPLES / "coffee.jpg")
    small, large = visit(), visit()
    small.open_example("coffee.jpg")
    large.open_file(path)
    assert large.photo_size == (4000, 3000)
    places = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
    pairs = [(paint_ms(small, across), paint_ms(large, across)) for across in places]
    extra = statistics.median(one - other for other, one in pairs)  # alike under any load
    assert extra < 0.6 * statistics.median(other for other, _ in pairs) + 80, pairs


def test_downloads_have_the_photos_own_size(demo, tmp_path):
    path = tmp_path / "large.jpg"
    large_photo(path, EXAMPLES / "coffee.jpg")
    demo.open_file(path)
    demo.click(1800, 1500)
    demo.wait_mask()
    mask, cutout, overlay = (demo.save(kind) for kind in ("mask", "cutout", "overlay"))
    assert {picture.size for picture in (mask, cutout, overlay)} == {(4000, 3000)}
    assert (mask.mode, cutout.mode, overlay.mode) == ("L", "RGBA", "RGB")
    inside = np.asarray(mask) == 255
    assert np.array_equal(np.asarray(cutout)[..., 3] == 255, inside)
    assert inside[1500, 1800]


@pytest.mark.parametrize("moment", ["encoding"])
def test_a_click_while_encoding_is_answered_when_it_can_be(demo, tmp_path, moment):
    path = tmp_path / "large.jpg"
    large_photo(path, EXAMPLES / "cat.jpg")
    demo.page.evaluate(
        """(moment) => {
          const root = document.querySelector(".ms");
          const stage = root.querySelector(".ms-stage");
          window.clickedWhile = null;
          new MutationObserver((_, observer) => {
            if (root.dataset.state !== moment) return;
            observer.disconnect();
            requestAnimationFrame(() => {
              window.clickedWhile = root.dataset.state;
              const { left, top, width, height } = stage.getBoundingClientRect();
              const place = { clientX: left + width / 2, clientY: top + height / 2 };
              const kind = { pointerId: 1, pointerType: "pen", bubbles: true, cancelable: true };
              const options = { ...place, ...kind };
              stage.setPointerCapture = () => {};
              stage.dispatchEvent(new PointerEvent("pointerdown", options));
              stage.dispatchEvent(new PointerEvent("pointerup", options));
              delete stage.setPointerCapture;
            });
          }).observe(root, { attributes: true });
        }""",
        moment,
    )
    demo.open_file(path)
    demo.wait_mask()
    assert demo.page.evaluate("window.clickedWhile") == moment
    assert len(demo.points) == 1
    assert demo.painted_share() > 0


def test_bad_files_keep_the_photo_and_the_prompts(demo, tmp_path):
    demo.open_example("coffee.jpg")
    demo.click(300, 200)
    demo.wait_mask()
    points, mask = demo.points, demo.saved_mask()
    for path in broken_files(tmp_path):
        demo.page.set_input_files(".ms input[type=file]", str(path))
        demo.page.wait_for_selector(".ms-notice:not([hidden])")
        demo.wait_ready()
        assert path.name in demo.notice, path.name
        assert "\n" not in demo.notice
        assert str(tmp_path) not in demo.notice
        assert demo.data("title") == "coffee.jpg"
        assert demo.points == points
        assert demo.painted(300, 200) == bool(mask[200, 300])
        demo.page.get_by_label("Close this message").click()
    demo.click(350, 220)
    demo.wait_mask()
    assert len(demo.points) == 2


def test_odd_photos_are_opened_and_answer(demo, tmp_path):
    for path, size in odd_photos(tmp_path).items():
        demo.open_file(path)
        assert demo.photo_size == size, path.name
        demo.click(size[0] // 2, size[1] // 2)
        demo.wait_mask()
        assert demo.saved_mask().shape == size[::-1], path.name
        assert demo.notice == ""
        demo.clear_objects()  # they would be set aside


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_photo_can_be_pasted_and_dropped(demo, tmp_path, way):
    path = tmp_path / f"{way}.jpg"
    phone_photo(path)
    demo.page.evaluate(
        """([way, name, data]) => {
          const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
          const target = document.querySelector(way === "paste" ? "body" : ".ms-stage");
          const options = { bubbles: true, cancelable: true };
          target.dispatchEvent(way === "paste"
            ? new ClipboardEvent("paste", { ...options, clipboardData: transfer })
            : new DragEvent("drop", { ...options, dataTransfer: transfer }));
        }""",
        [way, path.name, base64.b64encode(path.read_bytes()).decode()],
    )
    demo.page.wait_for_selector(f'.ms[data-title="{path.name}"][data-state=ready]')
    assert demo.photo_size == (600, 900)


def test_the_last_of_two_photos_opened_quickly_is_shown(demo):
    traffic = Traffic(demo)
    traffic.catch("open_picture")
    demo.page.locator('.ms-example[data-example="cat.jpg"]').click()
    traffic.wait_caught()
    traffic.wanted = ""  # the cat alone is held back
    demo.page.locator('.ms-example[data-example="coffee.jpg"]').click()
    (late,) = traffic.held
    with demo.page.expect_response(lambda answer: answer.request == late.request) as answer:
        traffic.let_go()
    answer.value.finished()
    demo.wait_frame()
    demo.page.wait_for_selector('.ms[data-title="coffee.jpg"][data-state=ready]')
    assert traffic.sent["open_picture"] == 2
    demo.click(300, 200)
    demo.wait_mask()
    assert (demo.data("title"), demo.photo_size) == ("coffee.jpg", (600, 400))


def test_a_new_photo_forgets_the_prompts(demo):
    demo.open_example("coffee.jpg")
    demo.click(300, 200)
    demo.wait_mask()
    demo.open_example("cat.jpg", keep_objects=True)
    assert [300, 200, 1] not in demo.points
    assert demo.page.locator("[data-action=undo]").is_disabled()
    demo.clear_objects()
    assert demo.painted_share() == 0
