"""The cache of exports, with something quicker than an export in it."""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mobilesam import export_cache


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    return path


def write_two_files(path: Path) -> None:
    path.write_bytes(b"graph")
    path.with_name("encoder.onnx.data").write_bytes(b"weights")


def test_what_was_built_is_found(checkpoint: Path, tmp_path: Path) -> None:
    assert export_cache.find(checkpoint) is None
    path = export_cache.find_or_build(checkpoint, write_two_files)
    assert path.read_bytes() == b"graph"
    assert tmp_path / "cache" / "mobilesam" / "exported" in path.parents
    assert export_cache.find(checkpoint) == path
    same = tmp_path / "copy.pt"
    same.write_bytes(checkpoint.read_bytes())
    assert export_cache.find(same) == path
    checkpoint.write_bytes(b"Weights")
    assert export_cache.find(checkpoint) is None


@pytest.mark.parametrize("constant", ["OPSET", "FORMAT", "__version__"])
def test_another_version_is_another_export(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, constant: str
) -> None:
    path = export_cache.find_or_build(checkpoint, write_two_files)
    monkeypatch.setattr(export_cache, constant, "another")
    assert export_cache.find(checkpoint) is None
    assert export_cache.find_or_build(checkpoint, write_two_files) != path


def test_what_nobody_uses_any_more_is_deleted(checkpoint: Path) -> None:
    old = time.time() - (export_cache.UNUSED_DAYS + 1) * export_cache.DAY_S
    paths = {}
    for name in ("unused", "used"):
        checkpoint.write_text(name)
        paths[name] = export_cache.find_or_build(checkpoint, write_two_files)
        os.utime(paths[name].with_name("SHA256SUMS"), (old, old))
    assert export_cache.find(checkpoint) == paths["used"]  # a use counts, however old it is
    checkpoint.write_text("new")
    made = export_cache.find_or_build(checkpoint, write_two_files)
    assert made.exists() and paths["used"].exists()
    assert not paths["unused"].parent.exists()


def test_what_a_killed_process_left_is_deleted_by_any_version(checkpoint: Path) -> None:
    exported = export_cache.find_or_build(checkpoint, write_two_files).parent.parent
    left, young = exported / "0123.4567.part", exported / "89ab.cdef.part"
    for folder in (left, young):
        folder.mkdir()
    os.utime(left, (0, 0))
    checkpoint.write_text("new")
    export_cache.find_or_build(checkpoint, write_two_files)
    assert not left.exists()
    assert young.exists()


@pytest.mark.parametrize("name", ["encoder.onnx", "encoder.onnx.data", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_export_is_made_again(
    checkpoint: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = export_cache.find_or_build(checkpoint, write_two_files).parent
    if damage == "missing":
        (folder / name).unlink()
    else:
        content = bytearray((folder / name).read_bytes())
        content[2] ^= 1
        (folder / name).write_bytes(content)
    assert export_cache.find(checkpoint) is None
    with caplog.at_level(logging.WARNING):
        path = export_cache.find_or_build(checkpoint, write_two_files)
    assert "is damaged and made again" in caplog.text
    assert path.read_bytes() == b"graph"
    assert export_cache.find(checkpoint) == path


def test_of_many_that_ask_at_once_one_builds(checkpoint: Path) -> None:
    built = []

    def build(path: Path) -> None:
        built.append(path)
        time.sleep(0.1)
        write_two_files(path)

    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: export_cache.find_or_build(checkpoint, build), range(4)))
    assert len(built) == 1
    assert len(set(paths)) == 1


def test_a_build_that_fails_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    def stop(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_cache.find_or_build(checkpoint, stop)
    exported = tmp_path / "cache" / "mobilesam" / "exported"
    assert [path.suffix for path in exported.iterdir()] == [".lock"]
    killed = exported / f"{next(exported.iterdir()).stem}.xyz.part"  # as a kill would leave it
    killed.mkdir()
    export_cache.find_or_build(checkpoint, write_two_files)
    assert not killed.exists()


def test_a_cache_that_cannot_be_written_is_one_sentence(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"cannot be stored in .*set XDG_CACHE_HOME to a folder"):
        export_cache.find_or_build(checkpoint, write_two_files)
