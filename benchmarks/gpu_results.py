"""What the GPU benchmark is told and finds, and its tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import torch

from benchmarks.common import machine, print_table
from benchmarks.gpu_paths import MODES, PRECISIONS

NAMES = {"tiny_vit": "MobileSAM", "sam_vit_h": "SAM ViT-H", "sam_vit_b": "SAM ViT-B"}
PAPER_MS = {"SAM ViT-H": (452, 4), "MobileSAM": (8, 4)}  # encoder, decoder (MobileSAM, table 3)
LEAST_IOU = 0.99  # mean, of a fast path's masks with those of eager fp32
EMPTY = "–"


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
        architectures: Image encoders' names.
        precisions: Keys of ``PRECISIONS``.
        modes: Of ``MODES``; only MobileSAM takes those that compile.
        image_size: Side of the input frame, pixels.
        batch: Pictures at once for the throughput.
        rounds: Timed calls.
        photos: Example photos on which masks are compared.
        boxes: In one call.
        points_per_side: Of everything mode's grid.
    """

    architectures: tuple[str, ...] = ("tiny_vit", "sam_vit_h")
    precisions: tuple[str, ...] = tuple(PRECISIONS)
    modes: tuple[str, ...] = MODES
    image_size: int = 1024
    batch: int = 16
    rounds: int = 30
    photos: int = 8
    boxes: int = 100
    points_per_side: int = 32


QUICK = Settings(
    architectures=("tiny_vit", "sam_vit_b"),
    modes=("eager",),
    image_size=64,
    batch=2,
    rounds=2,
    photos=1,
    boxes=9,
    points_per_side=2,
)


@dataclass
class Speed:
    """What one path took; None where it was not measured.

    Attributes:
        architecture: The image encoder's name.
        precision: Key of ``PRECISIONS``.
        mode: One of ``MODES``.
        encoder_ms: One picture to its image embedding, normalising included.
        decoder_ms: One click to low-res masks and predicted IoU.
        pipeline_ms: One picture on the GPU and a click to a mask of the picture's size.
        images_per_s: Pictures a second through the pipeline, in batches.
        problem: Why something was not measured.
    """

    architecture: str
    precision: str
    mode: str
    encoder_ms: float | None = None
    decoder_ms: float | None = None
    pipeline_ms: float | None = None
    images_per_s: float | None = None
    problem: str = ""


@dataclass
class Many:
    """What many prompts took against one picture, eager and in fp32.

    Attributes:
        architecture: The image encoder's name.
        what: The prompts, and how they were decoded.
        ms: All of them; None where it was not measured.
        problem: Why not.
    """

    architecture: str
    what: str
    ms: float | None = None
    problem: str = ""


@dataclass
class MaskAgreement:
    """How far a path's masks are those of eager fp32, on real weights.

    Attributes:
        model: Whose weights.
        precision: Key of ``PRECISIONS``.
        mode: One of ``MODES``.
        prompts: How many masks were compared.
        mean_iou: Of both masks.
        lowest_iou: The worst of them.
        problem: Why nothing was compared.
    """

    model: str
    precision: str
    mode: str
    prompts: int = 0
    mean_iou: float | None = None
    lowest_iou: float | None = None
    problem: str = ""


@dataclass
class Results:
    """What a run has found so far.

    Attributes:
        speeds: Of every path.
        weights: Whose weights each architecture has, by its name.
        many: Times of many prompts.
        agreements: Of masks.
        cut_off: Why the run ended before it was done; empty if it was not.
    """

    speeds: list[Speed] = field(default_factory=list)
    weights: dict[str, str] = field(default_factory=dict)
    many: list[Many] = field(default_factory=list)
    agreements: list[MaskAgreement] = field(default_factory=list)
    cut_off: str = ""

    def in_order(self, settings: Settings) -> Results:
        """Return them in the order of the settings, whatever was measured first."""
        precisions, modes = list(settings.precisions), list(settings.modes)

        def place(one: Speed | MaskAgreement) -> tuple[int, int]:
            return precisions.index(one.precision), modes.index(one.mode)

        names = list(settings.architectures)
        models = list(dict.fromkeys(each.model for each in self.agreements))
        return replace(
            self,
            speeds=sorted(self.speeds, key=lambda s: (names.index(s.architecture), *place(s))),
            agreements=sorted(self.agreements, key=lambda a: (models.index(a.model), *place(a))),
        )


def _cell(value: float | None, digits: int = 2) -> str:
    return EMPTY if value is None else f"{value:.{digits}f}"


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def speed_rows(speeds: Sequence[Speed]) -> list[list[str]]:
    """Return the speed table's rows."""
    return [
        [
            NAMES[speed.architecture],
            speed.precision,
            speed.mode,
            _cell(speed.encoder_ms),
            _cell(speed.decoder_ms),
            _cell(speed.pipeline_ms),
            _cell(speed.images_per_s, 1),
        ]
        for speed in speeds
    ]


def paper_rows(speeds: Sequence[Speed], settings: Settings) -> list[list[str]]:
    """Return the rows of both architectures side by side, the paper's and this machine's.

    Here: eager fp32, as the paper most likely ran it, and each architecture's fastest pipeline.
    """
    rows = [[f"{name}, paper", *map(str, ms), str(sum(ms))] for name, ms in PAPER_MS.items()]
    for architecture in reversed(settings.architectures):
        mine = [speed for speed in speeds if speed.architecture == architecture]
        chosen = [s for s in mine if (s.precision, s.mode) == ("fp32", "eager")]
        done = [s for s in mine if s.pipeline_ms is not None]
        fastest = min(done, key=lambda s: s.pipeline_ms or 0.0, default=None)
        if fastest is not None and fastest not in chosen:
            chosen.append(fastest)
        for speed in chosen:
            times = (speed.encoder_ms, speed.decoder_ms)
            cells = [_cell(value) for value in (*times, _sum(*times))]
            name = f"{NAMES[architecture]}, here, {speed.precision} {speed.mode}"
            rows.append([name, *cells])
    return rows


def agreement_rows(results: Sequence[MaskAgreement]) -> list[list[str]]:
    """Return the rows of the table that says whether fast paths keep the masks."""
    return [
        [
            result.model,
            result.precision,
            result.mode,
            str(result.prompts),
            _cell(result.mean_iou, 4),
            _cell(result.lowest_iou, 4),
            EMPTY if result.mean_iou is None else "yes" if result.mean_iou >= LEAST_IOU else "no",
        ]
        for result in results
    ]


def report(settings: Settings, place: str, found: Results) -> None:
    """Print the tables, and all of it as one line of JSON."""
    found = found.in_order(settings)
    speeds, weights, many, agreements = (
        found.speeds,
        found.weights,
        found.many,
        found.agreements,
    )
    side = settings.image_size
    whose = "; ".join(f"{NAMES[name]}: {text}" for name, text in weights.items()) or EMPTY
    print_table(
        f"Speed, {place}: {side} x {side} px, one click, medians of {settings.rounds} ({whose})",
        [
            "architecture",
            "precision",
            "path",
            "encoder ms",
            "decoder ms",
            "pipeline ms",
            f"images/s, batch {settings.batch}",
        ],
        speed_rows(speeds),
    )
    print_table(
        f"Beside the paper's single GPU, which it does not name; here: {place}",
        ["", "encoder ms", "decoder ms", "together ms"],
        paper_rows(speeds, settings),
    )
    print_table(
        f"Many prompts, one picture, eager fp32, {place}",
        ["architecture", "what", "ms"],
        [[NAMES[result.architecture], result.what, _cell(result.ms, 1)] for result in many],
    )
    print_table(
        f"Masks of each path against eager fp32, {place}: {settings.photos} photos, 10 prompts "
        "each, real weights",
        ["model", "precision", "path", "masks", "mean IoU", "lowest", f"mean ≥ {LEAST_IOU}"],
        agreement_rows(agreements),
    )
    for result in (*speeds, *agreements):
        if result.problem:
            print(f"{result.precision} {result.mode}: {result.problem}")
    for result in many:
        if result.problem:
            print(f"{result.what}: {result.problem}")
    if found.cut_off:
        print(f"The run ended before all was measured: {found.cut_off}.")
    content = {
        "machine": machine(),
        "device": place,
        "fp32_matmul": torch.get_float32_matmul_precision(),
        "fp32_convolutions_in_tf32": torch.backends.cudnn.allow_tf32,
        "settings": asdict(settings),
        "weights": weights,
        "paper_ms": PAPER_MS,
        "speed": [asdict(speed) for speed in speeds],
        "many": [asdict(result) for result in many],
        "agreement": [asdict(result) for result in agreements],
        "cut_off": found.cut_off,
    }
    print(json.dumps(content))
