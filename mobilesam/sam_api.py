"""The calls that code written for SAM and MobileSAM makes: their names, shapes and defaults."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mobilesam.modeling import Sam, build_model
from mobilesam.modeling.sam import join_prompts
from mobilesam.predictor import ImageEmbedding, Predictor
from mobilesam.registry import checkpoint_path, read_model
from mobilesam.transforms import input_size_for, resize, to_input_frame

Size = tuple[int, int]


class ResizeLongestSide:
    """SAM's transform: pictures, points and boxes to the input frame.

    Args:
        target_length: The longer side after resizing, pixels.
    """

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> Size:
        """Return the (height, width) that a picture is resized to."""
        return input_size_for((oldh, oldw), long_side_length)

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Resize (H, W, 3) uint8."""
        size = input_size_for((image.shape[0], image.shape[1]), self.target_length)
        return np.array(resize(image, size))  # one's own, to be written to

    def apply_coords(self, coords: np.ndarray, original_size: Size) -> np.ndarray:
        """Scale (..., 2) x, y from the photo of ``original_size`` (H, W) to the input frame."""
        input_size = input_size_for(original_size, self.target_length)
        return to_input_frame(np.asarray(coords, dtype=np.float64), original_size, input_size)

    def apply_boxes(self, boxes: np.ndarray, original_size: Size) -> np.ndarray:
        """Scale (B, 4) boxes."""
        return self.apply_coords(np.reshape(boxes, (-1, 2, 2)), original_size).reshape(-1, 4)

    def apply_coords_torch(self, coords: torch.Tensor, original_size: Size) -> torch.Tensor:
        """Scale a (..., 2) tensor."""
        scaled = self.apply_coords(coords.cpu().numpy(), original_size)
        return torch.from_numpy(scaled).to(coords.device, torch.float32)

    def apply_boxes_torch(self, boxes: torch.Tensor, original_size: Size) -> torch.Tensor:
        """Scale a (B, 4) tensor."""
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def apply_image_torch(self, image: torch.Tensor) -> torch.Tensor:
        """Resize (B, 3, H, W); bilinear with antialiasing, as SAM's."""
        size = input_size_for((image.shape[2], image.shape[3]), self.target_length)
        return torch.nn.functional.interpolate(
            image, size, mode="bilinear", align_corners=False, antialias=True
        )


class SamPredictor:
    """SAM's predictor: set a picture, then ask for masks.

    It remembers one picture, as the original does. Where sessions or threads share a model, use
    ``Predictor``, which remembers nothing.

    Args:
        sam_model: From ``sam_model_registry`` or ``load_model``.
    """

    def __init__(self, sam_model: Sam) -> None:
        self.model = sam_model
        self.transform = ResizeLongestSide(sam_model.image_size)
        self._predictor = Predictor(sam_model)
        self._embedding: ImageEmbedding | None = None

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    @property
    def is_image_set(self) -> bool:
        """Whether there is a picture to predict on."""
        return self._embedding is not None

    @property
    def original_size(self) -> Size:
        """The picture's (height, width), pixels."""
        return self._set_embedding().original_size

    @property
    def input_size(self) -> Size:
        """The picture's (height, width) in the input frame, pixels."""
        return self._set_embedding().input_size

    @property
    def features(self) -> torch.Tensor:
        """The (1, 256, h, w) image embedding."""
        return self._set_embedding().features

    def set_image(self, image: np.ndarray, image_format: Literal["RGB", "BGR"] = "RGB") -> None:
        """Encode a picture.

        Args:
            image: (H, W, 3) uint8.
            image_format: Order of its channels.

        Raises:
            TypeError, ValueError: If it is not that.
        """
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f"image_format must be 'RGB' or 'BGR'; got {image_format!r}.")
        if image_format == "BGR":
            if not isinstance(image, np.ndarray):
                raise TypeError(
                    f"A BGR image must be an (H, W, 3) uint8 array; got {type(image).__name__}."
                )
            image = image[..., ::-1]
        self._embedding = self._predictor.encode(image)

    def set_torch_image(self, transformed_image: torch.Tensor, original_image_size: Size) -> None:
        """Encode a (1, 3, h, w) picture already in the input frame, RGB 0..255.

        Raises:
            ValueError: If its longer side is not the model's image size.
        """
        height, width = original_image_size
        self._embedding = self._predictor.encode_pixels(transformed_image, (height, width))

    def reset_image(self) -> None:
        """Forget the picture."""
        self._embedding = None

    def get_image_embedding(self) -> torch.Tensor:
        """Return the (1, 256, h, w) image embedding."""
        return self.features

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict masks for the picture that is set.

        Args:
            point_coords: (N, 2) x, y in pixels of the photo.
            point_labels: (N,) 1 foreground, 0 background.
            box: (4,) or (1, 4) x0, y0, x1, y1 in pixels of the photo.
            mask_input: (1, l, l') low-res logits of an earlier mask.
            multimask_output: Three masks, or one.
            return_logits: Logits instead of bool masks.

        Returns:
            (M, H, W) masks, (M,) predicted IoU, (M, l, l') low-res logits; l is 256 for the
            official models.

        Raises:
            RuntimeError: If no picture is set.
            ValueError: If a prompt is malformed.
        """
        embedding = self._set_embedding()
        if point_coords is not None and point_labels is None:
            raise ValueError("point_labels must be given with point_coords, one for each point.")
        if box is not None and np.shape(box) == (1, 4):
            box = np.asarray(box)[0]
        result = self._predictor.predict(
            embedding,
            points=point_coords,
            labels=point_labels,
            box=box,
            mask_input=mask_input,
            multimask_output=multimask_output,
        )
        masks = result.masks
        if return_logits:
            masks = np.stack([result.logits(i) for i in range(len(result.iou_predictions))])
        return masks, result.iou_predictions, result.low_res_logits

    @torch.no_grad()
    def predict_torch(
        self,
        point_coords: torch.Tensor | None,
        point_labels: torch.Tensor | None,
        boxes: torch.Tensor | None = None,
        mask_input: torch.Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predict masks for a batch of prompts, already in the input frame (see ``transform``).

        Args:
            point_coords: (B, N, 2).
            point_labels: (B, N) 1, 0, or -1 for a row that is no point.
            boxes: (B, 4).
            mask_input: (B, 1, l, l').
            multimask_output: Three masks for each prompt, or one.
            return_logits: Logits instead of bool masks.

        Returns:
            (B, M, H, W) masks, (B, M) predicted IoU, (B, M, l, l') low-res logits.

        Raises:
            RuntimeError: If no picture is set.
            ValueError: If there is no prompt, or one is malformed.
        """
        embedding = self._set_embedding()
        coords, labels = join_prompts(point_coords, point_labels, boxes, mask_input)
        low_res, iou = self.model.decode_masks(
            embedding.features, coords.float(), labels, mask_input, embedding.projections
        )
        wanted = slice(1, None) if multimask_output else slice(0, 1)
        low_res, iou = low_res[:, wanted], iou[:, wanted]
        logits = self.model.postprocess_masks(
            low_res, embedding.input_size, embedding.original_size
        )
        return logits if return_logits else logits > self.model.mask_threshold, iou, low_res

    def _set_embedding(self) -> ImageEmbedding:
        if self._embedding is None:
            raise RuntimeError("No image is set; call set_image(...) before asking for masks.")
        return self._embedding


def _build(encoder: str, checkpoint: str | Path | None = None) -> Sam:
    """Build a model of one's own, to be moved or changed at will.

    Args:
        encoder: The image encoder's name.
        checkpoint: A file. With it the model is prepared for inference, its weights frozen; to
            train one, leave it out and call ``load_state_dict``, which takes official files.

    Raises:
        ValueError: If there is no such file, or it belongs to another encoder.
        CheckpointError: If it cannot be read.
    """
    if checkpoint is None:
        return build_model(encoder)
    path = checkpoint_path(checkpoint)
    model = read_model(path, path.stem)
    if model.encoder_name != encoder:
        raise ValueError(
            f"{checkpoint} holds a model with the image encoder {model.encoder_name}; "
            f"{encoder} was asked for."
        )
    return model


build_sam_vit_h = partial(_build, "sam_vit_h")
build_sam_vit_l = partial(_build, "sam_vit_l")
build_sam_vit_b = partial(_build, "sam_vit_b")
build_sam_vit_t = partial(_build, "tiny_vit")
build_sam = build_sam_vit_h

sam_model_registry: dict[str, Callable[..., Sam]] = {
    "default": build_sam,
    "vit_h": build_sam_vit_h,
    "vit_l": build_sam_vit_l,
    "vit_b": build_sam_vit_b,
    "vit_t": build_sam_vit_t,
}
