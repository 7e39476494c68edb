"""Everything mode: the masks of all objects of a picture, without prompts (SAM, 4 and B)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mobilesam import rle

if TYPE_CHECKING:
    from mobilesam.modeling import Sam
    from mobilesam.predictor import ImageEmbedding, Predictor

MAX_POINTS_PER_SIDE = 1024  # a million points
MAX_CROP_LAYERS = 5  # 1,365 crops of a picture, each encoded
WHOLE_NUMBERS = {  # option: its least value
    "points_per_batch": 1,
    "crop_n_layers": 0,
    "crop_n_points_downscale_factor": 1,
}
NUMBERS = {  # option: its least value and the one it must be below
    "pred_iou_thresh": (-math.inf, math.inf),
    "stability_score_thresh": (-math.inf, math.inf),
    "stability_score_offset": (0.0, math.inf),
    "box_nms_thresh": (0.0, math.inf),
    "crop_nms_thresh": (0.0, math.inf),
    "crop_overlap_ratio": (0.0, 1.0),
    "min_mask_region_area": (0.0, math.inf),
}


# For models trained by this project, which are less sure of themselves. On 50 validation photos
# (16 x 16 points): 8.1 masks a photo; 58 % of the labelled objects over 0.2 % of their photo are
# among them (IoU of at least 0.5). Chosen with the weights before, for which stricter ones lost
# objects and laxer ones added little but masks of nothing.
OWN_THRESHOLDS = {
    "pred_iou_thresh": 0.45,
    "stability_score_thresh": 0.65,
    "stability_score_offset": 0.2,
}


class EverythingCancelled(RuntimeError):
    """A run was stopped by its caller before it was through."""


@dataclass(frozen=True, eq=False)
class EverythingOptions:
    """How to search a picture; names and defaults are those of SAM's mask generator.

    Attributes:
        points_per_side: The whole picture is asked about at a grid of so many points squared;
            None if ``point_grids`` are given.
        points_per_batch: Points decoded between two looks at ``cancelled``.
        pred_iou_thresh: Least predicted IoU of a mask, 0 to 1; 0 or less lets all pass.
        stability_score_thresh: Least stability, 0 to 1; 0 or less lets all pass.
        stability_score_offset: Logits by which the cut is moved to measure stability.
        box_nms_thresh: Of two masks of a crop whose boxes' IoU is higher the better one is kept.
        crop_n_layers: How often to look again at crops of half the size; each is encoded.
        crop_nms_thresh: As ``box_nms_thresh``, between crops; smaller crops go first.
        crop_overlap_ratio: Overlap of the first layer's crops, a share of the shorter side.
        crop_n_points_downscale_factor: Thins the grid from one layer to the next.
        point_grids: For the picture and each layer of crops (N, 2) x, y from 0 to 1, instead of
            ``points_per_side``.
        min_mask_region_area: Holes and islands of fewer pixels are removed; 0 keeps all.
        fast: Ask at a sparse grid first and only where that found nothing again; judge masks at
            low resolution. Finds nearly the same in less time.
    """

    points_per_side: int | None = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    point_grids: Sequence[np.ndarray] | None = None
    min_mask_region_area: int = 0
    fast: bool = False

    def __post_init__(self) -> None:
        """Check all values.

        Raises:
            TypeError: If one has the wrong type.
            ValueError: If one is out of its range, or they do not fit together.
        """
        for name, least in WHOLE_NUMBERS.items():
            _check_whole_number(name, getattr(self, name), least)
        for name, (low, high) in NUMBERS.items():
            _check_number(name, getattr(self, name), low, high)
        _check_at_most("crop_n_layers", self.crop_n_layers, MAX_CROP_LAYERS)
        if (self.points_per_side is None) == (self.point_grids is None):
            raise ValueError(
                "Give either points_per_side or point_grids and set the other to None; got "
                f"{'neither' if self.point_grids is None else 'both'}."
            )
        if self.points_per_side is not None:
            _check_whole_number("points_per_side", self.points_per_side, 1)
            _check_at_most("points_per_side", self.points_per_side, MAX_POINTS_PER_SIDE)
        if not isinstance(self.fast, bool | np.bool_):
            raise TypeError(f"fast must be True or False; got {self.fast!r}.")
        self.grids()

    @classmethod
    def for_model(cls, model: Sam, **chosen: Any) -> EverythingOptions:
        """Return the options that suit a model: SAM's, or others for this project's own models.

        Args:
            model: Whose predicted IoU and logits are to be judged.
            chosen: Options to be set otherwise, by name.

        Raises:
            TypeError, ValueError: If it is no model, or an option is wrong.
        """
        if not hasattr(model, "draws_prompts"):
            raise TypeError(
                f"Expected a model, as load_model(...) gives one; got {type(model).__name__}."
            )
        return cls(**{**(OWN_THRESHOLDS if model.draws_prompts else {}), **chosen})

    def grids(self) -> list[np.ndarray]:
        """Return the points to ask about, (N, 2) from 0 to 1, for the picture and each layer.

        Raises:
            TypeError: If ``point_grids`` are no sequence of arrays.
            ValueError: If there are none for a layer, or ``point_grids`` are malformed.
        """
        from mobilesam.point_grids import layer_grids

        if self.points_per_side is not None:
            factor = self.crop_n_points_downscale_factor
            return layer_grids(self.points_per_side, self.crop_n_layers, factor)
        given = () if self.point_grids is None else self.point_grids
        if not hasattr(given, "__len__"):  # an iterator could be read once only
            raise TypeError(
                "point_grids must be a list of (N, 2) arrays, one for the picture and one for each "
                f"layer of crops; got {type(given).__name__}."
            )
        grids = [_check_grid(grid) for grid in given]
        if len(grids) <= self.crop_n_layers:
            raise ValueError(
                "point_grids must hold one grid for the whole picture and one for each of the "
                f"{self.crop_n_layers} crop_n_layers; got {len(grids)}."
            )
        return grids[: self.crop_n_layers + 1]


@dataclass(frozen=True, eq=False)
class MaskRecord:
    """One mask that was found.

    Attributes:
        rle: Its run lengths, as ``rle.encode`` makes them.
        area: Its pixels.
        bbox: x, y, width and height of its box, pixels. As in SAM the width is the distance from
            the first to the last column, so one less than the number of columns.
        predicted_iou: The model's own estimate.
        point_coords: x, y of the point that was asked about, pixels.
        stability_score: See ``masks.stability_score``; with ``fast`` at low resolution.
        crop_box: x, y, width and height of the crop it was found in, pixels.
    """

    rle: dict[str, Any]
    area: int
    bbox: tuple[int, int, int, int]
    predicted_iou: float
    point_coords: tuple[float, float]
    stability_score: float
    crop_box: tuple[int, int, int, int]

    def mask(self) -> np.ndarray:
        """Return the mask as (H, W) bool."""
        return rle.decode(self.rle)


def generate(
    predictor: Predictor,
    image: str | Path | Image.Image | np.ndarray | ImageEmbedding,
    options: EverythingOptions | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    found: Callable[[MaskRecord], None] | None = None,
) -> Iterator[MaskRecord]:
    """Find the masks of all objects of a picture.

    A mask is only certain when all others are known that it may be a duplicate of, so the
    iterator gives its first one at the end of the search, all in SAM's order. ``found`` hears of
    each mask at once; a few that it hears of turn out to be duplicates and are not in the final
    list.

    Memory does not grow with the grid: one batch's cells are held at a time, one mask at the
    picture's size, and run lengths of the masks that passed.

    Args:
        predictor: Who is asked.
        image: A path, a PIL image, an (H, W, 3) uint8 RGB array; or, where no crops are to be
            encoded, its embedding by the same model.
        options: How to search; by default those of ``EverythingOptions.for_model``.
        progress: Called with points done and points in all, after each batch.
        cancelled: Asked before each batch; once it returns True the search ends.
        found: Called with each mask that passes all thresholds and is no duplicate of one before.

    Returns:
        An iterator that searches when its first element is asked for.

    Raises:
        FileNotFoundError, TypeError, ValueError: If the picture cannot be read, as
            ``transforms.read_image``, or an embedding does not fit; at once.
        EverythingCancelled: By the iterator, if the run was cancelled.
    """
    from mobilesam.everything_search import Search
    from mobilesam.predictor import Predictor

    if not isinstance(predictor, Predictor):
        raise TypeError(
            f"generate takes a predictor, as Predictor(model) makes one; got "
            f"{type(predictor).__name__}."
        )
    chosen = EverythingOptions.for_model(predictor.model) if options is None else options
    if not isinstance(chosen, EverythingOptions):
        raise TypeError(f"options must be EverythingOptions; got {type(chosen).__name__}.")
    return Search(predictor, image, chosen, progress, cancelled, found).records()


def _check_whole_number(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number; got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}; got {value}.")


def _check_at_most(name: str, value: int, most: int) -> None:
    if value > most:
        raise ValueError(f"{name} must be at most {most}; got {value}.")


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} must be a number; got {value!r}.")
    if not low <= value < high:  # also refuses NaN
        wanted = f"from {low:g} to below {high:g}" if math.isfinite(high) else f"at least {low:g}"
        wanted = wanted if math.isfinite(low) else "finite"
        raise ValueError(f"{name} must be {wanted}; got {value}.")


def _check_grid(grid: object) -> np.ndarray:
    try:
        points = np.asarray(grid)
    except ValueError as error:
        raise ValueError(
            "Each of point_grids must be an (N, 2) array of x, y; got rows of unequal length."
        ) from error
    if (
        points.ndim != 2
        or points.shape[1] != 2
        or not len(points)
        or points.dtype.kind not in "iuf"
    ):
        raise ValueError(
            "Each of point_grids must be an (N, 2) array of x, y with N at least 1; "
            f"got {points.dtype} of shape {points.shape}."
        )
    if not ((points >= 0) & (points <= 1)).all():
        raise ValueError(
            "point_grids must lie between 0 and 1, shares of the picture's width and height; "
            f"got {points.min():g} to {points.max():g}."
        )
    return points.astype(np.float64)
