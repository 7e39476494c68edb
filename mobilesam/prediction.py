"""What encoding a picture and decoding a prompt give: values that carry all they need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from mobilesam.masks import stability_score
from mobilesam.modeling import ImageProjections
from mobilesam.transforms import LOW_RES_STRIDE, upscale_logits

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """All that decoding a prompt needs of a picture (SAM, section 3).

    Attributes:
        features: (1, 256, h, w) image embedding in the model's dtype; 64 x 64 cells for the
            official models.
        projections: What the decoder's first layer needs of it, computed once; None if that
            depends on the prompt.
        original_size: The photo's (height, width), pixels.
        input_size: The photo's (height, width) in the model's input frame, pixels.
        image_size: Side of that square frame, pixels.
        model_name: What the model that made it is called.
        model_identity: That very model, ``Sam.identity``: no other can decode against it.
        encode_ms: How long the encoding took, reading and resizing included.
    """

    features: torch.Tensor
    projections: ImageProjections | None
    original_size: Size
    input_size: Size
    image_size: int
    model_name: str
    model_identity: str
    encode_ms: float

    @property
    def nbytes(self) -> int:
        """Bytes held by the tensors."""
        return self.features.nbytes + (self.projections.nbytes if self.projections else 0)


@dataclass(frozen=True, eq=False)
class MaskPrediction:
    """Masks for one prompt, or for each box of a batch.

    With ``boxes=`` of N boxes every array has a leading axis of N, and ``prediction[k]`` is that of
    one box; M is 1, 3 or, from ``Predictor.candidates``, 4.

    Attributes:
        iou_predictions: (M,) float32, the model's own estimate of each mask's IoU.
        low_res_logits: (M, l, l') float32 mask logits over the input frame.
        original_size: The photo's (height, width), pixels.
        input_size: The photo's (height, width) in the input frame, pixels.
        image_size: Side of that frame, pixels.
        model_name: The model that made it.
        decode_ms: How long decoding took.
        mask_threshold: Logits above it are mask.
        ambiguous: Whether the masks are readings of one prompt, to be told apart by their
            predicted IoU; else the first one is the answer.
    """

    iou_predictions: np.ndarray
    low_res_logits: np.ndarray
    original_size: Size
    input_size: Size
    image_size: int
    model_name: str
    decode_ms: float
    mask_threshold: float
    ambiguous: bool

    @property
    def best(self) -> int:
        """Index of the mask to show first.

        Raises:
            ValueError: For a batch, where each box has its own.
        """
        self._refuse_batch("iou_predictions.argmax(axis=1)")
        return int(self.iou_predictions.argmax()) if self.ambiguous else 0

    def __getitem__(self, index: int) -> MaskPrediction:
        """Return what belongs to one box of a batch.

        Raises:
            IndexError: If there are fewer boxes.
            ValueError: If this is no batch.
        """
        if self.iou_predictions.ndim == 1:
            raise ValueError("This is one prompt's prediction, no batch; use mask(m) or masks[m].")
        return replace(
            self,
            iou_predictions=self.iou_predictions[index],
            low_res_logits=self.low_res_logits[index],
        )

    @cached_property
    def masks(self) -> np.ndarray:
        """(M, H, W) bool masks at the photo's own size."""
        return self._masks(self.original_size)

    def mask(self, index: int) -> np.ndarray:
        """Return one (H, W) bool mask at the photo's own size.

        Raises:
            ValueError: For a batch of boxes.
        """
        self._refuse_batch("masks[k, m]")
        return self.logits(index) > self.mask_threshold

    def logits(self, index: int) -> np.ndarray:
        """Return one mask's (H, W) float32 logits at the photo's own size.

        Raises:
            ValueError: For a batch of boxes.
        """
        self._refuse_batch("low_res_logits[k, m] or masks[k, m]")
        return self._logits(self.low_res_logits[index], self.original_size)

    def preview(self, max_side: int = 1024) -> np.ndarray:
        """Return (M, h, w) bool masks whose longer side is at most ``max_side`` pixels.

        What a page paints; costs the same however large the photo is.
        """
        height, width = self.original_size
        scale = min(1.0, max_side / max(height, width))
        return self._masks((max(1, round(height * scale)), max(1, round(width * scale))))

    @cached_property
    def areas(self) -> np.ndarray:
        """(M,) float mask areas in pixels of the photo, measured on the preview."""
        preview = self.preview()
        pixels = self.original_size[0] * self.original_size[1]
        return preview.mean(axis=(-2, -1)) * pixels

    def stability_scores(self, offset: float = 1.0) -> np.ndarray:
        """Return (M,) float32: how little each mask depends on where its logits are cut.

        Measured at low resolution, over the photo without its padding; NaN for an empty mask. See
        ``masks.stability_score``.

        Args:
            offset: Logits by which the cut is moved up and down.

        Raises:
            ValueError: For a batch of boxes.
        """
        self._refuse_batch("prediction[k].stability_scores()")
        rows, columns = (-(-side // LOW_RES_STRIDE) for side in self.input_size)
        seen = self.low_res_logits[:, :rows, :columns]
        scores = [stability_score(one, self.mask_threshold, offset) for one in seen]
        return np.array(scores, np.float32)

    def _refuse_batch(self, instead: str) -> None:
        if self.iou_predictions.ndim > 1:
            count = len(self.iou_predictions)
            raise ValueError(
                f"This is a batch of {count} boxes; take one, prediction[k], or use {instead}."
            )

    def _masks(self, size: Size) -> np.ndarray:
        flat = self.low_res_logits.reshape(-1, *self.low_res_logits.shape[-2:])
        masks = np.zeros((len(flat), *size), bool)
        for mask, one in zip(masks, flat, strict=True):
            mask[:] = self._logits(one, size) > self.mask_threshold
        return masks.reshape(*self.iou_predictions.shape, *size)

    def _logits(self, low_res: np.ndarray, size: Size) -> np.ndarray:
        tensor = torch.from_numpy(low_res)[None]
        return upscale_logits(tensor, self.input_size, self.image_size, size)[0].numpy()
