"""Encode a picture once, then decode prompts against it as often as you like."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mobilesam.modeling import ImageProjections, Sam
from mobilesam.modeling.image_encoder import EMBED_STRIDE
from mobilesam.modeling.many_prompts import PROMPTS_AT_A_TIME, ManyPrompts
from mobilesam.modeling.prompt_encoder import as_tensor, check_finite
from mobilesam.prediction import ImageEmbedding, MaskPrediction, Size
from mobilesam.prompts import Numbers, Prompts, as_numbers
from mobilesam.transforms import (
    LOW_RES_STRIDE,
    check_size,
    input_size_for,
    read_image,
    resize,
    to_input_frame,
)

__all__ = ["ImageEmbedding", "MaskPrediction", "Predictor"]

SINGLE, MULTI, ALL = slice(0, 1), slice(1, 4), slice(0, 4)  # of the mask decoder's four outputs
MOST_LOGIT = 1e6  # of a mask_input: far beyond it float32 overflows in the network
MANY_PROMPTS = 6  # from so many on, preparing the picture for them pays


class Predictor:
    """The two steps of Segment Anything, both free of side effects.

    One predictor may serve any number of pictures, sessions and threads.

    Args:
        model: From ``load_model``.

    Raises:
        TypeError: If it is none, but for example a model's name or another predictor.
    """

    def __init__(self, model: Sam) -> None:
        if isinstance(model, str | Path):
            raise TypeError(
                "A predictor takes a model, not its name; load it first: "
                f"load_model({str(model)!r})."
            )
        if not hasattr(model, "encode_image"):
            raise TypeError(
                "A predictor takes a model, as load_model(...) gives one; "
                f"got {type(model).__name__}."
            )
        self.model = model

    @torch.no_grad()
    def encode(self, image: str | Path | Image.Image | np.ndarray) -> ImageEmbedding:
        """Encode a picture.

        Args:
            image: A path, a PIL image in any mode, or an (H, W, 3) uint8 RGB array.

        Raises:
            FileNotFoundError, TypeError, ValueError: As ``transforms.read_image``.
        """
        start = time.perf_counter()
        photo = read_image(image)
        original_size: Size = (photo.shape[0], photo.shape[1])
        resized = np.array(resize(photo, input_size_for(original_size, self.model.image_size)))
        pixels = torch.from_numpy(resized).permute(2, 0, 1)[None]
        return self.encode_pixels(pixels, original_size, start)

    @torch.no_grad()  # not inference_mode: the features may be wanted to train a decoder
    def encode_pixels(
        self, pixels: torch.Tensor, original_size: Size, start: float | None = None
    ) -> ImageEmbedding:
        """Encode a picture that has been resized to the model's input frame already.

        Args:
            pixels: (1, 3, h, w) RGB, 0 to 255; the longer side is the model's ``image_size``.
            original_size: The photo's (height, width), pixels.
            start: When the work began, by ``time.perf_counter``; now if left out.

        Raises:
            TypeError: If ``pixels`` is no tensor.
            ValueError: If it has another shape or size or is not finite, or ``original_size`` is
                none.
        """
        start = time.perf_counter() if start is None else start
        model = self.model
        original_size = check_size(original_size, "original_size")
        pixels = as_tensor(pixels, "pixels")
        if (
            pixels.ndim != 4
            or pixels.shape[:2] != (1, 3)
            or max(pixels.shape[2:]) != model.image_size
        ):
            raise ValueError(
                f"pixels must have shape (1, 3, h, w) with a longer side of {model.image_size}; "
                f"got {tuple(pixels.shape)}."
            )
        check_finite(pixels, "pixels")
        input_size: Size = (pixels.shape[2], pixels.shape[3])
        features = model.encode_image(pixels.to(model.device).float()).contiguous()
        projections = model.project_image(features)
        return ImageEmbedding(
            features=features,
            projections=projections,
            original_size=original_size,
            input_size=input_size,
            image_size=model.image_size,
            model_name=model.name,
            model_identity=model.identity,
            encode_ms=_elapsed_ms(start, model.device),
        )

    def predict(
        self,
        embedding: ImageEmbedding,
        points: Numbers | None = None,
        labels: Numbers | None = None,
        box: Numbers | None = None,
        boxes: Numbers | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool | None = None,
    ) -> MaskPrediction:
        """Predict masks for a prompt.

        Args:
            embedding: From ``encode`` of the same model.
            points: (N, 2) x, y in pixels of the photo.
            labels: (N,) 1 to include, 0 to exclude; all 1 if left out.
            box: (4,) x0, y0, x1, y1 in pixels of the photo.
            boxes: (K, 4), a mask for each in one call; K may be 0, as a detector's may.
            mask_input: (l, l') or (1, l, l') ``low_res_logits`` of an earlier mask of this photo.
            multimask_output: True for three masks, which suits a lone click, since it may mean a
                whole, a part or a sub-part; False for one. Left out: True for a lone click.

        Raises:
            TypeError, ValueError: If a prompt is malformed, outside the picture, or missing.
        """
        self.check_embedding(embedding)
        prompts = Prompts.check(
            embedding.original_size,
            points,
            labels,
            box,
            boxes,
            has_mask_input=mask_input is not None,
        )
        if multimask_output is None:
            multimask_output = prompts.is_single_click and mask_input is None
        outputs = MULTI if multimask_output else SINGLE
        return self._decode_checked(embedding, prompts, mask_input, outputs, multimask_output)

    def candidates(
        self,
        embedding: ImageEmbedding,
        points: Numbers | None = None,
        labels: Numbers | None = None,
        box: Numbers | None = None,
        mask_input: np.ndarray | None = None,
    ) -> MaskPrediction:
        """Predict all masks worth offering to a person.

        A lone click gives the three masks of the multimask output, of which the one with the
        highest predicted IoU is ``best``. Any other prompt gives four: the single-mask output,
        which is ``best``, and then those three.

        Args and Raises are those of ``predict``.
        """
        self.check_embedding(embedding)
        prompts = Prompts.check(
            embedding.original_size, points, labels, box, has_mask_input=mask_input is not None
        )
        lone = prompts.is_single_click and mask_input is None
        return self._decode_checked(embedding, prompts, mask_input, MULTI if lone else ALL, lone)

    def check_embedding(self, embedding: ImageEmbedding) -> None:
        """Refuse an embedding that another model made, or what is none.

        Raises:
            TypeError: If it is none, but for example the picture itself.
            ValueError: If another model made it.
        """
        if not isinstance(embedding, ImageEmbedding):
            raise TypeError(
                f"Expected a picture's embedding, got {type(embedding).__name__}; encode the "
                "picture first: predictor.encode(...)."
            )
        if embedding.model_identity != self.model.identity:
            maker = embedding.model_name
            maker = f"another {maker}" if maker == self.model.name else maker
            raise ValueError(
                f"This embedding was made by {maker}, the predictor holds {self.model.name}; "
                "encode the picture with the same model."
            )

    def _decode_checked(
        self,
        embedding: ImageEmbedding,
        prompts: Prompts,
        mask_input: np.ndarray | None,
        outputs: slice,
        ambiguous: bool,
    ) -> MaskPrediction:
        points, kinds = prompts.as_labelled_points()
        in_frame = to_input_frame(points, embedding.original_size, embedding.input_size)
        coords, labels = torch.from_numpy(in_frame).float(), torch.from_numpy(kinds)
        return self.decode(
            embedding, coords, labels, mask_input, outputs, ambiguous, batched=prompts.batched
        )

    @torch.inference_mode()
    def decode(
        self,
        embedding: ImageEmbedding,
        coords: torch.Tensor,
        labels: torch.Tensor,
        mask_input: np.ndarray | None,
        outputs: slice,
        ambiguous: bool,
        batched: bool = False,
    ) -> MaskPrediction:
        """Decode labelled points, which nobody checks; ``predict`` is for prompts of people.

        Args:
            embedding: From ``encode`` of the same model.
            coords: (B, N, 2) float x, y in pixels of the input frame; B is 1 unless ``batched``.
            labels: (B, N) integers as ``PromptEncoder.sparse`` takes them.
            mask_input: As ``predict`` takes it.
            outputs: Which of the mask decoder's four.
            ambiguous: As ``MaskPrediction`` has it.
            batched: Whether the result shall have an axis for B.

        Raises:
            ValueError: If ``mask_input`` is malformed or another model made the embedding.
        """
        start = time.perf_counter()
        model = self.model
        self.check_embedding(embedding)
        coords, labels = coords.to(model.device), labels.to(model.device)
        mask = _check_mask_input(mask_input, embedding, model.device)
        embedding = embedding_for(model, embedding)
        are_many = mask is None and len(coords) >= MANY_PROMPTS
        if are_many and model.mask_decoder.transformer.is_plain:
            many = ManyPrompts(model, embedding.features)
            wanted = torch.arange(4, device=model.device)[outputs]
            low_res, iou = many.decode(coords, labels, wanted)
        else:
            low_res, iou = _decode_in_parts(model, embedding, coords, labels, mask, outputs)
        low_res, iou = low_res.float().cpu(), iou.float().cpu()
        if not batched:
            low_res, iou = low_res[0], iou[0]
        return MaskPrediction(
            iou_predictions=iou.numpy(),
            low_res_logits=low_res.contiguous().numpy(),
            original_size=embedding.original_size,
            input_size=embedding.input_size,
            image_size=embedding.image_size,
            model_name=embedding.model_name,
            decode_ms=_elapsed_ms(start, model.device),
            mask_threshold=model.mask_threshold,
            ambiguous=ambiguous,
        )


def embedding_for(model: Sam, embedding: ImageEmbedding) -> ImageEmbedding:
    """Return an embedding as a model can use it that computes on another device, or in half.

    One that autocast made in half precision stays so.
    """
    like, features = next(model.mask_decoder.parameters()), embedding.features
    suits = features.dtype == like.dtype or like.dtype == torch.float32
    if features.device == like.device and suits:
        return embedding
    return replace(embedding, features=features.to(like), projections=None)


def known_projections(model: Sam, embedding: ImageEmbedding) -> ImageProjections | None:
    """Return an embedding's projections, unless the weights that made them may have changed."""
    known = embedding.projections
    if known is None or known.changes != model.changes:
        return None
    trains = any(parameter.requires_grad for parameter in model.mask_decoder.parameters())
    return None if trains else known


def _decode_in_parts(
    model: Sam,
    embedding: ImageEmbedding,
    coords: torch.Tensor,
    labels: torch.Tensor,
    mask: torch.Tensor | None,
    outputs: slice,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode a few prompts at a time, so that memory does not grow with their number."""
    parts = []
    for some_coords, some_labels in zip(
        coords.split(PROMPTS_AT_A_TIME), labels.split(PROMPTS_AT_A_TIME), strict=True
    ):
        low_res, iou = model.decode_masks(
            embedding.features, some_coords, some_labels, mask, known_projections(model, embedding)
        )
        parts.append((low_res[:, outputs], iou[:, outputs]))
    low_res, iou = (torch.cat(part) for part in zip(*parts, strict=True))
    return low_res, iou


def _check_mask_input(
    mask_input: np.ndarray | None, embedding: ImageEmbedding, device: torch.device
) -> torch.Tensor | None:
    if mask_input is None:
        return None
    logits = as_numbers(mask_input, "mask_input", "iufb").astype(np.float32)
    cells_per_side = EMBED_STRIDE // LOW_RES_STRIDE
    rows, columns = (cells_per_side * side for side in embedding.features.shape[-2:])
    if logits.shape not in ((rows, columns), (1, rows, columns)):
        raise ValueError(
            f"mask_input must be the low_res_logits of one earlier mask, shape ({rows}, {columns}) "
            f"or (1, {rows}, {columns}); got {logits.shape}."
        )
    largest = np.abs(logits).max()
    if largest > MOST_LOGIT:
        raise ValueError(
            "mask_input must be logits, which lie between -100 and 100 or so; got up to "
            f"{largest:.3g}."
        )
    return torch.from_numpy(logits.reshape(1, 1, rows, columns)).to(device)


def _elapsed_ms(start: float, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return (time.perf_counter() - start) * 1000
