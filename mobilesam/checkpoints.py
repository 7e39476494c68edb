"""Where checkpoints come from: found on this machine, downloaded, and read without running code.

A name is resolved in this order, and only the last step touches the network:

1. the folder in `MOBILESAM_CHECKPOINT_DIR`,
2. this package's own folder, `~/.cache/mobilesam` (or below `XDG_CACHE_HOME`),
3. the Hugging Face Hub's local cache,
4. a download into the first of these folders that applies: the Hub, then GitHub; SAM from Meta.

An explicit path comes here only to be read. A download is verified once, by its SHA-256, before it
gets its name; a file that somebody put into one of the folders, say a fine-tuned one, is taken as
it is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mobilesam.downloads import DownloadError, fetch
from mobilesam.errors import is_out_of_memory

if TYPE_CHECKING:
    import torch

LOGGER = logging.getLogger(__name__)

FOLDER_VARIABLE = "MOBILESAM_CHECKPOINT_DIR"
HOST_VARIABLES = {  # to use a mirror: each replaces the front of an address
    "https://huggingface.co": "HF_ENDPOINT",
    "https://github.com": "MOBILESAM_GITHUB_ENDPOINT",
    "https://dl.fbaipublicfiles.com": "MOBILESAM_META_ENDPOINT",
}
OFFLINE_VARIABLE = "HF_HUB_OFFLINE"
WRAPPING_PREFIXES = ("module.", "_orig_mod.", "model.")
WRAPPING_KEYS = ("model", "state_dict", "model_state_dict")  # of checkpoints saved in training


class CheckpointError(RuntimeError):
    """A checkpoint cannot be had or read; the message is fit for a visitor."""


@dataclass(frozen=True)
class CheckpointSource:
    """A published checkpoint file.

    Attributes:
        filename: Its name, on the web and on this machine.
        size_bytes: Its exact size, where known.
        sha256: Its SHA-256, 64 hexadecimal digits.
        urls: Where it can be had, in the order in which to try.
        hub_repo: The Hub repository that holds it, if one does.
    """

    filename: str
    size_bytes: int | None
    sha256: str
    urls: tuple[str, ...]
    hub_repo: str | None = None


def _from_meta(filename: str, size_bytes: int, sha256: str) -> CheckpointSource:
    url = f"https://dl.fbaipublicfiles.com/segment_anything/{filename}"
    return CheckpointSource(filename, size_bytes, sha256, (url,))


CHECKPOINTS: dict[str, CheckpointSource] = {
    "mobile_sam": CheckpointSource(
        filename="mobile_sam.pt",
        size_bytes=40_728_226,
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        urls=(
            "https://huggingface.co/dhkim2810/MobileSAM/resolve/main/mobile_sam.pt",
            "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        ),
        hub_repo="dhkim2810/MobileSAM",
    ),
    "sam_vit_b": _from_meta(
        "sam_vit_b_01ec64.pth",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "sam_vit_l": _from_meta(
        "sam_vit_l_0b3195.pth",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "sam_vit_h": _from_meta(
        "sam_vit_h_4b8939.pth",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
}


def download_folder() -> Path:
    """Return the folder that downloads go to; it need not exist yet."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(os.path.expanduser(chosen)) if chosen else cache_folder()


def download_urls(name: str) -> tuple[str, ...]:
    """Return the addresses of a checkpoint, mirrors named in the environment put in.

    Raises:
        ValueError: The name is unknown.
    """
    urls = []
    for url in _source(name).urls:
        for host, variable in HOST_VARIABLES.items():
            if mirror := os.environ.get(variable):
                url = url.replace(f"{host}/", f"{mirror.rstrip('/')}/")
        urls.append(url)
    return tuple(urls)


def find_checkpoint(name: str) -> Path | None:
    """Look for a checkpoint on this machine, never on the network.

    Args:
        name: A key of `CHECKPOINTS`.

    Returns:
        Its path, or None if it is not here.

    Raises:
        ValueError: The name is unknown.
    """
    source = _source(name)
    for folder in dict.fromkeys((download_folder(), cache_folder())):
        path = folder / source.filename
        if _has_content(path):
            if source.size_bytes not in (None, path.stat().st_size):
                _warn_once(f"{path} is taken, but is not the published file: its size differs")
            return path
    if source.hub_repo:
        from huggingface_hub import try_to_load_from_cache

        with contextlib.suppress(OSError):  # a cache that is not ours to read
            cached = try_to_load_from_cache(source.hub_repo, source.filename)
            if isinstance(cached, str) and _has_content(Path(cached)):
                return Path(cached)
    return None


def resolve_checkpoint(
    name: str,
    *,
    download: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Return the path of a checkpoint, downloaded if it is not on this machine.

    Where there is no network, that is known within five seconds.

    Args:
        name: A key of `CHECKPOINTS`.
        download: Whether the network may be asked.
        progress: Called with (bytes so far, bytes in all) during a download; without it a bar is
            drawn where standard error is a terminal.

    Raises:
        CheckpointError: It is not here and could not be fetched; the message says why.
        ValueError: The name is unknown.
    """
    source = _source(name)
    found = find_checkpoint(name)
    if found is not None:
        return found
    size = f", {source.size_bytes / 1e6:,.0f} MB" if source.size_bytes else ""
    missing = f"The checkpoint of {name!r} ({source.filename}{size}) is not on this machine"
    remedy = f"Put the file into {download_folder()}, or use the model 'embedded'."
    if not download:
        raise CheckpointError(f"{missing}, and no download was asked for. {remedy}")
    if os.environ.get(OFFLINE_VARIABLE, "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise CheckpointError(f"{missing}, and {OFFLINE_VARIABLE} forbids downloads. {remedy}")
    try:
        return fetch(
            download_urls(name),
            download_folder() / source.filename,
            sha256=source.sha256,
            size_bytes=source.size_bytes,
            progress=progress,
        )
    except DownloadError as error:
        raise CheckpointError(
            f"{missing} and could not be downloaded: {error}. Try again, or set {FOLDER_VARIABLE}"
            f" to a folder that has it or can take it, or use the model 'embedded'."
        ) from error


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read the tensors of a checkpoint; no code that a file may hold is ever run.

    The format is told from the content: safetensors, or what `torch.save` writes. Tensors that lie
    under a key such as `model`, and names that begin with `module.`, `_orig_mod.` or `model.`, as
    DataParallel, torch.compile and training scripts save them, are unwrapped.

    Args:
        path: The file.

    Returns:
        The tensors by name, on the CPU, and the metadata: safetensors' header, or what the state
        dict of one of our models says of it; empty for official files.

    Raises:
        CheckpointError: There is no such file, it is cut off, not a checkpoint, or holds code, or
            the memory does not suffice.
    """
    head = _head(path)
    if head[8:9] == b"{":
        return _read_safetensors(path)
    import torch

    zipped = head.startswith(b"PK")  # then the file need not lie in memory a second time
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # a damaged or hostile file can make the reader fail in any way
        if is_out_of_memory(error):
            size = f"{path.stat().st_size / 1e6:,.0f} MB"
            message = f"There is not enough free memory to read {path} ({size})."
            raise CheckpointError(
                f"{message} Close other programs or use a smaller model."
            ) from error
        raise CheckpointError(_refusal(path, head, error)) from error
    return _state_dict(content, path)


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        message = f"{path} is not a whole safetensors file ({error}). Fetch or copy it again."
        raise CheckpointError(message) from error


def _head(path: Path) -> bytes:
    """Return the first bytes of a file that is worth reading."""
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; a checkpoint file was expected.")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        raise CheckpointError(f"There is no checkpoint at {path}. Check the path.") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    if not head:
        raise CheckpointError(f"{path} is empty (0 bytes). Remove it and fetch it again.")
    if head.lstrip()[:1] == b"<":
        message = f"{path} is a web page, not a checkpoint. Fetch the file itself, in raw form."
        raise CheckpointError(message)
    if head.startswith(b"version https://git-lfs"):
        message = f"{path} is a Git LFS pointer, not the checkpoint. Run `git lfs pull`."
        raise CheckpointError(message)
    return head


def _refusal(path: Path, head: bytes, error: Exception) -> str:
    """Say why PyTorch did not read a file, in place of its own long text."""
    if head.startswith((b"PK", b"\x80")):
        if isinstance(error, pickle.UnpicklingError):
            found = re.search(r"GLOBAL (\S+)", str(error))
            what = f" ({found[1]})" if found else ""
            return (
                f"{path} is refused: it holds more than tensors{what}, and loading that could run "
                "code. Save only the state dict: torch.save(model.state_dict(), path)."
            )
        return f"{path} is cut off or damaged. Remove it and fetch it again."
    return f"{path} is not a checkpoint: a .pt, .pth or .safetensors file was expected."


def _state_dict(content: object, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    import torch

    if isinstance(content, Mapping):
        inner = [content[key] for key in WRAPPING_KEYS if isinstance(content.get(key), Mapping)]
        saved = inner[0] if inner else content
        tensors = dict(saved)
        if tensors and all(isinstance(value, torch.Tensor) for value in tensors.values()):
            named = {_unwrapped(str(key)): value for key, value in tensors.items()}
            return named, _description(saved)
    message = (
        f"{path} holds no state dict: names with tensors were expected. Save model.state_dict()."
    )
    raise CheckpointError(message)


def _unwrapped(name: str) -> str:
    """Take off what wrappers of a model put before its tensors' names."""
    while name.startswith(WRAPPING_PREFIXES):
        name = name.partition(".")[2]
    return name


def _description(saved: Mapping) -> dict[str, str]:
    """Return what a state dict of our ``Sam`` says of the model, see ``Sam.description``."""
    modules = getattr(saved, "_metadata", None)
    if isinstance(modules, Mapping):
        for said in modules.values():  # under whatever a wrapper calls the model
            if isinstance(said, Mapping) and "encoder" in said:
                return {str(k): v for k, v in said.items() if isinstance(v, str)}
    return {}


def _source(name: str) -> CheckpointSource:
    if name not in CHECKPOINTS:
        raise ValueError(f"No checkpoint is known as {name!r}; known are {', '.join(CHECKPOINTS)}.")
    return CHECKPOINTS[name]


@lru_cache
def _warn_once(message: str) -> None:
    LOGGER.warning(message)


def cache_folder() -> Path:
    """Return this package's own folder for what can be had again; it need not exist yet."""
    base = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    if base.startswith("~"):  # a user without a home, as in some containers
        base = tempfile.gettempdir()
    return Path(base) / "mobilesam"


def _has_content(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size > 0
    except OSError:
        return False
