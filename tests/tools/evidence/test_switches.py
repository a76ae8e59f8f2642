"""Where and why ids switch, on hand-made videos."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.evidence import MOTS, NOTHING, TCOVIS, boxes, evidence_of, pair_of, random_maps, scored_by
from tools.evidence.explain import explain_video
from tools.evidence.label_maps import Rules
from tools.evidence.switches import Switch, find_switches


def test_a_swap_gives_two_switches_with_the_frames_and_the_overlaps(tmp_path):
    truth = [boxes(o1=2, o2=30)] * 6
    results = [boxes(o1=3, o2=30)] * 4 + [boxes(o2=2, o1=32)] * 2
    first, second = explain_video(pair_of(tmp_path, truth, results), rules=TCOVIS).switches
    assert first[:7] == (4, 3, 1, 1, 2, (pytest.approx(9 / 11), 0), (0, 1))
    assert second[:7] == (4, 3, 2, 2, 1, (1, 0), (0, pytest.approx(8 / 12)))
    assert first.causes == [
        "true objects 1 and 2 exchanged their ids",
        "old id 1 now lies on true object 2 (IoU 0.67)",
        "new id 2 was on true object 2 before, last in frame 00003 (IoU 1.00)",
    ]
    assert second.causes[0] == first.causes[0]


def only_switch(tmp_path: Path, truth, results, rules: Rules = TCOVIS) -> Switch:
    (switch,) = explain_video(pair_of(tmp_path, truth, results), rules=rules).switches
    return switch


def test_an_object_that_was_out_of_sight_comes_back_under_a_new_id(tmp_path):
    truth = [boxes(o4=2), NOTHING, NOTHING, boxes(o4=30)]
    switch = only_switch(tmp_path, truth, [boxes(o1=2), NOTHING, NOTHING, boxes(o7=30)])
    assert switch[:7] == (3, 0, 4, 1, 7, (1, None), (None, 1))
    assert switch.causes == [
        "the object was out of sight for 2 annotated frames before",
        "old id 1 is gone from the frame",
        "new id 7 appears for the first time",
    ]


def test_an_object_that_was_lost_in_sight_says_for_how_long(tmp_path):
    truth = [boxes(o1=2), boxes(o1=2), NOTHING, boxes(o1=2)]
    switch = only_switch(tmp_path, truth, [boxes(o1=2), boxes(o1=40), NOTHING, boxes(o1=40, o2=2)])
    assert switch.causes == [
        "the object was matched to no id for 2 annotated frames before, out of sight in 1 of them",
        "old id 1 is still in the frame, but on no true object",
        "new id 2 appears for the first time",
    ]


def test_an_object_that_falls_into_two_parts_keeps_a_part_under_the_old_id(tmp_path):
    parts = boxes(o1=2)
    parts[:, 5:12][parts[:, 5:12] > 0] = 6
    switch = only_switch(tmp_path, [boxes(o1=2)] * 2, [boxes(o1=2), parts])
    assert switch[5:7] == ((1, pytest.approx(0.3)), (None, pytest.approx(0.7)))
    assert switch.causes == [
        "old id 1 still covers part of it (IoU 0.30)",
        "new id 6 appears for the first time",
    ]


def test_an_id_that_leaves_for_another_object_is_followed_there(tmp_path):
    truth = [boxes(o1=2)] + [boxes(o1=2, o2=30)] * 2
    results = [boxes(o1=2), boxes(o1=2, o9=30), boxes(o8=2, o1=30)]
    switches = explain_video(pair_of(tmp_path, truth, results), rules=TCOVIS).switches
    causes = {switch.object_id: switch.causes for switch in switches}
    assert causes[1] == [
        "old id 1 now lies on true object 2 (IoU 1.00)",
        "new id 8 appears for the first time",
    ]
    assert causes[2] == [
        "old id 9 is gone from the frame",
        "new id 1 was on true object 1 before, last in frame 00001 (IoU 1.00)",
    ]


def test_a_switch_back_names_the_frame_in_which_the_id_was_right(tmp_path):
    results = [boxes(o1=2), boxes(o2=2), boxes(o1=2)]
    switches = explain_video(pair_of(tmp_path, [boxes(o1=2)] * 3, results), rules=TCOVIS).switches
    assert [(s.frame, s.last_frame, s.old_id, s.new_id) for s in switches] == [(1, 0, 1, 2), (2, 1, 2, 1)]
    assert switches[1].causes[-1] == "new id 1 was on it before, last in frame 00000 (IoU 1.00)"


def test_partial_overlaps_with_other_objects_are_named(tmp_path):
    truth = [boxes(o1=2, o2=30)] * 2
    results = [boxes(o1=2, o5=24), boxes(o5=2, o1=37)]
    switch = only_switch(tmp_path, truth, results)
    assert switch.causes == [
        f"old id 1 now covers part of true object 2 (IoU {3 / 17:.2f})",
        f"new id 5 covered part of true object 2 in frame 00000 (IoU {4 / 16:.2f})",
    ]


def test_ids_of_16_bits_are_told_apart(tmp_path):
    truth = [boxes(np.uint16, o2001=2)] * 2
    switch = only_switch(tmp_path, truth, [boxes(np.uint16, o300=2), boxes(np.uint16, o60000=2)], rules=MOTS)
    assert switch[2:5] == (2001, 300, 60000)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("dtype", "void"), [(np.uint8, 255), (np.uint16, 10_000)])
def test_the_switches_are_those_of_the_mots_protocol(tmp_path, seed, dtype, void):
    pair_of(tmp_path, *random_maps(seed, dtype, void))
    reported = scored_by(tmp_path, "mots").report["videos"]["cat"]["switches"]
    (video,) = evidence_of(tmp_path, "mots")
    assert reported
    switches = [(video.frames[s.frame], s.object_id, s.old_id, s.new_id) for s in video.switches]
    assert switches == [(s["frame"], s["truth_id"], s["old_id"], s["new_id"]) for s in reported]


def test_without_frames_there_are_no_switches():
    assert find_switches([], []) == []
