"""Pictures in, pixels for the model out; coordinates there and back."""

from __future__ import annotations

import operator
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.nn import functional as F

MAX_IMAGE_PIXELS = 50_000_000  # of a file: a 12 MP phone photo four times over
MAX_SIDE = 65_535  # pixels of a file: JPEG's own bound
MAX_SCANS = 100  # of a JPEG: cameras and programs make 1 to 12, and each takes its time
JPEG_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")  # those with a length, and the end
END_OF_IMAGE, START_OF_SCAN = b"\xd9", b"\xda"
MAX_16_BIT = 65535.0
SENSOR_MAXIMA = (255.0, 1023.0, 4095.0, 16383.0, MAX_16_BIT)  # 8, 10, 12, 14 and 16 bits
ROWS_AT_A_TIME = 256  # of a deep picture on its way to 8 bits: bounds the memory that takes
LOW_RES_STRIDE = 4  # px of the input frame per cell of the low-res logits
EXIF_ORIENTATION = 0x0112
UPRIGHT = {  # what brings a picture of that EXIF orientation upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
NEEDING_MORE = ("EPS", "WMF", "GRIB", "BUFR", "HDF5")  # Pillow opens them, others must decode
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
Size = tuple[int, int]


def read_image(image: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """Read any picture as upright RGB.

    EXIF rotation is applied, transparency is laid over white, of an animation the first frame is
    taken. 16-bit values are scaled to 8; where none needs more than 10, 12 or 14 bits, as
    microscopes give them, those are.

    Args:
        image: A path (``~`` is a home folder), a PIL image in any mode, or an (H, W, 3) uint8 RGB
            array.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If the system cannot read it.
        TypeError: If ``image`` is none of these types, or an array not of uint8.
        ValueError: If it is no readable picture, empty, or a file of more than
            ``MAX_IMAGE_PIXELS``, ``MAX_SIDE`` or (a JPEG) ``MAX_SCANS``, which is found out before
            it is decoded.
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
    if isinstance(image, str) and image.startswith(("http://", "https://")):
        raise ValueError(f"{image} is an address; download the picture and give its path.")
    if not str(image):
        raise ValueError("The picture's path is empty; expected a picture file.")
    path = Path(image)
    if not os.path.lexists(path):
        path = Path(os.path.expanduser(path))
    if os.path.isdir(path):
        raise ValueError(f"{path.name or path} is a folder; expected a picture file.")
    if not os.path.exists(path):  # unlike Path.exists, also for a name that is too long
        raise FileNotFoundError(f"There is no file {path}; check the path.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path.name} is empty (0 bytes); choose another picture.")
    with _open(path) as opened:
        width, height = opened.size
        if width * height > MAX_IMAGE_PIXELS:
            raise ValueError(_too_large(path.name, f"{width}×{height}"))
        if max(width, height) > MAX_SIDE:
            raise ValueError(
                f"{path.name} has {width}×{height} pixels; a side may have at most {MAX_SIDE:,}: "
                "crop it."
            )
        if opened.format in NEEDING_MORE:  # whose programs are not to be started
            raise ValueError(_unreadable(path.name))
        if opened.format in ("JPEG", "MPO") and _scans_of(path) > MAX_SCANS:
            raise ValueError(
                f"{path.name} is a JPEG of more than {MAX_SCANS} scans, which would take very long "
                "to read; save it anew."
            )
        return _to_rgb(opened, path.name)


def _open(path: Path) -> Image.Image:
    is_heif = _is_heif(path)
    if is_heif:
        _teach_heif(path.name)
    try:
        return Image.open(path)
    except (UnidentifiedImageError, NotImplementedError) as error:  # the latter of a DDS
        if is_heif:
            raise ValueError(_damaged(path.name)) from error
        raise ValueError(_unreadable(path.name)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(_too_large(path.name, "far too many")) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can make a plugin fail in any way
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the file system's, not the picture's
        raise ValueError(_damaged(path.name)) from error


def _scans_of(path: Path) -> int:
    """Count the scans of a JPEG file's first picture; a thumbnail's, or a film's behind it, not."""
    content = path.read_bytes()
    scans, place = 0, 2
    while (found := JPEG_MARKER.search(content, place)) and found[1] != END_OF_IMAGE:
        scans += found[1] == START_OF_SCAN
        place = found.end() + max(2, int.from_bytes(content[found.end() : found.end() + 2]))
    return scans


def _is_heif(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(12)
    return start[4:8] == b"ftyp" and start[8:] in HEIF_BRANDS


def _teach_heif(name: str) -> None:
    """Let Pillow read HEIC, as iPhones take photos."""
    try:
        import pillow_heif
    except ImportError as error:
        raise ValueError(
            f"{name} is a HEIC picture, which this installation cannot read; save it as JPEG, or "
            "run: pip install pillow-heif."
        ) from error
    pillow_heif.register_heif_opener()


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    width, height = image.size
    if width == 0 or height == 0:
        raise ValueError(f"{name} has no pixels ({width}×{height}); choose another picture.")
    was_closed = getattr(image, "fp", None) is None  # a failure closes the file, too
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can make a decoder fail in any way
        if was_closed:
            raise ValueError(
                f"{name} was closed before its pixels were read; open it again."
            ) from error
        raise ValueError(_damaged(name)) from error
    turn = _turn_upright(image)
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith(("I", "F")):
        image = _to_8_bit(image, name)
    try:
        if image.mode == "La":
            image = image.convert("LA")
        if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
            rgba = image.convert("RGBA")
            image = Image.new("RGB", rgba.size, "white")
            image.paste(rgba, mask=rgba.getchannel("A"))
        return np.ascontiguousarray(image.convert("RGB"))
    except ValueError as error:
        raise ValueError(
            f"{name} cannot be brought from Pillow's mode {image.mode} to RGB; save it as RGB."
        ) from error


def _turn_upright(image: Image.Image) -> Image.Transpose | None:
    try:
        return UPRIGHT.get(image.getexif()[EXIF_ORIENTATION])
    except Exception:  # none, or damaged EXIF: the picture itself is whole
        return None


def _to_8_bit(image: Image.Image, name: str) -> Image.Image:
    """Scale 16-bit integers, or other numbers of any range, to 8 bits; a few rows at a time."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite((low, high)).all():  # a single NaN makes both NaN
        raise ValueError(f"{name} holds NaN or infinity; replace them by finite numbers.")
    if image.mode.startswith("I") and low >= 0 and high <= MAX_16_BIT:
        low, high = 0.0, next(maximum for maximum in SENSOR_MAXIMA if high <= maximum)
    scale = 255 / max(high - low, 1e-12)
    out = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        out[rows] = np.clip((values[rows].astype(np.float64) - low) * scale + 0.5, 0, 255)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        out[values == clear] = 255  # white, as below all that is clear
    return Image.fromarray(out)


def _check_array(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8:
        raise TypeError(
            f"An image array must be uint8, 0 to 255; got {image.dtype}. "
            "Scale it and convert it with .astype(np.uint8)."
        )
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"An image array must have shape (H, W, 3), RGB; got {image.shape}.")
    if image.size == 0:
        raise ValueError(f"The image array is empty; got shape {image.shape}.")
    return np.ascontiguousarray(image)


def _too_large(name: str, pixels: str) -> str:
    limit = MAX_IMAGE_PIXELS // 1_000_000
    return f"{name} has {pixels} pixels; at most {limit} million can be taken: make it smaller."


def _unreadable(name: str) -> str:
    return f"{name} is not a picture that can be read; use JPEG, PNG, WebP, HEIC, GIF, BMP or TIFF."


def _damaged(name: str) -> str:
    return f"{name} is damaged or cut off and cannot be read to its end; choose another picture."


def check_size(size: Any, name: str) -> Size:
    """Return a picture's (height, width), given in any kind of sequence, array or tensor.

    Args:
        size: The two sides, pixels.
        name: What the caller knows it by.

    Raises:
        ValueError: If it is not two whole numbers of at least 1.
    """
    try:
        height, width = (operator.index(side) for side in size)
    except (TypeError, ValueError):  # no numbers, or not two
        height = width = 0
    if min(height, width) < 1:
        raise ValueError(
            f"{name} must be (height, width), two whole numbers of at least 1 as image.shape[:2] "
            f"has them; got {size!r:.60}."
        )
    return height, width


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
        low_res_logits: Logits over the input frame, ``LOW_RES_STRIDE`` pixels of it to a cell.
        input_size: (height, width) of the picture within the input frame.
        image_size: Side of the input frame, pixels.
        output_size: (height, width) wanted; the photo's own for a full-size mask.

    Returns:
        (M, *output_size) float32 logits.
    """
    if not len(low_res_logits):
        return low_res_logits.new_zeros((0, *output_size))
    rows, columns = low_res_logits.shape[-2:]
    frame = [min(cells * LOW_RES_STRIDE, image_size) for cells in (rows, columns)]
    logits = F.interpolate(low_res_logits[None], frame, mode="bilinear", align_corners=False)
    logits = logits[..., : input_size[0], : input_size[1]]
    if tuple(output_size) != tuple(input_size):
        logits = F.interpolate(logits, output_size, mode="bilinear", align_corners=False)
    return logits[0]
