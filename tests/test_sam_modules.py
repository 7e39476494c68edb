"""SAM's modules are called one by one, as fine-tuning loops do."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobilesam import Predictor, SamPredictor, sam_model_registry
from mobilesam.modeling import Sam, build_model, prepare_for_inference, prepare_for_training
from tests.official_checkpoints import FIXTURES, write_official_checkpoint
from tests.test_parity import CASES

FRAME = (72, 128)  # of a photo of 90 x 160 in a frame of 128


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> SamPredictor:
    """MobileSAM from a file in the official layout, the reference picture set."""
    path = write_official_checkpoint("t", tmp_path_factory.mktemp("checkpoints"))
    predictor = SamPredictor(sam_model_registry["vit_t"](checkpoint=path))
    predictor.set_image(np.asarray(Image.open(FIXTURES / "reference_image.png")))
    return predictor


def by_modules(
    sam: Sam,
    features: torch.Tensor,
    points: tuple[torch.Tensor, torch.Tensor] | None = None,
    boxes: torch.Tensor | None = None,
    masks: torch.Tensor | None = None,
    multimask_output: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode as the body of MedSAM's ``forward`` does."""
    sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=masks)
    return sam.mask_decoder(
        image_embeddings=features,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask_output,
    )


@pytest.mark.parity
def test_the_image_encoder_gives_the_originals_embedding(official: SamPredictor) -> None:
    sam, reference = official.model, np.load(FIXTURES / "reference_vit_t.npz")
    photo = official.transform.apply_image(np.asarray(Image.open(FIXTURES / "reference_image.png")))
    pixels = sam.preprocess(torch.from_numpy(photo).permute(2, 0, 1)[None])
    assert pixels.shape == (1, 3, 1024, 1024)
    with torch.no_grad():
        features = sam.image_encoder(pixels)
    sampled = features.numpy().ravel()[reference["embedding_index"]]
    assert np.abs(sampled - reference["embedding_values"]).max() <= 1e-4


@pytest.mark.parity
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("gradients", [True, False])
def test_prompt_encoder_and_decoder_give_the_originals_masks(
    official: SamPredictor, case: str, gradients: bool
) -> None:
    sam, reference = official.model, np.load(FIXTURES / "reference_vit_t.npz")
    size, given = official.original_size, CASES[case]
    with torch.set_grad_enabled(gradients):
        prompt = {}
        if "points" in given:
            coords = official.transform.apply_coords_torch(torch.tensor(given["points"]), size)
            prompt["points"] = (coords[None], torch.tensor([given["labels"]]))
        if "box" in given:
            prompt["boxes"] = official.transform.apply_boxes_torch(
                torch.tensor([given["box"]]), size
            )
        if case == "mask":
            earlier, _ = by_modules(sam, official.features, **prompt, multimask_output=True)
            prompt["masks"] = earlier[:, :1]
        low_res, iou = by_modules(
            sam, official.features, **prompt, multimask_output=given["multimask_output"]
        )
    assert low_res.requires_grad == gradients
    low_res, iou = low_res.detach(), iou.detach()
    assert low_res.shape == (1, 3 if given["multimask_output"] else 1, 256, 256)
    difference = low_res[0, :, ::4, ::4].numpy() - reference[f"{case}.low_res_logits"]
    assert np.abs(difference).max() <= 1e-3
    assert np.abs(iou[0].numpy() - reference[f"{case}.iou_predictions"]).max() <= 1e-4
    masks = sam.postprocess_masks(low_res, official.input_size, size) > sam.mask_threshold
    areas = masks[0].sum(dim=(1, 2)).numpy()
    np.testing.assert_allclose(areas, reference[f"{case}.mask_area"], rtol=1e-3)


def test_names_shapes_and_types_are_the_originals(official: SamPredictor) -> None:
    sam = official.model
    prompts, decoder = sam.prompt_encoder, sam.mask_decoder
    assert prompts.image_embedding_size == (64, 64)
    assert (prompts.input_image_size, prompts.mask_input_size) == ((1024, 1024), (256, 256))
    assert (prompts.embed_dim, decoder.transformer_dim) == (256, 256)
    assert (decoder.num_mask_tokens, decoder.num_multimask_outputs) == (4, 3)
    assert (sam.image_encoder.img_size, sam.image_format, sam.mask_threshold) == (1024, "RGB", 0.0)
    assert sam.pixel_mean.shape == sam.pixel_std.shape == (3, 1, 1)
    assert sam.device == torch.device("cpu")
    assert sam.preprocess(torch.zeros(3, 700, 1024)).shape == (3, 1024, 1024)
    assert prompts.get_dense_pe().shape == (1, 256, 64, 64)
    points = (torch.ones(3, 2, 2), torch.ones(3, 2))
    for prompt, rows in (
        ((points, None, None), 3),  # and the padding point
        ((None, torch.ones(3, 4), None), 2),
        ((points, torch.ones(3, 1, 4), None), 4),
        ((None, None, torch.ones(3, 1, 256, 256)), 0),
    ):
        sparse, dense = prompts(*prompt)
        assert (sparse.shape, dense.shape) == ((3, rows, 256), (3, 256, 64, 64))
        assert sparse.dtype == dense.dtype == torch.float32
    sparse, dense = prompts(points=None, boxes=None, masks=None)
    assert (sparse.shape, dense.shape) == ((1, 0, 256), (1, 256, 64, 64))


@pytest.mark.parametrize("prepare", [prepare_for_inference, prepare_for_training])
@pytest.mark.parametrize("draws", [False, True])
@pytest.mark.parametrize("pads", [False, True])
def test_modules_give_what_the_predictor_gives(prepare, draws: bool, pads: bool) -> None:
    torch.manual_seed(0)
    sam = prepare(build_model("deit_tiny", 128, pads_to_square=pads, draws_prompts=draws))
    photo = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    predictor = Predictor(sam)
    embedding = predictor.encode(photo)
    transform = SamPredictor(sam).transform
    pixels = torch.from_numpy(transform.apply_image(photo)).permute(2, 0, 1)[None]
    features = sam.image_encoder(sam.preprocess(pixels))
    assert features.shape == (1, 256, *((8, 8) if pads else (5, 8)))
    torch.testing.assert_close(features.detach(), embedding.features, atol=1e-5, rtol=0)
    point, box = [(80, 40)], (10, 10, 60, 60)
    coords = transform.apply_coords_torch(torch.tensor([point]), (90, 160))
    boxes = transform.apply_boxes_torch(torch.tensor([box]), (90, 160))
    click = (coords, torch.tensor([[1]]))
    earlier = predictor.predict(embedding, points=point).low_res_logits[:1]
    masks = torch.from_numpy(earlier)[None]
    for mine, ours in (
        ({"points": click}, {"points": point}),
        ({"boxes": boxes}, {"box": box}),
        ({"points": click, "boxes": boxes, "masks": masks},
         {"points": point, "box": box, "mask_input": earlier}),
    ):  # fmt: skip
        for multimask in (True, False):
            low_res, iou = by_modules(sam, features, **mine, multimask_output=multimask)
            expected = predictor.predict(embedding, **ours, multimask_output=multimask)
            given = low_res[0].detach().numpy(), iou[0].detach().numpy()
            np.testing.assert_allclose(given[0], expected.low_res_logits, atol=1e-5)
            np.testing.assert_allclose(given[1], expected.iou_predictions, atol=1e-5)
    shown = sam.postprocess_masks(low_res, FRAME, (90, 160)) > sam.mask_threshold
    np.testing.assert_array_equal(shown[0], expected.masks)


def test_one_picture_for_each_prompt_or_one_for_all(small_model: Sam) -> None:
    features, boxes = torch.randn(2, 256, 8, 8), torch.tensor([[5.0, 5, 60, 60], [9, 9, 90, 90]])
    together, _ = by_modules(small_model, features, boxes=boxes)
    for index in range(2):
        one = slice(index, index + 1)
        alone, _ = by_modules(small_model, features[one], boxes=boxes[one])
        torch.testing.assert_close(together[one], alone, atol=1e-5, rtol=0)
    shared, _ = by_modules(small_model, features[:1], boxes=boxes)
    torch.testing.assert_close(shared[:1], together[:1], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="one for each of the 2 prompts; got 3"):
        by_modules(small_model, torch.randn(3, 256, 8, 8), boxes=boxes)
    with pytest.raises(ValueError, match=r"the 9 x 8 cells of image_embeddings"):
        by_modules(small_model, torch.randn(1, 256, 9, 8), boxes=boxes)
    with pytest.raises(ValueError, match=r"the 8 x 8 cells .* \(2, 256, 4, 8\)"):
        by_modules(small_model, features[:1], boxes=boxes, masks=torch.zeros(2, 1, 16, 32))


def test_no_prompt_at_all_is_one_as_in_sam(small_model: Sam, noise_photo: np.ndarray) -> None:
    predictor = SamPredictor(small_model)
    predictor.set_image(noise_photo)
    expected, iou = by_modules(small_model, predictor.features, multimask_output=True)
    _, scores, low_res = predictor.predict()
    np.testing.assert_allclose(low_res, expected[0], atol=1e-5)
    np.testing.assert_allclose(scores, iou[0], atol=1e-5)
    torch.testing.assert_close(predictor.predict_torch(None, None)[2], expected)
    pixels = torch.from_numpy(predictor.transform.apply_image(noise_photo)).permute(2, 0, 1)
    record = {"image": pixels, "original_size": (90, 160)}
    (output,) = small_model([record], multimask_output=True)
    torch.testing.assert_close(output["low_res_logits"], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_prompts_of_any_dtype(small_model: Sam, noise_photo: np.ndarray, dtype) -> None:
    predictor = SamPredictor(small_model)
    predictor.set_image(noise_photo)
    points, labels = torch.tensor([[[40, 20], [8, 8]]]), torch.tensor([[1, 0]])
    boxes, masks = torch.tensor([[8, 8, 64, 64]]), torch.ones(1, 1, 20, 32)
    expected = predictor.predict_torch(points.float(), labels, boxes.float(), masks)
    given = [each.to(dtype) for each in (points, labels, boxes, masks)]
    for one, other in zip(predictor.predict_torch(*given), expected, strict=True):
        torch.testing.assert_close(one, other)
    plain = Predictor(small_model)
    embedding = plain.encode(noise_photo)
    halves = {"points": given[0][0], "labels": given[1][0], "mask_input": given[3][0, 0]}
    whole = {"points": points[0], "labels": labels[0], "mask_input": masks[0, 0].numpy()}
    low_res = [plain.predict(embedding, **each).low_res_logits for each in (halves, whole)]
    np.testing.assert_array_equal(*low_res)
    in_frame = predictor.transform.apply_boxes_torch(boxes.to(dtype), (90, 160))
    assert in_frame.dtype == torch.float32
    torch.testing.assert_close(in_frame, boxes * 0.8)


@pytest.mark.parametrize("multimask", [True, False])
def test_a_detector_that_found_nothing(
    small_model: Sam, noise_photo: np.ndarray, multimask: bool
) -> None:
    predictor, count = SamPredictor(small_model), 3 if multimask else 1
    predictor.set_image(noise_photo)
    boxes = predictor.transform.apply_boxes_torch(torch.zeros(0, 4), (90, 160))
    words = {"boxes": boxes, "multimask_output": multimask}
    masks, iou, low_res = predictor.predict_torch(None, None, **words)
    assert (masks.shape, masks.dtype) == ((0, count, 90, 160), torch.bool)
    assert (iou.shape, low_res.shape) == ((0, count), (0, count, 20, 32))
    logits, _, _ = predictor.predict_torch(None, None, **words, return_logits=True)
    assert (logits.shape, logits.dtype) == ((0, count, 90, 160), torch.float32)
    points = torch.zeros(0, 1, 2), torch.zeros(0, 1)
    assert predictor.predict_torch(*points, multimask_output=multimask)[1].shape == (0, count)
    low_res, _ = by_modules(small_model, predictor.features, boxes=boxes)
    assert low_res.shape == (0, 1, 20, 32)
    plain = Predictor(small_model)
    result = plain.predict(
        plain.encode(noise_photo), boxes=np.zeros((0, 4)), multimask_output=multimask
    )
    assert (result.masks.shape, result.masks.dtype) == ((0, count, 90, 160), np.dtype(bool))
    assert (result.iou_predictions.shape, result.areas.shape) == ((0, count), (0, count))
    assert result.low_res_logits.shape == (0, count, 20, 32)
    assert list(result) == []


def test_gradients_pass_the_transform() -> None:
    transform = SamPredictor(build_model("deit_tiny", 64)).transform
    boxes = torch.tensor([[10.0, 10, 60, 60]], requires_grad=True)
    scaled = transform.apply_boxes_torch(boxes * 2, (128, 256))
    assert scaled.tolist() == [[5, 5, 30, 30]]
    scaled.sum().backward()
    assert boxes.grad.tolist() == [[0.5] * 4]
    points = torch.zeros(1, 1, 2, requires_grad=True)
    assert transform.apply_coords_torch(points, (128, 256)).requires_grad


def train_two_steps(sam: Sam, parts: list[torch.nn.Module]) -> list[float]:
    """Train as MedSAM does: prompts without gradients, boxes, masks against a square."""
    parameters = [p for part in parts for p in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    size = sam.image_encoder.img_size
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, size, size, generator=generator) * 255
    boxes = torch.tensor([[0.25, 0.25, 0.75, 0.75]] * 2) * size
    truth = torch.zeros(2, 1, size, size)
    truth[..., size // 4 : size * 3 // 4, size // 4 : size * 3 // 4] = 1
    losses = []
    for _ in range(3):
        features = sam.image_encoder(sam.preprocess(images))
        with torch.no_grad():
            sparse, dense = sam.prompt_encoder(points=None, boxes=boxes[:, None, :], masks=None)
        low_res, _ = sam.mask_decoder(
            features, sam.prompt_encoder.get_dense_pe(), sparse, dense, False
        )
        logits = sam.postprocess_masks(low_res, (size, size), (size, size))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_model_from_a_checkpoint_can_be_trained(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    path = tmp_path / "small.pt"
    torch.save(build_model("tiny_vit", 128).state_dict(), path)
    sam = sam_model_registry["vit_t"](checkpoint=path)
    assert not sam.training and sam.image_size == 128
    before = {name: value.clone() for name, value in sam.state_dict().items()}
    losses = train_two_steps(getattr(sam, mode)(), [sam.image_encoder, sam.mask_decoder])
    assert losses[2] < losses[1] < losses[0]
    unchanged = {name for name, value in sam.state_dict().items() if value.equal(before[name])}
    assert "mask_decoder.iou_token.weight" not in unchanged
    assert [name for name in unchanged if name.endswith(".attention_biases")] == []
    assert all("prompt_encoder" in name for name in unchanged if name.endswith("_embed.weight"))
    assert sam.prompt_encoder.no_mask_embed.weight.grad is None


def test_a_decoder_is_trained_between_predictions(small_model: Sam) -> None:
    sam = prepare_for_training(copy.deepcopy(small_model))
    predictor = SamPredictor(sam)
    photo = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    embedding = Predictor(sam).encode(photo)
    predictor.set_image(photo)
    kept = predictor.features
    train_two_steps(sam, [sam.mask_decoder])
    _, _, after = predictor.predict(box=np.array([20, 20, 90, 90]), multimask_output=False)
    fresh, _ = by_modules(sam, kept, boxes=torch.tensor([[20.0, 20, 90, 90]]))
    np.testing.assert_allclose(after, fresh[0].detach(), atol=1e-5)
    result = Predictor(sam).predict(embedding, box=(20, 20, 90, 90))
    np.testing.assert_allclose(result.low_res_logits, fresh[0].detach(), atol=1e-5)
