"""SAM's prompt encoder: points, boxes and masks become embeddings."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from mobilesam.modeling.layers import LayerNorm2d, as_map
from mobilesam.modeling.sharing import Shareable
from mobilesam.transforms import LOW_RES_STRIDE

PADDING_LABEL = -1  # a row that is no point
BACKGROUND_LABEL = 0
FOREGROUND_LABEL = 1
BOX_CORNER_LABELS = (2, 3)  # top left, bottom right

DRAWN_LOGIT = 6.0  # of a point's middle and of a box's inside
POINT_RADIUS = 1.5  # cells; standard deviation of a drawn point


class RandomPositionEncoding(nn.Module):
    """Fourier features of 2-D positions with fixed random frequencies (SAM, appendix A)."""

    def __init__(self, num_frequencies: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, num_frequencies))

    def forward(self, xy_norm: torch.Tensor) -> torch.Tensor:
        """Encode (..., 2) positions in [0, 1] as (..., 2 * num_frequencies)."""
        matrix = self.positional_encoding_gaussian_matrix
        exact = torch.promote_types(matrix.dtype, torch.float32)
        with torch.autocast(matrix.device.type, enabled=False):  # a position needs its digits
            angles = 2 * math.pi * ((2 * xy_norm.to(exact) - 1) @ matrix.to(exact))
        return torch.cat([angles.sin(), angles.cos()], dim=-1).to(matrix.dtype)


class PromptEncoder(Shareable):
    """Encode prompts for the mask decoder (SAM, section 3 and appendix A).

    Differs from the reference in one thing only: box corners are taken as points with the labels
    2 and 3, as SAM's own ONNX export does, so that one batch may mix points and boxes.

    Args:
        embed_dim: Width of the embeddings.
        image_size: Side of the model's square input frame, pixels; positions are relative to it.
        embed_stride: Pixels of the input frame per cell of the image embedding.
        mask_channels: Width of the layers that take a mask prompt in.
        draws_prompts: Whether dense embeddings hold points and boxes, too, drawn; not in SAM.

    Attributes:
        input_image_size: (height, width) of the input frame, pixels.
        image_embedding_size: (height, width) of the whole frame's image embedding, cells.
        mask_input_size: (height, width) of the whole frame's low-res logits.
    """

    def __init__(
        self,
        embed_dim: int,
        image_size: int,
        embed_stride: int = 16,
        mask_channels: int = 16,
        draws_prompts: bool = False,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.image_size = image_size
        self.embed_stride = embed_stride
        self.embed_size = image_size // embed_stride
        self.draws_prompts = draws_prompts
        self.input_image_size = (image_size, image_size)
        self.image_embedding_size = (self.embed_size, self.embed_size)
        self.mask_input_size = (image_size // LOW_RES_STRIDE, image_size // LOW_RES_STRIDE)
        self.pe_layer = RandomPositionEncoding(embed_dim // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.no_mask_embed = nn.Embedding(1, embed_dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_channels // 4, kernel_size=2, stride=2),
            LayerNorm2d(mask_channels // 4),
            nn.GELU(),
            nn.Conv2d(mask_channels // 4, mask_channels, kernel_size=2, stride=2),
            LayerNorm2d(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, embed_dim, kernel_size=1),
        )

    def forward(
        self,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        boxes: torch.Tensor | None,
        masks: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed B prompts by SAM's own call; without any, B is 1 and they say nothing.

        Args:
            points: (B, N, 2) x, y in pixels of the input frame, and their (B, N) labels: 1
                foreground, 0 background, -1 a row that is no point.
            boxes: (B, 4) x0, y0, x1, y1 in pixels of the input frame.
            masks: (B, 1, 4h, 4w) low-res logits of earlier masks, or one for all.

        Returns:
            (B, N', C) sparse and (B, C, h, w) dense prompt embeddings. As in SAM, a padding point
            stands behind points that no box accompanies. Without masks (h, w) is
            ``image_embedding_size``.

        Raises:
            ValueError: If shapes or labels are wrong.
        """
        coords, kinds = (None, None) if points is None else points
        coords, kinds = join_prompts(coords, kinds, boxes, masks, self.no_mask_embed.weight.device)
        grid = self.image_embedding_size
        if masks is not None:
            masks = as_tensor(masks, "masks")
            cells = self.embed_stride // LOW_RES_STRIDE
            grid = (masks.shape[-2] // cells, masks.shape[-1] // cells)
        sparse, dense = embed_prompts(self, coords, kinds, masks, grid, self.draws_prompts)
        return sparse, dense if masks is not None else dense.expand(len(sparse), -1, *grid)

    def get_dense_pe(self) -> torch.Tensor:
        """Return the (1, C, h, w) position encoding of the whole frame's cells."""
        grid = self.image_embedding_size
        return as_map(self.dense_pe(*grid), grid)

    def dense_pe(self, height: int, width: int) -> torch.Tensor:
        """Return the (1, height * width, C) position encoding of an image embedding's cells."""
        like = {"dtype": torch.float32, "device": self.no_mask_embed.weight.device}
        y = (torch.arange(height, **like) + 0.5) / self.embed_size
        x = (torch.arange(width, **like) + 0.5) / self.embed_size
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)  # (h, w, 2) as x, y
        return self.pe_layer(grid).flatten(0, 1).unsqueeze(0)

    def sparse(self, coords: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Embed points and box corners.

        Args:
            coords: (B, N, 2) x, y in pixels of the input frame.
            labels: (B, N) integers: 1 foreground, 0 background, 2 and 3 a box's top left and
                bottom right corner, -1 padding.

        Returns:
            (B, N, C) sparse prompt embeddings.
        """
        positions = self.pe_layer((coords + 0.5) / self.image_size)  # +0.5: centre of the pixel
        kinds = torch.cat([e.weight for e in (self.not_a_point_embed, *self.point_embeddings)])
        is_point = (labels != PADDING_LABEL).unsqueeze(-1)
        return positions * is_point + kinds[labels + 1]

    def dense(self, masks: torch.Tensor) -> torch.Tensor:
        """Embed (B, 1, 4h, 4w) low-res mask logits as (B, h * w, C)."""
        masks = masks.to(self.no_mask_embed.weight.dtype)
        return self.mask_downscaling(masks).flatten(2).transpose(1, 2)

    def draw(
        self, coords: torch.Tensor, labels: torch.Tensor, grid: tuple[int, int]
    ) -> torch.Tensor:
        """Draw prompts as a low-res mask, for models that take them so as well.

        A box is bright inside and dark outside, a point a bright or a dark spot. A decoder learns
        to follow what it sees drawn from far fewer examples than it needs for tokens alone.

        Args:
            coords: (B, N, 2) as ``sparse`` takes them; at most one box for each row.
            labels: (B, N).
            grid: (h, w), the image embedding's cells.

        Returns:
            (B, 1, 4h, 4w) logits.
        """
        like = {"dtype": torch.float32, "device": coords.device}
        rows, columns = (
            torch.arange(side * self.embed_stride // LOW_RES_STRIDE, **like) for side in grid
        )
        xy = (coords + 0.5) / LOW_RES_STRIDE  # in cells, their edges at whole numbers
        dx = columns + 0.5 - xy[..., :1]  # (B, N, columns)
        dy = rows + 0.5 - xy[..., 1:]
        spot_x, spot_y = (torch.exp(-0.5 * (d / POINT_RADIUS) ** 2) for d in (dx, dy))
        sign = (labels == FOREGROUND_LABEL).float() - (labels == BACKGROUND_LABEL).float()
        spots = torch.einsum("bn,bny,bnx->byx", sign, spot_y, spot_x).clamp(-1, 1)
        first, last = (
            (xy * (labels == corner).unsqueeze(-1)).sum(1) for corner in BOX_CORNER_LABELS
        )  # (B, 2)
        inside_x = _overlap(columns, first[:, :1], last[:, :1])
        inside_y = _overlap(rows, first[:, 1:], last[:, 1:])
        inside = inside_y.unsqueeze(2) * inside_x.unsqueeze(1)  # (B, rows, columns)
        has_box = (labels == BOX_CORNER_LABELS[0]).any(1).float()
        drawn = spots + has_box[:, None, None] * (2 * inside - 1)
        return (DRAWN_LOGIT * drawn).unsqueeze(1)

    def no_mask(self) -> torch.Tensor:
        """Return the (1, 1, C) embedding that stands for "no mask was given"."""
        return self.no_mask_embed.weight.unsqueeze(0)


def embed_prompts(
    encoder: PromptEncoder,
    coords: torch.Tensor,
    labels: torch.Tensor,
    masks: torch.Tensor | None,
    grid: tuple[int, int],
    draws: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embed labelled points and masks for image embeddings of ``grid`` (h, w).

    Args:
        encoder: Whose ``sparse``, ``dense``, ``draw`` and ``no_mask`` are used.
        coords: (B, N, 2) as ``PromptEncoder.sparse`` takes them.
        labels: (B, N).
        masks: (B or 1, 1, 4h, 4w) low-res logits.
        grid: (h, w), cells.
        draws: Whether points and boxes are drawn as a mask, too.

    Returns:
        (B, N, C) sparse and (B or 1, C, h, w) dense prompt embeddings; the latter (1, C, 1, 1)
        where it is the same in all cells.
    """
    if draws:
        drawn = encoder.draw(coords, labels, grid)
        masks = drawn if masks is None else masks + drawn
    sparse = encoder.sparse(coords, labels)
    if masks is None:
        return sparse, as_map(encoder.no_mask(), (1, 1))
    return sparse, as_map(encoder.dense(masks), grid)


def join_prompts(
    points: torch.Tensor | None,
    labels: torch.Tensor | None,
    boxes: torch.Tensor | None,
    masks: torch.Tensor | None,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Join SAM's batched prompts to the labelled points that ``Sam.decode_masks`` takes.

    Args:
        points: (B, N, 2) x, y in the input frame.
        labels: (B, N) 1 or 0, or -1 for a row that is no point.
        boxes: (B, 4) in the input frame.
        masks: (B, 1, l, l') or one for all, (1, 1, l, l').
        device: Where the result shall be.

    Returns:
        (B, N', 2) coordinates, float32 or float64, and (B, N') labels. As in SAM, a padding point
        stands behind points that no box accompanies, and N' is 0 where masks are the only prompts
        or, B being 1, there is no prompt at all.

    Raises:
        ValueError: If points come without labels, or shapes, labels or numbers are wrong.
    """
    if (points is None) != (labels is None):
        raise ValueError("Points and labels belong together: give both or neither.")
    points, labels, boxes, masks = (
        None if prompt is None else as_tensor(prompt, name)
        for prompt, name in zip(
            (points, labels, boxes, masks), ("points", "labels", "boxes", "masks"), strict=True
        )
    )
    known = next((prompt for prompt in (points, boxes, masks) if prompt is not None), None)
    batch = 1 if known is None else len(known)
    if masks is not None and (
        masks.ndim != 4 or len(masks) not in (1, batch) or masks.shape[1] != 1
    ):
        raise ValueError(
            f"masks must have shape ({batch}, 1, l, l'), one for each prompt; "
            f"got {tuple(masks.shape)}."
        )
    coords = torch.zeros((batch, 0, 2), device=device)
    kinds = torch.zeros((batch, 0), dtype=torch.long, device=device)
    if points is not None and labels is not None:
        _check_labelled_points(points, labels)
        coords, kinds = _in_full(points, device), labels.to(device, torch.long)
        if boxes is None:
            coords = torch.cat([coords, coords.new_zeros((batch, 1, 2))], dim=1)
            kinds = torch.cat([kinds, kinds.new_full((batch, 1), PADDING_LABEL)], dim=1)
    if boxes is not None:
        if boxes.ndim < 2 or boxes.numel() != batch * 4:
            rows = "B" if known is boxes else batch
            raise ValueError(f"boxes must have shape ({rows}, 4); got {tuple(boxes.shape)}.")
        corner_labels = kinds.new_tensor(BOX_CORNER_LABELS).expand(batch, 2)
        coords = torch.cat([coords, _in_full(boxes, device).reshape(batch, 2, 2)], dim=1)
        kinds = torch.cat([kinds, corner_labels], dim=1)
    check_finite(coords.float(), "Points and boxes")  # as they are decoded
    if masks is not None:
        check_finite(masks, "masks")
    return coords, kinds


def _check_labelled_points(points: torch.Tensor, labels: torch.Tensor) -> None:
    if points.ndim != 3 or points.shape[2] != 2 or labels.shape != points.shape[:2]:
        raise ValueError(
            "Points must have shape (B, N, 2) and labels (B, N); "
            f"got {tuple(points.shape)} and {tuple(labels.shape)}."
        )
    allowed = (BACKGROUND_LABEL, FOREGROUND_LABEL, PADDING_LABEL)
    if not sum(labels == label for label in allowed).all():
        raise ValueError(
            "Labels must be 1 (include), 0 (exclude) or -1 (no point); "
            f"got {sorted(set(labels.flatten().tolist()))}."
        )


def as_tensor(value: object, name: str) -> torch.Tensor:
    """Return a tensor as it is and a NumPy array as a tensor.

    Raises:
        TypeError: If it is neither; ``name`` is what the caller knows it by.
    """
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a tensor; got {type(value).__name__}.")
    return value


def check_finite(tensor: torch.Tensor, name: str) -> None:
    """Refuse NaN and infinity, of which no score or mask could be believed.

    Raises:
        ValueError: If there is any; ``name`` is what the caller knows the tensor by.
    """
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise ValueError(f"{name} must be finite numbers; got NaN or infinity.")


def _in_full(coords: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return coordinates in float32 at least: half precision has no 0.5 px beyond 1,024."""
    full = torch.promote_types(coords.dtype, torch.float32)
    return coords.to(torch.float32 if device.type == "mps" else full).to(device)  # no float64 there


def _overlap(cells: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """Return how much of each cell [i, i + 1] lies within [start, end]: (B, cells), 0 to 1."""
    return (torch.minimum(cells + 1, end) - torch.maximum(cells, start)).clamp(0, 1)
