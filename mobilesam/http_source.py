"""One address of a file on the web: asked within a time limit, read in pieces, failures in words.

Plain `urllib` carries the transfer because its waits can be bounded. The Hub's own client retries a
host it cannot find for about 23 s, and a visitor who waits for a page should not.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import re
import socket
import ssl
import threading
import urllib.error
import urllib.request
from email.message import Message
from functools import lru_cache
from http import HTTPStatus
from typing import IO

PIECE_BYTES = 256 * 1024


class SourceError(Exception):
    """One address cannot supply the file; the next one may. The text goes after the host's name."""


class CutOffError(SourceError):
    """The transfer stopped early; what has arrived is good for resuming."""


class Source:
    """An answered request: the body of a file, or of the rest of it.

    Attributes:
        start: Where in the file the body begins, in bytes; None if it cannot continue there.
        total: The whole file's size in bytes; None if the server does not say.
        is_page: Whether it is a web page, such as a hotel's log-in form.
    """

    def __init__(self, body: IO[bytes], status: int, headers: Message) -> None:
        self._body = body
        self.start: int | None = 0
        self.total: int | None = None
        self.is_page = headers.get_content_type() == "text/html"
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self.start = None
        elif status == HTTPStatus.PARTIAL_CONTENT:
            extent = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
            self.start = int(extent[1]) if extent else None
            self.total = int(extent[2]) if extent and extent[2] != "*" else None
        elif headers.get("Content-Length", "").isdecimal():
            self.total = int(headers["Content-Length"])

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._body.close()

    def read(self) -> bytes:
        """Return the next piece as soon as some of it is there, nothing at the end.

        Raises:
            CutOffError: The connection broke or fell silent.
        """
        try:
            return self._body.read1(PIECE_BYTES)  # type: ignore[attr-defined]
        except (OSError, http.client.HTTPException) as error:
            raise CutOffError(f"broke the transfer off: {_reason(error)}") from error


def ask(url: str, offset: int, open_seconds: float, stall_seconds: float) -> Source:
    """Request a file from `offset` bytes on, its name resolved and redirects followed.

    The request is made in a thread of its own, because looking up a name cannot be interrupted,
    only left behind.

    Args:
        url: An http or https address.
        offset: Bytes that are there already.
        open_seconds: Give up when no answer has begun by then, whatever the network does.
        stall_seconds: Give up later on when not a byte has come for so long.

    Raises:
        SourceError: No answer, or one that is not the file.
    """
    headers = {"User-Agent": "mobilesam", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    answers: queue.Queue[Source | Exception] = queue.Queue(1)

    def request_it() -> None:
        try:
            handler = urllib.request.HTTPSHandler(context=_tls_context())
            opener = urllib.request.build_opener(handler)
            request = urllib.request.Request(url, headers=headers)
            response = opener.open(request, timeout=stall_seconds)
            answers.put(Source(response, response.status, response.headers))
        except urllib.error.HTTPError as error:
            refused = error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset
            answers.put(Source(error, error.code, error.headers) if refused else error)
        except Exception as error:
            answers.put(error)

    threading.Thread(target=request_it, name="mobilesam-download", daemon=True).start()
    try:
        answer = answers.get(timeout=open_seconds)
    except queue.Empty:
        raise SourceError(f"did not answer within {open_seconds:.1f} s") from None
    if isinstance(answer, Exception):
        raise SourceError(_reason(answer)) from answer
    return answer


@lru_cache
def _tls_context() -> ssl.SSLContext:
    """Trust what the system trusts, and certifi's list for a Python that came without one."""
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _reason(error: Exception) -> str:
    """Say in a few words why a request failed."""
    if isinstance(error, urllib.error.HTTPError):
        with error:
            return f"answered {error.code} ({error.reason})"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, socket.gaierror):
        return "cannot be found (no network, or no name server)"
    if isinstance(reason, TimeoutError):
        return "stopped answering"
    if isinstance(reason, ConnectionRefusedError):
        return "refused the connection"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"has a certificate that cannot be verified ({reason.verify_message})"
    return f"cannot be reached ({str(reason) or type(reason).__name__})"
