"""mots_tools: matches, switches, fragments and undefined numbers, by hand."""

import math

import numpy as np
import pytest

from scoring.protocols.mots_tools import (
    MISSED,
    MotsToolsAccumulator,
    MotsToolsCounts,
    count_fragments,
    count_switches,
)


def score(*frames: tuple[list[int], list[int], list[list[float]]], ignored: float = 0.0) -> MotsToolsCounts:
    accumulator = MotsToolsAccumulator()
    for truth, result, similarity in frames:
        shape = len(truth), len(result)
        accumulator.add(truth, result, np.reshape(similarity, shape), np.full(len(result), ignored))
    return accumulator.score()


def test_a_match_is_above_one_half_and_not_at_it():
    counts = score(([7], [1], [[0.5]]), ([7], [1], [[0.75]]))
    assert (counts.tp, counts.fp, counts.fn, counts.similarity) == (1, 1, 1, 0.75)
    assert counts.scores()["MOTSP"] == 0.75
    assert counts.scores()["MOTSA"] == 0.0 and counts.scores()["sMOTSA"] == -0.125


def test_only_unmatched_results_are_dropped_with_the_ignored_region():
    counts = score(([7], [1, 2], [[0.9, 0.1]]), ignored=0.6)
    assert (counts.tp, counts.fp, counts.ignored) == (1, 0, 1)
    assert score(([7], [1, 2], [[0.9, 0.1]]), ignored=0.5).fp == 1


def test_the_accuracy_pays_for_switches_and_its_logarithm_for_their_number():
    frames = [([7], [i], [[1.0]]) for i in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)]
    scores = score(*frames).scores()
    assert scores["id_switches"] == 10
    assert scores["MOTSA"] == pytest.approx(1 / 11)
    assert scores["MOTSAL"] == pytest.approx(1 - 1 / 11)
    assert scores["MODSA"] == scores["recall"] == scores["precision"] == scores["F1"] == 1


def test_an_object_is_mostly_tracked_above_and_lost_below_a_share():
    def track(num_frames: int) -> MotsToolsCounts:
        return score(*[([7], [1], [[1.0 if t < num_frames else 0.0]]) for t in range(10)])

    shares = [(c.mostly_tracked, c.partly_tracked, c.mostly_lost) for c in map(track, (9, 8, 2, 1, 0))]
    assert shares == [(1, 0, 0), (0, 1, 0), (0, 1, 0), (0, 0, 1), (0, 0, 1)]


def test_what_is_undefined_is_infinite():
    nothing, missed, invented = score(), score(([7], [], [])), score(([], [1], []))
    for name in ("MOTSA", "sMOTSA", "MODSA", "MOTSAL"):
        assert nothing.scores()[name] == invented.scores()[name] == -math.inf
    assert missed.scores()["MOTSP"] == math.inf
    assert missed.scores()["MOTSA"] == missed.scores()["recall"] == missed.scores()["F1"] == 0
    assert (missed.scores()["ML"], nothing.scores()["ML"]) == (1, 0)


@pytest.mark.parametrize(
    ("track", "switches", "fragments"),
    [
        ([1, 1, 1], 0, 0),
        ([1, MISSED, 1, 1], 0, 1),  # lost and found
        ([1, MISSED, 1, MISSED], 0, 0),  # found for one frame only
        ([1, MISSED, 2], 1, 1),  # on the last frame one is enough
        ([MISSED, MISSED, 5], 0, 1),  # even the first of all, the official quirk
        ([MISSED, 5, 5], 0, 0),
        ([1, 2, 2, 1], 2, 2),
        ([3], 0, 0),
        ([], 0, 0),
    ],
)
def test_switches_and_fragments_by_hand(track, switches, fragments):
    assert (count_switches(track), count_fragments(track)) == (switches, fragments)


def test_sequences_are_added():
    a, b = score(([7], [1], [[0.9]])), score(([7], [], []), ([7], [3], [[0.7]]))
    both = MotsToolsCounts.total([a, b])
    assert (both.tp, both.fn, both.similarity) == (2, 1, pytest.approx(1.6))
    assert (both.mostly_tracked, both.partly_tracked, both.fragments) == (1, 1, 1)
