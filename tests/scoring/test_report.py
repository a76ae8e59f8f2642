"""The report of every protocol: its means, what it writes for undefined, its warnings."""

import json
import math
import random

from hypothesis import given
from hypothesis import strategies as st

from scoring.report import (
    ScoredVideo,
    make_report,
    mean_jf,
    mean_of,
    name_ids,
    null_for_undefined,
    report_objects,
)

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(SCORES, st.randoms(use_true_random=False))
def test_the_mean_does_not_depend_on_the_order_in_any_bit(values: list[float], order: random.Random):
    shuffled = list(values)
    order.shuffle(shuffled)
    means = [mean_of([{"J": value} for value in these], "J") for these in (values, shuffled)]
    assert means[0] == means[1]


def test_the_mean_of_nothing_is_undefined_and_undefined_is_null():
    assert math.isnan(mean_of([], "J"))
    value = {"a": math.nan, "b": {"c": math.inf, "d": -math.inf, "e": 0.5}, "f": [1.0], "g": 3, "h": "nan"}
    written = {"a": None, "b": {"c": None, "d": None, "e": 0.5}, "f": [1.0], "g": 3, "h": "nan"}
    assert null_for_undefined(value) == written


def test_every_object_weighs_the_same_and_warnings_stand_in_order():
    videos = {
        "a": ScoredVideo({"1": {"J": 1.0, "F": 0.5}, "2": {"J": 0.0, "F": 0.5}}, ["a is odd"]),
        "b": ScoredVideo({}, []),
        "c": ScoredVideo({"1": {"J": 0.5, "F": 1.0}}, ["c is odd"]),
    }
    report = report_objects("sav", mean_jf, videos, ["d is unknown"], rule="mine")
    assert report["overall"] == {"J&F": (0.5 + 2 / 3) / 2, "J": 0.5, "F": 2 / 3}
    assert report["videos"]["b"] == {"J&F": None, "J": None, "F": None, "objects": {}}
    assert report["videos"]["a"]["J"] == 0.5 and report["videos"]["a"]["objects"].keys() == {"1", "2"}
    assert report["warnings"] == ["d is unknown", "a is odd", "c is odd"]
    assert (report["protocol"], report["rule"]) == ("sav", "mine")
    json.dumps(report, allow_nan=False)


def test_warnings_are_there_when_there_are_none():
    assert make_report("mots", {}, {}, [])["warnings"] == []


def test_ids_are_named_and_many_are_counted():
    assert name_ids([4]) == "id 4"
    assert name_ids({11, 7}) == "ids 7, 11"
    assert name_ids(range(1, 13)) == "ids 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more"
