"""Serve the MobileSAM demo: `python app.py`, then open the address it prints."""

from __future__ import annotations

import argparse
import logging
import os
from importlib.util import find_spec

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from mobilesam.checkpoints import CheckpointError
from mobilesam.ui import LAUNCH_OPTIONS, build_demo


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default=None, help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=None, help="port (default: 7860 or the next)")
    parser.add_argument("--share", action="store_true", help="ask Gradio for a public link")
    parser.add_argument("--model", default=None, help="model that answers (see mobilesam models)")
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
    arguments = parse_arguments()
    if arguments.mcp and find_spec("mcp") is None:
        raise SystemExit("app.py: --mcp needs the package mcp; install it: pip install '.[mcp]'")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("mobilesam.ui").setLevel(logging.INFO)  # says which backend answers
    try:
        demo = build_demo(
            arguments.model,
            arguments.checkpoint,
            fetch_official=not arguments.no_download,
            backend=arguments.backend,
        )
    except (CheckpointError, ValueError) as error:
        raise SystemExit(f"app.py: {error}") from None
    try:
        demo.launch(
            server_name=arguments.host,
            server_port=arguments.port,
            share=arguments.share,
            mcp_server=arguments.mcp or None,  # None: as Gradio's environment variable says
            **LAUNCH_OPTIONS,
        )
    except (OSError, OverflowError) as error:  # the port is taken, or none at all
        raise SystemExit(f"app.py: {error}") from None


if __name__ == "__main__":
    main()
