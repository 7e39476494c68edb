"""Ways to run one model on a GPU: precisions, and eager, compiled or captured as a CUDA graph."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mobilesam.modeling import Sam

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MODES = ("eager", "compiled", "CUDA graph", "compiled + CUDA graph")
WARM_UP = 3  # calls before anything is timed or captured

Call = Callable[..., Any]


class CastInput(nn.Module):
    """A module that works in another precision than what it is given."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner.to(dtype)
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Cast and call."""
        return self.inner(x.to(self.dtype))


class CastPrompts(nn.Module):
    """A prompt encoder that answers in another precision.

    It still computes in float32: positions need their digits.
    """

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner
        self.dtype = dtype

    def dense_pe(self, height: int, width: int) -> torch.Tensor:
        """As ``PromptEncoder.dense_pe``."""
        return self.inner.dense_pe(height, width).to(self.dtype)

    def sparse(self, coords: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """As ``PromptEncoder.sparse``."""
        return self.inner.sparse(coords, labels).to(self.dtype)

    def dense(self, masks: torch.Tensor) -> torch.Tensor:
        """As ``PromptEncoder.dense``."""
        return self.inner.dense(masks).to(self.dtype)

    def draw(
        self, coords: torch.Tensor, labels: torch.Tensor, grid: tuple[int, int]
    ) -> torch.Tensor:
        """As ``PromptEncoder.draw``; stays float32, since ``dense`` is what reads it."""
        return self.inner.draw(coords, labels, grid)

    def no_mask(self) -> torch.Tensor:
        """As ``PromptEncoder.no_mask``."""
        return self.inner.no_mask().to(self.dtype)


def in_precision(model: Sam, dtype: torch.dtype) -> Sam:
    """Return ``model`` with image encoder and mask decoder in another precision.

    Pixels are normalised, and prompts encoded, in float32 as before.

    Args:
        model: On its device, prepared for inference; not changed.
        dtype: float32 returns the model itself.
    """
    if dtype == torch.float32:
        return model
    cast = copy.deepcopy(model)
    cast.image_encoder = CastInput(cast.image_encoder, dtype)
    cast.mask_decoder.to(dtype)
    cast.prompt_encoder = CastPrompts(cast.prompt_encoder, dtype)
    return cast


class ModelPath:
    """One model in one precision and one mode.

    Args:
        model: From ``in_precision``.
        mode: One of ``MODES``; those with a CUDA graph need a CUDA device. A captured call takes
            inputs of the shapes it was first called with.
    """

    def __init__(self, model: Sam, mode: str) -> None:
        self.model = model
        encode, decode = model.encode_image, model.decode_masks
        compiles, captures = mode.startswith("compiled"), mode.endswith("CUDA graph")
        if compiles:
            encode, decode = (torch.compile(call, dynamic=False) for call in (encode, decode))
        self._encode, self._decode = encode, decode
        calls = [encode, decode, self._segment]
        if captures and not compiles:  # the compiler would stumble over the context
            calls = [_on(call, model.device) for call in calls]
        if captures:
            calls = [Captured(call) for call in calls]
        self.encode, self.decode, self.segment = calls

    def _segment(
        self, pixels: torch.Tensor, coords: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """From (B, 3, S, S) uint8 pixels and a prompt for each to (B, 1, S, S) bool masks."""
        low_res, _ = self._decode(self._encode(pixels), coords, labels)
        size = (pixels.shape[-2], pixels.shape[-1])
        logits = self.model.postprocess_masks(low_res[:, :1].float(), size, size)
        return logits > self.model.mask_threshold


def _on(call: Call, device: torch.device) -> Call:
    """Let ``call`` make its tensors on ``device``.

    A copy from the CPU cannot be captured.
    """

    def on_device(*inputs: torch.Tensor) -> Any:
        with device:
            return call(*inputs)

    return on_device


class Captured:
    """A call that is captured as a CUDA graph the first time, and replayed from then on.

    Inputs are copied into the graph's own tensors, which is part of what a call takes. The result
    is overwritten by the next call.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: tuple[torch.Tensor, ...] = ()
        self.outputs: Any = None

    def __call__(self, *inputs: torch.Tensor) -> Any:
        """Replay with new inputs of the same shapes."""
        if self.graph is None:
            self._capture(inputs)
        for mine, given in zip(self.inputs, inputs, strict=True):
            mine.copy_(given)
        self.graph.replay()
        return self.outputs

    def _capture(self, inputs: tuple[torch.Tensor, ...]) -> None:
        self.inputs = tuple(tensor.clone() for tensor in inputs)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.call(*self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.outputs = self.call(*self.inputs)
        self.graph = graph


def first_line(error: Exception) -> str:
    """Return what went wrong in one line."""
    return f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0][:200]}"


def median_ms(call: Callable[[], Any], device: torch.device, rounds: int) -> float:
    """Return the median time of ``call`` in milliseconds, by CUDA events on a GPU.

    The device is idle when each round starts, so the time to launch the work counts.
    """
    for _ in range(WARM_UP):
        call()
    times = []
    for _ in range(rounds):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize(device)
            start.record()
            call()
            end.record()
            torch.cuda.synchronize(device)
            times.append(start.elapsed_time(end))
        else:
            before = time.perf_counter()
            call()
            times.append((time.perf_counter() - before) * 1000)
    return statistics.median(times)
