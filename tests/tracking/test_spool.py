"""The spool: results.json and tracks.json from rows by frame, on disk and in memory."""

import json
import resource
import sqlite3
import tracemalloc
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.types import Tracks
from tracking.loop import binarise
from tracking.spool import ResultsSpool, TrackRow, track_rows
from video.rle import decode_rle

DATABASE = "rows.sqlite"
RLES = [{"size": [2, 2], "counts": f"{number}"} for number in range(4)]


ANT = (
    ("00005", []),
    ("00010", [TrackRow(2, 0.25, 3, RLES[1]), TrackRow(1, 1.0, 4, RLES[2])]),
    ("00015", [TrackRow(2, 0.75, 2, RLES[3])]),
    ("00020", []),
)


def fill(spool: ResultsSpool) -> None:
    """Two videos, given against the order of their names."""
    spool.start_video("zebra")
    spool.add_frame("00000", [TrackRow(7, 0.5, 1, RLES[0])])
    spool.start_video("ant")
    for frame in ANT:
        spool.add_frame(*frame)


def test_results_json_has_an_entry_for_each_track_and_null_where_it_is_absent(tmp_path: Path):
    with ResultsSpool(tmp_path / DATABASE) as spool:
        fill(spool)
        spool.write_results(tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == [
        {"video_id": 1, "category_id": 4, "score": 1.0, "segmentations": [None, RLES[2], None, None]},
        {"video_id": 1, "category_id": 2, "score": 0.5, "segmentations": [None, RLES[1], RLES[3], None]},
        {"video_id": 2, "category_id": 1, "score": 0.5, "segmentations": [RLES[0]]},
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", DATABASE]


def test_results_in_memory_are_those_of_the_file(tmp_path: Path):
    with ResultsSpool(tmp_path / DATABASE) as on_disk, ResultsSpool() as in_memory:
        for spool in (on_disk, in_memory):
            fill(spool)
            spool.add_frame("00025", [TrackRow(9, 0.1, 1, None)])
            spool.add_frame("00030", [TrackRow(9, 0.2, 1, RLES[0])])
            spool.add_frame("00035", [TrackRow(9, 0.3, 1, RLES[1])])
        on_disk.write_results(tmp_path / "results.json")
        assert json.loads((tmp_path / "results.json").read_text()) == on_disk.results() == in_memory.results()


def test_tracks_json_says_who_is_when_and_how_sure(tmp_path: Path):
    with ResultsSpool(tmp_path / DATABASE) as spool:
        fill(spool)
        spool.write_tracks(tmp_path / "tracks.json")
    one = {"category": 4, "score": 1.0, "first": "00010", "last": "00010", "scores": {"00010": 1.0}}
    both = {"00010": 0.25, "00015": 0.75}
    two = {"category": 2, "score": 0.5, "first": "00010", "last": "00015", "scores": both}
    seven = {"category": 1, "score": 0.5, "first": "00000", "last": "00000", "scores": {"00000": 0.5}}
    written = json.loads((tmp_path / "tracks.json").read_text())
    assert written == {
        "ant": {"video_id": 1, "frames": 4, "tracks": {"1": one, "2": two}},
        "zebra": {"video_id": 2, "frames": 1, "tracks": {"7": seven}},
    }
    assert list(written["ant"]["tracks"]["2"]["scores"]) == ["00010", "00015"]


def test_boxes_and_extreme_points_stand_beside_the_scores_where_there_are_any(tmp_path: Path):
    box, points = [[0.5, 1.0], [4.0, 1.0], [4.0, 3.0], [0.5, 3.0]], [[1, 2], [2, 1], [4, 2], [3, 3]]
    with ResultsSpool(tmp_path / DATABASE) as spool:
        spool.start_video("a")
        spool.add_frame("0", [TrackRow(1, 0.5, 1, RLES[0], box, points), TrackRow(2, 0.5, 1, None)])
        spool.add_frame("1", [TrackRow(1, 0.25, 1, None, box)])
        spool.write_tracks(tmp_path / "tracks.json")
        spool.write_results(tmp_path / "results.json")
    tracks = json.loads((tmp_path / "tracks.json").read_text())["a"]["tracks"]
    assert tracks["1"]["boxes"] == {"0": box, "1": box} and tracks["1"]["extreme_points"] == {"0": points}
    assert tracks["1"]["scores"] == {"0": 0.5, "1": 0.25}
    assert "boxes" not in tracks["2"] and "extreme_points" not in tracks["2"]
    results = json.loads((tmp_path / "results.json").read_text())
    assert results[0]["segmentations"] == [RLES[0], None]


def test_a_track_has_the_category_of_most_frames(tmp_path: Path):
    with ResultsSpool(tmp_path / DATABASE) as spool:
        spool.start_video("a")
        for frame, category in enumerate([5, 9, 9, 2]):
            spool.add_frame(str(frame), [TrackRow(1, 0.5, category, None)])
        spool.write_tracks(tmp_path / "tracks.json")
    assert json.loads((tmp_path / "tracks.json").read_text())["a"]["tracks"]["1"]["category"] == 9


def test_no_videos_no_tracks_and_masks_that_were_not_encoded_are_legal(tmp_path: Path):
    with ResultsSpool(tmp_path / DATABASE) as spool:
        spool.write_results(tmp_path / "none.json")
        spool.write_tracks(tmp_path / "nobody.json")
        spool.start_video('a "quoted" name')
        spool.write_tracks(tmp_path / "empty.json")
        spool.add_frame("0", [TrackRow(1, 0.5, 1, None)])
        spool.write_results(tmp_path / "null.json")
    read = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert read["none"] == [] and read["nobody"] == {}
    assert read["empty"] == {'a "quoted" name': {"video_id": 1, "frames": 0, "tracks": {}}}
    assert read["null"][0]["segmentations"] == [None]


@pytest.mark.parametrize("taken", [0, 2, 4])  # 0: it was killed before the first state was saved
def test_an_interrupted_spool_keeps_what_was_committed_and_goes_on_from_there(tmp_path: Path, taken):
    with ResultsSpool(tmp_path / "unbroken.sqlite") as unbroken:
        fill(unbroken)
        unbroken.write_tracks(tmp_path / "unbroken.json")
        unbroken.write_results(tmp_path / "unbroken_results.json")
    with pytest.raises(KeyboardInterrupt), ResultsSpool(tmp_path / DATABASE) as spool:
        fill(spool)
        spool.commit()
        spool.add_frame("00025", [TrackRow(2, 0.5, 1, RLES[0])])
        raise KeyboardInterrupt
    with ResultsSpool(tmp_path / DATABASE) as spool:
        assert spool.num_frames == 4
        spool.go_on("ant", taken)
        assert spool.num_frames == taken
        for frame in ANT[taken:]:
            spool.add_frame(*frame)
        spool.write_tracks(tmp_path / "tracks.json")
        spool.write_results(tmp_path / "results.json")
    for name, other in (("tracks", "unbroken"), ("results", "unbroken_results")):
        assert (tmp_path / f"{name}.json").read_bytes() == (tmp_path / f"{other}.json").read_bytes()


def test_spools_of_single_videos_join_to_one_of_all(tmp_path: Path):
    with ResultsSpool() as together:
        fill(together)
        expected = together.results()
    box = [[0.5, 1.0], [4.0, 1.0], [4.0, 3.0], [0.5, 3.0]]
    for name, frames in (
        ("ant", {"00005": [], "00010": [TrackRow(2, 0.25, 3, RLES[1]), TrackRow(1, 1.0, 4, RLES[2], box)]}),
        ("zebra", {"00000": [TrackRow(7, 0.5, 1, RLES[0])]}),
    ):
        with ResultsSpool(tmp_path / f"{name}.sqlite") as one:
            one.start_video(name)
            for frame, rows in frames.items():
                one.add_frame(frame, rows)
            if name == "ant":
                one.add_frame("00015", [TrackRow(2, 0.75, 2, RLES[3])])
                one.add_frame("00020", [])
            one.commit()
    with ResultsSpool(tmp_path / DATABASE) as joined:
        for name in ("zebra", "ant"):
            joined.take(tmp_path / f"{name}.sqlite")
        assert joined.results() == expected
        joined.write_tracks(tmp_path / "tracks.json")
    tracks = json.loads((tmp_path / "tracks.json").read_text())
    assert tracks["ant"]["tracks"]["1"]["boxes"] == {"00010": box} and tracks["zebra"]["frames"] == 1


def test_a_full_disk_is_an_os_error_with_the_path(tmp_path: Path):
    with ResultsSpool(tmp_path / DATABASE) as spool:
        spool.start_video("a")
        spool._database.execute("PRAGMA max_page_count = 8")
        with pytest.raises(OSError, match=r"rows\.sqlite: database or disk is full") as caught:
            spool.add_frame("0", [TrackRow(1, 0.5, 1, {"size": [1, 1], "counts": "0" * 100_000})])
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)


def test_the_spool_and_its_files_are_flat_in_memory(tmp_path: Path):
    rows = [TrackRow(track, 0.5, 1, {"size": [9, 9], "counts": "0" * 2000}) for track in (1, 2)]
    with ResultsSpool(tmp_path / DATABASE) as spool:
        spool.start_video("a")
        tracemalloc.start()
        for frame in range(3000):  # 12 MB of encodings
            spool.add_frame(f"{frame:05d}", rows)
        spool.write_results(tmp_path / "results.json")
        spool.write_tracks(tmp_path / "tracks.json")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (tmp_path / "results.json").stat().st_size > 12e6
    assert peak < 1e6


def make_tracks() -> Tracks:
    masks = torch.zeros(3, 2, 3)
    masks[0, 0, 1], masks[2, 1, 2] = 0.9, 0.9
    masks[1] = 0.5  # nowhere above the threshold
    return Tracks(torch.tensor([4, 5, 300]), torch.zeros(2, 3).long(), masks, torch.tensor([0.5, 1.0, 0.25]))


def test_a_frame_keeps_the_tracks_that_have_a_pixel_above_the_threshold():
    rows = track_rows(binarise(make_tracks(), 0.5), encode=False)
    assert [(row.track, row.score, row.category) for row in rows] == [(4, 0.5, 1), (300, 0.25, 1)]
    assert all(row.rle is None for row in rows)
    assert len(track_rows(binarise(make_tracks(), 0.4), encode=False)) == 3
    assert track_rows(binarise(Tracks.empty(2, 3), 0.5), encode=True) == []


def test_a_track_with_a_box_is_kept_without_a_mask_too_and_a_mask_has_extreme_points():
    tracks = make_tracks()
    tracks.boxes = torch.arange(24.0).view(3, 4, 2)
    rows = track_rows(binarise(tracks, 0.5), encode=False)
    assert [row.track for row in rows] == tracks.ids.tolist()
    assert [row.box for row in rows] == tracks.boxes.tolist()
    visible = [bool((mask > 0.5).any()) for mask in tracks.masks]
    assert [row.extremes is not None for row in rows] == visible and not all(visible)


def test_categories_count_from_one_and_masks_are_encoded():
    pytest.importorskip("pycocotools")
    tracks = make_tracks()
    tracks.classes = torch.tensor([0, 1, 2])
    rows = track_rows(binarise(tracks, 0.5), encode=True)
    assert [row.category for row in rows] == [1, 3]
    assert decode_rle(rows[1].rle).tolist() == [[False] * 3, [False, False, True]]


def test_a_folder_whose_path_is_too_long_for_the_database_is_refused_and_stays_empty(tmp_path):
    folder = tmp_path / "/".join(["d" * 200] * 3)
    with pytest.raises(UserError, match="cannot be opened: choose a folder"):
        ResultsSpool(folder / DATABASE)
    assert list(folder.iterdir()) == []


def test_a_disk_that_is_full_from_the_start_is_told_with_the_file(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"rows\.sqlite"):
            ResultsSpool(tmp_path / DATABASE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
