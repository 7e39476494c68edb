"""Several processes or threads want the same file: one fetches it, nobody waits in vain."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import filelock
import pytest
from http_server import FlakyServer

from mobilesam import downloads
from mobilesam.downloads import DownloadError
from tests.transfers import (
    CONTENT,
    GOOD,
    QUICK,
    SHA256,
    get,
    only_the_file,
    part_of,
)


def in_another_process(url: str, target: Path) -> subprocess.Popen[str]:
    """Start `fetch` in a process of its own, without the package's heavy imports."""
    code = f"""
import sys, types
package = types.ModuleType("mobilesam")
package.__path__ = [{str(Path(downloads.__file__).parent)!r}]
sys.modules["mobilesam"] = package
from pathlib import Path
from mobilesam.downloads import fetch
fetch([{url!r}], Path({str(target)!r}), sha256={SHA256!r}, size_bytes={len(CONTENT)})
print("done")
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def wait_until_begun(target: Path) -> None:
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        if part_of(target).exists() and part_of(target).stat().st_size:
            return
        time.sleep(0.01)
    raise TimeoutError("the other process has not begun")


def test_two_processes_share_one_transfer(server: FlakyServer, tmp_path: Path) -> None:
    target = tmp_path / "model.pt"
    url = server.serve("/model.pt", replace(GOOD, pause_s=0.03))
    other = in_another_process(url, target)
    wait_until_begun(target)
    told: list[tuple[int, int]] = []
    get(target, url, progress=lambda *step: told.append(step))
    assert other.communicate(timeout=10)[0] == "done\n"
    assert only_the_file(target)
    assert len(server.requests) == 1
    assert told  # how far the other one was
    assert all(total == len(CONTENT) for _, total in told)


def test_two_that_start_without_a_network_both_know_it_in_time(
    server: FlakyServer, tmp_path: Path
) -> None:
    """The second one's time runs while it waits for the first: not twice four seconds."""
    url = server.serve("/model.pt", replace(GOOD, delay_s=60))
    limits = replace(QUICK, open_seconds=1.0, stall_seconds=5.0)
    seconds, messages = [], []

    def start() -> None:
        started = time.monotonic()
        with pytest.raises(DownloadError) as caught:
            get(tmp_path / "model.pt", url, limits=limits)
        seconds.append(time.monotonic() - started)
        messages.append(str(caught.value))

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join(30)
    assert len(messages) == 2
    assert seconds[1] < 1.8 * seconds[0]
    assert "did not answer" in messages[0] or "receives nothing" in messages[0]


def test_another_process_that_receives_nothing_is_not_waited_for(tmp_path: Path) -> None:
    target = tmp_path / "model.pt"
    part_of(target).write_bytes(CONTENT[:1000])  # an earlier run's
    with (
        filelock.FileLock(target.with_name("model.pt.lock"), is_singleton=False),
        pytest.raises(DownloadError, match="another process is downloading it, but receives noth"),
    ):
        get(target, "http://127.0.0.1:1/m.pt", limits=replace(QUICK, open_seconds=0.3))
    assert part_of(target).stat().st_size == 1000


def test_a_process_that_died_blocks_nobody(server: FlakyServer, tmp_path: Path) -> None:
    target = tmp_path / "model.pt"
    url = server.serve("/model.pt", replace(GOOD, stall_after=100_000), GOOD)
    other = in_another_process(url, target)
    wait_until_begun(target)
    while part_of(target).stat().st_size < 100_000:  # buffered: the rest comes with the next piece
        if part_of(target).stat().st_size >= 65_536:
            break
        time.sleep(0.01)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    left = part_of(target).stat().st_size
    get(target, url)
    assert only_the_file(target)
    assert server.ranges_of("/model.pt") == [None, f"bytes={left}-"]


def test_two_threads_share_one_transfer(server: FlakyServer, tmp_path: Path) -> None:
    target = tmp_path / "model.pt"
    url = server.serve("/model.pt", replace(GOOD, pause_s=0.01))
    threads = [threading.Thread(target=get, args=(target, url)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert only_the_file(target)
    assert len(server.requests) == 1
