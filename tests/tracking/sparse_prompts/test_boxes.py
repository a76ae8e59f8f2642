"""Boxes as prompts: by a flag, by a JSON file, and what is refused in one line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from tracking.boxes import BoxPrompts, box_of_flag, boxes_for, check_box, read_boxes, region_box
from tracking.config import RunConfig
from tracking.prompts import prompts_of_run
from video.reader import find_videos
from video.writer import OverlayWriter


@pytest.fixture
def videos(tmp_path):
    for name in ("one", "two"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for t in range(2):
            Image.new("RGB", (40, 30)).save(tmp_path / "videos" / name / f"{t}.png")
    return find_videos(tmp_path / "videos")


def write(path, content: object):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_flag_is_four_numbers_or_eight():
    assert box_of_flag("1,2.5,30,4") == (1.0, 2.5, 30.0, 4.0)
    assert box_of_flag("10,10,20,10,20,20,10,20") == pytest.approx((9.5, 9.5, 11, 11))
    for text in ("1,2,3", "a,b,c,d", "1;2;3;4", "1,2,3,4,5"):
        with pytest.raises(UserError, match="--box"):
            box_of_flag(text)


def test_a_rotated_region_becomes_an_upright_box_of_its_area():
    x, y, width, height = region_box([10.0, 0, 20, 10, 10, 20, 0, 10])  # a square on its corner, area 200
    assert (x + width / 2, y + height / 2) == pytest.approx((10, 10))
    assert (width - 1) * (height - 1) == pytest.approx(200)
    with pytest.raises(UserError, match="no area"):
        check_box(1, region_box([5.0, 5] * 4), (30, 40))


@pytest.mark.filterwarnings("error")
def test_a_region_too_large_for_numbers_is_refused_without_a_warning():
    with pytest.raises(UserError, match="no area"):
        check_box(1, region_box([1e308, -1e308, -1e308, 1e308, 1e308, 1e308, 0.0, 0.0]), (30, 40))


def test_a_file_has_boxes_for_each_video(videos, tmp_path):
    content = {"one": {"3": [1, 2, 10, 12]}, "two": {"1": [0, 0, 5, 5], "2": [4, 4, 14, 4, 14, 14, 4, 14]}}
    prompts = boxes_for(videos, None, str(write(tmp_path / "b.json", content)))
    for video in videos:
        prompts.check(video, needed=True)
    prompt_of = prompts.of_video(videos[1])
    frame = torch.zeros(3, 30, 40)
    assert prompt_of("0", frame).ids == [1, 2] and prompt_of("1", frame) is None and not prompts.unused
    assert prompts.of_video(videos[0])("0", frame).boxes == {3: (1.0, 2.0, 10.0, 12.0)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not a JSON file"),
        ([1], "another form"),
        ({"one": [1, 2, 3, 4]}, "another form"),
        ({"one": {"a": [1, 2, 3, 4]}}, "id 'a'"),
        ({"one": {"0": [1, 2, 3, 4]}}, "id '0'"),
        ({"one": {"255": [1, 2, 3, 4]}}, "id '255'"),
        ({"one": {"01": [1, 2, 3, 4]}}, "id '01'"),
        ({"one": {"65536": [1, 2, 3, 4]}}, "whole numbers from 1 to 65535"),
        ({"one": {"9" * 5000: [1, 2, 3, 4]}}, "whole numbers from 1 to 65535"),
        ({"one": {"1": [1, 2, 3]}}, "no box"),
        ({"one": {"1": [1, 2, "3", 4]}}, "no box"),
        ({"one": {"1": [1, 2, True, 4]}}, "no box"),
        ({"one": {"1": None}}, "no box"),
    ],
)
def test_a_file_of_another_form_is_refused(content, words, tmp_path):
    path = write(tmp_path / "b.json", content)
    with pytest.raises(UserError, match=words) as refused:
        read_boxes(path)
    assert str(path) in str(refused.value)


def test_a_number_of_400_digits_is_refused_as_what_it_is(tmp_path):
    path = write(tmp_path / "b.json", '{"one": {"1": [1, 2, 3, 1' + 400 * "0" + "]}}")
    with pytest.raises(UserError, match="too long"):
        read_boxes(path)


def test_boxes_of_videos_that_are_not_there_are_told(videos, tmp_path, capsys):
    box = {"1": [1, 2, 10, 12]}
    path = write(tmp_path / "b.json", {"one": box, "two": box, "tow": box})
    boxes_for(videos, None, str(path))
    assert capsys.readouterr().err == f"--boxes {path}: no video has the name of tow, not used\n"
    boxes_for(videos, None, str(write(path, {"one": box, "two": box})))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "there"),
    [
        ({"uno": {"1": [1, 2, 10, 12]}, "One": {}}, "one, but of One, uno$"),
        ({"one": {}}, "one$"),
        ({}, "one$"),
    ],
)
def test_boxes_of_no_video_are_refused_as_folders_of_prompts_are(content, there, videos, tmp_path):
    path = write(tmp_path / "b.json", content)
    line = rf"--boxes .*b\.json has no box of a video, such as {there}"
    with pytest.raises(UserError, match=line):
        prompts_of_run(None, RunConfig(boxes=str(path)), videos, needed=False)


def test_an_absent_file_and_a_video_without_a_box_are_refused(videos, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_boxes(tmp_path / "nowhere.json")
    prompts = boxes_for(videos, None, str(write(tmp_path / "b.json", {"one": {"1": [0, 0, 5, 5]}})))
    with pytest.raises(UserError, match="video two has no box"):
        prompts.check(videos[1], needed=True)
    prompts.check(videos[1], needed=False)


@pytest.mark.parametrize("box", [(40, 0, 5, 5), (0, 0, 0, 5), (-9, 0, 9, 5), (0, 0, np.inf, 5)])
def test_a_box_outside_of_the_frame_or_without_area_is_told_before_anything_is_tracked(box, videos):
    with pytest.raises(UserError, match="the box of id 7"):
        BoxPrompts({"one": {7: box}}, "--box").check(videos[0], needed=True)


def test_a_box_outside_of_a_video_file_is_told_before_anything_is_tracked(tmp_path):
    with OverlayWriter(tmp_path / "clip.mp4", 10) as writer:
        writer.add(np.zeros((20, 30, 3), np.uint8))
    (video,) = find_videos(tmp_path / "clip.mp4")
    with pytest.raises(UserError, match=r"the box of id 7.* outside of the frame of 30x20"):
        BoxPrompts({"clip": {7: (31.0, 0.0, 5.0, 5.0)}}, "--box").check(video, needed=True)
    BoxPrompts({"clip": {7: (25.0, 0.0, 5.0, 5.0)}}, "--box").check(video, needed=True)


@pytest.mark.parametrize(
    ("box", "holds"), [((5.1, 5.1, 0.3, 9), False), ((39.6, 5, 3, 9), False), ((5, 5, 1, 1), True)]
)
def test_a_box_holds_a_pixel_of_the_frame(box, holds, videos):
    prompts = BoxPrompts({"one": {7: box}}, "--box")
    if holds:
        prompts.check(videos[0], needed=True)
    else:
        with pytest.raises(UserError, match="no pixel of 40x30"):
            prompts.check(videos[0], needed=True)


def test_a_box_for_all_videos_and_both_flags_are_refused(videos):
    with pytest.raises(UserError, match="there are 2: give boxes for each with --boxes"):
        boxes_for(videos, "1,2,3,4", None)
    with pytest.raises(UserError, match="one of the two"):
        boxes_for(videos[:1], "1,2,3,4", "b.json")
    assert boxes_for(videos, None, None) is None
    assert boxes_for(videos[:1], "1,2,3,4", None).boxes == {"one": {1: (1, 2, 3, 4)}}
