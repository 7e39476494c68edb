"""Segment Anything: image encoder, prompt encoder and mask decoder together."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mobilesam import official_layout
from mobilesam.modeling.image_encoder import EMBED_DIM, EMBED_STRIDE, build_image_encoder, pad_to
from mobilesam.modeling.layers import as_map, image_cells
from mobilesam.modeling.mask_decoder import MaskDecoder
from mobilesam.modeling.prompt_encoder import (
    PromptEncoder,
    as_tensor,
    check_finite,
    embed_prompts,
    join_prompts,
)
from mobilesam.modeling.sharing import Shareable
from mobilesam.modeling.transformer import ImageProjections
from mobilesam.transforms import LOW_RES_STRIDE, check_size, upscale_logits

PIXEL_MEAN = (123.675, 116.28, 103.53)  # RGB, 0 to 255
PIXEL_STD = (58.395, 57.12, 57.375)
SAMPLED = 4096  # values of a tensor

__all__ = ["ImageProjections", "Sam", "build_model"]


class Sam(Shareable):
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
            by ``load_state_dict``, bring a new one. ``load_model``'s is a digest of the weights,
            the same in every process.
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
        self.image_encoder = build_image_encoder(encoder, image_size)
        self.image_encoder.img_size = image_size  # code written for SAM asks for it
        self.image_encoder.register_load_state_dict_pre_hook(_take_official_names)
        self.prompt_encoder = PromptEncoder(
            EMBED_DIM, image_size, EMBED_STRIDE, draws_prompts=draws_prompts
        )
        self.mask_decoder = MaskDecoder(EMBED_DIM)
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.pixel_mean.device

    @property
    def description(self) -> dict[str, str]:
        """What a file must say beside the tensors for the model to be built again."""
        return {
            "encoder": self.encoder_name,
            "image_size": str(self.image_size),
            "pads_to_square": str(self.pads_to_square).lower(),
            "draws_prompts": str(self.draws_prompts).lower(),
        }

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """Let a state dict carry the description where PyTorch keeps versions of modules."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(destination, "_metadata"):
            destination._metadata.setdefault(prefix[:-1], {}).update(self.description)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load tensors in the official layout or ours, saved before or after preparation.

        Args:
            state_dict: Tensors by name.
            strict: Whether all must be there, and no others.
            assign: Whether they become the model's own instead of being copied.

        Raises:
            RuntimeError: If the model is shared, or prepared for inference and they are not; or,
                from PyTorch, if they do not fit.
        """
        misfits = super().load_state_dict(state_dict, strict, assign)
        self.identity = uuid.uuid4().hex
        return misfits

    def fingerprint(self) -> str:
        """Digest the description and, of each tensor, up to ``SAMPLED`` values spread over it."""
        digest = hashlib.blake2b(repr(self.description).encode(), digest_size=16)
        for name, tensor in self.state_dict().items():
            values = tensor.detach().flatten()
            sample = values[:: max(1, -(-values.numel() // SAMPLED))].float().cpu()
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + sample.numpy().tobytes())
        return digest.hexdigest()

    def embedding_size(self, input_size: tuple[int, int]) -> tuple[int, int]:
        """Return the (h, w) cells for a picture of (height, width) pixels in the input frame."""
        height, width = (self.image_size,) * 2 if self.pads_to_square else input_size
        # not -(-side // stride): ONNX divides towards zero
        rows, columns = ((side + EMBED_STRIDE - 1) // EMBED_STRIDE for side in (height, width))
        return rows, columns

    def preprocess(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalise (B, 3, h, w) RGB pixels in 0..255 and pad them to what the encoder takes."""
        pixels = ((pixels - self.pixel_mean) / self.pixel_std).to(self.pixel_mean.dtype)
        cells = self.embedding_size((pixels.shape[-2], pixels.shape[-1]))
        return pad_to(pixels, cells[0] * EMBED_STRIDE, cells[1] * EMBED_STRIDE)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode (B, 3, h, w) RGB pixels in 0..255 into a (B, 256, h', w') image embedding."""
        pixels = self.preprocess(pixels).contiguous(memory_format=torch.channels_last)
        return self.image_encoder(pixels)

    def _check_image(self, image: torch.Tensor) -> None:
        if not isinstance(image, torch.Tensor) or image.ndim != 3 or len(image) != 3:
            kind, shape = type(image).__name__.lower(), tuple(getattr(image, "shape", ()))
            raise ValueError(f"An image must be a (3, h, w) tensor; got a {kind} of {shape}.")
        if max(image.shape) > self.image_size:
            raise ValueError(
                f"An image must be at most {self.image_size} pixels on each side here; got "
                f"{tuple(image.shape)}: resize it with ResizeLongestSide({self.image_size})."
            )
        check_finite(image, "An image's pixels")

    def _check_mask(self, mask: torch.Tensor | None, grid: tuple[int, int]) -> None:
        expected = tuple(side * EMBED_STRIDE // LOW_RES_STRIDE for side in grid)
        if mask is not None and (mask.shape[1] != 1 or tuple(mask.shape[2:]) != expected):
            raise ValueError(
                f"Masks must be low-res logits of this picture, (B, 1, {expected[0]}, "
                f"{expected[1]}); got {tuple(mask.shape)}."
            )

    def project_image(self, features: torch.Tensor) -> ImageProjections | None:
        """Compute once what each click on (B, 256, h, w) features without a mask would repeat.

        None if the model draws its prompts: then no two clicks have anything in common. Under
        autocast, too, it has the weights' own type, so that clicks may come outside of it.
        """
        if self.draws_prompts:
            return None
        pe = self.prompt_encoder.dense_pe(*features.shape[-2:])
        no_mask = self.prompt_encoder.no_mask()
        image = (image_cells(features) + no_mask).to(no_mask.dtype)
        with torch.autocast(image.device.type, enabled=False):
            projections = self.mask_decoder.transformer.layers[0].project(image, pe)
        return replace(projections, changes=self.changes)

    @property
    def changes(self) -> int:
        """How often weights that ``project_image`` uses were changed in place, as by training."""
        modules = (self.prompt_encoder, self.mask_decoder.transformer.layers[0])
        weights = (weight for module in modules for weight in module.parameters())
        return sum(weight._version for weight in weights if not weight.is_inference())

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
        self._check_mask(mask_input, grid)
        sparse, dense = embed_prompts(
            self.prompt_encoder, coords, labels, mask_input, grid, self.draws_prompts
        )
        if mask_input is not None or self.draws_prompts:
            projections = None
        pe = as_map(self.prompt_encoder.dense_pe(*grid), grid)
        return self.mask_decoder(features, pe, sparse, dense, None, projections)

    def postprocess_masks(
        self, masks: torch.Tensor, input_size: tuple[int, int], original_size: tuple[int, int]
    ) -> torch.Tensor:
        """Bring (B, M, l, l') low-res logits to the photo's size: (B, M, H, W) logits.

        Raises:
            ValueError: If a size is not (height, width) in pixels.
        """
        input_size = check_size(input_size, "input_size")
        original_size = check_size(original_size, "original_size")
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

        Raises:
            TypeError, ValueError: If a picture or a prompt is malformed or missing.

        Returns:
            For each picture ``masks`` (B, M, H, W) bool, ``iou_predictions`` (B, M) and
            ``low_res_logits`` (B, M, l, l').
        """
        results = []
        _check_batch(batched_input)
        for record in batched_input:
            image = record["image"]
            self._check_image(image)
            original_size = check_size(record["original_size"], "original_size")
            masks = record.get("mask_inputs")
            points = record.get("point_coords")
            coords, labels = join_prompts(
                points,
                None if points is None else record.get("point_labels"),
                record.get("boxes"),
                masks,
                self.device,
            )
            if masks is not None:
                masks = as_tensor(masks, "mask_inputs").to(self.device)
            low_res, iou = self.decode_masks(self.encode_image(image[None]), coords, labels, masks)
            wanted = slice(1, None) if multimask_output else slice(0, 1)
            low_res, iou = low_res[:, wanted], iou[:, wanted]
            input_size = (image.shape[-2], image.shape[-1])
            logits = self.postprocess_masks(low_res, input_size, original_size)
            masks = logits > self.mask_threshold
            results.append({"masks": masks, "iou_predictions": iou, "low_res_logits": low_res})
        return results


def _take_official_names(
    image_encoder: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any
) -> None:
    """Rename the tensors that an image encoder is to load, alone or with its model.

    Raises:
        RuntimeError: If it is prepared for inference and they are not.
    """
    place = official_layout.PLACE
    given = {
        place + name.removeprefix(prefix): state_dict[name]
        for name in state_dict
        if name.startswith(prefix)
    }
    encoder = official_layout.encoder_of(given)
    if encoder is None:
        return
    own = {place + name: tensor for name, tensor in image_encoder.named_parameters()}
    if official_layout.is_folded(own):
        if official_layout.is_folded(given):
            return
        raise RuntimeError(
            "This model is prepared for inference, its BatchNorms folded into its convolutions, "
            "and cannot take weights from before that; load them with load_model(path) or "
            "sam_model_registry[...](checkpoint=path)."
        )
    for name in given:
        del state_dict[prefix + name.removeprefix(place)]
    for name, tensor in official_layout.convert(given, encoder).items():
        state_dict[prefix + name.removeprefix(place)] = tensor


def _check_batch(batched_input: Any) -> None:
    if not isinstance(batched_input, list | tuple):
        raise TypeError(
            f"batched_input must be a list of dicts, one for each picture; got "
            f"{type(batched_input).__name__}."
        )
    for number, record in enumerate(batched_input):
        if not isinstance(record, Mapping):
            raise TypeError(
                f"Picture {number} of batched_input must be a dict; got {type(record).__name__}."
            )
        missing = [name for name in ("image", "original_size") if name not in record]
        if missing:
            raise ValueError(
                f"Picture {number} of batched_input has no {' and no '.join(missing)}; "
                f"got {', '.join(map(str, record)) or 'nothing'}."
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
