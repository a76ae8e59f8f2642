"""Gaps and strays among the names of frames."""

from tools.doctor.sequence import frame_gaps, gaps, strays


def test_a_gap_is_found_by_the_usual_step():
    assert gaps([0, 5, 10, 25, 30]) == [(2, 2)]
    assert gaps([0, 1, 2, 3]) == []


def test_uneven_steps_are_no_gap():
    assert gaps([0, 5, 9, 14, 19, 23]) == []


def test_three_numbers_have_no_rhythm():
    assert gaps([0, 1, 9]) == []


def test_gaps_are_found_in_names_that_end_in_numbers():
    assert frame_gaps(["frame_08", "frame_09", "frame_10", "frame_12"]) == [(2, 1)]
    assert frame_gaps(["a", "b", "c", "d"]) == []
    assert frame_gaps(["0", "1", "2", "x", "9"]) == []


def test_a_frame_between_the_steps_and_one_without_a_number_are_strays():
    assert strays(["0", "5", "7", "10", "15", "20"]) == ["7"]
    assert strays(["0", "1", "2", "3", "cover"]) == ["cover"]
    assert strays(["1", "2", "3", "03"]) == ["03"]


def test_frames_that_have_no_numbers_at_all_are_no_strays():
    assert strays(["a", "b", "c", "d", "e"]) == []
