"""One call from a photo to masks, in the form known from Ultralytics."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import numpy as np
import torch
from PIL import Image

from mobilesam.everything import EverythingOptions, generate
from mobilesam.masks import mask_to_box
from mobilesam.modeling import Sam
from mobilesam.predictor import ImageEmbedding, Predictor
from mobilesam.prompts import Numbers
from mobilesam.registry import MODELS, load_model
from mobilesam.simple_results import Boxes, Masks, Results
from mobilesam.transforms import read_image

Source = str | Path | Image.Image | np.ndarray
ALIASES = {"sam_b": "sam_vit_b", "sam_l": "sam_vit_l"}  # what Ultralytics calls them


EVERYTHING_NAMES = {  # Ultralytics' name: ours; all others are the same
    "points_stride": "points_per_side",
    "points_batch_size": "points_per_batch",
    "conf_thres": "pred_iou_thresh",
    "crop_downscale_factor": "crop_n_points_downscale_factor",
}


class EverythingSettings(TypedDict, total=False):
    """How ``SAM.predict`` searches without prompts; see ``EverythingOptions`` for their meaning."""

    points_stride: int
    points_batch_size: int
    conf_thres: float
    stability_score_thresh: float
    stability_score_offset: float
    crop_n_layers: int
    crop_overlap_ratio: float
    crop_downscale_factor: int
    crop_nms_thresh: float
    point_grids: Sequence[np.ndarray]
    fast: bool


class SAM:
    """A model and the one call ``predict``.

    Args:
        model: A model's name, ours or Ultralytics' (``sam_b``, ``sam_l``), with or without
            ``.pt``, or a checkpoint's path.
        device: Where it shall compute; by default the CPU.
    """

    def __init__(
        self, model: str | Path = "mobile_sam.pt", device: str | torch.device | None = None
    ) -> None:
        name = str(model)
        stem = name.removesuffix(".pt").removesuffix(".pth")
        stem = ALIASES.get(stem, stem)
        known = stem in MODELS and not os.path.isfile(name)
        self._source = stem if known else os.path.abspath(os.path.expanduser(name))
        self.to(device)

    def to(self, device: str | torch.device | None) -> Self:
        """Compute elsewhere from now on.

        Raises:
            ValueError: If there is no such device.
        """
        self.model = load_model(self._source, device)
        self._predictor = Predictor(self.model)
        return self

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.device

    def info(self, detailed: bool = False, verbose: bool = True) -> tuple[int, int, int, float]:
        """Tell how large the model is.

        Args:
            detailed: Print every parameter's name and shape, too.
            verbose: Print at all.

        Returns:
            Its modules, its parameters, those of them that are trained, and 0.0, where Ultralytics
            has GFLOPs: they are not counted.
        """
        model = self.model
        parameters = list(model.parameters())
        total = sum(parameter.numel() for parameter in parameters)
        trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        modules = len(list(model.modules()))
        if verbose:
            print(
                f"{model.name}: {model.encoder_name}, {model.image_size} px, {modules} modules, "
                f"{total:,} parameters, {trained:,} of them trained"
            )
            for name, parameter in model.named_parameters() if detailed else ():
                print(f"{name}: {tuple(parameter.shape)}")
        return modules, total, trained, 0.0

    def __call__(self, source: Source, **prompts: Any) -> list[Results]:
        """Do as ``predict``."""
        return self.predict(source, **prompts)

    def predict(
        self,
        source: Source,
        points: Numbers | None = None,
        labels: Numbers | None = None,
        bboxes: Numbers | None = None,
        *,
        verbose: bool = False,
        **search: Unpack[EverythingSettings],
    ) -> list[Results]:
        """Segment what the prompts point at, or everything if there are none.

        Args:
            source: A path, a PIL image, or an (H, W, 3) uint8 array in RGB order: one from OpenCV,
                which Ultralytics takes as it is, needs ``[..., ::-1]``.
            points: ``[x, y]`` is one object; ``[[x, y], [x, y]]`` are two; ``[[[x, y], [x, y]]]``
                is one object with two points. Pixels of the photo.
            labels: In the same nesting without the coordinates; 1 include, 0 exclude; all 1 if
                left out.
            bboxes: ``[x0, y0, x1, y1]`` is one object, a list, array or tensor of them several, as
                detectors give them; none at all gives an empty result. Not with points.
            verbose: Taken for the sake of code that says False; nothing is ever printed.
            search: How to look for everything, by Ultralytics' names; see ``EverythingSettings``.
                Left out: what suits the model. Only without prompts.

        Returns:
            A list with the photo's one result.

        Raises:
            TypeError: If a setting is unknown or of the wrong type.
            ValueError: If a prompt is malformed, or a setting out of range or without use.
        """
        everything = points is None and labels is None and bboxes is None
        options = _search_options(self.model, dict(search), everything)
        calls = [] if everything else _calls(points, labels, bboxes)
        photo = np.array(read_image(source))
        embedding = self._predictor.encode(photo)
        start = time.perf_counter()
        if everything:
            masks, boxes = self._everything(embedding, photo, options)
        else:
            masks, boxes = self._prompted(embedding, calls)
        decode_ms = (time.perf_counter() - start) * 1000
        path = str(source) if isinstance(source, str | Path) else None
        speed = {"preprocess": 0.0, "inference": embedding.encode_ms, "postprocess": decode_ms}
        return [Results(photo, path, masks, boxes, speed)]

    def _prompted(self, embedding: ImageEmbedding, calls: list[dict]) -> tuple[Masks, Boxes]:
        size = embedding.original_size
        predictions = [
            self._predictor.predict(embedding, multimask_output=False, **prompt) for prompt in calls
        ]
        masks = [mask for p in predictions for mask in p.masks.reshape(-1, *size)]
        tight = [mask_to_box(mask) for mask in masks]
        boxes = np.array(tight, np.float32).reshape(-1, 4)
        scores = np.concatenate([p.iou_predictions.ravel() for p in predictions])
        return Masks(masks, size), _boxes(boxes, scores, size)

    def _everything(
        self, embedding: ImageEmbedding, photo: np.ndarray, options: EverythingOptions
    ) -> tuple[Masks, Boxes]:
        source = photo if options.crop_n_layers else embedding
        records = list(generate(self._predictor, source, options))
        boxes = [(x, y, x + w + 1, y + h + 1) for x, y, w, h in (one.bbox for one in records)]
        scores = [one.predicted_iou for one in records]
        size = embedding.original_size
        return Masks([one.rle for one in records], size), _boxes(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            size,
        )


def _boxes(xyxy: np.ndarray, conf: np.ndarray, size: tuple[int, int]) -> Boxes:
    numbers = np.arange(len(xyxy), dtype=np.float32)
    return Boxes(
        torch.from_numpy(xyxy), torch.from_numpy(conf), torch.from_numpy(numbers), orig_shape=size
    )


def _search_options(model: Sam, settings: dict[str, Any], everything: bool) -> EverythingOptions:
    """Translate Ultralytics' names of settings; refuses them where there is a prompt."""
    known = EverythingSettings.__annotations__
    unknown = settings.keys() - known.keys()
    if unknown:
        hint = " Name the device in SAM(..., device=...)." if "device" in unknown else ""
        raise TypeError(
            f"SAM.predict takes points, labels, bboxes, verbose and {', '.join(known)}; "
            f"got {', '.join(sorted(unknown))}.{hint}"
        )
    if settings and not everything:
        raise ValueError(
            f"{', '.join(settings)} is for a search without prompts; leave it out, or the prompt."
        )
    chosen = {EVERYTHING_NAMES.get(name, name): value for name, value in settings.items()}
    if "point_grids" in chosen:
        chosen.setdefault("points_per_side", None)
    try:
        return EverythingOptions.for_model(model, **chosen)
    except (TypeError, ValueError) as error:
        text = str(error)
        for theirs, ours in EVERYTHING_NAMES.items():
            text = text.replace(ours, theirs)
        raise type(error)(text) from error


def _calls(
    points: Numbers | None,
    labels: Numbers | None,
    bboxes: Numbers | None,
) -> list[dict]:
    """Turn nested prompts into keyword arguments of ``Predictor.predict``.

    One call takes all boxes; points take one for each object.
    """
    if points is None and bboxes is None:
        raise ValueError("labels were given without points; give a point for each label.")
    if points is not None and bboxes is not None:
        raise ValueError("Give either points or bboxes; for both together use Predictor.predict.")
    if bboxes is not None:
        if labels is not None:
            raise ValueError("labels belong to points; bboxes take none.")
        return [{"boxes": _nested(bboxes, depth=2, name="bboxes")}]
    groups = _nested(points, depth=1, name="points")
    if _depth(groups) == 2:  # a point for each object
        groups = [[point] for point in groups]
    kinds: list[Any]
    if labels is None:
        kinds = [[1] * len(group) for group in groups]
    else:
        kinds = _nested(labels, depth=1, name="labels")
        if _depth(kinds) == 1:
            one_object = len(groups) == 1 and len(kinds) > 1
            kinds = [kinds] if one_object else [[kind] for kind in kinds]
    if len(kinds) != len(groups):
        raise ValueError(
            f"labels must be nested like points: got {len(kinds)} for {len(groups)} objects."
        )
    return [{"points": g, "labels": k} for g, k in zip(groups, kinds, strict=True)]


def _nested(values: Any, depth: int, name: str) -> list:
    as_list: Any = _as_lists(values)
    if not isinstance(as_list, list):
        as_list = [as_list]
    if not as_list:
        if name == "bboxes":  # a detector has found nothing
            return []
        raise ValueError(f"{name} is empty; expected at least one.")
    if name == "points" and _depth(as_list) == 1:
        return [as_list]
    while _depth(as_list) < depth:
        as_list = [as_list]
    return as_list


def _as_lists(values: Any) -> Any:
    """Turn arrays and tensors, and sequences of them, into nested lists."""
    if isinstance(values, np.ndarray | torch.Tensor):
        return values.tolist()
    if isinstance(values, list | tuple):
        return [_as_lists(value) for value in values]
    return values


def _depth(values: object) -> int:
    return 1 + _depth(values[0]) if isinstance(values, list) and values else 0
