"""What is said and left behind where the disk is full or cannot be written."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from http_server import FlakyServer

from mobilesam.downloads import DownloadError
from tests.transfers import (
    GOOD,
    get,
    only_the_file,
    part_of,
)


def test_a_disk_without_room_is_noticed_before_the_transfer(
    server: FlakyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=500_000))
    with pytest.raises(DownloadError, match=r"is full \(600,000 bytes needed, 500,000 free\)"):
        get(tmp_path / "model.pt", server.serve("/model.pt", GOOD))
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt.lock"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk without room")
def test_a_disk_that_fills_up_meanwhile_gets_its_room_back(
    server: FlakyServer, tmp_path: Path
) -> None:
    target = tmp_path / "model.pt"
    part_of(target).symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"is full \(No space left on device\)"):
        get(target, server.serve("/model.pt", GOOD))
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt.lock"]
    get(target, server.serve("/model.pt", GOOD))
    assert only_the_file(target)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_folder_that_cannot_be_written_is_named(server: FlakyServer) -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # what root may do proves nothing
        with pytest.raises(DownloadError, match=r"cannot be written \(Permission denied\)"):
            get(folder / "model.pt", server.serve("/model.pt", GOOD))
        with pytest.raises(DownloadError, match=r"cannot be written \(Permission denied\)"):
            get(folder / "new" / "model.pt", server.serve("/model.pt", GOOD))
    finally:
        os.seteuid(user)
        folder.chmod(0o755)
        shutil.rmtree(folder)
    assert server.requests == []


def test_a_file_in_the_folders_place_is_named(server: FlakyServer, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DownloadError, match="cannot be written"):
        get(tmp_path / "cache" / "model.pt", server.serve("/model.pt", GOOD))
