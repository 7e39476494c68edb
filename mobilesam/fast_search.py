"""The fast search of a crop: coarse to fine, judged at a reduced size.

As TinySAM's hierarchical search (Shu et al., 2023, section 3.4): a sparse grid goes first, and
the denser ones leave out the points on which something confident has been found already. Two
things differ. A prompt covers the smallest of its confident masks only: a point elsewhere in the
larger ones may still be on a part of its own. And every few points spare the next ones, not only
the sparse grid the dense one.

Masks are judged on a reduction of the picture to ``JUDGED_SIDE``; only those that are left in the
end are brought to its full size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from mobilesam.full_size import Region
from mobilesam.modeling.many_prompts import PROMPTS_AT_A_TIME
from mobilesam.nms import nms
from mobilesam.point_grids import Box, coarse_to_fine

if TYPE_CHECKING:
    from mobilesam.everything_search import CropSearch, Decoded, Find, Search

JUDGED_SIDE = 512  # px, the longer side; smaller pictures are judged as they are
CONFIDENT_IOU = 0.9  # predicted; with less, another point of the same object may do better
NEARLY_SAME = 0.9  # IoU of boxes, from which on the worse of two is forgotten at once


@dataclass(eq=False)
class _Candidate:
    """A mask that passed.

    Attributes:
        logits: (l, l') low-res logits, float16: there may be hundreds.
        box: x0, y0, x1, y1 of its first and last pixels in the crop, as judged.
        predicted_iou: The model's own estimate.
        stability_score: As judged.
        point: (2,) x, y of its prompt in the crop.
        find: The mask at full size, once it is made.
    """

    logits: torch.Tensor
    box: Box
    predicted_iou: np.float32
    stability_score: float
    point: np.ndarray
    find: Find | None = None

    def at_full_size(self, crop: CropSearch) -> Find:
        """Return the mask at the picture's size."""
        if self.find is None:
            region = crop.region(self.logits.float())
            self.find = crop.find(region, self.predicted_iou, self.stability_score, self.point)
        return self.find


def search(run: Search, crop: CropSearch, points: np.ndarray) -> list[Find]:
    """Ask about a crop's points, (N, 2) pixels; returns its masks without duplicates."""
    options, size = run.options, crop.embedding.original_size
    scale = min(1.0, JUDGED_SIDE / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    judge = _Judge(crop, (height, width))
    pixels = (points / size[::-1] * (width, height)).astype(int)
    pixels = np.minimum(pixels, (width - 1, height - 1))
    at_a_time = min(options.points_per_batch, PROMPTS_AT_A_TIME)
    kept: list[_Candidate] = []
    for waiting in coarse_to_fine(points / size[::-1]):
        while len(waiting):
            run.stop_if_cancelled()
            uncovered = waiting[~judge.covered[pixels[waiting, 1], pixels[waiting, 0]]]
            batch, rest = uncovered[:at_a_time], uncovered[at_a_time:]
            new = [
                candidate
                for decoded in crop.decode(points[batch])
                for candidate in judge.passing(decoded, points[batch])
            ]
            kept = _without_duplicates(kept + new, max(NEARLY_SAME, options.box_nms_thresh))
            for one in new:
                if one in kept and run.is_news(crop.in_picture(one.box)):
                    run.tell_found(one.at_full_size(crop))
            run.tell_progress(len(waiting) - len(rest))
            waiting = rest
    finds = []
    for one in _without_duplicates(kept, options.box_nms_thresh):
        run.stop_if_cancelled()  # on a large photo a mask takes long
        finds.append(one.at_full_size(crop))
    return finds


class _Judge:
    """Judges masks of a crop at a reduced size.

    Args:
        crop: The crop.
        size: The reduced (height, width).

    Attributes:
        covered: (height, width) bool, where something confident has been found.
    """

    def __init__(self, crop: CropSearch, size: tuple[int, int]) -> None:
        self._crop, self._reduction = crop, crop.reduction(size)
        self._scale = np.divide(crop.embedding.original_size, size)
        self.covered = np.zeros(size, bool)

    def passing(self, decoded: list[Decoded], points: np.ndarray) -> list[_Candidate]:
        """Return the masks that pass as candidates, and mark what they cover."""
        candidates: list[_Candidate] = []
        smallest: dict[int, Region] = {}
        for one in decoded:
            region = self._crop.region(one.low_res_logits, self._reduction)
            box = self._full_size_box(region)
            if not region.area or not self._crop.passes(region.stability_score, box):
                continue
            point = points[one.prompt]
            half = one.low_res_logits.half()
            candidates.append(
                _Candidate(half, box, one.predicted_iou, region.stability_score, point)
            )
            if one.predicted_iou >= CONFIDENT_IOU:
                known = smallest.setdefault(one.prompt, region)
                smallest[one.prompt] = min(known, region, key=lambda region: region.area)
        for region in smallest.values():
            width, height = len(region.columns), region.columns.shape[1] - 1
            window = self.covered[region.y : region.y + height, region.x : region.x + width]
            window |= region.columns[:, :-1].T
        return candidates

    def _full_size_box(self, region: Region) -> Box:
        """Return a region's box in the crop's own pixels, first and last."""
        x0, y0, x1, y1 = region.box
        down, right = self._scale
        ends = int((x1 + 1) * right) - 1, int((y1 + 1) * down) - 1
        return int(x0 * right), int(y0 * down), *ends


def _without_duplicates(candidates: list[_Candidate], threshold: float) -> list[_Candidate]:
    boxes = np.array([one.box for one in candidates], np.float32).reshape(-1, 4)
    scores = np.array([one.predicted_iou for one in candidates], np.float32)
    return [candidates[index] for index in nms(boxes, scores, threshold)]
