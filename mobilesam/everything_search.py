"""How everything mode searches a picture: crop by crop, and what is left of the finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mobilesam import rle
from mobilesam.everything import EverythingCancelled, EverythingOptions, MaskRecord
from mobilesam.full_size import FullSize, Region
from mobilesam.masks import mask_to_box, remove_small_regions
from mobilesam.modeling.image_encoder import EMBED_STRIDE
from mobilesam.modeling.many_prompts import PROMPTS_AT_A_TIME, prompts_of
from mobilesam.modeling.prompt_encoder import FOREGROUND_LABEL, PADDING_LABEL
from mobilesam.nms import box_iou, nms
from mobilesam.point_grids import Box, crop_boxes
from mobilesam.predictor import ImageEmbedding, Predictor, embedding_for
from mobilesam.transforms import LOW_RES_STRIDE, read_image, to_input_frame

Size = tuple[int, int]
NEAR_EDGE = 20  # px: a box that ends so close to a crop's edge may be cut off by it


@dataclass(frozen=True, eq=False)
class Find:
    """A mask that passed the thresholds.

    Attributes:
        counts: Its run lengths in the whole picture.
        box: x0, y0, x1, y1 of its first and last pixels.
        predicted_iou: The model's own estimate.
        stability_score: See ``masks.stability_score``.
        point: x, y of its prompt.
        crop_box: x0, y0, x1, y1 of the crop it was found in.
    """

    counts: np.ndarray
    box: Box
    predicted_iou: np.float32
    stability_score: float
    point: tuple[float, float]
    crop_box: Box

    def record(self, size: Size) -> MaskRecord:
        """Return it as it is handed out, for a picture of ``size`` (H, W)."""
        return MaskRecord(
            rle={"size": list(size), "counts": self.counts.tolist()},
            area=int(self.counts[1::2].sum()),
            bbox=_xywh(self.box),
            predicted_iou=float(self.predicted_iou),
            point_coords=self.point,
            stability_score=self.stability_score,
            crop_box=_xywh(self.crop_box),
        )


@dataclass(frozen=True, eq=False)
class Decoded:
    """A mask whose predicted IoU passed.

    Attributes:
        prompt: Which point of the batch.
        predicted_iou: The model's own estimate.
        low_res_logits: (l, l') float32 on the CPU.
    """

    prompt: int
    predicted_iou: np.float32
    low_res_logits: torch.Tensor


class CropSearch:
    """One crop of a picture, encoded and ready to be asked.

    Args:
        predictor: Who is asked.
        embedding: The crop's.
        box: x0, y0, x1, y1 of the crop in the picture.
        size: The picture's (height, width).
        options: How to search.
    """

    def __init__(
        self,
        predictor: Predictor,
        embedding: ImageEmbedding,
        box: Box,
        size: Size,
        options: EverythingOptions,
    ) -> None:
        self.embedding, self.box, self.size, self.options = embedding, box, size, options
        self.model = predictor.model
        self._many: Any = prompts_of(self.model, embedding_for(self.model, embedding).features)
        self._full_size = self.reduction(embedding.original_size)

    def reduction(self, size: Size) -> FullSize:
        """Return what brings low-res logits to a reduction of the crop to ``size`` (H, W)."""
        embedding = self.embedding
        rows, columns = (
            cells * EMBED_STRIDE // LOW_RES_STRIDE for cells in embedding.features.shape[-2:]
        )
        return FullSize((rows, columns), embedding.input_size, embedding.image_size, size)

    @torch.inference_mode()
    def decode(self, points: np.ndarray) -> Iterator[list[Decoded]]:
        """Decode (N, 2) points of the crop; gives, a few points at a time, what passes by IoU.

        Only the masks of those are ever computed.
        """
        in_frame = to_input_frame(points, self.embedding.original_size, self.embedding.input_size)
        coords = torch.zeros(len(points), 2, 2, dtype=torch.float32, device="cpu")
        coords[:, 0] = torch.from_numpy(in_frame)
        coords = coords.to(self.model.device)
        kinds = torch.tensor([FOREGROUND_LABEL, PADDING_LABEL], device=self.model.device)
        for start in range(0, len(points), PROMPTS_AT_A_TIME):
            some = coords[start : start + PROMPTS_AT_A_TIME]
            readings = self._many.read(some, kinds.expand(len(some), -1))
            scores = readings.iou_predictions[:, 1:].float().cpu().numpy()
            passed = np.ones_like(scores, dtype=bool)
            if self.options.pred_iou_thresh > 0:
                passed = scores > np.float32(self.options.pred_iou_thresh)
            decoded = []
            for prompt in np.flatnonzero(passed.any(axis=1)).tolist():
                outputs = np.flatnonzero(passed[prompt])
                logits = self._many.masks(readings, prompt, torch.from_numpy(outputs + 1))
                decoded += [
                    Decoded(start + prompt, scores[prompt, output], low_res)
                    for output, low_res in zip(outputs, logits.float().cpu(), strict=True)
                ]
            yield decoded

    def region(self, low_res_logits: torch.Tensor, reduction: FullSize | None = None) -> Region:
        """Cut one mask out, at the crop's full size or reduced."""
        threshold, offset = self.model.mask_threshold, self.options.stability_score_offset
        return (reduction or self._full_size).region(low_res_logits, threshold, offset)

    def passes(self, stability: float, box: Box) -> bool:
        """Tell whether a mask of the crop is stable and not cut off by the crop's edge."""
        least = np.float32(self.options.stability_score_thresh)
        is_stable = least <= 0 or np.float32(stability) >= least  # NaN is not
        return bool(is_stable) and not self._is_cut_off(box)

    def _is_cut_off(self, box: Box) -> bool:
        """Tell whether a box of the crop ends near an edge of it that is not the picture's."""
        height, width = self.size
        in_picture = np.array(self.in_picture(box))
        near_crop = np.abs(in_picture - self.box) <= NEAR_EDGE
        near_picture = np.abs(in_picture - (0, 0, width, height)) <= NEAR_EDGE
        return bool((near_crop & ~near_picture).any())

    def in_picture(self, box: Box) -> Box:
        """Move a box of the crop to where it is in the picture."""
        (x, y), (x0, y0, x1, y1) = self.box[:2], box
        return x0 + x, y0 + y, x1 + x, y1 + y

    def find(self, region: Region, iou: np.float32, stability: float, point: np.ndarray) -> Find:
        """Place a mask of the crop in the picture."""
        x, y = self.box[:2]
        return Find(
            counts=region.counts(self.size, x, y),
            box=self.in_picture(region.box),
            predicted_iou=iou,
            stability_score=stability,
            point=(float(point[0]) + x, float(point[1]) + y),
            crop_box=self.box,
        )


class Search:
    """A whole run; see ``everything.generate`` for the arguments."""

    def __init__(
        self,
        predictor: Predictor,
        image: str | Path | Image.Image | np.ndarray | ImageEmbedding,
        options: EverythingOptions,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        found: Callable[[MaskRecord], None] | None = None,
    ) -> None:
        self.predictor, self.options = predictor, options
        self._progress, self._cancelled, self._found = progress, cancelled, found
        self._embedding: ImageEmbedding | None = None
        self._photo: np.ndarray | None = None
        if isinstance(image, ImageEmbedding):
            predictor.check_embedding(image)
            if options.crop_n_layers:
                raise ValueError(
                    "With crop_n_layers the picture itself is needed, since crops of it are "
                    "encoded; got an embedding."
                )
            self._embedding, self.size = image, image.original_size
        else:
            self._photo = read_image(image)
            self.size = (self._photo.shape[0], self._photo.shape[1])
        grids = options.grids()
        crops = crop_boxes(self.size, options.crop_n_layers, options.crop_overlap_ratio)
        self._crops = [(box, grids[layer]) for box, layer in crops]
        self._done, self._total = 0, sum(len(grid) for _, grid in self._crops)
        self._provisional: list[Box] = []
        self._known_clean: dict[Find, Find] = {}

    def records(self) -> Iterator[MaskRecord]:
        """Search, and hand out what is left."""
        finds: list[Find] = []
        for box, grid in self._crops:
            self.stop_if_cancelled()
            crop = CropSearch(self.predictor, self._encode(box), box, self.size, self.options)
            width, height = box[2] - box[0], box[3] - box[1]
            finds += self._search(crop, grid * (width, height))
        if len(self._crops) > 1:
            sizes = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (f.crop_box for f in finds)]
            scores = 1 / np.array(sizes, np.float32)  # smaller crops go first
            finds = _without_duplicates(finds, scores, self.options.crop_nms_thresh)
        if self.options.min_mask_region_area > 0:
            finds = self._all_cleaned(finds)
        for find in finds:
            yield find.record(self.size)

    def stop_if_cancelled(self) -> None:
        """Raise EverythingCancelled if the caller wants that."""
        if self._cancelled is not None and self._cancelled():
            raise EverythingCancelled(
                f"The search was cancelled after {self._done} of {self._total} points."
            )

    def tell_progress(self, points: int) -> None:
        """Tell the caller that some more points are done."""
        self._done += points
        if self._progress is not None:
            self._progress(self._done, self._total)

    def is_news(self, box: Box) -> bool:
        """Tell whether the caller wants to hear of a mask: if it listens and knows none like it."""
        if self._found is None:
            return False
        if self._provisional:
            overlaps = box_iou(np.array(box), np.array(self._provisional))
            if (overlaps > self.options.box_nms_thresh).any():
                return False
        self._provisional.append(box)
        return True

    def tell_found(self, find: Find) -> None:
        """Tell the caller of a mask, as it will be in the end."""
        if self._found is not None:
            self._found(self._cleaned(find).record(self.size))

    def _encode(self, box: Box) -> ImageEmbedding:
        if self._embedding is not None:
            return self._embedding
        x0, y0, x1, y1 = box
        assert self._photo is not None
        return self.predictor.encode(self._photo[y0:y1, x0:x1])

    def _search(self, crop: CropSearch, points: np.ndarray) -> list[Find]:
        """Ask about all points of a crop, and drop duplicates."""
        if self.options.fast:
            from mobilesam.fast_search import search

            return search(self, crop, points)
        finds: list[Find] = []
        for start in range(0, len(points), self.options.points_per_batch):
            self.stop_if_cancelled()
            batch = points[start : start + self.options.points_per_batch]
            for decoded in crop.decode(batch):
                finds += self._passing(crop, decoded, batch)
            self.tell_progress(len(batch))
        scores = np.array([find.predicted_iou for find in finds])
        return _without_duplicates(finds, scores, self.options.box_nms_thresh)

    def _passing(
        self, crop: CropSearch, decoded: list[Decoded], points: np.ndarray
    ) -> Iterator[Find]:
        """Judge masks at full size, one at a time."""
        for one in decoded:
            region = crop.region(one.low_res_logits)
            if not crop.passes(region.stability_score, region.box):
                continue
            stability, point = region.stability_score, points[one.prompt]
            find = crop.find(region, one.predicted_iou, stability, point)
            if self.is_news(find.box):
                self.tell_found(find)
            yield find

    def _all_cleaned(self, finds: list[Find]) -> list[Find]:
        """Clean all, and drop the duplicates that this makes; untouched masks win."""
        cleaned = []
        for find in finds:
            self.stop_if_cancelled()
            cleaned.append(self._cleaned(find))
        untouched = [after is before for after, before in zip(cleaned, finds, strict=True)]
        threshold = max(self.options.box_nms_thresh, self.options.crop_nms_thresh)
        return _without_duplicates(cleaned, np.array(untouched, np.float32), threshold)

    def _cleaned(self, find: Find) -> Find:
        """Remove a mask's small holes and islands; without any it is the same find."""
        least = self.options.min_mask_region_area
        if least <= 0:
            return find
        if find not in self._known_clean:
            mask = rle.decode({"size": self.size, "counts": find.counts})
            mask, filled = remove_small_regions(mask, least, "holes")
            mask, removed = remove_small_regions(mask, least, "islands")
            clean = find
            if filled or removed:
                x0, y0, x1, y1 = (int(edge) for edge in mask_to_box(mask))
                box = (x0, y0, max(x1 - 1, 0), max(y1 - 1, 0))
                clean = replace(find, counts=np.array(rle.encode(mask)["counts"]), box=box)
            self._known_clean[find] = clean
        return self._known_clean[find]


def _without_duplicates(finds: list[Find], scores: np.ndarray, threshold: float) -> list[Find]:
    boxes = np.array([find.box for find in finds], np.float32).reshape(-1, 4)
    return [finds[index] for index in nms(boxes, scores, threshold)]


def _xywh(box: Box) -> Any:
    x0, y0, x1, y1 = box
    return x0, y0, x1 - x0, y1 - y0
