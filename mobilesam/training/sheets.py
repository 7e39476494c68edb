"""Sheets of photos with prompt, true mask and the model's mask, to be looked at."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import Stroke, withStroke

from mobilesam.masks import mask_to_box
from mobilesam.predictor import Predictor
from mobilesam.training.clicks import innermost
from mobilesam.training.evaluate import Row, box_mask
from mobilesam.training.plots import BLUE, ORANGE
from mobilesam.training.sources import Source

RANDOM_PHOTOS = 24
WORST_PHOTOS = 12
COLUMNS = 6
PANEL_INCHES = 2.7
DPI = 110
PANEL_PIXELS = 600  # of a photo in one panel, at most: more cannot be seen
CONTEXT = 1.4  # side of the part shown, by the longer side of what is to be seen
LEAST_SHARE = 0.35  # of the photo's longer side that is shown at least
DASHED = (0, (4, 2.5))
DOTTED = (0, (1, 1.2))
PROMPT_NAMES = {"box": "box", "click_1": "click"}

Panel = tuple[Row, str]  # a mask, and how it was prompted: "box" or "click_1"


def random_rows(rows: Sequence[Row], seed: int, count: int = RANDOM_PHOTOS) -> list[Row]:
    """Draw one mask of each of ``count`` photos, all photos and all their masks being equal.

    Args:
        rows: What was measured.
        seed: Of the draw.
        count: How many; all photos if there are fewer.
    """
    random = np.random.default_rng(seed)
    photos: dict[str, list[Row]] = {}
    for row in rows:
        photos.setdefault(row.key, []).append(row)
    drawn = random.permutation(len(photos))[:count]
    masks = list(photos.values())
    return [masks[photo][random.integers(len(masks[photo]))] for photo in drawn]


def worst_rows(rows: Sequence[Row], metric: str, count: int = WORST_PHOTOS) -> list[Row]:
    """Return the worst mask by ``metric`` of each of the worst photos, the worst first."""
    worst: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row.iou[metric]):
        worst.setdefault(row.key, row)
    return list(worst.values())[:count]


def write_contact_sheet(
    path: Path, rows: Sequence[Row], predictor: Predictor, source: Source, title: str
) -> None:
    """Write a PNG of masks, each prompted with its tight box and with one click.

    Args:
        path: The file.
        rows: At least one.
        predictor: Of the model that the rows were measured with.
        source: Of the photos.
        title: Above it all.
    """
    panels = [(row, prompt) for row in rows for prompt in ("box", "click_1")]
    lines = -(-len(panels) // COLUMNS)
    figure = _figure(lines, title)
    _draw_panels(figure, panels, lines, predictor, source)
    figure.savefig(path, dpi=DPI)


def write_worst(
    path: Path, rows: Sequence[Row], predictor: Predictor, source: Source, title: str
) -> None:
    """Write a PNG of the masks with the lowest IoU, one of a photo, by tight box and by one click.

    Args:
        path: The file.
        rows: All that were measured; at least one.
        predictor: Of the model that they were measured with.
        source: Of the photos.
        title: Above it all.
    """
    blocks = {
        prompt: [(row, prompt) for row in worst_rows(rows, prompt)] for prompt in PROMPT_NAMES
    }
    lines = -(-len(blocks["box"]) // COLUMNS)
    figure = _figure(2 * lines, title)
    halves = figure.subfigures(2, 1)
    titles = ("Lowest IoU with the tight box", "Lowest IoU with one click")
    for half, panels, name in zip(halves, blocks.values(), titles, strict=True):
        half.suptitle(name)
        _draw_panels(half, panels, lines, predictor, source)
    figure.savefig(path, dpi=DPI)


def _figure(lines: int, title: str) -> Figure:
    figure = Figure(
        figsize=(COLUMNS * PANEL_INCHES, lines * (PANEL_INCHES + 0.4) + 1.2), layout="constrained"
    )
    figure.suptitle(title, fontsize=14)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=4, fontsize=11)
    return figure


def _legend() -> list[Line2D | Patch]:
    halo = [withStroke(linewidth=4, foreground="black")]
    return [
        Line2D([], [], color=ORANGE, linestyle=DASHED, path_effects=_under_dashes(), label="truth"),
        Patch(facecolor=(*_rgb(BLUE), 0.4), edgecolor=BLUE, linewidth=2, label="the model's mask"),
        Line2D([], [], color="white", linestyle=DOTTED, path_effects=halo, label="prompt: a box"),
        Line2D(
            [],
            [],
            linestyle="",
            marker="*",
            markersize=13,
            markerfacecolor="white",
            markeredgecolor="black",
            label="prompt: one click",
        ),
    ]


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _under_dashes() -> list[Stroke]:
    return [withStroke(linewidth=3.4, foreground="black")]


def _draw_panels(
    figure: Figure | SubFigure,
    panels: Sequence[Panel],
    lines: int,
    predictor: Predictor,
    source: Source,
) -> None:
    samples = {sample.key: sample for sample in source.samples}
    places = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
    for axes in places:
        axes.axis("off")
    key, photo, embedding = None, None, None
    for axes, (row, prompt) in zip(places, panels, strict=False):
        sample = samples[row.key]
        if row.key != key:
            key, photo = row.key, source.photo(sample)
            embedding = predictor.encode(photo)
        truth = source.objects(sample).mask(row.index)
        if prompt == "box":
            mask, _ = box_mask(predictor, embedding, truth)
        else:
            clicked = predictor.predict(embedding, [innermost(truth)], multimask_output=True)
            mask = clicked.mask(clicked.best)
        _draw_panel(axes, np.asarray(photo), truth, mask, row, prompt)


def _draw_panel(
    axes: Axes, photo: np.ndarray, truth: np.ndarray, mask: np.ndarray, row: Row, prompt: str
) -> None:
    x0, y0, x1, y1 = shown_part(truth, mask)
    step = -(-max(x1 - x0, y1 - y0) // PANEL_PIXELS)
    part = np.s_[y0:y1:step, x0:x1:step]
    axes.imshow(photo[part], extent=(x0, x1, y1, y0), interpolation="bilinear")
    tint = np.zeros((*mask[part].shape, 4))
    tint[mask[part]] = (*_rgb(BLUE), 0.4)
    axes.imshow(tint, extent=(x0, x1, y1, y0), interpolation="nearest")
    xs, ys = np.arange(x0, x1, step) + step / 2, np.arange(y0, y1, step) + step / 2
    _outline(axes, xs, ys, mask[part], step, color="white", width=3.0)
    _outline(axes, xs, ys, mask[part], step, color=BLUE, width=1.7)
    _outline(axes, xs, ys, truth[part], step, color="black", width=3.0)
    _outline(axes, xs, ys, truth[part], step, color=ORANGE, width=1.9, style=DASHED)
    if prompt == "box":
        left, top, right, bottom = mask_to_box(truth)
        corner, size = (left, top), (right - left, bottom - top)
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="black", linewidth=2.2))
        axes.add_patch(
            Rectangle(corner, *size, fill=False, edgecolor="white", linewidth=1.5, ls=DOTTED)
        )
    else:
        x, y = innermost(truth)
        axes.plot(x + 0.5, y + 0.5, "*", markersize=13, mfc="white", mec="black")
    axes.set(xlim=(x0, x1), ylim=(y1, y0))
    axes.set_title(_caption(row, prompt, detail=(y1 - y0, x1 - x0) != truth.shape), fontsize=8.5)


def _outline(
    axes: Axes,
    xs: np.ndarray,
    ys: np.ndarray,
    region: np.ndarray,
    step: int,
    *,
    color: str,
    width: float,
    style: str | tuple = "solid",
) -> None:
    """Draw a region's outline; it also runs along the edge of the part shown."""
    if region.any():
        xs, ys = (np.concatenate([[v[0] - step], v, [v[-1] + step]]) for v in (xs, ys))
        axes.contour(
            xs, ys, np.pad(region, 1), [0.5], colors=color, linewidths=width, linestyles=[style]
        )


def _caption(row: Row, prompt: str, detail: bool) -> str:
    name = textwrap.shorten(f"{row.key} #{row.index}", 34, placeholder="…")
    note = " (detail)" if detail else ""
    iou, predicted = row.iou[prompt], row.predicted_iou[prompt]
    return f"{name}{note}\n{PROMPT_NAMES[prompt]}: IoU {iou:.2f}, predicted {predicted:.2f}"


def shown_part(truth: np.ndarray, mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the x0, y0, x1, y1 of the part of a photo to show: a square, as far as it goes.

    Args:
        truth: (H, W) bool, not empty; the part holds all of it.
        mask: (H, W) bool; the part holds all of that, too.
    """
    height, width = truth.shape
    x0, y0, x1, y1 = mask_to_box(truth | mask)
    side = max(CONTEXT * max(x1 - x0, y1 - y0), LEAST_SHARE * max(height, width))
    left, right = _span((x0 + x1) / 2, side, width)
    top, bottom = _span((y0 + y1) / 2, side, height)
    return left, top, right, bottom


def _span(middle: float, side: float, limit: int) -> tuple[int, int]:
    """Return the bounds of ``side`` pixels about ``middle``, moved to lie within 0 to ``limit``."""
    side = min(round(side), limit)
    start = min(max(round(middle - side / 2), 0), limit - side)
    return start, start + side
