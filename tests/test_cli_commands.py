"""The commands beside `segment`: models, download, train and val, help."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

import mobilesam
from mobilesam import cli, registry
from mobilesam.backends import Backend
from mobilesam.folders import commands
from tests.conftest import EMBEDDED_FILE, Run

pytestmark = pytest.mark.usefixtures("empty_machine")


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
    assert run("download", "embedded")[:2] == (0, f"{EMBEDDED_FILE}\n")
    monkeypatch.setattr(registry, "WEIGHTS_FOLDER", tmp_path)
    refuses("which comes with this package, is missing", "download", "embedded")


def test_train_and_val_come_from_the_training_package(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(name: str) -> Callable[[argparse._SubParsersAction], None]:
        def add_parser(subparsers: argparse._SubParsersAction) -> None:
            parser = subparsers.add_parser(name, help="…")
            parser.add_argument("--data")
            parser.set_defaults(run=lambda args: print(name, args.data) or 5)

        return add_parser

    for module, name in (("commands", "train"), ("val_command", "val")):
        stub = types.ModuleType(f"mobilesam.training.{module}")
        setattr(stub, f"add_{name}_parser", add(name))
        monkeypatch.setitem(sys.modules, stub.__name__, stub)
    assert run("train", "--data", "there")[:2] == (5, "train there\n")
    assert run("-v", "val", "--data", "here")[:2] == (5, "val here\n")


def test_training_is_not_imported_for_other_commands(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("commands", "val_command"):  # an import would fail
        monkeypatch.setitem(sys.modules, f"mobilesam.training.{module}", None)
    status, stdout, _ = run("--help")
    assert status == 0
    for command in ("segment", "models", "download", *cli.LAZY_COMMANDS):
        assert f"    {command} " in stdout


def test_the_backends_that_can_be_chosen_are_those_there_are() -> None:
    assert set(commands.BACKENDS) == set(get_args(Backend))


def test_help_and_version_and_a_missing_command(run: Run, refuses: Callable[..., None]) -> None:
    assert run("--version")[:2] == (0, f"mobilesam {mobilesam.__version__}\n")
    status, stdout, _ = run("segment", "--help")
    assert status == 0
    assert "dog.overlay.png" in stdout
    refuses("see `python -m mobilesam segment --help`", "segment")
    refuses("COMMAND")
    refuses("invalid choice: 'paint'", "paint")


def test_an_interrupted_command_ends_quietly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_models", interrupt)
    assert run("models") == (130, "", "mobilesam: interrupted\n")


@pytest.mark.parametrize("command", ["", "segment", "everything", "compare", "export"])
def test_help_needs_no_torch(command: str) -> None:
    words = [*command.split(), "--help"]
    code = f"""
import sys, types
package = types.ModuleType("mobilesam")
package.__path__, package.__version__ = [{str(Path(cli.__file__).parent)!r}], "0"
sys.modules["mobilesam"] = package  # the command line alone, whatever the package imports
from mobilesam.cli import main
try:
    main({words!r})
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


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stream_is_no_mistake(closed: str, checkpoint: Path, tmp_path: Path) -> None:
    photo, out = Path(__file__).parents[1] / "examples" / "cat.jpg", tmp_path / "out"
    words = f"segment {photo} --format png --point 220,150 --model {checkpoint} --out {out}"
    command = f"{sys.executable} -m mobilesam {words} {closed}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=False)
    assert ended.returncode == 0
    assert b"Traceback" not in ended.stderr
    assert (out / "cat.png").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_reader_that_goes_away_is_no_mistake() -> None:
    command = f"{sys.executable} -m mobilesam models | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=False)
    assert ended.stderr == b""
    assert ended.returncode == cli.READER_GONE
