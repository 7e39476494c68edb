"""Code written for Ultralytics' ``SAM`` runs after changing an import."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco

from mobilesam import SAM, EverythingOptions, generate, simple_api
from mobilesam.masks import mask_iou, mask_to_box
from mobilesam.modeling import Sam
from mobilesam.simple_results import Boxes, Masks, Results
from tests.conftest import disk_photo


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
        ({"bboxes": torch.tensor([[10.0, 10, 60, 60], [20, 20, 80, 80]])}, 2),
        ({"bboxes": [torch.tensor([10.0, 10, 60, 60]), np.array([20, 20, 80, 80])]}, 2),
        ({"points": torch.tensor([[80, 45], [20, 20]]), "labels": torch.tensor([1, 0])}, 2),
        ({"points": [np.array([80, 45]), np.array([20, 20])], "labels": np.array([1, 1])}, 2),
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


def test_boxes_are_decoded_in_one_call(
    simple: SAM, noise_photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = [[10, 10, 60, 60], [20, 20, 80, 80], [70, 20, 150, 80]]
    alone = [simple.predict(noise_photo, bboxes=box)[0] for box in boxes]
    calls = []
    predict = simple._predictor.predict
    monkeypatch.setattr(
        simple._predictor, "predict", lambda *a, **k: calls.append(k) or predict(*a, **k)
    )
    (together,) = simple.predict(noise_photo, bboxes=boxes)
    assert len(calls) == 1
    for index, single in enumerate(alone):
        assert (together.masks.data[index] != single.masks.data[0]).float().mean() < 0.001
        torch.testing.assert_close(together.boxes.conf[index], single.boxes.conf[0])


def test_the_photo_of_a_result_is_ones_own(simple: SAM, noise_photo: np.ndarray) -> None:
    for source in (noise_photo, Image.fromarray(noise_photo)):
        (result,) = simple.predict(source, points=[80, 45])
        before = noise_photo.copy()
        result.orig_img[:] = 0
        np.testing.assert_array_equal(noise_photo, before)


@pytest.mark.parametrize(
    ("asked", "loaded"),
    [
        ("mobile_sam.pt", "mobile_sam"),
        ("sam_b.pt", "sam_vit_b"),
        ("sam_l", "sam_vit_l"),
        ("embedded", "embedded"),
        ("other.pt", str(Path("other.pt").absolute())),  # also after the folder was changed
    ],
)
def test_names_known_from_ultralytics(
    asked: str, loaded: str, small_model: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    monkeypatch.setattr(simple_api, "load_model", lambda name, _: names.append(name) or small_model)
    SAM(asked)
    assert names == [loaded]


def test_results_are_chosen_by_flags_of_any_kind(simple: SAM) -> None:
    photo, _ = disk_photo(90, 160, (80, 45), 30)
    boxes = [[10, 10, 60, 60], [50, 20, 110, 80], [90, 5, 150, 60]]
    (result,) = simple(photo, bboxes=boxes)
    conf = result.boxes.conf
    for flags in (conf > -1, [c > -1 for c in conf], [c > -1 for c in conf.numpy()], [True] * 3):
        assert result[flags].boxes.cls.tolist() == [0, 1, 2]
    assert result[[np.int64(2), np.int64(0)]].boxes.cls.tolist() == [2, 0]
    assert len(result[[]]) == 0


def test_a_result_can_be_shown_and_saved(simple: SAM, tmp_path: Path) -> None:
    photo, _ = disk_photo(90, 160, (80, 45), 30)
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    (result,) = simple(path, points=[80, 45])
    assert result.path == str(path)
    assert result.orig_shape == (90, 160)
    assert set(result.speed) == {"preprocess", "inference", "postprocess"}
    plotted = result.plot()
    assert plotted.shape == photo.shape
    assert (plotted != photo).any()
    saved = result.save(tmp_path / "a new folder/plotted.png")
    np.testing.assert_array_equal(np.asarray(Image.open(saved)), plotted)


@pytest.fixture
def two_masks() -> Results:
    """A ring with a hole, and nothing, in a photo of 40 x 80."""
    ring = np.zeros((40, 80), bool)
    ring[10:30, 20:60] = True
    ring[15:25, 30:50] = False
    masks, size = [ring, np.zeros_like(ring)], (40, 80)
    boxes = torch.tensor([[20.0, 10, 60, 30], [0, 0, 0, 0]])
    return Results(
        orig_img=np.zeros((40, 80, 3), np.uint8),
        path=None,
        masks=Masks(masks, size),
        boxes=Boxes(boxes, torch.tensor([0.75, 0.5]), torch.tensor([0.0, 1.0]), size),
        speed={},
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools' own
def test_outlines_enclose_the_masks(two_masks: Results) -> None:
    outline, nothing = two_masks.masks.xy
    assert outline.dtype == np.float32
    assert nothing.shape == (0, 2)
    rings = coco.frPyObjects([outline.ravel().tolist()], 40, 80)
    filled = coco.decode(coco.merge(rings)).astype(bool)  # another reader of polygons
    assert mask_iou(filled, two_masks.masks.data[0].numpy()) > 0.99
    np.testing.assert_allclose(two_masks.masks.xyn[0] * [80, 40], outline, rtol=1e-6)


def test_boxes_in_all_forms(two_masks: Results) -> None:
    boxes = two_masks.boxes
    assert boxes.xywh[0].tolist() == [40, 20, 40, 20]
    assert boxes.xyxyn[0].tolist() == [0.25, 0.25, 0.75, 0.75]
    assert boxes.xywhn[0].tolist() == [0.5, 0.5, 0.5, 0.5]
    assert boxes.cls.tolist() == [0, 1]
    assert two_masks.names == {0: "0", 1: "1"}


def test_a_result_as_json_and_text(two_masks: Results, tmp_path: Path) -> None:
    first, second = json.loads(two_masks.to_json(normalize=True))
    assert first["box"] == {"x1": 0.25, "y1": 0.25, "x2": 0.75, "y2": 0.75}
    assert (first["name"], first["class"], first["confidence"]) == ("0", 0, 0.75)
    assert min(first["segments"]["x"]) == 0.25
    assert max(first["segments"]["y"]) == 0.75
    assert second["segments"] == {"x": [], "y": []}
    assert two_masks.summary()[0]["box"]["x2"] == 60
    for _ in range(2):
        path = two_masks.save_txt(tmp_path / "labels/photo.txt", save_conf=True)
    lines = Path(path).read_text().splitlines()
    assert len(lines) == 2  # appended; an empty mask has no line
    number, *values, conf = lines[0].split()
    assert (number, conf) == ("0", "0.75")
    np.testing.assert_allclose(
        np.array(values, float).reshape(-1, 2), two_masks.masks.xyn[0], atol=1e-5
    )


@pytest.mark.parametrize(
    "index", [1, -1, slice(1, 2), [1], [False, True], torch.tensor([False, True]), np.array([1])]
)
def test_some_of_the_objects_keep_their_numbers(two_masks: Results, index: object) -> None:
    some = two_masks[index]
    assert len(some) == len(some.masks) == len(some.boxes) == 1
    assert some.names == {1: "1"}
    assert some.boxes.data.tolist() == [[0, 0, 0, 0, 0.5, 1]]
    assert not some.masks.data.any()
    assert some.summary()[0]["class"] == 1


def test_objects_come_one_after_the_other(two_masks: Results) -> None:
    for number, (result, mask, box) in enumerate(
        zip(two_masks, two_masks.masks, two_masks.boxes, strict=True)
    ):
        assert result.names.keys() == {number}
        np.testing.assert_array_equal(mask.data[0], two_masks.masks.data[number])
        assert box.xyxy[0].tolist() == two_masks.boxes.xyxy[number].tolist()
    with pytest.raises(IndexError):
        two_masks[2]
    assert len(two_masks[[]]) == 0


def test_arrays_instead_of_tensors(two_masks: Results) -> None:
    arrays = two_masks.cpu().numpy()
    for form in ("xyxy", "xywh", "xyxyn", "xywhn", "conf", "cls", "data"):
        one, other = getattr(arrays.boxes, form), getattr(two_masks.boxes, form)
        assert isinstance(one, np.ndarray)
        np.testing.assert_array_equal(one, other.numpy())
    assert isinstance(arrays.masks.data, np.ndarray)
    np.testing.assert_array_equal(arrays.masks[0].data, two_masks.masks[0].data.numpy())
    assert arrays.summary() == two_masks.summary()


@pytest.mark.parametrize("boxes", [[], torch.zeros(0, 4), np.zeros((0, 4))])
def test_a_detector_that_found_nothing(simple: SAM, noise_photo: np.ndarray, boxes: object) -> None:
    (result,) = simple(noise_photo, bboxes=boxes)
    assert len(result) == 0
    assert result.masks.data.shape == (0, *result.orig_shape)
    assert result.boxes.data.shape == (0, 6)
    assert result.verbose() == "0 masks"


def test_what_it_says_of_itself(simple: SAM, capsys: pytest.CaptureFixture[str]) -> None:
    modules, parameters, trained, _ = simple.info()
    assert parameters == sum(parameter.numel() for parameter in simple.model.parameters())
    assert modules == len(list(simple.model.modules()))
    assert trained == 0
    assert f"{parameters:,} parameters" in capsys.readouterr().out
    simple.info(verbose=False)
    assert capsys.readouterr().out == ""
    simple.info(detailed=True)
    assert "mask_decoder.iou_token.weight: (1, 256)" in capsys.readouterr().out
    assert simple.device == torch.device("cpu")
    assert simple.to("cpu") is simple
    with pytest.raises(ValueError, match="'cuda:9' cannot be used"):
        simple.to("cuda:9")
    assert simple.device == torch.device("cpu")  # as before


def test_shapes_without_the_data(two_masks: Results) -> None:
    assert two_masks.masks.shape == tuple(two_masks.masks.data.shape)
    assert two_masks.masks.orig_shape == two_masks.orig_shape
    assert two_masks.boxes.shape == tuple(two_masks.boxes.data.shape)
    assert two_masks.keypoints is two_masks.probs is two_masks.obb is None
    assert two_masks.verbose() == "2 masks"


def test_a_result_is_told_in_a_line(two_masks: Results) -> None:
    assert repr(two_masks) == "Results(a picture, 80x40: 2 masks)"
    assert repr(two_masks[0]) == "Results(a picture, 80x40: 1 mask)"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({"labels": [1]}, "labels were given without points"),
        ({"points": []}, "empty"),
        ({"points": [1, 1], "bboxes": [0, 0, 5, 5]}, "either points or bboxes"),
        ({"points": [[1, 1], [2, 2]], "labels": [1]}, "nested like points"),
        ({"bboxes": [0, 0, 5, 5], "labels": [1]}, "belong to points"),
        ({"points": [1, 1], "conf_thres": 0.5}, "conf_thres is for a search without prompts"),
        ({"points_stride": 0}, "points_stride must be at least 1"),
    ],
)
def test_bad_ultralytics_prompts(
    simple: SAM, noise_photo: np.ndarray, prompt: dict, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        simple.predict(noise_photo, **prompt)


def test_without_a_prompt_everything_is_segmented(simple: SAM) -> None:
    photo, truth = disk_photo(90, 160, (45, 80), 30)
    (result,) = simple(photo, points_stride=5)
    records = list(generate(simple._predictor, photo, _options(simple, points_per_side=5)))
    assert len(result) == len(result.masks) == len(result.boxes) == len(records) > 0
    assert result.masks.data.shape == (len(records), 90, 160)
    assert max(mask_iou(mask, truth) for mask in result.masks.arrays()) > 0.8
    for mask, whole, box, score, record in zip(
        result.masks.arrays(),
        result.masks.data.numpy(),
        result.boxes.xyxy.tolist(),
        result.boxes.conf.tolist(),
        records,
        strict=True,
    ):
        np.testing.assert_array_equal(mask, record.mask())
        np.testing.assert_array_equal(whole, record.mask())
        assert tuple(box) == mask_to_box(mask)
        assert score == pytest.approx(record.predicted_iou)
    assert (result.plot() != photo).any()


def test_settings_of_a_search_have_ultralytics_names(
    simple: SAM, noise_photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(simple_api, "generate", lambda *words: asked.append(words[1:]) or [])
    (result,) = simple.predict(
        noise_photo,
        points_stride=7,
        points_batch_size=3,
        conf_thres=0.4,
        crop_downscale_factor=2,
        crop_n_layers=1,
        fast=True,
    )
    image, options = asked[0]
    np.testing.assert_array_equal(image, noise_photo)  # not its embedding: crops are wanted
    assert (options.points_per_side, options.points_per_batch) == (7, 3)
    assert (options.pred_iou_thresh, options.crop_n_points_downscale_factor) == (0.4, 2)
    assert (options.crop_n_layers, options.fast) == (1, True)
    assert len(result) == 0
    assert result.masks.data.shape == (0, 90, 160)
    assert result.boxes.xyxy.shape == (0, 4)
    plotted = result.plot()
    np.testing.assert_array_equal(plotted, noise_photo)
    assert not np.shares_memory(plotted, result.orig_img)  # to be drawn on
    simple.predict(noise_photo, point_grids=[np.array([[0.5, 0.5]])])
    assert asked[1][1].points_per_side is None
    with pytest.raises(TypeError, match=r"SAM\.predict takes points, .*; got imgsz"):
        simple.predict(noise_photo, imgsz=640)
    with pytest.raises(TypeError, match=r"got device\. Name the device in SAM"):
        simple.predict(noise_photo, device="cpu", verbose=False)


def _options(simple: SAM, **chosen: int) -> EverythingOptions:
    return EverythingOptions.for_model(simple.model, **chosen)


@pytest.fixture(scope="module")
def simple() -> SAM:
    return SAM("embedded")
