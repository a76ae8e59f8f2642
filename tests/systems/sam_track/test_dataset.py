"""Pairs of frames: which frames, which object, at their own sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from annotated.videos import VOSFolder
from systems.sam_track.dataset import PairClip, SAMTrackDataset, choose_instance
from video.label_maps import IGNORE


def write_video(root: Path, name: str, labels: list[np.ndarray]) -> None:
    """Frames with noise, and these label maps."""
    for folder in ("JPEGImages", "Annotations"):
        (root / folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for t, label_map in enumerate(labels):
        pixels = rng.integers(0, 255, (*label_map.shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / name / f"{t:05d}.png")
        Image.fromarray(label_map).save(root / "Annotations" / name / f"{t:05d}.png")


def maps(*areas: dict[int, int], size: tuple[int, int] = (8, 12)) -> list[np.ndarray]:
    """Label maps of one row for each id, with so many pixels."""
    label_maps = []
    for of_frame in areas:
        label_map = np.zeros(size, dtype=np.uint8)
        for row, (track, area) in enumerate(of_frame.items()):
            label_map[row, :area] = track
        label_maps.append(label_map)
    return label_maps


@pytest.fixture
def root(tmp_path) -> Path:
    write_video(tmp_path, "a", maps({3: 2, 7: 9, 9: 4}, {3: 9, 9: 2}, {9: 3, 3: 5}, {3: 1}))
    return tmp_path


def dataset(root: Path, training: bool = True, **options: object) -> SAMTrackDataset:
    return SAMTrackDataset(VOSFolder(root), SAMTrackDataset.Config(**options), training=training)


def drawn(data: SAMTrackDataset, epochs: int = 30) -> list[PairClip]:
    return [data[epoch, 0] for epoch in range(epochs)]


def test_the_largest_instance_is_that_of_the_template_which_the_image_shows_too():
    template, image = (torch.from_numpy(x) for x in maps({3: 2, 7: 9, 9: 4}, {3: 9, 9: 2}))
    both = torch.stack([template, image])
    assert choose_instance(both, "largest", 1) == 9
    assert {choose_instance(both, "random", 1) for _ in range(40)} == {3, 9}
    assert {choose_instance(both, "random", 3) for _ in range(10)} == {9}
    assert choose_instance(both, "largest", 50) == 0


def test_a_pair_is_two_neighbours_in_order_and_one_object(root):
    pairs = drawn(dataset(root))
    places = {tuple(int(name) for _, name in pair.names[0]) for pair in pairs}
    assert places == {(0, 1), (1, 2), (2, 3)}
    for pair in pairs:
        first = int(pair.names[0][0][1])
        assert pair.ids.tolist() == [[{0: 9, 1: 3, 2: 3}[first]]]
        assert pair.prompt.masks.shape == (1, 1, 8, 12) and pair.present.all()
        assert pair.frames.shape == (1, 2, 3, 8, 12) and set(pair.labels.unique().tolist()) == {0, 1}
        areas = pair.masks.sum((0, 2, 3, 4)).tolist()
        assert areas == {0: [4, 2], 1: [9, 5], 2: [5, 1]}[first]


def test_instances_may_be_random_and_gaps_larger(root):
    pairs = drawn(dataset(root, instance="random", max_gap=3), 60)
    assert {pair.ids.item() for pair in pairs} == {3, 9}
    gaps = {int(second) - int(first) for ((_, first), (_, second)) in (pair.names[0] for pair in pairs)}
    assert gaps == {1, 2, 3}


def test_pairs_may_be_mirrored_and_are_then_another_entry_of_the_cache(root):
    plain, mirrored = dataset(root)[0, 0], dataset(root, flip_probability=1.0)[0, 0]
    assert mirrored.names == plain.names
    assert mirrored.frames.flip(-1).equal(plain.frames) and mirrored.labels.flip(-1).equal(plain.labels)
    assert mirrored.files == [[f"{name}|flipped" for name in plain.files[0]]]


def test_evaluation_takes_the_largest_object_in_the_middle(root):
    pair = dataset(root, training=False, instance="random", max_gap=3)[5, 0]
    assert [name for _, name in pair.names[0]] == ["00001", "00002"] and pair.ids.tolist() == [[3]]


def test_the_number_of_pairs_of_a_video(root):
    assert len(dataset(root, clips_per_video=4)) == 4
    assert len(dataset(root, training=False, clips_per_video=4)) == 1


def test_a_video_of_one_frame_is_paired_with_itself_and_one_without_objects_has_no_slot(tmp_path):
    write_video(tmp_path, "a", maps({4: 5}))
    write_video(tmp_path, "b", maps({}, {4: 5}, {}))
    data = dataset(tmp_path)
    assert data[0, 0].ids.tolist() == [[4]] and data[0, 0].masks[0, 0].equal(data[0, 0].masks[0, 1])
    empty = data[0, 1]
    assert empty.ids.shape == (1, 0) and not empty.labels.any()
    batch = data.collate([data[0, 0], empty])
    assert batch.ids.tolist() == [[4], [0]] and not batch.prompt.masks[1].any()


def test_a_batch_keeps_the_size_of_each_pair_and_ignores_the_rest(tmp_path):
    write_video(tmp_path, "a", maps({4: 5}, {4: 6}, size=(8, 12)))
    write_video(tmp_path, "b", maps({4: 5}, {4: 6}, size=(10, 6)))
    data = dataset(tmp_path)
    batch = data.collate([data[0, 0], data[0, 1]])
    assert batch.frames.shape == (2, 2, 3, 10, 12) and batch.sizes == [(8, 12), (10, 6)]
    assert (batch.labels[0, :, 8:] == IGNORE).all() and (batch.labels[1, :, :, 6:] == IGNORE).all()
    assert not (batch.labels[0, :, :8] == IGNORE).any()
    assert batch.to("cpu").prompt.sizes == batch.sizes and len(batch.files) == 2


def test_ignored_pixels_stay_ignored(tmp_path):
    labels = maps({4: 5}, {4: 6})
    labels[1][7] = IGNORE
    write_video(tmp_path, "a", labels)
    pair = dataset(tmp_path)[0, 0]
    assert (pair.labels[0, 1, 7] == IGNORE).all() and not (pair.labels[0, 0] == IGNORE).any()
