"""`python -m mobilesam compare`: two models, one photo, the same prompts, as a figure and JSON."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from mobilesam.folders.commands import add_prompt_options, only_box

LOGGER = logging.getLogger(__name__)

NOTES = """
FILE is a PNG: the photo with its prompts, both masks, where they differ, what was measured, and
what MobileSAM's authors published. Each model runs in a process of its own.

Standard output gets one line of JSON: size (height, width), iou (of the two masks), machine,
threads, out, and models, a list of two with name, source, parameters, file_bytes, load_ms,
encode_ms, decode_ms, predicted_iou, area (pixels) and peak_bytes (the most memory its process had).
"""


def add_compare_parser(subparsers: Any) -> None:
    """Add the command ``compare`` to an argument parser's sub-parsers."""
    parser = subparsers.add_parser(
        "compare",
        help="let two models answer the same prompts",
        description="Compare two models on one photo and the same prompts. Coordinates are pixels.",
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photo", metavar="PHOTO", help="an image file")
    add_prompt_options(parser)
    parser.add_argument(
        "--models",
        metavar="NAME|PATH",
        nargs=2,
        required=True,
        help="two models' names (see `python -m mobilesam models`) or checkpoints",
    )
    parser.add_argument("--out", metavar="FILE", required=True, help="the PNG file to write")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare as the arguments say; returns the exit status.

    Raises:
        ValueError, OSError: The photo, the prompts, a model's name or the file to write is not as
            it should be, or a model cannot be run here.
        CheckpointError: A checkpoint is missing or cannot be read.
    """
    box = only_box(args.boxes)
    if not args.points and box is None:
        raise ValueError("No prompt was given; give a --point X,Y or a --box X0,Y0,X1,Y1.")

    from mobilesam.comparison.comparing import ComparisonError, compare
    from mobilesam.comparison.figure import figure_png
    from mobilesam.files import write_atomically
    from mobilesam.transforms import read_image

    path = os.path.expanduser(args.photo)
    out = _png_file(args.out, path)
    photo = read_image(path)
    with _Words() as words:
        try:
            comparison = compare(
                photo,
                tuple(args.models),
                points=[(x, y) for x, y, _ in args.points] or None,
                labels=[label for _, _, label in args.points] or None,
                box=box,
                steps=(len(args.points),),  # all at once, as segment without --steps
                progress=words.show,
            )
        except ComparisonError as error:
            raise ValueError(str(error)) from error
    write_atomically(out, figure_png(photo, comparison, Path(path).name))
    report = {
        "size": list(comparison.size),
        "iou": round(comparison.iou, 4),
        "machine": comparison.machine,
        "threads": comparison.threads,
        "out": args.out,
        "models": [
            {
                "name": model.name,
                "source": str(model.source),
                "parameters": model.parameters,
                "file_bytes": model.file_bytes,
                "load_ms": round(model.load_ms, 1),
                "encode_ms": round(model.encode_ms, 1),
                "decode_ms": round(model.decode_ms, 1),
                "predicted_iou": round(model.predicted_iou, 4),
                "area": int(model.mask.sum()),
                "peak_bytes": model.peak_bytes,
            }
            for model in (comparison.first, comparison.second)
        ],
    }
    print(json.dumps(report))
    return 0


def _png_file(text: str, photo: str) -> Path:
    """Return the file to write, if it can be: comparing takes long, so that is told before."""
    out = Path(os.path.expanduser(text)).resolve()
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out must be a file that ends in .png; got {text!r}.")
    if not out.parent.is_dir():
        raise ValueError(f"The folder {out.parent} does not exist; create it first.")
    if not os.access(out if out.exists() else out.parent, os.W_OK) or out.is_dir():
        raise ValueError(f"{text} cannot be written; choose another name for --out.")
    if out.exists() and Path(photo).exists() and out.samefile(photo):
        raise ValueError("--out is the photo itself; choose another name.")
    return out


class _Words:
    """Says what is being done: in one line of a terminal, else in the log, once for each stage."""

    def __init__(self) -> None:
        self._in_place = sys.stderr is not None and sys.stderr.isatty()
        self._last = ""

    def __enter__(self) -> _Words:
        return self

    def __exit__(self, *error: object) -> None:
        if self._in_place and self._last:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def show(self, share: float, text: str) -> None:
        """Say it, with the share done in per cent."""
        stage = text.partition(",")[0]
        if self._in_place:
            print(f"\r\x1b[K{share:4.0%} {text}", end="", file=sys.stderr, flush=True)
        elif stage != self._last:
            LOGGER.info(stage)
        self._last = stage
