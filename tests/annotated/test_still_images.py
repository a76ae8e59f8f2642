"""Folders of images with masks: each image is a video of one frame."""

import json

import numpy as np
import pytest
from PIL import Image

from annotated.still_images import StillImages, find_pairs
from annotated.videos import check
from common.errors import UserError
from tests.support.json_sets import write_pairs
from tests.support.vos_folders import maps_of

MAPS = {"a": maps_of([1, 2], frames=2), "b": maps_of([3], frames=1)}


def test_each_image_is_a_video_of_one_frame_with_its_mask(tmp_path):
    stills = StillImages(write_pairs(tmp_path, MAPS))
    assert [video.name for video in stills.videos] == ["a00000.png", "a00001.png", "b00000.png"]
    assert all(video.frames == video.annotated == [video.name[:-4]] for video in stills.videos)
    np.testing.assert_array_equal(stills.videos[2].read_labels("b00000"), MAPS["b"][0])
    assert stills.is_still and stills.categories == [] and check(stills, skip_bad=False) == []


def test_images_may_lie_deeper_and_categories_in_a_meta_json(tmp_path):
    for kind in ("images", "masks"):
        write_pairs(tmp_path / "made", MAPS)
        (tmp_path / kind).mkdir()
        (tmp_path / "made" / kind).rename(tmp_path / kind / "inner")
    objects = {"inner/b00000.png": {"objects": {"3": {"category": "cat"}}}}
    (tmp_path / "meta.json").write_text(json.dumps({"videos": objects}))
    stills = StillImages(tmp_path)
    assert [video.name for video in stills.videos][2] == "inner/b00000.png"
    assert stills.classes_of(stills.videos[2]) == {3: 0}
    with pytest.raises(UserError, match=r"meta\.json lacks the categories of video inner/a00000\.png"):
        stills.classes_of(stills.videos[0])


def test_masks_of_0_and_255_show_one_object(tmp_path):
    write_pairs(tmp_path, {"a": np.where(MAPS["a"] == 1, 255, 0)})
    video = StillImages(tmp_path).videos[0]
    np.testing.assert_array_equal(video.read_labels(video.frames[0]), MAPS["a"][0] == 1)


def test_images_without_a_mask_are_left_out_and_counted(tmp_path, capsys):
    write_pairs(tmp_path, MAPS)
    (tmp_path / "masks/a00000.png").unlink()
    assert [image.name for image, _ in find_pairs(tmp_path)] == ["a00001.png", "b00000.png"]
    assert "1 of 3 images have no mask" in capsys.readouterr().err


def test_a_folder_without_pairs_is_refused(tmp_path):
    write_pairs(tmp_path, {"a": MAPS["a"]})
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"holds no image with a mask: looked for images/<name>\.jpg"):
        StillImages(tmp_path)


def test_a_mask_of_another_size_is_told_with_both_sizes(tmp_path):
    write_pairs(tmp_path, MAPS)
    Image.fromarray(MAPS["a"][0, :30]).save(tmp_path / "masks/a00000.png")
    with pytest.raises(UserError, match=r"masks/a00000\.png is 40x30 but its frame is 40x40"):
        check(StillImages(tmp_path), skip_bad=False)
