"""Models that several hold at once: nobody changes them for the others by accident."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, Self

import torch
from torch import nn


class Shareable(nn.Module):
    """A module that others may hold, too; then it can be neither moved, cast, trained nor loaded.

    Attributes:
        shared_as: What it is called by those who hold it; None if nobody else does. A copy, also
            by pickling, is nobody else's.
    """

    shared_as: str | None = None

    def share(self, name: str) -> None:
        """Refuse changes from now on, of this module and of those parts that can refuse them."""
        for module in self.modules():
            if isinstance(module, Shareable):
                module.shared_as = name

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load tensors; arguments are PyTorch's.

        Raises:
            RuntimeError: If the module is shared; or, from PyTorch, if they do not fit.
        """
        self._refuse_if_shared("given other weights")
        return super().load_state_dict(state_dict, strict, assign)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Move or cast all tensors: what ``to``, ``cuda``, ``half`` and the like come down to."""
        before = next(chain(self.buffers(), self.parameters()), None)
        if self.shared_as and before is not None:
            after = fn(before.detach())
            if (after.device, after.dtype) != (before.device, before.dtype):
                self._refuse_if_shared(f"moved or cast to {after.device}, {after.dtype}")
        return super()._apply(fn, recurse)

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; what is shared stays in the latter.

        Raises:
            RuntimeError: If the module is shared and ``mode`` is true.
        """
        if mode:
            self._refuse_if_shared("put into training mode")
        return super().train(mode)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Switch gradients of all parameters on or off; what is shared has none.

        Raises:
            RuntimeError: If the module is shared and ``requires_grad`` is true.
        """
        if requires_grad:
            self._refuse_if_shared("given gradients")
        return super().requires_grad_(requires_grad)

    def _refuse_if_shared(self, what: str) -> None:
        if self.shared_as:
            raise RuntimeError(
                f"{self.shared_as} is shared by all who load it and cannot be {what}; name the "
                "device in load_model(..., device=...), or change a copy: copy.deepcopy(model)."
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "shared_as": None}  # for copies and pickles
