"""Masks of one picture at its full size, one at a time and only where they are.

SAM upsamples the low-res logits to the input frame, cuts off the padding and resizes the rest to
the photo's size, all bilinear. Each of these steps is linear and separable, so that all together
are one matrix for the rows and one for the columns, with no more than four entries in a row. A
logit of the photo is a mean of low-res logits around it: where those are all below a threshold it
is, too, and need not be computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from mobilesam.transforms import LOW_RES_STRIDE

Size = tuple[int, int]
PIXELS_AT_A_TIME = 1 << 17  # 0.5 MiB of logits, so that they stay in the processor's cache
OUTPUTS_AT_A_TIME = 64  # rows of an axis' matrix: few enough that most of their columns are used
ROUNDING = 1e-3  # logits: far more than the mean of low-res logits is off by


@dataclass(frozen=True, eq=False)
class Region:
    """One mask at the photo's size: a window of it, nothing of the mask outside.

    Attributes:
        columns: (w, h + 1) bool, column after column of the window; the last of each is False.
        x: Where the window begins.
        y: Where the window begins.
        area: Pixels of the mask.
        stability_score: As ``masks.stability_score``.
    """

    columns: np.ndarray
    x: int
    y: int
    area: int
    stability_score: float

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of its first and last pixels, as SAM has it; zeros if it is empty."""
        if not self.area:
            return 0, 0, 0, 0
        xs = np.flatnonzero(self.columns.any(axis=1))
        ys = np.flatnonzero(self.columns.any(axis=0))
        return int(self.x + xs[0]), int(self.y + ys[0]), int(self.x + xs[-1]), int(self.y + ys[-1])

    def counts(self, size: Size, x: int = 0, y: int = 0) -> np.ndarray:
        """Return the run lengths of the mask in a larger picture, as ``rle.encode`` has them.

        Args:
            size: (height, width) of the larger picture.
            x: Where this one begins in it.
            y: Where this one begins in it.
        """
        height, width = size
        if not self.area:
            return np.array([height * width])
        flat = self.columns.ravel()
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        if flat[0]:
            changes = np.concatenate([[0], changes])
        column, row = np.divmod(changes, self.columns.shape[1])
        edges = (column + self.x + x) * height + row + self.y + y
        joined = edges[1:-1:2] == edges[2::2]  # one column's last run goes on in the next one
        keep = np.ones(len(edges), bool)
        keep[1:-1] = ~np.repeat(joined, 2)
        counts = np.diff(np.concatenate([[0], edges[keep], [height * width]]))
        return counts if counts[-1] else counts[:-1]


class _Axis:
    """How the photo's rows, or columns, follow from the low-res logits' ones.

    Args:
        cells: Low-res logits along this axis.
        frame: Pixels they cover in the input frame.
        covered: Those of them that the photo covers.
        outputs: The photo's pixels.

    Attributes:
        matrix: (outputs, cells).
        first: (outputs,) the first cell that each output depends on.
        last: (outputs,) the last one.
    """

    def __init__(self, cells: int, frame: int, covered: int, outputs: int) -> None:
        each = torch.eye(cells, dtype=torch.float32, device="cpu")[None]
        spread = F.interpolate(each, frame, mode="linear")[..., :covered]
        if covered != outputs:
            spread = F.interpolate(spread, outputs, mode="linear")
        self.matrix = spread[0].T.contiguous().numpy()
        used = self.matrix != 0
        self.first, self.last = used.argmax(axis=1), cells - 1 - used[:, ::-1].argmax(axis=1)

    def span(self, cells: np.ndarray) -> tuple[int, int]:
        """Return the first output that depends on any of the cells, and the one behind the last.

        They are equal if none does, as may be where the photo is smaller than the low-res logits.
        """
        if not len(cells):
            return 0, 0
        start = int(np.searchsorted(self.last, cells[0], "left"))
        return start, int(np.searchsorted(self.first, cells[-1], "right"))

    def apply(self, values: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Return outputs ``start`` to ``stop`` of (cells, K): (stop - start, K)."""
        out = np.empty((stop - start, values.shape[1]), np.float32)
        for low in range(start, stop, OUTPUTS_AT_A_TIME):
            high = min(low + OUTPUTS_AT_A_TIME, stop)
            part = slice(self.first[low], self.last[high - 1] + 1)
            np.matmul(
                self.matrix[low:high, part], values[part], out=out[low - start : high - start]
            )
        return out


class FullSize:
    """Brings low-res logits of one picture to its full size.

    Args:
        low_res_size: (l, l') of the low-res logits.
        input_size: The photo's (height, width) in the input frame, pixels.
        image_size: Side of that frame, pixels.
        output_size: (height, width) of the photo.
    """

    def __init__(
        self, low_res_size: Size, input_size: Size, image_size: int, output_size: Size
    ) -> None:
        self._rows, self._columns = (
            _Axis(cells, min(cells * LOW_RES_STRIDE, image_size), covered, outputs)
            for cells, covered, outputs in zip(low_res_size, input_size, output_size, strict=True)
        )

    def region(self, low_res_logits: torch.Tensor, threshold: float, offset: float) -> Region:
        """Cut one mask out of its logits.

        Args:
            low_res_logits: (l, l') float32 on the CPU.
            threshold: Logits above it are mask.
            offset: By which the threshold is moved for the stability score; not negative.
        """
        lower, upper = np.float32(threshold - offset), np.float32(threshold + offset)
        rows, columns = self._rows, self._columns
        seen = low_res_logits.numpy()[: rows.last[-1] + 1, : columns.last[-1] + 1]
        above = seen > lower - np.float32(ROUNDING)
        touched_rows, touched_columns = (np.flatnonzero(above.any(axis=axis)) for axis in (1, 0))
        (y0, y1), (x0, x1) = rows.span(touched_rows), columns.span(touched_columns)
        if y0 >= y1 or x0 >= x1:
            return Region(np.zeros((0, 1), bool), 0, 0, 0, float("nan"))
        tall = np.ascontiguousarray(rows.apply(seen, y0, y1).T)  # (l', h)
        mask = np.zeros((x1 - x0, y1 - y0 + 1), bool)
        larger = smaller = area = 0
        step = max(1, PIXELS_AT_A_TIME // (y1 - y0))
        for start in range(x0, x1, step):
            stop = min(start + step, x1)
            logits = columns.apply(tall, start, stop)
            larger += int(np.count_nonzero(logits > lower))
            smaller += int(np.count_nonzero(logits > upper))
            part = mask[start - x0 : stop - x0, :-1]
            np.greater(logits, np.float32(threshold), out=part)
            area += int(np.count_nonzero(part))
        stability = smaller / larger if larger else float("nan")
        return Region(mask, x0, y0, area, stability)
