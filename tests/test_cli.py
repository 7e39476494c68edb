from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mobilesam
from mobilesam import registry
from tests.conftest import Run

WIDTH, HEIGHT = 90, 60

pytestmark = pytest.mark.usefixtures("empty_machine")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_segment_writes_a_mask_and_reports_in_one_line_of_json(
    run: Run, photo: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    status, stdout, stderr = run(
        "segment", photo, "--point", "45,30", "--model", checkpoint, "--out", out
    )
    assert (status, stderr) == (0, "")
    assert stdout.count("\n") == 1
    report = json.loads(stdout)
    assert report.keys() == {
        *("model", "size", "scores", "best", "choice", "area"),
        *("encode_ms", "decode_ms", "kind", "out"),
    }
    assert (report["model"], report["kind"], report["out"]) == ("untrained", "mask", str(out))
    assert report["size"] == [HEIGHT, WIDTH]
    assert len(report["scores"]) == 3
    assert report["best"] == report["choice"] == int(np.argmax(report["scores"]))
    assert report["encode_ms"] > 0
    assert report["decode_ms"] > 0
    mask = np.asarray(Image.open(out))
    assert (mask.shape, mask.dtype) == ((HEIGHT, WIDTH), np.uint8)
    assert set(np.unique(mask)) <= {0, 255}
    assert (mask == 255).sum() == report["area"]


def test_the_mask_is_that_of_the_library(
    run: Run, photo: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    prompt = ("--point", "45,30", "--point", "10.5,20,0", "--box", "5,6,70,50")
    status, stdout, _ = run("segment", photo, *prompt, "--model", checkpoint, "--out", out)
    assert status == 0
    predictor = mobilesam.Predictor(mobilesam.load_model(checkpoint))
    expected = predictor.predict(
        predictor.encode(photo), [(45, 30), (10.5, 20)], [1, 0], box=(5, 6, 70, 50)
    )
    np.testing.assert_array_equal(np.asarray(Image.open(out)) == 255, expected.masks[0])
    scores = json.loads(stdout)["scores"]
    assert (len(scores), scores[0]) == (4, round(float(expected.iou_predictions[0]), 4))


@pytest.mark.parametrize(
    ("name", "options", "kind", "mode"),
    [
        ("x.mask.png", (), "mask", "L"),
        ("x.overlay.png", (), "overlay", "RGB"),
        ("x.CutOut.PNG", (), "cutout", "RGBA"),
        ("x.other.png", (), "mask", "L"),
        ("x.png", ("--kind", "overlay"), "overlay", "RGB"),
        ("x.mask.png", ("--kind", "cutout"), "cutout", "RGBA"),
    ],
)
def test_the_kind_of_output_follows_the_name_or_the_option(
    run: Run,
    photo: Path,
    checkpoint: Path,
    tmp_path: Path,
    name: str,
    options: tuple[str, ...],
    kind: str,
    mode: str,
) -> None:
    common = ("--box", "5,6,70,50", "--model", checkpoint, "--out", tmp_path / name)
    status, stdout, _ = run("segment", photo, *common, *options)
    assert status == 0
    assert json.loads(stdout)["kind"] == kind
    picture = Image.open(tmp_path / name)
    assert (picture.mode, picture.size) == (mode, (WIDTH, HEIGHT))


def test_coordinates_are_those_of_the_upright_photo(
    run: Run, checkpoint: Path, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (80, 40), "green").save(tmp_path / "turned.jpg", exif=exif)
    out = tmp_path / "out.png"
    words = ("segment", tmp_path / "turned.jpg", "--model", checkpoint, "--out", out)
    assert run(*words, "--point", "20,70")[0] == 0
    assert Image.open(out).size == (40, 80)
    assert run(*words, "--point", "70,20")[0] == 2


def test_the_users_folder_is_known_by_its_sign(
    run: Run, photo: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As folders and patterns have it; a shell leaves a quoted ~ to the program."""
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ("segment", f"~/{photo.name}", "--point", "45,30", "--model", checkpoint)
    assert run(*words, "--out", "~/out.png")[0] == 0
    assert (tmp_path / "out.png").is_file()
    assert "the photo itself" in run(*words, "--out", f"~/{photo.name}")[2]


def test_an_existing_file_is_replaced_and_a_link_followed(
    run: Run, photo: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "old.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to("old.png")
    common = ("segment", photo, "--point", "45,30", "--model", checkpoint)
    assert run(*common, "--out", tmp_path / "link.png")[0] == 0
    assert (tmp_path / "link.png").is_symlink()
    assert Image.open(tmp_path / "old.png").size == (WIDTH, HEIGHT)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    refuses: Callable[..., None],
    photo: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out" / "old.png"
    out.parent.mkdir()
    out.write_bytes(b"old")

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    words = ("segment", photo, "--point", "45,30", "--model", checkpoint, "--out", out)
    refuses("could not be written: No space left on device", *words)
    assert out.read_bytes() == b"old"
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "No prompt was given"),
        (("--point", "45"), "expected X,Y or X,Y,0 in pixels, got '45'"),
        (("--point", "a,b"), "expected X,Y or X,Y,0 in pixels, got 'a,b'"),
        (("--point", "4,5,2"), "expected X,Y or X,Y,0 in pixels, got '4,5,2'"),
        (("--point", "45,600"), "600"),
        (("--point", "-5,10"), "-5"),
        (("--point=-5,10",), "-5"),
        (("--point", "nan,3"), "finite"),
        (("--box", "1,2,3"), "expected X0,Y0,X1,Y1 in pixels, got '1,2,3'"),
        (("--box", "70,50,5,6"), "box"),
        (("--box", "1,2,30,40", "--box", "1,2,3,4"), "One --box was expected; got 2"),
        (("--point", "4,5", "--kind", "sketch"), "invalid choice: 'sketch'"),
        (
            ("--point", "4,5", "--shape", "round"),
            "--shape round; see `python -m mobilesam segment -",
        ),
        (("--point=4,5", "--model=embedded", "--device=gpu"), "device 'gpu' cannot be used"),
    ],
)
def test_a_bad_prompt_or_option_is_one_sentence(
    refuses: Callable[..., None],
    photo: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    expected: str,
) -> None:
    refuses(expected, "segment", photo, *words, "--out", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_a_bad_photo_or_model_is_one_sentence(
    refuses: Callable[..., None], photo: Path, tmp_path: Path
) -> None:
    prompt = ("--point", "4,5", "--out", tmp_path / "out.png")
    refuses("absent.jpg", "segment", tmp_path / "absent.jpg", *prompt)
    (tmp_path / "text.png").write_text("not a picture")
    refuses("text.png", "segment", tmp_path / "text.png", *prompt)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Image.new("1", (10_000, 10_000)).save(tmp_path / "bomb.png")
        refuses("50 million", "segment", tmp_path / "bomb.png", *prompt)
    assert not told  # Pillow's own warning would be a second sentence
    refuses("'nothing' is neither a model", "segment", photo, *prompt, "--model", "nothing")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 cut off")
    refuses("cut off or damaged", "segment", photo, *prompt, "--model", tmp_path / "cut.pt")
    refuses("could not be downloaded", "segment", photo, *prompt, "--model", "sam_vit_b")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_memory_that_runs_out_is_one_sentence(
    refuses: Callable[..., None],
    photo: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def encode(*_: object) -> None:
        raise error

    monkeypatch.setattr(mobilesam.Predictor, "encode", encode)
    words = ("--point", "4,5", "--model", checkpoint, "--out", tmp_path / "out.png")
    refuses("Memory ran out: close other programs, or take a smaller", "segment", photo, *words)


def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    refuses: Callable[..., None], photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("segment", photo, "--point", "4,5", "--model", "nothing", "--out")
    refuses("does not exist; create it first", *common, tmp_path / "absent" / "out.png")
    refuses("must be a file that ends in .png", *common, tmp_path / "out.jpg")
    refuses("is the photo itself", *common, photo)
    refuses("does not exist; create it first", *common, "~no-such-user/out.png")
    (tmp_path / "folder.png").mkdir()
    refuses("is not a file", *common, tmp_path / "folder.png")
    (tmp_path / "old.png").write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).suffix != ".png")
    refuses("exists and is read-only", *common, tmp_path / "old.png")
    monkeypatch.setattr(os, "access", lambda path, _: False)
    refuses("cannot be written; choose another", *common, tmp_path / "out.png")


def test_the_default_model_says_so_when_it_is_the_embedded_one(
    run: Run, photo: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(checkpoint, tmp_path / "embedded.safetensors")
    monkeypatch.setattr(registry, "WEIGHTS_FOLDER", tmp_path)
    words = ("segment", photo, "--point", "4,5", "--out", tmp_path / "out.png")
    status, stdout, stderr = run(*words)
    assert status == 0
    assert json.loads(stdout)["model"] == "embedded"
    assert "MobileSAM's checkpoint is not on this machine" in stderr
    assert "python -m mobilesam download mobile_sam" in stderr
