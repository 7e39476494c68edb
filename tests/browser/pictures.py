"""Photographs and broken files for the browser tests."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image, ImageDraw


def disc(size: tuple[int, int], center: tuple[int, int], radius: int) -> Image.Image:
    """A bright disc on a dark, slightly noisy ground."""
    noise = np.random.default_rng(0).normal(0, 4, (size[1] // 4 + 1, size[0] // 4 + 1, 3))
    ground = np.clip(noise + np.array([40, 70, 60]), 0, 255).astype(np.uint8)
    picture = Image.fromarray(ground).resize(size)
    x, y = center
    ImageDraw.Draw(picture).ellipse(
        (x - radius, y - radius, x + radius, y + radius), fill=(240, 150, 30)
    )
    return picture


def phone_photo(path: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Write a photo that a phone held upright would: stored lying, turned by its EXIF.

    Returns:
        The upright photo's (width, height) and the disc's centre in it.
    """
    upright = disc((600, 900), (150, 700), 90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=92)
    return upright.size, (150, 700)


def large_photo(path: Path, source: Path) -> None:
    """Write an example photograph as 12 megapixels, 4000 x 3000."""
    with Image.open(source) as photo:
        photo.convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC).save(path, quality=88)


def broken_files(folder: Path) -> list[Path]:
    """Write files that are no photos, each in its own way."""
    photo, bomb = io.BytesIO(), io.BytesIO()
    disc((300, 200), (100, 100), 50).save(photo, "JPEG")
    Image.new("1", (10_000, 10_000)).save(bomb, "PNG")
    contents = {
        "text.png": b"this is no picture",
        "truncated.jpg": photo.getvalue()[: len(photo.getvalue()) // 2],
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "empty.png": b"",
        "bomb.png": bomb.getvalue(),
        "toolarge.jpg": photo.getvalue() + bytes(21_000_000),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in contents]


def odd_photos(folder: Path) -> dict[Path, tuple[int, int]]:
    """Write photos of unusual kinds; returns the size each must be shown in."""
    photo = disc((320, 240), (160, 120), 60)
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.convert("L").save(folder / "grey.png")
    rgba = photo.convert("RGBA")
    rgba.putalpha(photo.convert("L"))
    rgba.save(folder / "rgba.png")
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "sixteen.png")
    frames = [photo.convert("P"), photo.rotate(90).convert("P")]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (1, 5000), "white").save(folder / "narrow.png")
    disc((64, 64), (32, 32), 16).save(folder / "small.png")
    pillow_heif.from_pillow(photo).save(folder / "iphone.heic")
    sizes = {"narrow.png": (1, 5000), "small.png": (64, 64)}
    names = [
        "cmyk.jpg",
        "grey.png",
        "rgba.png",
        "sixteen.png",
        "animated.gif",
        "iphone.heic",
        *sizes,
    ]
    return {folder / name: sizes.get(name, (320, 240)) for name in names}
