"""Segment Anything: image encoder, prompt encoder and mask decoder together."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from mobilesam import official_layout
from mobilesam.modeling.image_encoder import EMBED_DIM, EMBED_STRIDE, build_image_encoder, pad_to
from mobilesam.modeling.mask_decoder import MaskDecoder
from mobilesam.modeling.prompt_encoder import (
    BACKGROUND_LABEL,
    BOX_CORNER_LABELS,
    FOREGROUND_LABEL,
    PADDING_LABEL,
    PromptEncoder,
)
from mobilesam.modeling.transformer import ImageProjections
from mobilesam.transforms import upscale_logits

PIXEL_MEAN = (123.675, 116.28, 103.53)  # RGB, 0 to 255
PIXEL_STD = (58.395, 57.12, 57.375)

__all__ = ["ImageProjections", "Sam", "build_model"]


class Sam(nn.Module):
    """A promptable segmentation model (SAM, section 3; MobileSAM, section 3).

    Everything is a function of its arguments: no picture is remembered here.

    Args:
        name: What results call this model.
        encoder: The image encoder's name, see ``build_image_encoder``.
        image_size: Side of the input frame, pixels: a picture's longer side after resizing.
        pads_to_square: Whether the encoder sees the whole square frame (SAM and MobileSAM), or
            only the part that the picture covers.
        draws_prompts: Whether points and boxes also enter as a drawn mask; not in SAM.
        metadata: What the checkpoint says of itself.

    Attributes:
        identity: Tells models of one name apart. A copy has its original's; other weights, loaded
            by ``load_state_dict``, bring a new one.
        shared: Whether others hold this very object, as ``load_model`` lets them: then it can be
            neither moved nor cast nor loaded anew. A copy is not shared.
    """

    mask_threshold: float = 0.0  # logits above it are mask
    image_format: str = "RGB"

    def __init__(
        self,
        name: str,
        encoder: str,
        image_size: int,
        pads_to_square: bool = True,
        draws_prompts: bool = False,
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.encoder_name = encoder
        self.image_size = image_size
        self.pads_to_square = pads_to_square
        self.draws_prompts = draws_prompts
        self.metadata = dict(metadata or {})
        self.identity = uuid.uuid4().hex
        self.shared = False
        self.image_encoder = build_image_encoder(encoder, image_size)
        self.image_encoder.img_size = image_size  # code written for SAM asks for it
        self.prompt_encoder = PromptEncoder(EMBED_DIM, image_size, EMBED_STRIDE)
        self.mask_decoder = MaskDecoder(EMBED_DIM)
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.pixel_mean.device

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load tensors in the official layout or ours."""
        self._refuse_if_shared("given other weights")
        encoder = official_layout.encoder_of(state_dict)
        if encoder is not None:
            state_dict = official_layout.convert(state_dict, encoder)
        self.identity = uuid.uuid4().hex
        return super().load_state_dict(state_dict, strict, assign)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Sam:
        """Move or cast all tensors: what ``to``, ``cuda``, ``half`` and the like come down to."""
        after, before = fn(self.pixel_mean), self.pixel_mean
        if (after.device, after.dtype) != (before.device, before.dtype):
            self._refuse_if_shared(f"moved or cast to {after.device}, {after.dtype}")
        return super()._apply(fn, recurse)

    def _refuse_if_shared(self, what: str) -> None:
        if self.shared:
            raise RuntimeError(
                f"{self.name} is shared by all who load it and cannot be {what}; name the device "
                "in load_model(..., device=...), or change a copy: copy.deepcopy(model)."
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "shared": False}  # for copies and pickles

    def preprocess(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalise (B, 3, h, w) RGB pixels in 0..255 and pad them to what the encoder takes."""
        pixels = (pixels - self.pixel_mean) / self.pixel_std
        height, width = pixels.shape[-2:]
        if self.pads_to_square:
            return pad_to(pixels, self.image_size, self.image_size)
        return pad_to(pixels, _round_up(height), _round_up(width))

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode (B, 3, h, w) RGB pixels in 0..255 into a (B, 256, h', w') image embedding."""
        pixels = self.preprocess(pixels).contiguous(memory_format=torch.channels_last)
        return self.image_encoder(pixels)

    def project_image(self, features: torch.Tensor) -> ImageProjections | None:
        """Compute once what each click on (B, 256, h, w) features without a mask would repeat.

        None if the model draws its prompts: then no two clicks have anything in common.
        """
        if self.draws_prompts:
            return None
        pe = self.prompt_encoder.dense_pe(*features.shape[-2:])
        image = image_cells(features) + self.prompt_encoder.no_mask()
        return self.mask_decoder.transformer.layers[0].project(image, pe)

    def decode_masks(
        self,
        features: torch.Tensor,
        coords: torch.Tensor,
        labels: torch.Tensor,
        mask_input: torch.Tensor | None = None,
        projections: ImageProjections | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode B prompts against one picture, or one prompt against each of B pictures.

        Args:
            features: (1 or B, 256, h, w) image embedding.
            coords: (B, N, 2) x, y in pixels of the input frame.
            labels: (B, N) integers as ``PromptEncoder.sparse`` takes them.
            mask_input: (B, 1, 4h, 4w) low-res logits of an earlier mask.
            projections: From ``project_image`` of the same features; used without a mask only.

        Returns:
            (B, 4, 4h, 4w) low-res logits and (B, 4) predicted IoU; index 0 is the single-mask
            output, 1 to 3 the multimask output.
        """
        grid = (features.shape[-2], features.shape[-1])
        pe = self.prompt_encoder.dense_pe(*grid)
        sparse = self.prompt_encoder.sparse(coords, labels)
        if self.draws_prompts:
            drawn = self.prompt_encoder.draw(coords, labels, grid)
            mask_input = drawn if mask_input is None else mask_input + drawn
        if mask_input is None:
            dense = self.prompt_encoder.no_mask()
        else:
            dense, projections = self.prompt_encoder.dense(mask_input), None
        image = image_cells(features) + dense
        return self.mask_decoder(image, pe, sparse, grid, projections)

    def postprocess_masks(
        self, masks: torch.Tensor, input_size: tuple[int, int], original_size: tuple[int, int]
    ) -> torch.Tensor:
        """Bring (B, M, l, l') low-res logits to the photo's size: (B, M, H, W) logits."""
        flat = upscale_logits(masks.flatten(0, 1), input_size, self.image_size, original_size)
        return flat.unflatten(0, masks.shape[:2])

    @torch.no_grad()
    def forward(
        self, batched_input: list[dict[str, Any]], multimask_output: bool
    ) -> list[dict[str, torch.Tensor]]:
        """Segment a list of pictures end to end, with SAM's own call.

        Args:
            batched_input: For each picture ``image`` (3, h, w), RGB 0..255, resized to the input
                frame; ``original_size`` (H, W); and any of ``point_coords`` (B, N, 2) in the input
                frame, ``point_labels`` (B, N), ``boxes`` (B, 4) in the input frame,
                ``mask_inputs`` (B, 1, l, l').
            multimask_output: Three masks for each prompt, or one.

        Returns:
            For each picture ``masks`` (B, M, H, W) bool, ``iou_predictions`` (B, M) and
            ``low_res_logits`` (B, M, l, l').
        """
        results = []
        for record in batched_input:
            image = record["image"]
            coords, labels = join_prompts(
                record.get("point_coords"),
                record.get("point_labels"),
                record.get("boxes"),
                record.get("mask_inputs"),
            )
            low_res, iou = self.decode_masks(
                self.encode_image(image[None]), coords, labels, record.get("mask_inputs")
            )
            wanted = slice(1, None) if multimask_output else slice(0, 1)
            low_res, iou = low_res[:, wanted], iou[:, wanted]
            size = (image.shape[-2], image.shape[-1])
            logits = self.postprocess_masks(low_res, size, tuple(record["original_size"]))
            masks = logits > self.mask_threshold
            results.append({"masks": masks, "iou_predictions": iou, "low_res_logits": low_res})
        return results


def join_prompts(
    points: torch.Tensor | None,
    labels: torch.Tensor | None,
    boxes: torch.Tensor | None,
    masks: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Join SAM's batched prompts to the labelled points that ``Sam.decode_masks`` takes.

    Args:
        points: (B, N, 2) x, y in the input frame.
        labels: (B, N) 1 or 0, or -1 for a row that is no point.
        boxes: (B, 4) in the input frame.
        masks: (B, 1, l, l') or one for all, (1, 1, l, l').

    Returns:
        (B, N', 2) coordinates and (B, N') labels. As in SAM, a padding point stands behind points
        that no box accompanies, and N' is 0 where masks are the only prompts.

    Raises:
        ValueError: If there is no prompt, points come without labels, or shapes or labels are
            wrong.
    """
    if (points is None) != (labels is None):
        raise ValueError("Points and labels belong together: give both or neither.")
    known = next((prompt for prompt in (points, boxes, masks) if prompt is not None), None)
    if known is None:
        raise ValueError("No prompt was given; expected points, boxes or masks.")
    batch = len(known)
    if masks is not None and (masks.ndim != 4 or len(masks) not in (1, batch)):
        raise ValueError(
            f"masks must have shape ({batch}, 1, l, l'), one for each prompt; "
            f"got {tuple(masks.shape)}."
        )
    coords = known.new_zeros((batch, 0, 2))
    kinds = torch.zeros((batch, 0), dtype=torch.long, device=known.device)
    if points is not None and labels is not None:
        _check_labelled_points(points, labels)
        coords, kinds = points, labels.long()
        if boxes is None:
            coords = torch.cat([coords, coords.new_zeros((batch, 1, 2))], dim=1)
            kinds = torch.cat([kinds, kinds.new_full((batch, 1), PADDING_LABEL)], dim=1)
    if boxes is not None:
        if boxes.numel() != batch * 4:
            raise ValueError(f"boxes must have shape ({batch}, 4); got {tuple(boxes.shape)}.")
        corner_labels = kinds.new_tensor(BOX_CORNER_LABELS).expand(batch, 2)
        coords = torch.cat([coords, boxes.reshape(batch, 2, 2)], dim=1)
        kinds = torch.cat([kinds, corner_labels], dim=1)
    return coords, kinds


def _check_labelled_points(points: torch.Tensor, labels: torch.Tensor) -> None:
    if points.ndim != 3 or points.shape[2] != 2 or labels.shape != points.shape[:2]:
        raise ValueError(
            "Points must have shape (B, N, 2) and labels (B, N); "
            f"got {tuple(points.shape)} and {tuple(labels.shape)}."
        )
    allowed = (BACKGROUND_LABEL, FOREGROUND_LABEL, PADDING_LABEL)
    if not sum(labels == label for label in allowed).all():
        raise ValueError(
            "Labels must be 1 (include), 0 (exclude) or -1 (no point); "
            f"got {sorted(set(labels.flatten().tolist()))}."
        )


def build_model(
    encoder: str,
    image_size: int = 1024,
    *,
    name: str | None = None,
    pads_to_square: bool = True,
    draws_prompts: bool = False,
    metadata: dict[str, str] | None = None,
) -> Sam:
    """Build a model with untrained weights, in evaluation mode; see ``Sam`` for the arguments."""
    model = Sam(name or encoder, encoder, image_size, pads_to_square, draws_prompts, metadata)
    return model.eval()


def image_cells(features: torch.Tensor) -> torch.Tensor:
    """Turn (B, C, h, w) into (B, h * w, C)."""
    return features.flatten(2).transpose(1, 2)


def _round_up(pixels: int) -> int:
    return (pixels + EMBED_STRIDE - 1) // EMBED_STRIDE * EMBED_STRIDE
