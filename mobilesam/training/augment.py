"""How training changes a photo: zoomed windows, its colours, and objects of other photos."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from mobilesam.training.sources import Objects, Sample, Source, Window

GROUND = (124, 116, 104)  # RGB beyond the photo: the mean colour, next to zero once normalised
MIN_WINDOW = 16  # px
COLOUR_SHARE = 0.5  # of photos whose brightness changes; as many contrasts and saturations do
COLOUR_RANGE = (0.7, 1.3)
GREY_SHARE = 0.03
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
MEAN_FROM = 8  # px a side of the blocks that a photo's mean grey is taken of
PASTED_SHARES = (0.01, 0.1)  # of the frame that an object of another photo takes up at most
WHOLE_OBJECT_SHARES = (0.002, 0.6)  # of its own photo
SOFT_EDGE = 0.8  # px, standard deviation: the edge of a pasted object
EDGE_MARGIN = 3  # px round it


def step_for(size: tuple[float, float], shape: tuple[int, int], max_step: int) -> int:
    """Return by how much a photo may be reduced at once that is shown at a smaller size.

    Args:
        size: (height, width) of the part that is shown, pixels of the photo.
        shape: (height, width) it is shown at.
        max_step: The most that is worth it.

    Returns:
        1, 2, 4 or 8: the largest that leaves at least as many pixels as are shown.
    """
    ratio = min(size[0] / shape[0], size[1] / shape[1], max_step)
    return 1 << int(math.log2(max(1.0, ratio)))


def draw_zoom(low: float, high: float, rng: np.random.Generator) -> float:
    """Draw how much larger than in the whole frame a photo is shown; even in its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def draw_window(
    size: tuple[int, int], zoom: float, focus: tuple[int, int], rng: np.random.Generator
) -> Window:
    """Choose the part of a photo that fills the frame.

    Args:
        size: The photo's (height, width), pixels.
        zoom: Over 1, a part of the photo round ``focus``; under 1, more than the photo, which
            lies anywhere in it.
        focus: An x, y that shall be seen, if this is a part.
        rng: What draws.
    """
    height, width = size
    h, w = (max(MIN_WINDOW, round(side / zoom)) for side in size)
    x0, y0 = (
        -round(rng.uniform(0, part - whole)) if part > whole else _around(at, part, whole, rng)
        for at, part, whole in ((focus[0], w, width), (focus[1], h, height))
    )
    return x0, y0, x0 + w, y0 + h


def _around(at: int, part: int, whole: int, rng: np.random.Generator) -> int:
    return int(np.clip(at - rng.uniform(0.2, 0.8) * part, 0, whole - part))


def read_canvas(source: Source, sample: Sample, window: Window | None, step: int) -> Image.Image:
    """Read a window of a photo reduced by ``step``; flat ground beyond its edges."""
    photo = source.photo(sample, step)
    x0, y0, x1, y1 = window or (0, 0, *photo.size)
    if (x0, y0, x1, y1) == (0, 0, *photo.size):
        return photo
    if x0 >= 0 and y0 >= 0 and x1 <= photo.width and y1 <= photo.height:
        return photo.crop((x0, y0, x1, y1))
    canvas = Image.new("RGB", (x1 - x0, y1 - y0), GROUND)
    canvas.paste(photo, (-x0, -y0))
    return canvas


def change_colours(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Change brightness, contrast and saturation, each or not; a few photos lose their colours."""
    brightness, contrast, saturation = np.where(
        rng.random(3) < COLOUR_SHARE, rng.uniform(*COLOUR_RANGE, 3), 1.0
    )
    if rng.random() < GREY_SHARE:
        saturation = 0.0
    return recolour(photo, brightness, contrast, saturation)


def recolour(
    photo: Image.Image, brightness: float, contrast: float, saturation: float
) -> Image.Image:
    """Scale a photo's colours, then their distance from its mean grey, then that from grey.

    All three in one pass; 1 leaves each as it is.
    """
    if brightness == contrast == saturation == 1:
        return photo
    mean = np.asarray(photo.reduce(MEAN_FROM).convert("L")).mean()
    grey = np.tile(GREY_WEIGHTS, (3, 1))
    mixing = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * grey)
    offset = np.full((3, 1), brightness * (1 - contrast) * mean)
    return photo.convert("RGB", tuple(np.hstack([mixing, offset]).ravel().tolist()))


@dataclass(frozen=True)
class Patch:
    """An object cut out of one photo, and where it goes in another.

    Attributes:
        pixels: RGB.
        alpha: L, of the same size; the edge is soft.
        mask: (h, w) bool, the object.
        corner: x, y in the canvas of its upper left pixel.
    """

    pixels: Image.Image
    alpha: Image.Image
    mask: np.ndarray
    corner: tuple[int, int]

    def paste(self, canvas: Image.Image) -> Image.Image:
        """Return a canvas with the object on it."""
        out = canvas.copy()
        out.paste(self.pixels, self.corner, self.alpha)
        return out

    def cover(self, mask: np.ndarray, value: bool) -> None:
        """Give the pixels of a canvas-sized mask that the object covers a value, in place."""
        x, y = self.corner
        height, width = self.mask.shape
        mask[y : y + height, x : x + width][self.mask] = value


def draw_patch(
    source: Source, sample: Sample, canvas: tuple[int, int], rng: np.random.Generator
) -> Patch | None:
    """Cut an object out of a photo and choose its size and place on a canvas.

    It takes up 1 to 10 % of the canvas, or less if it is smaller in its own photo. Only objects
    that are whole are taken: not such that the photo's edge cuts, nor any whose own edge is
    unsure, which would be pasted along with something of what is round them.

    Args:
        source: What reads the photo.
        sample: The photo.
        canvas: (height, width) of the canvas, pixels.
        rng: What draws.

    Returns:
        None if the photo has no such object, or it does not fit.

    Raises:
        SampleError: If the photo cannot be read.
    """
    objects = source.objects(sample)
    height, width = sample.size
    boxes, shares = objects.boxes, objects.areas / (height * width)
    least, most = WHOLE_OBJECT_SHARES
    whole = (boxes[:, :2] > 0).all(1) & (boxes[:, 2] < width) & (boxes[:, 3] < height)
    found = np.flatnonzero(whole & (shares >= least) & (shares <= most))
    if not len(found):
        return None
    index = int(found[rng.integers(len(found))])
    if objects.valid(index) is not None:
        return None
    share = min(draw_zoom(*PASTED_SHARES, rng), float(shares[index]))
    scale = math.sqrt(share / shares[index] * canvas[0] * canvas[1] / (height * width))
    step = step_for((1.0, 1.0), (scale, scale), source.max_step)
    return _cut_out(source, sample, objects, index, scale, step, canvas, rng)


def _cut_out(
    source: Source,
    sample: Sample,
    objects: Objects,
    index: int,
    scale: float,
    step: int,
    canvas: tuple[int, int],
    rng: np.random.Generator,
) -> Patch | None:
    scale *= step  # from here on: canvas pixels per pixel of the reduced photo
    photo = source.photo(sample, step)
    margin = math.ceil(EDGE_MARGIN / scale)
    x0, y0 = (max(0, int(side) // step - margin) for side in objects.boxes[index, :2])
    x1, y1 = (-(-int(side) // step) + margin for side in objects.boxes[index, 2:])
    window = (x0, y0, min(x1, photo.width), min(y1, photo.height))
    width, height = (round((window[axis + 2] - window[axis]) * scale) for axis in range(2))
    if not (0 < width <= canvas[1] and 0 < height <= canvas[0]):
        return None
    mask = Image.fromarray(objects.mask(index, window, step).astype(np.uint8) * 255)
    pixels = photo.crop(window)
    if rng.random() < 0.5:
        mask, pixels = (
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in (mask, pixels)
        )
    mask, pixels = (
        image.resize((width, height), Image.Resampling.BILINEAR) for image in (mask, pixels)
    )
    covered = np.asarray(mask) > 127
    hard = Image.fromarray(covered.astype(np.uint8) * 255)
    corner = (int(rng.integers(canvas[1] - width + 1)), int(rng.integers(canvas[0] - height + 1)))
    return Patch(pixels, hard.filter(ImageFilter.GaussianBlur(SOFT_EDGE)), covered, corner)
