"""Code written for SAM or MobileSAM runs after changing an import."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobilesam import (
    SAM,
    Predictor,
    ResizeLongestSide,
    SamAutomaticMaskGenerator,
    SamPredictor,
    build_sam_vit_t,
    load_model,
    sam_model_registry,
    simple_api,
)
from mobilesam.masks import mask_iou
from mobilesam.modeling import Sam
from tests.conftest import disk_photo
from tests.official_checkpoints import official_state_dict, write_official_checkpoint


@pytest.fixture(scope="module")
def predictor(small_model: Sam) -> SamPredictor:
    predictor = SamPredictor(small_model)
    photo = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    predictor.set_image(photo)
    return predictor


def test_the_readme_example_of_sam(predictor: SamPredictor, small_predictor: Predictor) -> None:
    masks, scores, logits = predictor.predict(
        point_coords=np.array([[80, 40]]), point_labels=np.array([1]), multimask_output=True
    )
    assert (masks.shape, masks.dtype) == ((3, 90, 160), np.dtype(bool))
    assert (scores.shape, logits.shape) == ((3,), (3, 20, 32))
    masks, _, _ = predictor.predict(
        point_coords=np.array([[80, 40], [20, 30]]),
        point_labels=np.array([1, 0]),
        mask_input=logits[np.argmax(scores)][None],
        multimask_output=False,
    )
    assert masks.shape == (1, 90, 160)
    as_row, _, _ = predictor.predict(box=np.array([[10, 10, 60, 60]]), multimask_output=False)
    as_vector, _, _ = predictor.predict(box=np.array([10, 10, 60, 60]), multimask_output=False)
    np.testing.assert_array_equal(as_row, as_vector)


def test_logits_can_be_had(predictor: SamPredictor) -> None:
    prompt = {"point_coords": np.array([[80, 40]]), "point_labels": np.array([1])}
    masks, _, _ = predictor.predict(**prompt)
    logits, _, _ = predictor.predict(**prompt, return_logits=True)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits > 0, masks)


def test_batched_boxes_as_in_the_notebook(predictor: SamPredictor) -> None:
    boxes = torch.tensor([[10, 10, 60, 60], [70, 20, 150, 80]])
    transformed = predictor.transform.apply_boxes_torch(boxes, (90, 160))
    masks, scores, logits = predictor.predict_torch(
        point_coords=None, point_labels=None, boxes=transformed, multimask_output=False
    )
    assert masks.shape == (2, 1, 90, 160)
    assert scores.shape == (2, 1)
    assert logits.shape == (2, 1, 20, 32)
    alone, _, _ = predictor.predict(box=boxes[1].numpy(), multimask_output=False)
    np.testing.assert_array_equal(masks[1].numpy(), alone)


def test_end_to_end_call_as_in_the_notebook(predictor: SamPredictor) -> None:
    photo = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    resized = predictor.transform.apply_image(photo)
    record = {
        "image": torch.from_numpy(np.array(resized)).permute(2, 0, 1),
        "boxes": predictor.transform.apply_boxes_torch(torch.tensor([[10, 10, 60, 60]]), (90, 160)),
        "original_size": photo.shape[:2],
    }
    (output,) = predictor.model([record], multimask_output=False)
    expected, _, _ = predictor.predict(box=np.array([10, 10, 60, 60]), multimask_output=False)
    np.testing.assert_array_equal(output["masks"][0].numpy(), expected)
    assert output["iou_predictions"].shape == (1, 1)


def test_setting_and_resetting(small_model: Sam, noise_photo: np.ndarray) -> None:
    predictor = SamPredictor(small_model)
    assert not predictor.is_image_set
    with pytest.raises(RuntimeError, match="set_image"):
        predictor.predict(point_coords=np.array([[1, 1]]), point_labels=np.array([1]))
    predictor.set_image(noise_photo[..., ::-1], image_format="BGR")
    embedding = predictor.get_image_embedding()
    predictor.set_image(noise_photo)
    torch.testing.assert_close(predictor.features, embedding)
    pixels = torch.from_numpy(np.array(predictor.transform.apply_image(noise_photo)))
    predictor.set_torch_image(pixels.permute(2, 0, 1)[None], noise_photo.shape[:2])
    torch.testing.assert_close(predictor.features, embedding)
    assert predictor.original_size == (90, 160)
    assert predictor.input_size == (72, 128)
    predictor.reset_image()
    with pytest.raises(RuntimeError, match="set_image"):
        predictor.get_image_embedding()
    with pytest.raises(TypeError, match=r"BGR image must be an .* array; got Image"):
        predictor.set_image(Image.fromarray(noise_photo), image_format="BGR")
    with pytest.raises(ValueError, match="'RGB' or 'BGR'"):
        predictor.set_image(noise_photo, image_format="HSV")
    with pytest.raises(ValueError, match="longer side of 128"):
        predictor.set_torch_image(torch.zeros(1, 3, 10, 10), (10, 10))


def test_labels_are_needed_as_in_sam(predictor: SamPredictor) -> None:
    with pytest.raises(ValueError, match="point_labels"):
        predictor.predict(point_coords=np.array([[1, 1]]))
    with pytest.raises(ValueError, match="belong together"):
        predictor.predict_torch(torch.zeros(1, 1, 2), None)


def test_the_transform_resizes_tensors_as_it_resizes_arrays() -> None:
    transform = ResizeLongestSide(128)
    photo, _ = disk_photo(300, 400, (200, 150), 80)
    as_array = transform.apply_image(photo).astype(np.float32)
    as_tensor = transform.apply_image_torch(torch.from_numpy(photo).permute(2, 0, 1)[None].float())
    difference = as_tensor[0].permute(1, 2, 0).numpy() - as_array
    assert np.abs(difference).max() < 2
    assert transform.get_preprocess_shape(300, 400, 128) == (96, 128)


def test_the_registry_builds_and_loads(tmp_path: Path) -> None:
    assert set(sam_model_registry) == {"default", "vit_h", "vit_l", "vit_b", "vit_t"}
    path = write_official_checkpoint("t", tmp_path)
    model = sam_model_registry["vit_t"](checkpoint=str(path))
    assert model.to("cpu").eval().image_size == 1024
    assert model.image_encoder.img_size == 1024
    model.double()  # nobody else's
    assert build_sam_vit_t(checkpoint=path).pixel_mean.dtype == torch.float32
    with pytest.raises(ValueError, match="vit_b was asked for"):
        sam_model_registry["vit_b"](checkpoint=path)
    absent = tmp_path / "absent.pt"
    with pytest.raises(FileNotFoundError, match=r"absent\.pt; .* mobilesam download mobile_sam`"):
        sam_model_registry["vit_t"](checkpoint=absent)
    with pytest.raises(FileNotFoundError, match="There is no checkpoint file mobile_sam;"):
        sam_model_registry["vit_t"](checkpoint="mobile_sam")  # a name, which it does not take
    with pytest.raises(FileNotFoundError, match="mobilesam download sam_vit_h`"):
        sam_model_registry["default"](checkpoint=absent)


def test_the_registry_knows_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write_official_checkpoint("t", tmp_path)
    assert sam_model_registry["vit_t"](checkpoint=f"~/{path.name}").name == path.stem


def test_official_tensors_can_be_loaded_by_hand() -> None:
    sam = build_sam_vit_t()
    state = official_state_dict("t")
    assert sam.load_state_dict(state).missing_keys == []
    token = "mask_decoder.iou_token.weight"
    torch.testing.assert_close(sam.mask_decoder.iou_token.weight.detach(), state[token])
    assert all(parameter.requires_grad for parameter in sam.parameters())
    sam.load_state_dict(sam.state_dict())  # our own layout


def test_a_mask_alone_is_a_prompt(predictor: SamPredictor) -> None:
    _, _, logits = predictor.predict(
        point_coords=np.array([[80, 40]]), point_labels=np.array([True]), multimask_output=False
    )
    expected, _, _ = predictor.predict(mask_input=logits, multimask_output=False)
    given = torch.from_numpy(logits)[None]
    masks, _, _ = predictor.predict_torch(None, None, mask_input=given, multimask_output=False)
    np.testing.assert_array_equal(masks[0].numpy(), expected)
    record = {"image": torch.zeros(3, 72, 128), "original_size": (90, 160), "mask_inputs": given}
    (output,) = predictor.model([record], multimask_output=False)
    assert output["masks"].shape == (1, 1, 90, 160)
    as_array = {**record, "mask_inputs": logits[None]}
    (from_array,) = predictor.model([as_array], multimask_output=False)
    assert torch.equal(from_array["low_res_logits"], output["low_res_logits"])
    encoder = predictor.model.prompt_encoder
    _, dense = encoder(points=None, boxes=None, masks=logits[None])
    assert torch.equal(dense, encoder(points=None, boxes=None, masks=given)[1])
    with pytest.raises(ValueError, match=r"shape \(1, 1, l, l'\), .*; got \(1, 3, 20, 32\)"):
        encoder(points=None, boxes=None, masks=given.expand(1, 3, -1, -1))


@pytest.mark.parametrize(
    ("points", "labels", "boxes", "masks", "words"),
    [
        ((2, 1, 2), [[1], [2]], None, None, r"1 \(include\), 0 .*got \[1, 2\]"),
        ((2, 1, 2), [[1]], None, None, r"labels \(B, N\); got \(2, 1, 2\) and \(1, 1\)"),
        ((1, 2), [1], None, None, r"shape \(B, N, 2\)"),
        ((2, 1, 2), [[1], [0]], (3, 4), None, r"boxes must have shape \(2, 4\); got \(3, 4\)"),
        ((2, 1, 2), [[1], [0]], None, (3, 1, 20, 32), r"masks must have shape \(2, 1, l, l'\)"),
        (None, None, (2, 4), (20, 32), r"masks must have shape \(2, 1, l, l'\)"),
        (None, None, (4,), None, r"boxes must have shape \(B, 4\); got \(4,\)"),
    ],
)
def test_batched_prompts_that_do_not_fit(
    predictor: SamPredictor,
    points: tuple | None,
    labels: list | None,
    boxes: tuple | None,
    masks: tuple | None,
    words: str,
) -> None:
    points, boxes, masks = (None if s is None else torch.ones(s) for s in (points, boxes, masks))
    with pytest.raises(ValueError, match=words):
        predictor.predict_torch(
            points, None if labels is None else torch.tensor(labels), boxes, masks
        )


def test_true_and_false_are_labels(predictor: SamPredictor) -> None:
    points = torch.tensor([[[20.0, 20.0], [60.0, 30.0]]])
    as_numbers = predictor.predict_torch(points, torch.tensor([[1, 0]]))
    as_truth = predictor.predict_torch(points, torch.tensor([[True, False]]))
    torch.testing.assert_close(as_truth[2], as_numbers[2])


def test_prompts_without_numbers_are_refused(predictor: SamPredictor) -> None:
    box = torch.tensor([[10.0, 10, float("nan"), 60]])
    with pytest.raises(ValueError, match="finite numbers; got NaN"):
        predictor.predict_torch(None, None, box)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(3, 90, 1025), r"at most 128 pixels .*ResizeLongestSide\(128\)"),
        (torch.zeros(90, 128, 3), r"\(3, h, w\) tensor; got a tensor of \(90, 128, 3\)"),
        (np.zeros((3, 90, 128)), r"got a ndarray of \(3, 90, 128\)"),
    ],
)
def test_pictures_that_the_call_cannot_take(
    predictor: SamPredictor, image: object, words: str
) -> None:
    record = {"image": image, "original_size": (90, 160), "boxes": torch.tensor([[1, 1, 9, 9]])}
    with pytest.raises(ValueError, match=words):
        predictor.model([record], multimask_output=False)


@pytest.mark.parametrize("size", [(90, 160, 3), None, (90.0, 160.0), (0, 5), (-90, 160), "ab"])
def test_what_is_no_size_is_refused(small_model: Sam, size: object) -> None:
    predictor, pixels = SamPredictor(small_model), torch.zeros(1, 3, 72, 128)
    wanted = r"original_(image_)?size must be \(height, width\), two whole .* at least 1 .*; got "
    with pytest.raises(ValueError, match=wanted):
        predictor.set_torch_image(pixels, size)
    assert not predictor.is_image_set
    with pytest.raises(ValueError, match=wanted):
        small_model([{"image": pixels[0], "original_size": size}], multimask_output=False)
    with pytest.raises(ValueError, match=wanted):
        small_model.postprocess_masks(torch.zeros(1, 1, 20, 32), (72, 128), size)
    if size is not None:  # else it is missing
        predictor.set_torch_image(pixels, (90, 160))
        predictor.original_size = size
        with pytest.raises(ValueError, match=wanted):
            predictor.predict(box=np.array([10, 10, 60, 60]))


def test_sizes_may_be_arrays_and_tensors(small_model: Sam) -> None:
    predictor, low_res = SamPredictor(small_model), torch.zeros(1, 1, 20, 32)
    for size in (np.array([90, 160]), torch.tensor([90, 160]), [90, 160]):
        predictor.set_torch_image(torch.zeros(1, 3, 72, 128), size)
        assert [type(side) for side in predictor.original_size] == [int, int]
        assert small_model.postprocess_masks(low_res, (72, 128), size).shape == (1, 1, 90, 160)


@pytest.mark.parametrize("make", [Predictor, SamPredictor])
def test_a_name_is_no_model(make: type) -> None:
    with pytest.raises(TypeError, match=r"load it first: load_model\('mobile_sam'\)"):
        make("mobile_sam")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["embedded", "embedded_student"])
def test_a_model_may_be_cast(name: str, dtype: torch.dtype) -> None:
    photo, truth = disk_photo(192, 256, (130, 100), 50)
    box, boxes = (80, 50, 181, 151), [(80, 50, 181, 151)] * 7  # seven: the way for many prompts
    plain = Predictor(load_model(name))
    expected = plain.predict(plain.encode(photo), box=box).mask(0)
    cast = Predictor(copy.deepcopy(plain.model).to(dtype))
    embedding = cast.encode(photo)
    assert embedding.features.dtype == dtype
    assert mask_iou(cast.predict(embedding, box=box).mask(0), expected) > 0.97
    assert mask_iou(cast.predict(embedding, boxes=boxes).masks[0, 0], expected) > 0.97
    assert mask_iou(expected, truth) > 0.9
    predictor = SamPredictor(cast.model)
    predictor.set_image(photo)
    masks, _, _ = predictor.predict(box=np.array(box), multimask_output=False)
    assert mask_iou(masks[0], expected) > 0.97


def test_everything_works_under_autocast(small_model: Sam, noise_photo: np.ndarray) -> None:
    generator = SamAutomaticMaskGenerator(
        small_model, points_per_side=3, pred_iou_thresh=-10, stability_score_thresh=-10
    )
    with torch.autocast("cpu", torch.bfloat16):
        records = generator.generate(noise_photo)
        embedding = Predictor(small_model).encode(noise_photo)
        result = Predictor(small_model).predict(embedding, boxes=[(5, 5, 60, 50)] * 7)
    assert embedding.features.dtype == torch.bfloat16
    assert records[0]["segmentation"].shape == (90, 160)
    assert result.masks.shape == (7, 1, 90, 160)


def test_what_was_encoded_under_autocast_answers_outside_of_it_too(
    small_model: Sam, noise_photo: np.ndarray
) -> None:
    predictor, box = SamPredictor(small_model), {"box": np.array([5, 5, 60, 50])}
    predictor.set_image(noise_photo)
    expected = predictor.predict(**box)[2]
    with torch.autocast("cpu", torch.bfloat16):
        predictor.set_image(noise_photo)
        inside = predictor.predict(**box)[2]
    assert predictor.features.dtype == torch.bfloat16
    outside = predictor.predict(**box)[2]
    for answer in (inside, outside):
        np.testing.assert_allclose(answer, expected, atol=0.05)


def test_pytorchs_defaults_do_not_matter(
    small_model: Sam, noise_photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simple_api, "load_model", lambda *_: small_model)
    thresholds = {"pred_iou_thresh": -10, "stability_score_thresh": -10}
    boxes = [(5, 5, 60, 50)] * 7

    def answers() -> list[np.ndarray]:
        predictor, sam = Predictor(small_model), SamPredictor(small_model)
        sam.set_image(noise_photo)
        in_frame = sam.transform.apply_boxes_torch(torch.tensor(boxes, device="cpu"), (90, 160))
        assert in_frame.dtype == torch.float32
        generator = SamAutomaticMaskGenerator(small_model, points_per_side=3, **thresholds)
        result = SAM().predict(noise_photo, bboxes=boxes)[0].numpy()
        return [
            sam.predict(box=np.array(boxes[0]))[2],
            sam.predict_torch(None, None, in_frame)[2].numpy(),
            predictor.predict(predictor.encode(noise_photo), boxes=boxes).low_res_logits,
            *(record["segmentation"] for record in generator.generate(noise_photo)),
            result.masks.data,
            result.boxes.data,
        ]

    expected = answers()
    with torch.device("meta"):  # in place of a GPU, where whatever is made there is lost, too
        elsewhere = answers()
    torch.set_default_dtype(torch.float64)
    try:
        longer = answers()
    finally:
        torch.set_default_dtype(torch.float32)
    for other in (elsewhere, longer):
        for one, answer in zip(expected, other, strict=True):
            np.testing.assert_allclose(one, answer, atol=1e-5)


@pytest.mark.parametrize("make", [Predictor, SamPredictor, SamAutomaticMaskGenerator])
def test_what_is_no_model_is_refused(make: type, small_predictor: Predictor) -> None:
    for other in (None, small_predictor, SamPredictor(small_predictor.model)):
        with pytest.raises(TypeError, match=r"takes a model, as load_model\(\.\.\.\) gives one"):
            make(other)


def test_another_model_may_be_assigned(small_model: Sam, noise_photo: np.ndarray) -> None:
    predictor = SamPredictor(copy.deepcopy(small_model))
    predictor.set_image(noise_photo)
    other = copy.deepcopy(predictor.model)
    for parameter in other.mask_decoder.parameters():
        parameter.data.zero_()
    predictor.model = other
    _, scores, _ = predictor.predict(np.array([[80, 40]]), np.array([1]))
    assert scores.tolist() == [0, 0, 0]


def test_a_box_may_have_any_shape_of_four_numbers(predictor: SamPredictor) -> None:
    expected, _, _ = predictor.predict(box=np.array([10, 10, 60, 60]))
    for shape in ((1, 4), (2, 2), (1, 1, 4)):
        masks, _, _ = predictor.predict(box=np.array([10, 10, 60, 60]).reshape(shape))
        np.testing.assert_array_equal(masks, expected)


def test_labels_without_points_do_not_count(small_model: Sam) -> None:
    image = torch.zeros(3, 72, 128)
    record = {"image": image, "original_size": (90, 160), "boxes": torch.tensor([[5, 5, 60, 60.0]])}
    (plain,) = small_model([record], multimask_output=True)
    (labelled,) = small_model([record | {"point_labels": torch.ones(1, 1)}], multimask_output=True)
    torch.testing.assert_close(labelled["masks"], plain["masks"])


def test_numbers_that_float32_cannot_hold_are_refused(predictor: SamPredictor) -> None:
    with pytest.raises(ValueError, match="Points and boxes must be finite"):
        predictor.predict(np.array([[1e39, 3]]), np.array([1]))


def test_empty_lists_are_no_points(predictor: SamPredictor) -> None:
    box = np.array([20, 10, 90, 70])
    alone = predictor.predict(box=box)[2]
    assert np.array_equal(predictor.predict([], [], box=box)[2], alone)


def test_arrays_for_tensors(predictor: SamPredictor, noise_photo: np.ndarray) -> None:
    coords, labels = torch.tensor([[[30.0, 20.0]]]), torch.tensor([[1]])
    boxes = torch.tensor([[3.0, 4.0, 60.0, 50.0]])
    _, _, logits = predictor.predict_torch(coords, labels, boxes)
    given = (coords.numpy(), labels.numpy(), boxes.numpy())
    assert torch.equal(predictor.predict_torch(*given)[2], logits)
    mask = logits[:, :1]
    expected = predictor.predict_torch(coords, labels, mask_input=mask)[2]
    assert torch.equal(predictor.predict_torch(coords, labels, None, mask.numpy())[2], expected)
    with pytest.raises(TypeError, match="boxes must be a tensor; got list"):
        predictor.predict_torch(None, None, [[3, 4, 60, 50]])
    other = SamPredictor(predictor.model)
    pixels = other.transform.apply_image(noise_photo).transpose(2, 0, 1)[None]
    other.set_torch_image(pixels, noise_photo.shape[:2])
    assert other.is_image_set
    embedding = Predictor(predictor.model).encode_pixels(pixels, noise_photo.shape[:2])
    assert torch.equal(embedding.features, other.features)
    with pytest.raises(TypeError, match="pixels must be a tensor; got list"):
        Predictor(predictor.model).encode_pixels(pixels.tolist(), noise_photo.shape[:2])


@pytest.mark.parametrize(
    ("batch", "error", "words"),
    [
        ({"image": 1}, TypeError, "batched_input must be a list of dicts"),
        ([3], TypeError, "Picture 0 of batched_input must be a dict; got int"),
        ([{"original_size": (5, 5)}], ValueError, "Picture 0 of batched_input has no image"),
        ([{"image": None}], ValueError, "has no original_size; got image"),
        ([{}], ValueError, "has no image and no original_size; got nothing"),
    ],
)
def test_batches_that_are_none(
    small_model: Sam, batch: object, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        small_model(batch, multimask_output=True)


def test_the_transform_takes_grey_pictures_and_refuses_floats(noise_photo: np.ndarray) -> None:
    photo = noise_photo
    transform = ResizeLongestSide(64)
    grey = transform.apply_image(photo[..., 0])
    assert grey.ndim == 2
    assert np.array_equal(transform.apply_image(photo[..., :1]), grey)
    with pytest.raises(TypeError, match="array of uint8; got float32"):
        transform.apply_image(photo.astype(np.float32))


@pytest.mark.parametrize("shape", [(5,), (0, 5, 3), (1, 9, 9, 3), (9, 9, 5)])
def test_the_transform_names_the_shape_it_cannot_take(shape: tuple[int, ...]) -> None:
    transform, size = ResizeLongestSide(64), (90, 160)
    with pytest.raises(ValueError, match=r"image must be \(H, W, 3\) and have pixels; got \("):
        transform.apply_image(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match=r"coords must have shape \(\.\.\., 2\), x and y; got \("):
        transform.apply_coords(np.zeros(shape), size)
    with pytest.raises(ValueError, match=r"coords must have shape \(\.\.\., 2\), x and y; got \("):
        transform.apply_coords_torch(torch.zeros(shape), size)
    for apply, boxes in (
        (transform.apply_boxes, np.zeros((1, 3))),
        (transform.apply_boxes_torch, torch.zeros(1, 3)),
    ):
        with pytest.raises(ValueError, match=r"boxes must have shape \(B, 4\); got \(1, 3\)"):
            apply(boxes, size)


def test_the_transform_names_the_size_it_cannot_take() -> None:
    transform, xy, boxes = ResizeLongestSide(64), torch.zeros(1, 2), torch.zeros(1, 4)
    for size in ((90, 160, 3), (0, 160), None, 90):
        for call in (
            lambda size=size: transform.apply_coords(xy.numpy(), size),
            lambda size=size: transform.apply_boxes(boxes.numpy(), size),
            lambda size=size: transform.apply_coords_torch(xy, size),
            lambda size=size: transform.apply_boxes_torch(boxes, size),
        ):
            with pytest.raises(ValueError, match=r"original_size must be \(height, width\), two"):
                call()
    for size in ((90.0, 160.0), np.array([90.0, 160.0]), torch.tensor([90, 160])):
        assert transform.apply_boxes(boxes.numpy(), size).shape == (1, 4)
    assert transform.get_preprocess_shape(90.0, 160.0, 64) == (36, 64)
    with pytest.raises(ValueError, match=r"two whole numbers of at least 1 .* got \(0, 5\)"):
        transform.get_preprocess_shape(0, 5, 64)
    with pytest.raises(ValueError, match=r"image must have shape \(B, 3, H, W\) and pixels"):
        transform.apply_image_torch(torch.zeros(3, 4, 4))
    np.testing.assert_allclose(  # as predict_torch, it takes arrays, too
        transform.apply_boxes_torch(np.array([[0, 0, 160, 90]]), (90, 160)), [[0, 0, 64, 36]]
    )
    with pytest.raises(TypeError, match="boxes must be a tensor; got list"):
        transform.apply_boxes_torch([[0, 0, 160, 90]], (90, 160))


def test_what_is_no_number_is_refused_wherever_it_enters(small_model: Sam) -> None:
    predictor = SamPredictor(small_model)
    pixels = torch.full((1, 3, 96, 128), float("nan"))
    with pytest.raises(ValueError, match="pixels must be finite numbers"):
        predictor.set_torch_image(pixels, (96, 128))
    with pytest.raises(ValueError, match="An image's pixels must be finite numbers"):
        small_model([{"image": pixels[0], "original_size": (96, 128)}], multimask_output=False)
    predictor.set_torch_image(torch.zeros_like(pixels), (96, 128))
    logits = torch.full((1, 1, 24, 32), float("inf"))
    with pytest.raises(ValueError, match="masks must be finite numbers"):
        predictor.predict_torch(None, None, mask_input=logits)
    with pytest.raises(ValueError, match="mask_input must be finite numbers"):
        predictor.predict(mask_input=logits[0].numpy())
    with pytest.raises(ValueError, match=r"mask_input must be logits, .* got up to 1e\+30"):
        predictor.predict(mask_input=np.full((1, 24, 32), 1e30))
