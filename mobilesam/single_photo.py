"""``segment`` with one photo: its prompts in, one PNG out."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from mobilesam.files import write_atomically
from mobilesam.folders.commands import KINDS, load_options, model_name
from mobilesam.folders.tables import ObjectPrompt

if TYPE_CHECKING:
    import argparse

    import numpy as np


def segment_photo(args: argparse.Namespace, prompt: ObjectPrompt) -> int:
    """Segment what the prompt shows in ``args.inputs[0]``, and write it to ``args.out``.

    Returns:
        The exit status.

    Raises:
        ValueError, OSError: The photo, the prompt or the file to write is not as it should be.
    """
    photo = args.inputs[0]
    out = _writable_png(args.out, photo)

    from mobilesam.predictor import Predictor
    from mobilesam.prompts import Prompts
    from mobilesam.registry import load_model
    from mobilesam.transforms import read_image

    warnings.filterwarnings("ignore", message="Image size .* decompression bomb")  # we refuse it
    image = read_image(photo)
    prompts = prompt.arguments()
    Prompts.check(image.shape[:2], **prompts)  # before the model is loaded: that takes a while
    name = model_name(args.model)
    predictor = Predictor(load_model(name, **load_options(args)))
    embedding = predictor.encode(image)
    result = predictor.predict(embedding, **prompts)
    mask = result.mask(result.best)
    kind = args.kind or _kind_by_name(out)
    write_atomically(out, _render(kind, image, mask))
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
        raise ValueError(
            f"--out must be a file that ends in .png; got {text!r}. For a folder add --format."
        )
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
