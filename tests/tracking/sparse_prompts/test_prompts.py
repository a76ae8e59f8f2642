"""Boxes and clicks of a run: by flags, by JSON files, and what is refused in one line."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from common.types import Prompt
from tracking.config import RunConfig
from tracking.prompts import prompts_of_run
from tracking.sparse_prompts.boxes import read_boxes
from tracking.sparse_prompts.prompts import SparsePrompts, read_sparse_prompts, sparse_prompts_of
from video.reader import find_videos
from video.writer import OverlayWriter

PROPAGATOR = SimpleNamespace(needs_prompt=True)  # which fills boxes


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


def test_a_file_has_boxes_for_each_video(videos, tmp_path):
    content = {"one": {"3": [1, 2, 10, 12]}, "two": {"1": [0, 0, 5, 5], "2": [4, 4, 14, 4, 14, 14, 4, 14]}}
    prompts = read_sparse_prompts(videos, RunConfig(boxes=str(write(tmp_path / "b.json", content))))
    for video in videos:
        prompts.check(video, needed=True)
    prompt_of = prompts.of_video(videos[1])
    frame = torch.zeros(3, 30, 40)
    assert prompt_of("0", frame).ids == [1, 2] and prompt_of("1", frame) is None and not prompts.unused
    assert prompts.of_video(videos[0])("0", frame).boxes == {3: (1.0, 2.0, 10.0, 12.0)}


def test_boxes_of_videos_that_are_not_there_are_told(videos, tmp_path, capsys):
    box = {"1": [1, 2, 10, 12]}
    path = write(tmp_path / "b.json", {"one": box, "two": box, "tow": box})
    read_sparse_prompts(videos, RunConfig(boxes=str(path)))
    assert capsys.readouterr().err == f"--boxes {path}: no video has the name of tow, not used\n"
    read_sparse_prompts(videos, RunConfig(boxes=str(write(path, {"one": box, "two": box}))))
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
    line = rf"--boxes .*b\.json has no prompt of a video, such as {there}"
    with pytest.raises(UserError, match=line):
        prompts_of_run(None, RunConfig(boxes=str(path)), videos, SimpleNamespace(needs_prompt=False))


def test_an_absent_file_and_a_video_without_a_box_are_refused(videos, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_boxes(tmp_path / "nowhere.json")
    path = write(tmp_path / "b.json", {"one": {"1": [0, 0, 5, 5]}})
    prompts = read_sparse_prompts(videos, RunConfig(boxes=str(path)))
    with pytest.raises(UserError, match="video two has no box"):
        prompts.check(videos[1], needed=True)
    prompts.check(videos[1], needed=False)
    names = ["one", *(f"v{k}" for k in range(10, 40))]
    many = write(tmp_path / "b.json", {name: {"1": [0, 0, 5, 5]} for name in names})
    prompts = read_sparse_prompts(videos, RunConfig(boxes=str(many)))
    with pytest.raises(UserError, match=r"names one, v10, v11, v12, v13 and 26 more$"):
        prompts.check(videos[1], needed=True)


@pytest.mark.parametrize("box", [(40, 0, 5, 5), (0, 0, 0, 5), (-9, 0, 9, 5), (0, 0, np.inf, 5)])
def test_a_box_outside_of_the_frame_or_without_area_is_told_before_anything_is_tracked(box, videos):
    with pytest.raises(UserError, match="the box of id 7"):
        SparsePrompts({"one": Prompt(boxes={7: box})}, "--box").check(videos[0], needed=True)


def test_a_box_outside_of_a_video_file_is_told_before_anything_is_tracked(tmp_path):
    with OverlayWriter(tmp_path / "clip.mp4", 10) as writer:
        writer.add(np.zeros((20, 30, 3), np.uint8))
    (video,) = find_videos(tmp_path / "clip.mp4")
    with pytest.raises(UserError, match=r"the box of id 7.* outside of the frame of 30x20"):
        SparsePrompts({"clip": Prompt(boxes={7: (31.0, 0.0, 5.0, 5.0)})}, "--box").check(video, needed=True)
    SparsePrompts({"clip": Prompt(boxes={7: (25.0, 0.0, 5.0, 5.0)})}, "--box").check(video, needed=True)


@pytest.mark.parametrize(
    ("box", "holds"), [((5.1, 5.1, 0.3, 9), False), ((39.6, 5, 3, 9), False), ((5, 5, 1, 1), True)]
)
def test_a_box_holds_a_pixel_of_the_frame(box, holds, videos):
    prompts = SparsePrompts({"one": Prompt(boxes={7: box})}, "--box")
    if holds:
        prompts.check(videos[0], needed=True)
    else:
        with pytest.raises(UserError, match="no pixel of 40x30"):
            prompts.check(videos[0], needed=True)


def test_the_flags_of_one_object_are_its_box_and_its_clicks(videos):
    assert read_sparse_prompts(videos, RunConfig()) is None
    config = RunConfig(box="1,2,3,4", click="5,6,7.5,8", negative_click="9,1")
    prompts = read_sparse_prompts(videos[:1], config)
    clicks = {1: [(5, 6, 1), (7.5, 8, 1), (9, 1, 0)]}
    assert prompts.prompts == {"one": Prompt(boxes={1: (1, 2, 3, 4)}, clicks=clicks)}
    assert prompts.source == "--box and --click and --negative_click"


def test_boxes_and_clicks_of_files_meet_by_video_and_id(videos, tmp_path):
    boxes = write(tmp_path / "b.json", {"one": {"1": [0, 0, 5, 5]}})
    clicks = write(
        tmp_path / "c.json", {"one": {"1": [[2, 3, 0]], "2": [[9, 9, 1]]}, "two": {"4": [[1, 1, 1]]}}
    )
    prompts = read_sparse_prompts(videos, RunConfig(boxes=str(boxes), clicks=str(clicks)))
    for video in videos:
        prompts.check(video, needed=True)
    frame = torch.zeros(3, 30, 40)
    one = Prompt(boxes={1: (0, 0, 5, 5)}, clicks={1: [(2, 3, 0)], 2: [(9, 9, 1)]})
    assert prompts.of_video(videos[0])("0", frame) == one
    assert prompts.of_video(videos[1])("0", frame) == Prompt(clicks={4: [(1, 1, 1)]})


@pytest.mark.parametrize("flag", ["box", "click", "negative_click"])
def test_a_flag_for_all_videos_and_a_file_beside_it_are_refused(flag, videos):
    many = "boxes" if flag == "box" else "clicks"
    with pytest.raises(
        UserError, match=f"--{flag} is for .* there are 2: give {many} for each with --{many}"
    ):
        read_sparse_prompts(videos, RunConfig(**{flag: "1,2,3,4"}))
    with pytest.raises(UserError, match=f"--{flag} and --{many}: give one of the two"):
        read_sparse_prompts(videos[:1], RunConfig(**{flag: "1,2,3,4", many: "b.json"}))


@pytest.mark.parametrize(
    ("clicks", "words"),
    [
        ([(40, 3, 1)], "click of id 7, 40,3, lies outside of the frame of 40x30: give x from 0 to 39"),
        ([(3, 3, 1), (3, -1, 0)], "click of id 7, 3,-1, lies outside"),
        ([(3, 3, 0)], "id 7 has no click on the object"),
    ],
)
def test_a_wrong_click_is_told_before_anything_is_tracked(clicks, words, videos):
    with pytest.raises(UserError, match=words):
        SparsePrompts({"one": Prompt(clicks={7: clicks})}, "--click").check(videos[0], needed=True)


def test_a_box_may_be_all_that_says_where_the_object_is(videos):
    prompt = Prompt(boxes={7: (1, 1, 9, 9)}, clicks={7: [(39.5, 29.5, 0)]})
    SparsePrompts({"one": prompt}, "--click").check(videos[0], needed=True)


def test_that_boxes_are_filled_is_told_once_where_they_are(videos, capsys, tmp_path):
    path = write(tmp_path / "b.json", {name: {"1": [1, 2, 3, 4]} for name in ("one", "two")})
    native = SimpleNamespace(needs_prompt=True, sparse_prompts=("boxes",))
    able = SimpleNamespace(takes_clicks=False, cut=lambda frame, prompt: Prompt(torch.ones(30, 40).long()))
    line = "boxes are taken as filled rectangles: cut the objects out by --cut sam_vit_b\n"
    for tracker, cutter, told in ((native, None, ""), (PROPAGATOR, able, ""), (PROPAGATOR, None, line)):
        prompts = sparse_prompts_of(videos, RunConfig(boxes=str(path)), tracker, cutter)
        assert capsys.readouterr().err == ""
        for video in videos:
            assert prompts.of_video(video)("0", torch.zeros(3, 30, 40)).ids == [1]
        assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("flags", "tracker", "cutter", "words"),
    [
        ({"click": "1,2"}, PROPAGATOR, None, "this system takes no clicks: cut .* by --cut sam_vit_b"),
        ({"click": "1,2", "box": "1,2,3,4"}, PROPAGATOR, None, "this system takes no clicks"),
        ({"click": "1,2"}, PROPAGATOR, SimpleNamespace(takes_clicks=False), "--discover takes no clicks"),
        ({"box": "1,2,3,4"}, SimpleNamespace(needs_prompt=False), None, "takes label maps, no boxes"),
        ({}, PROPAGATOR, SimpleNamespace(takes_clicks=True), "--cut needs what marks objects"),
    ],
)
def test_what_has_no_use_is_refused(flags, tracker, cutter, words, videos):
    with pytest.raises(UserError, match=words):
        sparse_prompts_of(videos[:1], RunConfig(**flags), tracker, cutter)


def test_label_maps_beside_clicks_are_refused(videos, tmp_path):
    tracker = SimpleNamespace(needs_prompt=True, sparse_prompts=("boxes", "clicks"))
    with pytest.raises(UserError, match="--prompt_root and boxes or clicks: give one of the two"):
        prompts_of_run(tmp_path, RunConfig(click="1,2"), videos[:1], tracker)


def test_a_cutter_is_asked_once_a_video_and_a_box_that_it_leaves_is_told(videos, capsys):
    asked = []

    def cut(frame, prompt):
        asked.append(prompt)
        return Prompt(torch.ones(30, 40, dtype=torch.int64), {2: prompt.boxes[2]})

    boxes = {1: (1.0, 2.0, 3.0, 4.0), 2: (5.0, 5.0, 5.0, 5.0)}
    prompts = SparsePrompts({"one": Prompt(boxes=boxes)}, "--boxes", SimpleNamespace(cut=cut))
    for _ in range(2):  # as of two runs in the page
        prompt_of = prompts.of_video(videos[0])
        first, second = (prompt_of(name, torch.zeros(3, 30, 40)) for name in ("0", "1"))
        assert first.ids == [1, 2] and first.boxes == {2: boxes[2]} and second is None
    assert [prompt.boxes for prompt in asked] == [boxes, boxes]
    line = "one: no object fits the box of id 2, which is taken as it is\n"
    assert capsys.readouterr().err == 2 * line
    assert prompts.of_video(videos[1])("0", torch.zeros(3, 30, 40)) is None
