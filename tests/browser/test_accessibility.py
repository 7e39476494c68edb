"""For everybody: axe-core finds nothing, the keyboard does everything, motion can be off."""

from __future__ import annotations

from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

SIZES = [(1440, 900), (390, 844)]
# Where axe cannot tell what lies under a text: over the photo, and in rows that are scrolled away.
CANNOT_BE_SEEN = """(node) => {
  const box = node.closest(".ms-found-box")?.getBoundingClientRect();
  const isScrolledAway = box && node.getBoundingClientRect().top >= box.bottom - 1;
  return Boolean(node.closest(".ms-stage, .ms-camera-view") || isScrolledAway);
}"""
FADED = "() => !document.getAnimations().some((one) => one instanceof CSSTransition)"
EMPTY_SLIDER = "#mobilesam-compare .empty"  # gr.ImageSlider's own, until there is a picture


def violations(demo, *exclude):
    """What axe-core (WCAG A, AA and best practice) finds in the component, one line each."""
    page = demo.page
    context = {"include": [[".ms"], ["#mobilesam-compare"]], "exclude": [[one] for one in exclude]}
    if not page.locator("#mobilesam-compare").is_visible():
        context["include"].pop()
    response = Axe().run(page, context=context).response
    found = [
        (rule["id"], node["target"]) for rule in response["violations"] for node in rule["nodes"]
    ]
    for rule in response["incomplete"]:
        for node in rule["nodes"]:
            if not page.locator(str(node["target"][0])).first.evaluate(CANNOT_BE_SEEN):
                found.append((f"{rule['id']} (undecided)", node["target"]))
    return found


def open_everything_closed(demo):
    for summary in demo.page.locator(".ms details:not([open]) > summary").all():
        if summary.is_visible():
            summary.click()


def test_screen_readers_are_told_that_the_page_is_in_english(visit):
    page = visit(locale="ar").page
    for part in (".ms h1", "#mobilesam-compare"):
        language = page.locator(part).evaluate("(node) => node.closest('[lang]').lang")
        assert language == "en", part


# As Firefox does where zoom is set to be of text only.
ENLARGE_TEXT = """() => {
  const all = [...document.querySelectorAll("main, main *")];
  const sizes = all.map((node) => getComputedStyle(node)).map(({ fontSize, lineHeight }) => [
    `calc(2 * ${fontSize})`,
    lineHeight === "normal" ? lineHeight : `calc(2 * ${lineHeight})`,
  ]);
  all.forEach(({ style }, index) => ([style.fontSize, style.lineHeight] = sizes[index]));
}"""
CUT_OFF = """(parts) => parts
  .filter(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth)
  .map(({ textContent }) => textContent)"""


@pytest.mark.parametrize("size", [(1280, 860), (390, 844)], ids=["desk", "phone"])
def test_text_of_twice_the_size_is_seen_whole(visit, size):
    demo = visit(keep_objects=True, viewport=dict(zip(("width", "height"), size, strict=True)))
    demo.open_example("astronaut.jpg", keep_objects=True)  # one of its objects has four masks
    demo.wait_mask()
    page = demo.page
    page.evaluate(ENLARGE_TEXT)
    width = page.evaluate("document.documentElement.clientWidth")
    panel = page.locator(".ms-side").bounding_box()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tools = [one.bounding_box() for one in page.locator(".ms-tool").all()]
    for first, second in pairwise(tools):
        assert first["x"] + first["width"] <= second["x"] or (
            first["y"] + first["height"] <= second["y"]
        )
    assert page.locator(".ms-tool").evaluate_all(CUT_OFF) == []
    for part in (".ms-tab", ".ms-side [data-action]", ".ms-save", ".ms-candidate"):
        for box in (one.bounding_box() for one in page.locator(part).all() if one.is_visible()):
            assert box["x"] >= (0 if part == ".ms-tab" else panel["x"]), part
            assert box["x"] + box["width"] <= width - (24 if size[0] > 1000 else 12), part
    assert page.locator(".ms-candidate").count() == 4
    assert (
        page.locator(".ms-save, .ms-candidate, .ms-candidate :is(b, span)").evaluate_all(CUT_OFF)
        == []
    )
    is_cut = "(lines) => lines.some((line) => line.scrollHeight > line.clientHeight)"
    assert not page.locator(".ms-candidate span").evaluate_all(is_cut)
    page.get_by_role("tab", name="Compare").click()
    assert page.locator(".ms-compare-controls > button").evaluate_all(CUT_OFF) == []


def test_axe_finds_nothing(visit):
    demo = visit(keep_objects=True)
    page = demo.page

    def assert_clean(*exclude):
        for scheme, is_dark in (("light", False), ("dark", True)):
            page.emulate_media(color_scheme=scheme)
            expect(page.locator("body.dark")).to_have_count(int(is_dark))
            page.wait_for_function(FADED)
            for width, height in SIZES:
                page.set_viewport_size({"width": width, "height": height})
                assert violations(demo, *exclude) == [], (scheme, width)

    demo.open_example("astronaut.jpg", keep_objects=True)
    demo.wait_mask()
    assert len(demo.objects) == 3
    open_everything_closed(demo)
    assert_clean()

    page.locator(".ms-tab[data-tab=everything]").click()
    assert_clean()
    page.locator(".ms-found-start").click()
    page.wait_for_selector(".ms:not([data-found='0'])")
    page.wait_for_selector(".ms:not([data-everything=running])")
    assert_clean()

    page.locator(".ms-tab[data-tab=compare]").click()
    page.locator("#mobilesam-compare").wait_for()
    assert_clean(EMPTY_SLIDER)

    page.locator(".ms-tab[data-tab=segment]").click()
    page.get_by_role("button", name="Take a photo with the camera").click()  # it is refused
    page.locator(".ms-notice").wait_for()
    assert_clean()


def test_axe_finds_nothing_in_the_camera(visit):
    demo = visit(keep_objects=True, permissions=["camera"])
    demo.page.get_by_role("button", name="Take a photo with the camera").click()
    demo.page.wait_for_selector(".ms-camera[open] .ms-shutter[aria-disabled=false]")
    assert violations(demo) == []


# --- the keyboard --------------------------------------------------------------------------------


class Keyboard:
    """A visitor without a mouse: every step is a key."""

    def __init__(self, demo):
        self.demo, self.page = demo, demo.page

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def go_to(self, selector, key="Tab"):
        """Press Tab until an element has the focus, and see that the focus can be seen."""
        for _ in range(120):
            self.press(key)
            if self.page.evaluate("(one) => document.activeElement.matches(one)", selector):
                break
        else:
            raise AssertionError(f"{key} does not lead to {selector}")
        outline = self.page.evaluate(
            "() => { const { outlineStyle, outlineWidth, boxShadow } ="
            " getComputedStyle(document.activeElement);"
            " return outlineStyle !== 'none' && outlineWidth !== '0px' || boxShadow !== 'none'; }"
        )
        assert outline, f"{selector} has the focus, and nothing shows it"

    def hear(self, pattern):
        """Wait until the live region has said something since what was heard last."""
        self.page.wait_for_function(
            """(pattern) => {
              const place = window.heard.findIndex((text) => new RegExp(pattern).test(text));
              return window.heard.splice(0, place + 1).length > 0;
            }""",
            arg=pattern,
        )

    def listen(self):
        self.page.evaluate(
            """() => {
              window.heard = [];
              const live = document.querySelector(".ms > [aria-live=polite]");
              new MutationObserver(() => window.heard.push(live.textContent))
                .observe(live, { childList: true, characterData: true, subtree: true });
            }"""
        )


@pytest.fixture
def keyboard(demo):
    keyboard = Keyboard(demo)
    keyboard.listen()
    return keyboard


def test_the_whole_flow_by_keyboard_alone(keyboard):
    demo, page = keyboard.demo, keyboard.page
    keyboard.go_to('.ms-example[data-example="temple.jpg"]')
    keyboard.press("Enter")
    page.wait_for_selector('.ms[data-title="temple.jpg"][data-state=ready]')
    keyboard.hear(r"The photo is ready")
    demo.wait_mask()
    opened = demo.objects

    # a new object: include, exclude
    keyboard.go_to(".ms-stage", "Shift+Tab")
    keyboard.press("n")
    keyboard.hear(r"Object 2: click on it")
    keyboard.press(*["ArrowLeft"] * 4, "Shift+ArrowLeft", "Shift+ArrowLeft", "ArrowUp")
    keyboard.hear(r"^\d+, \d+")
    keyboard.press("Enter")
    keyboard.hear(r"^Include point at \d+, \d+\.$")
    demo.wait_mask()
    keyboard.hear(r"^Mask: \S+ % of the photo, score \d\.\d\d\.")
    keyboard.press("Shift+ArrowDown", "Shift+ArrowDown", "Shift+ArrowDown", "Shift+Enter")
    keyboard.hear(r"^Exclude point at \d+, \d+\.$")
    demo.wait_mask()
    assert [label for _, _, label in demo.points] == [1, 0]

    # a box
    keyboard.press("Shift+ArrowLeft", "b")
    keyboard.hear(r"First corner of the box")
    keyboard.press(*["Shift+ArrowUp"] * 6, *["Shift+ArrowRight"] * 4, "b")
    keyboard.hear(r"^Box from \d+, \d+ to \d+, \d+\.$")
    demo.wait_mask()
    assert demo.box is not None

    # another candidate
    keyboard.go_to(".ms-candidate")
    keyboard.press("ArrowRight")
    keyboard.hear(r"chosen")
    demo.wait_mask()
    assert demo.objects[1]["choices"][-1] is not None

    # one more object, renamed, refined
    keyboard.go_to(".ms-stage", "Shift+Tab")
    keyboard.press("n", *["Shift+ArrowUp"] * 3, "Enter")
    keyboard.hear(r"^Include point")
    demo.wait_mask()
    keyboard.press("F2")
    page.keyboard.type("Upper roof")
    keyboard.press("Enter")
    keyboard.hear(r"^Renamed to Upper roof")
    assert demo.objects[2]["name"] == "Upper roof"
    keyboard.press("[", "]")  # the photo has the focus again
    keyboard.go_to("summary")
    keyboard.press("Enter")
    keyboard.go_to('input[type="range"][aria-label="Smooth"]')
    keyboard.press(*["ArrowRight"] * 12)
    page.wait_for_function(
        "() => JSON.parse(document.querySelector('.ms').dataset.objects)[2].refine.smooth > 0"
    )
    demo.wait_mask()
    final = demo.objects

    # saved
    keyboard.go_to(".ms-save[data-save=mask]", "Shift+Tab")
    with page.expect_download() as waiting:
        keyboard.press("Enter")
    assert waiting.value.suggested_filename.endswith(".png")
    keyboard.hear(r" saved\.")

    # everything undone, across objects, and done again
    counts = []
    for _ in range(30):
        if page.locator("[data-action=undo]").is_disabled():
            break
        keyboard.press("Control+z")
        keyboard.hear(r"^Undone\.")
        counts.append(len(demo.objects))
    assert prompts_of(demo.objects) == prompts_of(opened)
    assert set(counts) == {3, 2, 1} and counts == sorted(counts, reverse=True)
    for _ in counts:
        keyboard.press("Control+Shift+Z")
    assert prompts_of(demo.objects) == prompts_of(final)

    # the other tabs
    keyboard.go_to("[role=tab]", "Shift+Tab")
    keyboard.press("ArrowRight")
    assert demo.data("tab") == "everything"
    keyboard.press("ArrowRight")
    assert demo.data("tab") == "compare"
    keyboard.go_to("#ms-compare-start")  # both models that ship are here
    keyboard.go_to("[role=tab]", "Shift+Tab")
    keyboard.press("ArrowRight")
    assert demo.data("tab") == "segment"


def test_a_press_that_leaves_nothing_more_to_do_keeps_the_focus(keyboard):
    demo, page = keyboard.demo, keyboard.page
    demo.click(300, 200)
    demo.wait_mask()
    mask = page.locator(".ms-save[data-save=mask]")
    mask.focus()
    held = []
    demo.route("**/queue/join*", lambda route: held.append(route))  # until all presses are done
    with page.expect_download():
        with page.expect_request("**/queue/join*"):
            keyboard.press("Enter")
        assert mask.is_disabled()
        keyboard.press("Enter", "Space")
        page.wait_for_timeout(100)
        saves = [route for route in held if '"kind"' in route.request.post_data]
        assert len(saves) == 1  # one press, one file
        page.unroute("**/queue/join*")  # and it goes its way
    keyboard.hear(r" saved\.")
    assert mask.is_enabled()
    assert page.evaluate("document.activeElement.dataset.save") == "mask"

    for action in ("undo", "redo", "clear", "remove-all"):
        button = page.locator(f"[data-action={action}]")
        button.focus()
        for _ in range(10):
            if button.is_disabled():
                break
            keyboard.press("Enter")
        after = demo.objects
        keyboard.press("Enter", "Space")
        assert page.evaluate("document.activeElement.dataset.action") == action
        assert demo.objects == after  # what can do nothing does nothing
    assert demo.objects == []

    page.locator(".ms-swatch").first.focus()
    keyboard.press("Enter", "ArrowRight")
    page.locator("summary").first.click()
    smooth = page.locator('input[aria-label="Smooth"]')
    smooth.focus()
    keyboard.press("ArrowRight")
    assert smooth.input_value() == "0"

    demo.click(300, 200)
    demo.click(320, 220)
    smooth.focus()
    keyboard.press("ArrowRight")
    assert smooth.get_attribute("aria-valuetext").endswith(" px")
    page.locator("[data-point='1']").focus()
    keyboard.press("Control+z", "Control+z")  # the slider's step, and the second point
    assert page.evaluate("document.activeElement.dataset.point") == "0"


def test_zoom_messages_and_picked_masks_are_told(keyboard):
    demo, page = keyboard.demo, keyboard.page
    assert page.locator(".ms :is(h1, h2, h3) button").count() == 0
    keyboard.go_to("[data-action=zoom-in]")
    keyboard.press("Enter")
    keyboard.hear(r"^Zoom 125 %\.")
    assert page.get_by_role("button", name="125 %: show the whole photo").is_visible()
    keyboard.press("Shift+Tab", "Enter")
    keyboard.hear(r"^Zoom 100 %\.")

    for focused in (".ms-notice [aria-label]", "[data-action=open]"):
        page.get_by_role("button", name="Take a photo with the camera").click()  # it is refused
        page.locator(".ms-notice").wait_for()
        page.locator(focused).focus()
        keyboard.press("Escape")
        assert demo.notice == ""
        expected = ".ms-stage" if "notice" in focused else focused
        assert page.locator(expected).evaluate("(node) => node === document.activeElement")

    stage = page.locator(".ms-stage")
    assert "includes the spot" in stage.get_attribute("aria-label")
    page.locator(".ms-tab[data-tab=everything]").click()
    assert "makes the mask under it an object" in stage.get_attribute("aria-label")
    stage.focus()
    keyboard.press("Enter")
    keyboard.hear(r"^There is no mask here\.")
    page.locator(".ms-choice").get_by_label("8×8").check()
    page.locator(".ms-found-start").press("Enter")
    page.wait_for_selector(".ms[data-everything=done]:not([data-found='0'])")
    spot = page.locator(".ms-found-box tbody tr").first
    for _ in range(2):  # the second time it is one already
        spot.press("Enter")
        keyboard.hear(r"^It is an object now")
    assert len(demo.objects) == 1


def prompts_of(objects):
    return [(one["name"], one["points"], one["box"], one["refine"]) for one in objects]


# --- forced colours ------------------------------------------------------------------------------

CHOSEN_AND_NOT = (
    (".ms-tab[aria-selected=true]", ".ms-tab[aria-selected=false]"),
    (".ms-tool[aria-checked=true]", ".ms-tool[aria-checked=false]"),
    (".ms-candidate[aria-checked=true]", ".ms-candidate[aria-checked=false]"),
    (".ms-swatch[aria-checked=true]", ".ms-swatch[aria-checked=false]"),
    ("[data-selected=true] .ms-object-name", "[data-selected=false] .ms-object-name"),
    ("[data-action=zoom-in]", "[data-action=redo]"),  # one that can be pressed, one that cannot
)
SIGNS = """(node) => {
  const { backgroundColor, color, borderColor, borderWidth, boxShadow } = getComputedStyle(node);
  return [backgroundColor, color, borderColor, borderWidth, boxShadow].join();
}"""


def test_forced_colours_show_what_is_chosen(visit):
    demo = visit(keep_objects=True, forced_colors="active")
    page = demo.page
    demo.open_example("astronaut.jpg", keep_objects=True)
    demo.wait_mask()
    ground = "(nodes) => nodes.map((node) => getComputedStyle(node).backgroundColor)"
    for scheme in ("light", "dark"):
        page.emulate_media(forced_colors="active", color_scheme=scheme)
        for pair in CHOSEN_AND_NOT:
            chosen, other = (page.locator(one).first.evaluate(SIGNS) for one in pair)
            assert chosen != other, (scheme, pair)
        assert len(set(page.locator(".ms-swatch").evaluate_all(ground))) == 7
        assert len(set(page.locator(".ms-object-name i").evaluate_all(ground))) == 3

    page.locator(".ms-tab[data-tab=everything]").click()
    page.locator(".ms-choice", has_text="8×8").get_by_label("8×8").check()
    page.locator(".ms-found-start").click()
    page.wait_for_selector(".ms:not([data-found='0'])")
    page.wait_for_selector(".ms:not([data-everything=running])")
    rows = page.locator(".ms-found-box tbody tr")
    rows.first.focus()
    lit, other = (rows.nth(row).locator("td").last.evaluate(SIGNS) for row in (0, 1))
    assert lit != other
    assert len(set(page.locator(".ms-found-box td i").evaluate_all(ground))) > 1


# --- motion --------------------------------------------------------------------------------------


def test_reduced_motion_leaves_nothing_moving(visit):
    demo = visit(keep_objects=True, reduced_motion="reduce")
    demo.wait_mask()
    demo.page.evaluate(
        """() => {
          window.started = [];
          document.addEventListener("animationstart", ({ animationName }) => {
            if (animationName.startsWith("ms-")) started.push(animationName);
          });
        }"""
    )
    demo.open_example("coffee.jpg", keep_objects=True)
    demo.wait_mask()
    moving = "() => document.getAnimations().map(({ effect }) => effect.target.className)"
    assert demo.page.evaluate(moving) == []
    for selector in (".ms-example", ".ms-candidate", "[data-action=open]", ".ms-tab"):
        demo.page.locator(selector).last.hover()
        assert demo.page.evaluate(moving) == [], selector
    demo.click(300, 200)
    demo.wait_mask()
    assert demo.page.evaluate(moving) == []
    assert demo.page.evaluate("started") == []
