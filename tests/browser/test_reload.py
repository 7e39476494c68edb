"""The page loaded again, by the visitor or by Gradio after a lost connection: the work stays."""

from __future__ import annotations

import re
import time

import pytest

from tests.browser.demo_page import LOST, DemoPage, iou
from tests.browser.pictures import disc

CLIPBOARD = ["clipboard-read", "clipboard-write"]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "my disc ü.png"
    disc((320, 240), (160, 120), 60).save(path)
    return path


def loaded_again(demo, title):
    demo.reload()
    demo.page.wait_for_selector(f'.ms[data-title="{title}"][data-state=ready]')
    demo.wait_mask()


def kept_photos(demo):
    """How many photos the browser's database has."""
    return demo.page.evaluate(
        """() => new Promise((go) => {
          indexedDB.open("mobilesam").onsuccess = ({ target: { result } }) => {
            const photos = result.transaction("photos").objectStore("photos");
            photos.count().onsuccess = ({ target }) => go(target.result) || result.close();
          };
        })"""
    )


def without_ids(objects):
    return [{key: value for key, value in one.items() if key != "id"} for one in objects]


def test_an_own_photo_and_its_objects_survive_a_reload(demo, photo):
    demo.open_file(photo)
    demo.click(160, 120)
    demo.wait_mask()
    demo.action("new-object")
    demo.click(20, 20)
    demo.wait_mask()
    demo.page.get_by_role("button", name="Rename Object 2").click()
    demo.page.keyboard.type("Ground")
    demo.page.keyboard.press("Enter")
    before, mask = demo.objects, demo.saved_mask()
    demo.page.get_by_label("Opacity").fill("80")
    demo.page.get_by_role("tab", name="Everything").click()
    demo.page.get_by_role("radio", name="8×8").check()
    loaded_again(demo, photo.name)
    assert demo.data("tab") == "everything"
    assert demo.page.get_by_role("radio", name="8×8").is_checked()
    demo.page.get_by_role("tab", name="Segment").click()
    assert demo.page.get_by_text("80 %", exact=True).is_visible()
    assert without_ids(demo.objects) == without_ids(before)
    assert iou(demo.saved_mask(), mask) == 1
    assert demo.notice == ""
    demo.open_example("cat.jpg", keep_objects=True)
    demo.wait_mask()
    loaded_again(demo, "cat.jpg")
    demo.click(20, 280)  # an example's own objects are still a beginning: this is another one
    demo.wait_mask()
    assert [one["name"] for one in demo.objects] == ["Cat", "Object 2"]


@pytest.mark.parametrize("cuts_off_first", [False, True])
def test_a_photo_that_was_still_being_opened_is_named_after_a_reload(demo, photo, cuts_off_first):
    demo.click(560, 220)
    demo.wait_mask()
    uploads = []
    demo.route("**/upload*", lambda route: uploads.append(route))  # never answered
    with demo.page.expect_request("**/upload*"):
        demo.page.set_input_files(".ms input[type=file]", str(photo))
    if cuts_off_first:  # as Firefox does, which tells the page only later that it is left
        demo.page.evaluate("dispatchEvent(new Event('beforeunload'))")
        with demo.page.expect_event("requestfailed"):
            uploads[0].abort()
    demo.page.unroute("**/upload*")
    loaded_again(demo, "raccoon.jpg")
    assert demo.notice.startswith(f"{photo.name} was not open yet")
    demo.forgive(LOST)
    assert demo.points == [[560, 220, 1]]


def test_a_photo_that_this_browser_did_not_keep_is_asked_for(demo, photo):
    demo.open_file(photo)
    demo.click(160, 120)
    demo.wait_mask()
    demo.page.evaluate(
        "() => new Promise((go) => (indexedDB.deleteDatabase('mobilesam').onsuccess = go))"
    )
    loaded_again(demo, "raccoon.jpg")
    assert "could not be kept" in demo.notice
    demo.open_file(photo)
    demo.wait_mask()
    assert demo.points == [[160, 120, 1]]
    assert demo.notice == ""


def own_work(demo, photo):
    """Open a photo, make two objects, and choose another mask; returns the objects."""
    demo.open_file(photo)
    demo.click(160, 120)
    demo.wait_mask()
    demo.page.locator(".ms-candidate[aria-checked=false]").first.click()
    demo.action("new-object")
    demo.click(20, 20)
    demo.wait_mask()
    demo.page.get_by_role("button", name="Rename Object 2").click()
    demo.page.keyboard.type("Ground")
    demo.page.keyboard.press("Enter")
    return without_ids(demo.objects)


def gone_back(demo, title):
    before = demo.data("picture")  # may be of the same title
    demo.page.get_by_role("button", name="Back to my photo").press("Enter")
    is_back = f'.ms[data-title="{title}"][data-state=ready]:not([data-picture="{before}"])'
    demo.page.wait_for_selector(is_back)
    demo.wait_mask()
    assert demo.page.evaluate("document.activeElement.className") == "ms-stage"


def test_an_own_photo_with_objects_waits_while_examples_are_looked_at(demo, photo, tmp_path):
    objects, mask = own_work(demo, photo), demo.saved_mask()
    demo.open_example("cat.jpg")
    assert demo.notice.startswith(f"{photo.name} and its objects are set aside.")
    demo.page.get_by_label("Close this message").click()
    demo.open_example("coffee.jpg")  # said again
    demo.reload()
    gone_back(demo, photo.name)
    assert without_ids(demo.objects) == objects
    assert iou(demo.saved_mask(), mask) == 1
    assert demo.notice == ""
    other = tmp_path / "other.png"
    disc((200, 200), (100, 100), 50).save(other)
    demo.open_file(other)  # without objects: nothing to be kept
    demo.open_example("cat.jpg")
    gone_back(demo, photo.name)
    assert without_ids(demo.objects) == objects
    deadline = time.monotonic() + 30
    while kept_photos(demo) != 1:  # what no tab needs any more goes when all have been asked
        assert time.monotonic() < deadline
        demo.page.wait_for_timeout(100)


def test_another_theme_from_gradio_s_settings_keeps_the_work(demo, photo):
    objects = own_work(demo, photo)
    demo.page.get_by_role("button", name="Settings").click()
    with demo.page.expect_navigation():
        demo.page.get_by_text("Dark", exact=False).first.click()
    demo.page.wait_for_selector(f'body.dark .ms[data-title="{photo.name}"][data-state=ready]')
    demo.wait_mask()
    assert without_ids(demo.objects) == objects
    demo.start()  # an address that is typed begins anew
    assert demo.data("title") == "raccoon.jpg"


def test_an_own_photo_comes_back_with_empty_objects_and_the_steps_of_undo(demo, photo):
    objects = own_work(demo, photo)
    demo.action("new-object")
    demo.page.locator(".ms-swatch[data-color='#d55e00']").click()
    with_empty = without_ids(demo.objects)
    assert len(with_empty) == 3
    demo.open_example("cat.jpg")
    demo.click(200, 200)
    demo.wait_mask()
    gone_back(demo, photo.name)
    assert without_ids(demo.objects) == with_empty
    for _ in range(3):  # colour, new object, name
        demo.action("undo")
    assert [one["name"] for one in demo.objects] == ["Object 1", "Object 2"]
    demo.action("redo")
    demo.wait_mask()
    assert without_ids(demo.objects) == objects
    for _ in range(10):
        demo.page.keyboard.press("Control+z")
    assert demo.objects == []
    assert demo.page.locator("[data-action=undo]").get_attribute("aria-disabled") == "true"


def test_a_link_sets_an_own_photo_with_objects_aside(demo, photo):
    objects = own_work(demo, photo)
    follow = "(link) => { location.hash = link; }"
    demo.page.evaluate(follow, "#v=1&size=320x240&object=Other;1e90ff;+5,5")
    demo.page.get_by_text(f"The objects that {photo.name} had are set aside.").wait_for()
    demo.wait_mask()
    assert demo.points == [[5, 5, 1]]
    gone_back(demo, photo.name)
    assert without_ids(demo.objects) == objects
    link = "#v=1&example=cat.jpg&size=451x300&model=gone&object=Cat;1e90ff;+9,9"
    demo.page.evaluate(follow, link)
    demo.page.get_by_text("which is not on this server: another one answers.").wait_for()
    assert demo.notice.startswith(f"{photo.name} and its objects are set aside.")
    gone_back(demo, photo.name)
    assert without_ids(demo.objects) == objects


def test_a_duplicated_tab_leaves_the_photo_of_the_first_alone(demo, photo, twin, tmp_path):
    other = tmp_path / "other.png"
    disc((240, 160), (100, 80), 40).save(other)
    demo.open_file(photo)
    demo.click(160, 120)
    demo.wait_mask()
    demo.page.wait_for_function("() => sessionStorage['mobilesam.page'].includes('160,120')")
    with demo.page.context.expect_page() as opened:
        demo.page.evaluate("window.open(location.href)")  # it gets a copy of the tab's storage
    copy = DemoPage(opened.value, demo.page.url.split("#")[0].rstrip("/"))
    copy.page.wait_for_selector(f'.ms[data-title="{photo.name}"][data-state=ready]')
    copy.wait_mask()
    for path in (twin, other):  # the second takes the place of the first one set aside
        copy.open_file(path)
        copy.click(160, 120)
        copy.wait_mask()
    copy.page.wait_for_timeout(1500)  # other tabs have been asked
    copy.page.close()
    loaded_again(demo, photo.name)
    assert demo.points == [[160, 120, 1]]
    assert demo.notice == ""


def test_the_address_bar_shows_what_the_page_shows(visit):
    demo = visit(permissions=CLIPBOARD)
    demo.click(560, 220)
    demo.wait_mask()
    assert "#" not in demo.page.url  # a visitor's address stays short until a link is asked for
    demo.action("share")
    demo.page.wait_for_function("() => location.hash.includes('+560,220')")
    demo.open_example("cat.jpg")
    demo.click(250, 100)
    demo.page.wait_for_function("() => location.hash.includes('example=cat.jpg')")
    demo.page.wait_for_function("() => location.hash.includes('+250,100')")
    loaded_again(demo, "cat.jpg")
    assert demo.points == [[250, 100, 1]]


def test_nothing_is_given_up_while_there_is_no_connection(visit, photo):
    demo = visit(has_clock=True)
    demo.open_file(photo)
    demo.page.context.set_offline(True)
    demo.click(160, 120)
    demo.page.wait_for_selector(".ms-notice:has-text('There is no connection')")
    for _ in range(6):
        demo.page.clock.fast_forward(60_000)
        demo.page.wait_for_timeout(50)
    assert demo.notice.startswith("There is no connection")
    demo.page.context.set_offline(False)
    demo.wait_mask()
    assert demo.data("title") == photo.name
    assert demo.points == [[160, 120, 1]]
    assert demo.painted(160, 120)
    assert demo.notice == ""
    demo.forgive(LOST)


def test_a_photo_opened_right_after_a_reload_stays(demo, photo, twin):
    objects = own_work(demo, photo)
    demo.page.add_init_script(
        """const open = indexedDB.open.bind(indexedDB);
        window.wait = new Promise((go) => (window.goOn = go));
        IDBFactory.prototype.open = function (...names) {
          const asked = {};
          window.wait.then(() => {
            const real = open(...names);
            for (const what of ["onupgradeneeded", "onerror", "onsuccess"]) real[what] = () => {
              asked.result = real.result;
              asked[what]?.({ target: asked });
            };
          });
          return asked;
        };"""
    )
    demo.page.reload()
    demo.page.wait_for_selector(".ms-stage")
    hurry = demo.slow_uploads(1000)
    demo.page.set_input_files(".ms input[type=file]", str(twin))
    demo.page.get_by_text("Uploading…").first.wait_for()
    demo.page.evaluate("() => window.goOn()")
    demo.page.wait_for_timeout(300)
    hurry()
    demo.page.wait_for_selector(f'.ms[data-title="{twin.name}"][data-state=ready]')
    assert demo.objects == []
    gone_back(demo, photo.name)
    assert without_ids(demo.objects) == objects


@pytest.fixture
def twin(tmp_path):
    """Another photo of the same size in pixels as `photo`."""
    path = tmp_path / "twin.png"
    disc((320, 240), (60, 60), 40).save(path)
    return path


@pytest.mark.parametrize("other", ["an example", "a file"])
def test_a_photo_on_its_way_back_is_set_aside_for_another(demo, photo, twin, other):
    objects, mask = own_work(demo, photo), demo.saved_mask()
    hurry = demo.slow_uploads(1000)
    demo.page.reload()
    demo.page.get_by_text("Uploading…").first.wait_for()
    hurry()
    if other == "a file":
        demo.open_file(twin)
    else:
        demo.open_example("coffee.jpg", keep_objects=True)
    assert demo.notice.startswith(f"{photo.name} and its objects are set aside.")
    assert not {one["name"] for one in demo.objects} & {one["name"] for one in objects}
    demo.reload()
    gone_back(demo, photo.name)
    assert without_ids(demo.objects) == objects
    assert iou(demo.saved_mask(), mask) == 1


def test_going_back_can_be_tried_again(demo, photo, twin):
    objects = own_work(demo, photo)
    demo.open_example("coffee.jpg")
    demo.route("**/gradio_api/upload*", lambda route: route.abort())
    demo.page.get_by_role("button", name="Back to my photo").click()
    demo.page.get_by_text("check the connection and try again").wait_for()
    assert demo.data("title") == "coffee.jpg"
    demo.page.unroute("**/gradio_api/upload*")
    demo.forgive(LOST)
    demo.open_file(twin)
    assert demo.objects == []
    gone_back(demo, photo.name)
    assert without_ids(demo.objects) == objects


def test_objects_added_while_another_photo_is_on_its_way_back_are_set_aside(demo, photo, tmp_path):
    own_work(demo, photo)
    other = tmp_path / "other.png"
    disc((200, 200), (100, 100), 50).save(other)
    demo.open_file(other)
    demo.click(100, 100)
    demo.wait_mask()
    hurry = demo.slow_uploads(1000)
    demo.page.get_by_role("button", name="Back to my photo").click()
    demo.page.get_by_text("Uploading…").first.wait_for()
    demo.action("new-object")
    demo.click(10, 10)
    demo.wait_mask()
    objects = without_ids(demo.objects)
    hurry()
    demo.page.wait_for_selector(f'.ms[data-title="{photo.name}"][data-state=ready]')
    gone_back(demo, other.name)
    assert len(objects) == 2
    assert without_ids(demo.objects) == objects


def test_the_way_back_is_offered_again_after_another_message(demo, photo, tmp_path):
    objects = own_work(demo, photo)
    demo.open_example("coffee.jpg")
    offer = f"{photo.name} and its objects are set aside."
    demo.tool("box")
    demo.page.mouse.move(*demo.screen(100, 100))
    demo.page.mouse.down()
    demo.page.mouse.move(*demo.screen(200, 200), steps=4)
    demo.page.keyboard.press("Escape")  # the drag's
    demo.page.mouse.up()
    assert demo.notice.startswith(offer)
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    demo.page.set_input_files(".ms input[type=file]", str(empty))
    assert "0 bytes" in demo.notice
    assert demo.page.get_by_role("button", name="Back to my photo").is_hidden()
    demo.page.get_by_label("Close this message").click()
    assert demo.notice.startswith(offer)
    demo.page.get_by_label("Close this message").click()
    assert demo.notice == ""
    demo.open_example("cat.jpg")
    gone_back(demo, photo.name)
    assert without_ids(demo.objects) == objects


def lose_session(demo):
    """From now on the server does not know this visitor, as after a restart."""

    def as_stranger(route):
        body = route.request.post_data
        address = re.sub(r"(session_hash=\w+)", r"\1x", route.request.url)
        if body and '"session_hash"' in body:
            body = re.sub(r'("session_hash":\s*"\w+)"', r'\1x"', body)
        route.continue_(url=address, post_data=body)

    for kind in ("run", "queue"):
        demo.route(f"**/gradio_api/{kind}/**", as_stranger)


def test_a_lost_session_keeps_zoom_and_what_was_set_aside(demo, photo):
    objects = own_work(demo, photo)
    link = "#v=1&size=320x240&object=Other;1e90ff;+5,5"
    demo.page.evaluate("(link) => { location.hash = link; }", link)
    demo.page.get_by_text(f"The objects that {photo.name} had are set aside.").wait_for()
    demo.wait_mask()
    for _ in range(4):
        demo.action("zoom-in")
    zoom, before = demo.page.locator(".ms-zoom-fit").inner_text(), demo.data("picture")
    lose_session(demo)
    demo.click(160, 120)
    demo.page.wait_for_selector(f'.ms[data-state=ready]:not([data-picture="{before}"])')
    demo.wait_mask()
    assert demo.points == [[5, 5, 1], [160, 120, 1]]
    assert demo.page.locator(".ms-zoom-fit").inner_text() == zoom != "100 %"
    gone_back(demo, photo.name)
    assert without_ids(demo.objects) == objects


def test_a_photo_that_was_moved_on_the_disk_is_still_this_browser_s(demo, photo):
    own_work(demo, photo)
    kept = "() => new Promise((go) => setTimeout(go, 500))"  # its bytes are read
    demo.page.evaluate(kept)
    before = demo.data("picture")
    photo.unlink()
    lose_session(demo)
    demo.click(300, 20)
    demo.page.wait_for_selector(f'.ms[data-state=ready]:not([data-picture="{before}"])')
    demo.wait_mask()
    assert demo.objects[-1]["points"][-1] == [300, 20, 1]
    assert demo.notice == ""
