"""Cut-outs and measurements of label maps: every number and pixel of hand-made frames."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.commands import assert_refused, files_in, run_here
from tools import cutout

FRAME = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
LABELS = np.zeros((20, 30), dtype=np.uint8)
LABELS[2:6, 10:20], LABELS[10:12, 3:5] = 3, 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """results/Annotations and videos, each of one video of two frames; nothing is in the second."""
    for path, pictures in {
        "results/Annotations/clip": [LABELS, LABELS * 0],
        "videos/clip": [FRAME, FRAME],
    }.items():
        (tmp_path / path).mkdir(parents=True)
        for t, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / path / f"{t:05d}.png")
    return tmp_path


def cut(folder: Path, *flags: object):
    return run_here(cutout.main, folder / "results", "--output", folder / "out", *flags)


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_the_table_has_area_centre_and_box_of_every_object_in_every_frame(folder):
    assert cut(folder).status == 0
    with open(folder / "out" / "measurements.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        cutout.COLUMNS,
        ["clip", "00000", "3", "40", "14.5", "3.5", "10", "2", "10", "4"],
        ["clip", "00000", "7", "4", "3.5", "10.5", "3", "10", "2", "2"],
    ]
    assert files_in(folder / "out") == ["measurements.csv"]


def test_objects_are_cut_out_with_alpha_and_each_to_its_box(folder):
    outcome = cut(folder, "--video_root", folder / "videos", "--cutout", "rgba", "--crops")
    assert outcome.out[-1].endswith("measurements of 1 videos, 2 frames cut out")
    picture = read(folder / "out" / "cutouts" / "clip" / "00000.png")
    np.testing.assert_array_equal(picture[..., 3], np.where(LABELS > 0, 255, 0))
    np.testing.assert_array_equal(picture[LABELS > 0, :3], FRAME[LABELS > 0])
    assert not read(folder / "out" / "cutouts" / "clip" / "00001.png")[..., 3].any()
    assert files_in(folder / "out" / "crops") == ["clip/3/00000.png", "clip/7/00000.png"]
    np.testing.assert_array_equal(
        read(folder / "out" / "crops" / "clip" / "3" / "00000.png")[..., :3], FRAME[2:6, 10:20]
    )


def test_a_video_with_alpha_shows_the_objects_alone(folder):
    av = pytest.importorskip("av")
    assert cut(folder, "--video_root", folder / "videos", "--cutout", "alpha").status == 0
    with av.open(str(folder / "out" / "cutouts" / "clip.mov")) as container:
        frames = [frame.reformat(format="rgba").to_ndarray() for frame in container.decode(video=0)]
    assert len(frames) == 2 and frames[0].shape == (20, 30, 4)
    np.testing.assert_array_equal(frames[0][..., 3] > 127, LABELS > 0)
    assert not (frames[1][..., 3] > 127).any()


def test_chosen_objects_stand_on_a_green_screen(folder):
    assert cut(folder, "--video_root", folder / "videos", "--cutout", "green", "--only", "7").status == 0
    expected = np.where((LABELS == 7)[..., None], FRAME, np.array(cutout.GREEN, dtype=np.uint8))
    np.testing.assert_array_equal(read(folder / "out" / "cutouts" / "clip" / "00000.png"), expected)


def test_mistakes_are_told_in_one_line_and_leave_nothing(folder):
    assert_refused(cut(folder, "--only", "3,x"), "3,x", "ids above 0")
    assert_refused(cut(folder, "--cutout", "rgba"), "--video_root")
    assert_refused(cut(folder, "--video_root", folder / "videos", "--crops"), "--cutout")
    Image.fromarray(FRAME[:10]).save(folder / "videos" / "clip" / "00000.png")
    Image.fromarray(FRAME[:10]).save(folder / "videos" / "clip" / "00001.png")
    flags = ["--video_root", folder / "videos", "--cutout", "rgba"]
    assert_refused(cut(folder, *flags), "30x20", "30x10")
    (folder / "videos" / "clip").rename(folder / "videos" / "other")
    assert_refused(cut(folder, *flags), "has no video clip")
    assert not (folder / "out").exists() and not list(folder.glob(".*"))
