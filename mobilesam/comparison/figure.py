"""A comparison as one figure: photo, masks, difference and tables."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from mobilesam.comparison import tables
from mobilesam.comparison.comparing import Comparison
from mobilesam.comparison.pictures import BOTH_COLOR, FIRST_COLOR, SECOND_COLOR, draw

WIDTH, TABLES_HEIGHT = 15.0, 4.9  # inches
FRAME_HEIGHT = 1.1  # inches, of the pictures' titles and the legend
ASPECTS = 0.3, 1.6  # bounds on height / width of a panel for a photo
ROW_SHARE = 0.082  # height of a table's row, of the height for tables
PANELS = "pfsd;mmqq"  # photo, first, second, difference; measured, published (q)
NOTE_COLUMNS, NAME_LENGTH, COLUMN_LENGTH, SUBJECT_LENGTH = 96, 34, 24, 100  # characters
COLUMNS = 0.28, 0.36, 0.36  # of a table's width: what, and two models
TABLE_FONT = 10  # points
DPI = 110
PHOTO_SIDE = 640  # px of the longest side, a little more than a panel shows
INCLUDE, EXCLUDE = "#0b63e5", "#d55e00"
Rgb = tuple[float, float, float]


def figure_png(photo: np.ndarray, comparison: Comparison, subject: str = "") -> bytes:
    """Draw a comparison as a PNG: the photo with its prompts, both masks, difference, tables.

    Args:
        photo: (H, W, 3) uint8 RGB, the one that was compared on.
        comparison: Of it.
        subject: What is compared, for a line above; none if it is "".

    Raises:
        ValueError: The photo has another size.
    """
    pictures = draw(photo, comparison, PHOTO_SIDE)
    aspect = min(max(comparison.size[0] / comparison.size[1], ASPECTS[0]), ASPECTS[1])
    heights = [WIDTH / 4 * aspect + FRAME_HEIGHT, TABLES_HEIGHT]
    figure = Figure(figsize=(WIDTH, sum(heights)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    if subject:
        _title(figure, subject)
    places = figure.subplot_mosaic(
        PANELS,
        height_ratios=heights,
    )
    titles = comparison.titles
    _picture(places["p"], pictures.photo, "Photo and prompts")
    _prompts(places["p"], comparison, pictures.photo.shape[:2])
    _picture(places["f"], pictures.first, titles[0])
    _picture(places["s"], pictures.second, titles[1])
    _picture(places["d"], pictures.difference, f"Difference, IoU {comparison.iou:.3f}")
    _legend(places["d"], titles)
    measured = [tables.measured_head(comparison), *tables.measured_rows(comparison)]
    _table(places["m"], measured, tables.measured_note(comparison))
    published = [tables.PUBLISHED_HEAD, *tables.PUBLISHED]
    _table(places["q"], published, tables.PUBLISHED_SOURCES)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _title(figure: Figure, subject: str) -> None:
    title = figure.suptitle(_short(subject, SUBJECT_LENGTH), fontsize=14, fontweight="bold")
    title.set_parse_math(False)


def _picture(axes: Axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture, interpolation="antialiased")
    axes.set_title(_short(title), fontsize=12, parse_math=False)
    axes.set_axis_off()


def _prompts(axes: Axes, comparison: Comparison, shown: tuple[int, int]) -> None:
    """Draw the box and the points, + for those on the object and - for those not on it."""
    scale = np.array(shown[::-1]) / comparison.size[::-1]  # of a thin photo its sides' differ
    if comparison.box is not None:
        x0, y0, x1, y1 = np.tile(scale, 2) * comparison.box
        frame = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=INCLUDE, linewidth=2)
        frame.set_path_effects([withStroke(linewidth=4, foreground="white")])
        axes.add_patch(frame)
    for (x, y), label in zip(comparison.points * scale, comparison.labels, strict=True):
        color, glyph = (INCLUDE, "+") if label else (EXCLUDE, "_")
        axes.plot(x, y, "o", color=color, markeredgecolor="white", markersize=13)
        axes.plot(x, y, glyph, color="white", markersize=8, markeredgewidth=2)


def _legend(axes: Axes, titles: tuple[str, str]) -> None:
    names = (f"only {_short(titles[0])}", f"only {_short(titles[1])}", "both")
    colors = (FIRST_COLOR, SECOND_COLOR, BOTH_COLOR)
    patches = [
        Patch(facecolor=_rgb(color), edgecolor="0.4", label=name)
        for name, color in zip(names, colors, strict=True)
    ]
    legend = axes.legend(
        handles=patches, loc="upper center", bbox_to_anchor=(0.5, -0.02), fontsize=9, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _table(axes: Axes, rows: Sequence[tables.Row], note: str) -> None:
    """Draw a table whose first row is its head, and a note below.

    A value that is both models' stands between their columns.
    """
    axes.set_axis_off()
    bottom = 1 - ROW_SHARE * len(rows)
    table = axes.table(
        [[_short(name), *map(_column, values)] for name, *values in rows],
        cellLoc="right",
        colWidths=[*COLUMNS],
        bbox=Bbox.from_bounds(0.0, bottom, 1.0, 1 - bottom),
    )
    table.auto_set_font_size(False)
    table.set_fontsize(TABLE_FONT)
    for (row, column), cell in table.get_celld().items():
        text = cell.get_text()
        text.set_parse_math(False)
        cell.set_edgecolor("0.8")
        cell.visible_edges = "B"
        if row == 0:
            text.set_fontweight("bold")
        if column == 0:
            text.set_horizontalalignment("left")
            cell.PAD = 0.02
        elif rows[row][1] and not rows[row][2]:
            text.set_visible(False)
    for number, (_, common, second) in enumerate(rows):
        if second or not common:
            continue
        axes.text(
            (COLUMNS[0] + 1) / 2,
            1 - ROW_SHARE * (number + 0.5),
            common,
            transform=axes.transAxes,
            horizontalalignment="center",
            verticalalignment="center",
            fontsize=TABLE_FONT,
            parse_math=False,
        )
    axes.text(
        0.0,
        bottom - 0.03,
        "\n".join(textwrap.wrap(note, NOTE_COLUMNS)),
        transform=axes.transAxes,
        verticalalignment="top",
        fontsize=9,
        color="0.3",
        parse_math=False,
    )


def _column(text: str) -> str:
    """Return text for a column of a table: in two lines where one is too narrow."""
    lines = textwrap.wrap(_short(text), COLUMN_LENGTH, break_long_words=True)
    return "\n".join(lines[:2])


def _short(text: str, length: int = NAME_LENGTH) -> str:
    text = text.encode(errors="replace").decode()  # a file's name need not be text
    return text if len(text) <= length else text[: length - 1] + "…"


def _rgb(color: tuple[int, int, int]) -> Rgb:
    return color[0] / 255, color[1] / 255, color[2] / 255
