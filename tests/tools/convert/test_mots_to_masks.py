"""MOTS text files to label maps: what training needs is made of what is published."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from annotated.videos import VOSFolder
from tests.support.commands import assert_refused, run_here
from tests.support.mots import sequence_labels, write_sequence
from tests.support.vis_files import read_maps, run
from tools.convert import __main__ as convert
from video.label_maps import objects_in, void_in
from video.rle import encode_rle


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sequence of MOTS of four frames, the last without a mask, whose truth is gt/gt.txt alone."""
    write_sequence(tmp_path / "train", "MOTS20-02", frames=4)
    shutil.rmtree(tmp_path / "train" / "instances")
    lines = []
    for time, labels in enumerate(sequence_labels(3), start=1):
        for i, kind in ((2001, 2), (10_000, 10)):
            lines.append(f"{time} {i} {kind} 24 32 {encode_rle(labels == i)['counts']}\n")
    (tmp_path / "train/MOTS20-02/gt").mkdir()
    (tmp_path / "train/MOTS20-02/gt/gt.txt").write_text("".join(lines))
    return tmp_path / "train"


def test_a_sequence_of_mots_becomes_the_label_maps_that_training_reads(root):
    assert_refused(run_here(convert.main, root, "--output", root / "instances", "--form", "truth"), "--form")
    run(root, root / "instances")
    (video,) = VOSFolder(root).videos
    assert video.annotated == video.frames == ["000001", "000002", "000003", "000004"]
    labels = video.read_labels("000003")
    assert np.array_equal(labels == 2001, sequence_labels()[2] == 2001) and objects_in(labels) == [2001]
    assert void_in(labels).sum() == 4 * 7 and not video.read_labels("000004").any()


def test_the_times_of_kitti_mots_count_from_0_and_find_their_frames(tmp_path):
    write_sequence(tmp_path, "0002", kitti=True)
    shutil.rmtree(tmp_path / "instances")
    (tmp_path / "instances_txt").mkdir()
    counts = encode_rle(sequence_labels(3)[0] == 2001)["counts"]
    (tmp_path / "instances_txt/0002.txt").write_text(f"0 2001 2 24 32 {counts}\n")
    run(tmp_path, tmp_path / "instances")
    (video,) = VOSFolder(tmp_path).videos
    assert video.annotated == video.frames == ["000000", "000001", "000002"]
    assert [objects_in(video.read_labels(frame)) for frame in video.frames] == [[2001], [], []]


def test_without_frames_the_times_name_the_label_maps(root, tmp_path):
    (root / "instances_txt").mkdir()
    (root / "MOTS20-02/gt/gt.txt").rename(root / "instances_txt/0002.txt")
    maps = read_maps(run(root, tmp_path / "maps"))
    assert {video: sorted(frames) for video, frames in maps.items()} == {
        "0002": ["000001", "000002", "000003"]
    }
    assert all(np.array_equal(maps["0002"][f"{t + 1:06d}"], sequence_labels()[t]) for t in range(3))


def test_masks_without_a_frame_and_folders_without_mots_files_are_told(root, tmp_path):
    (root / "MOTS20-02/img1/000002.jpg").unlink()
    assert_refused(run_here(convert.main, root, "--output", tmp_path / "maps"), "masks of time 2")
    (root / "MOTS20-02/gt/gt.txt").unlink()
    assert_refused(run_here(convert.main, root, "--output", tmp_path / "maps"), "holds no MOTS files")
    assert not (tmp_path / "maps").exists()
