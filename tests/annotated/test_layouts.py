"""Where the parts of a data set lie: every layout is found, and several data sets become one."""

import json

import numpy as np
import pytest

from annotated.json_videos import JsonVideos
from annotated.layouts import open_split, split_videos
from annotated.still_images import StillImages
from annotated.videos import VOSFolder
from common.errors import UserError
from dataset import YouTubeVOSDataset
from tests.support.json_sets import SIZE, write_coco, write_pairs, write_vis
from tests.support.vos_folders import maps_of, write_video

MAPS = {"a": maps_of([1, 2], frames=3), "b": maps_of([1], frames=3)}
COCO_LAYOUTS = [
    ("annotations/instances_{}2017.json", "{}2017"),
    ("annotations/instances_{}2014.json", "images/{}2014"),
    ("{}/_annotations.coco.json", "{}"),
    ("{}/instances.json", "{}/images"),
]
VIS_LAYOUTS = [
    ("{}.json", "{}/JPEGImages"),
    ("{}/instances.json", "{}/JPEGImages"),
    ("{}/{}.json", "{}/JPEGImages"),
    ("annotations_{}.json", "{}"),
    ("annotations/{}.json", "{}/JPEGImages"),
    ("annotations/annotations_{}.json", "{}"),
]


def names(split) -> tuple[list[str], list[str]]:
    return tuple([video.name for video in part.videos] for part in (split.train, split.valid))


@pytest.mark.parametrize("path, folder", VIS_LAYOUTS)
def test_the_published_layouts_of_youtube_vis_and_ovis_are_found(tmp_path, path, folder):
    for split in ("train", "valid"):
        write_vis(tmp_path / path.format(split, split), tmp_path / folder.format(split), MAPS)
    assert names(split_videos([tmp_path], holdout=2, skip_bad=False)) == (["a", "b"], ["a", "b"])


@pytest.mark.parametrize("path, folder", COCO_LAYOUTS)
def test_the_published_layouts_of_coco_are_found(tmp_path, path, folder):
    for split, name in (("train", "train"), ("valid", "valid" if "2" not in path else "val")):
        write_coco(tmp_path / path.format(name), tmp_path / folder.format(name), MAPS)
        found = open_split(tmp_path, split, skip_bad=False)
        assert isinstance(found, JsonVideos)
        assert [video.frames == video.annotated for video in found.videos] == [True] * 6


def test_json_comes_before_the_label_maps_beside_it(tmp_path):
    write_video(tmp_path / "train", "a", MAPS["a"])
    assert isinstance(open_split(tmp_path, "train", skip_bad=False), VOSFolder)
    write_vis(tmp_path / "train.json", tmp_path / "train/JPEGImages", MAPS)
    assert isinstance(open_split(tmp_path, "train", skip_bad=False), JsonVideos)


@pytest.mark.parametrize("inner", ["", "train"])
def test_images_with_masks_may_lie_in_the_root(tmp_path, inner):
    write_pairs(tmp_path / inner, MAPS)
    found = open_split(tmp_path, "train", skip_bad=False)
    assert isinstance(found, StillImages) and len(found.videos) == 6
    assert open_split(tmp_path, "valid", skip_bad=False) is None


def test_validation_videos_without_annotations_have_no_scores(tmp_path):
    write_vis(tmp_path / "train.json", tmp_path / "train/JPEGImages", MAPS)
    write_vis(tmp_path / "valid.json", tmp_path / "valid/JPEGImages", MAPS)
    content = json.loads((tmp_path / "valid.json").read_text())
    del content["annotations"]
    (tmp_path / "valid.json").write_text(json.dumps(content))
    (tmp_path / "valid").rename(tmp_path / "elsewhere")  # nor need their frames be there
    assert names(split_videos([tmp_path], holdout=2, skip_bad=False)) == (["a"], ["b"])


def test_training_data_without_annotations_are_refused(tmp_path):
    write_vis(tmp_path / "train.json", tmp_path / "train/JPEGImages", {"a": np.zeros((2, *SIZE), np.uint8)})
    with pytest.raises(UserError, match=r"train\.json holds no annotation of an object"):
        split_videos([tmp_path], holdout=2, skip_bad=False)


def test_json_without_frames_is_refused(tmp_path):
    write_coco(tmp_path / "instances.json", tmp_path / "elsewhere", MAPS)
    with pytest.raises(UserError, match=r"instances\.json has no frames: put them into .*images"):
        split_videos([tmp_path], holdout=2, skip_bad=False)


# ------------------------------------------------------------------------------------------------ several


def test_of_several_roots_those_with_videos_are_scored_and_still_images_only_train(tmp_path):
    for split in ("train", "valid"):
        write_vis(tmp_path / "vis" / f"{split}.json", tmp_path / "vis" / split / "JPEGImages", MAPS)
    write_pairs(tmp_path / "stills", {"c": MAPS["a"]})
    split = split_videos([tmp_path / "stills", tmp_path / "vis"], holdout=2, skip_bad=False)
    assert names(split) == (["c00000.png", "c00001.png", "c00002.png", "a", "b"], ["a", "b"])
    (tmp_path / "vis/valid.json").unlink()
    split = split_videos([tmp_path / "stills", tmp_path / "vis"], holdout=2, skip_bad=False)
    assert names(split) == (["c00000.png", "c00001.png", "c00002.png", "a"], ["b"])


def test_a_weight_says_how_often_each_training_video_of_a_root_is_there(tmp_path):
    write_pairs(tmp_path / "stills", {"c": MAPS["a"][:2]})
    write_vis(tmp_path / "vis/train.json", tmp_path / "vis/train/JPEGImages", MAPS)
    split = split_videos([tmp_path / "stills", tmp_path / "vis"], weights=[1, 3], holdout=2, skip_bad=False)
    assert names(split) == (["c00000.png", "c00001.png", "a", "a", "a"], ["b"])
    config = YouTubeVOSDataset.Config(num_tokens=3, num_classes=1, image_size=32, clip_length=2)
    clips = YouTubeVOSDataset(split.train, config, training=True)
    drawn = [[clips[epoch, index].names[0][0][0] for index in range(len(clips))] for epoch in (0, 1)]
    assert drawn == [["c00000.png", "c00001.png", "a", "a", "a"]] * 2
    assert not np.array_equal(clips[0, 2].frames, clips[0, 3].frames)  # each time it is drawn anew


def test_weights_are_as_many_as_roots(tmp_path):
    with pytest.raises(UserError, match=r"--dataset_weights 2: give one for each of the 2"):
        split_videos([tmp_path, tmp_path], weights=[2], holdout=2, skip_bad=False)


def test_videos_of_one_name_in_two_roots_have_the_root_before_it(tmp_path):
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        for split in ("train", "valid"):
            write_video(root / split, "a", MAPS["a"])
    split = split_videos(roots, holdout=2, skip_bad=False)
    assert names(split)[1] == [f"{root}/valid/a" for root in roots]


def test_categories_of_several_roots_are_joined_by_name(tmp_path):
    write_coco(tmp_path / "one/instances.json", tmp_path / "one/images", MAPS, {1: "dog", 2: "cat"})
    write_vis(tmp_path / "two/train.json", tmp_path / "two/train/JPEGImages", MAPS, {1: "ape", 2: "dog"})
    train, valid, _ = split_videos([tmp_path / "one", tmp_path / "two"], holdout=2, skip_bad=False)
    assert train.categories == valid.categories == ["ape", "cat", "dog"]
    assert [train.classes_of(video) for video in train.videos[-2:]] == [{1: 2}, {1: 0, 2: 2}]


def test_a_root_without_categories_is_refused_where_classes_are_trained(tmp_path):
    write_coco(tmp_path / "one/instances.json", tmp_path / "one/images", MAPS, {1: "dog", 2: "cat"})
    write_pairs(tmp_path / "two", {"c": MAPS["a"]})
    train = split_videos([tmp_path / "one", tmp_path / "two"], holdout=2, skip_bad=False).train
    config = YouTubeVOSDataset.Config(num_tokens=3, num_classes=2, image_size=32)
    with pytest.raises(UserError, match=r"two/meta\.json lacks the categories of video c00000\.png"):
        YouTubeVOSDataset(train, config, training=True)


def test_one_root_may_hold_one_video_beside_others(tmp_path):
    write_vis(tmp_path / "one/train.json", tmp_path / "one/train/JPEGImages", {"c": MAPS["a"]})
    write_vis(tmp_path / "two/train.json", tmp_path / "two/train/JPEGImages", MAPS)
    split = split_videos([tmp_path / "one", tmp_path / "two"], holdout=2, skip_bad=False)
    assert names(split) == (["c", "a"], ["b"])


def test_the_root_of_the_next_command_is_a_folder_of_videos_or_an_image(tmp_path):
    write_pairs(tmp_path / "stills", MAPS)
    write_vis(tmp_path / "vis/train.json", tmp_path / "vis/train/JPEGImages", MAPS)
    found = [open_split(tmp_path / name, "train", skip_bad=False) for name in ("stills", "vis")]
    roots = [tmp_path / "stills/images/a00000.png", tmp_path / "vis/train/JPEGImages"]
    assert [videos.video_root for videos in found] == roots
