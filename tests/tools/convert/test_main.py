"""Label maps to the YouTube-VIS form and back: exact both ways, whole or not at all."""

import os
import sys

import numpy as np
import pytest

import evaluate
from scoring.protocols.ytvis import ytvis
from tests.support.commands import assert_refused, files_in, held_elsewhere, run_here
from tests.support.metrics_golden import FOLDER, needs_golden
from tests.support.vis_files import (
    LEFT,
    RIGHT,
    TOP,
    assert_equal_maps,
    load,
    random_maps,
    read_maps,
    result_of,
    run,
    spoil,
    truth_of,
    video_of,
    write_json,
    write_maps,
)
from tools.convert import __main__ as convert
from tracking.spool import ResultsSpool, TrackRow
from video.rle import encode_rle


@pytest.mark.parametrize("seed", range(3))
def test_maps_to_annotations_and_back_are_the_same_maps(tmp_path, seed):
    ids = [2, 7, 254] if seed else [3, 254, 256, 300]  # the latter are 16-bit files
    maps = random_maps(seed, ids)
    truth = run(write_maps(tmp_path / "maps", maps), tmp_path / "truth.json")
    back = read_maps(run(truth, tmp_path / "back"))
    assert_equal_maps(back, maps)
    again = run(tmp_path / "back", tmp_path / "again.json")
    assert again.read_bytes() == truth.read_bytes()


def test_perfect_results_score_an_ap_of_1(tmp_path):
    maps = write_maps(tmp_path / "maps", random_maps(0, [1, 2, 3]))
    truth, results = run(maps, tmp_path / "t.json"), run(maps, tmp_path / "r.json", "--form", "results")
    overall = ytvis(results, truth)["overall"]
    assert overall["AP"] == overall["AP50"] == overall["AR10"] == 1


@needs_golden
def test_golden_annotations_survive_the_way_to_maps_and_back(tmp_path):
    official = FOLDER / "ytvis_gt.json"
    run(official, tmp_path / "maps")
    results = run(tmp_path / "maps", tmp_path / "r.json", "--videos", official, "--form", "results")
    assert ytvis(results, official)["overall"]["AP"] == 1
    again = run(tmp_path / "maps", tmp_path / "again.json", "--videos", official)
    results = FOLDER / "ytvis_pred.json"  # crowds stay crowds
    assert ytvis(results, again)["overall"] == ytvis(results, official)["overall"]


def test_results_to_maps_and_back_are_the_same_results(tmp_path):
    videos = write_json(
        tmp_path / "val.json",
        truth_of([video_of(40, "zoo", ["00000", "00005"]), video_of(9, "ant", ["00003"], (2, 2))]),
    )
    results = [
        result_of(40, 0.1, LEFT, None, category=3),
        result_of(40, 0.7, RIGHT, LEFT, category=7),
        result_of(9, 1 / 3, np.ones((2, 2), dtype=bool), category=3),
    ]
    source = write_json(tmp_path / "results.json", results)
    maps = run(source, tmp_path / "maps", "--videos", videos)
    assert files_in(maps) == ["ant/00003.png", "tracks.json", "zoo/00000.png", "zoo/00005.png"]
    expected = sorted(results, key=lambda entry: entry["video_id"] != 9)  # videos come by name
    assert load(run(maps, tmp_path / "by_tracks.json", "--form", "results")) == expected
    assert load(run(maps, tmp_path / "listed.json", "--form", "results", "--videos", videos)) == results


def test_what_inference_writes_is_converted_without_any_further_file(tmp_path):
    maps = {"b": {"00010": 1 * LEFT, "00015": 0 * LEFT, "00020": 1 * LEFT + 6 * RIGHT}, "a": {"7": 2 * TOP}}
    write_maps(tmp_path / "Annotations", maps)
    with ResultsSpool() as spool:
        for video, frames in maps.items():
            spool.start_video(video)
            for frame, labels in frames.items():
                present = sorted(set(labels.ravel().tolist()) - {0})
                spool.add_frame(frame, [TrackRow(i, i / 8, 2, encode_rle(labels == i)) for i in present])
        spool.write_results(tmp_path / "results.json")
        spool.write_tracks(tmp_path / "tracks.json")
    write_json(tmp_path / "categories.json", {"1": "ant", "2": "wasp"})
    back = read_maps(run(tmp_path / "results.json", tmp_path / "back"))
    numbered = {"b": {f: np.where(m == 6, 2, m) for f, m in maps["b"].items()}, "a": {"7": 1 * TOP}}
    assert_equal_maps(back, numbered)
    for source in (tmp_path, tmp_path / "Annotations"):
        results = run(source, tmp_path / "r.json", "--form", "results")
        assert load(results) == load(tmp_path / "results.json")
    truth = load(run(tmp_path, tmp_path / "truth.json"))
    assert truth["categories"] == [{"id": 1, "name": "ant"}, {"id": 2, "name": "wasp"}]
    assert [entry["category_id"] for entry in truth["annotations"]] == [2, 2, 2]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("nowhere --output x", "nowhere"),
        ("maps --output x", "must be a .json file"),
        ("maps/a --output x.json", "maps/a holds no videos"),
        ("maps --output x.json --min_score 0.5", "--min_score is for"),
        ("maps --output x.json --videos junk.json", "junk.json is not a JSON file"),
        ("results.json --output x", "tracks.json that names the videos"),
        ("results.json --output x --form truth", "--form is for a folder"),
        ("results.json --output maps --videos videos.json", "maps is there already"),
        ("truth.json --output x --videos videos.json", "truth.json holds annotations"),
        ("truth.json --output x --min_score 0.5", "--min_score"),
        ("videos.json --output x", "videos.json is not a YouTube-VIS annotation file"),
        ("junk.json --output x --videos videos.json", "junk.json is not a JSON file"),
        ("maps --output x.json --score 1", "--score"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_nothing_is_left(files, monkeypatch, command, message):
    monkeypatch.chdir(files)
    before = files_in(files)
    assert_refused(run_here(convert.main, *command.split()), message)
    assert files_in(files) == before


@pytest.mark.parametrize(
    ("file", "keys", "value", "message"),
    [
        (
            "results.json",
            (0, "segmentations"),
            [None],
            "result 0 has 1 segmentations, but video 1 has 2 frames",
        ),
        ("results.json", (0, "segmentations", 1, "size"), [4, 4], "result 0, frame 1, has the size [4, 4]"),
        ("results.json", (0, "segmentations", 1, "counts"), "a", "result 0, frame 1, has"),
        ("results.json", (0, "segmentations", 0), 5, "result 0, frame 0, is not an RLE"),
        ("results.json", (0, "video_id"), 8, "result 0 is of video 8"),
        ("results.json", (0, "score"), None, "result 0 must have video_id"),
        ("results.json", (0, "score"), float("nan"), "the number NaN is not finite"),
        ("results.json", (0, "segmentations"), None, "result 0 must have video_id"),
        ("videos.json", ("videos", 0, "file_names"), ["a/0.jpg"], "video 1 must have file_names"),
        ("videos.json", ("videos", 0, "file_names"), ["a/0.jpg", "b/1.jpg"], "video 1 must have file_names"),
        ("videos.json", ("videos", 0, "file_names"), ["a/0.jpg", "a/0.png"], "video 1 must have file_names"),
        (
            "videos.json",
            ("videos", 0, "file_names"),
            ["../0.jpg", "../1.jpg"],
            "video 1 must have file_names",
        ),
        ("videos.json", ("videos", 0, "file_names"), ["0.jpg", "1.jpg"], "video 1 must have file_names"),
        ("videos.json", ("videos", 0, "file_names"), None, "video 1 must have file_names"),
        ("videos.json", ("videos",), [video_of(1, "a", ["0", "1"])] * 2, "several videos with the id 1"),
        ("videos.json", ("videos",), [video_of(i, "a", ["0", "1"]) for i in (1, 2)], "with the folder a"),
    ],
)
def test_a_bad_file_is_named_and_no_folder_is_left(files, file, keys, value, message):
    spoil(files / file, *keys, value=value)
    before = files_in(files)
    flags = ("--videos", files / "videos.json", "--output", files / "x")
    assert_refused(run_here(convert.main, files / "results.json", *flags), file, message)
    assert files_in(files) == before and not (files / "x").exists()


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("videos", 0, "height"), 10**9, "a picture has 1 to"),
        (("videos", 0, "width"), 0, "a picture has 1 to"),
        (("videos", 0, "length"), 3_000_000_000, "at most 1000000 frames"),
        (("videos", 0, "length"), -1, "at most 1000000 frames"),
        (("videos", 0, "file_names"), [1, 2], "file_names that are a list of texts"),
        (("videos", 0, "file_names"), True, "file_names that are a list of texts"),
        (("videos", 0, "scored"), "all", "a mask of scored pixels"),
        (("categories", 0, "name"), ["cat"], "the name of a category"),
        (("annotations", 0, "areas"), "many", "areas that are numbers"),
        (("annotations", 0, "areas"), [10**30], "is too long"),
        (("annotations", 0, "id"), float("inf"), "is not finite"),
    ],
)
def test_absurd_numbers_and_odd_types_in_annotations_are_told_in_one_line(files, keys, value, message):
    spoil(files / "truth.json", *keys, value=value)
    assert_refused(run_here(convert.main, files / "truth.json", "--output", files / "x"), message)
    flags = (
        "--results",
        files / "results.json",
        "--annotations",
        files / "truth.json",
        "--protocol",
        "ytvis",
    )
    assert_refused(run_here(evaluate.main, *flags), message)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"frames": 3e9}, "3000000000.0 is not a number"),
        ({"frames": 3_000_000_000}, "3000000000 frames"),
        ({"frames": "2"}, "'2' is not a number"),
        ({"frames": float("inf")}, "the number Infinity is not finite"),
        ({"frames": 1}, "1 frames, of which 2 have tracks"),
        ({"tracks": {"1": "255"}}, "has not the form"),
        ({"tracks": {"9" * 5000: {}}}, "has not the form"),
    ],
)
def test_absurd_numbers_and_odd_types_in_tracks_are_told_in_one_line(files, about, message):
    track = {"category": 7, "score": 0.5, "scores": {"0": 0.5, "1": 0.5}}
    video = {"video_id": 1, "frames": 2, "tracks": {"1": track}}
    write_json(files / "tracks.json", {"a": video | about})
    for source, target in (("results.json", "x"), ("maps", "x.json")):
        write_json(files / "maps" / "tracks.json", {"a": video | about})
        refused = run_here(convert.main, files / source, "--output", files / target)
        assert_refused(refused, "tracks.json", message)


def test_json_that_is_nested_too_deeply_is_told_in_one_line(files):
    deep = "[" * 100_000
    for name in ("truth.json", "maps/meta.json", "maps/tracks.json", "maps/categories.json"):
        (files / name).write_text(deep)
        source, target = ("maps", "x.json") if "/" in name else (name, "x")
        assert_refused(run_here(convert.main, files / source, "--output", files / target), name)
        (files / name).unlink()


def test_a_pipe_is_refused_at_once(files):
    os.mkfifo(files / "pipe.json")
    flags = ("--videos", files / "pipe.json", "--output", files / "x")
    assert_refused(run_here(convert.main, files / "results.json", *flags), "pipe.json is a pipe")


def test_polygons_absent_masks_float_sizes_and_missing_areas_are_read(files):
    square = [[0, 0, 2, 0, 2, 3, 0, 3]]
    spoil(files / "truth.json", "annotations", 0, "segmentations", value=[square, []])
    spoil(files / "truth.json", "videos", 0, "height", value=3.0)
    spoil(files / "truth.json", "annotations", 0, "bboxes", value=None)
    content = load(files / "truth.json")
    del content["annotations"][0]["areas"]
    write_json(files / "truth.json", content)
    maps = read_maps(run(files / "truth.json", files / "x"))
    assert_equal_maps(maps, {"a": {"0": 1 * LEFT, "1": 0 * LEFT}})
    results = write_json(files / "results.json", [result_of(1, 0.5, LEFT, None, category=7)])
    assert ytvis(results, files / "truth.json")["overall"]["AP"] == pytest.approx(1)


def test_an_interrupt_leaves_what_was_there(files, monkeypatch):
    run(files / "maps", files / "t.json")
    before, former = files_in(files), (files / "t.json").read_bytes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tools.convert.masks_to_json.encode_rle", interrupt)
    monkeypatch.setattr("tools.convert.json_to_masks.write_label_map", interrupt)
    for source, target in ((files / "maps", files / "t.json"), (files / "truth.json", files / "x")):
        assert run_here(convert.main, source, "--output", target).status == 130
    assert files_in(files) == before and (files / "t.json").read_bytes() == former


def test_without_pycocotools_the_remedy_is_told(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    outcome = run_here(convert.main, files / "maps", "--output", files / "x.json")
    assert_refused(outcome, "converting masks needs pycocotools", "pip install pycocotools")


@pytest.mark.parametrize("target", ["t.json", "maps"])
def test_two_conversions_do_not_write_to_one_place(tmp_path, target):
    maps = write_maps(tmp_path / "in", random_maps(0, [1, 2, 3]))
    source = maps if target == "t.json" else run(maps, tmp_path / "truth.json")
    before = files_in(tmp_path)
    with held_elsewhere(tmp_path / f".{target}.lock"):
        outcome = run_here(convert.main, source, "--output", tmp_path / target)
        assert_refused(outcome, target, "process 7 on a node")
    (tmp_path / f".{target}.lock").unlink()
    assert files_in(tmp_path) == before
