"""One prompt decoded by MobileSAM's decoder: what a click costs once a picture is encoded."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.common import PHOTO, THREADS, paired_ms, print_table, spread
from mobilesam import Predictor
from mobilesam.modeling import build_model, prepare_for_inference

ROUNDS = 40
BOXES, BOX_ROUNDS = 100, 2


def main() -> None:
    """Time clicks, boxes and what the page does with them; weights do not matter for that."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    random.seed(0)
    predictor = Predictor(prepare_for_inference(build_model("tiny_vit")))
    embedding = predictor.encode(PHOTO)
    height, width = embedding.original_size
    box = (0.2 * width, 0.2 * height, 0.8 * width, 0.7 * height)

    def points(count: int) -> dict[str, Any]:
        xy = [(random.uniform(0, width - 1), random.uniform(0, height - 1)) for _ in range(count)]
        return {"points": xy, "labels": [1] * count}

    calls: dict[str, Callable[[], Any]] = {
        "one click": lambda: predictor.predict(embedding, **points(1)),
        "five clicks": lambda: predictor.predict(embedding, **points(5)),
        "a box": lambda: predictor.predict(embedding, box=box),
        "a box and two clicks": lambda: predictor.predict(embedding, box=box, **points(2)),
        "one click, with the page's three previews": lambda: predictor.candidates(
            embedding, **points(1)
        ).preview(),
        "one click, with the mask at the photo's size": lambda: predictor.predict(
            embedding, **points(1)
        ).mask(0),
    }
    rows = [[name, *spread(times)] for name, times in paired_ms(calls, ROUNDS).items()]
    print_table(
        f"Decoding one prompt, MobileSAM's shape, photo of {width} x {height} px, {ROUNDS} rounds",
        ["prompt", "median ms", "p95 ms", "best ms"],
        rows,
    )
    boxes = [_box(width, height) for _ in range(BOXES)]
    many: dict[str, Callable[[], Any]] = {
        "a call for each": lambda: [predictor.predict(embedding, box=box) for box in boxes],
        "one call": lambda: predictor.predict(embedding, boxes=boxes),
    }
    rows = [[name, *spread(times)] for name, times in paired_ms(many, BOX_ROUNDS).items()]
    print_table(f"Decoding {BOXES} boxes", ["way", "median ms", "p95 ms", "best ms"], rows)


def _box(width: int, height: int) -> tuple[float, float, float, float]:
    x0, y0 = random.uniform(0, 0.6 * width), random.uniform(0, 0.6 * height)
    return x0, y0, x0 + 0.3 * width, y0 + 0.3 * height


if __name__ == "__main__":
    main()
