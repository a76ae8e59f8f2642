"""On the page, in a real browser: what is done while it waits for an answer is neither lost nor mixed up."""

import numpy as np

from tests.support.annotate_page import rectangle
from video.images import read_label_map, write_label_map


def test_an_answer_from_before_a_change_does_not_take_it_back(open_page):
    keys = open_page.keys
    keys.press("x")
    open_page.hold("GET /labels?n=0")
    keys.press("Home")
    open_page.wait_held()
    open_page.drag((2, 2), (8, 8))
    assert open_page.becomes(rectangle(2, 2, 8, 8))
    open_page.wait("#saved", "saved in")
    open_page.release()
    keys.press("n")
    open_page.drag((12, 12), (14, 14))
    assert open_page.becomes(rectangle(2, 2, 8, 8) + rectangle(12, 12, 14, 14, track=2))


def test_undo_is_of_the_change_before_it_however_slow_the_server_is(open_page):
    keys = open_page.keys
    keys.press("x")
    boxes = [rectangle(4 * k, 4 * k, 4 * k + 2, 4 * k + 2, track=k + 1) for k in range(3)]
    for k in range(2):
        open_page.drag((4 * k, 4 * k), (4 * k + 2, 4 * k + 2))
        keys.press("n")
    assert open_page.becomes(boxes[0] + boxes[1])
    open_page.wait("#saved", "saved in")
    open_page.hold("GET /labels?n=0")
    keys.press("Control+z")
    open_page.drag((8, 8), (10, 10))
    open_page.wait("#saved", "saved in")
    open_page.release()
    assert open_page.becomes(boxes[0] + boxes[2])
    for _ in range(2):
        keys.press("Control+z")
    assert open_page.becomes(0 * boxes[0])


def test_undo_in_a_frame_that_is_left_before_it_is_shown_changes_nothing(open_page):
    keys = open_page.keys
    keys.press("x")
    open_page.drag((2, 2), (8, 8))
    assert open_page.becomes(rectangle(2, 2, 8, 8))
    keys.press("ArrowRight")
    open_page.wait("#where", "f1 (2 of 12)")
    open_page.hold("GET /labels?n=0")
    keys.press("Control+z")
    open_page.wait_held()
    keys.press("End")
    open_page.wait("#where", "f11 (12 of 12)")
    open_page.release()
    keys.press("Control+z")
    assert open_page.becomes(np.zeros_like(rectangle(2, 2, 8, 8)))
    open_page.wait("#where", "f0 (1 of 12)")


def test_nothing_is_painted_while_another_video_is_opened(open_page):
    keys, prompt = open_page.keys, open_page.output / "prompts" / "other" / "f0.png"
    write_label_map(prompt, rectangle(3, 3, 6, 6))
    keys.press("x")
    open_page.hold("POST /open?n=1")
    open_page.page.select_option("#video", "1")
    open_page.wait_held()
    keys.press("Escape")
    open_page.drag((12, 12), (14, 14))
    open_page.wait("#error", "the video is being opened")
    open_page.release()
    open_page.wait("#where", "f0 (1 of 5), prompt")
    open_page.keys.press("ArrowRight")
    open_page.wait("#where", "f1 (2 of 5)")
    assert np.array_equal(read_label_map(prompt), rectangle(3, 3, 6, 6))
