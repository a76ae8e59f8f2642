"""Batches, the order of an epoch, and which videos are held out."""

from pathlib import Path

import pytest
import torch

from common.errors import UserError
from dataset import EpochSampler, collate, load_batches, make_loader, split_videos
from tests.support.youtube_vos import make_dataset, same, write_damaged_videos, write_video, write_videos
from video.annotated import VOSFolder


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
    alone, shared = (list(load_batches(loader)) for loader in loaders)
    assert len(alone) == len(shared) == 2
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))
    assert same(alone[1], collate([make_dataset(root)[1, 0], make_dataset(root)[0, 1]]))


def indices(sampler: EpochSampler) -> list[list[int]]:
    return [[index for _, index in batch] for batch in sampler]


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


def test_an_epoch_visits_every_clip_once_in_an_order_of_its_own():
    sampler = EpochSampler(12, 4, seed=0)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        assert {e for batch in sampler for e, _ in batch} == {epoch}
        orders.append(flat(indices(sampler)))
        assert sorted(orders[-1]) == list(range(12)) and len(sampler) == 3
    assert orders[0] != orders[1] != orders[2]
    again, other = EpochSampler(12, 4, seed=0), EpochSampler(12, 4, seed=1)
    assert flat(indices(again)) == orders[0] != flat(indices(other))


def test_an_interrupted_epoch_goes_on_where_it_stopped():
    sampler = EpochSampler(11, 2, seed=3)
    sampler.set_epoch(5)
    whole = indices(sampler)
    sampler.set_epoch(5, start=3)
    assert indices(sampler) == whole[3:] and len(whole) == len(sampler) == 5


def test_processes_share_an_epoch_in_equal_numbers_of_batches():
    shares = [EpochSampler(14, 2, seed=0, rank=rank, world_size=3) for rank in range(3)]
    batches = [indices(sampler) for sampler in shares]
    assert [len(b) for b in batches] == [2, 2, 2]
    assert (
        len({index for share in batches for index in flat(share)}) == 12
    )  # two wait for another epoch's order
    rounds = [batch for pair in zip(*batches, strict=True) for batch in pair]
    assert rounds == indices(EpochSampler(14, 2, seed=0))[:6]  # the order of one process


def test_fewer_clips_than_a_batch_come_more_than_once():
    (batch,) = indices(EpochSampler(3, 5, seed=0))
    assert len(batch) == 5 and set(batch) == {0, 1, 2}
    assert flat(indices(EpochSampler(1, 4, seed=0, rank=1, world_size=2))) == [0, 0, 0, 0]


# ------------------------------------------------------------------------------------------------ split


def names(folder: VOSFolder) -> list[str]:
    return [video.name for video in folder.videos]


def test_an_annotated_valid_folder_is_taken_as_it_is(root, tmp_path):
    (tmp_path / "train").symlink_to(root)
    write_video(tmp_path / "valid", "long", 3, name="held")
    train, valid, troubles = split_videos(tmp_path, holdout=2, skip_bad=False)
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
    train, valid, _ = split_videos(tmp_path, holdout=holdout, skip_bad=False)
    assert names(valid) == held and sorted(names(train) + held) == ["long", "one", "pair"]


def test_one_video_cannot_be_both_trained_and_validated_on(tmp_path):
    write_video(tmp_path / "train", "pair", 2)
    with pytest.raises(UserError, match="train holds one video; two are needed"):
        split_videos(tmp_path, holdout=20, skip_bad=False)


def test_bad_files_are_left_out_and_told_only_where_they_may_be(tmp_path):
    write_damaged_videos(tmp_path)
    (tmp_path / "train").mkdir()
    for kind in ("JPEGImages", "Annotations"):
        (tmp_path / "train" / kind).symlink_to(tmp_path / kind)
    write_video(tmp_path / "valid", "long", 3)
    with pytest.raises(UserError, match=r"bad/00\.png .*--skip_bad"):
        split_videos(tmp_path, holdout=20, skip_bad=False)
    train, _, troubles = split_videos(tmp_path, holdout=20, skip_bad=True)
    assert names(train) == ["pair"] and len(troubles) == 1 and "bad/00.png" in troubles[0]
