"""A comparison made visible: colours where they belong, and a figure that holds all of it."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mobilesam.comparison import Comparison, ModelRun, tables
from mobilesam.comparison.figure import _prompts, figure_png
from mobilesam.comparison.pictures import (
    BOTH_COLOR,
    CASING,
    FIRST_COLOR,
    SECOND_COLOR,
    difference,
    draw,
    outlines,
)
from mobilesam.masks import mask_iou


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((300, 400), bool)
    mask[top:bottom, left:right] = True
    return mask


def run_of(title: str, mask: np.ndarray) -> ModelRun:
    return ModelRun(
        name="x",
        title=title,
        source=Path("x.pt"),
        parameters=9_808_452,
        file_bytes=40_728_226,
        load_ms=120.4,
        encode_ms=15_686.7,
        decode_ms=7.34,
        predicted_iou=0.8876,
        mask=mask,
        peak_bytes=1_234_567_890,
    )


@pytest.fixture
def made() -> Comparison:
    first, second = rectangle(50, 50, 250, 200), rectangle(50, 100, 250, 300)
    return Comparison(
        run_of("MobileSAM", first),
        run_of("$x_ a$ file with a name that is by far too long for a table", second),
        mask_iou(first, second),
        (300, 400),
        "A processor, 2 cores",
        2,
        np.array([[120.0, 100.0], [350.0, 20.0]]),
        np.array([1, 0]),
        (40.0, 40.0, 310.0, 260.0),
    )


@pytest.fixture
def photo() -> np.ndarray:
    return np.full((300, 400, 3), 40, np.uint8)


def is_near(pixel: np.ndarray, color: tuple[int, int, int]) -> bool:
    """Whether a pixel has a color's hue: the color is laid over the photo."""
    wanted = np.array(color, float)
    return float(np.abs(pixel / pixel.max() - wanted / wanted.max()).max()) < 0.15


def test_the_difference_has_a_colour_for_each_part(made: Comparison, photo: np.ndarray) -> None:
    picture = difference(photo, made.first.mask, made.second.mask)
    for (y, x), color in (
        ((150, 70), FIRST_COLOR),
        ((150, 250), SECOND_COLOR),
        ((150, 150), BOTH_COLOR),
    ):
        assert is_near(picture[y, x], color)
    assert picture[10, 10].max() < 40  # the photo, dimmed


def test_outlines_that_agree_both_show(photo: np.ndarray) -> None:
    mask = rectangle(50, 50, 250, 200)
    picture = outlines(photo, mask, mask)
    middle = picture[150, 40:60]
    colors = [tuple(int(value) for value in pixel) for pixel in middle]
    assert FIRST_COLOR in colors
    assert SECOND_COLOR in colors
    assert colors.index(CASING) < colors.index(SECOND_COLOR) < colors.index(FIRST_COLOR)
    assert colors[-1] == colors[0] == (40, 40, 40)
    whole = outlines(photo, np.ones_like(mask), np.zeros_like(mask))
    assert tuple(whole[150, 0]) == FIRST_COLOR  # closed along the picture's edge
    assert tuple(whole[150, 200]) == (40, 40, 40)
    assert not (whole == SECOND_COLOR).all(axis=2).any()


def test_pictures_are_of_one_size_and_large_photos_are_shrunk(made: Comparison) -> None:
    big = np.full((1500, 2000, 3), 40, np.uint8)
    runs = [
        dataclasses.replace(run, mask=run.mask.repeat(5, 0).repeat(5, 1))
        for run in (made.first, made.second)
    ]
    grown = dataclasses.replace(made, first=runs[0], second=runs[1], size=(1500, 2000))
    pictures = draw(big, grown, 800)
    shapes = {getattr(pictures, entry.name).shape for entry in dataclasses.fields(pictures)}
    assert shapes == {(600, 800, 3)}
    assert is_near(pictures.difference[300, 500], SECOND_COLOR)
    with pytest.raises(ValueError, match="photo must be the one that was compared on"):
        draw(big, made)


@pytest.mark.parametrize("size", [(5, 5000), (5000, 5), (100, 5000)])
def test_prompts_stand_where_they_are_in_thin_photos_too(
    made: Comparison, size: tuple[int, int]
) -> None:
    height, width = size
    corner, box = np.array([[width, height]]), (0, 0, width, height)
    thin = dataclasses.replace(made, size=size, points=corner, labels=np.array([1]), box=box)
    rows, columns = (max(1, round(640 * side / 5000)) for side in size)
    axes = Figure().subplots()
    _prompts(axes, thin, (rows, columns))
    point = axes.lines[0].get_xydata()[0]
    np.testing.assert_allclose(point, (columns, rows))
    np.testing.assert_allclose(axes.patches[0].get_bbox().bounds, (0, 0, columns, rows))


def test_the_figure_is_a_png_whatever_models_are_called(
    made: Comparison, photo: np.ndarray
) -> None:
    png = Image.open(io.BytesIO(figure_png(photo, made)))
    assert png.format == "PNG"
    figure = png.convert("RGB")
    assert figure.width == 1650
    colors = {color for _, color in figure.getcolors(figure.width * figure.height) or []}
    assert {FIRST_COLOR, SECOND_COLOR, BOTH_COLOR} <= colors  # the legend
    subject = "$Cup$ in photo\udcff.jpg"  # a name that is not UTF-8, as Python has it
    named = Image.open(io.BytesIO(figure_png(photo, made, subject))).convert("L")
    top = (600, 0, 1050, 25)
    assert np.asarray(figure.crop(top)).min() == 255
    assert np.asarray(named.crop(top)).min() < 100  # what is compared


def test_the_tables_say_what_was_measured_and_what_was_published(made: Comparison) -> None:
    rows = {name: values for name, *values in tables.measured_rows(made)}
    assert list(rows) == list(tables.MEASURED)
    assert [values[0] for values in rows.values()] == [
        *("9.81 M", "40.7 MB", "120 ms", "15,687 ms", "7.3 ms", "1,235 MB", "0.888", "25.00 %"),
        "0.400",
    ]
    assert "A processor, 2 cores, 2 threads" in tables.measured_note(made)
    published = [" ".join(row) for row in tables.PUBLISHED]
    assert published == [
        "image encoder 611 M, 452 ms 5 M, 8 ms",
        "mask decoder 3.876 M, 4 ms 3.876 M, 4 ms",
        "whole 615 M, 456 ms 9.66 M, 12 ms",
    ]
    assert "arXiv:2306.14289" in tables.PUBLISHED_SOURCES
    twice = dataclasses.replace(made, second=made.first)
    assert twice.titles == ("MobileSAM (first)", "MobileSAM (second)")


def test_pyplot_is_never_imported() -> None:
    code = "import sys, mobilesam.comparison.figure; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
