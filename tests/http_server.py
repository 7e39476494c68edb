"""A web server on this machine that misbehaves as told: slow, silent, cut off, lying, absent."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """What one request for a file gets.

    Attributes:
        content: The file.
        status: 200 (206 where a range was asked for), or an error to answer with.
        cut_after: Close the connection after so many bytes of the body.
        reset: Cut off by a reset instead of a plain end.
        stall_after: Fall silent after so many bytes of the body.
        delay_s: Wait before answering at all.
        pause_s: Wait after every 16 KiB of the body.
        held_by: Send a quarter of the body, and after it but drops until this is set.
        announced_length: A Content-Length other than the true one.
        chunked: Send the body in chunks, without saying how long it is.
        ranges: "yes", "ignored" (the whole file again), "wrong" (other bytes than asked for) or
            "refused" (416).
        redirect: Send the client there instead.
        content_type: What the body is said to be.
    """

    content: bytes = b""
    status: int = 200
    cut_after: int | None = None
    reset: bool = False
    stall_after: int | None = None
    delay_s: float = 0.0
    pause_s: float = 0.0
    held_by: threading.Event | None = None
    announced_length: int | None = None
    chunked: bool = False
    ranges: str = "yes"
    redirect: str | None = None
    content_type: str = "application/octet-stream"


class FlakyServer:
    """Serves scripted answers on a free port of this machine, and remembers what was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str | None]] = []  # (path, Range header)
        self.closing = threading.Event()
        self._answers: dict[str, list[Answer]] = defaultdict(list)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )

    def __enter__(self) -> FlakyServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.socket.close()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def serve(self, path: str, *answers: Answer) -> str:
        """Give these answers in turn, the last one for good; return the address."""
        self._answers[path] = list(answers)
        return f"{self.origin}{path}"

    def ranges_of(self, path: str) -> list[str | None]:
        return [asked for name, asked in self.requests if name == path]

    def next_answer(self, path: str) -> Answer:
        answers = self._answers.get(path)
        if not answers:
            return Answer(status=404)
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        flaky = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                flaky.requests.append((self.path, asked))
                answer = flaky.next_answer(self.path)
                flaky.closing.wait(answer.delay_s)
                _send(self, answer, asked, flaky.closing)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def closed_port() -> int:
    """Return a port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _send(
    handler: BaseHTTPRequestHandler, answer: Answer, asked: str | None, closing: threading.Event
) -> None:
    if answer.redirect:
        handler.send_response(302)
        handler.send_header("Location", answer.redirect)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    if answer.status != 200:
        handler.send_error(answer.status)
        return
    total = len(answer.content)
    start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
    if asked and (answer.ranges == "refused" or start >= total):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{total}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    partial = asked is not None and answer.ranges != "ignored"
    if partial and answer.ranges == "wrong":
        start += 7
    body = answer.content[start:] if partial else answer.content
    handler.send_response(206 if partial else 200)
    handler.send_header("Content-Type", answer.content_type)
    if partial:
        handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
    if answer.chunked:
        handler.send_header("Transfer-Encoding", "chunked")
    else:
        length = len(body) if answer.announced_length is None else answer.announced_length
        handler.send_header("Content-Length", str(length))
    handler.end_headers()
    _send_body(handler, answer, body, closing)


def _send_body(
    handler: BaseHTTPRequestHandler, answer: Answer, body: bytes, closing: threading.Event
) -> None:
    ends = [end for end in (answer.cut_after, answer.stall_after) if end is not None]
    end = min([*ends, len(body)])
    begin = 0
    while begin < end:
        may_be_held = answer.held_by is not None and begin >= len(body) // 4
        size = 16 if may_be_held and not answer.held_by.wait(0.5) else 16384
        piece = body[begin : min(begin + size, end)]
        begin += size
        frame = b"%x\r\n%s\r\n" % (len(piece), piece) if answer.chunked else piece
        handler.wfile.write(frame)
        time.sleep(answer.pause_s)
    if answer.chunked and end == len(body):
        handler.wfile.write(b"0\r\n\r\n")
    handler.wfile.flush()
    if answer.stall_after is not None:
        closing.wait(30)
    if answer.reset:
        linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        time.sleep(0.05)
