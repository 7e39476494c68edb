"""A bound on what one request may say, before anything of it is read into memory."""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 1_000_000  # of JSON: the page's largest message has a tenth of it
MAX_AGENT_BYTES = 5_000_000  # photos as text in JSON, of which mcp 1.30 takes 4 MiB
UPLOAD = re.compile(r"/gradio_api/upload/?$")  # has a bound of its own, max_file_size
AGENTS = re.compile(r"/gradio_api/mcp(/|$)")


class RequestLimit:
    """Answer requests that are too large with status 413, uploads aside.

    Gradio reads a request's JSON, and looks for files in it, where all visitors' events run: ten
    megabytes keep everybody waiting for a quarter of a minute.

    Args:
        app: What answers the others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count what comes of it."""
        if scope["type"] != "http" or UPLOAD.search(scope["path"]):
            await self.app(scope, receive, send)
            return
        most = MAX_AGENT_BYTES if AGENTS.search(scope["path"]) else MAX_BODY_BYTES
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise HTTPException(413, f"A request may have at most {most:,} bytes; send less.")
            return message

        await self.app(scope, counted, send)


def bounded_requests() -> dict[str, list[Middleware]]:
    """Return what `launch` takes as `app_kwargs`; new each time, since Gradio writes into it."""
    return {"middleware": [Middleware(RequestLimit)]}
