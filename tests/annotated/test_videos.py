"""Annotated folders on disk: what is listed, read and checked, and what is wrong with them."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotated import videos
from annotated.videos import (
    VOSFolder,
    check,
    check_objects,
    has_annotations,
    read_category_names,
    read_objects,
)
from common.errors import UserError
from tests.support.image_files import cut, write_frame, write_mask
from tests.support.mots import sequence_labels, write_sequence, write_text
from video.images import write_label_map
from video.label_maps import objects_in, void_in
from video.masks import prompt_from_labels
from video.reader import find_videos

REAL = Path(__file__).resolve().parents[3] / "shared" / "real"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real clips at {REAL}")


def write_video(root: Path, name: str, frames: int = 3, level: str = "") -> None:
    for t in range(frames):
        write_frame(root / "JPEGImages" / level / name / f"{t:05d}.jpg")
        write_mask(root / "Annotations" / level / name / f"{t:05d}.png")


@pytest.mark.parametrize("level", ["", "480p"])
def test_a_folder_lists_its_videos_frames_and_masks(tmp_path, level):
    write_video(tmp_path, "b", level=level)
    write_video(tmp_path, "a", level=level)
    (tmp_path / "Annotations" / level / "a" / "00001.png").unlink()
    (tmp_path / "JPEGImages" / level / "a" / "._00000.jpg").write_bytes(b"left by a file manager")
    folder = VOSFolder(tmp_path)
    a, b = folder.videos
    assert (a.name, a.frames, a.annotated) == ("a", ["00000", "00001", "00002"], ["00000", "00002"])
    assert (b.name, b.annotated) == ("b", ["00000", "00001", "00002"])
    assert a.frame_path("00001") == tmp_path / "JPEGImages" / level / "a" / "00001.jpg"
    assert b.mask_path("00002") == tmp_path / "Annotations" / level / "b" / "00002.png"
    assert a.read_frame("00000").shape == (24, 32, 3)
    assert np.unique(a.read_labels("00000")).tolist() == [0, 1, 2, 3]
    assert folder.categories == []


def test_categories_come_from_meta_json(tmp_path):
    write_video(tmp_path, "a")
    objects = {"1": {"category": "dog", "frames": ["00000"]}, "3": {"category": "ape", "frames": []}, "4": {}}
    (tmp_path / "meta.json").write_text(json.dumps({"videos": {"a": {"objects": objects}}}))
    folder = VOSFolder(tmp_path)
    assert folder.categories == ["ape", "dog"]
    assert folder.classes_of(folder.videos[0]) == {1: 1, 3: 0}
    with pytest.raises(UserError, match=r"meta\.json lacks the categories of video z"):
        folder.classes_of(replace(folder.videos[0], name="z", categories=None))


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"videos": {"a": {"objects": {"x": {"category": "dog"}}}}}']
)
def test_a_meta_json_of_another_form_is_told_with_its_path(tmp_path, text):
    write_video(tmp_path, "a")
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(UserError, match=r"meta\.json (has not the form|is not a JSON file)"):
        VOSFolder(tmp_path)


def test_what_systems_put_into_a_data_set_is_not_of_it(tmp_path):
    write_video(tmp_path, "a")
    for name in ("@eaDir", "__MACOSX", ".ipynb_checkpoints"):
        write_video(tmp_path, name)
        write_video(tmp_path, f"a/{name}")
    for name in ("Thumbs.db", "desktop.ini", "._00000.png"):
        for kind in ("JPEGImages", "Annotations"):
            (tmp_path / kind / name).write_bytes(b"junk")
            (tmp_path / kind / "a" / name).write_bytes(b"junk")
    objects = {"1": {"category": "dog"}}
    content = json.dumps({"videos": {"a": {"objects": objects}}})
    (tmp_path / "meta.json").write_text(content, encoding="utf-16")
    folder = VOSFolder(tmp_path)
    assert [video.name for video in folder.videos] == ["a"] and folder.categories == ["dog"]
    assert check(folder, skip_bad=False) == []


def test_an_absent_folder_is_told_with_the_remedy(tmp_path):
    with pytest.raises(UserError, match=r"JPEGImages.*--dataset_root.*--synthetic easy"):
        VOSFolder(tmp_path / "nowhere")
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(UserError, match="Annotations"):
        VOSFolder(tmp_path)
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(UserError, match=r"JPEGImages holds no videos"):
        VOSFolder(tmp_path)


def test_a_video_without_masks_or_frames_is_told_with_its_folder(tmp_path):
    write_video(tmp_path, "a")
    write_frame(tmp_path / "JPEGImages" / "b" / "00000.jpg")
    with pytest.raises(UserError, match=r"Annotations/b holds no \.png masks: .*JPEGImages/b"):
        VOSFolder(tmp_path)
    write_mask(tmp_path / "Annotations" / "b" / "00000.png")
    write_mask(tmp_path / "Annotations" / "c" / "00000.png")
    with pytest.raises(UserError, match=r"JPEGImages/c holds no \.jpg or \.png files"):
        VOSFolder(tmp_path)


def test_frames_of_several_formats_are_refused(tmp_path):
    write_video(tmp_path, "a")
    write_frame(tmp_path / "JPEGImages" / "a" / "00003.png")
    with pytest.raises(UserError, match=r"JPEGImages/a holds frames of several formats, \.jpg \.png"):
        VOSFolder(tmp_path)


def test_a_mask_of_another_size_than_its_frame_is_told_with_both_sizes(tmp_path):
    write_video(tmp_path, "a")
    write_mask(tmp_path / "Annotations" / "a" / "00001.png", np.zeros((24, 30), np.uint8))
    message = r"mask .*a/00001\.png is 30x24 but its frame is 32x24"
    folder = VOSFolder(tmp_path)
    with pytest.raises(UserError, match=message):
        folder.videos[0].read_labels("00001")
    with pytest.raises(UserError, match=message):
        check(folder, skip_bad=False)


def test_masks_of_checked_videos_are_read_without_opening_their_frames(tmp_path, monkeypatch):
    write_video(tmp_path, "a")
    folder = VOSFolder(tmp_path)
    check(folder, skip_bad=False)
    (video,) = folder.videos
    assert video.size == (24, 32)
    headers = []
    monkeypatch.setattr(videos, "read_header", headers.append)
    assert video.read_labels("00001").shape == (24, 32) and not headers
    write_mask(video.mask_path("00002"), np.zeros((24, 30), np.uint8))
    with pytest.raises(UserError, match=r"mask .*a/00002\.png is 30x24 but its frame is 32x24"):
        video.read_labels("00002")


def spoil(root: Path) -> list[str]:
    """Write videos a (good), b (six bad files) and c (its only mask is bad); the bad files in order."""
    write_video(root, "a")
    write_video(root, "b", frames=7)
    write_video(root, "c", frames=1)
    frames, masks = root / "JPEGImages" / "b", root / "Annotations" / "b"
    cut(frames / "00001.jpg")
    write_frame(frames / "00002.jpg", height=20)
    Image.new("RGB", (32, 24)).save(masks / "00003.png")
    write_mask(masks / "00004.png", np.zeros((12, 16), np.uint8))
    cut(masks / "00005.png", 40)
    (frames / "00006.jpg").unlink()
    (root / "Annotations" / "c" / "00000.png").write_bytes(b"")
    bad = [frames / "00001.jpg", frames / "00002.jpg"]
    return [str(path) for path in [*bad, *(masks / f"0000{t}.png" for t in (3, 4, 5, 6)), masks / "../../c"]]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_check_names_the_first_bad_file_and_how_many_follow(tmp_path, workers):
    first = spoil(tmp_path)[0]
    with pytest.raises(UserError) as refusal:
        check(VOSFolder(tmp_path), skip_bad=False, workers=workers)
    message = str(refusal.value)
    assert message.startswith(first) and "6 more files are bad" in message and "--skip_bad" in message
    assert "\n" not in message


@pytest.mark.parametrize("workers", [1, 3])
def test_skipping_drops_bad_files_and_videos_and_reports_each(tmp_path, workers):
    paths = spoil(tmp_path)
    folder = VOSFolder(tmp_path)
    troubles = check(folder, skip_bad=True, workers=workers)
    assert len(troubles) == len(paths)
    assert all(path in message for path, message in zip(paths[:-1], troubles[:-1], strict=True))
    assert "Annotations/c/00000.png" in troubles[-1]
    a, b = folder.videos
    assert (a.name, a.annotated) == ("a", ["00000", "00001", "00002"])
    assert (b.frames, b.annotated) == (["00000", "00003", "00004", "00005"], ["00000"])
    assert check(folder, skip_bad=False) == []


def test_a_folder_with_nothing_good_is_an_error_even_when_skipping(tmp_path):
    write_video(tmp_path, "a", frames=1)
    cut(tmp_path / "JPEGImages" / "a" / "00000.jpg")
    with pytest.raises(UserError, match=r"no good annotated frame; the first bad file: .*00000\.jpg"):
        check(VOSFolder(tmp_path), skip_bad=True)


def test_bytes_after_the_end_of_a_jpeg_are_no_trouble(tmp_path):
    write_video(tmp_path, "a", frames=1)
    path = tmp_path / "JPEGImages" / "a" / "00000.jpg"
    path.write_bytes(path.read_bytes() + bytes(100))
    assert check(VOSFolder(tmp_path), skip_bad=False) == []


@needs_real
@pytest.mark.parametrize("split", ["train", "valid", "FIRSTFRAME"])
def test_real_clips_pass_the_check(split):
    folder = VOSFolder(REAL / split)
    assert check(folder, skip_bad=False) == []
    assert all(set(video.annotated) <= set(video.frames) for video in folder.videos)
    video = folder.videos[0]
    labels = video.read_labels(video.annotated[0])
    assert labels.shape == video.read_frame(video.annotated[0]).shape[:2] and labels.max() > 0


def test_a_check_tells_smoothed_edges_in_one_line(tmp_path, capsys):
    for name in ("a", "b", "c"):
        write_video(tmp_path, name)
    check(VOSFolder(tmp_path), skip_bad=False)
    assert "smoothed" not in capsys.readouterr().err
    smooth = (255 * (12 - np.hypot(*np.mgrid[-12:12, -16:16])).clip(0, 4) / 4).astype(np.uint8)
    for name in ("b", "c"):
        write_mask(tmp_path / f"Annotations/{name}/00000.png", smooth)
    check(VOSFolder(tmp_path), skip_bad=False)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "smoothed" in line]
    assert "Annotations/b/00000.png has smoothed edges" in line and line.endswith("; so do 1 more videos")


def test_a_folder_of_mots_lists_its_sequences_and_10000_is_void(tmp_path):
    write_sequence(tmp_path, "MOTS20-02")
    folder = VOSFolder(tmp_path)
    assert check(folder, skip_bad=False) == []
    (video,) = folder.videos
    assert (video.name, video.annotated) == ("MOTS20-02", ["000001", "000002", "000003"])
    labels = video.read_labels("000002")
    assert objects_in(labels) == [2001] and labels[10, 2] == 2001
    assert void_in(labels).sum() == 4 * 7 and prompt_from_labels(labels).ids == [2001]


def test_a_folder_of_kitti_mots_lists_its_sequences_for_training_and_for_inference(tmp_path):
    for name in ("0000", "0012"):
        write_sequence(tmp_path, name, kitti=True)
    folder, videos = VOSFolder(tmp_path), find_videos(tmp_path)
    assert check(folder, skip_bad=False) == []
    for annotated_video, video, name in zip(folder.videos, videos, ("0000", "0012"), strict=True):
        assert annotated_video.name == video.name == name
        assert annotated_video.annotated == video.frame_names == ["000000", "000001", "000002"]
        labels = annotated_video.read_labels("000001")
        assert objects_in(labels) == [2001] and void_in(labels).sum() == 4 * 7


def test_a_folder_of_frames_called_image_02_is_a_video_beside_others(tmp_path):
    for name in ("image_02", "image_03"):
        write_frame(tmp_path / name / "0.png")
    assert [video.name for video in find_videos(tmp_path)] == ["image_02", "image_03"]


def test_a_sequence_of_mots_that_shows_regions_to_ignore_only_has_no_object(tmp_path):
    write_sequence(tmp_path, "a")
    for path in (tmp_path / "instances/a").iterdir():
        write_label_map(path, np.full((24, 32), 10_000))
    with pytest.raises(UserError, match="has masks without any object"):
        check_objects(tmp_path, VOSFolder(tmp_path).videos)


@pytest.mark.parametrize("kitti", [False, True])
@pytest.mark.parametrize("place", ["instances_txt/0002.txt", "0002/gt/gt.txt"])
def test_the_text_of_mots_is_trained_on_as_the_label_maps_that_it_holds(tmp_path, place, kitti):
    write_sequence(tmp_path, "0002", frames=4, kitti=kitti)
    (by_maps,) = VOSFolder(tmp_path).videos
    maps = sequence_labels(4)
    maps[3] = 0  # a frame without a line
    write_label_map(by_maps.mask_path(by_maps.frames[3]), maps[3])
    expected = [by_maps.read_labels(frame) for frame in by_maps.frames]
    shutil.rmtree(tmp_path / "instances")
    write_text(tmp_path / place, maps, first=0 if kitti else 1)
    folder = VOSFolder(tmp_path)
    assert has_annotations(tmp_path) and check(folder, skip_bad=False) == []
    check_objects(tmp_path, folder.videos)
    (video,) = folder.videos
    assert video.annotated == video.frames == by_maps.frames and video.size == (24, 32)
    assert video.mask_folder == tmp_path / "instances/0002"  # where they would be label maps
    for frame, labels in zip(video.frames, expected, strict=True):
        np.testing.assert_array_equal(video.read_labels(frame) < 0, void_in(labels))
        np.testing.assert_array_equal(np.maximum(video.read_labels(frame), 0), np.maximum(labels, 0))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda text: text.replace("1 2001", "7 2001", 1),
            r"has masks of time 7, but .*no such frame",
        ),
        (lambda text: "1 2001 2 4 4 `0\n", r"a\.txt is 4x4 but its frame is 32x24"),
        (lambda text: "nonsense", r"a\.txt, line 1, has not the form"),
    ],
)
def test_text_of_mots_that_does_not_fit_its_frames_is_told(tmp_path, change, told):
    write_sequence(tmp_path, "a")
    shutil.rmtree(tmp_path / "instances")
    path = write_text(tmp_path / "instances_txt/a.txt", sequence_labels())
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=told):
        check(VOSFolder(tmp_path), skip_bad=False)


def test_mots_without_masks_is_told_where_they_belong(tmp_path):
    write_frame(tmp_path / "a" / "img1" / "000001.jpg")
    assert not has_annotations(tmp_path)
    with pytest.raises(UserError, match=r"no label maps .*instances/.*, or text files .*: add them"):
        VOSFolder(tmp_path)


def test_a_video_called_img1_makes_no_folder_of_mots(tmp_path):
    write_video(tmp_path, "img1")
    assert [video.name for video in VOSFolder(tmp_path).videos] == ["img1"]


@pytest.mark.parametrize("read", [read_objects, read_category_names])
def test_a_pipe_is_not_passed_over_as_if_it_were_absent(tmp_path, read):
    assert read(tmp_path / "facts.json") == {}
    os.mkfifo(tmp_path / "facts.json")
    with pytest.raises(UserError, match=r"facts\.json is a pipe, a device or a socket: give a file"):
        read(tmp_path / "facts.json")
