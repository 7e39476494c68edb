"""Many prompts against one picture on a GPU: boxes in one call, and everything mode's points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_paths import first_line, median_ms
from benchmarks.gpu_results import Many, Settings
from mobilesam import Predictor, SamAutomaticMaskGenerator
from mobilesam.modeling import Sam
from mobilesam.modeling.many_prompts import ManyPrompts

AT_A_TIME = 64  # prompts of the plain decoder: SAM's own batches in everything mode
BOX_SHARE = 0.3  # of a side


def calls(
    model: Sam, architecture: str, settings: Settings
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what is timed: its name, and a call that does it to the end, one picture encoded."""
    random = np.random.default_rng(0)
    side, count = settings.image_size, settings.points_per_side
    photo = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
    predictor = Predictor(model)
    embedding = predictor.encode(photo)
    corners = random.uniform(0, (1 - BOX_SHARE) * side, (settings.boxes, 2))
    boxes = np.concatenate([corners, corners + BOX_SHARE * side], axis=1)
    middles = (torch.arange(count, device=model.device) + 0.5) * side / count
    points = torch.cartesian_prod(middles, middles)
    coords = torch.stack([points, torch.zeros_like(points)], dim=1)  # a click and SAM's padding
    labels = torch.tensor([[1, -1]], device=model.device).repeat(len(coords), 1)
    outputs = torch.arange(1, 4, device=model.device)

    def plain() -> None:
        for some in torch.arange(len(coords), device=model.device).split(AT_A_TIME):
            model.decode_masks(embedding.features, coords[some], labels[some])

    yield f"{len(boxes)} boxes in one call", lambda: predictor.predict(embedding, boxes=boxes)
    yield (
        f"{len(coords)} points, all their masks, as everything mode decodes",
        lambda: ManyPrompts(model, embedding.features).decode(coords, labels, outputs),
    )
    yield f"{len(coords)} points, plain decoder, {AT_A_TIME} at a time", plain
    generator = SamAutomaticMaskGenerator(model, points_per_side=count)
    yield f"everything mode, {count} × {count} points", lambda: generator.generate(photo)


@torch.inference_mode()
def measure_many(model: Sam, architecture: str, settings: Settings) -> Iterator[Many]:
    """Time each call; whatever fails is told in its ``problem``."""
    rounds = max(2, settings.rounds // 10)
    try:
        todo = list(calls(model, architecture, settings))
    except Exception as error:  # no memory for the picture
        yield Many(architecture, "many prompts", problem=first_line(error))
        return
    for what, call in todo:
        result = Many(architecture, what)
        try:
            result.ms = median_ms(call, model.device, rounds)
        except Exception as error:  # no memory, or two devices that meet: go on
            result.problem = first_line(error)
        yield result
