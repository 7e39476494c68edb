"""Several processes that train one model, as ``torchrun`` starts them."""

from __future__ import annotations

import atexit
import os

import torch
from torch import distributed, nn


def join(device: str) -> tuple[int, int]:
    """Join the other processes, if there are any.

    Returns:
        This process's rank, and how many processes there are.
    """
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    on_cuda = device.startswith("cuda")
    if on_cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if on_cuda else "gloo")
        atexit.register(distributed.destroy_process_group)
    return distributed.get_rank(), distributed.get_world_size()


def average_gradients(model: nn.Module) -> None:
    """Give every process the mean of all processes' gradients, in one exchange."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        if parameter.grad is None:  # not used in this step by this process
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def first_process_says(value: float, device: torch.device) -> float:
    """Return the first process's value to all: they must agree on when to stop."""
    told = torch.tensor([value], dtype=torch.float64, device=device)
    distributed.broadcast(told, src=0)
    return float(told)
