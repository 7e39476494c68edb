"""The command line of ``segment`` and ``everything``."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobilesam.folders.inputs import is_several
from mobilesam.folders.outputs import FORMATS
from mobilesam.folders.tables import ObjectPrompt
from mobilesam.photo_options import (
    PHOTO_NOTES,
    SUFFIXES,
    add_photo_options,
    refuse_photo_options,
)

BACKENDS = ("torch", "onnxruntime", "openvino")
MOST_WORKERS = 10_000  # threads, or processes of a cluster
FOLDER_OPTIONS = ("recursive", "polygons", "tolerance", "jobs", "threads", "ray")
PLAIN_TYPES: dict[str, Any] = {"int": int, "int | None": int, "float": float, "bool": bool}
TABLE_NOTES = """
A CSV has a row for each object; rows of the same path are objects of one picture. Its first row
names the columns: path (seen from the CSV's folder); points as in "120,80 140,95" and labels as in
"1 0", or x, y, label; box as in "10,20,200,180", or x0, y0, x1, y1; name, what it is. All but path
may be left out; a row without points and box gets those of the command line.
"""
FOLDER_NOTES = """
Many pictures: several INPUTs, a folder, a pattern or a CSV, or --format. An INPUT is a file, a
folder, a pattern ("photos/*.jpg", quoted or not) or a CSV. In folders and patterns, hidden files
and those that are no pictures by their names are left out; a file named itself that cannot be read
is reported, and the rest goes on.
--out is then a folder, and gets for photos/dog.jpg

  png      dog.png: every pixel has the number of its object, from 1, and a colour
  cutout   dog.png: the object on a transparent background; of several dog.cutouts/1.png, 2.png
  labelme  dog.json: polygons, for LabelMe and AnyLabeling
  yolo     dog.txt: lines of class and outline; one classes.txt for all
  coco     one annotations.json for all, from a part for each picture in .mobilesam/coco

Where two pictures would have one name, one gets another, such as dog_png. A run that was cut off
goes on where it stopped: what is finished is skipped, and nothing is ever half-written. The folder
.mobilesam in --out keeps account of that.

Standard output gets one line of JSON: done, skipped, failed, failures and more. The exit status is
0 if all went well, 1 if some pictures failed, 2 if nothing could be done, 130 after Ctrl+C.
"""
EVERYTHING_HELP = {
    "points_per_side": "points of the grid along each side",
    "points_per_batch": "points decoded at a time",
    "pred_iou_thresh": "least predicted IoU of a mask, 0 to 1",
    "stability_score_thresh": "least stability of a mask, 0 to 1",
    "stability_score_offset": "by how much the logits' cut is moved to measure stability",
    "box_nms_thresh": "of two masks whose boxes have a higher IoU, the better one is kept",
    "crop_n_layers": "how often to look again at crops of half the size",
    "crop_nms_thresh": "as --box-nms-thresh, between crops",
    "crop_overlap_ratio": "overlap of the largest crops, a share of the shorter side",
    "crop_n_points_downscale_factor": "factor by which each layer of crops thins the grid",
    "min_mask_region_area": "remove holes and islands of fewer pixels",
    "fast": "search a sparse grid first, and judge masks at low resolution: nearly the same masks"
    " in less time",
}


def add_segment_parser(subparsers: Any) -> None:
    """Add ``segment``."""
    parser = subparsers.add_parser(
        "segment",
        help="segment one object of a photo, or of each photo of a folder",
        description="Segment the object that points or a box show. Coordinates are pixels.",
        epilog=PHOTO_NOTES + FOLDER_NOTES + TABLE_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="an image file; or see below")
    add_prompt_options(parser)
    _add_model_options(parser)
    parser.add_argument(
        "--out", metavar="FILE|DIR", required=True, help="the file to write, or the folder"
    )
    parser.add_argument("--name", help="what the objects are called (default: object)")
    add_photo_options(parser)
    _add_folder_options(parser)
    parser.set_defaults(run=_segment)


def add_everything_parser(subparsers: Any) -> None:
    """Add ``everything``, with an option for every plain value of ``EverythingOptions``."""
    from mobilesam.everything import OWN_THRESHOLDS, EverythingOptions

    parser = subparsers.add_parser(
        "everything",
        help="segment all objects of photos",
        description="Find the masks of all objects in photos, without prompts.",
        epilog=FOLDER_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --box is no short form of --box-nms-thresh
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="see below")
    _add_model_options(parser)
    parser.add_argument("--out", metavar="DIR", required=True, help="the folder to write to")
    parser.add_argument("--name", help="what the objects are called (default: object)")
    _add_folder_options(parser)
    group = parser.add_argument_group("the search for objects")
    for entry in _plain_fields(EverythingOptions):
        option, text = f"--{entry.name.replace('_', '-')}", EVERYTHING_HELP.get(entry.name, "")
        kind = PLAIN_TYPES[str(entry.type)]
        if kind is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, help=text)
        else:
            own = OWN_THRESHOLDS.get(entry.name)
            also = f"; {own:.4g} for this project's own models" if own is not None else ""
            shown = f"{text} (default: {entry.default:.4g}{also})"
            group.add_argument(option, metavar=kind.__name__.upper(), type=kind, help=shown)
    parser.set_defaults(run=_everything)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        metavar="NAME|PATH",
        help="a model's name (see `python -m mobilesam models`) or a checkpoint; by default"
        " mobile_sam where its checkpoint is on this machine, else embedded",
    )
    parser.add_argument("--device", help="where to compute, such as cpu or cuda")
    parser.add_argument(
        "--backend", choices=BACKENDS, help="what computes the image embedding (default: torch)"
    )


def _add_folder_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("many pictures")
    group.add_argument("--format", choices=FORMATS, help="what to write (default: png)")
    group.add_argument(
        "-r", "--recursive", action="store_true", help="search folders within folders, too"
    )
    group.add_argument(
        "--overwrite", action="store_true", help="make results anew that are there already"
    )
    group.add_argument(
        "--polygons", action="store_true", help="coco: outlines instead of run lengths"
    )
    group.add_argument(
        "--tolerance",
        metavar="PX",
        type=_not_negative,
        help="how far a corner that is left out of an outline may lie from it; 0 keeps every"
        " pixel's edge (default: 1)",
    )
    group.add_argument(
        "--jobs",
        metavar="N",
        type=_positive,
        help="threads that read ahead, and as many that write behind; 1: nothing overlaps (default:"
        " 2); with --ray the number of workers (default: as many as CPUs allow, see --threads)",
    )
    group.add_argument(
        "--threads",
        metavar="N",
        type=_positive,
        help="threads of the model's arithmetic, with --ray of each worker's; with another number"
        " single pixels may come out otherwise (default: PyTorch's choice on this machine)",
    )
    group.add_argument(
        "--ray",
        metavar="ADDRESS|local",
        help="work on a Ray cluster, or in several processes on this machine",
    )


def _segment(args: argparse.Namespace) -> int:
    prompt = ObjectPrompt(
        points=tuple((x, y) for x, y, _ in args.points),
        labels=tuple(label for _, _, label in args.points),
        box=only_box(args.boxes),
    )
    if args.format or len(args.inputs) > 1 or is_several(args.inputs[0]):
        refuse_photo_options(args)
        return _run(args, prompt=prompt)
    for name in FOLDER_OPTIONS:
        value = getattr(args, name)
        if value is not None and value is not False:  # 0 is a tolerance
            raise ValueError(f"--{name} is for many pictures; add --format, or leave it out.")
    if not prompt:
        raise ValueError("No prompt was given; give a --point X,Y or a --box X0,Y0,X1,Y1.")
    from mobilesam.single_photo import segment_photo

    return segment_photo(args, prompt)


def _everything(args: argparse.Namespace) -> int:
    from mobilesam.everything import EverythingOptions

    given = {entry.name: getattr(args, entry.name) for entry in _plain_fields(EverythingOptions)}
    chosen = {name: value for name, value in given.items() if value is not None}
    EverythingOptions(**chosen)  # refuses what is wrong before a model is loaded
    return _run(args, everything=chosen)


def _run(
    args: argparse.Namespace,
    prompt: ObjectPrompt | None = None,
    everything: dict[str, Any] | None = None,
) -> int:
    from mobilesam.exporting import OBJECT
    from mobilesam.folders.run import Request, run
    from mobilesam.photo_exports import one_line

    out = Path(os.path.expanduser(args.out))
    if out.suffix.lower() in SUFFIXES.values() and not out.is_dir():
        raise ValueError(
            f"--out must be a folder where there may be many results; got {out.name!r}, which "
            "looks like a file."
        )
    request = Request(
        inputs=args.inputs,
        out=out,
        model=model_name(args.model),
        format=args.format or "png",
        everything=everything,
        prompt=prompt,
        name=one_line(args.name or "") or OBJECT,
        recursive=args.recursive,
        overwrite=args.overwrite,
        polygons=args.polygons,
        tolerance=args.tolerance,
        jobs=args.jobs,
        threads=args.threads,
        ray=args.ray,
        load=load_options(args),
    )
    return run(request)


def load_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return what of the command line ``load_model`` is to be told."""
    given = {"device": args.device, "backend": args.backend}
    return {name: value for name, value in given.items() if value is not None}


def model_name(wanted: str | None) -> str:
    """Return the model to use: the one wanted, or the best of those that are on this machine.

    Raises:
        ValueError: There is neither a model nor a file of that name.
    """
    from mobilesam.registry import MODELS, checkpoint_path, default_model_name

    if wanted is None:
        name = default_model_name()
        if name == "embedded":
            note = "MobileSAM's checkpoint is not on this machine: using our own small model"
            hint = "to fetch it: python -m mobilesam download mobile_sam"
            print(f"mobilesam: {note} ({hint})", file=sys.stderr)
        return name
    if wanted not in MODELS:
        checkpoint_path(wanted)
    return wanted


def _plain_fields(options: type) -> list[dataclasses.Field]:
    """Return the fields of ``EverythingOptions`` that a word on the command line can tell."""
    return [entry for entry in dataclasses.fields(options) if entry.type in PLAIN_TYPES]


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return []


def point_argument(text: str) -> tuple[float, float, int]:
    """Read `--point`: x, y and the label, 1 if none is given."""
    numbers = _numbers(text)
    if len(numbers) == 2:
        return numbers[0], numbers[1], 1
    if len(numbers) == 3 and numbers[2] in (0, 1):
        return numbers[0], numbers[1], int(numbers[2])
    raise argparse.ArgumentTypeError(f"expected X,Y or X,Y,0 in pixels, got {text!r}")


def box_argument(text: str) -> tuple[float, ...]:
    """Read `--box`: x0, y0, x1, y1."""
    numbers = _numbers(text)
    if len(numbers) != 4:
        raise argparse.ArgumentTypeError(f"expected X0,Y0,X1,Y1 in pixels, got {text!r}")
    return tuple(numbers)


def add_prompt_options(parser: argparse.ArgumentParser) -> None:
    """Add `--point`, in ``points`` as x, y, label, and `--box`, in ``boxes`` for ``only_box``."""
    parser.add_argument(
        "--point",
        metavar="X,Y[,0]",
        type=point_argument,
        action="append",
        default=[],
        dest="points",
        help="a point on the object, or with ,0 not on it; may be repeated",
    )
    parser.add_argument(
        "--box",
        metavar="X0,Y0,X1,Y1",
        type=box_argument,
        action="append",
        dest="boxes",
        help="a box round the object; one at most",
    )


def only_box(boxes: Sequence[tuple[float, ...]] | None) -> tuple[float, ...] | None:
    """Return the one box of all that `--box` gave, if any.

    Raises:
        ValueError: There are several.
    """
    if boxes and len(boxes) > 1:
        raise ValueError(f"One --box was expected; got {len(boxes)}. Run once for each.")
    return boxes[0] if boxes else None


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
        expected = f"expected a whole number from 1 to {MOST_WORKERS:,}"
        raise argparse.ArgumentTypeError(f"{expected}, got {text!r}")
    return int(text)


def _not_negative(text: str) -> float:
    numbers = _numbers(text)
    if len(numbers) != 1 or not 0 <= numbers[0] < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number from 0, got {text!r}")
    return numbers[0]
