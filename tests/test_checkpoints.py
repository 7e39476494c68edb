from __future__ import annotations

import hashlib
import logging
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from http_server import Answer, FlakyServer
from safetensors.torch import save_file

from mobilesam import checkpoints
from mobilesam.checkpoints import (
    CHECKPOINTS,
    CheckpointError,
    find_checkpoint,
    read_checkpoint,
    resolve_checkpoint,
)

CONTENT = hashlib.shake_128(b"published").digest(50_000)
HUB_PATH = "/dhkim2810/MobileSAM/resolve/main/mobile_sam.pt"
GITHUB_PATH = "/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt"
META_PATH = "/segment_anything/sam_vit_b_01ec64.pth"
TENSORS = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.count": torch.tensor(7)}


pytestmark = pytest.mark.usefixtures("empty_machine")


@pytest.fixture
def server(empty_machine: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyServer]:
    """All hosts in one, and published files that are small."""
    with FlakyServer() as running:
        for variable in checkpoints.HOST_VARIABLES.values():
            monkeypatch.setenv(variable, f"{running.origin}/")
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        for name, source in CHECKPOINTS.items():
            small = replace(source, size_bytes=len(CONTENT), sha256=sha256)
            monkeypatch.setitem(CHECKPOINTS, name, small)
        yield running


def put(path: Path, content: bytes = b"something") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_into_hub_cache(tmp_path: Path) -> Path:
    repository = tmp_path / "hub" / "models--dhkim2810--MobileSAM"
    put(repository / "refs" / "main", b"0123abcd")
    return put(repository / "snapshots" / "0123abcd" / "mobile_sam.pt")


def test_the_published_files_are_those_of_their_authors() -> None:
    assert {name: (s.filename, s.size_bytes, s.sha256[:6]) for name, s in CHECKPOINTS.items()} == {
        "mobile_sam": ("mobile_sam.pt", 40_728_226, "6dbb90"),
        "sam_vit_b": ("sam_vit_b_01ec64.pth", 375_042_383, "ec2df6"),
        "sam_vit_l": ("sam_vit_l_0b3195.pth", 1_249_524_607, "3adcc4"),
        "sam_vit_h": ("sam_vit_h_4b8939.pth", 2_564_550_879, "a7bf3b"),
    }
    assert all(len(source.sha256) == 64 for source in CHECKPOINTS.values())
    assert all(url.startswith("https://") for s in CHECKPOINTS.values() for url in s.urls)


def test_nothing_is_found_on_an_empty_machine() -> None:
    assert [find_checkpoint(name) for name in CHECKPOINTS] == [None] * 4


def test_the_chosen_folder_comes_before_our_own_and_that_before_the_hubs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FlakyServer
) -> None:
    cached = put_into_hub_cache(tmp_path)
    assert resolve_checkpoint("mobile_sam") == cached
    own = put(tmp_path / "cache" / "mobilesam" / "mobile_sam.pt")
    assert resolve_checkpoint("mobile_sam") == own
    monkeypatch.setenv("MOBILESAM_CHECKPOINT_DIR", str(tmp_path / "chosen"))
    assert resolve_checkpoint("mobile_sam") == own
    chosen = put(tmp_path / "chosen" / "mobile_sam.pt")
    assert resolve_checkpoint("mobile_sam") == chosen
    assert server.requests == []


def test_a_user_without_a_home_has_a_cache_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as then
    assert checkpoints.download_folder() == Path(tempfile.gettempdir()) / "mobilesam"
    assert find_checkpoint("sam_vit_b") is None


def test_empty_files_and_folders_are_not_checkpoints(tmp_path: Path) -> None:
    put(tmp_path / "cache" / "mobilesam" / "mobile_sam.pt", b"")
    (tmp_path / "cache" / "mobilesam" / "sam_vit_b_01ec64.pth").mkdir()
    assert find_checkpoint("mobile_sam") is None
    assert find_checkpoint("sam_vit_b") is None


def test_a_file_of_ones_own_is_taken_and_said_to_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MOBILESAM_CHECKPOINT_DIR", str(tmp_path))
    own = put(tmp_path / "mobile_sam.pt", b"fine-tuned")
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint("mobile_sam") == own
    assert "not the published file" in caplog.text


def test_a_read_only_folder_serves_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBILESAM_CHECKPOINT_DIR", str(tmp_path / "share"))
    held = put(tmp_path / "share" / "mobile_sam.pt")
    held.parent.chmod(0o555)
    assert resolve_checkpoint("mobile_sam") == held
    assert [path.name for path in held.parent.iterdir()] == ["mobile_sam.pt"]
    held.parent.chmod(0o755)


def test_the_hub_is_asked_first_and_the_result_kept(tmp_path: Path, server: FlakyServer) -> None:
    server.serve(HUB_PATH, Answer(CONTENT))
    told: list[tuple[int, int]] = []
    path = resolve_checkpoint("mobile_sam", progress=lambda *step: told.append(step))
    assert path == tmp_path / "cache" / "mobilesam" / "mobile_sam.pt"
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert resolve_checkpoint("mobile_sam") == path
    assert [asked for asked, _ in server.requests] == [HUB_PATH]


def test_github_is_asked_when_the_hub_fails(server: FlakyServer) -> None:
    server.serve(HUB_PATH, Answer(status=503))
    server.serve(GITHUB_PATH, Answer(CONTENT))
    assert resolve_checkpoint("mobile_sam").read_bytes() == CONTENT
    assert [asked for asked, _ in server.requests] == [HUB_PATH, GITHUB_PATH]


def test_sam_comes_from_meta_into_the_chosen_folder(
    tmp_path: Path, server: FlakyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBILESAM_CHECKPOINT_DIR", str(tmp_path / "chosen"))
    server.serve(META_PATH, Answer(CONTENT))
    assert resolve_checkpoint("sam_vit_b") == tmp_path / "chosen" / "sam_vit_b_01ec64.pth"


def test_a_failed_download_says_what_is_missing_why_and_what_to_do(server: FlakyServer) -> None:
    wrong = bytes(len(CONTENT))
    server.serve(HUB_PATH, Answer(wrong))
    with pytest.raises(CheckpointError) as caught:
        resolve_checkpoint("mobile_sam")
    message = str(caught.value)
    assert "'mobile_sam' (mobile_sam.pt" in message
    assert hashlib.sha256(wrong).hexdigest() in message
    assert hashlib.sha256(CONTENT).hexdigest() in message
    assert "answered 404 (Not Found)" in message
    assert "MOBILESAM_CHECKPOINT_DIR" in message
    assert "'embedded'" in message
    assert "\n" not in message
    assert find_checkpoint("mobile_sam") is None


def test_without_a_network_the_failure_is_quick() -> None:
    with pytest.raises(CheckpointError, match=r"refused the connection; .* refused the connection"):
        resolve_checkpoint("mobile_sam")  # no address used up its time


def test_downloads_can_be_forbidden(server: FlakyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="no download was asked for"):
        resolve_checkpoint("mobile_sam", download=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE forbids downloads"):
        resolve_checkpoint("sam_vit_h")
    assert server.requests == []


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    for ask in (find_checkpoint, resolve_checkpoint, checkpoints.download_urls):
        with pytest.raises(ValueError, match="'sam2'; known are mobile_sam, sam_vit_b"):
            ask("sam2")


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_read_from_what_torch_saves(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "model.pt"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=zipped)
    tensors, metadata = read_checkpoint(path)
    assert metadata == {}
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        name: tensor.tolist() for name, tensor in TENSORS.items()
    }


def test_tensors_and_metadata_are_read_from_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model.whatever"
    save_file(TENSORS, path, metadata={"image_size": "512", "licence": "research"})
    tensors, metadata = read_checkpoint(path)
    assert metadata == {"image_size": "512", "licence": "research"}
    assert tensors.keys() == TENSORS.keys()
    assert torch.equal(tensors["a.weight"], TENSORS["a.weight"])


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict"])
def test_what_training_scripts_save_is_unwrapped(tmp_path: Path, key: str) -> None:
    inner = {f"module.{name}": tensor for name, tensor in TENSORS.items()}
    torch.save({key: inner, "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "model.pt")
    assert read_checkpoint(tmp_path / "model.pt")[0].keys() == TENSORS.keys()


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("how", ["zip", "legacy", "plain"])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path: Path, how: str) -> None:
    path, witness = tmp_path / "model.pt", tmp_path / "run"
    content = {**TENSORS, "b": Hostile(witness)}
    if how == "plain":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(CheckpointError, match=r"holds more than tensors.*could run code") as caught:
        read_checkpoint(path)
    assert not witness.exists()
    assert "weights_only" not in str(caught.value)  # PyTorch's own advice to do it all the same
    pickle.loads(pickle.dumps(Hostile(witness)))
    assert witness.exists()  # the test would have noticed


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 bytes")]
)
def test_too_little_memory_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    torch.save(TENSORS, tmp_path / "model.pt")
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(CheckpointError, match="not enough free memory to read") as caught:
        read_checkpoint(tmp_path / "model.pt")
    assert "Remove" not in str(caught.value)


def test_a_whole_model_in_place_of_its_tensors_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, kind: str) -> None:
    whole, path = tmp_path / "whole", tmp_path / "model.pt"
    tensors = {"a": torch.arange(30_000.0)}
    if kind == "safetensors":
        save_file(tensors, whole)
    else:
        torch.save(tensors, whole, _use_new_zipfile_serialization=kind == "zip")
    content = whole.read_bytes()
    for length in (12, 80, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"cut off|whole|not a checkpoint|more than"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is not a checkpoint"),
        (b"hello, this is plain text", "is not a checkpoint"),
        (hashlib.shake_128(b"noise").digest(5000), "is not a checkpoint"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, content: bytes, words: str) -> None:
    path = put(tmp_path / "model.pt", content)
    with pytest.raises(CheckpointError, match=words) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1.0}, {"model": {"a": "text"}}])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_checkpoint(tmp_path / "model.pt")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no checkpoint at"):
        read_checkpoint(tmp_path / "absent.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_checkpoint(tmp_path)


def test_a_disk_without_room_is_a_sentence(
    server: FlakyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.serve(HUB_PATH, Answer(CONTENT))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(CheckpointError, match=r"is full \(50,000 bytes needed, 10 free\)"):
        resolve_checkpoint("mobile_sam")
