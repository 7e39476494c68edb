"""Validation's figures: IoU by set and size, calibration, agreement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mobilesam.training.agreement import PUBLISHED, Agreement, summarise_points, summarise_truth
from mobilesam.training.evaluate import (
    METRICS,
    PREDICTED,
    SIZE_CLASSES,
    Calibration,
    Row,
    by_size,
    calibration,
    summarise,
)

DPI = 120
# Okabe and Ito's colours, told apart by all kinds of colour vision; line styles and hatches help
BLUE, ORANGE, GREEN, PURPLE, BLACK, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#000000",
    "#808080",
)
STYLES = {  # metric to (colour, marker, line style, hatch)
    "box": (BLUE, "s", "-", ""),
    "click_1": (ORANGE, "o", "-", "///"),
    "click_1_oracle": (PURPLE, "v", ":", "..."),
    "click_3": (GREEN, "^", "--", "\\\\\\"),
    "click_5": (BLACK, "D", "-.", "xxx"),
    "box_itself": (GREY, "x", ":", ""),
}
SHORT = {  # METRICS in few words
    "box": "tight box",
    "click_1": "1 click",
    "click_1_oracle": "1 click, best of 3",
    "click_3": "3 clicks",
    "click_5": "5 clicks",
    "box_itself": "the box itself",
}


def size_name(above: float, up_to: float) -> str:
    """Name a size class, bounds given as shares: ``0.2 to 0.5 %``."""
    return f"{100 * above:g} to {100 * up_to:g} %"


def plot_summary(path: Path, rows: Sequence[Row], title: str) -> None:
    """Draw mean IoU by set and by size, and each mask's IoU with its tight box, as a PNG."""
    figure = Figure(figsize=(13, 9), layout="constrained")
    figure.suptitle(title)
    places = figure.subplot_mosaic([["sets", "sets"], ["sizes", "masks"]])
    _bars(places["sets"], rows)
    _sizes(places["sizes"], rows)
    axes = places["masks"]
    shares = [100 * row.share for row in rows]
    axes.scatter(shares, [row.iou["box"] for row in rows], s=6, alpha=0.4, color=BLUE)
    for bound in SIZE_CLASSES[1:-1]:
        axes.axvline(100 * bound, color="0.85", linewidth=0.8, zorder=0)
    axes.set(xscale="log", ylim=(0, 1.02), ylabel="IoU, tight box", title="Every mask")
    axes.set_xlabel("mask, % of the picture")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    figure.savefig(path, dpi=DPI)


def _bars(axes: Axes, rows: Sequence[Row]) -> None:
    summary = summarise(rows)
    width = 0.8 / len(METRICS)
    places = np.arange(len(summary))
    for number, metric in enumerate(METRICS):
        colour, _, _, hatch = STYLES[metric]
        heights = [values[metric] for values in summary.values()]
        axes.bar(
            places + (number - (len(METRICS) - 1) / 2) * width,
            heights,
            width,
            label=SHORT[metric],
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.5,
        )
    names = [f"{name}\nn = {int(values['masks'])}" for name, values in summary.items()]
    axes.set_xticks(places, names)
    axes.set(ylabel="mean IoU", ylim=(0, 1), title="By set")
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(fontsize=9, ncols=len(METRICS), loc="upper center", bbox_to_anchor=(0.5, -0.13))


def _sizes(axes: Axes, rows: Sequence[Row]) -> None:
    classes = by_size(rows)
    filled = [number for number, values in enumerate(classes) if values["masks"]]
    for metric in METRICS:
        colour, marker, line, _ = STYLES[metric]
        means = [classes[number][metric] for number in filled]
        axes.plot(filled, means, color=colour, marker=marker, linestyle=line, label=SHORT[metric])
    names = [
        f"{size_name(values['above'], values['up_to'])}\nn = {int(values['masks'])}"
        for values in classes
    ]
    axes.set_xticks(range(len(classes)), names, fontsize=8)
    axes.set(ylabel="mean IoU", ylim=(0, 1), title="By the mask's size")
    axes.set_xlabel("mask, % of the picture")
    axes.grid(axis="y", color="0.9")
    axes.legend(fontsize=8, ncols=2, loc="lower right")


def plot_calibration(path: Path, rows: Sequence[Row], title: str) -> None:
    """Draw predicted against true IoU, binned, with the number of masks in each bin, as a PNG."""
    figure = Figure(figsize=(10.5, 6), layout="constrained")
    figure.suptitle(f"{title}: predicted and true IoU")
    grid = figure.subplots(2, len(PREDICTED), sharex=True, squeeze=False, height_ratios=(3, 1))
    for (curve, counts), (prompt, name) in zip(grid.T, PREDICTED.items(), strict=True):
        _calibration_curve(curve, counts, calibration(rows, prompt), name)
    figure.savefig(path, dpi=DPI)


def _calibration_curve(curve: Axes, counts: Axes, measured: Calibration, name: str) -> None:
    filled = [item for item in measured.bins if item.masks]
    curve.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="as predicted")
    curve.plot(
        [item.predicted for item in filled],
        [item.true for item in filled],
        color=BLUE,
        marker="o",
        label="mean of a bin",
    )
    curve.set(xlim=(0, 1), ylim=(0, 1), ylabel="mean true IoU", title=name)
    curve.grid(color="0.9")
    curve.legend(loc="upper left", fontsize=9)
    curve.text(
        0.97,
        0.04,
        f"off by {measured.mean_absolute_error:.3f} on average\n"
        f"expected calibration error {measured.expected_calibration_error:.3f}",
        ha="right",
        va="bottom",
        transform=curve.transAxes,
    )
    middles = [(item.above + item.up_to) / 2 for item in measured.bins]
    bars = counts.bar(
        middles, [item.masks for item in measured.bins], 0.9 / len(measured.bins), color=BLUE
    )
    counts.bar_label(bars, fontsize=8)
    counts.margins(y=0.25)
    counts.set(xlabel="predicted IoU", ylabel="masks")


def plot_agreement(
    path: Path, rows: Sequence[Row], agreement: Agreement, model: str, against: str
) -> None:
    """Draw agreement by distance beside the paper's, and both models' IoU with the truth."""
    figure = Figure(figsize=(12.5, 5), layout="constrained")
    distances, truth = figure.subplots(1, 2)
    _distances(distances, agreement, model, against)
    overall = summarise_truth(rows, agreement)["overall"]
    metrics = [metric for metric in METRICS if metric in overall]
    places = np.arange(len(metrics))
    for shift, which, name, colour, hatch in (
        (-0.2, "model", model, BLUE, ""),
        (0.2, "against", against, ORANGE, "///"),
    ):
        heights = [overall[metric][which] for metric in metrics]
        bars = truth.bar(
            places + shift, heights, 0.4, label=name, color=colour, hatch=hatch, edgecolor="white"
        )
        truth.bar_label(bars, fmt="%.3f", fontsize=8)
    truth.set_xticks(places, [SHORT[metric] for metric in metrics], fontsize=8)
    truth.set(ylim=(0, 1.12), ylabel="mean IoU", title=f"With the truth, {len(rows)} masks")
    truth.legend(fontsize=9, loc="upper left", ncols=2)
    figure.savefig(path, dpi=DPI)


def _distances(axes: Axes, agreement: Agreement, model: str, against: str) -> None:
    summary: list[dict[str, Any]] = summarise_points(agreement.points)
    known = [values for values in summary if values["mean_iou"] is not None]
    at = [values["distance"] for values in known]
    means = [values["mean_iou"] for values in known]
    axes.plot(at, means, color=BLUE, marker="o", label=f"{model} with {against} (here)")
    for (name, values), colour, marker, line in zip(
        PUBLISHED.items(), (GREEN, ORANGE), ("^", "v"), ("--", ":"), strict=True
    ):
        label = f"{name.replace(' (paper)', '')} with SAM (paper)"
        axes.plot(
            list(values), list(values.values()), color=colour, marker=marker, ls=line, label=label
        )
    axes.set_xticks([values["distance"] for values in summary])
    axes.set(ylim=(0, 1.02), ylabel="mean IoU of the two masks", title="Two-point prompts")
    axes.set_xlabel("distance of the points, px of a photo whose longer side is 1024")
    axes.grid(color="0.9")
    axes.legend(fontsize=9, loc="lower right")
