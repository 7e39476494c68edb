"""The official model's download, as the page tells of it."""

from __future__ import annotations

import re

import pytest

from mobilesam.checkpoints import CHECKPOINTS, CheckpointSource
from mobilesam.ui import LAUNCH_OPTIONS, build_demo
from mobilesam.ui.models import ModelShelf
from tests.browser.demo_server import free_port
from tests.http_server import Answer, FlakyServer

SIZE_BYTES = 1_600_000
PAUSE_S = 0.12  # after every 16 KiB: 12 seconds in all
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
def fetching(empty_machine, monkeypatch, tmp_path):
    """Address of a page whose official model is just being fetched: other bytes than it has.

    A test names it before `visit`, for the server to end after its visitors.
    """
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    with FlakyServer() as server:
        url = server.serve("/mobile_sam.pt", Answer(bytes(SIZE_BYTES), pause_s=PAUSE_S))
        source = CheckpointSource("mobile_sam.pt", SIZE_BYTES, "0" * 64, (url,))
        monkeypatch.setitem(CHECKPOINTS, "mobile_sam", source)
        shelf = ModelShelf()
        page = build_demo(models=shelf)
        _, address, _ = page.launch(
            server_port=free_port(), prevent_thread_lock=True, quiet=True, **LAUNCH_OPTIONS
        )
        download = shelf.start_download()
        yield address.rstrip("/")
        page.close()
        download.join()


def test_a_download_is_told_at_its_beginning_and_at_its_end(fetching, visit):
    demo = visit(fetching)
    note = demo.page.locator(".ms-model-note")
    note.filter(has_text=re.compile(r"^Fetching the official MobileSAM: \d+ %$")).wait_for()
    demo.page.evaluate(LISTEN)
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
