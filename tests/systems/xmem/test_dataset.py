"""What XMem is trained on: frames near one another, up to three objects, hard masks of still images."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from annotated.videos import VOSFolder
from common.errors import UserError
from common.seeding import seeded
from common.types import Clip
from systems.xmem.dataset import XMemDataset, nearby_places
from tests.support.vos_folders import maps_of, write_video

CONFIG = XMemDataset.Config(epochs=10, crop_size=32, clip_length=4)


@pytest.mark.parametrize(("length", "jump", "count"), [(8, 5, 8), (60, 5, 8), (60, 1, 4), (9, 15, 3)])
def test_places_are_distinct_in_order_and_each_near_another(length, jump, count):
    with seeded(length, jump):
        drawn = [nearby_places(length, jump, count) for _ in range(200)]
    for places in drawn:
        ordered = sorted(places)
        assert places in (ordered, ordered[::-1]) and len(set(places)) == count
        assert 0 <= ordered[0] and ordered[-1] < length
        assert max(b - a for a, b in pairwise(ordered)) <= jump
    assert {places[0] < places[-1] for places in drawn} == {True, False}
    assert len({min(places) for places in drawn}) > (length - count) // 2  # not the first frames only


def test_a_clip_has_its_length_and_at_most_three_slots(tmp_path):
    labels = np.concatenate([maps_of([7, 3, 9])] * 2)
    labels[:, 33:36], labels[:, 36:] = 11, 12
    write_video(tmp_path, "five", labels)
    data = XMemDataset(VOSFolder(tmp_path), CONFIG, training=True)
    drawn = set()
    for epoch in range(12):
        clip = data[epoch, 0]
        assert clip.frames.shape == (1, 4, 3, 32, 32) and clip.ids.shape[1] <= 3
        assert int(clip.labels[clip.labels != 255].max()) <= clip.ids.shape[1]
        drawn |= set(clip.ids[0].tolist())
    assert drawn == {3, 7, 9, 11, 12}


def test_clips_of_held_out_videos_are_fixed_and_as_long(tmp_path):
    write_video(tmp_path, "three", np.concatenate([maps_of([7, 3, 9])] * 4))
    data = XMemDataset(VOSFolder(tmp_path), replace(CONFIG, clip_length=8), training=False)
    assert [name for _, name in data[0, 0].names[0]] == [f"{t:05d}" for t in range(0, 24, 3)]
    assert data[0, 0].ids.tolist() == [[7, 3, 9]]


def test_a_video_shorter_than_a_clip_is_left_out(tmp_path):
    write_video(tmp_path, "short", maps_of([7], frames=7))
    with pytest.raises(UserError, match="8 annotated frames"):
        XMemDataset(VOSFolder(tmp_path), replace(CONFIG, clip_length=8), training=True)


def test_still_images_have_hard_masks(tmp_path):
    write_video(tmp_path / "videos", "three", maps_of([7]))
    mask = np.zeros((50, 40), dtype=np.uint8)
    mask[10:30, 10:30] = 255
    Image.fromarray(mask).convert("RGB").save(tmp_path / "a.jpg")
    Image.fromarray(mask).save(tmp_path / "a.png")
    config = replace(CONFIG, static_root=str(tmp_path), clip_length=3, num_objects=1)
    data = XMemDataset(VOSFolder(tmp_path / "videos"), config, training=True)
    clip = data[0, 0]
    assert type(clip) is Clip and clip.frames.shape == (1, 3, 3, 32, 32)
    assert clip.prompt.dtype == torch.bool
    assert len(data.collate([clip, data[1, 0]]).names) == 2
