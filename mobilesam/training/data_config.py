"""What training batches are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

BUCKET_STEP = 32  # px: sides of batches are multiples of it; two cells of an image embedding
MAX_MASKS = 64  # of one photo


@dataclass(frozen=True)
class DataConfig:
    """What a training batch is made of.

    Attributes:
        data: Folder with tar shards, or in SA-1B's layout.
        image_size: Side of the input frame, pixels; a multiple of 32.
        images_per_batch: Photos per step and process; all of one aspect ratio.
        masks_per_image: Object masks drawn from each photo, 1 to 64.
        min_scale: Smallest size at which a photo is shown, a share of the size that fills the
            frame; what it leaves is of one colour.
        max_zoom: Largest size, likewise; above 1 only a part of the photo is seen.
        whole_photo_share: Share of photos that just fill the frame.
        min_mask_share: Masks smaller than this share of the frame are not asked for.
        copy_paste_share: Share of photos that a small object of another one is pasted into.
        set_weights: How often a photo of a set is drawn, relative to once per pass; sets that are
            not named have 1.
        in_memory: Decode all photos and masks once, at the start; every process keeps its own.
        limit: Only the first so many photos.
    """

    data: str = "data"
    image_size: int = 384
    images_per_batch: int = 5
    masks_per_image: int = 5
    min_scale: float = 0.5
    max_zoom: float = 2.5
    whole_photo_share: float = 0.35
    min_mask_share: float = 0.0015
    copy_paste_share: float = 0.3
    set_weights: tuple[tuple[str, float], ...] = (
        ("duts_tr", 0.5),
        ("coco_sub", 10.0),
        ("coco_person", 2.5),
        ("ccp", 2.5),
        ("car_parts", 2.5),
        ("bsds500", 1.5),
        ("human290", 1.5),
        ("animals", 1.5),
    )
    in_memory: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        check_image_size(self.image_size)
        if self.images_per_batch < 1:
            raise ValueError(f"images_per_batch must be positive; got {self.images_per_batch}.")
        if not 1 <= self.masks_per_image <= MAX_MASKS:
            raise ValueError(
                f"masks_per_image must lie in 1 to {MAX_MASKS}; got {self.masks_per_image}."
            )
        if not 0 < self.min_scale <= 1:
            raise ValueError(f"min_scale must be over 0 and at most 1; got {self.min_scale}.")
        if not 1 <= self.max_zoom < math.inf:
            raise ValueError(f"max_zoom must be 1 or more; got {self.max_zoom}.")
        for name in ("whole_photo_share", "min_mask_share", "copy_paste_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0 to 1; got {getattr(self, name)}.")
        for name, weight in self.set_weights:
            if not 0 <= weight < math.inf:
                raise ValueError(f"The weight of {name} must be 0 or more; got {weight}.")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be positive, or left out; got {self.limit}.")


def check_image_size(image_size: int) -> None:
    """Raise ``ValueError`` unless batches can have photos of that size."""
    if image_size < 1 or image_size % BUCKET_STEP:
        raise ValueError(
            f"image_size must be a positive multiple of {BUCKET_STEP}; got {image_size}."
        )
