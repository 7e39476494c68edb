"""The calls that code written for SAM and MobileSAM makes: their names, shapes and defaults."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mobilesam.checkpoints import read_checkpoint
from mobilesam.modeling import Sam, build_model, prepare_for_training
from mobilesam.modeling.prompt_encoder import as_tensor, join_prompts
from mobilesam.predictor import MULTI, SINGLE, ImageEmbedding, Predictor, known_projections
from mobilesam.prompts import as_numbers
from mobilesam.registry import MODELS, model_from_state_dict
from mobilesam.transforms import check_size, input_size_for, resize, to_input_frame

Size = tuple[int, int]
PARTS = ("features", "original_size", "input_size")  # of a picture, as SamPredictor has them


class ResizeLongestSide:
    """SAM's transform: pictures, points and boxes to the input frame.

    What has another shape than is said below is a ``ValueError``, also an ``original_size`` that is
    not (height, width); what is neither array nor tensor a ``TypeError``.

    Args:
        target_length: The longer side after resizing, pixels.
    """

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> Size:
        """Return the (height, width) that a picture is resized to."""
        return input_size_for(_whole_size((oldh, oldw), "The old size"), long_side_length)

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Resize (H, W, 3) uint8; also (H, W) and (H, W, 1), which become (h, w).

        Raises:
            TypeError: If it is no array of uint8.
            ValueError: If it has another shape, or no pixels.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            got = getattr(image, "dtype", type(image).__name__)
            raise TypeError(f"image must be an (H, W, 3) array of uint8; got {got}.")
        if image.ndim not in (2, 3) or image.shape[2:] > (4,) or not image.size:
            raise ValueError(f"image must be (H, W, 3) and have pixels; got {image.shape}.")
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[..., 0]
        size = input_size_for((image.shape[0], image.shape[1]), self.target_length)
        return np.array(resize(image, size))  # one's own, to be written to

    def apply_coords(self, coords: np.ndarray, original_size: Size) -> np.ndarray:
        """Scale (..., 2) x, y from the photo of ``original_size`` (H, W) to the input frame."""
        size = _whole_size(original_size, "original_size")
        xy = np.asarray(coords, dtype=np.float64)
        _check_pairs(xy.shape)
        return to_input_frame(xy, size, input_size_for(size, self.target_length))

    def apply_boxes(self, boxes: np.ndarray, original_size: Size) -> np.ndarray:
        """Scale (B, 4) boxes."""
        _check_fours(np.shape(boxes))
        return self.apply_coords(np.reshape(boxes, (-1, 2, 2)), original_size).reshape(-1, 4)

    def apply_coords_torch(self, coords: torch.Tensor, original_size: Size) -> torch.Tensor:
        """Scale a (..., 2) tensor of any dtype; float32, and gradients pass."""
        size = _whole_size(original_size, "original_size")
        coords = as_tensor(coords, "coords")
        _check_pairs(coords.shape)
        height, width = input_size_for(size, self.target_length)
        scale = (width / size[1], height / size[0])
        return coords.to(torch.float32) * coords.new_tensor(scale, dtype=torch.float32)

    def apply_boxes_torch(self, boxes: torch.Tensor, original_size: Size) -> torch.Tensor:
        """Scale a (B, 4) tensor."""
        boxes = as_tensor(boxes, "boxes")
        _check_fours(boxes.shape)
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def apply_image_torch(self, image: torch.Tensor) -> torch.Tensor:
        """Resize (B, 3, H, W); bilinear with antialiasing, as SAM's."""
        image = as_tensor(image, "image")
        if image.ndim != 4 or not image.numel():
            raise ValueError(
                f"image must have shape (B, 3, H, W) and pixels; got {tuple(image.shape)}."
            )
        size = input_size_for((image.shape[2], image.shape[3]), self.target_length)
        return torch.nn.functional.interpolate(
            image, size, mode="bilinear", align_corners=False, antialias=True
        )


def _whole_size(size: Any, name: str) -> Size:
    """Check a size as ``check_size`` does; whole numbers may be floats here, as in SAM."""
    with contextlib.suppress(TypeError, ValueError):
        size = tuple(int(side) if float(side).is_integer() else side for side in size)
    return check_size(size, name)


def _check_pairs(shape: Sequence[int]) -> None:
    if tuple(shape[-1:]) != (2,):
        raise ValueError(f"coords must have shape (..., 2), x and y; got {tuple(shape)}.")


def _check_fours(shape: Sequence[int]) -> None:
    if math.prod(shape) % 4:
        raise ValueError(f"boxes must have shape (B, 4); got {tuple(shape)}.")


class SamPredictor:
    """SAM's predictor: set a picture, then ask for masks.

    It remembers one picture, as the original does. Where sessions or threads share a model, use
    ``Predictor``, which remembers nothing.

    Args:
        sam_model: From ``sam_model_registry`` or ``load_model``.

    Attributes:
        features: The picture's (1, 256, h, w) image embedding; None if no picture is set.
        original_size: The picture's (height, width), pixels.
        input_size: The picture's (height, width) in the input frame, pixels.
        is_image_set: Whether there is a picture to predict on. All four may be assigned, to go
            back to a picture whose ``features`` and sizes were kept; in any dtype, on any device.
    """

    def __init__(self, sam_model: Sam) -> None:
        Predictor(sam_model)  # refuses what is no model
        self.model = sam_model
        self.transform = ResizeLongestSide(sam_model.image_size)
        self.reset_image()

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    @property
    def _predictor(self) -> Predictor:
        return Predictor(self.model)  # which may have been assigned

    def set_image(self, image: np.ndarray, image_format: Literal["RGB", "BGR"] = "RGB") -> None:
        """Encode a picture.

        Args:
            image: (H, W, 3) uint8.
            image_format: Order of its channels.

        Raises:
            TypeError, ValueError: If it is no picture that can be read. In RGB a PIL image or a
                path may stand for the array.
        """
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f"image_format must be 'RGB' or 'BGR'; got {image_format!r}.")
        if image_format == "BGR":
            if not isinstance(image, np.ndarray):
                raise TypeError(
                    f"A BGR image must be an (H, W, 3) uint8 array; got {type(image).__name__}."
                )
            image = image[..., ::-1]
        self._set(self._predictor.encode(image))

    def set_torch_image(self, transformed_image: torch.Tensor, original_image_size: Size) -> None:
        """Encode a (1, 3, h, w) picture already in the input frame, RGB 0..255.

        Raises:
            TypeError: If it is no tensor.
            ValueError: If its longer side is not the model's image size, or the original size is
                not (height, width) in pixels.
        """
        size = check_size(original_image_size, "original_image_size")
        pixels = as_tensor(transformed_image, "transformed_image")
        self._set(self._predictor.encode_pixels(pixels, size))

    def reset_image(self) -> None:
        """Forget the picture."""
        self.is_image_set = False
        self.features: torch.Tensor | None = None
        self.original_size: Size | None = None
        self.input_size: Size | None = None
        self._embedding: ImageEmbedding | None = None  # what these were last found to be
        self._version: int | None = None  # of its features, which may be written to

    def get_image_embedding(self) -> torch.Tensor:
        """Return the (1, 256, h, w) image embedding.

        Raises:
            RuntimeError: If no picture is set, or only parts of one were assigned.
            TypeError, ValueError: If parts were assigned that are none, or do not fit each other.
        """
        return self._current().features

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

        As in SAM, points and boxes may lie outside the photo, a box may be empty or turned, and
        without a prompt the model says what it will; ``Predictor.predict`` refuses all of these.

        Args:
            point_coords: (N, 2) x, y in pixels of the photo.
            point_labels: (N,) 1 foreground, 0 background, -1 for a row that is no point.
            box: (4,) or (1, 4) x0, y0, x1, y1 in pixels of the photo.
            mask_input: (1, l, l') low-res logits of an earlier mask.
            multimask_output: Three masks, or one.
            return_logits: Logits instead of bool masks.

        Returns:
            (M, H, W) masks, (M,) predicted IoU, (M, l, l') low-res logits; l is 256 for the
            official models.

        Raises:
            RuntimeError: If no picture is set.
            TypeError, ValueError: If a prompt is not made of finite numbers of these shapes.
        """
        embedding = self._current()
        points = labels = boxes = None
        if point_coords is not None:
            if point_labels is None:
                raise ValueError("point_labels must be given with point_coords, one for each.")
            xy = as_numbers(point_coords, "point_coords")
            xy = xy.reshape(0, 2) if xy.shape == (0,) else xy  # an empty list
            if xy.ndim != 2 or xy.shape[1] != 2:
                raise ValueError(f"point_coords must have shape (N, 2); got {xy.shape}.")
            kinds = as_numbers(point_labels, "point_labels", "iufb")
            if kinds.shape != (len(xy),):
                raise ValueError(
                    f"point_labels must have shape ({len(xy)},), one for each of point_coords; "
                    f"got {kinds.shape}."
                )
            in_frame = self.transform.apply_coords(xy, embedding.original_size)
            points, labels = torch.from_numpy(in_frame)[None], torch.from_numpy(kinds)[None]
        if box is not None:
            xyxy = as_numbers(box, "box")
            if xyxy.size != 4:
                raise ValueError(f"box must have shape (4,) or (1, 4); got {xyxy.shape}.")
            in_frame = self.transform.apply_boxes(xyxy.reshape(1, 4), embedding.original_size)
            boxes = torch.from_numpy(in_frame)
        coords, all_labels = join_prompts(points, labels, boxes, None, self.device)
        outputs = MULTI if multimask_output else SINGLE
        result = self._predictor.decode(
            embedding, coords.float(), all_labels, mask_input, outputs, ambiguous=multimask_output
        )
        if return_logits:
            masks = np.stack([result.logits(i) for i in range(len(result.iou_predictions))])
        else:
            masks = result.masks
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
            point_coords: (B, N, 2), of any dtype; B may be 0, as a detector's boxes may.
            point_labels: (B, N) 1, 0, or -1 for a row that is no point.
            boxes: (B, 4).
            mask_input: (B, 1, l, l').
            multimask_output: Three masks for each prompt, or one.
            return_logits: Logits instead of bool masks.

        Returns:
            (B, M, H, W) masks, (B, M) predicted IoU, (B, M, l, l') low-res logits.

        Raises:
            RuntimeError: If no picture is set.
            ValueError: If a prompt is malformed.
        """
        embedding = self._current()
        if point_coords is None:
            point_labels = None
        coords, labels = join_prompts(point_coords, point_labels, boxes, mask_input, self.device)
        if mask_input is not None:
            mask_input = as_tensor(mask_input, "mask_input").to(self.device)
        low_res, iou = self.model.decode_masks(
            embedding.features,
            coords.float(),
            labels,
            mask_input,
            known_projections(self.model, embedding),
        )
        wanted = MULTI if multimask_output else SINGLE
        low_res, iou = low_res[:, wanted], iou[:, wanted]
        logits = self.model.postprocess_masks(
            low_res, embedding.input_size, embedding.original_size
        )
        return logits if return_logits else logits > self.model.mask_threshold, iou, low_res

    def _set(self, embedding: ImageEmbedding) -> None:
        self.features, self.is_image_set = embedding.features, True
        self.original_size, self.input_size = embedding.original_size, embedding.input_size
        self._embedding, self._version = embedding, _version_of(embedding.features)

    def _current(self) -> ImageEmbedding:
        """Return the picture that is set, or that was assigned part by part."""
        parts = {name: getattr(self, name) for name in PARTS}
        missing = [name for name, part in parts.items() if part is None]
        if not self.is_image_set and len(missing) == len(PARTS):
            raise RuntimeError("No image is set; call set_image(...) before asking for masks.")
        if not self.is_image_set or missing:
            missing += [] if self.is_image_set else ["is_image_set = True"]
            raise RuntimeError(
                f"Of the picture that was assigned {', '.join(missing)} is missing; assign it, or "
                "call set_image(...)."
            )
        known = self._embedding
        if known is None or not self._is_still(known):
            known = self._embedding = self._assembled(**parts)
        return known

    def _is_still(self, known: ImageEmbedding) -> bool:
        return (
            known.features is self.features
            and self._version == _version_of(known.features)
            and known.original_size is self.original_size
            and known.input_size is self.input_size
            and known.model_identity == self.model.identity
        )

    @torch.no_grad()
    def _assembled(
        self, features: torch.Tensor, original_size: Size, input_size: Size
    ) -> ImageEmbedding:
        model = self.model
        original_size = check_size(original_size, "original_size")
        input_size = check_size(input_size, "input_size")
        cells = model.embedding_size(input_size)
        features = as_tensor(features, "features")
        if features.shape != (1, 256, *cells):
            raise ValueError(
                f"features must be a tensor of shape (1, 256, {cells[0]}, {cells[1]}) for a "
                f"picture of input_size {input_size}; got {tuple(features.shape)}."
            )
        features = features.to(next(model.mask_decoder.parameters()))
        self.features, self.original_size, self.input_size = features, original_size, input_size
        self._version = _version_of(features)
        return ImageEmbedding(
            features=features,
            projections=model.project_image(features),
            original_size=original_size,
            input_size=input_size,
            image_size=model.image_size,
            model_name=model.name,
            model_identity=model.identity,
            encode_ms=0.0,
        )


def _version_of(tensor: torch.Tensor) -> int | None:
    """Return how often a tensor was written to; None if it does not count."""
    return None if tensor.is_inference() else tensor._version


def _build(encoder: str, checkpoint: str | Path | None = None) -> Sam:
    """Build a model of one's own, in evaluation mode, to be moved, changed and trained at will.

    ``load_model`` gives one that is prepared for inference instead: frozen, and quicker if it is
    MobileSAM.

    Args:
        encoder: The image encoder's name.
        checkpoint: A file: an official one, or what ``torch.save`` made of a state dict of such a
            model. Without it the weights are random.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it belongs to another encoder.
        CheckpointError: If it cannot be read.
    """
    if checkpoint is None:
        return prepare_for_training(build_model(encoder))
    path = Path(os.path.expanduser(checkpoint))
    if not os.path.isfile(path):
        name = next(spec.name for spec in MODELS.values() if spec.encoder == encoder)
        raise FileNotFoundError(
            f"There is no checkpoint file {checkpoint}; check the path. `python -m mobilesam "
            f"download {name}` fetches the published one and prints where it is."
        )
    model = model_from_state_dict(*read_checkpoint(path), path.stem)
    if model.encoder_name != encoder:
        raise ValueError(
            f"{checkpoint} holds a model with the image encoder {model.encoder_name}; "
            f"{encoder} was asked for."
        )
    return prepare_for_training(model)


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
