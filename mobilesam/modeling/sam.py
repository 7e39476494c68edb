"""Segment Anything: image encoder, prompt encoder and mask decoder together."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mobilesam.modeling.image_encoder import EMBED_DIM, EMBED_STRIDE, build_image_encoder, pad_to
from mobilesam.modeling.mask_decoder import MaskDecoder
from mobilesam.modeling.prompt_encoder import BOX_CORNER_LABELS, PADDING_LABEL, PromptEncoder
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
        metadata: What the checkpoint says of itself.
    """

    mask_threshold: float = 0.0  # logits above it are mask
    image_format: str = "RGB"

    def __init__(
        self,
        name: str,
        encoder: str,
        image_size: int,
        pads_to_square: bool = True,
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.encoder_name = encoder
        self.image_size = image_size
        self.pads_to_square = pads_to_square
        self.metadata = dict(metadata or {})
        self.image_encoder = build_image_encoder(encoder, image_size)
        self.prompt_encoder = PromptEncoder(EMBED_DIM, image_size, EMBED_STRIDE)
        self.mask_decoder = MaskDecoder(EMBED_DIM)
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.pixel_mean.device

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

    def project_image(self, features: torch.Tensor) -> ImageProjections:
        """Compute once what each click on (B, 256, h, w) features without a mask would repeat."""
        pe = self.prompt_encoder.dense_pe(*features.shape[-2:])
        image = _cells(features) + self.prompt_encoder.no_mask()
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
        if mask_input is None:
            dense = self.prompt_encoder.no_mask()
        else:
            dense, projections = self.prompt_encoder.dense(mask_input), None
        image = _cells(features) + dense
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
                record.get("point_coords"), record.get("point_labels"), record.get("boxes")
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
    points: torch.Tensor | None, labels: torch.Tensor | None, boxes: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Join SAM's batched prompts to the labelled points that ``Sam.decode_masks`` takes.

    Args:
        points: (B, N, 2) x, y in the input frame.
        labels: (B, N) 1 or 0.
        boxes: (B, 4) in the input frame.

    Returns:
        (B, N', 2) coordinates and (B, N') labels; a padding point stands in for missing boxes.

    Raises:
        ValueError: If points come without labels, or if there are neither points nor boxes.
    """
    if (points is None) != (labels is None):
        raise ValueError("Points and labels belong together: give both or neither.")
    known = points if points is not None else boxes
    if known is None:
        raise ValueError("No prompt was given; expected points or boxes.")
    batch = len(known)
    if boxes is None:
        corners = known.new_zeros((batch, 1, 2))
        kinds = torch.full((batch, 1), PADDING_LABEL, device=known.device)
    else:
        corners = boxes.reshape(-1, 2, 2)
        kinds = torch.tensor(BOX_CORNER_LABELS, device=known.device).expand(batch, 2)
    if points is None or labels is None:
        return corners, kinds
    return torch.cat([points, corners], dim=1), torch.cat([labels.to(kinds.dtype), kinds], dim=1)


def build_model(
    encoder: str,
    image_size: int = 1024,
    *,
    name: str | None = None,
    pads_to_square: bool = True,
    metadata: dict[str, str] | None = None,
) -> Sam:
    """Build a model with untrained weights, in evaluation mode; see ``Sam`` for the arguments."""
    return Sam(name or encoder, encoder, image_size, pads_to_square, metadata).eval()


def _cells(features: torch.Tensor) -> torch.Tensor:
    """Turn (B, C, h, w) into (B, h * w, C)."""
    return features.flatten(2).transpose(1, 2)


def _round_up(pixels: int) -> int:
    return -(-pixels // EMBED_STRIDE) * EMBED_STRIDE
