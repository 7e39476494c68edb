"""Serve the MobileSAM demo: `python app.py`, then open the address it prints."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from mobilesam.errors import INTERRUPTED
from mobilesam.files import open_closed_streams
from mobilesam.machine import bound_threads

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

LOCALHOST = "127.0.0.1"
FAILED = 1  # exit status


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--host",
        default=None,
        help=f"address to listen on (default: GRADIO_SERVER_NAME, else {LOCALHOST})",
    )
    parser.add_argument(
        "--port", type=port_number, default=None, help="port (default: 7860, or the next free one)"
    )
    parser.add_argument("--share", action="store_true", help="ask Gradio for a public link")
    parser.add_argument(
        "--model", default=None, help="model that answers (see python -m mobilesam models)"
    )
    parser.add_argument("--checkpoint", default=None, help="checkpoint file to use instead")
    parser.add_argument(
        "--backend",
        default=None,
        help="what encodes pictures: torch, onnxruntime or openvino (default: the fastest that is"
        " installed; PyTorch until it is ready)",
    )
    parser.add_argument(
        "--no-download", action="store_true", help="do not fetch the official checkpoint"
    )
    parser.add_argument(
        "--mcp", action="store_true", help="offer the page's endpoints to agents as MCP tools, too"
    )
    return parser.parse_args()


def main() -> None:
    """Build the page and serve it until interrupted."""
    open_closed_streams()
    bound_threads()
    arguments = parse_arguments()
    if arguments.mcp and find_spec("mcp") is None:
        raise SystemExit("app.py: --mcp needs the package mcp; install it: pip install '.[mcp]'")
    host = arguments.host or os.environ.get("GRADIO_SERVER_NAME", LOCALHOST)
    check_address(host, arguments.port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it as Ctrl+C does
    try:
        serve(arguments)
    except KeyboardInterrupt:
        leave("interrupted", INTERRUPTED)
    end(0)


def serve(arguments: argparse.Namespace) -> None:
    """Build the page and serve it; what takes long to import is imported here."""
    avoid_the_folder_of_others()
    from mobilesam.checkpoints import CheckpointError
    from mobilesam.ui import LAUNCH_OPTIONS, build_demo
    from mobilesam.ui.page_files import sweep
    from mobilesam.ui.request_limit import bounded_requests

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("mobilesam.ui").setLevel(logging.INFO)  # says which backend answers
    try:
        demo = build_demo(
            arguments.model,
            arguments.checkpoint,
            fetch_official=not arguments.no_download,
            backend=arguments.backend,
        )
        try:
            demo.launch(
                server_name=arguments.host,
                server_port=arguments.port,
                share=arguments.share,
                mcp_server=arguments.mcp or None,  # None: as Gradio's environment variable says
                app_kwargs=bounded_requests(),
                **LAUNCH_OPTIONS,
            )
        finally:
            sweep(demo, max_age_s=0)  # Gradio does not wait for it while a page is open
    except (CheckpointError, ValueError, OSError) as error:
        nothing_asked = isinstance(error, CheckpointError) and not (
            arguments.model or arguments.checkpoint
        )
        leave(f"{error} To serve without it: --model embedded." if nothing_asked else str(error))


def avoid_the_folder_of_others() -> None:
    """Keep files elsewhere where another user of this machine has made Gradio's usual folder."""
    if sys.platform == "win32" or "GRADIO_TEMP_DIR" in os.environ:
        return
    usual = Path(tempfile.gettempdir()) / "gradio"
    if usual.exists() and not os.access(usual, os.W_OK | os.X_OK):
        os.environ["GRADIO_TEMP_DIR"] = f"{usual}-{os.getuid()}"


def port_number(text: str) -> int:
    """Read a port from the command line."""
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError(f"expected 1 to 65535, got {text!r}")
    return int(text)


def check_address(host: str, port: int | None) -> None:
    """Leave with a sentence if nothing can listen there, before anything that takes long.

    Without a port only the host is looked at: Gradio would try a hundred ports of a wrong one.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no host has such a name"
        place = host if port is None else f"{host}, port {port}"
        remedy = (
            "name an address of this machine with --host."
            if port is None
            else "end what is there, or name another with --port."
        )
        raise SystemExit(f"app.py: nothing can be served at {place} ({why}); {remedy}") from None


def leave(text: str, status: int = FAILED) -> NoReturn:
    """Say why and end."""
    print(f"app.py: {text}", file=sys.stderr)
    end(status)


def end(status: int) -> NoReturn:
    """End at once: Python's usual end aborts the process while other threads compute."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
