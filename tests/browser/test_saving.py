"""Files that take long to make or cannot be made at once: what the visitor does meanwhile."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mobilesam.ui import saving
from mobilesam.ui.models import ModelShelf
from tests.browser.demo_page import iou
from tests.browser.pictures import phone_photo
from tests.browser.traffic import Traffic


@pytest.fixture(scope="module")
def two_models(launch):
    """Address of a demo with two models, served by this process."""
    models = ModelShelf("embedded")
    models._add("embedded_student")
    return launch(models)


@pytest.fixture
def slow(monkeypatch, two_models):
    """That demo, while it makes no file before it may."""
    begun, may_go_on, export = threading.Semaphore(0), threading.Event(), saving.export

    def wait_and_export(*args, **options):
        begun.release()
        assert may_go_on.wait(60)
        return export(*args, **options)

    monkeypatch.setattr(saving, "export", wait_and_export)
    monkeypatch.setattr(saving, "TELL_EVERY_S", 0.2)
    yield SimpleNamespace(url=two_models, begun=begun, may_go_on=may_go_on)
    may_go_on.set()


def ready_to_save(visit, slow, has_clock=False):
    """A visitor whose photo has a mask, and whose time the test may let pass."""
    demo = visit(slow.url, has_clock=has_clock)
    demo.open_example("coffee.jpg")
    demo.click(300, 200)
    demo.wait_mask()
    return demo


def save(demo, kind):
    demo.page.locator(f".ms-save[data-save={kind}]").click()


def open_cat(demo):
    demo.open_example("cat.jpg")


def choose_student(demo):
    demo.page.locator(".ms-select").select_option("embedded_student")
    demo.page.wait_for_selector(".ms[data-state=encoding]")
    demo.wait_ready()


CHANGES = [(open_cat, "photo was opened"), (choose_student, "model was chosen")]


@pytest.mark.parametrize(("change", "why"), CHANGES)
def test_a_file_being_made_comes_though_the_page_shows_something_else(slow, visit, change, why):
    demo = ready_to_save(visit, slow)
    save(demo, "zip")
    assert slow.begun.acquire(timeout=30)
    save(demo, "mask")  # has to wait for the ZIP
    change(demo)
    assert f"Mask of coffee.jpg could not be made: another {why}." in demo.notice
    assert demo.page.get_by_text("Making ZIP of coffee.jpg…").first.is_visible()
    demo.click(40, 40)
    demo.wait_mask()
    save(demo, "zip")  # of what is shown now
    assert demo.page.get_by_text("Making ZIP of coffee.jpg, then ZIP…").first.is_visible()
    said = demo.listen()
    arrived = []
    demo.page.on("download", lambda one: arrived.append(one.suggested_filename))
    with demo.page.expect_event("download", lambda _: len(arrived) == 2):
        slow.may_go_on.set()
    assert [text for text in said() if "saved" in text] == [
        "ZIP of coffee.jpg saved. Making ZIP…",
        "ZIP saved.",
    ]
    second = "cat-masks.zip" if change is open_cat else "coffee-masks.zip"
    assert arrived == ["coffee-masks.zip", second]


@pytest.mark.parametrize(("change", "why"), CHANGES)
def test_a_file_that_can_no_longer_be_made_is_told_of(slow, visit, change, why):
    demo = ready_to_save(visit, slow)
    traffic = Traffic(demo)
    traffic.catch("save_result")
    save(demo, "zip")
    traffic.wait_caught()
    change(demo)
    assert demo.notice == ""  # it may still come
    traffic.let_go()  # too late: the server has another photo, or its embedding of another model
    told = f"ZIP of coffee.jpg could not be made: another {why}."
    demo.page.locator(".ms-notice", has_text=told).wait_for()
    assert demo.page.locator(".ms-making").count() == 0


def test_a_file_asked_for_while_a_photo_is_opened_comes_when_that_fails(slow, visit, tmp_path):
    demo = ready_to_save(visit, slow)
    slow.may_go_on.set()
    path = tmp_path / "photo.jpg"
    phone_photo(path)
    path.write_bytes(path.read_bytes()[:2000])
    traffic = Traffic(demo)
    traffic.catch("open_picture")
    demo.page.set_input_files(".ms input[type=file]", str(path))
    traffic.wait_caught()
    with demo.page.expect_download() as waiting:
        save(demo, "mask")
        traffic.let_go()
    assert waiting.value.suggested_filename == "coffee-mask.png"


def test_a_file_that_waits_for_a_mask_comes_though_the_click_is_undone(slow, visit):
    demo = ready_to_save(visit, slow)
    slow.may_go_on.set()
    traffic = Traffic(demo)
    traffic.catch("ask_mask")
    demo.click(60, 350)
    traffic.wait_caught()
    with demo.page.expect_download() as waiting:
        save(demo, "mask")
        demo.action("undo")
    assert waiting.value.suggested_filename == "coffee-mask.png"
    traffic.let_go()


def pass_time(demo, seconds):
    """Let the page's time pass, with what it hears from the server meanwhile."""
    for _ in range(seconds // 40):
        demo.page.clock.fast_forward(40_000)
        demo.page.wait_for_timeout(1000)


def test_a_file_waits_for_others_however_long_they_take(slow, visit):
    first = ready_to_save(visit, slow, has_clock=True)
    second = ready_to_save(visit, slow, has_clock=True)
    save(first, "zip")
    assert slow.begun.acquire(timeout=30)
    said = second.listen()
    save(second, "mask")
    second.page.get_by_text("Others first, then Mask…").first.wait_for()
    assert said() == ["Making Mask…", "Others first, then Mask…"]
    pass_time(first, 200)
    pass_time(second, 200)
    assert (first.notice, second.notice) == ("", "")
    assert first.page.get_by_text("Making ZIP…").first.is_visible()
    second.open_example("cat.jpg")  # what waits is of the photo before all the same
    with first.page.expect_download() as one, second.page.expect_download() as other:
        slow.may_go_on.set()
    assert one.value.suggested_filename == "coffee-masks.zip"
    assert other.value.suggested_filename == "coffee-mask.png"
    assert second.notice == ""


def test_a_file_whose_request_was_lost_is_asked_for_again(slow, visit):
    demo = ready_to_save(visit, slow, has_clock=True)
    slow.may_go_on.set()
    traffic = Traffic(demo)
    traffic.catch("save_result", drop=True)
    save(demo, "mask")
    demo.page.wait_for_timeout(500)
    traffic.let_go()
    with demo.page.expect_download():
        demo.page.clock.fast_forward(61_000)
    assert demo.notice == ""
    traffic.catch("save_result", drop=True)
    save(demo, "mask")
    for _ in range(2):
        demo.page.wait_for_timeout(500)
        assert demo.page.get_by_text("Making Mask…").first.is_visible()
        demo.page.clock.fast_forward(121_000)
    assert demo.notice == "The file could not be made; please try again."
    demo.forgive("503")


def test_a_file_asked_for_twice_is_made_once(slow, visit):
    demo = ready_to_save(visit, slow, has_clock=True)
    slow.may_go_on.set()
    traffic = Traffic(demo)
    traffic.catch("save_result")
    save(demo, "mask")
    traffic.wait_caught()
    demo.page.clock.fast_forward(61_000)  # the second request waits for the first one's answer
    with demo.page.expect_download():
        traffic.let_go()
    for _ in range(40):
        if traffic.sent["save_result"] == 2:
            break
        demo.page.wait_for_timeout(50)
    assert traffic.sent["save_result"] == 2
    demo.page.wait_for_timeout(500)
    assert slow.begun.acquire(timeout=1)
    assert not slow.begun.acquire(blocking=False)


def test_the_file_of_a_visitor_who_has_left_is_not_made(slow, visit):
    first, second = ready_to_save(visit, slow), ready_to_save(visit, slow)
    save(first, "mask")
    assert slow.begun.acquire(timeout=30)
    save(second, "zip")
    second.page.get_by_text("Others first, then ZIP…").first.wait_for()
    second.page.close()
    first.page.wait_for_timeout(1500)
    with first.page.expect_download():
        slow.may_go_on.set()
    assert not slow.begun.acquire(timeout=1)


def test_a_save_reads_the_photo_again_after_that_failed(launch, visit):
    # each visitor's embedding goes with the next one's request
    url = launch(ModelShelf("embedded"), budget_bytes=1)
    demo = visit(url, has_clock=True)
    demo.open_example("coffee.jpg")
    demo.click(300, 200)
    demo.wait_mask()
    visit(url).open_example("cat.jpg")
    traffic = Traffic(demo)
    traffic.catch("encode_picture", drop=True)
    demo.click(60, 350)
    demo.page.wait_for_selector(".ms[data-state=encoding]")
    for _ in range(8):
        demo.page.wait_for_timeout(200)
        demo.page.clock.fast_forward(130_000)
        if demo.data("state") == "failed":
            break
    assert "does not answer" in demo.notice
    traffic.let_go()
    with demo.page.expect_download() as waiting:
        save(demo, "mask")
    assert demo.notice == ""
    with Image.open(waiting.value.path()) as picture:
        expected = np.asarray(picture) == 255
    demo.wait_mask()
    assert demo.points == [[300, 200, 1], [60, 350, 1]]
    assert iou(demo.saved_mask(), expected) == 1
    demo.forgive("503")  # what was dropped


def test_a_save_asks_for_masks_that_were_given_up(visit):
    demo = visit(has_clock=True)
    demo.open_example("coffee.jpg")
    demo.click(300, 200)
    demo.wait_mask()
    traffic = Traffic(demo)
    traffic.catch("ask_mask", drop=True)
    demo.click(320, 220)
    for _ in range(12):
        demo.page.wait_for_timeout(100)
        demo.page.clock.fast_forward(30_000)
        if demo.notice:
            break
    assert "does not answer" in demo.notice
    traffic.let_go()
    with demo.page.expect_download():
        save(demo, "mask")
    demo.wait_mask()
    assert demo.notice == ""
    demo.forgive("503")  # what was dropped


def test_a_download_is_what_was_on_the_screen(coffee):
    coffee.click(300, 200)
    coffee.wait_mask()
    expected = coffee.saved_mask()
    traffic = Traffic(coffee)
    traffic.catch("save_result")
    with coffee.page.expect_download() as waiting:
        coffee.page.locator(".ms-save[data-save=mask]").click()
        traffic.wait_caught()
        coffee.click(60, 350)
        coffee.click(520, 60)
        coffee.wait_mask()
        traffic.let_go()
    with Image.open(waiting.value.path()) as picture:
        assert iou(np.asarray(picture) == 255, expected) == 1
    coffee.click(100, 100)
    coffee.wait_mask()
    assert traffic.sent["save_result"] == 1  # the clicks meanwhile did not ask for it again
    assert iou(coffee.saved_mask(), expected) < 1


def test_two_downloads_are_made_one_after_the_other(coffee):
    page = coffee.page
    coffee.click(300, 200)
    coffee.wait_mask()
    expected = coffee.saved_mask()
    heard = coffee.listen()
    traffic = Traffic(coffee)
    traffic.catch("save_result")
    arrived = []
    page.on("download", lambda one: arrived.append(one))
    page.get_by_label("Save ZIP").click()
    traffic.wait_caught()
    page.get_by_label("Save Mask").click()
    assert page.get_by_text("Making ZIP, then Mask…").first.is_visible()
    coffee.click(60, 350)  # is in neither
    coffee.wait_mask()
    with page.expect_download(lambda one: one.suggested_filename.endswith(".png")):
        traffic.let_go()
    assert [one.suggested_filename for one in arrived] == ["coffee-masks.zip", "coffee-mask.png"]
    with Image.open(arrived[1].path()) as picture:
        assert iou(np.asarray(picture) == 255, expected) == 1
    said = [text for text in heard() if "saved" in text or "Making" in text]
    assert said == [
        "Making ZIP…",
        "Making ZIP, then Mask…",
        "ZIP saved. Making Mask…",
        "Mask saved.",
    ]
    assert page.get_by_text("600 × 400").is_visible()


def test_a_download_waits_for_the_mask_under_way(coffee):
    coffee.click(300, 200)
    coffee.wait_mask()
    traffic = Traffic(coffee)
    traffic.catch("ask_mask")
    coffee.click(60, 350)
    traffic.wait_caught()
    button = coffee.page.locator(".ms-save[data-save=mask]")
    with coffee.page.expect_download() as waiting:
        button.click()
        assert button.get_attribute("aria-busy") == "true"
        traffic.let_go()
    with Image.open(waiting.value.path()) as picture:
        assert iou(np.asarray(picture) == 255, coffee.saved_mask()) == 1
