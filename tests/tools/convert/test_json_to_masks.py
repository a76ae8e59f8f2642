"""Annotations and results to label maps: which object is on top, which id it gets."""

from pathlib import Path

import numpy as np

from tests.support.commands import assert_refused, files_in, run_here
from tests.support.vis_files import (
    LEFT,
    RIGHT,
    TOP,
    load,
    read_maps,
    result_of,
    run,
    spoil,
    truth_of,
    video_of,
    write_json,
)
from tools.convert import __main__ as convert
from video.images import read_label_map


def draw(tmp_path: Path, entries: dict | list, *flags: object) -> np.ndarray:
    """The one map of an annotation or results file."""
    videos = write_json(tmp_path / "videos.json", truth_of([video_of(1, "a", ["0"])]))
    flags = flags if isinstance(entries, dict) else ("--videos", videos, *flags)
    return read_maps(run(write_json(tmp_path / "x.json", entries), tmp_path / "maps", *flags))["a"]["0"]


def test_the_higher_score_is_on_top_and_of_equals_the_first(tmp_path):
    results = [result_of(1, 0.5, TOP), result_of(1, 0.5, LEFT), result_of(1, 0.9, RIGHT)]
    np.testing.assert_array_equal(draw(tmp_path, results), [[1, 1, 3, 3], [2, 2, 3, 3], [2, 2, 3, 3]])


def test_the_smaller_true_object_is_on_top(tmp_path):
    truth = truth_of(
        [video_of(1, "a", ["0"])], [result_of(1, 0, LEFT, category=3), result_of(1, 0, TOP, category=7)]
    )
    np.testing.assert_array_equal(draw(tmp_path, truth), [[2, 2, 2, 2], [1, 1, 0, 0], [1, 1, 0, 0]])
    objects = load(tmp_path / "maps/meta.json")["videos"]["a"]["objects"]
    assert objects == {"1": {"category": "dog", "frames": ["0"]}, "2": {"category": "cat", "frames": ["0"]}}


def test_weak_results_are_left_out_and_take_no_id(tmp_path):
    results = [result_of(1, 0.2, TOP), result_of(1, 0.5, LEFT)]
    np.testing.assert_array_equal(draw(tmp_path, results, "--min_score", 0.5), 1 * LEFT)


def test_no_object_gets_the_id_255(tmp_path):
    masks = np.arange(20 * 20).reshape(20, 20)
    results = [result_of(1, 0.5, masks == i) for i in range(300)]
    videos = write_json(tmp_path / "v.json", truth_of([video_of(1, "a", ["0"], (20, 20))]))
    source = write_json(tmp_path / "r.json", results)
    maps = run(source, tmp_path / "maps", "--videos", videos)
    labels = read_label_map(maps / "a/0.png")
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels.flat[:300], [*range(1, 255), *range(256, 302)])
    assert load(run(maps, tmp_path / "back.json", "--form", "results")) == results


def test_an_annotation_of_a_category_that_is_not_listed_is_named(files):
    spoil(files / "truth.json", "annotations", 0, "category_id", value=99)
    outcome = run_here(convert.main, files / "truth.json", "--output", files / "x")
    assert_refused(outcome, "truth.json: annotation 0 is of category 99")


def test_results_without_any_mask_get_no_maps_and_unnamed_frames_are_refused(tmp_path):
    source = write_json(tmp_path / "results.json", [result_of(1, 0.5, LEFT, None)])
    tracks = {"1": {"category": 1, "score": 0.5, "scores": {"x": 0.5}}}
    video, empty = {"video_id": 1, "frames": 2, "tracks": tracks}, {"video_id": 2, "frames": 9, "tracks": {}}
    write_json(tmp_path / "tracks.json", {"ant": video})
    outcome = run_here(convert.main, source, "--output", tmp_path / "x")
    assert_refused(outcome, "tracks.json does not name every frame of ant", "--videos")
    tracks["1"]["scores"]["y"] = 0.5
    write_json(source, [result_of(1, 0.5, LEFT, TOP)])
    write_json(tmp_path / "tracks.json", {"ant": video, "bee": empty})
    outcome = run_here(convert.main, source, "--output", tmp_path / "x")
    assert outcome.err == ["videos without any mask, which get no label maps: 1, such as bee"]
    assert files_in(tmp_path / "x") == ["ant/x.png", "ant/y.png", "tracks.json"]
    write_json(tmp_path / "tracks.json", {"ant": 5})
    assert_refused(run_here(convert.main, source, "--output", tmp_path / "y"), "tracks.json")


def test_no_name_in_a_file_writes_elsewhere(tmp_path):
    source, output = tmp_path / "in" / "results.json", tmp_path / "out" / "x"
    source.parent.mkdir()
    write_json(source, [result_of(1, 0.5, LEFT, TOP)])
    names = [("../../x", "0"), ("/x", "0"), ("..", "0"), ("", "0"), ("a", "../../x"), ("a", "/x")]
    for video, frame in names:
        tracks = {"1": {"category": 1, "score": 0.5, "scores": {frame: 0.5, "1": 0.5}}}
        write_json(source.with_name("tracks.json"), {video: {"video_id": 1, "frames": 2, "tracks": tracks}})
        assert_refused(run_here(convert.main, source, "--output", output), "cannot be a name")
    truth = truth_of([video_of(1, "a", ["0", "1"])], [result_of(1, 0, LEFT, TOP, category=3)])
    for folder, frame in (("a", "..x"), ("C:", "0")):
        truth["videos"][0]["file_names"] = [f"{folder}/{frame}.jpg", f"{folder}/1.jpg"]
        write_json(source, truth)
        assert_refused(run_here(convert.main, source, "--output", output), "cannot be a name")
    assert files_in(tmp_path) == ["in/results.json", "in/tracks.json"]
