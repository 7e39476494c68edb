"""Data and folders that will not do are reported before anything slow begins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mobilesam.files import check_folder, make_folder
from mobilesam.training.config import DistillConfig, TeacherConfig
from mobilesam.training.data_config import DataConfig
from mobilesam.training.places import check_places
from tests.shards import SA1B_VAL, write_sa1b, write_shards
from tests.training_runs import environment

WITHOUT_PYTORCH = """
import sys
from mobilesam import cli
status = cli.main(sys.argv[1:])
print("torch" in sys.modules)
sys.exit(status)
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_shards(write_shards(tmp_path / "data", "train", 2), "val", 2)


@pytest.mark.parametrize("words", [["train", "distill", "--teacher=embedded"], ["val"]])
def test_bad_places_are_told_before_pytorch_is_imported(
    words: list[str], data: Path, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.touch()
    for more, expected in (
        (["--data", str(tmp_path / "nowhere")], "nowhere is no folder"),
        (["--data", str(data), "--out", str(taken)], "taken is not a folder; choose another"),
    ):
        command = [sys.executable, "-c", WITHOUT_PYTORCH, *words, *more]
        ended = subprocess.run(
            command, env=environment(), capture_output=True, text=True, check=False
        )
        assert (ended.returncode, ended.stdout) == (2, "False\n"), ended.stderr
        assert expected in ended.stderr and ended.stderr.count("\n") == 1


def test_what_is_missing_is_told_and_nothing_is_made(data: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "a" / "out", tmp_path / "cache"
    folder = DataConfig(data=str(data))
    check_places(TeacherConfig(out=str(out), data=folder))
    check_places(DistillConfig(teacher="any", out=str(out), cache=str(cache), data=folder))
    assert not out.parent.exists() and not cache.exists()
    cache.touch()
    with pytest.raises(ValueError, match="cache is not a folder"):
        check_places(DistillConfig(teacher="any", out=str(out), cache=str(cache), data=folder))
    check_places(DistillConfig(teacher="any", out=str(out), cache=None, data=folder))
    (data / "val-000.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected val-\*.tar, .* set val_photos to 0"):
        check_places(TeacherConfig(out=str(out), data=folder))
    check_places(TeacherConfig(out=str(out), data=folder, val_photos=0))
    (data / "train-000.tar").unlink()
    with pytest.raises(FileNotFoundError, match="data is empty; expected train-"):
        check_places(TeacherConfig(out=str(out), data=folder, val_photos=0))


def test_photos_in_the_other_layout_are_data_too(tmp_path: Path) -> None:
    write_sa1b(tmp_path / "data" / "below", photos=1, val=1)
    assert (tmp_path / "data" / "below" / f"sa_{SA1B_VAL[0]}.jpg").exists()
    config = TeacherConfig(out=str(tmp_path), data=DataConfig(data=str(tmp_path / "data")))
    check_places(config)


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere", "/proc/no/where"])
def test_a_folder_is_refused_before_it_is_made_as_it_would_be_then(
    place: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    said = []
    for asked in (check_folder, make_folder):
        with pytest.raises(ValueError, match="; choose another folder") as refused:
            asked(tmp_path / place)
        said.append(str(refused.value).partition(" (")[0])
    assert said[0] == said[1]
    check_folder(tmp_path / "new" / "below")
    assert not (tmp_path / "new").exists()
