"""A mask made neater: specks and holes removed, outline smoothed, edge feathered.

All lengths are pixels of the mask at hand. Only what lies round the outline is computed, so that a
mask of a large photo costs little; the outcome is that of the whole picture, bit for bit.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mobilesam.masks import remove_small_regions
from mobilesam.rendering import mask_window

MAX_SIGMA = 50.0  # px: takes seconds on a large photo, and leaves nothing of many masks
REACH = 3  # standard deviations after which the Gaussian is cut off
MIN_TILE = 128  # px, side of the squares that are blurred, or left alone, as a whole


@dataclass(frozen=True)
class Refinement:
    """What is done to a mask after the model is through, in this order.

    1. Holes of fewer than ``min_area`` pixels are filled, then islands of fewer pixels removed.
       Pixels that touch at a corner belong together. The largest island stays in any case, and
       ground that is larger than the mask is no hole.
    2. The outline is smoothed: the mask is blurred by a Gaussian and cut at one half. Teeth and
       notches that are narrow for ``smooth`` go, and so does what is thinner than 1.35 of it;
       straight edges stay where they are.
    3. The edge is feathered: the alpha is the mask blurred by a Gaussian, one half at the edge.

    Beyond the photo its outermost pixels are taken to go on, so that an object that the photo's
    edge cuts off is neither rounded nor faded there.

    Attributes:
        min_area: Pixels; 0 leaves all parts as they are.
        smooth: Standard deviation of the Gaussian that smooths the outline, pixels.
        feather: Standard deviation of the Gaussian that feathers the edge, pixels.

    Raises:
        ValueError: A value is negative, too large or no number.
    """

    min_area: int = 0
    smooth: float = 0.0
    feather: float = 0.0

    def __post_init__(self) -> None:
        try:
            whole = -1 if isinstance(self.min_area, bool) else operator.index(self.min_area)
        except TypeError:
            whole = -1
        if whole < 0:
            raise ValueError(
                f"min_area must be a whole number of pixels from 0; got {self.min_area!r}."
            )
        for name in ("smooth", "feather"):
            sigma = getattr(self, name)
            is_number = isinstance(sigma, int | float | np.number) and not isinstance(sigma, bool)
            if not is_number or not 0 <= sigma <= MAX_SIGMA:
                raise ValueError(f"{name} must be 0 to {MAX_SIGMA:g} pixels; got {sigma!r}.")

    def scaled(self, factor: float) -> Refinement:
        """Return what does nearly the same to a mask whose sides are ``factor`` times as long.

        Args:
            factor: Of a preview, 1 or less; sigmas are cut at ``MAX_SIGMA`` if it is more.

        Raises:
            ValueError: It is not above 0.
        """
        if not 0 < factor < math.inf:
            raise ValueError(f"factor must be above 0; got {factor!r}.")
        return replace(
            self,
            min_area=round(self.min_area * factor**2),
            smooth=min(self.smooth * factor, MAX_SIGMA),
            feather=min(self.feather * factor, MAX_SIGMA),
        )

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """Remove specks and holes, and smooth the outline.

        Args:
            mask: (H, W) bool; not changed.

        Returns:
            (H, W) bool; ``mask`` itself if nothing is to be done.

        Raises:
            ValueError: It is not a non-empty (H, W) array of bool.
        """
        window = mask_window(mask)
        if window is None:
            return mask
        if self.min_area > 1:
            largest_hole = min(self.min_area, int(mask[window].sum()))
            mask, _ = remove_small_regions(mask, largest_hole, "holes")
            mask, _ = remove_small_regions(mask, self.min_area, "islands")
        tiles = list(_blurred(mask, self.smooth))
        if tiles:
            mask = mask.copy()
        for tile, values in tiles:
            mask[tile] = values > 0.5
        return mask

    def alpha(self, mask: np.ndarray) -> np.ndarray:
        """Feather a mask that ``mask`` has made.

        Args:
            mask: (H, W) bool.

        Returns:
            (H, W) uint8, 0 outside to 255 inside. Without feathering there is nothing between.

        Raises:
            ValueError: It is not a non-empty (H, W) array of bool.
        """
        mask_window(mask)  # refuses what is no mask
        alpha = mask.astype(np.uint8) * np.uint8(255)
        for tile, values in _blurred(mask, self.feather):
            alpha[tile] = np.rint(np.clip(values * 255, 0, 255))
        return alpha


def _blurred(mask: np.ndarray, sigma: float) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Blur a mask where that changes it.

    Yields:
        Places in the mask, and their (h, w) float32 values, 0 to 1. Everywhere else the mask is
        the same as far as the Gaussian reaches, and would stay what it is.
    """
    reach = int(REACH * sigma + 0.5)
    window = mask_window(mask)
    if not reach or window is None:
        return
    from scipy import ndimage

    height, width = mask.shape
    side = max(MIN_TILE, 3 * reach)
    top, bottom = max(window[0].start - reach, 0), min(window[0].stop + reach, height)
    left, right = max(window[1].start - reach, 0), min(window[1].stop + reach, width)
    for y0 in range(top, bottom, side):
        for x0 in range(left, right, side):
            y1, x1 = min(y0 + side, bottom), min(x0 + side, right)
            above, before = min(reach, y0), min(reach, x0)
            around = mask[y0 - above : y1 + reach, x0 - before : x1 + reach]
            first = around[0, 0]
            if around.all() if first else not around.any():
                continue
            values = around.astype(np.float32)
            for axis, skipped, length in ((1, before, x1 - x0), (0, above, y1 - y0)):
                values = ndimage.gaussian_filter1d(
                    values, sigma, axis, mode="nearest", radius=reach
                )
                values = values.take(range(skipped, skipped + length), axis)
            yield (slice(y0, y1), slice(x0, x1)), values
