"""Clips into which objects of other videos are pasted: who they are, and that only the key decides."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from common.errors import UserError
from dataset import collate
from tests.support.youtube_vos import CATEGORIES, make_dataset, same, write_video, write_videos
from training.loader import make_loader

NAMES = ["bird", "cat", "dog"]
PASTING = {"paste_probability": 1.0, "color_jitter": 0.0, "min_area": 9}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """The folder of three videos; nobody may change it."""
    root = tmp_path_factory.mktemp("data") / "train"
    write_videos(root)
    return root


def test_pasted_objects_have_new_ids_and_the_classes_of_their_own_videos(root):
    clips = make_dataset(root, num_classes=3, **PASTING)
    classes = {i: NAMES.index(name) for objects in CATEGORIES.values() for i, name in objects.items()}
    num_pasted = 0
    for key in ((epoch, index) for epoch in range(12) for index in range(3)):
        clip = clips[key]
        ids, own = clip.ids[0].tolist(), CATEGORIES[clip.names[0][0][0]]
        assert len(set(ids)) == len(ids) and clip.classes.shape == clip.ids.shape
        for slot, (identity, label) in enumerate(zip(ids, clip.classes[0].tolist(), strict=True), start=1):
            inner = (
                F.avg_pool2d((clip.labels[0] == slot).float(), 5, 1, 2) > 0.99
            )  # nothing mixed with others
            if inner.sum() < 20:
                continue
            source = round(clip.frames[0, :, 0][inner].median().item() / 20)  # the red names who is seen
            assert label == classes[source] and (identity == source if identity in own else identity > 254)
            assert (identity in own) == (source in own)
            num_pasted += identity not in own
    assert num_pasted > 15


def test_a_pasted_clip_depends_on_seed_epoch_and_index_alone(root):
    clips = make_dataset(root, **PASTING)
    first = clips[3, 0]
    torch.manual_seed(9)
    clips[0, 2]
    assert same(make_dataset(root, **PASTING)[3, 0], first) and same(clips[3, 0], first)
    assert not same(make_dataset(root, **PASTING, seed=1)[3, 0], first)
    batches = [[(3, 0), (0, 1)], [(1, 2), (2, 0)]]
    for num_workers in (0, 2):
        for keys, batch in zip(
            batches, make_loader(clips, batches, num_workers=num_workers, pin_memory=False), strict=True
        ):
            assert same(batch, collate([make_dataset(root, **PASTING)[key] for key in keys]))


def test_without_a_probability_clips_are_what_they_were_and_held_out_ones_always(root):
    pasted, plain = make_dataset(root, paste_probability=0.5), make_dataset(root)
    assert {same(pasted[epoch, 0], plain[epoch, 0]) for epoch in range(20)} == {True, False}
    held_out = (make_dataset(root, training=False, paste_probability=p)[0, 0] for p in (0.0, 1.0))
    assert same(*held_out)


def test_a_bad_file_of_the_other_video_is_passed_over_with_skip_bad(tmp_path):
    for video, frames in (("long", 8), ("pair", 2), ("one", 1)):
        write_video(tmp_path, video, frames)
    (tmp_path / "Annotations" / "one" / "00.png").write_bytes(b"junk")
    clips = make_dataset(tmp_path, skip_bad=True, **PASTING)
    drawn = [clips[epoch, 0] for epoch in range(10)]
    assert any("one/00.png" in text for clip in drawn for text in clip.skipped)
    with pytest.raises(UserError, match=r"one/00\.png"):
        [make_dataset(tmp_path, **PASTING)[epoch, 0] for epoch in range(10)]


def test_a_single_training_video_is_refused_with_the_flag(tmp_path):
    write_video(tmp_path, "long", 8)
    with pytest.raises(UserError, match=r"--paste_probability 1\.0 takes objects of other videos"):
        make_dataset(tmp_path, **PASTING)
    make_dataset(tmp_path, training=False, **PASTING)
