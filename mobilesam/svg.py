"""Outlines as SVG: what browsers and drawing programs open, sharp at every size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np

from mobilesam.object_mask import ObjectMask, Size, object_color
from mobilesam.polygons import TOLERANCE, Ring
from mobilesam.rendering import Color

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def svg(
    objects: Sequence[ObjectMask],
    size: Size,
    colors: Sequence[Color] | None = None,
    *,
    opacity: float = 0.5,
    tolerance: float = TOLERANCE,
) -> str:
    """Return the outlines of all objects as an SVG picture of the photo's size.

    Each object is one path with its name as title; its parts and holes are told by the even-odd
    rule. Coordinates are pixels of the photo, so that the picture fits when it is laid over it. An
    object without pixels has a path without a shape.

    Args:
        objects: Of one picture; later ones lie on top.
        size: The picture's (height, width).
        colors: RGB of each; by default ``object_color``.
        opacity: Of the insides, 0 to 1.
        tolerance: Of the outlines, pixels; see ``polygons.mask_to_parts``.

    Raises:
        ValueError: A mask has another size.
    """
    height, width = size
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}">'
    ]
    for index, item in enumerate(objects):
        item.check_size(size)
        rings = [ring for part in item.parts(tolerance) for ring in part.rings]
        red, green, blue = colors[index] if colors else object_color(index)
        name = escape(NOT_XML.sub("", item.name))
        lines.append(
            f'<path id="object-{index + 1}" fill="#{red:02x}{green:02x}{blue:02x}"'
            f' fill-opacity="{opacity:g}" fill-rule="evenodd"'
            f' d="{"".join(map(_path, rings))}"><title>{name}</title></path>'
        )
    return "\n".join([*lines, "</svg>\n"])


def _path(ring: Ring) -> str:
    """Return a ring as a closed path, its corners rounded to tenths of a pixel as all exports'."""
    corners = [f"{x:g} {y:g}" for x, y in np.round(ring, 1).tolist()]
    return f"M{'L'.join(corners)}Z"
