"""``segment`` with one photo: its prompts in, one file out."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from mobilesam.files import write_atomically
from mobilesam.folders.commands import load_options, model_name
from mobilesam.folders.outputs import path_seen_from
from mobilesam.folders.tables import ObjectPrompt
from mobilesam.photo_options import SOFT_KINDS, kind_of

if TYPE_CHECKING:
    import argparse


def segment_photo(args: argparse.Namespace, prompt: ObjectPrompt) -> int:
    """Segment what the prompt shows in ``args.inputs[0]``, and write it to ``args.out``.

    Returns:
        The exit status.

    Raises:
        ValueError, OSError: The photo, the prompt, an option or the file to write is not as it
            should be.
    """
    photo = os.path.expanduser(args.inputs[0])
    kind = kind_of(args)
    out = _writable(args.out, photo)

    from mobilesam.photo_exports import PhotoObject, export
    from mobilesam.predictor import Predictor
    from mobilesam.prompts import Prompts
    from mobilesam.refinement import Refinement
    from mobilesam.registry import load_model
    from mobilesam.steps import check_steps, predict_steps
    from mobilesam.transforms import read_image

    given = {key: getattr(args, key) for key in ("min_area", "smooth", "feather")}
    refinement = Refinement(**{key: value for key, value in given.items() if value is not None})
    warnings.filterwarnings("ignore", message="Image size .* decompression bomb")  # we refuse it
    image = read_image(photo)
    checked = Prompts.check(image.shape[:2], **prompt.arguments())  # before the model is loaded
    at_once = (len(checked.points),)
    steps, choices = check_steps(checked, args.steps or at_once, args.choices)
    name = model_name(args.model)
    predictor = Predictor(load_model(name, **load_options(args)))
    embedding = predictor.encode(image)
    result = predict_steps(predictor, embedding, **prompt.arguments(), steps=steps, choices=choices)
    choice = result.best if choices[-1] is None else choices[-1]
    mask = refinement.mask(result.mask(choice))
    is_soft = refinement.feather > 0 and kind in SOFT_KINDS
    item = PhotoObject(
        mask,
        score=float(result.iou_predictions[choice]),
        alpha=refinement.alpha(mask) if is_soft else None,
        **({"name": args.name} if args.name else {}),
    )
    path = path_seen_from(out, Path(photo)) if kind == "labelme" else None
    size = (image.shape[0], image.shape[1])
    _, content = export(kind, Path(photo).name, size, [item], 0, lambda: image, image_path=path)
    write_atomically(out, content)
    report = {
        "model": result.model_name,
        "size": list(result.original_size),
        "scores": [round(float(score), 4) for score in result.iou_predictions],
        "best": result.best,
        "choice": choice,
        "area": int(mask.sum()),
        "encode_ms": round(embedding.encode_ms, 1),
        "decode_ms": round(result.decode_ms, 1),
        "kind": kind,
        "out": args.out,
    }
    print(json.dumps(report))
    return 0


def _writable(text: str, photo: str) -> Path:
    """Return the file to write, its links followed, if it can be written.

    Raises:
        ValueError: Its folder is missing, it is the photo itself, or something that is not to be
            overwritten.
    """
    out = Path(os.path.expanduser(text)).resolve()
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
