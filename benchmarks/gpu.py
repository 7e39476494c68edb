"""MobileSAM's architecture on a GPU, SAM ViT-H's beside it, and whether fast paths keep the masks.

``python -m benchmarks.gpu`` prints four Markdown tables and one line of JSON. Without an NVIDIA
GPU it says so and leaves the cells empty; ``--device cpu --quick`` runs all its code on a CPU, on
tiny pictures, to show that it works, and its numbers mean nothing. What fails is told, and the rest
measured. A run that is ended, or cut off by ``--minutes``, prints the tables as far as it has got.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.common import ROOT
from benchmarks.gpu_many import measure_many
from benchmarks.gpu_paths import (
    MODES,
    PRECISIONS,
    ModelPath,
    first_line,
    in_precision,
    median_ms,
)
from benchmarks.gpu_results import (
    NAMES,
    QUICK,
    Many,
    MaskAgreement,
    Results,
    Settings,
    Speed,
    report,
)
from benchmarks.time_limit import CutOff, cut_off_after
from mobilesam import MODELS, available, load_model
from mobilesam.masks import mask_iou
from mobilesam.modeling import Sam, build_model, prepare_for_inference

OFFICIAL = {"tiny_vit": "mobile_sam", "sam_vit_h": "sam_vit_h", "sam_vit_b": "sam_vit_b"}
MOBILE_SAM = "tiny_vit"
REFERENCE = ("fp32", "eager")
WANTED = ("bf16", "fp16", "fp32")  # precisions, in the order in which they are measured
NO_GRAPHS = "CUDA graphs need a CUDA device"
GRID = (0.25, 0.5, 0.75)  # of a photo's sides: where it is clicked to compare masks


def paths(
    architecture: str, settings: Settings, compiles: bool | None = None
) -> list[tuple[str, str]]:
    """Return precision and mode of the paths to measure, the most wanted precision first.

    Args:
        architecture: The image encoder's name; only MobileSAM is compiled.
        settings: What to measure.
        compiles: Only those that compile, or only the others; by default all.
    """
    modes = [
        mode
        for mode in settings.modes
        if (compiles is None or mode.startswith("compiled") == compiles)
        and (architecture == MOBILE_SAM or not mode.startswith("compiled"))
    ]
    precisions = [precision for precision in WANTED if precision in settings.precisions]
    return [(precision, mode) for precision in precisions for mode in modes]


def compared_paths(settings: Settings, compiles: bool | None = None) -> list[tuple[str, str]]:
    """Return the paths of MobileSAM but the one that the others' masks are compared with."""
    return [path for path in paths(MOBILE_SAM, settings, compiles) if path != REFERENCE]


def load(architecture: str, image_size: int, device: torch.device) -> tuple[Sam, str]:
    """Return a model of that architecture, and whose weights it has.

    The official weights if they are on this machine and made for that size, else random ones:
    they cost the same.
    """
    official = OFFICIAL[architecture]
    if image_size == Settings.image_size and available(official):
        model = load_model(official, download=False)
        return copy.deepcopy(model).to(device), "official weights"
    torch.manual_seed(0)
    with device:  # drawing SAM ViT-H's weights takes a CPU a quarter of a minute
        model = build_model(architecture, image_size, name=NAMES[architecture])
    return prepare_for_inference(model).to(device), "random weights"


def inputs(
    batch: int, image_size: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return noise pictures (B, 3, S, S) uint8, and one click on each: coordinates and labels."""
    pixels = torch.randint(0, 256, (batch, 3, image_size, image_size), dtype=torch.uint8)
    coords = torch.tensor([[[image_size / 2, image_size / 2], [0.0, 0.0]]]).repeat(batch, 1, 1)
    labels = torch.tensor([[1, -1]]).repeat(batch, 1)  # -1: SAM's padding point behind clicks
    return pixels.to(device), coords.to(device), labels.to(device)


@torch.no_grad()
def measure_speed(model: Sam, speed: Speed, settings: Settings) -> None:
    """Time one path; whatever fails, such as memory, is told in its ``problem``."""
    device, rounds, mode = model.device, settings.rounds, speed.mode
    if mode.endswith("CUDA graph") and device.type != "cuda":
        speed.problem = NO_GRAPHS
        return
    try:
        path = ModelPath(in_precision(model, PRECISIONS[speed.precision]), mode)
        pixels, coords, labels = inputs(1, settings.image_size, device)
        features = path.model.encode_image(pixels)
        speed.encoder_ms = median_ms(lambda: path.encode(pixels), device, rounds)
        speed.decoder_ms = median_ms(lambda: path.decode(features, coords, labels), device, rounds)
        speed.pipeline_ms = median_ms(lambda: path.segment(pixels, coords, labels), device, rounds)
        many = inputs(settings.batch, settings.image_size, device)
        path = ModelPath(path.model, mode)  # a graph has the shapes it was captured with
        batch_ms = median_ms(lambda: path.segment(*many), device, max(3, rounds // 3))
        speed.images_per_s = settings.batch * 1000 / batch_ms
    except Exception as error:  # no memory, or what a compiler or a capture cannot do: go on
        speed.problem = first_line(error)


def _free() -> None:
    """Forget compiled code, of which PyTorch keeps a limited number, and unused memory."""
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def measure_speeds(
    architecture: str, compiles: bool, settings: Settings, device: torch.device, found: Results
) -> None:
    """Time an architecture's paths: those that compile, or the others."""
    todo = paths(architecture, settings, compiles)
    if not todo:
        return
    try:
        model, found.weights[architecture] = load(architecture, settings.image_size, device)
    except Exception as error:  # no memory: the others may have enough
        found.speeds += [Speed(architecture, *path, problem=first_line(error)) for path in todo]
        return
    for path in todo:
        found.speeds.append(Speed(architecture, *path))
        measure_speed(model, found.speeds[-1], settings)
        _say(found.speeds[-1])
        _free()
    del model
    _free()


def measure_many_prompts(settings: Settings, device: torch.device, found: Results) -> None:
    """Time many prompts with MobileSAM's decoder, which is the others', too."""
    if MOBILE_SAM not in settings.architectures:
        return
    try:
        model, _ = load(MOBILE_SAM, settings.image_size, device)
    except Exception as error:  # no memory
        found.many.append(Many(MOBILE_SAM, "many prompts", problem=first_line(error)))
        return
    for result in measure_many(model, MOBILE_SAM, settings):
        found.many.append(result)
        _say(result)
    _free()


def example_prompts(
    photos: int, image_size: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield example photos, cut square, each with nine clicks and one box.

    Yields:
        (1, 3, S, S) uint8 pixels, (10, 2, 2) coordinates, (10, 2) labels.
    """
    for file in sorted((ROOT / "examples").glob("*.jpg"))[:photos]:
        with Image.open(file) as opened:
            photo = opened.convert("RGB")
        side = min(photo.size)
        left, top = ((length - side) // 2 for length in photo.size)
        photo = photo.crop((left, top, left + side, top + side)).resize((image_size, image_size))
        pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None]
        clicks = [[[x * image_size, y * image_size], [0.0, 0.0]] for y in GRID for x in GRID]
        box = [[image_size * GRID[0]] * 2, [image_size * GRID[-1]] * 2]
        labels = [[1, -1]] * len(clicks) + [[2, 3]]  # a click and padding; a box's two corners
        yield (
            pixels.to(device),
            torch.tensor([*clicks, box]).to(device),
            torch.tensor(labels).to(device),
        )


def masks_of(
    path: ModelPath, pixels: torch.Tensor, coords: torch.Tensor, labels: torch.Tensor
) -> list[np.ndarray]:
    """Return the (S, S) bool mask of each prompt on one picture, decoded one by one."""
    features = path.encode(pixels)
    size = (pixels.shape[-2], pixels.shape[-1])
    masks = []
    for number in range(len(coords)):
        prompt = slice(number, number + 1)
        low_res, _ = path.decode(features, coords[prompt], labels[prompt])
        logits = path.model.postprocess_masks(low_res[:, :1].float(), size, size)
        masks.append((logits[0, 0] > path.model.mask_threshold).cpu().numpy())
    return masks


@torch.no_grad()
def compare_masks(model: Sam, result: MaskAgreement, settings: Settings) -> None:
    """Compare a path's masks with eager fp32's; empty ones of the latter are left out."""
    if result.mode.endswith("CUDA graph") and model.device.type != "cuda":
        result.problem = NO_GRAPHS
        return
    reference = ModelPath(model, REFERENCE[1])
    ious = []
    try:
        fast = ModelPath(in_precision(model, PRECISIONS[result.precision]), result.mode)
        for photo in example_prompts(settings.photos, model.image_size, model.device):
            for true, mask in zip(masks_of(reference, *photo), masks_of(fast, *photo), strict=True):
                if true.any():
                    ious.append(mask_iou(mask, true))
    except Exception as error:  # as above
        result.problem = first_line(error)
        return
    result.prompts = len(ious)
    if ious:
        result.mean_iou, result.lowest_iou = float(np.mean(ious)), min(ious)


def compare_all_masks(
    compiles: bool, settings: Settings, device: torch.device, found: Results
) -> None:
    """Compare paths with the reference, on our own models and MobileSAM if it is here."""
    ours = [name for name, spec in MODELS.items() if spec.checkpoint is None]
    todo = compared_paths(settings, compiles) if settings.photos else []
    for name in filter(available, [*ours, "mobile_sam"] if todo else []):
        try:
            model = copy.deepcopy(load_model(name, download=False)).to(device)
        except Exception as error:  # no memory
            problem = first_line(error)
            found.agreements += [MaskAgreement(name, *path, problem=problem) for path in todo]
            continue
        for path in todo:
            result = MaskAgreement(name, *path)
            compare_masks(model, result, settings)
            found.agreements.append(result)
            _say(result)
            _free()


def measure_all(settings: Settings, device: torch.device, found: Results) -> None:
    """Measure everything, the most wanted first: borrowed time may end before it is done.

    MobileSAM, whether its fast paths keep the masks, the other architectures, many prompts; last
    what compiles, which takes minutes before anything can be timed.
    """
    first, *others = sorted(settings.architectures, key=lambda name: name != MOBILE_SAM)
    measure_speeds(first, False, settings, device, found)
    compare_all_masks(False, settings, device, found)
    for architecture in others:
        measure_speeds(architecture, False, settings, device, found)
    measure_many_prompts(settings, device, found)
    measure_speeds(first, True, settings, device, found)
    compare_all_masks(True, settings, device, found)


def _say(result: Speed | Many | MaskAgreement) -> None:
    """Tell a result as soon as it is there: a run that is cut off has not been in vain."""
    print(json.dumps(asdict(result)), file=sys.stderr, flush=True)


def settings_from(options: argparse.Namespace) -> Settings:
    """Return the settings, with what the command line sets."""
    given: dict[str, Any] = {
        name: tuple(getattr(options, name))
        for name in ("architectures", "precisions", "modes")
        if getattr(options, name)
    }
    given |= {
        name: getattr(options, name)
        for name in ("rounds", "photos")
        if getattr(options, name) is not None
    }
    return replace(QUICK if options.quick else Settings(), **given)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", help="cuda, or cpu; default: cuda where there is one")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does the code work?")
    for name, choices in (("architectures", NAMES), ("precisions", PRECISIONS), ("modes", MODES)):
        parser.add_argument(f"--{name}", nargs="+", choices=list(choices), help="only these")
    parser.add_argument("--minutes", type=float, help="print what there is after so long")
    parser.add_argument("--rounds", type=int, help="timed calls")
    parser.add_argument("--photos", type=int, help="on which masks are compared; 0: none are")
    options = parser.parse_args(words)
    if options.minutes is not None and not options.minutes > 0:
        parser.error(f"--minutes must be positive; got {options.minutes:g}.")
    return options


def nothing_measured(settings: Settings) -> Results:
    """Return the results of a machine without a GPU: the tables' rows, without numbers."""
    found = Results()
    found.speeds = [
        Speed(architecture, *path)
        for architecture in settings.architectures
        for path in paths(architecture, settings)
    ]
    found.agreements = [MaskAgreement("embedded", *path) for path in compared_paths(settings)]
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print.

    Returns:
        2 if a device was asked for that is not there, 1 if the run was cut off.
    """
    options = parse(words)
    settings = settings_from(options)
    has_cuda = torch.cuda.is_available()
    if (options.device or "").startswith("cuda") and not has_cuda:
        print(
            f"--device {options.device} was asked for, but PyTorch sees no NVIDIA GPU here; run it "
            "on a machine with one, or with --device cpu --quick.",
            file=sys.stderr,
        )
        return 2
    if options.device is None and not has_cuda:
        print("PyTorch sees no NVIDIA GPU here: nothing was measured, and the cells stay empty.")
        if torch.version.cuda is None and torch.version.hip is None:
            print(
                "This PyTorch is a CPU build. If there is a GPU: make clean, then make bench-gpu."
            )
        report(settings, "no NVIDIA GPU", nothing_measured(settings))
        return 0
    device = torch.device(options.device or "cuda")
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    if device.type == "cuda":
        place += f", CUDA {torch.version.cuda}"
        if device.index is not None:
            torch.cuda.set_device(device)  # events, streams and graphs are the current device's
    found = Results()
    try:
        with cut_off_after(options.minutes):
            measure_all(settings, device, found)
    except CutOff as why:
        found.cut_off = str(why)
    finally:
        report(settings, place, found)
    return 1 if found.cut_off else 0


if __name__ == "__main__":
    sys.exit(main())
