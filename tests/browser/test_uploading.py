"""A photo on its way to the server: how far it is, one after another, and what can go wrong."""

from __future__ import annotations

import re

import pytest

from tests.browser.demo_page import LOST
from tests.browser.pictures import disc, large_photo, phone_photo
from tests.browser.test_photos import EXAMPLES

SLOW = 400_000  # bytes a second


@pytest.fixture
def large(tmp_path):
    """A photo that needs some seconds at `SLOW`."""
    path = tmp_path / "large.jpg"
    large_photo(path, EXAMPLES / "coffee.jpg")
    assert path.stat().st_size > 2 * SLOW
    return path


def choose(demo, path):
    demo.page.set_input_files(".ms input[type=file]", str(path))


def test_it_is_shown_how_much_of_a_photo_is_there(demo, large):
    demo.page.evaluate(
        """() => {
          const busy = document.querySelector(".ms-busy span");
          window.seen = [];
          new MutationObserver(() => window.seen.push(busy.textContent))
            .observe(busy, { childList: true, characterData: true, subtree: true });
        }"""
    )
    told = demo.listen()
    demo.slow_uploads(SLOW)
    demo.open_file(large)
    seen = demo.page.evaluate("() => window.seen")
    shares = [int(number) for text in seen for number in re.findall(r"^Uploading… (\d+) %$", text)]
    assert len(set(shares)) >= 4
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 50
    assert shares[-1] == 100
    assert "Uploading…" in told()
    assert not any("%" in text for text in told())  # a screen reader would never end


@pytest.mark.parametrize("other", ["a file", "an example"])
def test_another_photo_stops_the_one_under_way(demo, large, tmp_path, other):
    stopped = []
    demo.page.on("requestfailed", lambda request: stopped.append(request.url))
    demo.slow_uploads(SLOW / 4)
    choose(demo, large)
    demo.page.get_by_text(re.compile(r"Uploading… \d+ %")).first.wait_for()
    small = tmp_path / "small.jpg"
    disc((300, 200), (100, 100), 50).save(small)
    if other == "a file":
        demo.open_file(small)
    else:
        demo.open_example("cat.jpg")
    assert [address.endswith("/upload") for address in stopped].count(True) == 1
    assert demo.data("title") == ("small.jpg" if other == "a file" else "cat.jpg")
    assert demo.notice == ""


def test_a_connection_that_is_silent_is_given_up(new_coffee, large):
    new_coffee.click(300, 200)
    new_coffee.wait_mask()
    new_coffee.page.clock.install()
    new_coffee.route("**/gradio_api/upload*", lambda route: None)  # never answered
    with new_coffee.page.expect_request("**/gradio_api/upload*"):
        choose(new_coffee, large)
    new_coffee.page.clock.fast_forward(50_000)
    assert new_coffee.page.locator(".ms-busy").is_visible()
    new_coffee.page.clock.fast_forward(20_000)
    said = "large.jpg could not be uploaded; check the connection and try again."
    new_coffee.page.locator(".ms-notice", has_text=said).wait_for()
    assert not new_coffee.page.locator(".ms-busy").is_visible()
    assert (new_coffee.data("title"), new_coffee.points) == ("coffee.jpg", [[300, 200, 1]])


def test_a_lost_connection_is_told_at_once_on_a_page_that_was_not_left_after_all(new_coffee, large):
    new_coffee.page.clock.install(time=0)
    new_coffee.page.evaluate("dispatchEvent(new Event('beforeunload'))")
    new_coffee.page.clock.pause_at(60)
    new_coffee.route("**/gradio_api/upload*", lambda route: route.abort())
    choose(new_coffee, large)
    new_coffee.page.locator(".ms-notice", has_text="check the connection and try again").wait_for()
    new_coffee.forgive(LOST)


@pytest.mark.parametrize("config", ["undefined", '{ root: "https://other.example" }'])
def test_a_page_that_does_not_know_where_to_lets_gradio_send(new_coffee, tmp_path, config):
    """So it is in a page that embeds the demo as a web component."""
    asked = []
    new_coffee.page.on(
        "request", lambda request: asked.append((request.resource_type, request.url))
    )
    new_coffee.page.evaluate(f"() => {{ window.gradio_config = {config}; }}")
    phone_photo(tmp_path / "mine.jpg")
    new_coffee.open_file(tmp_path / "mine.jpg")
    uploads = [kind for kind, url in asked if url.endswith("/gradio_api/upload")]
    assert uploads == ["fetch"]
    assert new_coffee.notice == ""


def test_a_photo_that_the_server_cannot_keep_leaves_the_one_before(coffee, tmp_path):
    coffee.click(300, 200)
    coffee.wait_mask()
    refusal = {"status": 500, "body": "Internal Server Error"}
    coffee.route("**/gradio_api/upload*", lambda route: route.fulfill(**refusal))
    phone_photo(tmp_path / "mine.jpg")
    coffee.page.set_input_files(".ms input[type=file]", str(tmp_path / "mine.jpg"))
    coffee.page.locator(".ms-notice", has_text="error 500").wait_for()
    said = "The server could not take mine.jpg (error 500); its disk may be full."
    assert coffee.notice == f"{said} Please try again later."
    assert (coffee.data("title"), coffee.points) == ("coffee.jpg", [[300, 200, 1]])
    coffee.forgive("status of 500")


def test_a_file_just_too_large_is_said_to_be_so(demo, tmp_path):
    path = tmp_path / "large.jpg"
    path.write_bytes(bytes(20_000_001))
    demo.page.set_input_files(".ms input[type=file]", str(path))
    assert demo.notice == "large.jpg has 20.1 MB, at most 20 MB can be taken: make it smaller."
