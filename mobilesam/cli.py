"""The command line: segment a photo, list the models, download one, train and validate our own.

What a program wants to read goes to standard output, all else to standard error. A mistake of the
user's ends in one sentence and exit status 2. Modules that take long to import are imported by the
command that needs them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import numpy as np

LOGGER = logging.getLogger(__name__)

PROGRAM = "python -m mobilesam"  # works also where the script of that name is not installed
USER_ERROR = 2  # exit status, as argparse's own
INTERRUPTED = 130  # exit status, as shells have it for Ctrl+C
KINDS = ("mask", "overlay", "cutout")
SEGMENT_NOTES = """
FILE is a PNG of the photo's own size: the mask in black and white, the photo with the mask laid
over it, or the object alone on a transparent ground. Which one is told by its name, as in
dog.mask.png, dog.overlay.png, dog.cutout.png, or by --kind; otherwise it is the mask.

Standard output gets one line of JSON: model, size (height, width), scores (predicted IoU of every
candidate), best (the one written), area (pixels), encode_ms, decode_ms, kind and out.
"""


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one sentence, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"{self.prog}: error: {message}; see `{self.prog} --help`\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Its words, without the program's name; by default those of this process.

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    args = _build_parser(words).parse_args(words)
    if args.verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    from mobilesam.checkpoints import CheckpointError

    try:
        return int(args.run(args))
    except (ValueError, TypeError, OSError, CheckpointError) as error:
        LOGGER.info("where it happened", exc_info=error)
        print(f"mobilesam: error: {_sentence(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("mobilesam: interrupted", file=sys.stderr)
        return INTERRUPTED


def _build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    from mobilesam import __version__

    parser = _Parser(prog=PROGRAM, description="Promptable segmentation on a CPU.")
    parser.add_argument("--version", action="version", version=f"mobilesam {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is being done")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_segment_parser(subparsers)
    _add_models_parser(subparsers)
    _add_download_parser(subparsers)
    _add_training_parsers(subparsers, words)
    return parser


def _add_segment_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "segment",
        help="segment one object of a photo",
        description="Segment the object that points or a box show. Coordinates are pixels.",
        epilog=SEGMENT_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photo", metavar="PHOTO", help="an image file")
    parser.add_argument(
        "--point",
        metavar="X,Y[,0]",
        type=_point,
        action="append",
        dest="points",
        help="a point on the object, or with ,0 beside it; may be repeated",
    )
    parser.add_argument(
        "--box", metavar="X0,Y0,X1,Y1", type=_box, action="append", dest="boxes", help="a box"
    )
    parser.add_argument(
        "--model",
        metavar="NAME|PATH",
        help=f"a model's name (see `{PROGRAM} models`) or a checkpoint; by default mobile_sam where"
        " its checkpoint is on this machine, else embedded",
    )
    parser.add_argument("--device", help="where to compute, such as cpu or cuda")
    parser.add_argument("--kind", choices=KINDS, help="what to write, whatever FILE is called")
    parser.add_argument("--out", metavar="FILE", required=True, help="the PNG file to write")
    parser.set_defaults(run=_segment)


def _add_models_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("models", help="list the models and where they are")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_models)


def _add_download_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("download", help="fetch a model's checkpoint")
    parser.add_argument("name", metavar="NAME", help=f"a model's name (see `{PROGRAM} models`)")
    parser.set_defaults(run=_download)


def _add_training_parsers(subparsers: Any, words: Sequence[str]) -> None:
    """Add `train` and `val`; their options only for the command that is about to run."""
    command = next((word for word in words if not word.startswith("-")), None)
    for name, text in (("train", "train a model"), ("val", "measure a model on a data set")):
        if command != name:
            subparsers.add_parser(name, help=text, add_help=False)
            continue
        from mobilesam.training.commands import add_train_parser, add_val_parser

        add = add_train_parser if name == "train" else add_val_parser
        add(subparsers)


def _segment(args: argparse.Namespace) -> int:
    if not args.points and not args.boxes:
        raise ValueError("No prompt was given; give a --point X,Y or a --box X0,Y0,X1,Y1.")
    if args.boxes and len(args.boxes) > 1:
        raise ValueError(f"One --box was expected; got {len(args.boxes)}. Run once for each.")
    out = _writable_png(args.out, args.photo)

    from mobilesam.predictor import Predictor
    from mobilesam.prompts import Prompts
    from mobilesam.registry import load_model
    from mobilesam.transforms import read_image

    warnings.filterwarnings("ignore", message="Image size .* decompression bomb")  # we refuse it
    image = read_image(args.photo)
    prompts: dict[str, Any] = {"box": args.boxes[0] if args.boxes else None}
    if args.points:
        prompts["points"] = [(x, y) for x, y, _ in args.points]
        prompts["labels"] = [label for _, _, label in args.points]
    Prompts.check(image.shape[:2], **prompts)  # before the model is loaded: that takes a while
    name = args.model or _default_model()
    predictor = Predictor(load_model(name, **({"device": args.device} if args.device else {})))
    embedding = predictor.encode(image)
    result = predictor.predict(embedding, **prompts)
    mask = result.mask(result.best)
    kind = args.kind or _kind_by_name(out)
    _write_atomically(out, _render(kind, image, mask))
    report = {
        "model": result.model_name,
        "size": list(result.original_size),
        "scores": [round(float(score), 4) for score in result.iou_predictions],
        "best": result.best,
        "area": int(mask.sum()),
        "encode_ms": round(embedding.encode_ms, 1),
        "decode_ms": round(result.decode_ms, 1),
        "kind": kind,
        "out": args.out,
    }
    print(json.dumps(report))
    return 0


def _default_model() -> str:
    from mobilesam.registry import default_model_name

    name = default_model_name()
    if name == "embedded":
        note = "MobileSAM's checkpoint is not on this machine: using our own small model"
        print(f"mobilesam: {note} (to fetch it: {PROGRAM} download mobile_sam)", file=sys.stderr)
    return name


def _render(kind: str, image: np.ndarray, mask: np.ndarray) -> bytes:
    from mobilesam import rendering

    if kind == "overlay":
        return rendering.png_bytes(rendering.overlay(image, mask))
    if kind == "cutout":
        return rendering.png_bytes(rendering.cut_out(image, mask))
    return rendering.png_bytes(rendering.mask_image(mask))


def _kind_by_name(out: Path) -> str:
    ending = Path(out.stem).suffix.lower().removeprefix(".")
    return ending if ending in KINDS else "mask"


def _writable_png(text: str, photo: str) -> Path:
    """Return the file to write, its links followed, if it can be written.

    Raises:
        ValueError: It is not a PNG by its name, its folder is missing, it is the photo itself, or
            something that is not to be overwritten.
    """
    out = Path(os.path.expanduser(text))
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out must be a file that ends in .png; got {text!r}.")
    out = out.resolve()
    if not out.parent.is_dir():
        raise ValueError(f"The folder {out.parent} does not exist; create it first.")
    if not os.access(out.parent, os.W_OK):
        raise ValueError(f"The folder {out.parent} cannot be written; choose another for --out.")
    if out.exists():
        if not out.is_file():
            raise ValueError(f"{text} is not a file; choose another name for --out.")
        if not os.access(out, os.W_OK):
            raise ValueError(f"{text} exists and is read-only; choose another name for --out.")
        if Path(photo).exists() and out.samefile(photo):
            raise ValueError("--out is the photo itself; choose another name.")
    return out


def _write_atomically(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        raise OSError(f"{path} could not be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)


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
    from mobilesam.registry import EMBEDDED_CHECKPOINT, MODELS

    rows = []
    for spec in MODELS.values():
        if spec.checkpoint is None:
            path = EMBEDDED_CHECKPOINT if EMBEDDED_CHECKPOINT.is_file() else None
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
    from mobilesam.checkpoints import resolve_checkpoint
    from mobilesam.registry import EMBEDDED_CHECKPOINT, MODELS

    if args.name not in MODELS:
        raise ValueError(f"There is no model {args.name!r}; the models are {', '.join(MODELS)}.")
    checkpoint = MODELS[args.name].checkpoint
    if checkpoint is None and not EMBEDDED_CHECKPOINT.is_file():
        message = f"{args.name!r} does not come from the network but with this package;"
        raise ValueError(f"{message} {EMBEDDED_CHECKPOINT} is missing, so install it again.")
    print(EMBEDDED_CHECKPOINT if checkpoint is None else resolve_checkpoint(checkpoint))
    return 0


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return []


def _point(text: str) -> tuple[float, float, int]:
    numbers = _numbers(text)
    if len(numbers) == 2:
        return numbers[0], numbers[1], 1
    if len(numbers) == 3 and numbers[2] in (0, 1):
        return numbers[0], numbers[1], int(numbers[2])
    raise argparse.ArgumentTypeError(f"expected X,Y or X,Y,0 in pixels, got {text!r}")


def _box(text: str) -> tuple[float, ...]:
    numbers = _numbers(text)
    if len(numbers) != 4:
        raise argparse.ArgumentTypeError(f"expected X0,Y0,X1,Y1 in pixels, got {text!r}")
    return tuple(numbers)


def _sentence(error: Exception) -> str:
    """Return an error's message in one line; the system's own errors name their file."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}."
    return " ".join(str(error).split()) or type(error).__name__
