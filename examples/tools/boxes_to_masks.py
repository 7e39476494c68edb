"""Turn a detector's boxes into masks, all of a photo's in one call, and write them as COCO.

    python -m examples.tools.boxes_to_masks boxes.json --out masks.json

boxes.json, from any detector (Grounding DINO, YOLO, ...), maps each photo's path, seen from the
file's own folder, to its boxes in pixels, what they show, and how sure the detector is:

    {"dog.jpg": {"boxes": [[10, 20, 200, 180]], "labels": ["dog"], "scores": [0.9]}}

labels and scores may be left out. An annotation's score is the detector's, else predicted IoU.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam import CheckpointError, Predictor, default_model_name, load_model
from mobilesam.errors import sentence
from mobilesam.exporting import OBJECT, ObjectMask, coco_dataset, coco_picture
from mobilesam.files import write_atomically


def segment(predictor: Predictor, path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Return a photo with a mask for each of its boxes, as ``coco_dataset`` takes it."""
    if not isinstance(found, dict) or "boxes" not in found:
        raise ValueError(f"expected a dict with boxes, labels and scores; got {found!r:.60}.")
    embedding = predictor.encode(path)
    height, width = embedding.original_size
    # Detectors put corners a little outside the photo; here that is an error.
    boxes = np.clip(np.reshape(found["boxes"], (-1, 4)), 0, [width, height, width, height])
    labels = found.get("labels") or [OBJECT] * len(boxes)
    if not len(boxes):
        return coco_picture(path.name, (height, width), [])
    result = predictor.predict(embedding, boxes=boxes)  # one mask for each box, in one call
    scores = found.get("scores") or result.iou_predictions[:, 0]
    if not len(boxes) == len(labels) == len(scores):
        counts = f"{len(boxes)}, {len(labels)} and {len(scores)}"
        raise ValueError(f"boxes, labels and scores must be as many; got {counts}.")
    objects = []
    for one, label, score in zip(result, labels, scores, strict=True):
        objects.append(ObjectMask.from_mask(one.mask(0), label, float(score)))
    return coco_picture(path.name, (height, width), objects)


def main(words: list[str] | None = None) -> int:
    """Segment all photos of a file of boxes; returns 1 if one could not be, else 0."""
    parser = argparse.ArgumentParser(description="Turn boxes into masks, written as COCO.")
    parser.add_argument("boxes", type=Path, help="JSON file: photos with boxes, labels, scores")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--model", default=default_model_name(), help="name or checkpoint")
    args = parser.parse_args(words)
    try:
        photos: dict[str, dict[str, Any]] = json.loads(args.boxes.read_bytes())
        if not isinstance(photos, dict):
            raise ValueError(f"{args.boxes} must map photos to boxes; got {photos!r:.60}.")
        if not args.out.parent.is_dir():
            raise ValueError(f"The folder {args.out.parent} does not exist; create it first.")
        predictor = Predictor(load_model(args.model))
    except (ValueError, OSError, CheckpointError) as error:
        parser.error(sentence(error))
    pictures = []
    for name, found in photos.items():
        try:
            picture = segment(predictor, args.boxes.parent / name, found)
            pictures.append(picture | {"file_name": name})
        except (TypeError, ValueError, OSError) as error:  # one bad photo does not stop the rest
            print(f"{name}: {sentence(error)}", file=sys.stderr)
    names = {one["category"] for picture in pictures for one in picture["annotations"]}
    content = json.dumps(coco_dataset(pictures, sorted(names) or [OBJECT]))
    write_atomically(args.out, content.encode())
    print(f"{args.out}: {len(pictures)} photos of {len(photos)}")
    return 0 if len(pictures) == len(photos) else 1


if __name__ == "__main__":
    sys.exit(main())
