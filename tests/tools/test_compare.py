"""Two reports side by side: what differs, in which order, and what only one of them has."""

import pytest

from common.errors import UserError
from tools.compare import Pair, compare, comparison_lines, comparison_table


def report(videos: dict[str, dict], overall: dict | None = None, protocol: str = "davis") -> dict:
    return {"protocol": protocol, "overall": overall or {}, "videos": videos}


FIRST = report(
    {
        "ape": {"J-Mean": 0.5, "J&F-Mean": 0.5, "objects": {"1": {}}},
        "bee": {"J-Mean": 0.1, "J&F-Mean": 0.2, "objects": {"1": {}}},
        "cow": {"J-Mean": 0.9, "J&F-Mean": 0.9, "objects": {"1": {}}},
        "dog": {"J-Mean": None, "J&F-Mean": None, "objects": {}},
        "elk": {"J-Mean": 0.9, "J&F-Mean": 0.9, "objects": {}},
    },
    {"J&F-Mean": 0.625, "J-Mean": 0.6, "per_alpha": {}},
)
SECOND = report(
    {
        "ape": {"J-Mean": 0.6, "J&F-Mean": 0.6},
        "bee": {"J-Mean": 0.5, "J&F-Mean": 0.7},
        "cow": {"J-Mean": 0.6, "J&F-Mean": 0.65},
        "dog": {"J-Mean": 0.1, "J&F-Mean": 0.1},
        "fox": {"J-Mean": 0.1, "J&F-Mean": 0.1},
    },
    {"J&F-Mean": 0.5, "J-Mean": None, "per_alpha": {}},
)


def test_videos_come_by_the_size_of_the_difference_whatever_its_sign():
    comparison = compare(FIRST, SECOND)
    assert comparison.names == ["J&F-Mean", "J-Mean"]
    assert list(comparison.videos) == ["bee", "cow", "ape", "dog"]
    assert comparison.videos["bee"]["J&F-Mean"] == (0.2, 0.7)
    assert comparison.videos["bee"]["J&F-Mean"].difference == pytest.approx(-0.5)
    assert comparison.videos["dog"]["J-Mean"].difference is None


def test_numbers_over_all_videos_are_compared_and_tables_left_out():
    assert compare(FIRST, SECOND).overall == {"J&F-Mean": Pair(0.625, 0.5), "J-Mean": Pair(0.6, None)}


def test_videos_of_one_report_only_are_listed():
    comparison = compare(FIRST, SECOND)
    assert (comparison.only_first, comparison.only_second) == (["elk"], ["fox"])


@pytest.mark.parametrize(
    ("protocol", "overall", "video", "leading"),
    [
        ("tcovis", {"J": 1, "F": 1, "J&F": 1, "HOTA": 1}, {"J": 1, "F": 1, "J&F": 1, "HOTA": 1}, "J&F"),
        ("mots", {"HOTA": 1, "IDF1": 1, "IDSW": 0}, {"IDSW": 0, "IDF1": 1, "HOTA": 1}, "HOTA"),
        ("mots", {"sMOTSA": 1, "MOTSA": 1}, {"MOTSA": 1, "sMOTSA": 1}, "sMOTSA"),
        ("youtube_vos", {"G": 1, "J_seen": 1}, {"J": 1, "J&F": 1, "F": 1}, "J&F"),
        ("sav", {"J&F": 1, "J": 1}, {"J": 1, "J&F": 1}, "J&F"),
        ("davis", {"score": 1, "other": 1}, {"other": 1, "score": 1}, "score"),
    ],
)
def test_the_leading_number_is_one_that_single_videos_have(protocol, overall, video, leading):
    one = report({"ape": video}, overall, protocol)
    assert compare(one, one).names[0] == leading
    assert sorted(compare(one, one).names) == sorted(video)


def test_single_videos_are_left_out_where_they_have_no_score():
    one = report({"1": {"objects": 3, "results": 5}}, {"AP": 0.5}, "ytvis")
    comparison = compare(one, one)
    assert comparison.names == [] and comparison_table(comparison) == []
    assert comparison_lines(comparison)[1].split() == ["AP", "0.5000", "0.5000", "0"]


def test_the_lines_say_all_of_it_in_columns():
    lines = comparison_lines(compare(FIRST, SECOND))
    words = [line.split() for line in lines]
    assert words[0] == ["J&F-Mean", "against", "difference", "J-Mean", "diff"]
    assert words[1] == ["bee", "0.2000", "0.7000", "-0.5000", "-0.4000"]
    assert words[4] == ["dog", "-", "0.1000", "-", "-"]
    assert words[5:8] == [
        [],
        ["overall", "results", "against", "difference"],
        ["J&F-Mean", "0.6250", "0.5000", "+0.1250"],
    ]
    assert lines[-2:] == ["Only in the results: elk", "Only in the results compared against: fox"]
    assert len({len(line) for line in lines[:5]}) == 1


def test_reports_without_videos_compare():
    assert comparison_lines(compare(report({}), report({}))) == ["overall    results    against difference"]


def test_reports_of_two_protocols_are_refused():
    with pytest.raises(UserError, match="davis cannot be compared with one of mots: score both by one"):
        compare(FIRST, report({}, protocol="mots"))
