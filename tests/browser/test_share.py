"""Links: what they hold, what they refuse, and that another visitor sees the same."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from PIL import Image

from mobilesam.ui.prompt_canvas import CANVAS_FOLDER
from tests.browser.demo_page import iou
from tests.browser.pictures import disc

CLIPBOARD = ["clipboard-read", "clipboard-write"]


@pytest.fixture(scope="module")
def links(chromium):
    """A blank page that knows how to write and read links."""
    page = chromium.new_page()
    for name in ("geometry.js", "objects.js", "share.js"):
        page.add_script_tag(path=CANVAS_FOLDER / name)
    yield page
    page.close()


def written(links, state):
    return links.evaluate("(state) => writeLink(state)", state)


def read(links, link):
    return links.evaluate("(link) => readLink(link)", link)


def random_name(source):
    letters = "abc XYZ019&=;#%+,:/?'\"<>()*~éß漢🦝\ufdfd"
    return "".join(source.choice(letters) for _ in range(source.randint(1, 40))).strip() or "a"


def random_object(source, size):
    width, height = size
    count = source.choice([0, 1, 1, 2, 5, 64])
    points = [
        [source.randint(0, width), round(source.uniform(0, height), source.choice([0, 2])), label]
        for label in source.choices([0, 1], k=count)
    ]
    box = None
    if not points or source.random() < 0.5:
        x, y = source.randint(0, width - 2), source.randint(0, height - 2)
        box = [x, y, source.randint(x + 1, width), source.randint(y + 1, height)]
    ends = [end for end in range(0 if box else 1, count) if source.random() < 0.7]
    steps = [*ends, count]
    choices = [source.choice([None, 0, 1, 2]) for _ in steps]
    refine = {"area": source.choice([0, 250]), "smooth": source.choice([0, 1.5]), "feather": 0}
    return {
        "name": random_name(source),
        "color": f"#{source.randrange(1 << 24):06x}",
        "hidden": source.random() < 0.2,
        "points": points,
        "box": box,
        "steps": steps,
        "choices": choices,
        "refine": refine,
    }


@pytest.mark.parametrize("seed", range(12))
def test_a_link_gives_back_what_it_was_made_of(links, seed):
    source = random.Random(seed)
    size = [source.randint(2, 4000), source.randint(2, 4000)]
    objects = [random_object(source, size) for _ in range(source.choice([0, 1, 3, 50]))]
    is_example = source.random() < 0.5
    state = {
        "example": random_name(source) if is_example else None,
        "size": size,
        "title": None if is_example else random_name(source),
        "model": source.choice([None, "mobile_sam", random_name(source)]),
        "objects": objects,
        "active": source.randrange(len(objects)) if objects else None,
    }
    link = written(links, state)
    assert link.isascii() and " " not in link
    assert read(links, link) == {"state": state}
    # and the browser's address bar leaves it as it is
    assert links.evaluate("(link) => (location.hash = link, location.hash)", link) == link


def test_a_link_is_short_and_can_be_read_by_a_person(links):
    cat = {
        "id": 7,
        "name": "Cat",
        "color": "#1E90FF",
        "hidden": False,
        "points": [[250, 100, 1], [390, 275, 0]],
        "box": None,
        "steps": [1, 2],
        "choices": [None, 2],
        "refine": {"area": 0, "smooth": 1.5, "feather": 0},
    }
    empty = cat | {"id": 8, "points": [], "steps": [], "choices": []}
    state = {
        "example": "cat.jpg",
        "size": [451, 300],
        "title": "cat.jpg",
        "model": "embedded",
        "objects": [empty, cat],
        "active": 1,
    }
    assert written(links, state) == (
        "#v=1&example=cat.jpg&size=451x300&model=embedded&active=1"
        "&object=Cat;1e90ff;+250,100;-390,275;choices:best,2;refine:0,1.5,0"
    )
    own = written(links, state | {"example": None, "title": "holiday photo.jpg"})
    assert own.startswith("#v=1&photo=holiday%20photo.jpg&size=451x300&")
    broken = written(links, state | {"title": None, "objects": [cat | {"name": "a\ud800b"}]})
    assert "a%EF%BF%BDb" in broken  # half a character would have thrown


@pytest.mark.parametrize("hash_text", ["", "#", "#everything", "#v", "#object=a", "#/?view=api"])
def test_what_is_no_link_of_ours_is_left_alone(links, hash_text):
    assert read(links, hash_text) is None


GOOD = "#v=1&example=cat.jpg&size=451x300&object=Cat;1e90ff;+250,100"
HOSTILE = {
    "another version": GOOD.replace("v=1", "v=2"),
    "no size": "#v=1&example=cat.jpg&object=Cat;1e90ff;+250,100",
    "size is one number": GOOD.replace("451x300", "451"),
    "size is negative": GOOD.replace("451x300", "-451x300"),
    "size is 0": GOOD.replace("451x300", "0x300"),
    "size is huge": GOOD.replace("451x300", "99999999x300"),
    "size is 1e5": GOOD.replace("451x300", "1e2x300"),
    "two photos": GOOD + "&photo=dog.jpg",
    "a field twice": GOOD + "&example=dog.jpg",
    "a field nobody knows": GOOD + "&token=1",
    "a field of every object": GOOD + "&__proto__=1",
    "not a field": GOOD + "&&",
    "half a character": GOOD.replace("cat.jpg", "%E9%"),
    "a control character": GOOD.replace("cat.jpg", "cat%00.jpg"),
    "a line break": GOOD.replace("Cat;", "Cat%0AGo%20to;"),
    "no name": GOOD.replace("Cat;", "%20;"),
    "a long name": GOOD.replace("Cat;", "a" * 81 + ";"),
    "a long title": GOOD.replace("cat.jpg", "a" * 201),
    "a colour with style": GOOD.replace("1e90ff", "red)%3Burl(x)"),
    "a short colour": GOOD.replace("1e90ff", "1e9"),
    "no colour": "#v=1&size=451x300&object=Cat",
    "outside": GOOD.replace("+250,100", "+452,100"),
    "below": GOOD.replace("+250,100", "+250,301"),
    "not a number": GOOD.replace("+250,100", "+NaN,100"),
    "infinite": GOOD.replace("+250,100", "+1e308,100"),
    "a place missing": GOOD.replace("+250,100", "+250"),
    "three places": GOOD.replace("+250,100", "+250,100,1"),
    "no prompt": GOOD.replace(";+250,100", ""),
    "65 points": GOOD + ";+1,1" * 64,
    "51 objects": GOOD + "&object=Cat;1e90ff;+250,100" * 50,
    "box reversed": GOOD + ";box:300,200,10,20",
    "box incomplete": GOOD + ";box:10,20,300",
    "box outside": GOOD + ";box:10,20,460,200",
    "two boxes": GOOD + ";box:1,1,9,9;box:1,1,9,9",
    "something else": GOOD + ";mask:1",
    "steps descend": GOOD + ";+9,9;steps:2,1",
    "steps too few": GOOD + ";+9,9;steps:1",
    "steps of no box": GOOD + ";steps:0,1",
    "a step between": GOOD + ";steps:0.5,1",
    "steps without end": GOOD + ";steps:1,2",
    "choices too many": GOOD + ";choices:1,1",
    "no such choice": GOOD + ";choices:3",
    "a choice below": GOOD + ";choices:-1",
    "refined by one number": GOOD + ";refine:1",
    "smoothed too much": GOOD + ";refine:0,51,0",
    "hidden by value": GOOD + ";hidden1",
    "no such object": GOOD + "&active=2",
    "object 0": GOOD + "&active=0",
    "very long": GOOD + ";" * 300_000,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_link_that_is_wrong_anywhere_gives_one_sentence(links, case):
    assert "state" in read(links, GOOD)
    answer = read(links, HOSTILE[case])
    assert set(answer) == {"error"}
    assert answer["error"].startswith("This link cannot be used: ")
    assert answer["error"].endswith(".") and len(answer["error"]) < 120
    assert "\n" not in answer["error"]


# --- the page --------------------------------------------------------------------------------


def copied_link(demo):
    """Press the button, and return what stands behind the page's address in the clipboard."""
    demo.page.get_by_role("button", name="Copy link").click()
    demo.page.get_by_role("button", name="Link copied").wait_for()
    text = demo.page.evaluate("navigator.clipboard.readText()")
    assert text == demo.page.url
    assert text.startswith(demo.url)
    return text[text.index("#") :]


def without_ids(objects):
    return [{key: value for key, value in one.items() if key != "id"} for one in objects]


def test_another_visitor_sees_what_the_link_was_copied_from(visit):
    demo = visit(permissions=CLIPBOARD)
    demo.open_example("coffee.jpg")
    demo.click(300, 200)
    demo.wait_mask()
    demo.click(150, 60, button="right")
    demo.wait_mask()
    demo.action("new-object")
    demo.drag((325, 225), (408, 330))
    demo.wait_mask()
    demo.page.locator(".ms-candidate").nth(3).click()
    demo.page.get_by_role("button", name="Rename Object 2").click()
    demo.page.keyboard.type("Spoon; a small & shiny one")
    demo.page.keyboard.press("Enter")
    demo.page.locator("summary", has_text="Clean up").click()
    demo.page.get_by_label("Smooth").fill("20")
    demo.wait_mask()
    mask, objects = demo.saved_mask(), demo.objects
    assert len(objects) == 2 and objects[1]["choices"][-1] == 3
    assert objects[1]["refine"]["smooth"] > 0

    other = visit(address=copied_link(demo))
    assert other.data("title") == "coffee.jpg"
    other.wait_mask()
    assert without_ids(other.objects) == without_ids(objects)
    assert np.array_equal(other.saved_mask(), mask)
    assert np.array_equal(np.asarray(other.save("indexed")), np.asarray(demo.save("indexed")))
    assert other.notice == ""


def test_a_link_from_an_own_photo_holds_its_prompts_only(visit, tmp_path):
    photo = tmp_path / "my disc.png"
    disc((320, 240), (160, 120), 60).save(photo)
    demo = visit(permissions=CLIPBOARD)
    demo.open_file(photo)
    demo.click(160, 120)
    demo.wait_mask()
    mask = demo.saved_mask()
    link = copied_link(demo)
    assert "prompts and settings only" in demo.notice
    assert link.startswith("#v=1&photo=my%20disc.png&size=320x240&")

    other = visit(address=link)
    assert "320 × 240" in other.notice and "my disc.png" in other.notice
    Image.new("RGB", (300, 240), "grey").save(tmp_path / "another.png")
    other.open_file(tmp_path / "another.png")
    assert other.objects == []
    assert "were not applied" in other.notice
    other.open_file(photo)
    other.wait_mask()
    assert other.points == [[160, 120, 1]]
    assert iou(other.saved_mask(), mask) == 1
    assert other.notice == ""


def test_a_wrong_link_is_said_and_the_page_opens_as_usual(visit):
    demo = visit(address=HOSTILE["outside"])
    demo.wait_mask()
    assert demo.notice == (
        "This link cannot be used: a point of object 1 lies outside the photo. Ask for a new one."
    )
    assert demo.data("title") == "raccoon.jpg"
    assert [one["name"] for one in demo.objects] == ["Raccoon"]
    gone = visit(address=GOOD.replace("cat.jpg", "gone.jpg"))
    assert "gone.jpg, which is not on this server" in gone.notice
    assert json.loads(gone.data("points")) != [[250, 100, 1]]


def test_a_link_pasted_while_the_page_writes_its_own_into_the_address_is_followed(demo):
    demo.click(560, 220)
    demo.wait_mask()
    demo.page.evaluate(
        """(link) => {
          location.hash = link;
          dispatchEvent(new Event("pagehide")); // keeps what is shown, before the page hears of it
        }""",
        GOOD,
    )
    demo.page.wait_for_selector('.ms[data-title="cat.jpg"][data-state=ready]')
    demo.wait_mask()
    assert without_ids(demo.objects)[0]["name"] == "Cat"
    assert demo.painted(250, 100)
    demo.page.wait_for_function("() => location.hash.includes('example=cat.jpg')")


LINK_TO_ANOTHER_PHOTO = "#v=1&photo=mine.png&size=320x240&object=Mine;1e90ff;+160,120"


def test_work_done_while_a_link_waits_for_its_photo_is_kept(visit):
    demo = visit(address=LINK_TO_ANOTHER_PHOTO)
    demo.wait_mask()
    demo.click(100, 100)
    demo.wait_mask()
    objects = without_ids(demo.objects)
    demo.reload()
    demo.wait_mask()
    assert without_ids(demo.objects) == objects


def test_a_link_s_missing_model_is_told_with_the_photo_it_waits_for(demo):
    demo.page.evaluate(
        "(link) => { location.hash = link; }",
        LINK_TO_ANOTHER_PHOTO.replace("&object", "&model=sam_vit_b&object"),
    )
    demo.page.wait_for_function(
        "() => document.querySelector('.ms-notice').textContent.includes('the model sam_vit_b')"
    )
    assert demo.notice.startswith("This link holds prompts for a photo of 320 × 240 pixels")
    assert demo.notice.endswith("which is not on this server: another one answers.")
