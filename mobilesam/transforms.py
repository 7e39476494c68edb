"""Pictures in, pixels for the model out; coordinates there and back."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.nn import functional as F

MAX_IMAGE_PIXELS = 50_000_000  # a 12 MP phone photo four times over
Size = tuple[int, int]


def read_image(image: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """Read any picture as upright RGB.

    EXIF rotation is applied, transparency is laid over white, 16-bit values are scaled to 8, of
    an animation the first frame is taken.

    Args:
        image: A path, a PIL image in any mode, or an (H, W, 3) uint8 RGB array.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If ``image`` is none of these types, or an array not of uint8.
        ValueError: If it is no readable picture, empty, or larger than ``MAX_IMAGE_PIXELS``.
    """
    if isinstance(image, np.ndarray):
        return _check_array(image)
    if isinstance(image, Image.Image):
        return _to_rgb(image, "the picture")
    if not isinstance(image, str | Path):
        raise TypeError(
            "image must be a path, a PIL image or an (H, W, 3) uint8 array; "
            f"got {type(image).__name__}."
        )
    path = Path(image)
    if path.is_dir():
        raise ValueError(f"{path.name} is a folder; expected a picture file.")
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}; check the path.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path.name} is empty (0 bytes); choose another picture.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            with Image.open(path) as opened:
                return _to_rgb(opened, path.name)
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path.name} is not a picture that can be read; use JPEG, PNG, WebP, GIF, BMP or TIFF."
        ) from error
    except Image.DecompressionBombError as error:
        raise ValueError(_too_large(path.name, None)) from error
    except (OSError, SyntaxError) as error:
        if (
            isinstance(error, OSError) and error.errno is not None
        ):  # the file system's, not the picture's
            raise
        raise ValueError(_damaged(path.name)) from error


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    width, height = image.size
    if width == 0 or height == 0:
        raise ValueError(f"{name} has no pixels ({width}×{height}); choose another picture.")
    if width * height > MAX_IMAGE_PIXELS:
        raise ValueError(_too_large(name, image.size))
    try:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):
            image = _to_8_bit(image)
        elif image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
            rgba = image.convert("RGBA")
            image = Image.new("RGBA", rgba.size, "white")
            image.alpha_composite(rgba)
        return np.ascontiguousarray(image.convert("RGB"))
    except (OSError, SyntaxError, EOFError, IndexError) as error:
        raise ValueError(_damaged(name)) from error


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit integers, or floats of any range, to 8 bits."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = (0.0, 65535.0) if image.mode.startswith("I") else (values.min(), values.max())
    if image.mode == "I" and values.max() <= 255:
        high = 255.0
    scaled = (values - low) / max(high - low, 1e-12) * 255
    return Image.fromarray(np.clip(scaled + 0.5, 0, 255).astype(np.uint8))


def _check_array(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8:
        raise TypeError(
            f"An image array must be uint8, 0 to 255; got {image.dtype}. "
            "Scale it and convert it with .astype(np.uint8)."
        )
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"An image array must have shape (H, W, 3), RGB; got {image.shape}.")
    height, width = image.shape[:2]
    if image.size == 0:
        raise ValueError(f"The image array is empty; got shape {image.shape}.")
    if width * height > MAX_IMAGE_PIXELS:
        raise ValueError(_too_large("the picture", (width, height)))
    return np.ascontiguousarray(image)


def _too_large(name: str, size: tuple[int, int] | None) -> str:
    got = f"has {size[0]}×{size[1]} pixels" if size else "has far too many pixels"
    limit = MAX_IMAGE_PIXELS // 1_000_000
    return f"{name} {got}; at most {limit} million can be taken: make it smaller."


def _damaged(name: str) -> str:
    return f"{name} is damaged or cut off and cannot be read to its end; choose another picture."


def input_size_for(original_size: Size, image_size: int) -> Size:
    """Return the (height, width) of a picture whose longer side becomes ``image_size`` pixels."""
    scale = image_size / max(original_size)
    height, width = (max(1, int(side * scale + 0.5)) for side in original_size)
    return height, width


def resize(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize (H, W, 3) uint8 to (height, width), bilinear with antialiasing as SAM does."""
    if image.shape[:2] == tuple(size):
        return image
    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized)


def to_input_frame(coords: np.ndarray, original_size: Size, input_size: Size) -> np.ndarray:
    """Scale (..., 2) x, y from the photo's pixels to the model's input frame, per axis."""
    scale = np.array([input_size[1] / original_size[1], input_size[0] / original_size[0]])
    return coords * scale


def upscale_logits(
    low_res_logits: torch.Tensor, input_size: Size, image_size: int, output_size: Size
) -> torch.Tensor:
    """Bring (M, l, l') low-res logits to ``output_size`` as SAM's post-processing does.

    Args:
        low_res_logits: Logits over the input frame, 4 pixels of it to a cell.
        input_size: (height, width) of the picture within the input frame.
        image_size: Side of the input frame, pixels.
        output_size: (height, width) wanted; the photo's own for a full-size mask.

    Returns:
        (M, *output_size) float32 logits; above 0 is mask.
    """
    rows, columns = low_res_logits.shape[-2:]
    frame = (min(rows * 4, image_size), min(columns * 4, image_size))
    logits = F.interpolate(low_res_logits[None], frame, mode="bilinear", align_corners=False)
    logits = logits[..., : input_size[0], : input_size[1]]
    if tuple(output_size) != tuple(input_size):
        logits = F.interpolate(logits, output_size, mode="bilinear", align_corners=False)
    return logits[0]
