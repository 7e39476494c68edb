"""Several processes that train one model, as ``torchrun`` starts them."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

LONGEST_WAIT = timedelta(hours=6)  # for the others: one process may validate or fill a cache
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}


def join(device: str) -> tuple[int, int, torch.device]:
    """Join the other processes, if there are any.

    Returns:
        This process's rank, how many processes there are, and this one's own device.

    Raises:
        ValueError: If the device cannot be had.
    """
    kind, _, number = device.partition(":")
    if kind not in BACKENDS or not (number or "0").isdigit():
        raise ValueError(f"device must be cpu or cuda; got {device!r}.")
    if kind == "cuda" and torch.cuda.device_count() <= int(number or 0):
        seen = torch.cuda.device_count()
        raise ValueError(f"device is {device!r}, but PyTorch sees {seen} GPUs here; use cpu.")
    if "WORLD_SIZE" not in os.environ:
        return 0, 1, torch.device(device)
    if kind == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group(BACKENDS[kind], timeout=LONGEST_WAIT)
        atexit.register(distributed.destroy_process_group)
    return distributed.get_rank(), distributed.get_world_size(), torch.device(device)


def share_gradients(module: nn.Module, device: torch.device) -> nn.Module:
    """Wrap a module whose forward is a step's loss, so that backward averages all gradients.

    Which parameters a step uses depends on its prompts, hence ``find_unused_parameters``. On GPUs
    BatchNorm takes its statistics over all processes; on CPUs each has its own, and the first
    one's running averages are kept.
    """
    if device.type == "cuda":
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return DistributedDataParallel(module, find_unused_parameters=True)


def first_process_says(value: float) -> float:
    """Return the first process's value to all: they must agree on when to stop.

    It goes from CPU to CPU, so no GPU is waited for.
    """
    told = torch.tensor([value], dtype=torch.float64)
    distributed.broadcast(told, src=0)
    return float(told)


def mean_of_all(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of all processes' values, elementwise."""
    distributed.all_reduce(values)
    return values / distributed.get_world_size()


def wait_for_all() -> None:
    """Return when every process has come here; at once if there is only one."""
    if distributed.is_initialized():
        distributed.all_reduce(torch.zeros(1))  # on the CPU, unlike barrier
