"""What a fine-tuning script saves comes back; embeddings can be kept and set again."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mobilesam import (
    CheckpointError,
    Predictor,
    SamPredictor,
    load_model,
    official_layout,
    registry,
    sam_model_registry,
)
from mobilesam.modeling import Sam, build_model, prepare_for_inference
from tests.official_checkpoints import official_state_dict

BOX = {"box": np.array([10, 10, 60, 60]), "multimask_output": False}


def shaken(encoder: str, size: int, **options: bool) -> Sam:
    """A model whose every tensor matters: fresh BatchNorms and zero biases hide mistakes."""
    torch.manual_seed(0)
    sam = build_model(encoder, size, **options)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in sam.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("running_mean", "bias", "attention_biases", "bn.weight")):
            tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))
    return sam


def embed(sam: Sam) -> torch.Tensor:
    pixels = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return sam.image_encoder(pixels)


def wrapped(state: dict) -> dict:
    return {"model": state, "optimizer": {"step": 3}, "epoch": 2}


@pytest.mark.parametrize("wrap", [dict, copy.copy, wrapped])
@pytest.mark.parametrize("prepared", [False, True])
def test_mobile_sams_weights_come_back(tmp_path: Path, prepared: bool, wrap) -> None:
    sam = shaken("tiny_vit", 1024)
    expected = embed(sam)
    if prepared:
        prepare_for_inference(sam)
    path = tmp_path / "x.pth"
    torch.save(wrap(sam.state_dict()), path)
    again = sam_model_registry["vit_t"](checkpoint=path)
    assert all(parameter.requires_grad for parameter in again.parameters())
    for model in (again, load_model(path)):
        assert expected.std() > 0.1
        torch.testing.assert_close(embed(model), expected, atol=1e-4, rtol=0)
    built = sam_model_registry["vit_t"]()
    assert built.load_state_dict(sam.state_dict()).missing_keys == []
    torch.testing.assert_close(embed(built), expected, atol=1e-4, rtol=0)
    token = "mask_decoder.iou_token.weight"
    torch.testing.assert_close(built.state_dict()[token], sam.state_dict()[token])


def test_a_model_in_use_takes_other_weights() -> None:
    """timm's attention would go on with the position biases of the ones before."""
    sam, other = sam_model_registry["vit_t"](), shaken("tiny_vit", 1024)
    embed(sam)
    sam.load_state_dict(other.state_dict())
    torch.testing.assert_close(embed(sam), embed(other), atol=1e-4, rtol=0)
    sam.load_state_dict(official_state_dict("t"))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("variant", ["t", "b"])
def test_an_image_encoder_takes_sams_names_by_itself(variant: str, strict: bool) -> None:
    official = official_state_dict(variant)
    expected = sam_model_registry[f"vit_{variant}"]()
    expected.load_state_dict(official)
    alone = copy.deepcopy(sam_model_registry[f"vit_{variant}"]())
    start = "image_encoder."
    theirs = {
        name.removeprefix(start): tensor
        for name, tensor in official.items()
        if name.startswith(start)
    }
    said = alone.image_encoder.load_state_dict(theirs, strict=strict)
    assert (said.missing_keys, said.unexpected_keys) == ([], [])
    assert any(name.startswith("patch_embed.") for name in theirs)  # the caller's stays as it was
    for name, tensor in expected.image_encoder.state_dict().items():
        assert torch.equal(alone.image_encoder.state_dict()[name], tensor), name
    if variant == "t":
        with pytest.raises(RuntimeError, match="prepared for inference"):
            prepare_for_inference(alone).image_encoder.load_state_dict(theirs, strict=strict)


@pytest.mark.parametrize("prepared", [False, True])
def test_other_models_weights_come_back(tmp_path: Path, prepared: bool) -> None:
    sam = shaken("deit_tiny", 128, pads_to_square=False, draws_prompts=True)
    sam = prepare_for_inference(sam) if prepared else sam
    path = tmp_path / "x.pth"
    for state in (sam.state_dict(), wrapped(sam.state_dict())):
        torch.save(state, path)
        again = load_model(path)
        assert (again.image_size, again.pads_to_square, again.draws_prompts) == (128, False, True)
        torch.testing.assert_close(embed(again), embed(sam), atol=1e-5, rtol=0)
        registry._load.cache_clear()  # the file may have changed within the clock's step
    parallel = torch.nn.DataParallel(sam)
    torch.save(parallel.state_dict(), path)
    assert load_model(path).image_size == 128
    tensors = {name: tensor.contiguous() for name, tensor in sam.state_dict().items()}
    save_file(tensors, tmp_path / "x.safetensors", metadata=sam.description)
    assert load_model(tmp_path / "x.safetensors").draws_prompts
    with pytest.raises(ValueError, match="image encoder deit_tiny; tiny_vit was asked for"):
        sam_model_registry["vit_t"](checkpoint=path)


def test_tensors_without_their_description_are_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(dict(build_model("deit_tiny", 64).state_dict()), path)
    with pytest.raises(CheckpointError, match="not its image size; save what state_dict"):
        load_model(path)


def test_sam_s_weights_are_known_by_their_names() -> None:
    tensors = {
        "image_encoder.backbone.patch_embed.proj.weight": torch.zeros(768, 3, 16, 16),
        "image_encoder.backbone.neck.0.weight": torch.zeros(256, 768, 1, 1),
        "image_encoder.backbone.blocks.0.mlp.fc1.weight": torch.zeros(1),
    }
    assert official_layout.encoder_of(tensors) == "sam_vit_b"
    assert official_layout.convert(tensors, "sam_vit_b").keys() == tensors.keys()


def test_a_prepared_model_takes_prepared_weights_only() -> None:
    plain = shaken("tiny_vit", 256)
    prepared = prepare_for_inference(copy.deepcopy(plain))
    prepared.load_state_dict(prepared.state_dict())
    for state in (plain.state_dict(), official_state_dict("t")):
        with pytest.raises(RuntimeError, match=r"prepared for inference, .* load_model\(path\)"):
            prepared.load_state_dict(state)
    decoder = {k: v for k, v in plain.state_dict().items() if k.startswith("mask_decoder")}
    assert prepared.load_state_dict(decoder, strict=False).unexpected_keys == []


@pytest.fixture
def photos() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 255, (*size, 3), np.uint8) for size in ((90, 160), (200, 100))]


def test_embeddings_can_be_kept_and_set_again(small_model: Sam, photos: list) -> None:
    predictor, kept, expected = SamPredictor(small_model), [], []
    for photo in photos:
        predictor.set_image(photo)
        kept.append((predictor.features, predictor.original_size, predictor.input_size))
        expected.append(predictor.predict(**BOX))
    for other in (predictor, SamPredictor(small_model)):
        for parts, results in zip(kept, expected, strict=True):
            other.features, other.original_size, other.input_size = parts
            other.is_image_set = True
            for one, result in zip(other.predict(**BOX), results, strict=True):
                np.testing.assert_allclose(one, result, atol=1e-5)
            assert other.get_image_embedding() is parts[0]
    half = (kept[0][0].half(), torch.tensor([90, 160]), list(kept[0][2]))
    predictor.features, predictor.original_size, predictor.input_size = half
    np.testing.assert_allclose(predictor.predict(**BOX)[2], expected[0][2], atol=0.05)
    predictor.set_image(photos[0])
    predictor.original_size, predictor.input_size = np.array([90, 160]), np.array([72, 128])
    np.testing.assert_allclose(predictor.predict(**BOX)[2], expected[0][2], atol=1e-5)
    predictor.features = kept[0][0].numpy()  # as np.load gives it
    np.testing.assert_allclose(predictor.predict(**BOX)[2], expected[0][2], atol=1e-5)
    transform = predictor.transform
    boxes = transform.apply_boxes_torch(torch.tensor([[10, 10, 60, 60]]), predictor.original_size)
    masks, _, _ = predictor.predict_torch(None, None, boxes)
    assert masks.shape == (1, 3, 90, 160)


def test_weights_changed_after_a_picture_was_set_count(photos: list) -> None:
    sam = build_model("deit_tiny", 128)
    predictor = SamPredictor(sam)
    predictor.set_image(photos[0])
    features = predictor.features
    sam.load_state_dict(build_model("deit_tiny", 128).state_dict())
    _, _, low_res = predictor.predict(**BOX)
    fresh = SamPredictor(sam)
    fresh.features, fresh.original_size, fresh.input_size = features, (90, 160), (72, 128)
    fresh.is_image_set = True
    np.testing.assert_allclose(low_res, fresh.predict(**BOX)[2], atol=1e-5)


def test_features_that_are_written_to_count(small_model: Sam, photos: list) -> None:
    kept = SamPredictor(small_model)
    kept.set_image(photos[0])
    kept.predict(**BOX)
    kept.features.mul_(0.5)
    fresh = SamPredictor(small_model)
    fresh.features, fresh.original_size, fresh.input_size = kept.features, (90, 160), (72, 128)
    fresh.is_image_set = True
    for _ in range(2):
        np.testing.assert_allclose(kept.predict(**BOX)[2], fresh.predict(**BOX)[2], atol=1e-6)


def test_missing_parts_are_named(small_model: Sam, photos: list) -> None:
    predictor = SamPredictor(small_model)
    assert (predictor.features, predictor.is_image_set) == (None, False)
    predictor.set_image(photos[0])
    features = predictor.features
    predictor.reset_image()
    with pytest.raises(RuntimeError, match="No image is set"):
        predictor.predict(**BOX)
    predictor.features = features
    with pytest.raises(RuntimeError, match=r"original_size, input_size, is_image_set = True is"):
        predictor.predict(**BOX)
    predictor.is_image_set = True
    with pytest.raises(RuntimeError, match=r"assigned original_size, input_size is missing"):
        predictor.predict_torch(None, None)
    predictor.original_size, predictor.input_size = (200, 100), (128, 64)
    with pytest.raises(ValueError, match=r"\(1, 256, 8, 4\) .* \(128, 64\); got \(1, 256, 5, 8\)"):
        predictor.get_image_embedding()
    predictor.features = features.numpy()
    with pytest.raises(ValueError, match=r"must be a tensor of shape"):
        predictor.predict(**BOX)


def test_prompts_that_sam_takes_are_taken(small_model: Sam, photos: list) -> None:
    predictor, strict = SamPredictor(small_model), Predictor(small_model)
    predictor.set_image(photos[0])
    embedding = strict.encode(photos[0])
    inside = {"point_coords": np.array([[80, 40]]), "point_labels": np.array([1])}
    expected = predictor.predict(**inside)[2]
    padded = np.array([[80, 40], [3, 3]]), np.array([1, -1])
    in_frame = torch.tensor([[[64.0, 32], [0, 0]]]), torch.tensor([[1, -1]])
    low_res = predictor.predict(*padded)[2]
    np.testing.assert_allclose(low_res, predictor.predict_torch(*in_frame)[2][0], atol=1e-5)
    with pytest.raises(ValueError, match="labels must be 1"):
        strict.predict(embedding, *padded)
    outside = np.array([[-20, 200]])
    scaled = torch.tensor([[[-16.0, 160]]])
    low_res = predictor.predict(outside, np.array([1]))[2]
    from_tensors = predictor.predict_torch(scaled, torch.tensor([[1]]))[2]
    np.testing.assert_allclose(low_res, from_tensors[0], atol=1e-5)
    with pytest.raises(ValueError, match="must lie in the picture"):
        strict.predict(embedding, outside)
    for box in ([-10, -10, 200, 100], [60, 60, 10, 10], [30, 30, 30, 30]):
        low_res = predictor.predict(box=np.array(box))[2]
        from_tensors = predictor.predict_torch(None, None, torch.tensor([box]) * 0.8)[2]
        np.testing.assert_allclose(low_res, from_tensors[0], atol=1e-5)
        with pytest.raises(ValueError, match="A box must"):
            strict.predict(embedding, box=box)
    lone_labels = predictor.predict(point_labels=np.array([1]), box=np.array([10, 10, 60, 60]))
    np.testing.assert_array_equal(lone_labels[2], predictor.predict(box=BOX["box"])[2])
    assert not np.allclose(predictor.predict(np.zeros((0, 2)), np.zeros(0))[2], expected)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({"box": np.zeros((2, 4))}, r"box must have shape \(4,\) or \(1, 4\); got \(2, 4\)"),
        ({"box": np.array([0, 0, np.nan, 5])}, "box must be finite"),
        ({"point_coords": [[1, 1, 1]], "point_labels": [1]}, r"shape \(N, 2\); got \(1, 3\)"),
        ({"point_coords": [1, 1], "point_labels": [1]}, r"shape \(N, 2\); got \(2,\)"),
        (
            {"point_coords": [[1, 1]], "point_labels": [1, 0]},
            r"point_labels must have shape \(1,\), one for each of point_coords; got \(2,\)",
        ),
        ({"point_coords": [[1, 1]], "point_labels": [2]}, r"got \[2"),
        ({"mask_input": np.zeros((1, 256, 256))}, r"mask_input must be the low_res_logits"),
    ],
)
def test_malformed_prompts_are_a_sentence(
    small_model: Sam, photos: list, prompt: dict, words: str
) -> None:
    predictor = SamPredictor(small_model)
    predictor.set_image(photos[0])
    with pytest.raises(ValueError, match=words):
        predictor.predict(**prompt)


def test_a_mask_of_another_picture_is_refused(small_model: Sam, photos: list) -> None:
    predictor = SamPredictor(small_model)
    predictor.set_image(photos[0])
    with pytest.raises(ValueError, match=r"\(B, 1, 20, 32\); got \(1, 1, 32, 16\)"):
        predictor.predict_torch(None, None, mask_input=torch.zeros(1, 1, 32, 16))


@pytest.mark.parametrize("part", ["mask_decoder", "prompt_encoder"])
@pytest.mark.parametrize("way", ["trained, then frozen", "other weights loaded"])
def test_a_picture_that_is_set_meets_the_weights_of_the_day(part: str, way: str) -> None:
    photo = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    torch.manual_seed(0)
    sam = build_model("deit_tiny", 128, pads_to_square=False).requires_grad_(False)
    predictor = SamPredictor(sam)
    predictor.set_image(photo)
    before = predictor.predict(**BOX)[2]
    module = getattr(sam, part)
    if way == "trained, then frozen":
        module.requires_grad_(True)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        module.requires_grad_(False)
    else:
        module.load_state_dict(
            {
                name: value + 0.1 * torch.randn_like(value)
                for name, value in module.state_dict().items()
            }
        )
    after = predictor.predict(**BOX)[2]
    predictor.set_image(photo)
    np.testing.assert_allclose(after, predictor.predict(**BOX)[2], rtol=1e-4, atol=1e-4)
    assert abs(after - before).max() > 0.01
