"""Code written for SAM, MobileSAM or Ultralytics runs after changing an import."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobilesam import SAM, Predictor, SamPredictor, sam_model_registry
from mobilesam.modeling import Sam
from mobilesam.sam_api import ResizeLongestSide
from tests.conftest import disk_photo
from tests.official_checkpoints import write_official_checkpoint


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
    with pytest.raises(ValueError, match="'RGB' or 'BGR'"):
        predictor.set_image(noise_photo, image_format="HSV")
    with pytest.raises(ValueError, match="longer side of 128"):
        predictor.set_torch_image(torch.zeros(1, 3, 10, 10), (10, 10))


def test_labels_are_needed_as_in_sam(predictor: SamPredictor) -> None:
    with pytest.raises(ValueError, match="point_labels"):
        predictor.predict(point_coords=np.array([[1, 1]]))
    with pytest.raises(ValueError, match="points or boxes"):
        predictor.predict_torch(None, None)
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
    assert sam_model_registry["vit_t"]().encoder_name == "tiny_vit"
    with pytest.raises(ValueError, match="vit_b was asked for"):
        sam_model_registry["vit_b"](checkpoint=path)


@pytest.mark.parametrize(
    ("prompt", "objects"),
    [
        ({"points": [80, 45]}, 1),
        ({"points": [80, 45], "labels": [1]}, 1),
        ({"points": [80, 45], "labels": 1}, 1),
        ({"points": np.array([80, 45])}, 1),
        ({"points": [[80, 45], [20, 20]]}, 2),
        ({"points": [[80, 45], [20, 20]], "labels": [1, 0]}, 2),
        ({"points": [[[80, 45], [20, 20]]], "labels": [[1, 0]]}, 1),
        ({"points": [[[80, 45], [20, 20]]], "labels": [1, 0]}, 1),
        ({"bboxes": [10, 10, 60, 60]}, 1),
        ({"bboxes": [[10, 10, 60, 60], [20, 20, 80, 80]]}, 2),
    ],
)
def test_ultralytics_nesting(
    simple: SAM, noise_photo: np.ndarray, prompt: dict, objects: int
) -> None:
    (result,) = simple.predict(noise_photo, **prompt)
    assert len(result) == objects
    assert result.masks.data.shape == (objects, 90, 160)
    assert result.boxes.xyxy.shape == (objects, 4)
    assert result.boxes.conf.shape == (objects,)


def test_a_result_can_be_shown_and_saved(simple: SAM, tmp_path: Path) -> None:
    photo, _ = disk_photo(90, 160, (80, 45), 30)
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    (result,) = simple(path, points=[80, 45])
    assert result.path == str(path)
    assert result.orig_shape == (90, 160)
    assert set(result.speed) == {"encode", "decode"}
    plotted = result.plot()
    assert plotted.shape == photo.shape
    assert (plotted != photo).any()
    saved = result.save(tmp_path / "plotted.png")
    np.testing.assert_array_equal(np.asarray(Image.open(saved)), plotted)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({}, "No prompt"),
        ({"points": []}, "empty"),
        ({"points": [1, 1], "bboxes": [0, 0, 5, 5]}, "either points or bboxes"),
        ({"points": [[1, 1], [2, 2]], "labels": [1]}, "nested like points"),
        ({"bboxes": [0, 0, 5, 5], "labels": [1]}, "belong to points"),
    ],
)
def test_bad_ultralytics_prompts(
    simple: SAM, noise_photo: np.ndarray, prompt: dict, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        simple.predict(noise_photo, **prompt)


@pytest.fixture(scope="module")
def simple() -> SAM:
    return SAM("embedded")
