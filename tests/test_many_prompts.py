"""Decoding many prompts by factors gives what the plain decoder gives."""

from __future__ import annotations

import pytest
import torch

from mobilesam.modeling import Sam, build_model
from mobilesam.modeling.many_prompts import ManyPrompts
from mobilesam.modeling.mask_decoder import arrange_sub_cells

POINT, CORNERS, SEVERAL = [1, -1], [2, 3], [1, 0, 1, -1]  # labels of one prompt


def shaken_model(draws_prompts: bool) -> Sam:
    """Random values everywhere: fresh biases of zero and norms of one would hide mistakes."""
    torch.manual_seed(0)
    model = build_model("deit_tiny", 96, pads_to_square=False, draws_prompts=draws_prompts)
    with torch.no_grad():
        for parameter in [*model.mask_decoder.parameters(), *model.prompt_encoder.parameters()]:
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def prompts(labels: list[int], count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    coords = torch.sort(torch.rand(count, len(labels), 2), dim=1).values * torch.tensor([90, 60])
    return coords, torch.tensor(labels).expand(count, -1)


@pytest.mark.parametrize("draws_prompts", [False, True])
@pytest.mark.parametrize("labels", [POINT, CORNERS, SEVERAL])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)], ids=str
)
def test_the_factors_give_the_plain_decoders_result(
    draws_prompts: bool, labels: list[int], dtype: torch.dtype, tolerance: float
) -> None:
    model = shaken_model(draws_prompts).to(dtype)
    features = torch.randn(1, 256, 4, 6, dtype=dtype)
    coords, kinds = prompts(labels)
    coords = coords.to(dtype)
    with torch.enable_grad():  # nothing folded in the decoder either
        plain, plain_iou = model.decode_masks(features, coords, kinds)
    many = ManyPrompts(model, features)
    readings = many.read(coords, kinds)
    assert plain.std() > 0.1
    assert plain_iou.std(dim=0).min() > 1e-4
    torch.testing.assert_close(readings.iou_predictions, plain_iou, atol=tolerance, rtol=0)
    for prompt in range(len(coords)):
        masks = many.masks(readings, prompt, torch.tensor([3, 0, 1]))
        torch.testing.assert_close(masks, plain[prompt, [3, 0, 1]], atol=tolerance, rtol=0)


def test_prompts_of_a_batch_do_not_see_each_other() -> None:
    model, features = shaken_model(draws_prompts=True), torch.randn(1, 256, 6, 6)
    coords, kinds = prompts(POINT, count=5)
    many = ManyPrompts(model, features)
    together = many.read(coords, kinds)
    for prompt in range(5):
        alone = many.read(coords[prompt, None], kinds[prompt, None])
        torch.testing.assert_close(
            together.iou_predictions[prompt], alone.iou_predictions[0], atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(
            many.masks(together, prompt, torch.tensor([2])),
            many.masks(alone, 0, torch.tensor([2])),
            atol=1e-4,
            rtol=0,
        )


@pytest.mark.parametrize("draws_prompts", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_changes_nothing(draws_prompts: bool, dtype: torch.dtype) -> None:
    model, features = shaken_model(draws_prompts), torch.randn(1, 256, 4, 6)
    coords, kinds = prompts(POINT, count=9)
    outputs = torch.tensor([1, 2, 3])
    expected = ManyPrompts(model, features).decode(coords, kinds, outputs)
    with torch.autocast("cpu", dtype):
        given = ManyPrompts(model, features).decode(coords, kinds, outputs)
    for one, other in zip(given, expected, strict=True):
        assert torch.equal(one, other)


def test_sub_cells_are_laid_out_as_nested_squares() -> None:
    # 1 x 2 cells; each is 2 x 2 sub-cells of 2 x 2 logits, counted row by row at both levels
    maps = arrange_sub_cells(torch.arange(32.0)[None], (1, 2))
    assert maps.shape == (1, 4, 8)
    expected = [
        [0, 1, 4, 5, 16, 17, 20, 21],
        [2, 3, 6, 7, 18, 19, 22, 23],
        [8, 9, 12, 13, 24, 25, 28, 29],
        [10, 11, 14, 15, 26, 27, 30, 31],
    ]
    assert maps[0].tolist() == expected
