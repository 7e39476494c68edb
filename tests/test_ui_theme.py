"""Gradio's parts look like the page: same colours, legible, nothing fetched."""

from __future__ import annotations

import re

import pytest

from mobilesam.ui.prompt_canvas import CANVAS_FOLDER
from mobilesam.ui.theme import COLORS, page_theme

AA = 4.5  # WCAG's least contrast of text
SCHEMES = ("light", "dark")
TEXTS = [
    ("text", "bg"),
    ("text", "surface"),
    ("text", "sunken"),
    ("muted", "bg"),
    ("muted", "surface"),
    ("muted", "sunken"),
    ("accent-text", "accent"),
    ("accent-text", "chosen-text"),
    ("chosen-text", "surface"),
    ("chosen-text", "chosen"),
    ("warn-text", "warn"),
]


def luminance(color):
    parts = [value / 255 for value in bytes.fromhex(color[1:])]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first, second):
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize(
    ("scheme", "selector"),
    [("light", ".gradio-container:has(.ms)"), ("dark", ".dark .gradio-container:has(.ms)")],
)
def test_the_colours_are_those_of_the_page(scheme, selector):
    style = (CANVAS_FOLDER / "tokens.css").read_text("utf-8")
    (block,) = re.findall(rf"^{re.escape(selector)} \{{(.*?)\}}", style, re.DOTALL | re.MULTILINE)
    of_the_page = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))
    index = SCHEMES.index(scheme)
    assert {name: pair[index] for name, pair in COLORS.items()} == {
        name: of_the_page[name] for name in COLORS
    }


@pytest.mark.parametrize("index", range(2), ids=SCHEMES)
@pytest.mark.parametrize(("text", "ground"), TEXTS)
def test_text_is_legible(text, ground, index):
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast(COLORS[text][index], COLORS[ground][index]) >= AA


def test_no_font_is_fetched():
    theme = page_theme()
    assert theme._stylesheets == []
    css = theme._get_theme_css()
    assert "@font-face" not in css
    assert "url(http" not in css.replace('"', "").replace("'", "")
    assert COLORS["accent"][0] in css and COLORS["accent"][1] in css
