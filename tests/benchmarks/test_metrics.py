"""The benchmarks at tiny sizes: they run, and their plain definitions say what the project's code says."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks import metrics as benchmark
from scoring.jf import boundary_of
from tests.support.commands import assert_refused, run_here
from tests.support.jf import region_similarity
from video.images import read_label_map

TINY = "--size 48 64 --videos 2 --frames 4 --num_workers 1".split()


def scored(truth: np.ndarray, result: np.ndarray) -> set[float]:
    """The values of F by all measures of the benchmark."""
    return {measure(truth, result) for measure in benchmark.MEASURES.values()}


def test_f_of_a_square_and_of_one_side_moved_is_the_same_by_every_measure():
    truth, result = np.zeros((2, 120, 200), dtype=bool)  # the tolerance is 2 pixels
    truth[20:40, 30:50] = result[20:40, 30:60] = True
    assert len(scored(truth, result)) == 1
    assert 0.5 < min(scored(truth, result)) < 1.0
    assert scored(truth, truth) == {1.0}


def test_empty_masks_are_one_against_each_other_and_zero_against_something():
    nothing, something = np.zeros((2, 20, 30), dtype=bool)
    something[5:9, 5:9] = True
    assert scored(nothing, nothing) == {1.0}
    assert scored(nothing, something) == scored(something, nothing) == {0.0}


@given(*[arrays(bool, (9, 12))] * 2, st.integers(0, 20), st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_f_is_the_same_by_every_measure_wherever_the_masks_lie(truth, result, top, left):
    pictures = np.zeros((2, 29, 32), dtype=bool)
    pictures[:, top : top + 9, left : left + 12] = truth, result
    assert len(scored(*pictures)) == 1
    assert len(scored(truth, result)) == 1  # fills the picture
    assert np.array_equal(benchmark.plain_boundary(truth), boundary_of(truth))


def test_generated_results_are_close_to_the_truth_and_not_equal_to_it():
    pairs = benchmark.generated_pairs(480, 854)
    assert all(truth.shape == result.shape == (480, 854) for truth, result in pairs)
    assert all(0.3 < region_similarity(*pair) < 1 for pair in pairs)


def test_a_generated_video_has_both_objects_in_its_first_frame(tmp_path):
    for name in ("0", "1"):
        benchmark.write_video(name, tmp_path / "truth", tmp_path / "results", 4, 48, 64)
        files = sorted((tmp_path / "truth" / name).iterdir())
        assert [path.name for path in files] == [f"{frame:05}.png" for frame in range(4)]
        assert set(np.unique(read_label_map(files[0]))) == {0, 1, 2}


def test_the_benchmark_of_metrics_prints_two_tables():
    outcome = run_here(benchmark.main, *TINY)
    assert (outcome.status, outcome.err) == (0, [])
    differences = {line[:26].strip(): float(line.split()[-1]) for line in outcome.out[2:5]}
    assert differences == dict.fromkeys(benchmark.MEASURES, 0.0)
    assert outcome.out[6].startswith("davis on 2 videos of 4 frames, 64x48")
    assert [line.split()[0] for line in outcome.out[8:]] == ["scoring", "reading", "share"]


def test_the_benchmark_of_metrics_takes_own_folders(tmp_path):
    benchmark.write_video("0", tmp_path / "truth", tmp_path / "results", 3, 30, 40)
    flags = ["--masks", tmp_path / "truth", "--results", tmp_path / "results"]
    outcome = run_here(benchmark.main, *flags, *TINY)
    assert outcome.status == 0
    assert outcome.out[0].startswith("F of 3 pairs of masks, 40x30")


def test_a_value_that_differs_ends_the_benchmark_with_a_failure(monkeypatch):
    monkeypatch.setitem(benchmark.MEASURES, benchmark.OURS, lambda *pair: 1e-16)
    assert run_here(benchmark.main, *TINY).status not in (0, 2)


@pytest.mark.parametrize("flag", ["--masks", "--results"])
def test_masks_without_results_are_refused(flag, tmp_path: Path):
    assert_refused(run_here(benchmark.main, flag, tmp_path), "--masks and --results")
