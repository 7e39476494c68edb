"""Several objects in one photo: the list, their looks, their masks, undo over all of them."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mobilesam import Refinement, predict_steps
from tests.browser.demo_page import DemoPage, iou


@pytest.fixture(scope="module")
def library(embedded):
    return embedded, embedded.encode("examples/coffee.jpg")


def new_object(demo: DemoPage) -> None:
    demo.page.locator("[data-action=new-object]").click()


def row(demo: DemoPage, number: int):
    return demo.page.locator(".ms-object").nth(number)


def expected(library, wire: dict) -> np.ndarray:
    """The mask of an object of the page, straight from the library."""
    predictor, embedding = library
    result = predict_steps(
        predictor,
        embedding,
        points=[point[:2] for point in wire["points"]] or None,
        labels=[point[2] for point in wire["points"]] or None,
        box=wire["box"],
        steps=wire["steps"],
        choices=wire["choices"],
    )
    choice = wire["choices"][-1]
    return result.mask(result.best if choice is None else choice)


@pytest.fixture
def two(coffee) -> DemoPage:
    """A cup and, selected, a spoon."""
    coffee.click(300, 200)
    coffee.wait_mask()
    new_object(coffee)
    coffee.drag((325, 225), (408, 330))
    coffee.wait_mask()
    return coffee


def thumbnails(demo: DemoPage) -> list[str]:
    return demo.page.locator(".ms-candidate canvas").evaluate_all(
        "(all) => all.map((one) => one.toDataURL())"
    )


def test_only_the_masks_in_use_stay_decoded_and_no_picture_is_read_back(new_coffee):
    """Fifty objects with four masks of 3 MB each would be 600 MB. And browsers that guard against
    tracking give noise for what a canvas holds."""
    new_coffee.page.evaluate(
        """() => {
          window.decoded = window.readBack = 0;
          const { decode } = Image.prototype;
          Image.prototype.decode = function () { window.decoded += 1; return decode.call(this); };
          const { getImageData } = CanvasRenderingContext2D.prototype;
          CanvasRenderingContext2D.prototype.getImageData = function (...place) {
            window.readBack += 1;
            return getImageData.apply(this, place);
          };
        }"""
    )
    new_coffee.click(300, 200)
    new_coffee.wait_mask()
    count = new_coffee.page.locator(".ms-candidate").count()
    assert new_coffee.page.evaluate("window.decoded") == count
    cup = thumbnails(new_coffee)
    for place in ((100, 50), (480, 60), (560, 220)):  # what was there a few steps ago is kept
        new_object(new_coffee)
        new_coffee.click(*place)
        new_coffee.wait_mask()
    assert thumbnails(new_coffee) != cup
    before = new_coffee.page.evaluate("window.decoded")
    row(new_coffee, 0).locator("[data-do=select]").click()
    new_coffee.page.wait_for_function("(all) => window.decoded >= all", arg=before + count - 1)
    new_coffee.page.wait_for_function(
        "(all) => all.every((one, at) => document.querySelectorAll('.ms-candidate canvas')[at]"
        "?.toDataURL() === one)",
        arg=cup,
    )
    assert new_coffee.page.evaluate("window.readBack") == 0


def test_each_object_has_its_prompts_mask_and_colour(two, library):
    cup, spoon = two.objects
    assert (cup["points"], cup["box"]) == ([[300, 200, 1]], None)
    assert spoon["points"] == []
    assert np.allclose(spoon["box"], [325, 225, 408, 330], atol=2)
    assert cup["color"] != spoon["color"]
    assert iou(two.saved_mask(), expected(library, spoon)) >= 0.999
    row(two, 0).locator("[data-do=select]").click()
    assert iou(two.saved_mask(), expected(library, cup)) >= 0.999
    assert two.points == [[300, 200, 1]]


def test_an_earlier_object_can_be_changed_later(two, library):
    row(two, 0).locator("[data-do=select]").click()
    two.click(60, 360, button="right")
    two.wait_mask()
    cup, spoon = two.objects
    assert [label for *_, label in cup["points"]] == [1, 0]
    assert cup["steps"] == [1, 2]
    assert spoon["points"] == []
    assert iou(two.saved_mask(), expected(library, cup)) >= 0.999


def test_objects_are_renamed_hidden_recoloured_and_deleted(two):
    page = two.page
    row(two, 1).locator("[data-do=rename]").click()
    page.locator(".ms-rename").fill('  The <b>"spoon"</b> ')
    page.keyboard.press("Enter")
    assert row(two, 1).locator(".ms-object-name").inner_text() == 'The <b>"spoon"</b>'
    page.keyboard.press("F2")  # the row's button has the focus, the stage does not
    assert page.locator(".ms-rename").count() == 0
    both = two.painted_share()
    row(two, 0).locator("[data-do=hide]").click()
    assert two.painted_share() < both
    row(two, 1).locator("[data-do=hide]").click()
    titles = [
        two.page.locator(f"[data-save={kind}]").get_attribute("title") for kind in ("zip", "mask")
    ]
    assert titles[0] == "All objects are hidden: show one to save it"
    assert titles[1].startswith("Save: PNG")
    two.action("undo")
    assert two.page.locator("[data-save=zip]").get_attribute("title").startswith("Save: all")
    page.locator(".ms-swatch").nth(4).click()
    assert two.objects[1]["color"] == page.locator(".ms-swatch").nth(4).get_attribute("data-color")
    row(two, 1).locator("[data-do=remove]").click()
    assert [entry["name"] for entry in two.objects] == ["Object 1"]
    assert two.painted_share() == 0  # the one left is hidden
    for _ in range(4):
        two.action("undo")
    assert [entry["name"] for entry in two.objects] == ["Object 1", "Object 2"]
    assert two.painted_share() == pytest.approx(both, abs=0.002)


def press_down(demo: DemoPage, locator) -> None:
    """Press the mouse on something and hold it."""
    bounds = locator.bounding_box()
    middle = bounds["x"] + bounds["width"] / 2, bounds["y"] + bounds["height"] / 2
    demo.page.mouse.move(*middle)
    demo.page.mouse.down()


@pytest.mark.parametrize("typed", ["Cup", ""])
def test_a_press_in_the_list_ends_a_name_and_does_what_it_says(two, typed):
    row(two, 0).locator("[data-do=rename]").click()
    two.page.keyboard.type(typed)
    row(two, 1).locator("[data-do=hide]").click()
    assert [(one["name"], one["hidden"]) for one in two.objects] == [
        (typed or "Object 1", False),
        ("Object 2", True),
    ]
    assert two.page.locator(".ms-rename").count() == 0
    row(two, 0).locator("[data-do=rename]").click()
    two.page.keyboard.type("Gone")
    row(two, 1).locator("[data-do=remove]").click()
    assert [one["name"] for one in two.objects] == ["Gone"]


def test_a_press_in_the_list_goes_on_while_a_mask_arrives(two):
    two.route("**/run/predict*", lambda route: None)  # until the press has begun
    with two.page.expect_request("**/run/predict*"):
        two.click(380, 300)
    press_down(two, row(two, 0).locator("[data-do=hide]"))
    two.page.unroute("**/run/predict*")
    two.wait_mask()
    two.page.mouse.up()
    assert [one["hidden"] for one in two.objects] == [True, False]


def test_a_name_is_dropped_with_its_photo(two):
    """A photo that opens while a name is typed takes the name's object with it."""
    row(two, 0).locator("[data-do=rename]").click()
    two.page.keyboard.type("Cup")
    example = two.page.locator('.ms-example[data-example="cat.jpg"]')
    example.evaluate("(button) => button.click()")  # the name keeps the focus
    two.page.wait_for_selector('.ms[data-title="cat.jpg"][data-state=ready]')
    assert two.page.locator(".ms-rename").count() == 0
    assert two.page.locator(".ms-object").count() == len(two.objects)
    assert "Cup" not in [one["name"] for one in two.objects]
    assert two.page.evaluate("document.activeElement !== document.body")


def test_undo_goes_back_over_objects_and_asks_nobody(two):
    two.click(380, 300)
    two.wait_mask()
    states = [json.dumps(two.objects)]
    requests = []
    two.page.on("request", lambda request: requests.append(request.url))
    while two.page.locator("[data-action=undo]").is_enabled() and two.objects:
        two.action("undo")
        states.append(json.dumps(two.objects))
    assert json.loads(states[-1]) == []
    assert len(states) == 5  # point, box, object 2, point and object 1
    for state in states[-2::-1]:
        two.action("redo")
        assert json.dumps(two.objects) == state
    two.wait_mask()
    assert two.painted_share() > 0
    assert requests == []


def test_a_chosen_part_is_where_the_next_click_starts(coffee, library):
    coffee.click(300, 200)
    coffee.wait_mask()
    coffee.page.locator(".ms-candidate[aria-checked=false]").first.click()
    chosen = int(
        coffee.page.locator(".ms-candidate[aria-checked=true]").get_attribute("data-index")
    )
    coffee.click(250, 220)
    coffee.wait_mask()
    (wire,) = coffee.objects
    assert wire["choices"] == [chosen, None]
    assert iou(coffee.saved_mask(), expected(library, wire)) >= 0.999


def test_candidates_are_named_by_size_and_scored(coffee):
    coffee.click(300, 200)
    coffee.wait_mask()
    buttons = coffee.page.locator(".ms-candidate")
    names = {}
    for index in range(3):
        label = buttons.nth(index).get_attribute("aria-label")
        name, score, stability, share = label.replace(":", ",").split(", ")
        names[name] = float(share.split(" %")[0].lstrip("<"))
        assert 0 <= float(score.split()[1]) <= 1
        assert 0 <= float(stability.split()[1]) <= 1
        assert buttons.nth(index).locator("canvas").count() == 1
    assert list(names) == ["Whole", "Part", "Sub-part"]  # in this order, whichever is best
    assert names["Whole"] >= names["Part"] >= names["Sub-part"]
    coffee.drag((100, 50), (480, 380))
    coffee.wait_mask()
    assert buttons.count() == 4
    assert buttons.nth(0).get_attribute("aria-label").startswith("Best fit")


def test_a_low_score_is_said_in_words(visit):
    demo = visit()
    demo.open_example("photographer.jpg")
    said = {}
    for place in ((330, 200), (80, 250)):
        demo.click(*place)
        demo.wait_mask()
        status = demo.page.locator(".ms-status").inner_text()
        said[float(status.split("score ")[1])] = demo.page.locator(".ms-verdict").inner_text()
        demo.action("undo")
    low, high = min(said), max(said)
    assert low < 0.6 < high  # else this photo shows nothing
    assert said[low] == "Unsure: add a point or draw a box."
    assert said[high] == ""
    demo.drag((225, 240), (400, 505))
    demo.wait_mask()
    assert demo.page.locator(".ms-verdict").inner_text() == "Unsure: add a point."


def test_the_clean_up_is_shown_live_and_is_in_the_files(coffee, library):
    coffee.click(300, 200)
    coffee.wait_mask()
    coffee.page.get_by_text("Clean up the edge").click()
    coffee.page.get_by_label("Specks, holes").fill("50")
    coffee.page.get_by_label("Smooth").fill("30")
    coffee.wait_mask()
    (wire,) = coffee.objects
    refine = wire["refine"]
    assert refine["area"] > 0
    assert refine["smooth"] > 0
    refinement = Refinement(refine["area"], refine["smooth"])
    mask = expected(library, wire)
    assert (coffee.saved_mask() == refinement.mask(mask)).all()
    assert (refinement.mask(mask) != mask).any()  # else this shows nothing
    coffee.page.get_by_label("Feather").fill("20")
    coffee.wait_mask()
    feather = coffee.objects[0]["refine"]["feather"]
    alpha = np.asarray(coffee.save("cutout"))[..., 3]
    soft = Refinement(refine["area"], refine["smooth"], feather)
    assert (alpha == soft.alpha(soft.mask(mask))).all()
    coffee.action("undo")
    assert coffee.objects[0]["refine"] == refine | {"feather": 0}


def test_all_kinds_of_files_hold_all_objects(two, library):
    masks = [expected(library, wire) for wire in two.objects]
    numbers = np.asarray(two.save("indexed"))
    assert set(np.unique(numbers)) == {0, 1, 2}
    name, data = two.download("coco")
    assert name == "coffee-coco.json"
    annotations = json.loads(data)["annotations"]
    assert len(annotations) == 2
    name, data = two.download("zip")
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        assert packed.testzip() is None
        kinds = {entry.rsplit(".", 1)[-1] for entry in packed.namelist()}
    assert kinds >= {"png", "json", "txt", "svg"}
    svg = two.download("svg")[1].decode()
    drawn = rasterised(two, svg, masks[0].shape)
    assert iou(drawn, masks[0] | masks[1]) >= 0.99
    for annotation, mask in zip(annotations, masks, strict=True):
        polygons = annotation["segmentation"]
        assert isinstance(polygons, list)
        runs = coco_mask.merge(coco_mask.frPyObjects(polygons, *mask.shape))
        assert iou(coco_mask.decode(runs).astype(bool), mask) >= 0.99


def rasterised(demo: DemoPage, svg: str, shape: tuple[int, int]) -> np.ndarray:
    """What the browser draws of an SVG: where anything is."""
    data = demo.page.evaluate(
        """async ([svg, height, width]) => {
          const picture = new Image();
          picture.src = "data:image/svg+xml;utf8," + encodeURIComponent(svg);
          await picture.decode();
          const canvas = Object.assign(document.createElement("canvas"), { width, height });
          canvas.getContext("2d").drawImage(picture, 0, 0, width, height);
          return canvas.toDataURL("image/png");
        }""",
        [svg, *shape],
    )
    import base64

    picture = Image.open(io.BytesIO(base64.b64decode(data.split(",")[1])))
    return np.asarray(picture.convert("RGBA"))[..., 3] > 127


def test_a_drag_keeps_the_chosen_mask_on_the_screen(new_coffee):
    new_coffee.click(300, 200)
    new_coffee.wait_mask()
    new_coffee.page.locator(".ms-candidate[aria-checked=false]").last.click()
    new_coffee.page.get_by_text("Clean up the edge").click()
    new_coffee.page.evaluate(
        """() => {
          window.blanks = 0;
          const look = () => {
            const layer = document.querySelectorAll(".ms-stage canvas")[1];
            const { data } = layer.getContext("2d").getImageData(0, 0, layer.width, layer.height);
            window.blanks += !data.some((level) => level > 0);
            requestAnimationFrame(look);
          };
          look();
        }"""
    )
    box = new_coffee.page.get_by_label("Smooth").bounding_box()
    middle = box["y"] + box["height"] / 2
    new_coffee.page.mouse.move(box["x"] + 3, middle)
    new_coffee.page.mouse.down()
    for step in range(12):
        new_coffee.page.mouse.move(box["x"] + 5 + step * box["width"] / 14, middle)
        new_coffee.page.wait_for_timeout(40)
    new_coffee.page.mouse.up()
    new_coffee.wait_mask()
    assert new_coffee.page.evaluate("blanks") == 0
    new_coffee.action("undo")  # one entry for the whole drag
    assert new_coffee.objects[0]["refine"]["smooth"] == 0


def drag_slider(demo: DemoPage, label: str, *shares: float) -> None:
    """Press on a slider's left end, go to each of these shares of its width and let go."""
    box = demo.page.get_by_label(label).bounding_box()
    middle = box["y"] + box["height"] / 2
    demo.page.mouse.move(box["x"] + 5, middle)
    demo.page.mouse.down()
    for share in shares:
        demo.page.mouse.move(box["x"] + 5 + share * box["width"], middle, steps=4)
    demo.page.mouse.up()


def test_a_slider_moved_away_and_back_leaves_the_next_step_its_own(coffee):
    coffee.click(300, 200)
    coffee.wait_mask()
    coffee.page.get_by_text("Clean up the edge").click()
    drag_slider(coffee, "Smooth", 0.5, 0)
    assert coffee.objects[0]["refine"]["smooth"] == 0
    coffee.click(350, 230)
    coffee.wait_mask()
    drag_slider(coffee, "Feather", 0.5)
    assert coffee.objects[0]["refine"]["feather"] > 0
    coffee.page.keyboard.press("Control+z")
    assert coffee.objects[0]["refine"]["feather"] == 0
    assert len(coffee.points) == 2


def test_sliders_move_by_keys_and_leave_each_other_alone(coffee):
    coffee.click(300, 200)
    coffee.wait_mask()
    coffee.page.get_by_text("Clean up the edge").click()
    for label, presses in (("Smooth", 8), ("Specks, holes", 20)):
        coffee.page.get_by_label(label).focus()
        for _ in range(presses):
            coffee.page.keyboard.press("ArrowRight")
    coffee.wait_mask()
    before = coffee.objects[0]["refine"]
    assert before["smooth"] > 0
    coffee.page.get_by_label("Feather").focus()
    for _ in range(5):
        coffee.page.keyboard.press("ArrowRight")
    for _ in range(5):
        coffee.page.keyboard.press("ArrowLeft")
    coffee.wait_mask()
    assert coffee.objects[0]["refine"] == before


def test_choosing_a_mask_can_be_undone(coffee):
    coffee.click(300, 200)
    coffee.wait_mask()
    best = coffee.page.locator(".ms-candidate[aria-checked=true]").get_attribute("data-index")
    coffee.page.locator(".ms-candidate[aria-checked=false]").first.click()
    coffee.action("undo")
    chosen = coffee.page.locator(".ms-candidate[aria-checked=true]").get_attribute("data-index")
    assert chosen == best
    assert len(coffee.points) == 1
    chosen_already = coffee.page.locator(".ms-candidate[aria-checked=true]")
    chosen_already.click()
    coffee.page.locator(".ms-swatches [aria-checked=true]").click()
    assert coffee.page.locator("[data-action=redo]").is_enabled()  # nothing has changed


def test_objects_get_names_of_their_own(two):
    row(two, 0).locator("[data-do=remove]").click()
    new_object(two)
    two.click(60, 60)
    names = [entry["name"] for entry in two.objects]
    assert len(set(names)) == 2
