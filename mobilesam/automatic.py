"""SAM's mask generator: its name, arguments and records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from mobilesam import rle
from mobilesam.everything import EverythingOptions, MaskRecord, generate
from mobilesam.modeling import Sam
from mobilesam.predictor import Predictor
from mobilesam.sam_api import SamPredictor

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]


class SamAutomaticMaskGenerator:
    """Finds the masks of all objects of a picture, as code written for SAM asks for them.

    The records are the original's for the same weights, in the same order; ``everything.generate``
    can also report progress, be cancelled and search faster.

    Args:
        model: From ``sam_model_registry`` or ``load_model``.
        points_per_side: The picture is asked about at a grid of so many points squared; None if
            ``point_grids`` are given.
        points_per_batch: Points decoded in one go.
        pred_iou_thresh: Least predicted IoU of a mask, 0 to 1.
        stability_score_thresh: Least stability of a mask, 0 to 1.
        stability_score_offset: Logits by which the cut is moved to measure stability.
        box_nms_thresh: Of two masks of a crop whose boxes' IoU is higher the better one is kept.
        crop_n_layers: How often to look again at crops of half the size.
        crop_nms_thresh: As ``box_nms_thresh``, between crops.
        crop_overlap_ratio: Overlap of the first layer's crops, a share of the shorter side.
        crop_n_points_downscale_factor: Thins the grid from one layer to the next.
        point_grids: For the picture and each layer of crops (N, 2) x, y from 0 to 1.
        min_mask_region_area: Holes and islands of fewer pixels are removed.
        output_mode: What ``segmentation`` shall be: ``binary_mask`` an (H, W) bool array,
            ``uncompressed_rle`` a dict with a list of run lengths, ``coco_rle`` with pycocotools'
            string.

    Attributes:
        predictor: A ``SamPredictor`` of the same model, free for prompts of one's own.
        point_grids: Those given, or those that ``points_per_side`` came to. It and all other
            arguments by their names, but ``points_per_side``, may be assigned as in SAM: they
            hold from the next ``generate`` on.

    Raises:
        TypeError, ValueError: If an argument is wrong.
    """

    def __init__(
        self,
        model: Sam,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: OutputMode = "binary_mask",
    ) -> None:
        self.predictor = SamPredictor(model)
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.crop_n_points_downscale_factor = crop_n_points_downscale_factor
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode
        self.point_grids: Sequence[np.ndarray] = self._options(points_per_side, point_grids).grids()

    def _options(
        self, points_per_side: int | None, point_grids: Sequence[np.ndarray] | None
    ) -> EverythingOptions:
        """Check the attributes.

        Raises:
            TypeError, ValueError: If one is wrong.
        """
        if self.output_mode not in get_args(OutputMode):
            raise ValueError(
                f"output_mode must be one of {', '.join(get_args(OutputMode))}; "
                f"got {self.output_mode!r}."
            )
        return EverythingOptions(
            points_per_side=points_per_side,
            points_per_batch=self.points_per_batch,
            pred_iou_thresh=self.pred_iou_thresh,
            stability_score_thresh=self.stability_score_thresh,
            stability_score_offset=self.stability_score_offset,
            box_nms_thresh=self.box_nms_thresh,
            crop_n_layers=self.crop_n_layers,
            crop_nms_thresh=self.crop_nms_thresh,
            crop_overlap_ratio=self.crop_overlap_ratio,
            crop_n_points_downscale_factor=self.crop_n_points_downscale_factor,
            point_grids=point_grids,
            min_mask_region_area=self.min_mask_region_area,
        )

    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        """Find the masks of a picture.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            For each mask ``segmentation`` (see ``output_mode``), ``area`` in pixels, ``bbox`` and
            ``crop_box`` as [x, y, width, height], ``predicted_iou``, ``point_coords`` as
            [[x, y]], and ``stability_score``.

        Raises:
            TypeError, ValueError: If the image is not that, or an attribute was assigned that is
                wrong.
        """
        options = self._options(None, self.point_grids)
        predictor = Predictor(self.predictor.model)
        return [self._as_dict(record) for record in generate(predictor, image, options)]

    def _as_dict(self, record: MaskRecord) -> dict[str, Any]:
        return {
            "segmentation": self._segmentation(record),
            "area": record.area,
            "bbox": list(record.bbox),
            "predicted_iou": record.predicted_iou,
            "point_coords": [list(record.point_coords)],
            "stability_score": record.stability_score,
            "crop_box": list(record.crop_box),
        }

    def _segmentation(self, record: MaskRecord) -> np.ndarray | dict[str, Any]:
        if self.output_mode == "binary_mask":
            return record.mask()
        return rle.compress(record.rle) if self.output_mode == "coco_rle" else record.rle
