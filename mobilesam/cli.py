"""The command line: segment photos, list the models, download one, export, train and validate.

What a program wants to read goes to standard output, all else to standard error. A mistake of the
user's ends in one sentence and exit status 2. Modules that take long to import are imported by the
command that needs them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from mobilesam.errors import INTERRUPTED, is_out_of_memory, sentence
from mobilesam.files import open_closed_streams
from mobilesam.folders.commands import add_segment_parser
from mobilesam.machine import bound_threads

LOGGER = logging.getLogger(__name__)

PROGRAM = "python -m mobilesam"  # works also where the script of that name is not installed
USER_ERROR = 2  # exit status, as argparse's own
OUT_OF_MEMORY = "Memory ran out: close other programs, or take a smaller model or photo."
READER_GONE = 141  # exit status, as shells have it for a closed pipe
LAZY_COMMANDS = {  # what imports much: module, function that adds its parser, help
    "everything": (
        "mobilesam.folders.commands",
        "add_everything_parser",
        "segment all objects of photos",
    ),
    "compare": (
        "mobilesam.compare_command",
        "add_compare_parser",
        "let two models answer the same prompts",
    ),
    "export": ("mobilesam.export_command", "add_export_parser", "write a model as ONNX"),
    "train": ("mobilesam.training.commands", "add_train_parser", "train a model"),
    "val": ("mobilesam.training.val_command", "add_val_parser", "measure a model on a data set"),
}


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one sentence, without the usage before it.

    Takes "-5,20" after an option for its value; argparse of Python 3.11 sees no number in it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; a command refuses what it does not know itself, so that its help is named."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """Leave with one sentence that ends in how to get help."""
        self.exit(USER_ERROR, f"{self.prog}: error: {message}; see `{self.prog} --help`\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Its words, without the program's name; by default those of this process.

    Returns:
        The exit status.
    """
    open_closed_streams()
    bound_threads()
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        print("mobilesam: interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(words: Sequence[str]) -> int:
    args = parse(words)
    if args.verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        status = int(args.run(args))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # as of `... | head`: whoever read has what he wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except Exception as error:
        said = _said_of(error)
        if not said:
            raise
        if args.verbose:
            LOGGER.info("where it happened", exc_info=error)
        print(f"mobilesam: error: {said}", file=sys.stderr)
        return USER_ERROR


def _said_of(error: Exception) -> str:
    """Return the sentence for an error that needs no programmer; nothing for any other."""
    from mobilesam.checkpoints import CheckpointError

    if isinstance(error, ValueError | TypeError | OSError | CheckpointError):
        return sentence(error)
    return OUT_OF_MEMORY if is_out_of_memory(error) else ""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read a command line; one that is wrong ends in one sentence and ``SystemExit``."""
    return _build_parser(words).parse_args(words)


def _build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    from mobilesam import __version__

    parser = _Parser(prog=PROGRAM, description="Promptable segmentation on a CPU.")
    parser.add_argument("--version", action="version", version=f"mobilesam {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is being done")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    add_segment_parser(subparsers)
    _add_models_parser(subparsers)
    _add_download_parser(subparsers)
    _add_lazy_parsers(subparsers, words)
    return parser


def _add_models_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("models", help="list the models and where they are")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_models)


def _add_download_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("download", help="fetch a model's checkpoint")
    parser.add_argument("name", metavar="NAME", help=f"a model's name (see `{PROGRAM} models`)")
    parser.set_defaults(run=_download)


def _add_lazy_parsers(subparsers: Any, words: Sequence[str]) -> None:
    """Add further commands; their options only for the one that is about to run."""
    command = next((word for word in words if not word.startswith("-")), None)
    for name, (module, function, text) in LAZY_COMMANDS.items():
        if command == name:
            getattr(import_module(module), function)(subparsers)
        else:
            subparsers.add_parser(name, help=text, add_help=False)


def _models(args: argparse.Namespace) -> int:
    rows = _model_rows()
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    head = ("model", "parameters", "input", "file", "here", "where it is or would come from")
    table = [head]
    for row in rows:
        size = f"{row['size_bytes'] / 1e6:,.1f} MB" if row["size_bytes"] else "-"
        where = row["path"] or " or ".join(row["urls"]) or "missing from this installation"
        here = "yes" if row["present"] else "no"
        parameters = f"{row['parameters'] / 1e6:,.1f} M"
        table.append((row["name"], parameters, f"{row['image_size']} px", size, here, where))
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    for line in table:
        cells = [
            cell.rjust(width) if column in (1, 2, 3) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    return 0


def _model_rows() -> list[dict[str, Any]]:
    from mobilesam.checkpoints import CHECKPOINTS, download_urls, find_checkpoint
    from mobilesam.registry import MODELS

    rows = []
    for spec in MODELS.values():
        if spec.checkpoint is None:
            path = spec.shipped_file if spec.shipped_file.is_file() else None
            size_bytes, urls = None, list[str]()
        else:
            path = find_checkpoint(spec.checkpoint)
            size_bytes = CHECKPOINTS[spec.checkpoint].size_bytes
            urls = list(download_urls(spec.checkpoint))
        rows.append(
            {
                "name": spec.name,
                "title": spec.title,
                "parameters": spec.parameters,
                "image_size": spec.image_size,
                "size_bytes": path.stat().st_size if path else size_bytes,
                "present": path is not None,
                "path": str(path) if path else None,
                "urls": urls,
            }
        )
    return rows


def _download(args: argparse.Namespace) -> int:
    from mobilesam.registry import MODELS, locate

    if args.name not in MODELS:
        raise ValueError(f"There is no model {args.name!r}; the models are {', '.join(MODELS)}.")
    path, _ = locate(args.name)
    print(path)
    return 0
