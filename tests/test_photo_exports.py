"""One photo as every kind of file, read again by the libraries that read such files."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import resvg_py
import yaml
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mobilesam import Predictor
from mobilesam.masks import mask_iou
from mobilesam.photo_exports import KINDS, PhotoObject, export
from mobilesam.refinement import Refinement
from mobilesam.transforms import read_image

with pytest.warns(UserWarning, match="OpenCV"):  # works without it
    from supervision import DetectionDataset

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools' own

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
CLICKS = {  # and the candidate taken: in many parts with holes, thin, small, whole
    "astronaut.jpg": [((20, 380), 2), ((192, 64), 2), ((384, 341), 2), ((256, 256), 0)],
    "photographer.jpg": [((420, 380), 2), ((320, 64), 2), ((448, 448), 2), ((192, 192), 0)],
}
NAMES = ["</title><script>alert(1)</script>", 'a "b" & <c>', "Wölfe/\u202e🐺\n- x: 1", "a: 'b' #c"]
CLEAN = [*NAMES[:2], "Wölfe/ 🐺 - x: 1", NAMES[3]]
COLORS = [(30, 144, 255), (230, 159, 0), (0, 158, 115), (204, 121, 167)]
ENLARGED = 4  # the library below draws borders on top of the inside: here a quarter as thick


@pytest.fixture(scope="module", params=list(CLICKS))
def scene(request: pytest.FixtureRequest, embedded: Predictor) -> Scene:
    photo = read_image(EXAMPLES / request.param)
    embedding = embedded.encode(photo)
    masks = [
        embedded.candidates(embedding, points=[point]).mask(choice)
        for point, choice in CLICKS[request.param]
    ]
    objects = [
        PhotoObject(mask, name, color, score=0.5)
        for mask, name, color in zip(masks, NAMES, COLORS, strict=True)
    ]
    return Scene(request.param, photo, objects)


class Scene:
    """A photo and its objects, and files of it once they are made."""

    def __init__(self, name: str, photo: np.ndarray, objects: list[PhotoObject]) -> None:
        self.name, self.photo, self.objects = name, photo, objects
        self.size = photo.shape[:2]
        self._files: dict[tuple[str, int], bytes] = {}

    def file(self, kind: str, chosen: int = 0) -> bytes:
        if (kind, chosen) not in self._files:
            self._files[kind, chosen] = self.export(kind, chosen)
        return self._files[kind, chosen]

    def export(self, kind: str, chosen: int = 0) -> bytes:
        def read() -> np.ndarray:
            assert kind in ("cutout", "overlay", "zip")
            return self.photo

        return export(kind, self.name, self.size, self.objects, chosen, read)[1]

    def check(self, masks: list[np.ndarray], least: float = 0.99) -> None:
        overlaps = [
            mask_iou(mask, item.mask) for mask, item in zip(masks, self.objects, strict=True)
        ]
        assert min(overlaps) >= least, overlaps


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_the_masks_are_hard_ones(scene: Scene) -> None:
    from mobilesam.polygons import mask_to_parts

    parts = mask_to_parts(scene.objects[0].mask, tolerance=0)
    assert len(parts) > 70
    assert sum(len(part.holes) for part in parts) > 70


def test_coco_in_pycocotools(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    path.write_bytes(scene.file("coco"))
    coco = COCO(path)
    (image,) = coco.loadImgs(coco.getImgIds())
    assert (image["file_name"], image["height"], image["width"]) == (scene.name, *scene.size)
    annotations = coco.loadAnns(coco.getAnnIds())
    assert all(isinstance(annotation["segmentation"], list) for annotation in annotations)
    scene.check([coco.annToMask(annotation).astype(bool) for annotation in annotations])
    scene.check([coco_mask.decode(annotation["rle"]) == 1 for annotation in annotations], 1)
    for annotation, item, name in zip(annotations, scene.objects, CLEAN, strict=True):
        assert coco.loadCats(annotation["category_id"])[0]["name"] == name
        assert annotation["area"] == item.mask.sum()
        np.testing.assert_array_equal(annotation["bbox"], coco_mask.toBbox(annotation["rle"]))
        assert annotation["score"] == 0.5


def test_yolo_in_supervision(scene: Scene, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(scene.file("zip"))) as archive:
        archive.extractall(tmp_path)
        assert archive.read(f"yolo/labels/{Path(scene.name).stem}.txt") == scene.file("yolo")
    height, width = (ENLARGED * side for side in scene.size)
    images = tmp_path / "yolo" / "images"  # where data.yaml says
    images.mkdir()
    Image.new("1", (width, height)).save(images / f"{Path(scene.name).stem}.png")
    labels, described = tmp_path / "yolo" / "labels", tmp_path / "yolo" / "data.yaml"
    read = DetectionDataset.from_yolo(str(images), str(labels), str(described), force_masks=True)
    assert read.classes == CLEAN
    assert (tmp_path / "yolo" / "classes.txt").read_text().splitlines() == CLEAN
    settings = yaml.safe_load(described.read_text())
    assert (settings["path"], settings["train"], settings["nc"]) == (".", "images", len(CLEAN))
    _, _, found = next(iter(read))
    assert found.class_id.tolist() == [0, 1, 2, 3]
    scene.check([reduced(mask) for mask in found.mask])


def test_labelme_in_supervision(scene: Scene, tmp_path: Path) -> None:
    data = json.loads(scene.file("labelme"))
    assert data["imagePath"] == scene.name
    assert (data["imageHeight"], data["imageWidth"]) == scene.size
    for shape in data["shapes"]:
        shape["points"] = (np.array(shape["points"]) * ENLARGED).tolist()
    data |= {"imageHeight": ENLARGED * scene.size[0], "imageWidth": ENLARGED * scene.size[1]}
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "x.json").write_text(json.dumps(data))
    Image.new("1", (data["imageWidth"], data["imageHeight"])).save(tmp_path / scene.name)
    read = DetectionDataset.from_labelme(str(tmp_path), str(tmp_path / "labels"))
    _, _, found = next(iter(read))
    assert sorted(read.classes) == sorted(CLEAN)
    by_name = dict(
        zip((read.classes[number] for number in found.class_id), found.mask, strict=True)
    )
    scene.check([reduced(by_name[name]) for name in CLEAN])


def reduced(mask: np.ndarray) -> np.ndarray:
    height, width = (side // ENLARGED for side in mask.shape)
    return mask.reshape(height, ENLARGED, width, ENLARGED).mean(axis=(1, 3)) > 0.5


def test_svg_in_resvg(scene: Scene) -> None:
    text = scene.file("svg").decode()
    tree = ElementTree.fromstring(text)
    height, width = scene.size
    assert tree.get("viewBox") == f"0 0 {width} {height}"
    paths = list(tree)
    assert [path[0].text for path in paths] == CLEAN
    assert {element.tag.partition("}")[2] for element in tree.iter()} == {"svg", "path", "title"}
    masks = []
    for path, color in zip(paths, COLORS, strict=True):
        assert path.get("fill-rule") == "evenodd"
        assert path.get("fill") == "#{:02x}{:02x}{:02x}".format(*color)
        alone = ElementTree.Element(tree.tag, tree.attrib)
        alone.append(path)
        drawn = opened(resvg_py.svg_to_bytes(svg_string=ElementTree.tostring(alone, "unicode")))
        assert drawn.size == (width, height)
        masks.append(np.asarray(drawn)[..., 3] >= 64)  # half of the opacity
    scene.check(masks)


def test_pictures(scene: Scene) -> None:
    first = scene.objects[0].mask
    np.testing.assert_array_equal(np.asarray(opened(scene.file("mask"))), np.where(first, 255, 0))
    cut = np.asarray(opened(scene.file("cutout", 1)))
    np.testing.assert_array_equal(cut[..., 3] == 255, scene.objects[1].mask)
    numbers = opened(scene.file("indexed"))
    colors = np.asarray(numbers.convert("RGB"))
    for number, color in enumerate(COLORS, 1):
        assert (colors[np.asarray(numbers) == number] == color).all()
    covered = np.any([item.mask for item in scene.objects], axis=0)
    np.testing.assert_array_equal(np.asarray(numbers) > 0, covered)
    overlay = np.asarray(opened(scene.file("overlay")))
    np.testing.assert_array_equal(overlay[~covered], scene.photo[~covered])
    edges = {tuple(color) for color in overlay[covered].reshape(-1, 3).tolist()}
    assert set(COLORS) <= edges  # the outlines


def test_the_archive_has_all_kinds_and_depends_on_the_objects_alone(scene: Scene) -> None:
    stem = Path(scene.name).stem
    content = scene.file("zip")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(
            [
                *(
                    f"{stem}-{kind}-{number}.png"
                    for kind in ("mask", "cutout")
                    for number in "1234"
                ),
                *(f"{stem}-indexed.png", f"{stem}-overlay.png", f"{stem}-coco.json"),
                *(f"{stem}.svg", f"labelme/{stem}.json", f"yolo/labels/{stem}.txt"),
                *("yolo/classes.txt", "yolo/data.yaml"),
            ]
        )
        assert archive.read(f"{stem}-cutout-2.png") == scene.file("cutout", 1)
        assert archive.read(f"{stem}-coco.json") == scene.file("coco")
    assert content == scene.export("zip")


def square() -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((30, 40), bool)
    mask[10:20, 10:25] = True
    return mask, np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def test_a_feathered_edge_is_in_mask_cut_out_and_overlay() -> None:
    mask, photo = square()
    alpha = Refinement(feather=2).alpha(mask)
    item = PhotoObject(mask, color=(255, 0, 0), alpha=alpha)

    def pixels(kind: str, opacity: float = 0.5) -> np.ndarray:
        _, content = export(kind, "x.png", mask.shape, [item], 0, lambda: photo, opacity)
        return np.asarray(opened(content)).astype(int)

    np.testing.assert_array_equal(pixels("mask"), alpha)
    cut = pixels("cutout")
    np.testing.assert_array_equal(cut[..., 3], alpha)
    np.testing.assert_array_equal(cut[..., :3], np.where(alpha[..., None] > 0, photo, 0))
    assert ((alpha > 0) & (alpha < 255)).sum() > 100
    share = alpha[..., None] / 255 * 0.8
    expected = photo * (1 - share) + np.array((255, 0, 0)) * share
    assert np.abs(pixels("overlay", 0.8) - expected).max() <= 0.51
    np.testing.assert_array_equal(pixels("indexed") > 0, mask)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("dog.jpg", "dog"),
        ("../../etc/passwd", "passwd"),
        (r"C:\photos\dog.of:mine.jpeg", "dog.of_mine"),
        ('<b>"x"|?*.png', "_b__x____"),
        ("Ünï 🐺.jpg", "Ünï 🐺"),
        ("..", "photo"),
        ("", "photo"),
        ("\x00\n.jpg", "jpg"),
        ("Bildschirmfoto  1.02.03\u202fPM.png", "Bildschirmfoto  1.02.03\u202fPM"),
        ("\U0001fae8.jpg", "\U0001fae8"),  # younger than Python 3.11's table of characters
        ("CON.jpg", "_CON"),
        ("com1.tar.png", "_com1.tar"),
        ("ä" * 300 + ".jpg", "ä" * 75),
    ],
)
def test_files_are_named_after_the_photo(name: str, stem: str) -> None:
    mask, photo = square()
    for kind in KINDS:
        file, content = export(kind, name, mask.shape, [PhotoObject(mask)], 0, lambda: photo)
        assert file.startswith(stem)
        assert not set(file) & set('/\\<>:"|?*\x00\n')
        if kind == "zip":
            members = zipfile.ZipFile(io.BytesIO(content)).namelist()
            assert f"{stem}-mask.png" in members
            assert not any(".." in member or member.startswith("/") for member in members)
    assert (
        export("yolo", name, mask.shape, [PhotoObject(mask)], 0, lambda: photo)[0] == f"{stem}.txt"
    )


@pytest.mark.parametrize("name", ["a  b\u202fc.png", "\U0001fae8.jpg", "CON.jpg", "e\u0301.png"])
def test_the_photo_is_named_as_it_is(name: str) -> None:
    mask, photo = square()
    files = {
        kind: json.loads(export(kind, name, mask.shape, [PhotoObject(mask)], 0, lambda: photo)[1])
        for kind in ("coco", "labelme")
    }
    assert files["coco"]["images"][0]["file_name"] == name
    assert files["labelme"]["imagePath"] == name


def test_objects_of_one_name_are_of_one_class_and_empty_ones_do_no_harm() -> None:
    mask, photo = square()
    objects = [PhotoObject(mask, "dog"), PhotoObject(~mask, "dog"), PhotoObject(mask & ~mask, "\n")]

    def file(kind: str) -> bytes:
        return export(kind, "x.jpg", mask.shape, objects, 2, lambda: photo)[1]

    coco = json.loads(file("coco"))
    assert [category["name"] for category in coco["categories"]] == ["dog", "object"]
    assert [annotation["category_id"] for annotation in coco["annotations"]] == [1, 1, 2]
    assert [line.split()[0] for line in file("yolo").decode().splitlines()] == ["0", "0"]
    assert [shape["label"] for shape in json.loads(file("labelme"))["shapes"]] == ["dog", "dog"]
    assert not np.asarray(opened(file("mask"))).any()
    assert all(file(kind) for kind in KINDS)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kind": "psd"}, "The kind must be one of mask, indexed, cutout, .+ zip; got 'psd'"),
        ({"objects": []}, "one of the 0 given; got 0. Segment something first"),
        ({"chosen": 1}, "one of the 1 given; got 1"),
        ({"chosen": -1}, "one of the 1 given; got -1"),
        ({"size": (40, 30)}, r"size \(30, 40\) is not the photo's \(40, 30\)"),
        ({"kind": "overlay", "read_photo": lambda: square()[1][:9]}, r"got \(9, 40\)"),
    ],
)
def test_bad_requests_are_refused(change: dict[str, object], expected: str) -> None:
    mask, photo = square()
    request = {"kind": "mask", "photo_name": "x", "size": mask.shape, "chosen": 0}
    request |= {"objects": [PhotoObject(mask)], "read_photo": lambda: photo}
    with pytest.raises(ValueError, match=expected):
        export(**(request | change))
