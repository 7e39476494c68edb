"""Find the objects of all photos of a folder, and write them for LabelMe and AnyLabeling.

    python -m examples.tools.labelme_folder PHOTOS

Each photo gets a JSON file of its own name beside it, which is where both programs look; open the
folder in either, correct the polygons, name them. A JSON file that is there already is somebody's
work and left alone. `python -m mobilesam everything PHOTOS --format labelme --out DIR` does the
same with resuming, several threads and a cluster.
"""

import argparse
import json
import sys
from pathlib import Path

from mobilesam import (
    CheckpointError,
    EverythingOptions,
    Predictor,
    default_model_name,
    generate,
    load_model,
)
from mobilesam.errors import sentence
from mobilesam.exporting import ObjectMask, labelme
from mobilesam.files import write_atomically
from mobilesam.folders.inputs import collect
from mobilesam.folders.outputs import relative_path
from mobilesam.transforms import read_image


def annotate(predictor: Predictor, path: Path, label: str, options: EverythingOptions) -> dict:
    """Return LabelMe's annotations of a photo, whose JSON file is to lie beside it."""
    photo = read_image(path)
    records = generate(predictor, photo, options)
    objects = (ObjectMask(record.rle, label, record.predicted_iou) for record in records)
    return labelme(objects, relative_path(path, path.parent), photo.shape[:2])


def main(words: list[str] | None = None) -> int:
    """Annotate a folder; returns 1 if a photo could not be, else 0."""
    parser = argparse.ArgumentParser(description="Write LabelMe's JSON for the photos of a folder.")
    parser.add_argument("photos", help="folder of photos")
    parser.add_argument("--label", default="object", help="what objects are called at first")
    parser.add_argument("--model", default=default_model_name(), help="name or checkpoint")
    parser.add_argument("--points-per-side", type=int, default=32, help="of the grid that asks")
    parser.add_argument("--pred-iou-thresh", type=float, help="least predicted IoU of a mask")
    parser.add_argument("--fast", action="store_true", help="search a sparse grid first")
    args = parser.parse_args(words)
    try:
        pictures = collect([args.photos], needs_prompts=False).pictures
        model = load_model(args.model)
        predictor = Predictor(model)
        given = {"points_per_side": args.points_per_side, "fast": args.fast}
        if args.pred_iou_thresh is not None:
            given["pred_iou_thresh"] = args.pred_iou_thresh
        options = EverythingOptions.for_model(model, **given)
    except (ValueError, OSError, CheckpointError) as error:
        parser.error(sentence(error))
    failures, written = 0, set()
    for picture in pictures:
        out = picture.path.with_suffix(".json")
        if out.exists():
            print(f"{picture.path}: {out} is there already and left alone", file=sys.stderr)
            failures += out in written  # another photo's, of this name before the suffix
            continue
        try:
            found = annotate(predictor, picture.path, args.label, options)
            write_atomically(out, json.dumps(found, indent=1).encode())
        except (ValueError, OSError) as error:  # one bad photo does not stop the rest
            print(f"{picture.path}: {sentence(error)}", file=sys.stderr)
            failures += 1
        else:
            written.add(out)
            print(f"{out}: {len(found['shapes'])} polygons")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
