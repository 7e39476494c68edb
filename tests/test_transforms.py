"""Pictures of every kind become upright RGB, or one clear sentence."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import torch
from PIL import Image

from mobilesam import transforms
from mobilesam.transforms import (
    input_size_for,
    read_image,
    resize,
    to_input_frame,
    upscale_logits,
)


@pytest.fixture
def photo() -> np.ndarray:
    """A 6 x 4 picture whose left half is red and whose right half is blue."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, :3, 0] = 255
    pixels[:, 3:, 2] = 255
    return pixels


def _same(read: np.ndarray, expected: np.ndarray, tolerance: int = 0) -> None:
    assert read.dtype == np.uint8
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(photo: np.ndarray, orientation: int, tmp_path: Path) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that the viewer inverts
    stored = Image.fromarray(photo)
    if orientation in undo:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.png"
    stored.save(path, exif=exif)
    _same(read_image(path), photo)


def test_a_rotated_tiff_is_turned_once(photo: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "photo.tif"
    Image.fromarray(photo).transpose(Image.Transpose.ROTATE_90).save(path, tiffinfo={0x0112: 6})
    _same(read_image(path), photo)


@pytest.mark.parametrize("orientation", [6, "six"])
def test_exif_of_the_wrong_types_does_no_harm(
    photo: np.ndarray, orientation: object, tmp_path: Path
) -> None:
    path = tmp_path / "photo.png"
    stored = Image.fromarray(photo)
    if orientation == 6:
        stored = stored.transpose(Image.Transpose.ROTATE_90)
    stored.save(path, exif=_exif_with_letters(orientation))
    _same(read_image(path), photo)


def _exif_with_letters(orientation: object) -> bytes:
    """Return EXIF whose ImageWidth (0x0100) is of type ASCII, and so is a worded orientation."""
    entries = [(0x0100, 2, 4, b"640\0")]
    if isinstance(orientation, int):
        entries.append((0x0112, 3, 1, struct.pack("<HH", orientation, 0)))
    else:
        entries.append((0x0112, 2, 4, b"six\0"))
    body = b"".join(struct.pack("<HHI", *head) + value for *head, value in entries)
    tiff = b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)
    return b"Exif\0\0" + tiff


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK", "RGBA"])
def test_colour_modes(photo: np.ndarray, mode: str) -> None:
    _same(read_image(Image.fromarray(photo).convert(mode)), photo, tolerance=2)


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_modes(mode: str) -> None:
    grey = np.array([[0, 255, 0], [255, 0, 255]], np.uint8)
    expected = np.repeat(grey[..., None], 3, axis=2)
    _same(read_image(Image.fromarray(grey).convert(mode)), expected)


def test_16_bit_is_scaled(tmp_path: Path) -> None:
    values = np.array([[0, 32768, 65535]], np.uint16)
    path = tmp_path / "deep.png"
    Image.fromarray(values).save(path)
    assert read_image(path)[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_what_a_sensor_gave_in_16_bits_is_not_black(tmp_path: Path, bits: int) -> None:
    values = np.array([[0, 2 ** (bits - 1), 2**bits - 1]], np.uint16)
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert read_image(tmp_path / name)[0, :, 0].tolist() == [0, 128, 255]


def test_floats_are_scaled_to_their_own_range() -> None:
    values = np.array([[-1.0, 0.0, 1.0]], np.float32)
    assert read_image(Image.fromarray(values))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    values = np.array([[0.0, value, 1.0]], np.float32)
    with pytest.raises(ValueError, match="NaN or infinity"):
        read_image(Image.fromarray(values))


def test_32_bit_integers_are_scaled_to_their_own_range() -> None:
    for low, step in ((0, 1 << 20), (-1000, 1), (-300, 2)):
        values = np.arange(256, dtype=np.int32).reshape(16, 16) * step + low
        read = read_image(Image.fromarray(values))
        assert np.array_equal(read[..., 0].ravel(), np.arange(256))


def test_a_closed_picture_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.new("RGB", (8, 8)).save(path)
    picture = Image.open(path)
    picture.close()
    with pytest.raises(ValueError, match=r"closed before its pixels were read; open it again"):
        read_image(picture)


def test_a_deep_picture_takes_little_memory_to_read(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.new("I;16", (4000, 3000), 300).save(path)
    tracemalloc.start()
    try:
        pixels = read_image(path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3 * pixels.nbytes


def test_transparency_is_laid_over_white() -> None:
    clear = Image.new("RGBA", (3, 2), (10, 20, 30, 0))
    _same(read_image(clear), np.full((2, 3, 3), 255))
    for mode in ("RGBa", "LA", "La"):  # a: premultiplied
        through = clear.convert("LA") if mode == "La" else clear
        _same(read_image(through.convert(mode)), np.full((2, 3, 3), 255))


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "blue")]
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    _same(read_image(path), np.broadcast_to(np.array([255, 0, 0]), (5, 5, 3)), tolerance=2)


def test_heic_is_read(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(0, 240, 2, np.uint8)[:, None], (80, 120, 3))
    path = tmp_path / "IMG_0001.HEIC"
    pillow_heif.from_pillow(Image.fromarray(ramp)).save(path, quality=-1)
    _same(read_image(path), ramp, tolerance=2)


def test_without_its_package_heic_is_told_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "IMG_0001.HEIC"
    pillow_heif.from_pillow(Image.new("RGB", (64, 64))).save(path)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"IMG_0001\.HEIC is a HEIC .* pip install pillow-heif"):
        read_image(path)


def test_arrays_pass_through(photo: np.ndarray) -> None:
    _same(read_image(photo[:, ::-1]), photo[:, ::-1])
    assert read_image(photo[:, ::-1]).flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (np.zeros((4, 4, 3)), TypeError, "uint8.*float64"),
        (np.zeros((4, 4), np.uint8), ValueError, r"\(H, W, 3\).*got \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"got \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "empty"),
        (None, TypeError, "NoneType"),
        (12, TypeError, "int"),
        ("", ValueError, "path is empty"),
        ("no-such-file.jpg", FileNotFoundError, "no-such-file.jpg"),
        ("a" * 300, FileNotFoundError, "There is no file aaa"),
        ("nul\0.jpg", FileNotFoundError, "There is no file"),
    ],
)
def test_what_is_no_picture_is_refused(image: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        read_image(image)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.png", b"this is no picture", "not a picture"),
        ("empty.jpg", b"", "empty"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        ("head.ppm", b"P6\n12345678901 2\n255\n", "damaged or cut off"),
        ("word.ppm", b"P6\nx 2\n255\n", "damaged or cut off"),
        ("value.ppm", b"P3\n1 1\n255\n1 2 999\n", "damaged or cut off"),
    ],
)
def test_files_that_are_no_picture(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "heic"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    pillow_heif.register_heif_opener()
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"damaged or cut off|not a picture"):
        read_image(path)


@pytest.mark.parametrize("mode", ["RGB", "P", "I;16"])
def test_a_png_with_a_wrong_byte_is_damaged_and_not_closed(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "flipped.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    picture = Image.fromarray(noise if mode == "RGB" else noise[..., 0]).convert(mode)
    picture.save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    for source in (path, Image.open(path)):
        with pytest.raises(ValueError, match="is damaged or cut off"):
            read_image(source)


def test_what_another_program_must_decode_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "weather.grib"
    path.write_bytes(b"GRIB\0\0\0\1" + bytes(8))
    with pytest.raises(ValueError, match=r"weather\.grib is not a picture that can be read"):
        read_image(path)


def test_no_other_program_is_started_for_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n")
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(ValueError, match=r"photo\.jpg is not a picture that can be read"):
        read_image(path)


def test_a_jpeg_of_endless_scans_is_refused(tmp_path: Path, photo: np.ndarray) -> None:
    path = tmp_path / "slow.jpg"
    Image.fromarray(photo).save(path, progressive=True)
    assert read_image(path).shape == photo.shape
    whole = path.read_bytes()
    last = whole.rindex(b"\xff\xda")
    path.write_bytes(whole[:last] + 100 * whole[last:-2] + whole[-2:])
    with pytest.raises(ValueError, match=r"slow\.jpg is a JPEG of more than 100 scans"):
        read_image(path)


def test_scans_do_not_hide_behind_what_a_decoder_passes_over(tmp_path: Path) -> None:
    path = tmp_path / "hidden.jpg"
    Image.new("L", (64, 64)).save(path, progressive=True, restart_marker_blocks=1)
    whole = path.read_bytes()
    last = whole.rindex(b"\xff\xda")
    jump = b"\xff\x02\xff\xff"  # no marker that has a length, whatever follows
    path.write_bytes(whole[:last] + 200 * (whole[last:-2] + jump) + whole[-2:])
    with pytest.raises(ValueError, match=r"hidden\.jpg is a JPEG of more than 100 scans"):
        read_image(path)


def test_a_phone_photo_with_a_film_behind_it_is_read(tmp_path: Path, photo: np.ndarray) -> None:
    path = tmp_path / "moving.jpg"
    Image.fromarray(photo).save(path, comment=200 * b"\xff\xda\0\2")
    path.write_bytes(path.read_bytes() + 200 * b"\xff\xda\0\2")
    assert read_image(path).shape == photo.shape


def test_a_picture_of_one_endless_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "row.png"
    Image.new("1", (65_535, 1)).save(path)
    assert read_image(path).shape == (1, 65_535, 3)
    Image.new("1", (1, 65_536)).save(path)
    with pytest.raises(
        ValueError, match=r"has 1×65536 pixels; a side may have at most 65,535: crop it"
    ):
        read_image(path)


def test_a_path_may_begin_with_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("RGB", (4, 3)).save(tmp_path / "photo.png")
    for path in ("~/photo.png", Path("~/photo.png")):
        assert read_image(path).shape == (3, 4, 3)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (5, 2)).save("~photo.png")
    assert read_image("~photo.png").shape == (2, 5, 3)


def test_a_damaged_avif_is_refused(tmp_path: Path, photo: np.ndarray) -> None:
    path = tmp_path / "damaged.avif"
    Image.fromarray(photo).save(path)
    path.write_bytes(path.read_bytes().replace(b"iloc", b"xloc"))  # where its pixels are
    with pytest.raises(ValueError, match=r"damaged\.avif is damaged or cut off"):
        read_image(path)


def test_a_picture_that_pillow_knows_in_part_only_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "texture.dds"
    Image.new("RGB", (8, 8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:80] + b"\x04\0\0\0ATC " + content[88:])  # a compression
    with pytest.raises(ValueError, match=r"texture\.dds is not a picture that can be read"):
        read_image(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (10_000, 10_000)).save(path)
    with pytest.raises(ValueError, match=r"10000×10000.*50 million"):
        read_image(path)
    Image.new("1", (20_000, 10_000)).save(path)
    with pytest.raises(ValueError, match=r"far too many.*50 million"):
        read_image(path)


def test_what_is_in_memory_already_may_be_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "MAX_IMAGE_PIXELS", 10)
    _same(read_image(np.zeros((4, 4, 3), np.uint8)), np.zeros((4, 4, 3)))
    _same(read_image(Image.new("RGB", (4, 4))), np.zeros((4, 4, 3)))


@pytest.mark.parametrize(
    ("original", "side", "expected"),
    [((427, 640), 1024, (683, 1024)), ((1, 5000), 512, (1, 512)), ((64, 64), 1024, (1024, 1024))],
)
def test_input_sizes(original: tuple, side: int, expected: tuple) -> None:
    assert input_size_for(original, side) == expected


def test_coordinates_scale_per_axis() -> None:
    scaled = to_input_frame(np.array([[640.0, 427.0]]), (427, 640), (683, 1024))
    assert scaled.tolist() == [[1024.0, 683.0]]


def test_logits_come_back_to_the_photo() -> None:
    low_res = torch.full((1, 256, 256), -5.0)
    low_res[0, : 683 // 4, :128] = 5.0  # the left half of what the photo covers
    mask = upscale_logits(low_res, (683, 1024), 1024, (427, 640))[0] > 0
    assert mask.shape == (427, 640)
    assert mask[:420, :318].all()
    assert not mask[:, 322:].any()


def test_resizing_to_the_same_size_changes_nothing(photo: np.ndarray) -> None:
    assert resize(photo, (4, 6)) is photo


def test_what_is_clear_in_16_bits_is_white(tmp_path: Path) -> None:
    values = np.array([[300, 1000], [40000, 300]], np.uint16)
    path = tmp_path / "deep.png"
    Image.fromarray(values).save(path, transparency=300)
    if "transparency" not in Image.open(path).info:
        pytest.skip("this Pillow does not tell of it")
    assert (read_image(path)[..., 0] == 255).tolist() == [[True, False], [False, True]]
