"""When Gradio's script stops listening just as the page sends something."""

from __future__ import annotations

import pytest

from tests.browser.everything_tab import EverythingTab
from tests.browser.traffic import Traffic

# Holds back the message that ends a stream of answers, once `holdsEnd` says so.
HOLD_END = """
window.fetch = ((fetch) => async (input, init) => {
  const answer = await fetch(input, init);
  if (!new URL(input.url ?? input, location.href).pathname.endsWith("/queue/data")) return answer;
  const body = answer.body.pipeThrough(new TransformStream({
    async transform(chunk, stream) {
      const text = new TextDecoder().decode(chunk);
      const end = window.holdsEnd ? text.indexOf('data: {"msg":"close_stream"') : -1;
      if (end < 0) return stream.enqueue(chunk);
      const pass = (part) => stream.enqueue(new TextEncoder().encode(part));
      pass(text.slice(0, end));
      await new Promise((letEnd) => Object.assign(window, { letEnd }));
      pass(text.slice(end));
    },
  }));
  return new Response(body, answer);
})(window.fetch);
"""


@pytest.fixture
def ending(visit):
    """A page with an answer out of the queue, which was not yet told that it was the last."""
    demo = visit(has_clock=True, script=HOLD_END)
    demo.click(250, 250)
    demo.wait_mask()
    demo.page.evaluate("window.holdsEnd = true")
    demo.download("mask")
    demo.page.wait_for_function("Boolean(window.letEnd)")
    return demo


def send_unheard(demo, send) -> None:
    """Send what goes into the queue; the stream that would bring the answer is over then."""
    with demo.page.expect_response("**/queue/join*") as joined:
        send()
    joined.value.finished()
    demo.page.wait_for_timeout(100)  # until Gradio's script has read the response, too
    demo.page.evaluate("window.holdsEnd = false; letEnd()")
    demo.page.clock.fast_forward(3500)


def test_a_photo_is_read(ending):
    send_unheard(ending, ending.page.locator('.ms-example[data-example="coffee.jpg"]').click)
    ending.page.wait_for_selector('.ms[data-title="coffee.jpg"][data-state=ready]')


def test_a_file_is_made(ending):
    with ending.page.expect_download() as saved:
        send_unheard(ending, ending.page.locator(".ms-save[data-save=mask]").click)
    assert saved.value.suggested_filename.endswith("-mask.png")


def test_a_busy_server_is_not_asked_again_and_again(visit):
    """Each of these would be one more in its queue, and a message where that is full."""
    demo = visit(has_clock=True)
    traffic = Traffic(demo)
    traffic.catch("encode_picture")
    demo.page.locator('.ms-example[data-example="coffee.jpg"]').click()
    traffic.wait_caught()
    for _ in range(12):
        demo.page.clock.fast_forward(3100)
    traffic.let_go()
    demo.page.wait_for_selector('.ms[data-title="coffee.jpg"][data-state=ready]')
    assert 1 <= traffic.sent["listen"] <= 4


def test_everything_is_found(ending):
    tab = EverythingTab(ending)
    tab.choose()
    send_unheard(ending, tab.start)
    ending.page.wait_for_function("Number(document.querySelector('.ms').dataset.found) > 0")
