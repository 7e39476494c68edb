"""The validation within a run: each process measures its share of the photos."""

from __future__ import annotations

import torch

from mobilesam.modeling import Sam, build_model, prepare_for_inference
from mobilesam.training import processes
from mobilesam.training.evaluate import Row, evaluate_photos
from mobilesam.training.sources import Source


def measure_together(
    average: Sam, device: torch.device, source: Source, photos: int, share: tuple[int, int]
) -> list[Row] | None:
    """Measure averaged weights on the first photos of a source, dealt out to all processes.

    Args:
        average: The weights, equal in all processes but for what BatchNorm keeps on CPUs: the
            first one's count.
        device: This process's.
        source: The validation photos.
        photos: How many of them.
        share: This process's rank, and how many processes there are.

    Returns:
        The rows of all masks in the photos' order, as one process measures them; None in all
        processes but the first.
    """
    processes.take_first_buffers(average)
    mine = processes.dealt(source.samples[:photos], *share)
    model = inference_copy(average, device)
    threads = processes.workers_for(device)
    by_photo = processes.gather(list(evaluate_photos(model, source, mine, threads)))
    return None if by_photo is None else [row for rows in by_photo for row in rows]


def inference_copy(average: Sam, device: torch.device) -> Sam:
    """Return a copy of averaged weights that is ready for inference on a device."""
    model = build_model(
        average.encoder_name,
        average.image_size,
        name=average.name,
        pads_to_square=average.pads_to_square,
        draws_prompts=average.draws_prompts,
    )
    model.load_state_dict(average.state_dict())
    return prepare_for_inference(model).to(device)
