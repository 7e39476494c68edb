"""The words on the command line that are for a single photo, and what its files are called."""

from __future__ import annotations

import argparse
from pathlib import Path

SUFFIXES = {  # of the kinds of ``photo_exports``; the first of a suffix is its default
    "mask": ".png",
    "cutout": ".png",
    "overlay": ".png",
    "indexed": ".png",
    "coco": ".json",
    "labelme": ".json",
    "yolo": ".txt",
    "svg": ".svg",
    "zip": ".zip",
}
SOFT_KINDS = ("mask", "cutout", "overlay", "zip")  # show a feathered edge
NAMED_KINDS = ("coco", "labelme", "yolo", "svg", "zip")  # say what the object is
BEST = "best"
PHOTO_OPTIONS = ("kind", "steps", "choices", "min_area", "smooth", "feather")
PHOTO_NOTES = """
One photo: what FILE is, at the photo's own size, is told by its name, or by --kind and its ending:

  dog.mask.png      the mask, white on black; so is any other .png
  dog.cutout.png    the object alone on a transparent background
  dog.overlay.png   the photo with the mask laid over it
  dog.indexed.png   1 in the object, 0 elsewhere, with a colour
  dog.coco.json     COCO: polygons, and exact run lengths as "rle"
  dog.labelme.json  polygons for LabelMe
  dog.txt           YOLO-seg: class and outline
  dog.svg           the outline
  dog.zip           all of these

A prompt of several points is decoded at once. --steps 1,2 is what the page does: the first point
alone, then both together with the first answer's mask; --choices says which candidates were taken.

Standard output gets one line of JSON: model, size (height, width), scores (predicted IoU of every
candidate), best, choice (the one written), area (pixels), encode_ms, decode_ms, kind and out.
"""


def add_photo_options(parser: argparse.ArgumentParser) -> None:
    """Add what only a single photo takes."""
    group = parser.add_argument_group("one photo")
    group.add_argument("--kind", choices=SUFFIXES, help="what to write; FILE's ending must fit it")
    group.add_argument(
        "--steps",
        metavar="N,...",
        type=_steps,
        help="after how many points a mask was looked at, and corrected by those that follow; 0 is"
        " the box alone (default: all at once)",
    )
    group.add_argument(
        "--choices",
        metavar="I,...",
        type=_choices,
        help="for each step the candidate taken, from 0, or best (default: best)",
    )
    group.add_argument(
        "--min-area",
        metavar="PX",
        type=int,
        help="remove specks and fill holes of fewer pixels",
    )
    group.add_argument(
        "--smooth", metavar="PX", type=float, help="smooth the outline by a Gaussian of this sigma"
    )
    group.add_argument(
        "--feather", metavar="PX", type=float, help="feather the edge by a Gaussian of this sigma"
    )


def refuse_photo_options(args: argparse.Namespace) -> None:
    """Refuse the options above where there are many photos.

    Raises:
        ValueError: One of them is given.
    """
    for name in PHOTO_OPTIONS:
        if getattr(args, name) is not None:
            option = f"--{name.replace('_', '-')}"
            instead = "give --format for many" if name == "kind" else "leave it out for many"
            raise ValueError(f"{option} is for a single photo; {instead}.")


def kind_of(args: argparse.Namespace) -> str:
    """Return what is to be written, by ``--kind`` or else by the name of ``--out``.

    Raises:
        ValueError: The name does not fit the kind, or leaves it open; or an option is given that
            this kind cannot show.
    """
    out = Path(args.out)
    suffix, before = out.suffix.lower(), Path(out.stem).suffix.lower().removeprefix(".")
    fitting = [kind for kind, ending in SUFFIXES.items() if ending == suffix]
    kind = args.kind or (before if before in fitting else next(iter(fitting), None))
    if args.kind and args.kind not in fitting:
        ending = SUFFIXES[args.kind]
        raise ValueError(
            f"--kind {args.kind} makes a file that ends in {ending}; got {args.out!r}."
        )
    if kind is None:
        *endings, last = dict.fromkeys(SUFFIXES.values())
        raise ValueError(
            f"--out must be a file that ends in {', '.join(endings)} or {last}; got {args.out!r}. "
            "For a folder add --format."
        )
    if suffix == ".json" and not args.kind and before not in fitting:
        raise ValueError(
            f"{args.out!r} may be COCO's or LabelMe's; add --kind coco or --kind labelme."
        )
    for option, kinds in (("feather", SOFT_KINDS), ("name", NAMED_KINDS)):
        if getattr(args, option) and kind not in kinds:
            raise ValueError(
                f"--{option} is for {', '.join(kinds)}; {kind} cannot show it, so leave it out."
            )
    return kind


def _steps(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"expected whole numbers as in 1,2,4, got {text!r}")
    return tuple(int(part) for part in parts)


def _choices(text: str) -> tuple[int | None, ...]:
    parts = text.split(",")
    if not all(part == BEST or part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"expected candidates as in {BEST},2, got {text!r}")
    return tuple(None if part == BEST else int(part) for part in parts)
