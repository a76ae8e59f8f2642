"""Clips of annotated videos: what is drawn, what is selected, and that only (seed, epoch, index) decides."""

import json
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from annotated.layouts import split_videos
from common.errors import UserError
from common.types import Clip
from dataset import (
    YouTubeVOSDataset,
    collate,
    compact_labels,
    keep_objects,
    label_slots,
    select_objects,
)
from tests.support.mots import sequence_labels, write_sequence
from tests.support.youtube_vos import (
    draw_labels,
    make_dataset,
    same,
    write_damaged_videos,
    write_video,
    write_videos,
)
from training.loader import loader_errors, make_loader
from video.label_maps import IGNORE
from video.transforms import normalise, upload


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """The folder of three videos; nobody may change it."""
    root = tmp_path_factory.mktemp("data") / "train"
    write_videos(root)
    return root


def places(clip: Clip, b: int = 0) -> list[int]:
    return [int(frame) for _, frame in clip.names[b]]


PLAIN = {"min_scale": 1.0, "max_scale": 1.0, "crop_probability": 0.0}
PLAIN |= {"flip_probability": 0.0, "color_jitter": 0.0}

# ------------------------------------------------------------------------------------------------ objects


def test_ids_of_any_size_become_slots_in_ascending_order():
    labels, ids = compact_labels(
        [np.array([[0, 9], [IGNORE, 4]], np.uint8), np.array([[4, 4], [0, 0]], np.uint8)]
    )
    assert ids == [4, 9] and labels.dtype == torch.uint8
    assert labels.tolist() == [[[0, 2], [IGNORE, 1]], [[1, 1], [0, 0]]]


def test_in_16_bit_maps_255_is_an_id_like_others():
    labels, ids = compact_labels([np.array([[0, 255, 60000]], np.uint16)])
    assert ids == [255, 60000] and labels.tolist() == [[[0, 1, 2]]]


def test_ids_beyond_what_a_label_map_can_hold_are_ignored():
    labels, ids = compact_labels([np.arange(300, dtype=np.uint16)[None]])
    assert ids == list(range(1, 255))
    assert labels[0, 0, :255].tolist() == list(range(255)) and labels[0, 0, 255:].unique().tolist() == [
        IGNORE
    ]


def test_ids_of_8_bits_are_slots_as_they_are_and_wider_ones_are_numbered():
    narrow = np.array([[0, 9, IGNORE]], np.uint8)
    (labels,), ids = label_slots([narrow])
    assert labels.tolist() == narrow.tolist() and [ids[label - 1] for label in (1, 9, 254)] == [1, 9, 254]
    wide = [np.array([[0, 300, 300]], np.uint16), np.array([[0, 70, 300]], np.uint16)]
    labels, ids = label_slots(wide)
    assert ids == [70, 300] and [label_map.tolist() for label_map in labels] == [[[0, 2, 2]], [[0, 1, 2]]]


def areas(*frames: dict[int, int]) -> torch.Tensor:
    """(T, 1, 100) label maps in which each label has the given number of pixels."""
    labels = torch.zeros(len(frames), 1, 100, dtype=torch.uint8)
    for t, counts in enumerate(frames):
        row = [label for label, count in counts.items() for _ in range(count)]
        labels[t, 0, : len(row)] = torch.tensor(row)
    return labels


def test_the_most_frequent_objects_are_selected_and_ties_go_to_area_and_label():
    labels = areas({1: 5, 2: 9, 3: 5, 4: 5}, {1: 5, 3: 5, 4: 6}, {3: 1})
    assert select_objects(labels, 9, min_area=1) == [3, 4, 1, 2]
    assert select_objects(labels, 2, min_area=1) == [3, 4]
    assert select_objects(labels, 9, min_area=6) == [4, 2]
    assert select_objects(labels, 9, min_area=10) == []


def test_ignored_pixels_are_no_object():
    assert select_objects(areas({255: 50, 254: 20}), 9, min_area=1) == [254]


def test_what_is_not_kept_is_ignored_and_never_background_unless_asked_for():
    labels = torch.tensor([[[0, 1, 2, 3, IGNORE]]], dtype=torch.uint8)
    assert keep_objects(labels, [3, 1]).tolist() == [[[0, 2, IGNORE, 1, IGNORE]]]
    assert keep_objects(labels, []).tolist() == [[[0, IGNORE, IGNORE, IGNORE, IGNORE]]]
    assert keep_objects(labels, [3], others=0).tolist() == [[[0, 0, 0, 1, IGNORE]]]


# ------------------------------------------------------------------------------------------------ clips


def test_a_clip_in_evaluation_is_consecutive_frames_unchanged(root):
    clip = make_dataset(root, training=False)[0, 0]
    first = places(clip)[0]
    assert places(clip) == [first, first + 1, first + 2] and clip.names[0][0][0] == "long"
    assert clip.frames.shape == (1, 3, 3, 32, 48) and clip.sizes == [(32, 48)]
    frames = torch.stack([10 * torch.full((32, 48), t) for t in places(clip)]).to(torch.uint8)
    assert torch.equal(clip.frames[0, :, 1], frames)
    assert torch.equal(upload(clip, "cpu").frames[0], normalise(clip.frames[0]))
    assert clip.ids.tolist() in ([[1, 2]], [[1]])
    source = torch.from_numpy(np.stack([draw_labels("long", t) for t in places(clip)]))
    assert torch.equal(clip.labels[0] == 1, source == 1)
    assert torch.equal(clip.labels[0] == IGNORE, source == 7)  # nine pixels, fewer than --min_area


def test_an_object_that_is_not_selected_is_ignored(root):
    clip = make_dataset(root, training=False, num_tokens=1, clip_length=8, min_area=1)[0, 0]
    assert clip.ids.tolist() == [[1]]
    source = torch.from_numpy(np.stack([draw_labels("long", t) for t in range(8)]))
    assert torch.equal(clip.labels[0] == IGNORE, (source == 2) | (source == 7))
    assert torch.equal(clip.labels[0] == 0, source == 0)


def test_frames_and_label_maps_of_a_training_clip_belong_together(root):
    clips = make_dataset(root, color_jitter=0.0)
    for epoch in range(6):
        clip = clips[epoch, 0]
        red = upload(clip, "cpu").frames[0, :, 0] * 0.229 + 0.485
        for slot, identity in enumerate(clip.ids[0].tolist(), start=1):
            if identity == 7:  # of nine pixels: all edge
                continue
            assert (red[clip.labels[0] == slot] * 255).median().item() == pytest.approx(20 * identity, abs=2)


def test_steps_between_frames_are_drawn_up_to_the_stride_and_half_the_clips_are_reversed(root):
    clips = make_dataset(root, clip_stride=3, **PLAIN)
    drawn = [np.diff(places(clips[epoch, 0])).tolist() for epoch in range(60)]
    assert {tuple(steps) for steps in drawn} == {(s, s) for s in (-3, -2, -1, 1, 2, 3)}
    assert 15 < sum(steps[0] < 0 for steps in drawn) < 45
    starts = {min(places(make_dataset(root, **PLAIN)[epoch, 0])) for epoch in range(60)}
    assert starts == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize("training", [True, False])
def test_videos_that_are_too_short_repeat_their_last_frame(root, training):
    clips = make_dataset(root, training=training, clip_stride=3, **PLAIN)
    assert [video.name for video in clips.videos] == ["long", "one", "pair"]
    assert places(clips[0, 1]) == [0, 0, 0]
    drawn = {tuple(places(clips[epoch, 2])) for epoch in range(12)}
    assert drawn == ({(0, 1, 1), (1, 1, 0)} if training else {(0, 1, 1)})


def test_a_still_image_becomes_a_clip_that_moves_in_training_and_is_repeated_in_evaluation(root):
    clips = make_dataset(root, num_classes=3, clip_length=4, **PLAIN)
    clip = clips[0, 1]
    assert (
        clip.names == [[("one", "00")] * 4] and clip.ids.tolist() == [[9]] and clip.classes.tolist() == [[1]]
    )
    assert clip.frames.shape == (1, 4, 3, 32, 32) and all(clip.present.flatten())
    assert all(not torch.equal(clip.labels[0, 0], later) for later in clip.labels[0, 1:])
    red = clip.frames[0, :, 0]
    for t in range(4):
        assert red[t][clip.labels[0, t] == 1].median() == 180  # 20 times the id
    assert same(make_dataset(root, num_classes=3, clip_length=4, **PLAIN)[0, 1], clip)
    varied = make_dataset(root, clip_length=4)[0, 1]
    assert varied.colours.shape == (1, 4, 3, 4) and upload(varied, "cpu").frames.isfinite().all()
    held_out = make_dataset(root, clip_length=4, training=False)[0, 1]
    assert torch.equal(held_out.frames[0, 1:], held_out.frames[0, :1].expand(3, -1, -1, -1))
    assert make_dataset(root, clip_length=1, **PLAIN)[0, 1].frames.shape[1] == 1


def test_a_clip_of_one_frame_is_legal(root):
    clip = make_dataset(root, clip_length=1, clip_stride=4)[0, 0]
    assert clip.frames.shape[:2] == (1, 1) and len(clip.names[0]) == 1


def test_an_item_depends_on_seed_epoch_and_index_alone(root):
    clips = make_dataset(root)
    first = clips[3, 0]
    torch.manual_seed(9)
    clips[0, 2]
    assert same(make_dataset(root)[3, 0], first) and same(clips[3, 0], first)
    assert not same(clips[4, 0], first) and not same(make_dataset(root, seed=1)[3, 0], first)


def test_several_clips_of_a_video_in_an_epoch_differ(root):
    clips = make_dataset(root, clips_per_video=4)
    assert len(clips) == 12 and len(make_dataset(root, clips_per_video=4, training=False)) == 3
    drawn = [clips[0, index] for index in (0, 3, 6, 9)]
    assert {clip.names[0][0][0] for clip in drawn} == {"long"}
    assert not any(same(drawn[0], clip) for clip in drawn[1:])


def test_classes_are_those_of_meta_json_or_none(root):
    clip = make_dataset(root, num_classes=3, training=False, clip_length=8, min_area=1)[0, 0]
    assert clip.ids.tolist() == [[1, 7, 2]] and clip.classes.tolist() == [[1, 0, 2]]  # bird, cat, dog
    assert make_dataset(root, training=False, clip_length=8)[0, 0].classes.tolist() == [[0, 0]]


def test_another_number_of_classes_than_categories_is_told_with_both(root):
    with pytest.raises(UserError, match=r"--num_classes 4, but there are 3 categories in .*meta\.json"):
        make_dataset(root, num_classes=4)


def test_an_object_without_a_category_is_told_with_its_video(tmp_path):
    write_video(tmp_path, "pair", 2)
    objects = {"objects": {"1": {"category": "cat"}, "2": {"category": "dog"}}}
    (tmp_path / "meta.json").write_text(json.dumps({"videos": {"pair": objects}}))
    with pytest.raises(UserError, match=r"meta\.json lacks object 5 of video pair"):
        make_dataset(tmp_path, num_classes=2)[0, 0]


def test_a_video_without_any_object_is_a_clip_without_slots(tmp_path):
    write_video(tmp_path, "pair", 2)
    for path in (tmp_path / "Annotations" / "pair").iterdir():
        Image.fromarray(np.zeros((40, 32), np.uint8)).save(path)
    clip = make_dataset(tmp_path)[0, 0]
    assert clip.ids.shape == clip.classes.shape == (1, 0) and clip.labels.sum() == 0


# ------------------------------------------------------------------------------------------------ bad files


@pytest.fixture
def damaged(tmp_path) -> Path:
    """The folder of a good video and one with a bad file."""
    write_damaged_videos(tmp_path)
    return tmp_path


def test_a_bad_file_stops_or_with_skip_bad_another_clip_is_drawn_and_the_file_is_told(damaged):
    with pytest.raises(UserError, match=r"bad/00\.png is corrupt"):
        make_dataset(damaged)[0, 0]
    clips = make_dataset(damaged, skip_bad=True)
    clip = clips[0, 0]
    assert clip.names[0][0][0] == "pair" and clip.ids.tolist() == [[5]]
    assert clip.skipped and all("bad/00.png" in text for text in clip.skipped)
    assert same(clips[0, 0], clip) and clips[0, 1].skipped == []
    assert collate([clip, clips[0, 1]]).skipped == clip.skipped


def test_a_file_that_has_gone_is_passed_over_like_a_bad_one(damaged):
    clips = make_dataset(damaged, skip_bad=True)
    (damaged / "JPEGImages" / "bad" / "00.png").unlink()
    clip = clips[0, 0]
    assert clip.names[0][0][0] == "pair" and "bad/00.png" in clip.skipped[0]


def test_when_everything_is_bad_even_skip_bad_gives_up(damaged):
    path = damaged / "Annotations" / "pair"
    for mask in path.iterdir():
        mask.write_bytes(b"junk")
    with pytest.raises(UserError, match="10 clips in a row have bad files, the last: "):
        make_dataset(damaged, skip_bad=True)[0, 0]


def error_of(clips: YouTubeVOSDataset, num_workers: int) -> str:
    """What the loader says of the first clip."""
    try:
        with loader_errors():
            list(make_loader(clips, [[(0, 0)]], num_workers=num_workers, pin_memory=False))
    except (UserError, OSError) as error:
        traceback.clear_frames(
            (error.__cause__ or error).__traceback__
        )  # they would keep the workers waiting
        return str(error)
    raise AssertionError("there was no error")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_in_the_loader_arrives_as_the_one_line_that_it_was(damaged, num_workers):
    with pytest.raises(UserError) as direct:
        make_dataset(damaged)[0, 0]
    assert error_of(make_dataset(damaged), num_workers) == str(direct.value)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_that_has_gone_is_told_in_one_line_with_its_path(tmp_path, num_workers):
    write_video(tmp_path, "one", 1)
    clips = make_dataset(tmp_path)
    (tmp_path / "JPEGImages" / "one" / "00.png").unlink()
    message = error_of(clips, num_workers)
    assert "JPEGImages/one/00.png" in message and "Traceback" not in message and "\n" not in message


@pytest.mark.parametrize(("place", "kitti"), [("", False), ("train", False), ("", True), ("train", True)])
def test_clips_are_drawn_from_sequences_of_mots_with_their_regions_to_ignore(tmp_path, place, kitti):
    for name in ("MOTS20-02", "MOTS20-05"):
        write_sequence(tmp_path / place, name, kitti=kitti)
    train, valid, troubles = split_videos([tmp_path], holdout=2, skip_bad=False)
    assert [video.name for video in (*train.videos, *valid.videos)] == ["MOTS20-02", "MOTS20-05"]
    config = YouTubeVOSDataset.Config(num_tokens=5, num_classes=1, image_size=24, clip_length=3)
    clip = YouTubeVOSDataset(valid, config, training=False)[0, 0]
    assert clip.ids.tolist() == [[2001]] and troubles == []
    expected = np.select([sequence_labels() == 2001, sequence_labels() == 10_000], [1, IGNORE])
    assert np.array_equal(clip.labels[0], expected)
