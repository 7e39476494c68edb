from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from http_server import closed_port
from PIL import Image
from safetensors.torch import save_file

import mobilesam
from mobilesam import checkpoints, cli, registry
from mobilesam.modeling import build_model

WIDTH, HEIGHT = 90, 60
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with untrained weights, as our own training would have saved it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    metadata = {"encoder": "deit_tiny", "image_size": "128", "pads_to_square": "false"}
    save_file(build_model("deit_tiny", 128).state_dict(), path, metadata=metadata)
    return path


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(checkpoints.FOLDER_VARIABLE, raising=False)
    for variable in checkpoints.HOST_VARIABLES.values():
        monkeypatch.setenv(variable, f"http://127.0.0.1:{closed_port()}")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: (exit status, standard output, standard error)."""

    def run_command(*words: object) -> tuple[int, str, str]:
        try:
            status = cli.main([str(word) for word in words])
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_command


@pytest.fixture
def refuses(run: Run) -> Callable[..., None]:
    """Expect a command to end with status 2 and one line that holds the given words."""

    def check(expected: str, *words: object) -> None:
        status, out, err = run(*words)
        assert status == 2
        assert out == ""
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert expected in err

    return check


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
        *("model", "size", "scores", "best", "area"),
        *("encode_ms", "decode_ms", "kind", "out"),
    }
    assert (report["model"], report["kind"], report["out"]) == ("untrained", "mask", str(out))
    assert report["size"] == [HEIGHT, WIDTH]
    assert len(report["scores"]) == 3
    assert report["best"] == int(np.argmax(report["scores"]))
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
    assert json.loads(stdout)["scores"] == [round(float(expected.iou_predictions[0]), 4)]


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
        (("--point=-5,10",), "-5"),
        (("--point", "nan,3"), "finite"),
        (("--box", "1,2,3"), "expected X0,Y0,X1,Y1 in pixels, got '1,2,3'"),
        (("--box", "70,50,5,6"), "box"),
        (("--box", "1,2,30,40", "--box", "1,2,3,4"), "One --box was expected; got 2"),
        (("--point", "4,5", "--kind", "sketch"), "invalid choice: 'sketch'"),
        (("--point", "4,5", "--shape", "round"), "unrecognized arguments"),
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
    refuses("'nothing' is neither a model", "segment", photo, *prompt, "--model", "nothing")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 cut off")
    refuses("cut off or damaged", "segment", photo, *prompt, "--model", tmp_path / "cut.pt")
    refuses("could not be downloaded", "segment", photo, *prompt, "--model", "sam_vit_b")


def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    refuses: Callable[..., None], photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("segment", photo, "--point", "4,5", "--model", "nothing", "--out")
    refuses("does not exist; create it first", *common, tmp_path / "absent" / "out.png")
    refuses("must be a file that ends in .png", *common, tmp_path / "out.jpg")
    refuses("is the photo itself", *common, photo)
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
    monkeypatch.setattr(registry, "EMBEDDED_CHECKPOINT", checkpoint)
    words = ("segment", photo, "--point", "4,5", "--out", tmp_path / "out.png")
    status, stdout, stderr = run(*words)
    assert status == 0
    assert json.loads(stdout)["model"] == "embedded"
    assert "MobileSAM's checkpoint is not on this machine" in stderr


def test_models_lists_each_with_its_place(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBILESAM_CHECKPOINT_DIR", str(tmp_path))
    (tmp_path / "sam_vit_b_01ec64.pth").write_bytes(b"x" * 1000)
    status, stdout, _ = run("models")
    assert status == 0
    rows = {line.split()[0]: line for line in stdout.splitlines()}
    assert rows.keys() == {"model", *registry.MODELS}
    assert "9.8 M" in rows["mobile_sam"]
    assert "40.7 MB  no" in rows["mobile_sam"]
    assert "resolve/main/mobile_sam.pt or http" in rows["mobile_sam"]
    assert "yes" in rows["sam_vit_b"]
    assert str(tmp_path / "sam_vit_b_01ec64.pth") in rows["sam_vit_b"]

    listed = {row["name"]: row for row in json.loads(run("models", "--json")[1])}
    assert listed["sam_vit_b"]["present"] is True
    assert listed["sam_vit_b"]["size_bytes"] == 1000
    assert listed["sam_vit_h"]["path"] is None
    assert listed["sam_vit_h"]["size_bytes"] == 2_564_550_879
    assert len(listed["mobile_sam"]["urls"]) == 2


def test_download_prints_where_the_checkpoint_is(
    run: Run, refuses: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBILESAM_CHECKPOINT_DIR", str(tmp_path))
    refuses("refused the connection", "download", "mobile_sam")
    (tmp_path / "mobile_sam.pt").write_bytes(b"here")
    assert run("download", "mobile_sam")[:2] == (0, f"{tmp_path / 'mobile_sam.pt'}\n")
    refuses("There is no model 'sam2'", "download", "sam2")
    monkeypatch.setattr(registry, "EMBEDDED_CHECKPOINT", tmp_path / "mobile_sam.pt")
    assert run("download", "embedded")[0] == 0
    monkeypatch.setattr(registry, "EMBEDDED_CHECKPOINT", tmp_path / "absent.safetensors")
    refuses("does not come from the network", "download", "embedded")


def test_train_and_val_come_from_the_training_package(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = types.ModuleType("mobilesam.training.commands")

    def add(name: str) -> Callable[[argparse._SubParsersAction], None]:
        def add_parser(subparsers: argparse._SubParsersAction) -> None:
            parser = subparsers.add_parser(name, help="…")
            parser.add_argument("--data")
            parser.set_defaults(run=lambda args: print(name, args.data) or 5)

        return add_parser

    commands.add_train_parser, commands.add_val_parser = add("train"), add("val")
    monkeypatch.setitem(sys.modules, "mobilesam.training.commands", commands)
    monkeypatch.setattr("mobilesam.training.commands", commands, raising=False)
    assert run("train", "--data", "there")[:2] == (5, "train there\n")
    assert run("-v", "val", "--data", "here")[:2] == (5, "val here\n")


def test_training_is_not_imported_for_other_commands(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mobilesam.training.commands", None)  # an import would fail
    status, stdout, _ = run("--help")
    assert status == 0
    for command in ("segment", "models", "download", "train", "val"):
        assert f"    {command} " in stdout


def test_help_and_version_and_a_missing_command(run: Run, refuses: Callable[..., None]) -> None:
    assert run("--version")[:2] == (0, f"mobilesam {mobilesam.__version__}\n")
    status, stdout, _ = run("segment", "--help")
    assert status == 0
    assert "dog.overlay.png" in stdout
    refuses("COMMAND")
    refuses("invalid choice: 'paint'", "paint")


def test_an_interrupted_command_ends_quietly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_models", interrupt)
    assert run("models") == (130, "", "mobilesam: interrupted\n")


def test_help_needs_no_torch() -> None:
    code = f"""
import sys, types
package = types.ModuleType("mobilesam")
package.__path__, package.__version__ = [{str(Path(cli.__file__).parent)!r}], "0"
sys.modules["mobilesam"] = package  # the command line alone, whatever the package imports
from mobilesam.cli import main
try:
    main(["segment", "--help"])
except SystemExit:
    sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=60)


def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mobilesam", "segment", "photo.jpg"]
    ended = subprocess.run(
        [*words, "--out", tmp_path / "out.png"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(mobilesam.__file__).parents[1],
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("mobilesam: error: No prompt was given")
    assert ended.stderr.count("\n") == 1
