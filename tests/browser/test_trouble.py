"""When the server is slow, silent, or late, and when names and files are odd."""

from __future__ import annotations

import base64
import copy
import re

import pytest

from mobilesam import load_model
from mobilesam.ui.models import ModelShelf
from tests.browser.pictures import phone_photo
from tests.browser.traffic import Traffic


def test_a_click_goes_on_after_the_server_was_silent_while_encoding(visit):
    demo = visit(has_clock=True)
    traffic = Traffic(demo)
    traffic.catch("encode_picture", drop=True)
    demo.page.locator('.ms-example[data-example="coffee.jpg"]').click()
    demo.page.wait_for_selector('.ms[data-title="coffee.jpg"][data-state=encoding]')
    for _ in range(8):
        demo.page.clock.fast_forward(130_000)
        if demo.data("state") == "failed":
            break
        demo.page.wait_for_timeout(100)
    assert demo.data("state") == "failed"
    assert "does not answer" in demo.notice
    traffic.let_go()
    demo.click(300, 200)
    demo.wait_mask()
    assert demo.notice == ""
    demo.forgive("503")  # what was dropped


def test_the_photo_before_comes_back_after_the_server_was_silent_while_opening(visit):
    demo = visit(has_clock=True)
    demo.click(250, 250)
    demo.wait_mask()
    traffic = Traffic(demo)
    traffic.catch("open_picture", drop=True)
    demo.page.locator('.ms-example[data-example="coffee.jpg"]').click()
    demo.page.wait_for_selector(".ms[data-state=opening]")
    for _ in range(8):
        demo.page.clock.fast_forward(85_000)
        if demo.data("state") != "opening":
            break
        demo.page.wait_for_timeout(100)
    assert demo.data("state") == "ready"
    assert "does not answer" in demo.notice
    traffic.let_go()
    demo.click(300, 300)
    demo.wait_mask()
    assert len(demo.points) == 2
    assert "does not answer" in demo.notice  # about the photo, not about the mask
    demo.open_example("coffee.jpg")
    assert demo.notice == ""
    demo.forgive("503")  # what was dropped


def test_a_refusal_survives_a_mask_that_arrives(coffee, tmp_path):
    traffic = Traffic(coffee)
    traffic.catch("ask_mask")
    coffee.click(300, 200)
    traffic.wait_caught()
    path = tmp_path / "empty.png"
    path.write_bytes(b"")
    coffee.page.set_input_files(".ms input[type=file]", str(path))
    assert "0 bytes" in coffee.notice
    traffic.let_go()
    coffee.wait_mask()
    assert "0 bytes" in coffee.notice
    coffee.open_example("cat.jpg")
    assert coffee.notice == ""


def test_an_empty_file_does_not_throw_away_the_photo_being_opened(demo, tmp_path):
    traffic = Traffic(demo)
    traffic.catch("open_picture")
    demo.page.locator('.ms-example[data-example="coffee.jpg"]').click()
    traffic.wait_caught()
    path = tmp_path / "empty.png"
    path.write_bytes(b"")
    demo.page.set_input_files(".ms input[type=file]", str(path))
    traffic.let_go()
    demo.page.wait_for_selector('.ms[data-title="coffee.jpg"][data-state=ready]')
    assert "0 bytes" in demo.notice


def test_a_search_without_a_word_is_asked_for_again_but_not_often(visit):
    demo = visit(has_clock=True)
    traffic = Traffic(demo)
    traffic.catch("start_everything")
    demo.page.locator("[role=tab][data-tab=everything]").click()
    demo.page.locator(".ms-found-start").click()
    traffic.wait_caught()
    demo.page.clock.fast_forward(45_000)  # others may be before it, for long
    assert "Others are searching" in demo.page.locator(".ms-found-status").inner_text()
    assert len(traffic.held) == 1
    traffic.held.clear()  # never answered
    demo.page.clock.fast_forward(20_000)
    traffic.wait_caught()
    traffic.let_go()
    demo.page.wait_for_selector(".ms[data-everything=done]")
    assert demo.page.locator(".ms-found-status").inner_text().startswith("Done")


@pytest.mark.parametrize("is_readable", [True, False])
def test_a_search_begun_while_a_photo_is_opened_is_for_what_is_shown_then(
    demo, tmp_path, is_readable
):
    path = tmp_path / "photo.jpg"
    phone_photo(path)
    if not is_readable:
        path.write_bytes(path.read_bytes()[:2000])
    demo.page.locator("[role=tab][data-tab=everything]").click()
    slider = demo.page.get_by_role("slider", name="Smallest area")
    slider.fill(slider.get_attribute("max"))
    asked = []
    demo.page.on("request", lambda request: asked.append(request.post_data or ""))
    traffic = Traffic(demo)
    traffic.catch("open_picture")
    demo.page.set_input_files(".ms input[type=file]", str(path))
    traffic.wait_caught()
    demo.page.locator(".ms-found-start").click()
    assert demo.page.locator(".ms-found-status").inner_text() == "Waiting for the photo…"
    traffic.let_go()
    demo.page.wait_for_selector(".ms[data-everything=done]")
    assert demo.page.locator(".ms-found-status").inner_text().startswith("Done")
    assert (demo.data("title") == "photo.jpg") == is_readable
    (smallest,) = re.findall(r'"min_area":\s*(\d+)', "".join(asked))
    width, height = demo.photo_size
    assert int(smallest) == int(0.05 * width * height)  # of that photo


def test_prompts_made_while_a_photo_is_read_and_cleared_again_do_no_harm(demo):
    traffic = Traffic(demo)
    traffic.catch("encode_picture")
    demo.page.locator('.ms-example[data-example="coffee.jpg"]').click()
    demo.page.wait_for_selector('.ms[data-title="coffee.jpg"][data-state=encoding]')
    traffic.wait_caught()
    demo.click(40, 40)
    demo.action("undo")
    traffic.let_go()
    demo.wait_ready()
    demo.click(40, 360)
    demo.wait_mask()
    assert len(demo.points) == 1


def test_candidates_not_yet_drawn_cannot_be_chosen(new_coffee):
    new_coffee.click(300, 200)
    new_coffee.wait_mask()
    new_coffee.page.evaluate(
        """() => {
          const decode = Image.prototype.decode;
          let count = 0;
          Image.prototype.decode = async function () {
            count += 1;
            if (count > 1) await new Promise((go) => setTimeout(go, 1500));
            return decode.call(this);
          };
        }"""
    )
    rev = new_coffee.data("rev")
    new_coffee.click(100, 300)
    new_coffee.page.wait_for_function(
        """(before) => {
          const { rev, paintedRev } = document.querySelector(".ms").dataset;
          return rev !== before && rev === paintedRev;
        }""",
        arg=rev,
    )
    new_coffee.page.locator(".ms-candidate").nth(1).click()
    new_coffee.page.locator(".ms-candidate").nth(2).click()
    assert new_coffee.painted_share() > 0
    new_coffee.wait_mask()
    assert new_coffee.objects[0]["choices"] == [None, None]
    assert new_coffee.page.locator(".ms-candidate").count() == 4


def test_an_object_selected_while_another_one_is_asked_about_has_its_own_candidates(coffee):
    coffee.click(300, 200)
    coffee.wait_mask()
    of_first = coffee.page.locator(".ms-candidates").inner_text()
    coffee.action("new-object")
    for across in range(100, 240, 20):  # what was decoded so long ago is forgotten
        coffee.click(across, 60)
        coffee.wait_mask()
    assert coffee.page.locator(".ms-candidates").inner_text() != of_first
    traffic = Traffic(coffee)
    traffic.catch("ask_mask")
    coffee.click(60, 350)
    traffic.wait_caught()
    coffee.page.locator(".ms-object [data-do=select]").first.click()
    coffee.page.locator(".ms-candidate", has_text="Whole").wait_for()
    coffee.page.wait_for_function(
        "(text) => document.querySelector('.ms-candidates').innerText === text", arg=of_first
    )
    coffee.page.locator(".ms-candidate[aria-checked=false]").first.click()
    assert coffee.objects[0]["choices"] != [None]
    traffic.let_go()
    coffee.wait_mask()


def test_an_object_selected_while_a_photo_is_uploaded_is_the_one_compared(coffee, tmp_path):
    coffee.click(300, 200)
    coffee.wait_mask()
    coffee.action("new-object")
    coffee.click(100, 100)
    coffee.wait_mask()
    first = coffee.objects[0]["id"]
    coffee.route("**/gradio_api/upload*", lambda route: None)  # never answered
    phone_photo(tmp_path / "mine.jpg")
    coffee.page.set_input_files(".ms input[type=file]", str(tmp_path / "mine.jpg"))
    coffee.page.get_by_text("Uploading…").first.wait_for()
    coffee.page.locator(".ms-object [data-do=select]").first.click()
    coffee.page.get_by_role("tab", name="Compare").click()
    with coffee.page.expect_request(lambda one: '"active"' in (one.post_data or "")) as asked:
        coffee.page.locator("#ms-compare-start").click()
    assert re.search(rf'"active":\s*{first}\b', asked.value.post_data)


def test_a_long_file_name_can_be_opened_and_saved(demo, tmp_path):
    path = tmp_path / ("n" * 240 + ".jpg")
    size, center = phone_photo(path)
    demo.page.set_input_files(".ms input[type=file]", str(path))
    demo.page.wait_for_selector('.ms[data-title^="nnn"][data-state=ready]')
    demo.click(*center)
    demo.wait_mask()
    assert demo.saved_mask().shape == size[::-1]


def test_files_dropped_beside_the_photo_are_opened_the_first_of_them(demo, tmp_path):
    path = tmp_path / "photo.jpg"
    phone_photo(path)
    is_taken = demo.page.evaluate(
        """(data) => {
          const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          for (const name of ["first.jpg", "second.jpg"]) {
            transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
          }
          const options = { bubbles: true, cancelable: true, dataTransfer: transfer };
          const over = document.body.dispatchEvent(new DragEvent("dragover", options));
          const drop = document.body.dispatchEvent(new DragEvent("drop", options));
          return !over && !drop;
        }""",
        base64.b64encode(path.read_bytes()).decode(),
    )
    assert is_taken
    demo.page.wait_for_selector('.ms[data-title="first.jpg"][data-state=ready]')
    assert "first of 2" in demo.notice


@pytest.fixture(scope="module")
def two_models(launch):
    """Address of a demo with two models, served by this process."""
    shelf = ModelShelf("embedded")
    model = copy.deepcopy(load_model("embedded"))
    model.name = "mobile_sam"  # a second one, of another name
    shelf._loader = lambda source, download: model
    shelf._add("mobile_sam")
    return launch(shelf)


def test_another_model_greys_the_mask_until_it_answers(two_models, visit):
    demo = visit(two_models)
    demo.open_example("coffee.jpg")
    demo.click(300, 200)
    demo.wait_mask()
    status = demo.page.locator(".ms-status")
    assert "Embedded" in status.inner_text()
    traffic = Traffic(demo)
    traffic.catch("encode_picture")
    demo.page.locator(".ms-select").select_option("mobile_sam")
    traffic.wait_caught()
    assert demo.page.locator(".ms.ms-stale").count() == 1
    assert "area" not in status.inner_text()
    assert "encoded" not in status.inner_text()
    traffic.let_go()
    demo.page.wait_for_selector(".ms:not(.ms-stale)")
    demo.wait_mask()
    assert status.inner_text().startswith("MobileSAM")
    assert "area" in status.inner_text()
    assert demo.saved_mask().any()


def test_a_search_that_another_model_ends_says_so(two_models, visit):
    demo = visit(two_models)
    demo.open_example("coffee.jpg")
    traffic = Traffic(demo)
    traffic.catch("start_everything")
    demo.page.locator("[role=tab][data-tab=everything]").click()
    demo.page.locator(".ms-found-start").click()
    traffic.wait_caught()
    demo.page.locator(".ms-model select").select_option("mobile_sam")
    status = demo.page.locator(".ms-found-status")
    assert status.inner_text() == "The search ended: another model was chosen."
    traffic.let_go()
    demo.page.wait_for_selector(".ms[data-state=ready]")
    assert demo.page.locator(".ms-found-start").is_visible()


def test_undo_after_another_model_was_chosen_keeps_no_choice_of_the_first(two_models, visit):
    demo = visit(two_models)
    demo.open_example("coffee.jpg")
    demo.click(300, 200)
    demo.wait_mask()
    demo.page.locator(".ms-candidate").last.click()
    demo.click(350, 230)
    demo.wait_mask()
    assert demo.objects[0]["choices"][0] is not None
    demo.page.locator(".ms-model select").select_option("mobile_sam")
    demo.wait_mask()
    demo.action("undo")
    demo.wait_mask()
    assert demo.points == [[300, 200, 1]]
    assert demo.objects[0]["choices"] == [None]
