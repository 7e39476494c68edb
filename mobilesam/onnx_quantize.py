"""Weights of 8 bits for an exported model: a third of the bytes to download.

Only how weights are stored changes. Each output channel of a matrix product or convolution gets a
scale, its weights become integers from -127 to 127, and a DequantizeLinear before the operation
makes them floats again; activations stay floats. With the embedded model on validation pictures
the masks agree with the float model's at a mean IoU of 0.994 (184 prompts). Quantizing activations
as well, as ONNX Runtime's dynamic quantization does, was tried: 0.990 with larger files; quicker
by a quarter on a processor with 8-bit dot products, and no quicker or less exact on others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

MIN_WEIGHTS = 4096  # smaller tensors save nothing
LEVELS = 127


def _gemm_axis(node: onnx.NodeProto, weight: np.ndarray) -> int:
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if transposed else 1


OUTPUT_AXIS: dict[str, Callable[[onnx.NodeProto, np.ndarray], int]] = {  # of the second input
    "MatMul": lambda node, weight: weight.ndim - 1,
    "Gemm": _gemm_axis,
    "Conv": lambda node, weight: 0,
}


def quantized(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model whose large weights are stored as 8-bit integers."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    graph = copy.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    floats: dict[tuple[str, int], str] = {}  # a weight and its axis: what stands for it
    restored: list[onnx.NodeProto] = []
    for node in graph.node:
        name = node.input[1] if node.op_type in OUTPUT_AXIS else ""
        if name not in weights:
            continue
        weight = onnx.numpy_helper.to_array(weights[name])
        if weight.dtype != np.float32 or weight.size < MIN_WEIGHTS:
            continue
        axis = OUTPUT_AXIS[node.op_type](node, weight)
        if (name, axis) not in floats:
            part = f"{name}.axis{axis}"
            integers, scales = quantize(weight, axis)
            graph.initializer.append(onnx.numpy_helper.from_array(integers, f"{part}.int8"))
            graph.initializer.append(onnx.numpy_helper.from_array(scales, f"{part}.scale"))
            inputs = [f"{part}.int8", f"{part}.scale"]
            restored.append(
                onnx.helper.make_node("DequantizeLinear", inputs, [part], name=part, axis=axis)
            )
            floats[name, axis] = part
        node.input[1] = floats[name, axis]
    nodes = [*restored, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    properties = {entry.key: entry.value for entry in copy.metadata_props}
    onnx.helper.set_model_props(copy, {**properties, "weights": "int8"})
    return copy


def quantize(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Round float32 weights to int8 with a scale for each index of ``axis``.

    Returns:
        int8 of the weight's shape, and (weight.shape[axis],) float32 scales; their product is off
        by half a scale at most.
    """
    others = tuple(index for index in range(weight.ndim) if index != axis)
    largest = np.abs(weight).max(axis=others, keepdims=True)
    scales = np.where(largest > 0, largest / LEVELS, 1).astype(np.float32)
    return np.rint(weight / scales).astype(np.int8), scales.reshape(-1)
