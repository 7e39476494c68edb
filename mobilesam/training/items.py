"""One photo of a batch: which part of it is shown, which masks are asked for, their targets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F

from mobilesam.masks import mask_to_box
from mobilesam.training.augment import (
    Patch,
    change_colours,
    draw_patch,
    draw_window,
    draw_zoom,
    read_canvas,
    step_for,
)
from mobilesam.training.buckets import Shape, bucket_of
from mobilesam.training.data_config import DataConfig
from mobilesam.training.sources import Objects, Sample, SampleError, Source, Window
from mobilesam.transforms import LOW_RES_STRIDE, input_size_for

SMALL_FIRST = 0.4  # power of a mask's area by which smaller ones are drawn before larger ones
FULL = 255  # of a target: the mask covers the whole cell
CELL_MARGIN = 2  # cells, or pixels if they are larger: farther from its box no mask reaches


class Shown(NamedTuple):
    """A mask as the canvas shows it.

    Attributes:
        mask: (H, W) bool.
        box: Tight x0, y0, x1, y1 of it, pixels.
        known: (H, W) bool, where it is known; None for everywhere.
    """

    mask: np.ndarray
    box: tuple[float, float, float, float]
    known: np.ndarray | None = None


@dataclass(frozen=True)
class Item:
    """A photo's part of a batch.

    Attributes:
        pixels: (h, w, 3) uint8.
        targets: (K, h/4, w/4) uint8, the share of each cell that a mask covers, 255 for all.
        valid: (K, h/4, w/4) bool.
        boxes: (K, 4) float32.
    """

    pixels: np.ndarray
    targets: np.ndarray
    valid: np.ndarray
    boxes: np.ndarray


def make_item(
    source: Source,
    sample: Sample,
    shape: Shape,
    config: DataConfig,
    draw_donor: Callable[[], Sample],
    rng: np.random.Generator,
) -> Item | None:
    """Show a part of a photo and choose some of its masks.

    Args:
        source: What reads photos.
        sample: The photo.
        shape: (h, w) it is brought to.
        config: How it is changed.
        draw_donor: Draws a photo to take an object from.
        rng: What draws.

    Returns:
        None if no mask in that part is large enough.

    Raises:
        SampleError: If the photo or one of its masks cannot be read.
    """
    objects = source.objects(sample)
    if not len(objects):
        return None
    window, step = _choose_part(source, sample, objects, shape, config, rng)
    canvas = (window[3] - window[1], window[2] - window[0])
    patch = None
    if rng.random() < config.copy_paste_share:
        patch = _donated(source, draw_donor(), canvas, rng)
    least = config.min_mask_share * canvas[0] * canvas[1]
    masks = choose_masks(objects, window, step, patch, least, config.masks_per_image, rng)
    if not masks:
        return None
    photo = read_canvas(source, sample, window, step)
    photo = patch.paste(photo) if patch else photo
    flip = rng.random() < 0.5
    photo = change_colours(ImageOps.mirror(photo) if flip else photo, rng)
    low_res = (shape[0] // LOW_RES_STRIDE, shape[1] // LOW_RES_STRIDE)
    targets = np.stack([cover(shown.mask, shown.box, low_res) for shown in masks])
    valid = np.stack([_valid_cells(shown.known, low_res) for shown in masks])
    scale = np.array([shape[1] / canvas[1], shape[0] / canvas[0]] * 2)
    boxes = (np.array([shown.box for shown in masks]) * scale).astype(np.float32)
    if flip:
        targets, valid = targets[..., ::-1], valid[..., ::-1]
        boxes[:, [0, 2]] = shape[1] - boxes[:, [2, 0]]
    order = np.resize(np.arange(len(masks)), config.masks_per_image)
    return Item(resize(photo, shape), targets[order], valid[order], boxes[order])


def _choose_part(
    source: Source,
    sample: Sample,
    objects: Objects,
    shape: Shape,
    config: DataConfig,
    rng: np.random.Generator,
) -> tuple[Window, int]:
    """Choose a window round a point of some mask, small ones as often, and the photo's step."""
    zoom = 1.0
    if rng.random() >= config.whole_photo_share:
        zoom = draw_zoom(config.min_scale, config.max_zoom, rng)
    step, size = reduced(source, sample, shape, zoom)
    if zoom == 1:
        return (0, 0, size[1], size[0]), step
    index = int(rng.integers(len(objects)))
    x0, y0, x1, y1 = (int(side) for side in objects.boxes[index])
    focus = ((x0 + x1) // (2 * step), (y0 + y1) // (2 * step))
    if zoom > 1:
        inside = np.flatnonzero(objects.mask(index, step=step))
        if len(inside):
            y, x = divmod(int(inside[rng.integers(len(inside))]), size[1])
            focus = (x, y)
    return draw_window(size, zoom, focus, rng), step


def reduced(source: Source, sample: Sample, shape: Shape, zoom: float) -> tuple[int, Shape]:
    """Return by how much a photo may be reduced for a zoom, and its (height, width) then."""
    height, width = sample.size
    step = step_for((height / zoom, width / zoom), shape, source.max_step)
    return step, (-(-height // step), -(-width // step))


def _donated(
    source: Source, donor: Sample, canvas: Shape, rng: np.random.Generator
) -> Patch | None:
    try:
        return draw_patch(source, donor, canvas, rng)
    except SampleError:  # said by the source; the photo itself can do without
        return None


def choose_masks(
    objects: Objects,
    window: Window,
    step: int,
    patch: Patch | None,
    least: float,
    wanted: int,
    rng: np.random.Generator,
) -> list[Shown]:
    """Draw up to ``wanted`` different masks that show at least ``least`` pixels in a window.

    An object pasted over the photo is always one of them, and takes what it covers from the
    others. Small masks go first more often, so that what is learned from is spread over
    log-area. Only masks that can be large enough are decoded, until there are enough.
    """
    chosen: list[Shown] = []
    if patch is not None and np.count_nonzero(patch.mask) >= max(least, 1):
        mask = np.zeros((window[3] - window[1], window[2] - window[0]), bool)
        patch.cover(mask, True)
        chosen.append(Shown(mask, mask_to_box(mask)))
    shown = np.array(window) * step
    sides = np.minimum(objects.boxes[:, 2:], shown[2:]) - np.maximum(
        objects.boxes[:, :2], shown[:2]
    )
    at_most = np.minimum(objects.areas, sides.clip(0).prod(1)) / step**2
    candidates = np.flatnonzero(at_most >= np.maximum(least, 1))
    if not len(candidates):
        return chosen
    odds = at_most[candidates] ** -SMALL_FIRST
    for index in rng.choice(candidates, len(candidates), replace=False, p=odds / odds.sum()):
        if len(chosen) == wanted:
            break
        mask = objects.mask(int(index), window, step)
        known = objects.valid(int(index), window, step)
        if patch is not None:
            patch.cover(mask, False)
            if known is not None:
                patch.cover(known, True)
        if np.count_nonzero(mask) >= max(least, 1):
            chosen.append(Shown(mask, mask_to_box(mask), known))
    return chosen


def cover(mask: np.ndarray, box: tuple[float, float, float, float], shape: Shape) -> np.ndarray:
    """Return the share of each cell that a mask covers, 255 for all of it.

    As making the mask smaller with an antialiasing bilinear filter does, but only where it lies.

    Args:
        mask: (H, W) bool.
        box: x0, y0, x1, y1 round it, pixels.
        shape: (h, w) of the cells.

    Returns:
        (h, w) uint8.
    """
    (x0, x1), (left, right), columns = _reach(box[0], box[2], mask.shape[1], shape[1])
    (y0, y1), (top, bottom), rows = _reach(box[1], box[3], mask.shape[0], shape[0])
    image = Image.fromarray(np.multiply(mask[top:bottom, left:right], FULL, dtype=np.uint8))
    part = (columns[0] - left, rows[0] - top, columns[1] - left, rows[1] - top)
    resized = image.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, box=part)
    out = np.zeros(shape, np.uint8)
    out[y0:y1, x0:x1] = np.asarray(resized)
    return out


def _reach(
    low: float, high: float, pixels: int, cells: int
) -> tuple[tuple[int, int], tuple[int, int], tuple[float, float]]:
    """Return the cells that a mask from ``low`` to ``high`` may reach along one axis.

    Also the pixels that they lie in, and where exactly they begin and end.
    """
    per_cell = pixels / cells
    margin = CELL_MARGIN * max(1.0, 1 / per_cell)
    first = max(0, math.floor(low / per_cell - margin))
    last = min(cells, math.ceil(high / per_cell + margin))
    start, end = first * per_cell, min(last * per_cell, float(pixels))
    return (first, last), (math.floor(start), math.ceil(end)), (start, end)


def _valid_cells(known: np.ndarray | None, shape: Shape) -> np.ndarray:
    if known is None or known.all():
        return np.ones(shape, bool)
    return cover(~known, mask_to_box(~known), shape) <= FULL // 2


def make_photo(
    source: Source,
    sample: Sample,
    shape: Shape,
    square: bool,
    config: DataConfig,
    rng: np.random.Generator,
) -> np.ndarray:
    """Show a part of a photo, changed as for masks.

    Args:
        source: What reads photos.
        sample: The photo.
        shape: (h, w) of the frame.
        square: Whether the photo keeps its aspect ratio, and does not fill the frame.
        config: How it is changed.
        rng: What draws.

    Returns:
        (h, w, 3) uint8, or less than the frame.

    Raises:
        SampleError: If the photo cannot be read.
    """
    zoom = 1.0
    if rng.random() >= config.whole_photo_share:
        zoom = draw_zoom(config.min_scale, config.max_zoom, rng)
    shape = input_size_for(sample.size, shape[0]) if square else shape
    step, size = reduced(source, sample, shape, zoom)
    focus = (int(rng.integers(size[1])), int(rng.integers(size[0])))
    window = None if zoom == 1 else draw_window(size, zoom, focus, rng)
    photo = read_canvas(source, sample, window, step)
    photo = ImageOps.mirror(photo) if rng.random() < 0.5 else photo
    return resize(change_colours(photo, rng), shape)


def whole_photo(source: Source, sample: Sample, shape: Shape, square: bool) -> np.ndarray:
    """Show a whole photo as it is; arguments and result as of ``make_photo``."""
    shape = input_size_for(sample.size, shape[0]) if square else shape
    step, _ = reduced(source, sample, shape, 1.0)
    return resize(source.photo(sample, step), shape)


def canonical_pixels(
    source: Source, sample: Sample, image_size: int, square: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Show a whole photo, unchanged, in a frame as ``PhotoBatches`` has them.

    Args:
        source: What reads the photo.
        sample: The photo.
        image_size: Side of the input frame, pixels.
        square: Whether the photo keeps its aspect ratio and the rest of the frame is zero.

    Returns:
        (3, h, w) uint8, and (2,) int64 (height, width) of the picture in it.

    Raises:
        SampleError: If the photo cannot be read.
    """
    shape = (image_size, image_size) if square else bucket_of(sample.size, image_size)
    photo = whole_photo(source, sample, shape, square)
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[: photo.shape[0], : photo.shape[1]] = photo
    return torch.from_numpy(pixels).permute(2, 0, 1), torch.tensor(photo.shape[:2])


def resize(photo: Image.Image, shape: Shape) -> np.ndarray:
    """Resize a photo as ``transforms.resize`` does, which takes five times as long.

    Returns:
        (h, w, 3) uint8.
    """
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None]
    if photo.size != shape[::-1]:
        pixels = F.interpolate(pixels, shape, mode="bilinear", antialias=True)
    return pixels[0].permute(1, 2, 0).numpy()
