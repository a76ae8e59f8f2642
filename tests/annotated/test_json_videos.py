"""Annotations in JSON: they say what label maps would say, and what is malformed is told in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from annotated import json_stream
from annotated.json_videos import JsonVideos
from annotated.still_images import StillImages
from annotated.videos import VideoSet, VOSFolder, check, check_objects
from common.errors import UserError
from common.files import read_json
from dataset import YouTubeVOSDataset
from tests.support.json_sets import content_of, frame_of, write_coco, write_pairs, write_vis, write_vos
from tests.support.vis_files import spoil
from tests.support.vos_folders import maps_of
from tests.support.youtube_vos import same

MAPS = {"a": maps_of([1, 2], frames=2)}
SIZE = (6, 9)


@st.composite
def some_maps(draw) -> dict[str, np.ndarray]:
    """One or two videos of ids 1 to 3 and void; object 1 is in every frame, so that 255 is no object."""
    maps = {}
    for name in ("ant", "bee")[: draw(st.integers(1, 2))]:
        shape = (draw(st.integers(1, 3)), *SIZE)
        maps[name] = draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, 255])))
        maps[name][:, 0, 0] = 1
    return maps


def clips_of(videos: VideoSet, epoch: int) -> list:
    config = YouTubeVOSDataset.Config(
        num_tokens=4, num_classes=1, image_size=32, clip_length=2, min_area=1, max_scale=1.0
    )
    clips = YouTubeVOSDataset(videos, config, training=True, seed=3)
    return [clips[epoch, index] for index in range(len(clips))]


def assert_same_clips(videos: VideoSet, others: VideoSet) -> None:
    for epoch in (0, 1):
        pairs = list(zip(clips_of(videos, epoch), clips_of(others, epoch), strict=True))
        assert pairs and all(same(clip, other) for clip, other in pairs)


@settings(max_examples=15, deadline=None)
@given(maps=some_maps(), form=st.sampled_from(["text", "counts", "polygons"]))
def test_youtube_vis_gives_the_clips_of_label_maps(tmp_path_factory, maps, form):
    root = tmp_path_factory.mktemp("sets")
    path = write_vis(root / "train.json", root / "frames", maps, form=form)
    videos = JsonVideos(path, root / "frames")
    assert check(videos, skip_bad=False) == []
    assert_same_clips(videos, VOSFolder(write_vos(root / "vos", maps)))


@settings(max_examples=15, deadline=None)
@given(maps=some_maps(), form=st.sampled_from(["text", "counts", "polygons"]))
def test_coco_gives_the_clips_of_images_with_masks(tmp_path_factory, maps, form):
    root = tmp_path_factory.mktemp("sets")
    stills = StillImages(write_pairs(root / "pairs", maps))
    videos = JsonVideos(write_coco(root / "x.json", root / "images", maps, form=form), root / "images")
    assert check(videos, skip_bad=False) == check(stills, skip_bad=False) == []
    assert [video.frames for video in videos.videos] == [video.annotated for video in stills.videos]
    assert_same_clips(videos, stills)


# ------------------------------------------------------------------------------------------------ masks


def write_masks(root: Path, *masks: object, size: tuple[int, int] = (4, 6), **about: object) -> JsonVideos:
    """An image whose annotations have these masks."""
    (root / "sub").mkdir()
    frame_of(np.zeros(size, np.uint8)).save(root / "sub/a.png")
    image = {"id": 0, "height": size[0], "width": float(size[1]), "file_name": "sub\\a.png"}
    entries = [{"image_id": 0, "category_id": 10, "segmentation": mask, **about} for mask in masks]
    (root / "x.json").write_text(content_of("images", [image], entries, {1: "ape"}))
    return JsonVideos(root / "x.json", root)


def box(x: int, y: int, right: int, bottom: int) -> list[int]:
    """A polygon around the pixels from x to right and from y to bottom, ends excluded."""
    return [x, y, right, y, right, bottom, x, bottom]


def labels_in(videos: JsonVideos) -> list[list[int]]:
    (video,) = videos.videos
    return video.read_labels(video.frames[0]).tolist()


def test_polygons_of_several_parts_are_drawn(tmp_path):
    videos = write_masks(tmp_path, [box(0, 0, 2, 1), box(3, 2, 6, 4)])
    assert labels_in(videos) == [[1, 1, 0, 0, 0, 0], [0] * 6, [0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]]
    (video,) = videos.videos
    assert (video.name, video.frame_path("a")) == ("sub/a.png", tmp_path / "sub/a.png")


def test_of_masks_that_overlap_the_smaller_one_is_on_top_and_of_equals_the_first(tmp_path):
    small, large, equal = [box(1, 1, 3, 2)], [box(0, 0, 6, 4)], [box(2, 1, 4, 2)]
    videos = write_masks(tmp_path, large, small, equal)
    assert labels_in(videos) == [[1] * 6, [1, 2, 2, 3, 1, 1], [1] * 6, [1] * 6]


def test_a_crowd_is_void_under_the_objects_and_has_no_category(tmp_path):
    write_masks(tmp_path, [box(0, 0, 6, 4)], [box(0, 0, 2, 4)])
    spoil(tmp_path / "x.json", "annotations", 1, "iscrowd", value=1)
    crowd = JsonVideos(tmp_path / "x.json", tmp_path)
    assert labels_in(crowd) == [[1] * 6] * 4
    spoil(tmp_path / "x.json", "annotations", 0, "segmentation", value=[box(1, 0, 6, 2)])
    crowd = JsonVideos(tmp_path / "x.json", tmp_path)
    assert labels_in(crowd) == [[255, 1, 1, 1, 1, 1]] * 2 + [[255, 255, 0, 0, 0, 0]] * 2
    assert crowd.classes_of(crowd.videos[0]) == {1: 0}


def test_300_objects_have_ids_of_more_than_8_bits_and_void_is_negative(tmp_path):
    masks = [[box(i % 20, i // 20, i % 20 + 1, i // 20 + 1)] for i in range(300)]
    videos = write_masks(tmp_path, *masks, size=(20, 20))
    assert np.array(labels_in(videos)).max() == 301
    spoil(tmp_path / "x.json", "annotations", 0, "iscrowd", value=1)
    labels = np.array(labels_in(JsonVideos(tmp_path / "x.json", tmp_path)))
    assert sorted(np.unique(labels)) == [-1, 0, *(i for i in range(1, 301) if i != 255)]


def test_images_without_an_object_are_left_out_and_counted(tmp_path, capsys):
    maps = {"a": np.stack([MAPS["a"][0], 0 * MAPS["a"][0], 0 * MAPS["a"][0]])}
    videos = JsonVideos(write_coco(tmp_path / "x.json", tmp_path / "images", maps), tmp_path / "images")
    assert [video.name for video in videos.videos] == ["a00000.png"]
    assert "2 of 3 show no object" in capsys.readouterr().err


@pytest.mark.parametrize("chunk", [7, 64])
@pytest.mark.parametrize("encoding, newline", [("utf-8", "\n"), ("utf-8-sig", "\r\n")])
def test_masks_are_found_by_their_bytes_whatever_stands_before_them(
    tmp_path, monkeypatch, chunk, encoding, newline
):
    path = write_vis(tmp_path / "x.json", tmp_path / "frames", MAPS, {1: "größe", 2: "猫"})
    text = json.dumps(read_json(path), ensure_ascii=False, indent=1)
    path.write_bytes(text.replace("\n", newline).encode(encoding))
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    (video,) = JsonVideos(path, tmp_path / "frames").videos
    assert video.categories == {1: "größe", 2: "猫"}
    np.testing.assert_array_equal(np.stack([video.read_labels(t) for t in video.frames]), MAPS["a"])


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    "place, value, told",
    [
        (("annotations", 0, "video_id"), 99, "annotation 0 is of video or image 99, which is not listed"),
        (("annotations", 1, "category_id"), "cat", "annotation 1 has the category_id 'cat': give a whole"),
        (("annotations", 0, "iscrowd"), 2, "annotation 0 has the iscrowd 2: give 0 or 1"),
        (
            ("annotations", 0, "segmentations"),
            [None],
            "1 masks, but its video has 2 frames: give one",
        ),
        (("annotations", 0, "segmentations"), None, "annotation 0 has no mask: it needs a segmentation"),
        (("annotations",), 5, "holds annotations that are no list"),
        (("annotations", 0), 5, "'5' stands where '{' should"),
        (("videos", 0, "height"), 0, "has the size"),
        (("videos", 0, "width"), "9", "has the width '9': give a whole number"),
        (("videos", 0, "file_names"), [], "names no files"),
        (("videos", 0, "file_names"), ["a/0.png"], "names 1 files, which is not its length"),
        (("videos", 0, "file_names"), ["a/0.png", "b/1.png"], "files in one folder, of one format"),
        (("videos", 0, "file_names"), ["a/0.png", "a/0.png"], "each named once"),
        (("videos", 0, "file_names"), ["../0.png", "../1.png"], "cannot be a name"),
        (("videos", 0, "file_names"), ["/etc/0.png", "/etc/1.png"], "cannot be a name"),
        (("videos", 1, "id"), 5, "several videos or images with the id 5"),
        (("videos", 1, "file_names"), ["a/00000.png", "a/00001.png"], "with the name a: leave only one"),
        (("videos",), {}, "'{' stands where '[' should"),
        (("categories",), [{"id": 1}, {"id": 1}], "each with an id of its own"),
        (("categories", 0), "cat", "has categories that are not"),
        (("categories", 0, "name"), [], "has categories that are not"),
    ],
)
def test_what_is_malformed_is_told_with_the_path(tmp_path, place, value, told):
    path = write_vis(tmp_path / "x.json", tmp_path / "frames", MAPS | {"b": MAPS["a"]})
    spoil(path, *place, value=value)
    with pytest.raises(UserError) as refusal:
        JsonVideos(path, tmp_path / "frames")
    assert told in str(refusal.value) and "\n" not in str(refusal.value)
    assert str(path) in str(refusal.value) or "cannot be a name" in told


@pytest.mark.parametrize("mask", [[[4, 4, 20, 4]], [1, 1, 3, 1, 3, 3], [[1.0, 1, 3, float("nan"), 3, 3]]])
def test_masks_of_which_none_can_be_read_are_refused_with_the_first_error(tmp_path, mask):
    videos = write_masks(tmp_path, mask)
    with pytest.raises(UserError, match=r"is not an RLE|has no value at byte") as refusal:
        check_objects(tmp_path, videos.videos)
    assert "the first error" in str(refusal.value) and "pixel value" not in str(refusal.value)


def test_videos_whose_frames_lie_in_one_folder_are_named_by_their_first_frames(tmp_path):
    path = write_vis(tmp_path / "x.json", tmp_path / "frames", {"a": MAPS["a"], "b": MAPS["a"]})
    content = read_json(path)
    for video in content["videos"]:
        video["file_names"] = [name.replace("/", "_") for name in video["file_names"]]
    path.write_text(json.dumps(content))
    assert [video.name for video in JsonVideos(path, tmp_path).videos] == ["a_00000.png", "b_00000.png"]


def test_a_file_without_videos_and_annotations_holds_none(tmp_path):
    (tmp_path / "x.json").write_text(content_of("videos", [], [], {}))
    assert JsonVideos(tmp_path / "x.json", tmp_path).videos == []


@pytest.mark.parametrize("key", ["videos", "categories"])
def test_a_file_of_another_kind_is_refused(tmp_path, key):
    path = write_vis(tmp_path / "x.json", tmp_path / "frames", MAPS)
    content = read_json(path)
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"x\.json is no annotation file of YouTube-VIS or COCO"):
        JsonVideos(path, tmp_path / "frames")


def test_utf_16_is_refused(tmp_path):
    path = write_vis(tmp_path / "x.json", tmp_path / "frames", MAPS)
    path.write_text(path.read_text(), encoding="utf-16")
    with pytest.raises(UserError, match=r"x\.json is in utf-16, not in UTF-8: save it as UTF-8"):
        JsonVideos(path, tmp_path / "frames")


@pytest.mark.parametrize(
    "mask, told",
    [
        ({"size": [4, 6], "counts": [1, 2]}, "has runs that do not fill"),
        ({"size": [4, 7], "counts": [28]}, "has the size"),
        ([[0, 0, 1]], "no polygon"),
        ([[0, 0, 1, float("inf"), 2, 2]], "has no value at byte"),
        ("mask", "is not an RLE"),
    ],
)
def test_a_bad_mask_is_told_with_its_frame_where_it_is_drawn(tmp_path, mask, told):
    videos = write_masks(tmp_path, mask)
    with pytest.raises(UserError, match=told) as refusal:
        labels_in(videos)
    assert str(tmp_path / "x.json") in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_category_that_is_not_listed_is_a_class_by_its_number_and_told(tmp_path, capsys):
    videos = write_masks(tmp_path, [box(0, 0, 2, 2)], category_id=87)
    assert "lists 1 categories of its annotations nowhere (87)" in capsys.readouterr().err
    assert videos.classes_of(videos.videos[0]) == {1: videos.categories.index("category 87")}


def test_a_file_that_was_changed_meanwhile_is_told(tmp_path):
    videos = write_masks(tmp_path, [box(0, 0, 2, 2)])
    (tmp_path / "x.json").write_text((tmp_path / "x.json").read_text())
    with pytest.raises(UserError, match=r"x\.json was changed after the start: start anew"):
        labels_in(videos)


def test_frames_that_are_absent_or_of_another_size_are_told_and_may_be_left_out(tmp_path):
    path = write_vis(tmp_path / "x.json", tmp_path / "frames", MAPS | {"b": MAPS["a"], "c": MAPS["a"]})
    (tmp_path / "frames/a/00000.png").unlink()
    frame_of(MAPS["a"][0, :30]).save(tmp_path / "frames/b/00000.png")
    frame_of(MAPS["a"][0, :30]).save(tmp_path / "frames/b/00001.png")
    with pytest.raises(UserError, match=r"a/00000\.png.*--skip_bad"):
        check(JsonVideos(path, tmp_path / "frames"), skip_bad=False)
    videos = JsonVideos(path, tmp_path / "frames")
    troubles = check(videos, skip_bad=True)
    assert len(troubles) == 2 and "x.json is 40x40 but its frame is 40x30" in troubles[1]
    assert [(video.name, video.annotated) for video in videos.videos] == [
        ("a", ["00001"]),
        ("c", ["00000", "00001"]),
    ]
    np.testing.assert_array_equal(videos.videos[0].read_labels("00001"), MAPS["a"][1])
