"""A model as ONNX: its image encoder, and its prompt encoder and mask decoder as one.

The decoder has the inputs and outputs of SAM's own export, so that a program written for that one
takes it (SAM, section 3, "Efficiency"). ONNX and ONNX Script are the optional extra `onnx`.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mobilesam import __version__
from mobilesam.files import make_folder
from mobilesam.modeling import Sam
from mobilesam.modeling.image_encoder import EMBED_DIM, EMBED_STRIDE
from mobilesam.modeling.layers import image_cells
from mobilesam.onnx_files import to_onnx, write
from mobilesam.transforms import LOW_RES_STRIDE

if TYPE_CHECKING:
    import onnx

OPSET = 18  # what ONNX Runtime and onnxruntime-web know from version 1.14 on
OPSETS = range(18, 24)  # what PyTorch's exporter writes
SINGLE_MASK_ROWS = 3  # of point_coords: as many or more are no lone click with its padding point
DECODER_OUTPUTS = ("masks", "iou_predictions", "low_res_masks")
EXTRAS = {"onnx": "onnx", "onnxscript": "onnxscript"}  # module: what pip calls it

ENCODER_NOTES = (
    "SAM's image encoder. pixels: RGB from 0 to 255, resized (bilinear, antialiased) so that the "
    "longer side is image_size; normalised and padded in here."
)
DECODER_NOTES = (
    "SAM's prompt encoder and mask decoder. point_coords: x, y in the resized picture's pixels; "
    "point_labels: 1 include, 0 exclude, 2 and 3 a box's corners, -1 no point: without a box a "
    "row (0, 0) with label -1 follows the points. mask_input: low_res_masks of an earlier mask, "
    "used if has_mask_input is 1. orig_im_size: the picture's height and width. "
    "masks: logits, above 0 is mask."
)


def require(modules: dict[str, str], purpose: str) -> None:
    """Check that optional packages are installed.

    Args:
        modules: What Python and what pip call each of them.
        purpose: What they are needed for.

    Raises:
        ValueError: If one is missing; the message has the command that installs it.
    """
    missing = [package for module, package in modules.items() if find_spec(module) is None]
    if missing:
        raise ValueError(
            f"{purpose} needs packages that are not installed; run: pip install {' '.join(missing)}"
        )


def check(folder: str | Path, *, opset: int = OPSET) -> Path:
    """Check what can be checked before a model is loaded; makes the folder.

    Raises:
        ValueError: An extra is missing, there is no such opset, or the folder is none or cannot
            be written.
    """
    require(EXTRAS, "Writing ONNX")
    if opset not in OPSETS:
        raise ValueError(f"opset must be {OPSETS[0]} to {OPSETS[-1]}; got {opset}.")
    out = Path(os.path.expanduser(folder))
    make_folder(out)
    return out


def export(
    model: Sam,
    folder: str | Path,
    *,
    single_mask: bool = False,
    quantize: bool = False,
    opset: int = OPSET,
) -> list[Path]:
    """Write ``NAME.encoder.onnx`` and ``NAME.decoder.onnx``, each whole or not at all.

    Args:
        model: From ``load_model`` with the backend ``torch``.
        folder: Where to; made if it is missing.
        single_mask: Whether the decoder shall choose one mask itself, as SAM's export does with
            ``--return-single-mask``: the best of the multimask output for a lone click with its
            padding point, else the single-mask output. Otherwise all four come out, the
            single-mask output first.
        quantize: Whether to write both with 8-bit weights as well, ``NAME.encoder.int8.onnx``
            and ``NAME.decoder.int8.onnx``.
        opset: Version of ONNX's operators. From 20 on GELU is one of them, which is quicker.

    Returns:
        The files, in that order.

    Raises:
        TypeError: ``model`` is none, but for example a model's name.
        ValueError: As ``check``, the model was cast to other numbers than 32-bit floats, or its
            encoder is an export already.
        OSError: If a file cannot be written.
    """
    if not isinstance(model, Sam):
        raise TypeError(
            f"export takes a model, as load_model(...) gives one; got {type(model).__name__}."
        )
    out = check(folder, opset=opset)
    dtype = next(model.mask_decoder.parameters()).dtype
    if dtype != torch.float32:
        raise ValueError(
            f"Only a model in float32 can be written as ONNX; {model.name} is in {dtype}: write a "
            "copy, copy.deepcopy(model).float()."
        )
    parts = {
        "encoder": encoder_to_onnx(model, opset),
        "decoder": decoder_to_onnx(model, opset, single_mask=single_mask),
    }
    files = {out / f"{model.name}.{part}.onnx": content for part, content in parts.items()}
    if quantize:
        from mobilesam.onnx_quantize import quantized

        for part, content in parts.items():
            files[out / f"{model.name}.{part}.int8.onnx"] = quantized(content)
    for path, content in files.items():
        write(content, path)
    return list(files)


class _Encoder(nn.Module):
    """Pixels from 0 to 255 in, image embedding out."""

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.encode_image(pixels)


class _Decoder(nn.Module):
    """All of SAM's decoder export that depends on no image size: up to the low-res masks.

    Differs from ``Sam.decode_masks`` in that whether there is a mask prompt is a number, not a
    choice of code.
    """

    def __init__(self, model: Sam, single_mask: bool) -> None:
        super().__init__()
        self.prompt_encoder, self.mask_decoder = model.prompt_encoder, model.mask_decoder
        self.draws_prompts, self.single_mask = model.draws_prompts, single_mask

    def forward(
        self,
        image_embeddings: torch.Tensor,
        point_coords: torch.Tensor,
        point_labels: torch.Tensor,
        mask_input: torch.Tensor,
        has_mask_input: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        prompts = self.prompt_encoder
        grid = (image_embeddings.shape[-2], image_embeddings.shape[-1])
        labels = point_labels.long()
        if self.draws_prompts:
            drawn = prompts.draw(point_coords, labels, grid)
            dense = prompts.dense(has_mask_input * mask_input + drawn)
        else:
            dense = has_mask_input * prompts.dense(mask_input)
            dense = dense + (1 - has_mask_input) * prompts.no_mask()
        low_res, iou = self.mask_decoder.decode_cells(
            image_cells(image_embeddings) + dense,
            prompts.dense_pe(*grid),
            prompts.sparse(point_coords, labels),
            grid,
        )
        if not self.single_mask:
            return low_res, iou
        rows = torch.ones_like(labels).sum()
        best = iou[:, 1:].argmax(dim=1) + 1
        chosen = torch.where(rows < SINGLE_MASK_ROWS, best, torch.zeros_like(best))  # (1,)
        return low_res.index_select(1, chosen), iou.index_select(1, chosen)


def encoder_to_onnx(model: Sam, opset: int, *, raw_pixels: bool = True) -> onnx.ModelProto:
    """Export the image encoder: ``pixels`` to ``image_embeddings``, (1, 256, h', w').

    Args:
        model: Is put into evaluation mode.
        opset: Version of ONNX's operators.
        raw_pixels: Whether it takes (1, 3, h, w) from 0 to 255, up to ``image_size`` each way;
            else what ``Sam.preprocess`` makes of them, (1, 3, H, W), for a model that pads of one
            size only, which is quicker.

    Raises:
        ValueError: If the model's encoder is an export already.
    """
    if next(model.image_encoder.parameters(), None) is None:
        raise ValueError(
            f"The image encoder of {model.name} is an export already; load the model with "
            "backend='torch'."
        )
    size = model.image_size
    cells = size // EMBED_STRIDE
    shape: dict[int, str] = {}
    height, width = size // 2 + 1, size // 4 + 1  # an example no other number can be taken for
    if raw_pixels:
        shape = {2: "height", 3: "width"}
    elif model.pads_to_square:
        height = width = size
    else:
        height, width = cells // 2 * EMBED_STRIDE, (cells // 2 - 1) * EMBED_STRIDE
        shape = {2: "height", 3: "width"}
    return to_onnx(
        _Encoder(model) if raw_pixels else model.image_encoder,
        {"pixels": torch.zeros(1, 3, height, width, device=model.device)},
        [shape],
        ["image_embeddings"],
        opset,
        _properties(model, "image encoder"),
        ENCODER_NOTES,
    )


def decoder_to_onnx(model: Sam, opset: int, *, single_mask: bool) -> onnx.ModelProto:
    """Export prompt encoder and mask decoder with the inputs and outputs of SAM's own export."""
    import onnx

    side = model.image_size // EMBED_STRIDE
    rows, columns = (side, side) if model.pads_to_square else (side // 2, side // 2 - 1)
    per_cell = EMBED_STRIDE // LOW_RES_STRIDE
    size = (per_cell * rows, per_cell * columns)
    like: dict[str, Any] = {"device": model.device}
    inputs = {
        "image_embeddings": torch.zeros(1, EMBED_DIM, rows, columns, **like),
        "point_coords": torch.zeros(1, 5, 2, **like),
        "point_labels": torch.tensor([[1.0, 0.0, 2.0, 3.0, -1.0]], **like),
        "mask_input": torch.zeros(1, 1, *size, **like),
        "has_mask_input": torch.ones(1, **like),
    }
    points = {1: "num_points"}
    grid = {} if model.pads_to_square else {2: "rows", 3: "columns"}
    mask = {} if model.pads_to_square else {2: "low_rows", 3: "low_columns"}
    decoder = to_onnx(
        _Decoder(model, single_mask),
        inputs,
        [grid, points, points, mask, None],
        ["low_res_masks", "iou_predictions"],
        opset,
        _properties(model, "mask decoder", single_mask=single_mask),
        DECODER_NOTES,
    )
    _append(decoder.graph, onnx.parser.parse_graph(_resizing(model.image_size)))
    onnx.checker.check_model(decoder, full_check=True)
    return decoder


def _append(decoder: onnx.GraphProto, resizing: onnx.GraphProto) -> None:
    """Let the resizing follow a decoder, with inputs and outputs in SAM's order."""
    import onnx

    onnx.compose.add_prefix_graph(
        resizing, "resizing/", rename_inputs=False, rename_outputs=False, inplace=True
    )
    decoder.node.extend(resizing.node)
    decoder.input.extend(i for i in resizing.input if i.name not in DECODER_OUTPUTS)
    outputs = {output.name: output for output in (*decoder.output, *resizing.output)}
    del decoder.output[:]
    decoder.output.extend(outputs[name] for name in DECODER_OUTPUTS)


def _resizing(image_size: int) -> str:
    """Write SAM's way from low-res masks to the picture's size in ONNX's own language.

    It is what ``transforms.upscale_logits`` computes, sizes by ``transforms.input_size_for``:
    up to the input frame, the padding cut off, then to the picture's size. PyTorch's exporter
    takes no sizes that are values of an input, hence by hand.
    """
    resize = 'Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">'
    return f"""
    resizing (float[1, masks_out, low_rows, low_columns] low_res_masks, float[2] orig_im_size)
        => (float[1, masks_out, orig_height, orig_width] masks)
    {{
        size = Cast<to = 11>(orig_im_size)
        side = Constant<value = double {{{image_size}}}>()
        longest = ReduceMax<keepdims = 0>(size)
        scale = Div(side, longest)
        scaled = Mul(size, scale)
        half = Constant<value = double {{0.5}}>()
        raised = Add(scaled, half)
        rounded = Floor(raised)
        one = Constant<value = double {{1}}>()
        at_least_one = Max(rounded, one)
        picture = Cast<to = 7>(at_least_one)

        masks_shape = Shape<start = 0, end = 2>(low_res_masks)
        low_shape = Shape<start = 2>(low_res_masks)
        stride = Constant<value = int64 {{{LOW_RES_STRIDE}}}>()
        frame = Mul(low_shape, stride)
        frame_shape = Concat<axis = 0>(masks_shape, frame)
        in_frame = {resize}(low_res_masks, , , frame_shape)
        zeros = Constant<value_ints = [0, 0]>()
        axes = Constant<value_ints = [2, 3]>()
        in_picture = Slice(in_frame, zeros, picture, axes)
        original = Cast<to = 7>(orig_im_size)
        original_shape = Concat<axis = 0>(masks_shape, original)
        masks = {resize}(in_picture, , , original_shape)
    }}
    """


def _properties(model: Sam, part: str, **more: object) -> dict[str, str]:
    """Return what the file says of the model it came from."""
    said = {
        "part": part,
        "model": model.name,
        "encoder": model.encoder_name,
        "image_size": model.image_size,
        "pads_to_square": model.pads_to_square,
        "draws_prompts": model.draws_prompts,
        "licence": model.metadata.get("licence", "that of the checkpoint it was made from"),
        "mobilesam": __version__,
        "torch": torch.__version__,
        **more,
    }
    return {key: str(value) for key, value in said.items()}
