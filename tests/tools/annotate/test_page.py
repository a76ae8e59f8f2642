"""The page in a real browser: what is clicked, typed and dragged is what stands in the prompts, exactly."""

import numpy as np
import pytest
from scipy.ndimage import label

from tests.support.annotate_page import NUM_FRAMES, rectangle
from video.images import read_label_map


def test_a_box_has_exactly_the_pixels_between_its_corners(open_page):
    open_page.keys.press("x")
    open_page.drag((5, 3), (20, 9), (12, 10))
    assert np.array_equal(open_page.prompt(), rectangle(3, 5, 10, 12))


def test_a_brush_paints_a_stroke_of_its_width_in_one_piece(open_page):
    open_page.brush(0)
    open_page.drag((3, 3), (20, 12), (20, 20))
    labels = open_page.prompt()
    assert set(np.unique(labels)) == {0, 1} and labels[3, 3] == labels[12, 20] == labels[20, 20] == 1
    assert label(labels, np.ones((3, 3)))[1] == 1 and (labels > 0).sum() == 18 + 8
    open_page.brush(2)
    open_page.drag((8, 18), (8, 18))
    assert open_page.prompt()[16:21, 6:11].sum() == 21  # a disc of width 5


def test_a_polygon_is_filled_with_its_corners(open_page):
    open_page.keys.press("p")
    for corner in ((4, 4), (14, 4), (14, 14), (4, 14)):
        open_page.mouse.click(*open_page.at(*corner))
    open_page.keys.press("Enter")
    assert np.array_equal(open_page.prompt(), rectangle(4, 4, 14, 14))


def test_objects_erasing_undo_and_redo(open_page):
    keys = open_page.keys
    keys.press("x")
    open_page.drag((2, 2), (8, 8))
    keys.press("n")
    open_page.drag((6, 6), (12, 12))
    both = rectangle(2, 2, 8, 8)
    both[6:13, 6:13] = 2
    assert open_page.becomes(both)
    open_page.brush(1)
    keys.press("e")
    open_page.drag((3, 3), (3, 3))
    erased = both.copy()
    erased[[2, 3, 3, 3, 4], [3, 2, 3, 4, 3]] = 0
    assert open_page.becomes(erased)
    keys.press("Control+z")
    assert open_page.becomes(both)
    open_page.page.click("#undo")
    assert open_page.becomes(rectangle(2, 2, 8, 8))
    keys.press("Control+y")
    assert open_page.becomes(both)
    keys.press("Delete")
    assert open_page.becomes(0 * both)
    keys.press("Control+z")
    assert open_page.becomes(both)


def test_clicks_cut_the_object_out_and_are_undone_one_by_one(open_page):
    keys, mouse = open_page.keys, open_page.mouse
    keys.press("x")
    open_page.drag((2, 2), (8, 8))
    keys.press("n")
    keys.press("c")
    mouse.click(*open_page.at(10, 10))
    painted = rectangle(2, 2, 8, 8)
    one = painted.copy()
    one[8:13, 8:13] = 2
    assert open_page.becomes(one)
    mouse.click(*open_page.at(16, 10))
    two = one.copy()
    two[8:13, 14:19] = 2
    assert open_page.becomes(two)
    mouse.click(*open_page.at(9, 9), button="right")
    three = two.copy()
    three[8:11, 8:11] = 0
    three[8, 8] = 1  # what was painted there before the clicks
    assert open_page.becomes(three)
    keys.press("Control+z")
    assert open_page.becomes(two)
    keys.down("Alt")
    mouse.click(*open_page.at(15, 9))
    keys.up("Alt")
    three = two.copy()
    three[8:11, 14:17] = 0
    assert open_page.becomes(three)
    for expected in (two, one, painted):
        keys.press("Control+z")
        assert open_page.becomes(expected)
    keys.press("Control+y")
    assert open_page.becomes(one)
    assert open_page.cutter.encoded == [0]


def test_clicks_go_by_the_keyboard_and_are_listed(open_page):
    keys = open_page.keys
    keys.press("c")
    keys.press("Shift+ArrowLeft")  # from the middle (16, 12)
    keys.press("Alt+Enter")
    open_page.wait("#error", "click on the object first")
    keys.press("Enter")
    assert open_page.becomes(rectangle(10, 6, 14, 10))
    keys.press("Control+Shift+ArrowLeft")
    keys.press("Alt+Enter")
    hole = rectangle(10, 6, 14, 10)
    hole[11:14, 6:9] = 0
    assert open_page.becomes(hole)
    keys.press("?")
    assert "cut the object out by clicks" in open_page.page.locator("#keys").inner_text()


def test_while_an_object_is_cut_out_nothing_else_changes(open_page):
    keys = open_page.keys
    open_page.cutter.go.clear()
    keys.press("c")
    open_page.mouse.click(*open_page.at(10, 10))
    open_page.wait("#state", "cutting out")
    keys.press("ArrowRight")
    keys.press("x")
    open_page.drag((2, 2), (8, 8))
    open_page.wait("#error", "wait a moment")
    keys.press("r")
    open_page.cutter.go.set()
    assert open_page.becomes(rectangle(8, 8, 12, 12)) and open_page.tracker.steps == 0


def test_painting_is_exact_at_any_zoom(open_page):
    open_page.keys.press("x")
    open_page.mouse.move(*open_page.at(10, 10))
    zoom = float(open_page.page.locator("#view").get_attribute("data-zoom"))
    for step in range(1, 6):
        open_page.mouse.wheel(0, -100)
        zoomed = min(zoom * 1.2**step, 60)
        open_page.page.wait_for_function(f"Math.abs(view.dataset.zoom / {zoomed} - 1) < 1e-6")
    open_page.drag((9, 9), (12, 11))
    assert np.array_equal(open_page.prompt(), rectangle(9, 9, 11, 12))


def test_run_correct_and_run_on(open_page):
    page, keys = open_page.page, open_page.keys
    keys.press("x")
    open_page.drag((2, 2), (5, 5))
    open_page.run()
    open_page.wait("#state", "all frames are tracked")
    open_page.wait("#where", "f11 (12 of 12), tracked")
    assert open_page.tracker.steps == NUM_FRAMES["clip"]
    keys.press("Home")
    for _ in range(9):
        keys.press("ArrowRight")
    open_page.wait("#where", "f9 (10 of 12), tracked")
    keys.press("2")
    open_page.drag((20, 12), (22, 14))
    labels = open_page.prompt(9)
    assert np.array_equal(labels == 1, rectangle(2, 11, 5, 14) > 0)  # the track of object 1, as it is shown
    assert np.array_equal(labels == 2, rectangle(12, 20, 14, 22) > 0)
    open_page.run()
    open_page.wait("#state", "all frames are tracked")
    assert open_page.tracker.steps == NUM_FRAMES["clip"] + 4  # from the state after eight frames
    page.click("#results")
    open_page.wait("#state", "results are in")
    last = read_label_map(open_page.output / "Annotations" / "clip" / "f11.png")
    assert np.array_equal(last == 2, rectangle(12, 22, 14, 24) > 0)


def test_nothing_is_painted_while_it_runs_and_frames_come_back(open_page):
    open_page.keys.press("x")
    open_page.drag((2, 2), (5, 5))
    open_page.tracker.go.clear()
    open_page.page.click("#run")
    open_page.wait("#run", "Stop")
    open_page.drag((20, 12), (22, 14))  # not while it runs
    open_page.wait("#error", "stop it")
    open_page.tracker.go.set()
    open_page.wait("#where", "f11 (12 of 12)")


def test_all_of_it_goes_by_the_keyboard(open_page):
    page, keys = open_page.page, open_page.keys
    keys.press("x")
    keys.press("Shift+ArrowLeft")  # from the middle (16, 12)
    keys.press("Enter")
    keys.press("Shift+ArrowUp")
    for _ in range(3):
        keys.press("Control+Shift+ArrowRight")
    keys.press("Enter")
    assert np.array_equal(open_page.prompt(), rectangle(4, 8, 12, 11))
    keys.press("r")
    open_page.wait("#state", "all frames are tracked")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible() and "undo, redo" in page.locator("#keys").inner_text()


def contrast(page, selector: str) -> float:
    """The contrast of the text of an element with what is behind it, by WCAG."""
    colours = page.evaluate(
        """(selector) => {
            const one = document.querySelector(selector);
            let ground = one;
            while (/, 0\\)$/.test(getComputedStyle(ground).backgroundColor)) ground = ground.parentElement;
            return [getComputedStyle(one).color, getComputedStyle(ground).backgroundColor];
        }""",
        selector,
    )
    luminances = []
    for colour in colours:
        values = np.array([int(v) for v in colour.strip("rgb()").split(",")]) / 255
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        luminances.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(open_page, scheme):
    page = open_page.page
    page.emulate_media(color_scheme=scheme)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(23, 25, 29)"
    assert dark == (scheme == "dark")
    for selector in ("#where", "#run", "#new", "legend", "#tools button[aria-pressed=true]", "#keys dt"):
        assert contrast(page, selector) >= 4.5, selector
