"""MobileSAM's image encoder at 1024 px: prepared for inference, against timm's called plainly."""

from __future__ import annotations

import copy
import statistics

import torch

from benchmarks.common import THREADS, paired_ms, print_table, spread
from mobilesam.modeling import build_model, prepare_for_inference

IMAGE_SIZE = 1024  # px
ROUNDS = 10


def main() -> None:
    """Time both encoders in turns on the same pixels, and compare their outputs."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    plain = build_model("tiny_vit", IMAGE_SIZE)
    prepared = prepare_for_inference(copy.deepcopy(plain))
    pixels = torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE) * 255
    normalised = plain.preprocess(pixels)  # (1, 3, 1024, 1024)
    with torch.inference_mode():
        difference = (plain.image_encoder(normalised) - prepared.encode_image(pixels)).abs().max()
        times = paired_ms(
            {
                "timm's encoder, called plainly": lambda: plain.image_encoder(normalised),
                "prepared for inference, normalising included": lambda: prepared.encode_image(
                    pixels
                ),
            },
            ROUNDS,
        )
    slow, fast = (statistics.median(values) for values in times.values())
    rows = [[name, *spread(values)] for name, values in times.items()]
    rows.append(["ratio of the medians", f"{slow / fast:.2f}x", "", ""])
    rows.append(["largest difference of the outputs", f"{difference.item():.1e}", "", ""])
    title = f"Image encoder of MobileSAM, {IMAGE_SIZE} x {IMAGE_SIZE} px, {ROUNDS} rounds in turns"
    print_table(title, ["", "median ms", "p95 ms", "best ms"], rows)


if __name__ == "__main__":
    main()
