"""Several processes that train one model, as ``torchrun`` starts them."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mobilesam.machine import usable_cores

LONGEST_WAIT = timedelta(hours=6)  # for the others: one process may have more of a cache to fill
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
SET_BY_TORCHRUN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
MOST_WORKERS = 16  # that read data for one process
Anything = TypeVar("Anything")


def join(device: str) -> tuple[int, int, torch.device]:
    """Join the other processes, if there are any.

    Returns:
        This process's rank, how many processes there are, and this one's own device.

    Raises:
        ValueError: If the device cannot be had, or the others not be joined.
    """
    kind, _, number = device.partition(":")
    if kind not in BACKENDS or not (number or "0").isdigit():
        raise ValueError(f"device must be cpu or cuda; got {device!r}.")
    if kind == "cuda" and torch.cuda.device_count() <= int(number or 0):
        seen = torch.cuda.device_count()
        raise ValueError(f"device is {device!r}, but PyTorch sees {seen} GPUs here; use cpu.")
    if "WORLD_SIZE" not in os.environ:
        if kind == "cuda" and number:
            torch.cuda.set_device(device)
        return 0, 1, torch.device(device)
    if missing := [name for name in SET_BY_TORCHRUN if name not in os.environ]:
        raise ValueError(
            f"WORLD_SIZE is set, but not {', '.join(missing)}; start several processes with "
            "torchrun, which sets them all, or unset WORLD_SIZE to train in one."
        )
    if kind == "cuda":
        local, seen = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= seen:
            raise ValueError(
                f"This is process {local + 1} on a machine of which PyTorch sees {seen} GPUs, and "
                f"each takes one; start {seen} with --nproc-per-node."
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group(BACKENDS[kind], timeout=LONGEST_WAIT)
        atexit.register(distributed.destroy_process_group)
    return distributed.get_rank(), distributed.get_world_size(), torch.device(device)


def workers_for(device: torch.device) -> int:
    """Return how many processes shall read data where nobody says: 1 for training on the CPU.

    For a GPU they get the cores that this process may use, its share of them where several train
    on one machine, less one for the training itself; from 1 to 16.
    """
    if device.type == "cpu":
        return 1
    share = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(MOST_WORKERS, share - 1))


def share_gradients(module: nn.Module, device: torch.device, *, uses_all: bool) -> nn.Module:
    """Wrap a module whose forward is a step's loss, so that backward averages all gradients.

    On GPUs BatchNorm takes its statistics over all processes; on CPUs each has its own, and the
    first one's running averages are kept.

    Args:
        module: What is wrapped, in place.
        device: Where it is.
        uses_all: Whether each step uses every parameter that is trained. If not, those without a
            gradient are sought after every forward, which takes time.
    """
    if device.type == "cuda":
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return DistributedDataParallel(module, find_unused_parameters=not uses_all)


def first_process_says(value: float) -> float:
    """Return the first process's value to all: they must agree on when to stop.

    It goes from CPU to CPU, so no GPU is waited for.
    """
    told = torch.tensor([value], dtype=torch.float64)
    distributed.broadcast(told, src=0)
    return float(told)


def any_of_all(value: bool) -> bool:
    """Tell whether it is true in any process: they all do the same about it."""
    if not distributed.is_initialized():
        return value
    told = torch.tensor([float(value)])
    distributed.all_reduce(told)
    return bool(told)


def mean_of_all(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of all processes' values, elementwise."""
    distributed.all_reduce(values)
    return values / distributed.get_world_size()


@torch.no_grad()
def take_first_buffers(module: nn.Module) -> None:
    """Give a module the buffers that it has in the first process, if there are several."""
    if distributed.is_initialized():
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)


def dealt(things: Sequence[Anything], rank: int, world: int) -> Sequence[Anything]:
    """Return the share of a process: things are dealt out in turn."""
    return things[rank::world]


def gather(mine: list[Anything]) -> list[Anything] | None:
    """Bring together what each process has made of the things that it was ``dealt``.

    Args:
        mine: One result for each of them, in their order; anything that can be pickled.

    Returns:
        The results of all processes in the order of the things; None in all but the first one.
    """
    if not distributed.is_initialized():
        return mine
    world = distributed.get_world_size()
    parts: list[list[Anything]] | None = None
    if distributed.get_rank() == 0:
        parts = [[] for _ in range(world)]
    distributed.gather_object(mine, parts)  # by way of the CPU
    if parts is None:
        return None
    total = sum(map(len, parts))
    return [parts[at % world][at // world] for at in range(total)]


def wait_for_all() -> None:
    """Return when every process has come here; at once if there is only one."""
    if distributed.is_initialized():
        distributed.all_reduce(torch.zeros(1))  # on the CPU, unlike barrier
