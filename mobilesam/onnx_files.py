"""PyTorch modules as ONNX files: exported, described, checked and written."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from mobilesam import __version__
from mobilesam.files import write_atomically

if TYPE_CHECKING:
    import onnx

MAX_FILE_BYTES = 2_000_000_000  # Protocol Buffers end at 2 GiB; beyond, weights get their own file


def to_onnx(
    module: nn.Module,
    inputs: dict[str, torch.Tensor],
    dynamic_shapes: list[dict[int, str] | None],
    output_names: list[str],
    opset: int,
    properties: dict[str, str],
    notes: str,
) -> onnx.ModelProto:
    """Run PyTorch's exporter and describe, check and return what it made."""
    import onnx

    for chatty in ("onnxscript", "onnx_ir"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter's own code, nothing a caller could mend
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=opset,
            input_names=list(inputs),
            output_names=output_names,
            dynamic_shapes=tuple(dynamic_shapes),
            verbose=False,
        )
    proto: onnx.ModelProto = program.model_proto  # type: ignore[union-attr]  # never None with dynamo
    written = {entry.version for entry in proto.opset_import if not entry.domain}
    if written != {opset}:  # it warns, and goes on with another one
        raise ValueError(f"This PyTorch cannot write opset {opset}, only {written}; ask for that.")
    _forget_origin(proto.graph)
    proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import)  # for old readers
    proto.producer_name, proto.producer_version = "mobilesam", __version__
    proto.doc_string = notes
    onnx.helper.set_model_props(proto, properties)
    if weight_bytes(proto) < MAX_FILE_BYTES:
        onnx.checker.check_model(proto, full_check=True)
    return proto


def _forget_origin(graph: onnx.GraphProto) -> None:
    """Drop what says where each node came from: files of this machine, in a newer format."""
    values = (*graph.initializer, *graph.value_info, *graph.input, *graph.output)
    for entry in (graph, *graph.node, *values):
        del entry.metadata_props[:]


def weight_bytes(proto: onnx.ModelProto) -> int:
    """Return how many bytes a model's weights take."""
    return sum(len(tensor.raw_data) for tensor in proto.graph.initializer)


def write(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model whole or not at all; weights that no such file can hold go beside it.

    Those are in ``path.name + ".data"``, which belongs to the file and is there before it.

    Raises:
        OSError: If it cannot be written; nothing of it is left.
    """
    import onnx

    if weight_bytes(proto) < MAX_FILE_BYTES:
        write_atomically(path, proto.SerializeToString())
        return
    data_name = f"{path.name}.data"
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".", suffix=".part") as folder:
        part = Path(folder, path.name)
        try:
            onnx.save_model(proto, part, save_as_external_data=True, location=data_name)
            onnx.checker.check_model(part)
            for name in (data_name, path.name):
                os.replace(Path(folder, name), path.with_name(name))
        except OSError as error:
            raise OSError(f"{path} could not be written: {error.strerror}.") from error
