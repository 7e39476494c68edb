"""The compare tab's own HTML; nothing in it comes from a visitor."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mobilesam.comparison import Comparison, tables
from mobilesam.comparison.pictures import (
    BOTH_COLOR,
    FIRST_COLOR,
    SECOND_COLOR,
    ComparisonPictures,
)

if TYPE_CHECKING:
    from mobilesam.ui.compare.work import Subject

JPEG_QUALITY = 88
INTRO = (
    "Both models get the selected object's points and box; set them on the photo as usual. Each"
    " runs in a process of its own; clicks are answered meanwhile."
)
STALE = {
    "photo": "This is of a photo that was opened before; press Compare for the one that is open"
    " now.",
    "prompts": "The points or the box have changed since; press Compare for those that are there"
    " now.",
}
_TEMPLATE_SIGNS = {"$": "&#36;", "{": "&#123;", "}": "&#125;", "`": "&#96;", "\\": "&#92;"}


def escape(text: str) -> str:
    """Return text that shows as it is, also after Gradio has taken it for a template."""
    escaped = html.escape(text)
    return "".join(_TEMPLATE_SIGNS.get(sign, sign) for sign in escaped)


def intro_html() -> str:
    """Return what the tab does, in two sentences."""
    return f"<h2>Compare two models</h2><p>{escape(INTRO)}</p>"


def status_html(text: str, kind: str = "", share: float | None = None, of: str = "") -> str:
    """Return the line that says what is going on, and a bar; `speech.js` has it heard.

    Args:
        text: The sentence.
        kind: "warn" for what needs the visitor's attention, else "".
        share: How much is done, 0 to 1; None for no bar.
        of: Of what, in a word: the bar's name.
    """
    if share is None:
        bar = '<div class="ms-compare-bar"></div>'
    else:
        percent = round(100 * min(1.0, max(0.0, share)))
        bar = (
            f'<div class="ms-compare-bar" role="progressbar" aria-label="{escape(of)}" '
            f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}">'
            f'<i style="width:{percent}%"></i></div>'
        )
    warn = " ms-compare-warn" if kind == "warn" else ""
    return f'{bar}<p class="ms-compare-say{warn}">{escape(text)}</p>'


def sides_html(subject: Subject | None = None, titles: Sequence[str] = ()) -> str:
    """Return what was compared, and which model is on which side of the slider.

    `subject.js` shows another sentence where another photo is open, or the prompts have changed.
    """
    if subject is None:
        return ""
    head = (
        f'<p class="ms-compare-subject" data-content="{escape(subject.content)}" '
        f'data-asked="{escape(subject.asked)}">'
        f"<b>{escape(str(subject))}</b></p>"
        + "".join(
            f'<p class="ms-compare-stale" data-stale="{of}" hidden>{escape(text)}</p>'
            for of, text in STALE.items()
        )
    )
    if not titles:
        return f"{head}<p>&nbsp;</p>"
    first, second = (escape(title) for title in titles)
    return (
        f'{head}<p class="ms-compare-sides"><span>{_swatch(FIRST_COLOR)}Left: {first}</span>'
        f"<span>{_swatch(SECOND_COLOR)}Right: {second}</span></p>"
    )


def pictures_html(
    comparison: Comparison | None = None, pictures: ComparisonPictures | None = None
) -> str:
    """Return both outlines and the difference map with their legends; empty frames without."""
    if comparison is None or pictures is None:
        frame = '<div class="ms-compare-frame"></div>'
        captions = ("Both outlines", "Where they differ")
        return _pair(
            f"<figure>{frame}<figcaption><b>{caption}</b></figcaption></figure>"
            for caption in captions
        )
    first, second = comparison.titles
    only_first, only_second, both = shares(comparison)
    outlines = [(FIRST_COLOR, first), (SECOND_COLOR, second)]
    difference = [
        (FIRST_COLOR, f"only {first}: {only_first}"),
        (SECOND_COLOR, f"only {second}: {only_second}"),
        (BOTH_COLOR, f"both: {both}"),
    ]
    figures = (
        _figure(
            pictures.outlines,
            "Both outlines",
            f"The photo with the outline of {first} in blue and that of {second} in orange.",
            outlines,
        ),
        _figure(
            pictures.difference,
            "Where they differ",
            f"Map of the difference: only {first} covers {only_first} of the photo, only {second} "
            f"{only_second}, both {both}.",
            difference,
        ),
    )
    return _pair(figures)


def shares(comparison: Comparison) -> tuple[str, str, str]:
    """Return what only the first, only the second and both masks cover, in per cent."""
    first, second = comparison.first.mask, comparison.second.mask
    parts = (first & ~second, second & ~first, first & second)
    only_first, only_second, both = (f"{100 * part.mean():.2f} %" for part in parts)
    return only_first, only_second, both


def measured_html(comparison: Comparison | None = None) -> str:
    """Return the table of what was measured, or is being measured."""
    if comparison is None:
        head: tables.Row = ("measured here", "first model", "second model")
        rows: list[tables.Row] = [(name, "", "") for name in tables.MEASURED]
        return _table("Measured here", head, rows, "Measuring…")
    return _table(
        "Measured here",
        tables.measured_head(comparison),
        tables.measured_rows(comparison),
        tables.measured_note(comparison),
    )


def published_html() -> str:
    """Return the table of what MobileSAM's authors published."""
    head = tables.PUBLISHED_HEAD
    return _table("Published", head, tables.PUBLISHED, tables.PUBLISHED_SOURCES)


def _pair(figures: Iterable[str]) -> str:
    return f'<div class="ms-compare-pair">{"".join(figures)}</div>'


def _table(caption: str, head: tables.Row, rows: Sequence[tables.Row], note: str) -> str:
    cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head[1:])
    lines = [f'<tr><th scope="col">model</th>{cells}</tr>']
    for name, first, second in rows:
        values = (
            f"<td>{escape(first)}</td><td>{escape(second)}</td>"
            if second or not first
            else f'<td colspan="2">{escape(first)}</td>'
        )
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{values}</tr>')
    return (
        f'<div class="ms-compare-table"><table><caption>{escape(caption)}</caption>'
        f"<tbody>{''.join(lines)}</tbody></table></div><p>{escape(note)}</p>"
    )


def _figure(
    picture: np.ndarray,
    caption: str,
    alt: str,
    legend: Sequence[tuple[tuple[int, int, int], str]],
) -> str:
    entries = "".join(f"<li>{_swatch(color)}{escape(text)}</li>" for color, text in legend)
    return (
        f'<figure><div class="ms-compare-frame"><img alt="{escape(alt)}" src="{_source(picture)}">'
        f"</div><figcaption><b>{escape(caption)}</b><ul>{entries}</ul></figcaption></figure>"
    )


def _source(picture: np.ndarray) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg_bytes(picture)).decode("ascii")


def jpeg_bytes(picture: np.ndarray) -> bytes:
    """Encode an (h, w, 3) uint8 picture for the page."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _swatch(color: tuple[int, int, int]) -> str:
    return f'<i class="ms-compare-swatch" style="background:rgb{color}"></i>'
