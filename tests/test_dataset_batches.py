"""Batches: their sizes and their way to the device; which videos are held out."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from annotated.layouts import split_videos
from annotated.videos import VOSFolder, check
from common.errors import UserError
from dataset import YouTubeVOSDataset, collate
from tests.support.youtube_vos import make_dataset, same, write_damaged_videos, write_video, write_videos
from training.loader import make_loader
from video.transforms import upload


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """The folder of three videos; nobody may change it."""
    root = tmp_path_factory.mktemp("data") / "train"
    write_videos(root)
    return root


# ------------------------------------------------------------------------------------------------ batches


def test_a_batch_is_padded_at_the_right_and_the_bottom_with_background(root):
    clips = make_dataset(root, training=False)
    long, pair = clips[0, 0], clips[0, 2]
    batch = collate([long, pair])
    assert batch.frames.shape == (2, 3, 3, 64, 64) and batch.labels.shape == (2, 3, 64, 64)
    for b, clip in enumerate((long, pair)):
        H, W = clip.labels.shape[-2:]
        assert torch.equal(batch.frames[b, ..., :H, :W], clip.frames[0])
        assert torch.equal(batch.labels[b, ..., :H, :W], clip.labels[0])
        assert batch.labels[b, ..., H:, :].sum() == batch.frames[b, ..., W:].abs().sum() == 0
    assert batch.ids[1].tolist() == [5] + [0] * (long.ids.shape[1] - 1)
    assert batch.names == long.names + pair.names and batch.classes.shape == batch.ids.shape


def test_a_batch_of_clips_without_objects_is_legal(root):
    clip = make_dataset(root, training=False, min_area=10000)[0, 0]
    batch = collate([clip, clip])
    assert batch.ids.shape == (2, 0) and batch.present.shape == (2, 3, 0)


def test_neither_the_number_of_workers_nor_the_order_changes_what_is_drawn(root):
    batches = [[(0, 2), (0, 0)], [(1, 0), (0, 1)]]
    loaders = [make_loader(make_dataset(root), batches, num_workers=n, pin_memory=False) for n in (0, 2)]
    alone, shared = map(list, loaders)
    assert len(alone) == len(shared) == 2
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))
    assert same(alone[1], collate([make_dataset(root)[1, 0], make_dataset(root)[0, 1]]))


def write_plain_video(root: Path, name: str, height: int, width: int) -> None:
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / name).mkdir(parents=True)
        picture = Image.new("RGB" if kind == "JPEGImages" else "L", (width, height))
        picture.save(root / kind / name / "00.png")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> VOSFolder:
    """Eight wide videos of two shapes and three upright ones, checked."""
    root = tmp_path_factory.mktemp("shapes")
    for number in range(8):
        write_plain_video(root, f"wide{number}", 36, (64, 48)[number % 2])
    for number in range(3):
        write_plain_video(root, f"upright{number}", 64, 36)
    folder = VOSFolder(root)
    check(folder, skip_bad=False)
    return folder


def shaped_clips(folder: VOSFolder, **options) -> YouTubeVOSDataset:
    given = {"num_tokens": 5, "num_classes": 1, "image_size": 96, "clip_length": 1, **options}
    return YouTubeVOSDataset(folder, YouTubeVOSDataset.Config(**given), training=True)


def test_clips_of_one_shape_have_one_size_in_a_batch_and_others_in_another(shapes):
    clips = shaped_clips(shapes)
    alike = [index for index in range(8) if shapes.videos[index + 3].name in ("wide0", "wide2", "wide4")]
    sizes = [{clips[0, index + 3, batch].frames.shape[-2:] for index in alike} for batch in range(6)]
    assert all(len(of_batch) == 1 for of_batch in sizes) and len(set.union(*sizes)) == 6
    first, again, other = clips[0, 4, 2], clips[0, 4, 2], clips[1, 4, 2]
    assert same(first, again) and first.frames.shape != other.frames.shape  # by the epoch, too


def test_no_batch_is_larger_than_the_largest_size_and_a_mixed_one_is_a_square_of_as_many_pixels(shapes):
    clips = shaped_clips(shapes)
    short, long = (side + -side % 32 for side in clips.largest_size)
    assert (short, long) == (128, 192)
    for batch in range(40):
        wide = collate([clips[0, index, batch] for index in (3, 4)]).frames.shape[-2:]
        upright = collate([clips[0, index, batch] for index in (0, 1)]).frames.shape[-2:]
        mixed = collate([clips[0, index, batch, True] for index in (0, 3, 4)]).frames.shape[-2:]
        assert sorted(wide) <= [short, long] and max(wide) <= long and min(wide) <= short
        assert max(upright) <= long and min(upright) <= short
        assert mixed[0] * mixed[1] <= short * long


def test_clips_are_upright_as_their_headers_say_and_without_a_look_none_is(shapes):
    assert shaped_clips(shapes).upright == [True] * 3 + [False] * 8
    assert shaped_clips(shapes, clips_per_video=2).upright == 2 * ([True] * 3 + [False] * 8)
    assert not any(shaped_clips(VOSFolder(shapes.root)).upright)


def test_in_place_of_a_bad_clip_comes_one_of_the_same_orientation(tmp_path):
    for name, size in {"bad": (64, 36), "good": (64, 36), "w0": (36, 64), "w1": (36, 64)}.items():
        write_plain_video(tmp_path, name, *size)
    folder = VOSFolder(tmp_path)
    check(folder, skip_bad=False)
    (tmp_path / "JPEGImages" / "bad" / "00.png").write_bytes(b"junk")
    config = YouTubeVOSDataset.Config(num_tokens=5, num_classes=1, image_size=32, clip_length=1)
    clips = YouTubeVOSDataset(folder, config, training=True, skip_bad=True)
    for epoch in range(8):
        clip = clips[epoch, 0]
        assert clip.names[0][0][0] == "good" and "bad/00.png" in clip.skipped[0]


def test_a_batch_is_normalised_where_it_arrives_each_clip_as_it_would_be_alone(root):
    for training in (False, True):
        clips = make_dataset(root, training=training, color_jitter=0.3)
        long, pair = clips[0, 0], clips[0, 2]
        batch = collate([long, pair])
        assert batch.frames.dtype == torch.uint8 and (batch.colours is not None) == training
        arrived = upload(batch, "cpu")
        assert arrived.frames.dtype == torch.float32 and arrived.frames.shape == batch.frames.shape
        assert arrived.labels.equal(batch.labels) and arrived.names == batch.names
        for b, clip in enumerate((long, pair)):
            (h, w), alone = clip.labels.shape[-2:], upload(clip, "cpu").frames[0]
            assert torch.equal(arrived.frames[b, ..., :h, :w], alone)
            assert not arrived.frames[b, ..., h:, :].any() and not arrived.frames[b, ..., w:].any()
        assert upload(arrived, "cpu").frames is arrived.frames


class Threads(Dataset):
    """Items that say how many threads torch and OpenCV have where they are made."""

    collate = staticmethod(lambda items: SimpleNamespace(items=items))

    def __getitem__(self, key: int) -> tuple[int, int]:
        return torch.get_num_threads(), cv2.getNumThreads()


def test_workers_have_one_thread_of_torch_and_of_opencv():
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        (found,) = make_loader(Threads(), [[0]], num_workers=1, pin_memory=False)
        assert found.items == [(1, 1)] and cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


# ------------------------------------------------------------------------------------------------ split


def names(folder: VOSFolder) -> list[str]:
    return [video.name for video in folder.videos]


def test_an_annotated_valid_folder_is_taken_as_it_is(root, tmp_path):
    (tmp_path / "train").symlink_to(root)
    write_video(tmp_path / "valid", "long", 3, name="held")
    train, valid, troubles = split_videos([tmp_path], holdout=2, skip_bad=False)
    assert names(train) == ["long", "one", "pair"] and names(valid) == ["held"] and troubles == []


@pytest.mark.parametrize("holdout, held", [(2, ["one"]), (20, ["pair"])])
@pytest.mark.parametrize("first_frames_only", [True, False])
def test_without_scores_in_valid_every_so_many_th_video_is_held_out(
    root, tmp_path, holdout, held, first_frames_only
):
    (tmp_path / "train").symlink_to(root)
    if first_frames_only:  # as YouTube-VOS publishes valid/
        write_video(tmp_path / "valid", "long", 3, name="unscored")
        for t in (1, 2):
            (tmp_path / "valid" / "Annotations" / "unscored" / f"{t:02d}.png").unlink()
    train, valid, _ = split_videos([tmp_path], holdout=holdout, skip_bad=False)
    assert names(valid) == held and sorted(names(train) + held) == ["long", "one", "pair"]


def test_one_video_cannot_be_both_trained_and_validated_on(tmp_path):
    write_video(tmp_path / "train", "pair", 2)
    with pytest.raises(UserError, match="train holds one video; two are needed"):
        split_videos([tmp_path], holdout=20, skip_bad=False)


def test_bad_files_are_left_out_and_told_only_where_they_may_be(tmp_path):
    write_damaged_videos(tmp_path)
    (tmp_path / "train").mkdir()
    for kind in ("JPEGImages", "Annotations"):
        (tmp_path / "train" / kind).symlink_to(tmp_path / kind)
    write_video(tmp_path / "valid", "long", 3)
    with pytest.raises(UserError, match=r"bad/00\.png .*--skip_bad"):
        split_videos([tmp_path], holdout=20, skip_bad=False)
    train, _, troubles = split_videos([tmp_path], holdout=20, skip_bad=True)
    assert names(train) == ["pair"] and len(troubles) == 1 and "bad/00.png" in troubles[0]
