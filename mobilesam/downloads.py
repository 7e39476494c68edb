"""Fetch one file: bounded in time, resumed, verified, and safe beside a second process.

The bytes go to `NAME.part` beside the target, and the target's own name appears only once their
SHA-256 is right: whatever carries that name is whole. `NAME.lock` is held through the kernel, so it
ends with its process, however that ends.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import filelock

from mobilesam.errors import is_disk_full
from mobilesam.files import sha256_of
from mobilesam.http_source import CutOffError, Source, SourceError, ask

LOGGER = logging.getLogger(__name__)

FREE_SPACE_MARGIN_BYTES = 16 * 1024 * 1024  # left to the machine when a download has ended
WORTH_A_TRY_BYTES = 1_000_000  # or a hundredth: a transfer that brought as much goes on
LOCK_POLL_SECONDS = 0.25  # how often a waiting process looks how far the other one has come
FIRST_SHARE = 0.6  # of the time to find an answering server, for an address that is not the last

Progress = Callable[[int, int], None]
"""Called with (bytes so far, bytes in all); the second is 0 while it is unknown."""


class DownloadError(RuntimeError):
    """A file could not be fetched; the message gives the reasons in words fit for a visitor."""


@dataclass(frozen=True)
class TimeLimits:
    """How long a download waits, and how often it takes up a broken transfer.

    Attributes:
        open_seconds: Until some server has begun to answer, all addresses together.
        stall_seconds: Without a single byte, once a transfer runs.
        resumes: How often a transfer that broke off is taken up again at one address, not counting
            those that brought a megabyte and a hundredth.
    """

    open_seconds: float = 4.0
    stall_seconds: float = 20.0
    resumes: int = 10


def fetch(
    urls: Sequence[str],
    target: Path,
    *,
    sha256: str,
    size_bytes: int | None = None,
    progress: Progress | None = None,
    limits: TimeLimits | None = None,
) -> Path:
    """Download `target` unless it is there, and return it.

    A second process that wants the same file waits for the first, as long as that one gets on, and
    takes over its result. A transfer that breaks off is taken up where it stopped, in this call or
    a later one, or started again where the server cannot continue it.

    Args:
        urls: Addresses to try in this order.
        target: The file to make; its folder is created when it is missing.
        sha256: What the file must be, 64 hexadecimal digits.
        size_bytes: Its exact size, where known: wrong offers are refused before their transfer.
        progress: Called after every piece. Without it a bar is drawn if stderr is a terminal.
        limits: How long to wait.

    Returns:
        `target`, whole and verified.

    Raises:
        DownloadError: No address supplied the file, another process that is at it receives
            nothing, or the disk is full or cannot be written.
    """
    limits = limits or TimeLimits()
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            _progress_or_bar(progress, target.name) as report,
            _locked(target, part, size_bytes or 0, report, limits) as deadline,
        ):
            if not (target.is_file() and _size_of(target)):  # one that is empty is none
                _Transfer(urls, part, sha256, size_bytes, report, limits, deadline).run()
                os.replace(part, target)
    except OSError as error:
        raise DownloadError(_disk_sentence(error, target, part)) from error
    return target


@dataclass
class _Transfer:
    """One file on its way: where it may come from, what it must be, how far it is."""

    urls: Sequence[str]
    part: Path
    sha256: str
    size_bytes: int | None
    progress: Progress
    limits: TimeLimits
    deadline: float  # for the next answer, monotonic seconds

    def run(self) -> None:
        """Complete and verify the temporary file from the first address that can supply it."""
        reasons: list[str] = []
        for url in self.urls:
            try:
                self._from_address(url)
                return
            except SourceError as error:
                host = urlsplit(url).netloc.rpartition("@")[2] or url
                reasons.append(f"{host} {error}")
                LOGGER.info(reasons[-1])
        raise DownloadError("; ".join(reasons))

    def _from_address(self, url: str) -> None:
        restarted = False
        broken_off = CutOffError("broke the transfer off too often")
        left = self.limits.resumes
        while left >= 0:
            offset = self._received_bytes()
            if offset != self.size_bytes:
                try:
                    offset = self._receive(url, offset)
                except CutOffError as error:
                    gained = self._received_bytes() - offset
                    if gained <= 0:
                        raise
                    broken_off = error
                    left -= gained < max(WORTH_A_TRY_BYTES, (self.size_bytes or 0) // 100)
                    continue
            digest = sha256_of(self.part)
            if digest == self.sha256:
                return
            self.part.unlink()
            if offset == 0 or restarted:
                message = f"sent a wrong file: its SHA-256 is {digest}, not {self.sha256}"
                raise SourceError(message)
            restarted = True  # an earlier run's bytes may be to blame: once more from the start
        raise broken_off

    def _received_bytes(self) -> int:
        """Return the size of the temporary file; one that is too large is dropped."""
        size = _size_of(self.part)
        if self.size_bytes is not None and size > self.size_bytes:
            self.part.unlink()
            return 0
        return size

    def _receive(self, url: str, offset: int) -> int:
        """Append what the address sends from `offset` on; return where that really began."""
        patience = max(0.0, self.deadline - time.monotonic())
        if url != self.urls[-1]:
            patience *= FIRST_SHARE
        with ask(url, offset, patience, self.limits.stall_seconds) as source:
            if source.start in (0, offset):
                try:
                    self._append(source)
                finally:
                    self.deadline = time.monotonic() + self.limits.open_seconds
                return source.start
        if offset == 0:
            raise SourceError("began in the middle of the file")
        self.part.unlink()  # the server cannot continue there: all of it once more
        return self._receive(url, 0)

    def _append(self, source: Source) -> None:
        if source.is_page:
            raise SourceError("sent a web page in place of the file")
        done = source.start or 0
        if source.total is not None and self.size_bytes not in (None, source.total):
            raise SourceError(f"offers {source.total:,} bytes, expected were {self.size_bytes:,}")
        total = source.total or self.size_bytes
        _require_free_space(self.part.parent, (total or 0) - done)
        with self.part.open("ab" if done else "wb") as file:
            while piece := source.read():
                file.write(piece)
                done += len(piece)
                if total is not None and done > total:
                    raise SourceError(f"sent more than the expected {total:,} bytes")
                self.progress(done, total or 0)
            file.flush()
            os.fsync(file.fileno())
        if total is not None and done < total:
            raise CutOffError(f"broke the transfer off after {done:,} of {total:,} bytes")


@contextlib.contextmanager
def _locked(
    target: Path, part: Path, total: int, report: Progress, limits: TimeLimits
) -> Iterator[float]:
    """Hold the target's lock; yield the deadline for the first server's answer.

    While another process has the lock, report how far that one is. The time in which it receives
    nothing is our own time to find a server, too: two that start without a network both know it
    as soon as one would.
    """
    lock = filelock.FileLock(target.with_name(f"{target.name}.lock"))
    deadline = time.monotonic() + limits.open_seconds
    received: int | None = None  # by the other process
    advances = False
    while not lock.is_locked:
        try:
            lock.acquire(timeout=LOCK_POLL_SECONDS)
        except filelock.Timeout:
            before, received = received, _size_of(part)
            if before is None:
                LOGGER.info("another process is downloading %s: waiting for it", target)
                moved = 0 < total == received  # all is there: it is being verified
            else:
                moved = received != before
            if moved:
                advances = True
                deadline = time.monotonic() + limits.stall_seconds
            if received:
                report(received, total)
            if time.monotonic() > deadline:
                message = "another process is downloading it, but receives nothing"
                raise DownloadError(message) from None
    try:
        yield time.monotonic() + limits.open_seconds if advances else deadline
    finally:
        lock.release()


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _require_free_space(folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes + FREE_SPACE_MARGIN_BYTES:
        raise OSError(errno.ENOSPC, f"{needed_bytes:,} bytes needed, {free_bytes:,} free")


def _disk_sentence(error: OSError, target: Path, part: Path) -> str:
    """Say what the disk refused; on a full one, give back what the transfer has taken."""
    if is_disk_full(error) or error.errno == errno.EFBIG:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        return f"the disk that holds {target.parent} is full ({error.strerror})"
    return f"{target.parent} cannot be written ({error.strerror or error})"


@contextlib.contextmanager
def _progress_or_bar(progress: Progress | None, name: str) -> Iterator[Progress]:
    """Yield the caller's callback, a bar for a terminal, or a callback that does nothing."""
    if progress is not None:
        yield progress
    elif sys.stderr is None or not sys.stderr.isatty():
        LOGGER.info("downloading %s", name)
        yield lambda done, total: None
    else:
        from tqdm import tqdm

        with contextlib.ExitStack() as stack:
            bars: list[tqdm] = []  # drawn with the first bytes, not while a server is sought

            def show(done: int, total: int) -> None:
                if not bars:
                    bar = tqdm(desc=name, total=total or None, unit="B", unit_scale=True)
                    bars.append(stack.enter_context(bar))
                bars[0].update(done - bars[0].n)

            yield show
