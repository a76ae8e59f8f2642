"""Cut-outs and measurements of label maps: every number and pixel of hand-made frames."""

import csv
import json
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


def test_vp9_with_alpha_shows_the_objects_alone(folder):
    av = pytest.importorskip("av")
    assert cut(folder, "--video_root", folder / "videos", "--cutout", "vp9").status == 0
    with av.open(str(folder / "out" / "cutouts" / "clip.webm")) as container:
        assert container.streams.video[0].metadata["alpha_mode"] == "1"  # what browsers look for
        decoder = av.CodecContext.create("libvpx-vp9", "r")  # FFmpeg's own decoder leaves alpha out
        packets = [*(packet for packet in container.demux(video=0) if packet.size), None]
        frames = [frame.to_ndarray(format="rgba") for packet in packets for frame in decoder.decode(packet)]
    assert len(frames) == 2 and frames[0].shape == (20, 30, 4)
    np.testing.assert_array_equal(frames[0][..., 3] > 127, LABELS > 0)
    assert not (frames[1][..., 3] > 127).any()


def drawn(parts: list[dict], size: tuple[int, int]) -> np.ndarray:
    """The (H, W) mask inside polygons of upright and level sides: an upright one turns its rows over."""
    mask = np.zeros(size, dtype=bool)
    for ring in [ring for part in parts for ring in [part["outline"], *part["holes"]]]:
        for (x, y), (u, v) in zip(ring, [*ring[1:], ring[0]], strict=True):
            assert (x == u) != (y == v), ring
            if x == u:
                mask[min(y, v) : max(y, v), x:] ^= True
    return mask


def test_a_ring_has_an_outline_and_a_hole_at_the_corners_of_its_pixels():
    ring = np.zeros((5, 6), dtype=bool)
    ring[1:4, 2:5] = True
    ring[2, 3] = False
    (part,) = cutout.polygons_of(ring)
    assert sorted(part["outline"]) == [[2, 1], [2, 4], [5, 1], [5, 4]]
    assert [sorted(hole) for hole in part["holes"]] == [[[3, 2], [3, 3], [4, 2], [4, 3]]]


def test_contours_are_their_masks_to_the_pixel():
    generator = np.random.default_rng(0)
    for _ in range(200):
        mask = generator.random(generator.integers(1, 12, 2)) < generator.random()
        if mask.any():
            np.testing.assert_array_equal(drawn(cutout.polygons_of(mask), mask.shape), mask)


def test_contours_of_every_object_in_every_frame_are_one_json_list(folder):
    assert cut(folder, "--contours", "--only", "7").status == 0
    (entry,) = json.loads((folder / "out" / "contours.json").read_text())
    assert (entry["video"], entry["frame"], entry["id"]) == ("clip", "00000", 7)
    np.testing.assert_array_equal(drawn(entry["parts"], LABELS.shape), LABELS == 7)
    (folder / "out").rename(folder / "former")
    assert cut(folder, "--contours", "--only", "9").status == 0
    assert json.loads((folder / "out" / "contours.json").read_text()) == []


def test_a_part_of_the_video_is_measured_and_cut(folder):
    flags = ["--video_root", folder / "videos", "--start", "1", "--cutout", "rgba"]
    assert cut(folder, *flags).out[-1].endswith("1 frames cut out")
    assert files_in(folder / "out") == ["cutouts/clip/00001.png", "measurements.csv"]
    assert (folder / "out" / "measurements.csv").read_text().splitlines() == [",".join(cutout.COLUMNS)]


def test_a_time_in_a_folder_of_images_is_by_the_rate_that_is_given(folder):
    flags = ["--video_root", folder / "videos", "--start", "0.1s", "--cutout", "rgba"]
    assert_refused(cut(folder, *flags), "holds no frame in --start 0.1s")  # of two frames at the usual rate
    assert cut(folder, *flags, "--fps", "10").status == 0
    assert files_in(folder / "out" / "cutouts") == ["clip/00001.png"]
    assert_refused(cut(folder, *flags, "--fps", "0"), "--fps 0.0 is too small")


def test_every_map_is_read_once(folder, monkeypatch):
    read = []
    monkeypatch.setattr(cutout, "read_label_map", lambda path: read.append(path.name) or LABELS)
    assert cut(folder, "--video_root", folder / "videos", "--cutout", "rgba", "--contours").status == 0
    assert read == ["00000.png", "00001.png"]


def test_chosen_objects_stand_on_a_green_screen(folder):
    assert cut(folder, "--video_root", folder / "videos", "--cutout", "green", "--only", "7").status == 0
    expected = np.where((LABELS == 7)[..., None], FRAME, np.array(cutout.GREEN, dtype=np.uint8))
    np.testing.assert_array_equal(read(folder / "out" / "cutouts" / "clip" / "00000.png"), expected)


def test_mistakes_are_told_in_one_line_and_leave_nothing(folder):
    assert_refused(cut(folder, "--only", "3,x"), "3,x", "ids above 0")
    assert_refused(cut(folder, "--cutout", "rgba"), "--video_root")
    assert_refused(cut(folder, "--video_root", folder / "videos", "--crops"), "--cutout")
    assert_refused(cut(folder, "--start", "1"), "--video_root")
    assert_refused(cut(folder, "--video_root", folder / "videos", "--end", "1.5"), "--end 1.5", "12.5s")
    Image.fromarray(FRAME[:10]).save(folder / "videos" / "clip" / "00000.png")
    Image.fromarray(FRAME[:10]).save(folder / "videos" / "clip" / "00001.png")
    flags = ["--video_root", folder / "videos", "--cutout", "rgba"]
    assert_refused(cut(folder, *flags), "30x20", "30x10")
    (folder / "videos" / "clip").rename(folder / "videos" / "other")
    assert_refused(cut(folder, *flags), "has no video clip")
    assert not (folder / "out").exists() and not list(folder.glob(".*"))
