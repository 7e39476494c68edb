"""Many prompts against one picture: the mask decoder, quality first and masks on demand.

Faster than ``Sam.decode_masks`` in two ways: the image cells are held as factors (see
``factored_cells``), a quarter of the plain arithmetic, and only the masks asked for are computed.
The results are the decoder's own but for rounding. What is computed once per picture pays from
some five prompts on; for a single click ``Sam.decode_masks`` is right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from mobilesam.modeling.factored_cells import (
    Cells,
    CellUpdate,
    SharedCells,
    TokenReader,
    Workspace,
)
from mobilesam.modeling.layers import image_cells
from mobilesam.modeling.mask_decoder import arrange_sub_cells, spread_weight
from mobilesam.modeling.sam import Sam

PROMPTS_AT_A_TIME = 8  # their cells, 2 MiB each at 1024 px, are held at once


@dataclass(frozen=True, eq=False)
class PromptReadings:
    """What the decoder makes of B prompts before any mask is computed.

    Attributes:
        iou_predictions: (B, 4); 0 is the single-mask output, 1 to 3 the multimask output.
        mask_weights: (B, 4, C/8).
        cells: What the masks are computed from.
    """

    iou_predictions: torch.Tensor
    mask_weights: torch.Tensor
    cells: Cells


class ManyPrompts:
    """A picture made ready for many prompts; keeps about 32 MiB at 1024 px.

    Under autocast, too, all is computed in the weights' own precision: products are written into
    tensors made before, whose type is theirs.

    Args:
        model: The model that made ``features``.
        features: (1, 256, h, w) image embedding.
    """

    @torch.no_grad()
    def __init__(self, model: Sam, features: torch.Tensor) -> None:
        self.model, self.grid = model, (features.shape[-2], features.shape[-1])
        with self._own_precision():
            transformer = model.mask_decoder.transformer
            shared = self._shared(features)
            self._readers, self._updates = [], []
            for index, block in enumerate(transformer.layers):
                attention = block.cross_attn_token_to_image
                self._readers.append(TokenReader(attention, shared, first=index == 0))
                self._updates.append(CellUpdate(block, index, shared))
            self._last = TokenReader(transformer.final_attn_token_to_image, shared, first=False)
            upscale = model.mask_decoder.output_upscaling[0]
            self._up_weight, bias = spread_weight(upscale)
            self._up_picture = F.linear(shared.picture, self._up_weight)
            self._up_constant = F.linear(shared.constant, self._up_weight, bias)
            self._shared_rows, self._drawn_rows = len(shared.rows), shared.drawn_rows

    def _own_precision(self) -> torch.autocast:
        return torch.autocast(self.model.device.type, enabled=False)

    def _shared(self, features: torch.Tensor) -> SharedCells:
        encoder = self.model.prompt_encoder
        picture, position = image_cells(features)[0], encoder.dense_pe(*self.grid)[0]
        drawn = picture.new_empty(0, picture.shape[1])
        if self.model.draws_prompts:
            last = encoder.mask_downscaling[-1]
            drawn, picture = last.weight.flatten(1).T, picture + last.bias
        else:
            picture = picture + encoder.no_mask()[0]
        constants = picture.new_zeros(len(self.model.mask_decoder.transformer.layers), len(drawn.T))
        return SharedCells(
            picture=picture,
            position=position,
            constant=picture.new_zeros(picture.shape[1]),
            rows=torch.cat([drawn, constants]),
            drawn_rows=len(drawn),
            carries=[],
        )

    @torch.no_grad()
    def read(self, coords: torch.Tensor, labels: torch.Tensor) -> PromptReadings:
        """Predict the quality of all four masks for each of B prompts.

        Args:
            coords: (B, N, 2) as ``Sam.decode_masks`` takes them; B at most
                ``PROMPTS_AT_A_TIME``, or memory grows.
            labels: (B, N).
        """
        with self._own_precision():
            decoder, transformer = self.model.mask_decoder, self.model.mask_decoder.transformer
            tokens = decoder.tokens(self.model.prompt_encoder.sparse(coords, labels))
            heads = self._last.attention.num_heads
            rows = self._shared_rows + len(self._updates) * heads * tokens.shape[1]
            cells = self._untouched(coords, labels, rows)
            work = Workspace(tokens, heads, tokens.shape[1], rows, cells.scale)
            token_pe = tokens
            carried: list[torch.Tensor] = []
            for block, reader, update in zip(
                transformer.layers, self._readers, self._updates, strict=True
            ):
                tokens = block.attend_among_tokens(tokens, token_pe)
                tokens = block.norm2(tokens + reader(tokens + token_pe, cells, work))
                tokens = block.norm3(tokens + block.mlp(tokens))
                update(tokens, token_pe, cells, carried, work)
            attended = self._last(tokens + token_pe, cells, work)
            tokens = transformer.norm_final_attn(tokens + attended)
            return PromptReadings(
                decoder.iou_prediction_head(tokens[:, 0]), decoder.mask_weights(tokens), cells
            )

    def _untouched(self, coords: torch.Tensor, labels: torch.Tensor, rows: int) -> Cells:
        """Return the cells of B prompts before the first layer."""
        batch, count = len(coords), self.grid[0] * self.grid[1]
        like = self._up_picture
        cells = Cells(
            scale=like.new_ones(batch, count),
            mixture=like.new_empty(rows, batch, count),
            vectors=like.new_zeros(batch, rows, len(self._up_weight.T)),
            used=self._shared_rows,
        )
        cells.mixture[self._drawn_rows : self._shared_rows] = 0  # until their layer is reached
        if self.model.draws_prompts:
            encoder = self.model.prompt_encoder
            drawing = encoder.draw(coords, labels, self.grid).to(like.dtype)
            drawn = encoder.mask_downscaling[:-1](drawing)
            cells.mixture[: self._drawn_rows] = drawn.flatten(2).transpose(0, 1)
            last = encoder.mask_downscaling[-1]
            cells.vectors[:, : self._drawn_rows] = last.weight.flatten(1).T
        return cells

    @torch.no_grad()
    def decode(
        self, coords: torch.Tensor, labels: torch.Tensor, outputs: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode any number of prompts, as ``Sam.decode_masks`` does.

        Args:
            coords: (B, N, 2).
            labels: (B, N).
            outputs: (M,) indices of the outputs wanted.

        Returns:
            (B, M, 4h, 4w) low-res logits and (B, M) predicted IoU.
        """
        masks, scores = [], []
        for some in torch.arange(len(coords), device=coords.device).split(PROMPTS_AT_A_TIME):
            readings = self.read(coords[some], labels[some])
            masks += [self.masks(readings, prompt, outputs) for prompt in range(len(some))]
            scores.append(readings.iou_predictions[:, outputs])
        return torch.stack(masks), torch.cat(scores)

    @torch.no_grad()
    def masks(self, readings: PromptReadings, prompt: int, outputs: torch.Tensor) -> torch.Tensor:
        """Compute some of one prompt's masks.

        Args:
            readings: From ``read``.
            prompt: Which of its prompts.
            outputs: (M,) indices of the four outputs.

        Returns:
            (M, 4h, 4w) low-res logits.
        """
        with self._own_precision():
            decoder = self.model.mask_decoder
            cells, weights = readings.cells, readings.mask_weights[prompt, outputs]
            scale, mixture = cells.scale[prompt], cells.mixture[:, prompt]
            up_vectors = F.linear(cells.vectors[prompt], self._up_weight)
            up = torch.addcmul(self._up_constant, scale[:, None], self._up_picture)
            up.addmm_(mixture.T, up_vectors)
            sub_cells = decoder.upscale(up.unflatten(-1, (4, -1))).flatten(0, 2)  # (L * 16, C/8)
            return arrange_sub_cells(weights @ sub_cells.T, self.grid)


@dataclass(frozen=True, eq=False)
class PlainReadings:
    """What a decoder makes of B prompts: (B, 4) predicted IoU and (B, 4, 4h, 4w) logits."""

    iou_predictions: torch.Tensor
    low_res_logits: torch.Tensor


class PlainPrompts:
    """The same for a decoder with adapters, hooks or quantised layers in it: it is asked itself.

    Args:
        model: The model that made ``features``.
        features: (1, 256, h, w) image embedding.
    """

    def __init__(self, model: Sam, features: torch.Tensor) -> None:
        self.model, self.features = model, features

    @torch.no_grad()
    def read(self, coords: torch.Tensor, labels: torch.Tensor) -> PlainReadings:
        """Decode B prompts; as ``ManyPrompts.read``."""
        low_res, iou = self.model.decode_masks(self.features, coords, labels, None)
        return PlainReadings(iou, low_res)

    def masks(self, readings: PlainReadings, prompt: int, outputs: torch.Tensor) -> torch.Tensor:
        """Return some of one prompt's masks; as ``ManyPrompts.masks``."""
        return readings.low_res_logits[prompt, outputs]


def prompts_of(model: Sam, features: torch.Tensor) -> ManyPrompts | PlainPrompts:
    """Make a picture ready for many prompts, in the quicker way where that gives the same."""
    is_plain = model.mask_decoder.transformer.is_plain
    return ManyPrompts(model, features) if is_plain else PlainPrompts(model, features)
