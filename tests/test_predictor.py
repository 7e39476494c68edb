"""Encode once, decode often: shapes, sizes, choices, refusals, and the same answer every way."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobilesam import ImageEmbedding, Predictor, load_model
from mobilesam.masks import mask_iou
from mobilesam.modeling import Sam, build_model, prepare_for_inference
from mobilesam.modeling.many_prompts import PROMPTS_AT_A_TIME
from mobilesam.predictor import MANY_PROMPTS
from mobilesam.training.checkpointing import save_model
from tests.conftest import disk_photo

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def embedding(small_predictor: Predictor) -> ImageEmbedding:
    photo = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    return small_predictor.encode(photo)


def test_an_embedding_knows_its_picture(embedding: ImageEmbedding) -> None:
    assert embedding.original_size == (90, 160)
    assert embedding.input_size == (72, 128)
    assert embedding.features.shape == (1, 256, 5, 8)
    assert embedding.encode_ms > 0
    assert embedding.nbytes == 4 * 40 * (256 + 3 * 128)
    with pytest.raises(dataclasses.FrozenInstanceError):
        embedding.original_size = (1, 1)


def test_an_embedding_can_be_copied_and_pickled(
    small_predictor: Predictor, embedding: ImageEmbedding
) -> None:
    expected = small_predictor.predict(embedding, points=[(80, 40)]).low_res_logits
    for twin in (copy.deepcopy(embedding), pickle.loads(pickle.dumps(embedding))):
        again = small_predictor.predict(twin, points=[(80, 40)]).low_res_logits
        np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize(
    ("prompt", "count"),
    [
        ({"points": [(80, 40)]}, 3),
        ({"points": [(80, 40)], "multimask_output": False}, 1),
        ({"points": [(80, 40), (20, 20)], "labels": [1, 0]}, 1),
        ({"points": [(80, 40), (20, 20)], "multimask_output": True}, 3),
        ({"box": (10, 10, 60, 60)}, 1),
        ({"box": (10, 10, 60, 60), "points": [(30, 30)], "labels": [0]}, 1),
    ],
)
def test_how_many_masks(
    small_predictor: Predictor, embedding: ImageEmbedding, prompt: dict, count: int
) -> None:
    result = small_predictor.predict(embedding, **prompt)
    assert result.masks.shape == (count, 90, 160)
    assert result.masks.dtype == bool
    assert result.iou_predictions.shape == (count,)
    assert result.low_res_logits.shape == (count, 20, 32)
    assert result.best == int(np.argmax(result.iou_predictions))
    assert result.decode_ms > 0


def test_stability_is_that_of_the_logits_over_the_photo(
    small_model: Sam, noise_photo: np.ndarray
) -> None:
    model = copy.deepcopy(small_model)
    model.pads_to_square = True
    predictor = Predictor(model)
    result = predictor.predict(predictor.encode(noise_photo), points=[(80, 40)])
    assert result.low_res_logits.shape == (3, 32, 32)
    for offset in (0.02, 1.0):
        scores = result.stability_scores(offset)
        assert scores.dtype == np.float32
        for logits, score in zip(result.low_res_logits, scores, strict=True):
            seen = logits[:18]  # 72 of 128 px, the rest is padding
            smaller, larger = (np.count_nonzero(seen > cut) for cut in (offset, -offset))
            assert score == pytest.approx(smaller / larger, abs=1e-6)
    assert 0.3 < result.stability_scores(0.02).min() < 1


def test_candidates_offer_everything(small_predictor: Predictor, embedding: ImageEmbedding) -> None:
    click = {"points": [(80, 40)], "labels": [1]}
    offered = small_predictor.candidates(embedding, **click)
    three = small_predictor.predict(embedding, **click)
    np.testing.assert_array_equal(offered.masks, three.masks)
    assert offered.best == three.best
    box = {"box": (10, 10, 60, 60)}
    offered = small_predictor.candidates(embedding, **box)
    single = small_predictor.predict(embedding, **box)
    multi = small_predictor.predict(embedding, **box, multimask_output=True)
    assert offered.best == 0
    np.testing.assert_array_equal(offered.low_res_logits[:1], single.low_res_logits)
    np.testing.assert_array_equal(offered.low_res_logits[1:], multi.low_res_logits)


def test_boxes_in_one_call_equal_single_calls(
    small_predictor: Predictor, embedding: ImageEmbedding
) -> None:
    boxes = [(10, 10, 60, 60), (70, 20, 150, 80), (0, 0, 160, 90)]
    together = small_predictor.predict(embedding, boxes=boxes)
    assert together.masks.shape == (3, 1, 90, 160)
    assert together.areas.shape == (3, 1)
    for index, box in enumerate(boxes):
        alone = small_predictor.predict(embedding, box=box)
        np.testing.assert_allclose(
            together.low_res_logits[index], alone.low_res_logits, atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("count", [MANY_PROMPTS, 3 * PROMPTS_AT_A_TIME + 1])
@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("draws_prompts", [False, True])
def test_many_boxes_equal_single_calls(count: int, multimask: bool, draws_prompts: bool) -> None:
    torch.manual_seed(count)
    model = build_model("deit_tiny", 128, pads_to_square=False, draws_prompts=draws_prompts)
    predictor = Predictor(prepare_for_inference(model))
    photo = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    embedding = predictor.encode(photo)
    corners = np.random.default_rng(count).uniform(0, 60, (count, 2))
    boxes = np.concatenate([corners, corners + 30], axis=1)
    together = predictor.predict(embedding, boxes=boxes, multimask_output=multimask)
    assert together.iou_predictions.shape == (count, 3 if multimask else 1)
    for index, box in enumerate(boxes):
        alone = predictor.predict(embedding, box=box, multimask_output=multimask)
        for name in ("low_res_logits", "iou_predictions"):
            got, expected = getattr(together, name)[index], getattr(alone, name)
            np.testing.assert_allclose(got, expected, atol=2e-5, rtol=0)


def test_boxes_that_refine_a_mask_are_decoded_a_few_at_a_time(
    small_predictor: Predictor, embedding: ImageEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    decode_masks = Sam.decode_masks

    def noted(model: Sam, features: torch.Tensor, coords: torch.Tensor, *rest: object) -> object:
        sizes.append(len(coords))
        return decode_masks(model, features, coords, *rest)

    mask = small_predictor.predict(embedding, box=(10, 10, 90, 60)).low_res_logits
    monkeypatch.setattr(Sam, "decode_masks", noted)
    boxes = [(x, 10, x + 40, 60) for x in range(2 * PROMPTS_AT_A_TIME + 3)]
    together = small_predictor.predict(embedding, boxes=boxes, mask_input=mask)
    assert sizes == [PROMPTS_AT_A_TIME, PROMPTS_AT_A_TIME, 3]
    alone = small_predictor.predict(embedding, box=boxes[-1], mask_input=mask)
    np.testing.assert_allclose(together.low_res_logits[-1], alone.low_res_logits, atol=2e-5, rtol=0)


def test_an_earlier_mask_is_a_prompt(small_predictor: Predictor, embedding: ImageEmbedding) -> None:
    first = small_predictor.predict(embedding, points=[(80, 40)])
    logits = first.low_res_logits[first.best]
    click = {"points": [(80, 40)], "labels": [1]}
    refined = small_predictor.predict(embedding, **click, mask_input=logits)
    same = small_predictor.predict(embedding, **click, mask_input=logits[None])
    without = small_predictor.predict(embedding, **click, multimask_output=False)
    assert refined.masks.shape == (1, 90, 160)
    np.testing.assert_array_equal(refined.low_res_logits, same.low_res_logits)
    assert np.abs(refined.low_res_logits - without.low_res_logits).max() > 1e-4
    alone = small_predictor.predict(embedding, mask_input=logits)
    assert alone.masks.shape == (1, 90, 160)
    low_res, _ = small_predictor.model.decode_masks(
        embedding.features,
        torch.zeros(1, 0, 2),
        torch.zeros(1, 0, dtype=torch.long),
        torch.from_numpy(logits)[None, None],
    )
    np.testing.assert_allclose(alone.low_res_logits, low_res[0, :1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(256, 256), (2, 20, 32), (32, 20)])
def test_a_mask_of_another_shape_is_refused(
    small_predictor: Predictor, embedding: ImageEmbedding, shape: tuple
) -> None:
    with pytest.raises(ValueError, match=r"shape \(20, 32\)"):
        small_predictor.predict(embedding, points=[(1, 1)], mask_input=np.zeros(shape))
    with pytest.raises(ValueError, match="finite"):
        small_predictor.predict(embedding, mask_input=np.full((20, 32), np.nan))


def test_what_is_no_embedding_is_told_to_be_encoded(
    small_predictor: Predictor, noise_photo: np.ndarray
) -> None:
    for picture in ("photo.jpg", noise_photo, None):
        for call in (small_predictor.predict, small_predictor.candidates):
            with pytest.raises(TypeError, match=r"encode the picture first: predictor\.encode"):
                call(picture, points=[(1, 1)])


@pytest.mark.parametrize("boxes", [[], (), np.zeros((0, 4)), torch.zeros(0, 4)])
def test_no_boxes_no_masks(
    small_predictor: Predictor, embedding: ImageEmbedding, boxes: object
) -> None:
    result = small_predictor.predict(embedding, boxes=boxes)
    assert result.masks.shape == (0, 1, *embedding.original_size)
    assert result.iou_predictions.shape == (0, 1)


def test_a_mask_that_is_none_is_named(
    small_predictor: Predictor, embedding: ImageEmbedding
) -> None:
    with pytest.raises(TypeError, match="mask_input must be numbers; got"):
        small_predictor.predict(embedding, mask_input="x")


def test_an_embedding_of_another_model_is_refused(embedding: ImageEmbedding) -> None:
    other = Predictor(build_model("deit_tiny", 64, name="other"))
    with pytest.raises(ValueError, match="made by deit_tiny, the predictor holds other"):
        other.predict(embedding, points=[(1, 1)])


def test_models_of_one_name_are_told_apart(
    small_model: Sam, embedding: ImageEmbedding, tmp_path: Path
) -> None:
    namesake = Predictor(build_model("deit_tiny", 128, pads_to_square=False))
    for other in (embedding, pickle.loads(pickle.dumps(embedding))):
        with pytest.raises(ValueError, match="made by another deit_tiny"):
            namesake.predict(other, points=[(1, 1)])
    Predictor(copy.deepcopy(small_model)).predict(embedding, points=[(1, 1)])  # the same weights
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        save_model(build_model("deit_tiny", 64), folder / "model.safetensors", {})
    first, second = (Predictor(load_model(folder / "model.safetensors")) for folder in folders)
    assert first.model.name == second.model.name == "model"
    photo = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match="made by another model"):
        second.predict(first.encode(photo), points=[(1, 1)])


def test_other_weights_make_another_model() -> None:
    model = build_model("deit_tiny", 64)
    embedding = Predictor(model).encode(np.zeros((64, 64, 3), np.uint8))
    model.load_state_dict(build_model("deit_tiny", 64).state_dict())
    with pytest.raises(ValueError, match="another deit_tiny"):
        Predictor(model).predict(embedding, points=[(1, 1)])


def test_a_batch_says_how_to_read_it(small_predictor: Predictor, embedding: ImageEmbedding) -> None:
    boxes = [(10, 10, 60, 60), (70, 20, 150, 80)]
    result = small_predictor.predict(embedding, boxes=boxes, multimask_output=True)
    assert result.masks.shape == (2, 3, 90, 160)
    assert result.preview(40).shape == (2, 3, 22, 40)
    with pytest.raises(
        ValueError,
        match=r"batch of 2 boxes; .* or use iou_predictions.argmax",
    ):
        _ = result.best
    for read in (result.mask, result.logits):
        with pytest.raises(ValueError, match=r"batch of 2 boxes; .*masks\[k, m\]"):
            read(0)
    with pytest.raises(ValueError, match=r"batch of 2 boxes; .*\[k\]\.stability_scores"):
        result.stability_scores()
    second = result[1]
    assert second.best == int(result.iou_predictions[1].argmax())
    np.testing.assert_array_equal(second.mask(2), result.masks[1, 2])
    assert len(list(result)) == 2
    with pytest.raises(IndexError):
        _ = result[2]
    with pytest.raises(ValueError, match="no batch"):
        _ = second[0]


def test_the_models_threshold_is_heeded(small_model: Sam, embedding: ImageEmbedding) -> None:
    model = copy.deepcopy(small_model)
    at_zero = Predictor(model).predict(embedding, points=[(80, 40)])
    model.mask_threshold = float(np.median(at_zero.logits(0)))
    result = Predictor(model).predict(embedding, points=[(80, 40)])
    expected = at_zero.logits(0) > model.mask_threshold
    assert 0.4 < expected.mean() < 0.6
    np.testing.assert_array_equal(result.mask(0), expected)
    np.testing.assert_array_equal(result.masks[0], expected)
    np.testing.assert_array_equal(result.preview()[0], expected)


def test_a_decoder_can_be_trained_on_an_embedding(embedding: ImageEmbedding) -> None:
    decoder = build_model("deit_tiny", 128, pads_to_square=False)
    coords, labels = torch.tensor([[[20.0, 20.0]]]), torch.tensor([[1]])
    low_res, _ = decoder.decode_masks(embedding.features, coords, labels)
    low_res.sum().backward()
    assert decoder.mask_decoder.mask_tokens.weight.grad is not None


def test_bad_prompts_reach_the_caller(
    small_predictor: Predictor, embedding: ImageEmbedding
) -> None:
    with pytest.raises(ValueError, match="No prompt"):
        small_predictor.predict(embedding)
    with pytest.raises(ValueError, match="lie in the picture"):
        small_predictor.predict(embedding, points=[(1000, 1)])


def test_previews_and_areas_follow_the_masks(embedded: Predictor) -> None:
    photo, truth = disk_photo(1500, 2000, (900, 700), 350)
    result = embedded.predict(embedded.encode(photo), points=[(900, 700)])
    preview = result.preview()
    assert preview.shape == (3, 768, 1024)
    best = result.mask(result.best)
    np.testing.assert_array_equal(best, result.masks[result.best])
    assert abs(result.areas[result.best] - best.sum()) <= 0.005 * best.sum()
    assert mask_iou(best, truth) > 0.8, "a click on a plain disk finds the disk"


@pytest.mark.parametrize(("height", "width"), [(64, 64), (1, 300), (300, 1), (1, 1), (37, 411)])
def test_odd_sizes(embedded: Predictor, height: int, width: int) -> None:
    photo = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    result = embedded.predict(embedded.encode(photo), points=[(width // 2, height // 2)])
    assert result.masks.shape == (3, height, width)


def test_every_source_gives_the_same_embedding(embedded: Predictor, tmp_path: Path) -> None:
    photo, _ = disk_photo(90, 120, (60, 45), 20)
    path = tmp_path / "photo ü.png"
    Image.fromarray(photo).save(path)
    features = [
        embedded.encode(source).features for source in (photo, Image.fromarray(photo), path)
    ]
    for other in features[1:]:
        torch.testing.assert_close(other, features[0], atol=0, rtol=0)


def test_a_click_on_the_cat_finds_a_mask_worth_showing(embedded: Predictor) -> None:
    embedding = embedded.encode(EXAMPLES / "cat.jpg")
    height, width = embedding.original_size
    click = (width * 0.45, height * 0.4)
    result = embedded.predict(embedding, points=[click])
    best = result.mask(result.best)
    assert best[int(click[1]), int(click[0])]
    assert 0.05 < best.mean() < 0.95


def test_a_copy_in_half_precision_answers_for_the_same_embedding(
    small_predictor: Predictor, noise_photo: np.ndarray
) -> None:
    embedding = small_predictor.encode(noise_photo)
    half = Predictor(copy.deepcopy(small_predictor.model).to(torch.bfloat16))
    boxes = np.array([(10 + 8 * k, 10, 60 + 8 * k, 70) for k in range(8)])
    for wanted in ({"points": [(80, 40)]}, {"boxes": boxes[:2]}, {"boxes": boxes}):
        expected = small_predictor.predict(embedding, **wanted).low_res_logits
        np.testing.assert_allclose(
            half.predict(embedding, **wanted).low_res_logits, expected, atol=0.05
        )


def test_points_may_be_tensors_that_are_trained(
    small_predictor: Predictor, noise_photo: np.ndarray
) -> None:
    embedding = small_predictor.encode(noise_photo)
    point = torch.tensor([80.0, 40.0], requires_grad=True)
    expected = small_predictor.predict(embedding, points=[(80, 40)])
    given = small_predictor.predict(embedding, points=[point])
    np.testing.assert_array_equal(given.low_res_logits, expected.low_res_logits)
