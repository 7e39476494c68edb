"""Everything mode: time and memory beside a plain loop, and what the fast mode finds.

The plain loop does what SAM's code does: it repeats the embedding for each prompt, decodes with
written-out attention and transposed convolutions, upsamples all three masks of a batch to the
photo's size and filters only then. Each measurement has a process of its own, which has done the
same with a few points before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import PHOTO, ROOT, THREADS, print_table
from mobilesam import Predictor, load_model, rle
from mobilesam.everything import EverythingOptions, generate
from mobilesam.everything_search import CropSearch
from mobilesam.masks import mask_iou, stability_score
from mobilesam.modeling import Sam, build_model, prepare_for_inference
from mobilesam.modeling.layers import image_cells
from mobilesam.nms import nms
from mobilesam.predictor import ImageEmbedding
from mobilesam.transforms import input_size_for, to_input_frame

PHOTO_SIZE = (768, 1024)  # of the timed picture: height, width
GRIDS = (8, 16, 32)  # points per side
MODELS = ("MobileSAM's shape", "embedded")
PLAIN_BATCHES = 4  # of 64 points, from which the plain loop's whole time is reckoned
REPEATS = 3  # of each measurement; the median counts
PASS_BY_IOU, PASS_BY_STABILITY = 0.4, 0.7  # shares of masks, about those of SAM on photos
PHOTOS = 20  # of the validation set
WARM_UP = 8  # points per side
SAME = 0.8  # IoU from which on a mask counts as found again
MIB = 1024  # KiB


def random_mobile_sam() -> Predictor:
    """Return MobileSAM's architecture with random weights that answer prompts unlike each other.

    Its three masks have the same mean predicted IoU, so that which ones pass varies.
    """
    torch.manual_seed(0)
    model = build_model("tiny_vit")
    with torch.no_grad():
        for parameter in model.mask_decoder.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=(parameter[0].numel()) ** -0.5)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
        coords, labels = torch.rand(16, 2, 2) * 1024, torch.tensor([[1, -1]]).expand(16, 2)
        _, iou = model.decode_masks(torch.randn(1, 256, 64, 64), coords, labels)
        model.mask_decoder.iou_prediction_head.layers[-1].bias += 0.5 - iou.mean(dim=0)
    return Predictor(prepare_for_inference(model))


def subject(name: str) -> tuple[Predictor, ImageEmbedding]:
    """Return a model and an embedding; MobileSAM's is noise, which takes the same time."""
    if name == "embedded":
        predictor = Predictor(load_model("embedded"))
        embedding = predictor.encode(PHOTO)
        return predictor, replace(embedding, original_size=PHOTO_SIZE)
    predictor = random_mobile_sam()
    model, size = predictor.model, input_size_for(PHOTO_SIZE, 1024)
    features = torch.randn(1, 256, 64, 64)
    names = model.name, model.identity
    return predictor, ImageEmbedding(features, None, PHOTO_SIZE, size, 1024, *names, 0.0)


def usual_thresholds(predictor: Predictor, embedding: ImageEmbedding) -> dict[str, float]:
    """Choose thresholds that let the usual shares of masks pass, whatever the weights are."""
    free = EverythingOptions(points_per_side=6, pred_iou_thresh=0, stability_score_thresh=0)
    crop = CropSearch(predictor, embedding, (0, 0, *PHOTO_SIZE[::-1]), PHOTO_SIZE, free)
    masks = [one for some in crop.decode(free.grids()[0] * PHOTO_SIZE[::-1]) for one in some]
    offset = 0.1 * float(np.mean([one.low_res_logits.std() for one in masks]))
    scores = [stability_score(one.low_res_logits.numpy(), 0.0, offset) for one in masks]
    predicted = [one.predicted_iou for one in masks]
    return {
        "pred_iou_thresh": float(np.quantile(predicted, 1 - PASS_BY_IOU)),
        "stability_score_thresh": float(np.nanquantile(scores, 1 - PASS_BY_STABILITY)),
        "stability_score_offset": offset,
    }


def plain_logits(
    model: Sam, embedding: ImageEmbedding, points: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode points as SAM does: (B, 3, H, W) logits at the photo's size, (B, 3) IoU."""
    decoder, encoder = model.mask_decoder, model.prompt_encoder
    grid = (embedding.features.shape[-2], embedding.features.shape[-1])
    coords = np.zeros((len(points), 2, 2))
    coords[:, 0] = to_input_frame(points, embedding.original_size, embedding.input_size)
    in_frame, labels = torch.from_numpy(coords).float(), torch.tensor([[1, -1]] * len(points))
    if model.draws_prompts:
        dense = encoder.dense(encoder.draw(in_frame, labels, grid))
    else:
        dense = encoder.no_mask().expand(len(points), grid[0] * grid[1], -1)
    repeated = embedding.features.repeat_interleave(len(points), dim=0)
    cells, position = image_cells(repeated) + dense, encoder.dense_pe(*grid)
    with torch.enable_grad():  # nothing to record, but the decoder leaves out its short cuts
        tokens, cells = decoder.transformer(
            decoder.tokens(encoder.sparse(in_frame, labels)), cells, position
        )
    upscaled = decoder.output_upscaling(cells.transpose(1, 2).unflatten(-1, grid))
    low_res = decoder.mask_weights(tokens) @ upscaled.flatten(2)
    low_res = low_res.unflatten(-1, tuple(upscaled.shape[-2:]))[:, 1:]
    logits = model.postprocess_masks(low_res, embedding.input_size, embedding.original_size)
    return logits, decoder.iou_prediction_head(tokens[:, 0])[:, 1:]


@torch.inference_mode()
def plain_loop(predictor: Predictor, embedding: ImageEmbedding, options: EverythingOptions) -> int:
    """Search as SAM does, ``PLAIN_BATCHES`` batches at most; returns how many points that were."""
    model = predictor.model
    points = options.grids()[0] * embedding.original_size[::-1]
    points = points[: PLAIN_BATCHES * options.points_per_batch]
    boxes, scores, run_lengths = [], [], []
    for start in range(0, len(points), options.points_per_batch):
        logits, iou = plain_logits(
            model, embedding, points[start : start + options.points_per_batch]
        )
        logits, iou = logits.flatten(0, 1), iou.flatten()
        passed = iou > options.pred_iou_thresh
        logits, iou = logits[passed], iou[passed]
        offset = options.stability_score_offset
        smaller, larger = ((logits > cut).sum((1, 2)) for cut in (offset, -offset))
        stable = smaller / larger >= options.stability_score_thresh
        masks, iou = logits[stable] > 0, iou[stable]
        columns, rows = masks.any(1), masks.any(2)
        for index, mask in enumerate(masks.numpy()):
            x, y = columns[index].nonzero(), rows[index].nonzero()
            boxes.append([int(edge) for edge in (x[0], y[0], x[-1], y[-1])])
            run_lengths.append(rle.encode(mask))
        scores += iou.tolist()
    nms(np.reshape(boxes, (-1, 4)), np.array(scores), options.box_nms_thresh)
    return len(points)


def peak_kib(reset: bool = False) -> int:
    """Return the process's highest resident memory since the last reset (Linux only)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise RuntimeError("/proc/self/status has no VmHWM")


def search(
    kind: str, predictor: Predictor, embedding: ImageEmbedding, options: EverythingOptions
) -> tuple[int, int]:
    """Search in one of the three ways; returns how many points were asked for, and the masks."""
    if kind == "plain":
        return plain_loop(predictor, embedding, options), 0
    masks = sum(1 for _ in generate(predictor, embedding, options))
    return options.points_per_side**2, masks


def measure(kind: str, grid: int, name: str, thresholds: dict[str, float]) -> dict[str, float]:
    """Search once: seconds, peak memory above what was held before, points and masks.

    What a first search leaves with the process for later ones counts as its memory.
    """
    torch.set_num_threads(THREADS)
    predictor, embedding = subject(name)
    options = EverythingOptions(points_per_side=grid, fast=kind == "fast", **thresholds)
    if kind == "plain":
        for module in predictor.model.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False
    before = peak_kib(reset=True)
    search(kind, predictor, embedding, replace(options, points_per_side=WARM_UP))
    start = time.perf_counter()
    points, masks = search(kind, predictor, embedding, options)
    seconds = (time.perf_counter() - start) * grid**2 / points
    return {
        "seconds": seconds,
        "mib": (peak_kib() - before) / MIB,
        "points": points,
        "masks": masks,
    }


def in_a_process(*words: str) -> dict[str, float]:
    """Measure in a new process, so that nothing is warm or held from before."""
    command = [sys.executable, "-m", "benchmarks.everything", *words]
    return json.loads(subprocess.check_output(command, cwd=ROOT, text=True))


def times_and_memory(grids: list[int]) -> None:
    """Print a table for each model; every measurement in a process of its own."""
    for name in MODELS:
        rows, thresholds = [], json.dumps(in_a_process("--thresholds", name))
        for grid in grids:
            plain = None
            for kind in ("plain", "default", "fast"):
                words = "--measure", kind, str(grid), name, thresholds
                runs = [in_a_process(*words) for _ in range(REPEATS)]
                got = sorted(runs, key=lambda run: run["seconds"])[REPEATS // 2]
                plain = plain or got["seconds"]
                note = "" if kind != "plain" else f", {got['points']} points measured"
                cells = f"{got['seconds']:.2f}", f"{plain / got['seconds']:.1f}"
                rows.append([f"{grid} x {grid}, {kind}{note}", *cells, f"{got['mib']:,.0f}"])
        print_table(
            f"Everything mode, {name}, {PHOTO_SIZE[1]} x {PHOTO_SIZE[0]} px, the picture encoded",
            ["search", "s", "times as fast", "peak MiB"],
            rows,
        )


def found_again(data: Path, grid: int) -> None:
    """Compare the fast mode with the default one on photos, with the embedded model."""
    from mobilesam.training.sources import open_source

    torch.set_num_threads(THREADS)
    predictor, source = Predictor(load_model("embedded")), open_source(data, "val")
    options = EverythingOptions.for_model(predictor.model, points_per_side=grid)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    counts: dict[bool, list[int]] = {False: [], True: []}
    again = 0
    samples = source.samples[:: max(1, len(source.samples) // PHOTOS)][:PHOTOS]
    for sample in samples:
        embedding = predictor.encode(source.photo(sample))
        masks = {}
        for fast in (False, True):
            start = time.perf_counter()
            records = list(generate(predictor, embedding, replace(options, fast=fast)))
            seconds[fast].append(time.perf_counter() - start)
            counts[fast].append(len(records))
            masks[fast] = [record.mask() for record in records]
        again += sum(
            any(mask_iou(mask, other) >= SAME for other in masks[True]) for mask in masks[False]
        )
    rows = [
        [kind, f"{statistics.mean(seconds[fast]):.2f}", sum(counts[fast])]
        for kind, fast in (("default", False), ("fast", True))
    ]
    total = sum(counts[False])
    print_table(
        f"Embedded model on {len(samples)} validation photos, {grid} x {grid} points: {again} of "
        f"{total} masks found again by the fast mode ({again / max(total, 1):.1%}, IoU ≥ {SAME})",
        ["search", "mean s a photo", "masks"],
        rows,
    )


def main() -> None:
    """Print all tables, or as JSON one measurement or what it needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--grids", type=int, nargs="+", default=list(GRIDS))
    parser.add_argument("--measure", nargs=4, metavar=("KIND", "GRID", "MODEL", "JSON"))
    parser.add_argument("--thresholds", metavar="MODEL")
    args = parser.parse_args()
    if args.thresholds:
        print(json.dumps(usual_thresholds(*subject(args.thresholds))))
        return
    if args.measure:
        kind, grid, name, thresholds = args.measure
        print(json.dumps(measure(kind, int(grid), name, json.loads(thresholds))))
        return
    times_and_memory(args.grids)
    if args.data.is_dir():
        found_again(args.data, max(args.grids))
    else:
        print(f"{args.data} is not there; name the validation photos with --data.")


if __name__ == "__main__":
    main()
