"""The official model's download, as the page tells of it."""

from __future__ import annotations

import re
import threading
from types import SimpleNamespace

import pytest

from mobilesam.checkpoints import CHECKPOINTS, CheckpointSource
from mobilesam.ui.models import ModelShelf
from tests.http_server import Answer, FlakyServer

SIZE_BYTES = 1_600_000
PAUSE_S = 0.1  # after every 16 KiB: 10 seconds in all
LISTEN = """() => {
  window.told = [];
  window.seen = [];
  const regions = "[role=status], [role=alert], [aria-live=polite], [aria-live=assertive]";
  const note = document.querySelector(".ms-model-note");
  new MutationObserver((changes) => {
    for (const { target } of changes) {
      const node = target.nodeType === Node.TEXT_NODE ? target.parentElement : target;
      if (node?.closest(regions)) window.told.push(node.closest(regions).textContent);
      if (note.contains(node)) window.seen.push(note.textContent);
    }
  }).observe(document.body, { childList: true, characterData: true, subtree: true });
}"""


@pytest.fixture
def fetching(empty_machine, launch, monkeypatch):
    """A page whose official model is just being fetched: other bytes than it has."""
    may_go_on = threading.Event()
    with FlakyServer() as server:
        answer = Answer(bytes(SIZE_BYTES), pause_s=PAUSE_S, held_by=may_go_on)
        url = server.serve("/mobile_sam.pt", answer)
        source = CheckpointSource("mobile_sam.pt", SIZE_BYTES, "0" * 64, (url,))
        monkeypatch.setitem(CHECKPOINTS, "mobile_sam", source)
        shelf = ModelShelf()
        address = launch(shelf)
        download = shelf.start_download()
        yield SimpleNamespace(url=address, may_go_on=may_go_on)
        may_go_on.set()
        download.join()


def test_a_download_is_told_at_its_beginning_and_at_its_end(fetching, visit):
    demo = visit(fetching.url)
    note = demo.page.locator(".ms-model-note")
    note.filter(has_text=re.compile(r"^Fetching the official MobileSAM: 25 %$")).wait_for()
    for _ in range(3):  # it goes on asking, though nothing is new
        demo.page.wait_for_event("request", lambda request: "/run/predict" in request.url)
    demo.page.evaluate(LISTEN)
    fetching.may_go_on.set()
    choice = demo.page.locator(".ms-select option").first.element_handle()
    assert note.get_by_role("status").inner_text() == "Fetching the official MobileSAM"
    end = "MobileSAM could not be fetched; this model answers."
    note.filter(has_text=end).wait_for()
    seen, told = demo.page.evaluate("() => [window.seen, window.told]")
    percents = [int(number) for text in seen for number in re.findall(r": (\d+) %$", text)]
    assert len(set(percents)) >= 2  # it goes on for the eye
    assert percents == sorted(percents)
    assert [text for text in told if "MobileSAM" in text] == [end]
    assert note.inner_text() == end
    assert choice.evaluate("(option) => option.isConnected")  # an open list of models stays open
