"""Masks of 0 and 255: one object in a video that has no other value; and 255 in maps of 16 bits, an id."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evaluate
from annotated import videos
from annotated.layouts import split_videos
from annotated.videos import VOSFolder
from common.errors import UserError
from dataset import compact_labels
from scoring.protocols.table import PROTOCOLS
from tests.support.commands import run_here
from tests.support.image_files import write_frame, write_mask
from tests.support.label_folders import NOTHING, boxes, roots, write
from tools.convert import __main__ as convert
from tracking.prompts import PromptFolder
from video import images
from video.images import list_files, read_label_map, shows_one_object
from video.label_maps import objects_in, void_in
from video.reader import find_videos

BINARY, SHOWN = boxes(o255=2), boxes(o1=2)
MIXED = boxes(o255=2, o7=20)
DEEP = boxes(o300=2, o255=20)  # 16 bits


@pytest.mark.parametrize("empty_first", [False, True])
def test_a_video_of_0_and_255_shows_the_object_1(tmp_path, empty_first):
    maps = [NOTHING, BINARY, BINARY] if empty_first else [BINARY, NOTHING, BINARY]
    write(tmp_path / "a", maps)
    assert shows_one_object(list_files(tmp_path / "a", {".png"}))
    for t, labels in enumerate(maps):
        np.testing.assert_array_equal(read_label_map(tmp_path / f"a/{t:05d}.png"), labels // 255)


@pytest.mark.parametrize("place", range(3))
def test_one_map_with_another_id_makes_255_no_object_in_all_maps_of_the_video(tmp_path, place):
    maps = [BINARY] * 3
    maps[place] = MIXED
    write(tmp_path / "a", maps)
    assert not shows_one_object(list_files(tmp_path / "a", {".png"}))
    for t, labels in enumerate(maps):
        np.testing.assert_array_equal(read_label_map(tmp_path / f"a/{t:05d}.png"), labels)


def test_a_video_without_any_object_shows_none(tmp_path):
    write(tmp_path / "a", [NOTHING] * 2)
    assert not shows_one_object(list_files(tmp_path / "a", {".png"}))


def test_a_mask_that_is_added_later_is_taken_into_account(tmp_path):
    write(tmp_path / "a", [BINARY])
    assert read_label_map(tmp_path / "a/00000.png").max() == 1
    write(tmp_path / "a", [MIXED], ["00001"])
    assert read_label_map(tmp_path / "a/00000.png").max() == 255


def test_a_mask_that_is_replaced_is_looked_at_anew(tmp_path):
    write(tmp_path / "a", [BINARY, BINARY])
    assert read_label_map(tmp_path / "a/00000.png").max() == 1
    write(tmp_path / "b", [BINARY, MIXED])
    former = (tmp_path / "a").stat().st_mtime_ns
    while (tmp_path / "a").stat().st_mtime_ns == former:  # a clock of file systems has coarse ticks
        shutil.copy(tmp_path / "b/00001.png", tmp_path / "b/new")
        os.replace(tmp_path / "b/new", tmp_path / "a/00001.png")
    assert read_label_map(tmp_path / "a/00000.png").max() == 255


def test_the_maps_of_a_folder_are_asked_once_while_it_stays_as_it_is(tmp_path, monkeypatch):
    write(tmp_path / "Annotations/a", [BINARY, BINARY])
    for t in range(2):
        write_frame(tmp_path / f"JPEGImages/a/{t:05d}.jpg", 20, 30)
    asked, shows = [], images.shows_one_object
    for module in (images, videos):
        monkeypatch.setattr(module, "shows_one_object", lambda maps: asked.append(1) or shows(maps))
    folder = tmp_path / "Annotations/a"
    assert [read_label_map(folder / f"{t:05d}.png").max() for t in (0, 1, 0)] == [1] * 3 and len(asked) == 1
    (video,) = VOSFolder(tmp_path).videos
    assert [video.read_mask(frame).max() for frame in video.annotated * 2] == [1] * 4 and len(asked) == 2


def test_a_file_that_cannot_be_read_does_not_hide_what_the_others_show(tmp_path):
    write(tmp_path / "a", [BINARY, BINARY])
    (tmp_path / "a/00000.png").write_bytes(b"no image")
    assert read_label_map(tmp_path / "a/00001.png").max() == 1


def test_training_and_prompts_read_the_same_object(tmp_path):
    write(tmp_path / "Annotations/a", [BINARY] * 2)
    for t in range(2):
        write_frame(tmp_path / f"JPEGImages/a/{t:05d}.jpg", 20, 30)
    (video,) = VOSFolder(tmp_path).videos
    np.testing.assert_array_equal(video.read_labels("00000"), SHOWN)
    prompt_of = PromptFolder(tmp_path / "Annotations").of_video(find_videos(tmp_path)[0])
    assert prompt_of("00000", np.zeros((3, 20, 30), np.uint8)).ids == [1]


@pytest.mark.parametrize(("stray", "one"), [(MIXED, BINARY), (BINARY, boxes(o7=2))])
def test_a_map_of_no_frame_does_not_decide_whether_255_is_an_object(tmp_path, stray, one):
    write(tmp_path / "Annotations/a", [one, stray], ["00000", "99999"])
    write_frame(tmp_path / "JPEGImages/a/00000.jpg", 20, 30)
    (video,), (annotated,) = find_videos(tmp_path), VOSFolder(tmp_path).videos
    expected = [1 if one is BINARY else 7]
    assert objects_in(annotated.read_labels("00000")) == expected
    prompts = PromptFolder(tmp_path / "Annotations")
    prompts.check(video, needed=True)
    assert prompts.of_video(video)("00000", np.zeros((3, 20, 30), np.uint8)).ids == expected
    assert prompts.starts_of(video) == {"00000": expected}


@pytest.mark.parametrize("protocol", ["tcovis", "davis", "davis_unsupervised", "sav", "youtube_vos", "mots"])
@pytest.mark.parametrize("result", [BINARY, SHOWN])
def test_every_protocol_scores_the_one_object_in_truth_and_results(tmp_path, protocol, result):
    options = {"train_meta": tmp_path / "truth/meta.json"} if protocol == "youtube_vos" else {}
    folders = roots(tmp_path, [BINARY] * 4, [result] * 4)
    (tmp_path / "truth/meta.json").write_text('{"videos": {"cat": {"objects": {"1": {"category": "ape"}}}}}')
    report = PROTOCOLS[protocol].score(*folders, **options)
    name = next(name for name in ("J&F", "J&F-Mean", "HOTA") if name in report["videos"]["cat"])
    assert report["videos"]["cat"][name] == (100 if PROTOCOLS[protocol].percent else 1)


def test_conversion_writes_the_one_object(tmp_path):
    write(tmp_path / "Annotations/a", [BINARY] * 2)
    flags = (tmp_path, "--output", tmp_path / "t.json")
    assert run_here(convert.main, *flags).out[-1].endswith("1 videos, 2 label maps, 1 objects")


def test_the_page_of_evidence_shows_the_one_object(tmp_path):
    results, annotations = roots(tmp_path, [BINARY] * 4, [SHOWN] * 4)
    flags = ("--results", results, "--annotations", annotations, "--num_workers", 0)
    outcome = run_here(evaluate.main, *flags, "--explain", tmp_path / "page.html")
    assert outcome.status == 0 and "cat" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("protocol", ["tcovis", "davis", "davis_unsupervised", "sav", "youtube_vos", "mots"])
def test_a_protocol_that_scores_nothing_says_in_which_videos(tmp_path, protocol):
    options = {"train_meta": tmp_path / "truth/meta.json"} if protocol == "youtube_vos" else {}
    folders = roots(tmp_path, [NOTHING] * 4, [NOTHING] * 4)
    (tmp_path / "truth/meta.json").write_text('{"videos": {}}')
    warnings = PROTOCOLS[protocol].score(*folders, **options)["warnings"]
    assert sum(line.startswith("nothing is scored in cat: the true masks") for line in warnings) == 1


def test_a_training_set_without_any_object_is_refused_before_a_step(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "train/Annotations" / name, [NOTHING] * 2)
        for t in range(2):
            write_frame(tmp_path / f"train/JPEGImages/{name}/{t:05d}.jpg", 20, 30)
    with pytest.raises(UserError, match=r"train has masks without any object in 1 videos: give each object"):
        split_videos([tmp_path], holdout=2, skip_bad=False)
    write(tmp_path / "train/Annotations/a", [NOTHING, SHOWN])
    assert len(split_videos([tmp_path], holdout=2, skip_bad=False)[0].videos) == 1


# ---- 255 in maps of 16 bits


def test_255_is_void_in_8_bits_and_an_id_in_16():
    assert objects_in(MIXED) == [7] and void_in(MIXED).sum() == 36
    assert objects_in(DEEP) == [255, 300] and not void_in(DEEP).any()


@pytest.mark.parametrize("frames", ["first", "all"])
def test_the_id_255_of_a_16_bit_map_is_prompted_as_others_are(tmp_path, frames):
    write(tmp_path / "a", [DEEP])
    write_frame(tmp_path / "frames/a/00000.jpg", 20, 30)
    prompt_of = PromptFolder(tmp_path, frames).of_video(find_videos(tmp_path / "frames")[0])
    assert prompt_of("00000", np.zeros((3, 20, 30), np.uint8)).ids == [255, 300]


def test_a_clip_of_maps_of_8_and_16_bits_keeps_void_and_the_id_255_apart():
    labels, ids = compact_labels([MIXED, DEEP])
    assert ids == [7, 255, 300]
    assert (labels[0] == 255).sum() == 36 and not (labels[1] == 255).any()
    assert (labels[1] == 2).sum() == (labels[1] == 3).sum() == 36


@pytest.mark.parametrize("protocol", ["tcovis", "davis_unsupervised", "sav", "mots"])
def test_the_id_255_of_a_16_bit_truth_is_scored(tmp_path, protocol):
    folders = roots(tmp_path, [DEEP] * 4, [np.where(DEEP == 255, 2, 0).astype(np.uint16)] * 4)
    without = roots(tmp_path / "w", [DEEP] * 4, [NOTHING] * 4)
    scores = [PROTOCOLS[protocol].score(*pair)["videos"]["cat"] for pair in (folders, without)]
    if protocol == "sav":
        assert set(scores[0]["objects"]) == {"255", "300"}
    elif protocol != "davis_unsupervised":
        assert scores[0]["HOTA"] > scores[1]["HOTA"]
    else:
        assert len(scores[0]["objects"]) == 300


def test_a_palette_mask_of_0_and_255_is_one_object_too(tmp_path: Path):
    write_mask(tmp_path / "a/0.png", BINARY)
    assert Image.open(tmp_path / "a/0.png").mode == "P" and read_label_map(tmp_path / "a/0.png").max() == 1
