"""Where and why ids switch, and the J and F behind a score: hand-made videos, then what the protocols say."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from scoring.jf import boundary_measure, region_similarity
from scoring.label_folders import VideoPair
from scoring.protocols.table import PROTOCOLS
from tools.evidence.explain import VideoEvidence, explain, explain_video
from tools.evidence.measured import Rules, label_folders, measure, read_maps
from tools.evidence.switches import Switch, find_switches

TCOVIS, MOTS = Rules("tcovis", by_id=False), Rules("mots", by_id=False)


def boxes(dtype: type = np.uint8, **left: int) -> np.ndarray:
    """(20, 60) label map of 10 x 10 squares; `o3=10` is object 3 with its left edge at column 10."""
    labels = np.zeros((20, 60), dtype=dtype)
    for name, column in left.items():
        labels[5:15, column : column + 10] = int(name[1:])
    return labels


NOTHING = boxes()


def write(folder: Path, maps) -> Path:
    folder.mkdir(parents=True)
    for frame, labels in enumerate(maps):
        Image.fromarray(labels).save(folder / f"{frame:05d}.png")
    return folder


def pair_of(tmp_path: Path, truth, results, name: str = "cat") -> VideoPair:
    return VideoPair(
        name, write(tmp_path / "truth" / name, truth), write(tmp_path / "results" / name, results)
    )


def report_of(tmp_path: Path, protocol: str, **options) -> dict:
    return PROTOCOLS[protocol](tmp_path / "results", tmp_path / "truth", **options)


def evidence_of(tmp_path: Path, protocol: str, by_id: bool = False, **options) -> list[VideoEvidence]:
    report = report_of(tmp_path, protocol, **options)
    folders = tmp_path / "results", tmp_path / "truth"
    return explain(report, label_folders(protocol, *folders, list(report["videos"])), by_id=by_id)


def random_maps(seed: int, dtype: type, void: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(8, 24, 32) truth of three objects in coarse patches, and results with ids that change now and then."""
    rng = np.random.default_rng(seed)
    ids = [0, 1, 2, 3] + ([] if void is None else [void])
    truth = np.repeat(rng.choice(ids, (1, 3, 4)), 8, axis=0)
    moved = rng.random(truth.shape) < 0.1
    truth[moved] = rng.choice(ids, moved.sum())
    results = np.where(truth == void, rng.integers(0, 4, truth.shape), truth)
    for t in range(8):
        names = np.append(0, rng.permutation([1, 2, 3, 4])[:3]) if rng.random() < 0.4 else np.arange(4)
        results[t] = names[results[t]]
    missed = rng.random(truth.shape) < 0.1
    results[missed] = rng.choice(5, missed.sum())
    return tuple(np.kron(maps, np.ones((1, 8, 8))).astype(dtype) for maps in (truth, results))


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
    reported = report_of(tmp_path, "mots")["videos"]["cat"]["switches"]
    (video,) = evidence_of(tmp_path, "mots")
    assert reported
    found = [(video.frames[s.frame], s.object_id, s.old_id, s.new_id) for s in video.switches]
    assert found == [(s["frame"], s["truth_id"], s["old_id"], s["new_id"]) for s in reported]


def test_results_in_ignored_regions_do_not_take_part_in_the_mots_protocol(tmp_path):
    truth = boxes(o1=2, o255=30)
    pair = pair_of(tmp_path, [truth], [boxes(o1=2, o2=30, o3=45)])
    frame = measure(read_maps(pair, Path("00000.png"), MOTS), MOTS)
    assert frame.objects.tolist() == [1] and frame.tracks.tolist() == [1, 2, 3]
    assert frame.counted.tolist() == [True, False, True]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("prompted", [False, True])
def test_switches_and_means_are_those_of_the_tcovis_protocol(tmp_path, seed, prompted):
    for number in range(2):
        pair_of(tmp_path, *random_maps(2 * seed + number, np.uint8, 255), f"video{number}")
    report = report_of(tmp_path, "tcovis", prompted=prompted)
    for video in evidence_of(tmp_path, "tcovis", by_id=prompted, prompted=prompted):
        reported = report["videos"][video.pair.name]
        assert len(video.switches) == reported["id_switches"]
        scored = [one.jf for one in video.objects if one.jf is not None]
        assert 100 * np.mean(scored) == pytest.approx(reported["J&F"])


@pytest.mark.parametrize("protocol", ["tcovis", "davis", "mots"])
def test_every_frame_has_the_J_and_F_of_the_definition(tmp_path, protocol):
    truth, results = random_maps(3, np.uint8)
    results[results == 4] = 0
    pair_of(tmp_path, truth, results)
    (video,) = evidence_of(tmp_path, protocol, by_id=protocol == "davis")
    assert len(video.objects) == 3
    for one in video.objects:
        masks = [(t == one.id, r == one.track) for t, r in zip(truth, results, strict=True)]
        np.testing.assert_allclose(one.J, [region_similarity(*pair) for pair in masks])
        np.testing.assert_allclose(one.F, [boundary_measure(*pair) for pair in masks])
        assert one.seen.tolist() == [t.any() for t, _ in masks]
        assert one.shown.tolist() == [t.any() or r.any() for t, r in masks]


def test_void_is_background_for_davis_and_is_left_out_for_others(tmp_path):
    truth, result = boxes(o1=2, o255=12), boxes(o1=2) + boxes(o1=12)
    pair = pair_of(tmp_path, [truth] * 3, [result] * 3)
    for protocol, J in {"davis": 0.5, "davis_unsupervised": 1, "youtube_vos": 1, "sav": 0.5}.items():
        video = explain_video(pair, rules=Rules(protocol, by_id=True))
        assert video.objects[0].J.tolist() == [J] * 3
        assert [one.id for one in video.objects] == [1, 255] if protocol == "sav" else [1]


def test_the_J_and_F_of_an_object_is_the_protocol_s_own_where_it_scores_objects(tmp_path):
    truth = [boxes(o1=2), boxes(o1=2, o2=30), boxes(o1=2, o2=30), boxes(o1=2, o2=30)]
    results = [boxes(o1=40), boxes(o1=2), boxes(o1=2), boxes(o1=40)]
    pair_of(tmp_path, truth, results)
    (davis,) = evidence_of(tmp_path, "davis", by_id=True)
    assert [(one.id, one.track, one.jf) for one in davis.objects] == [(1, 1, 1.0), (2, None, None)]
    assert davis.objects[0].J.tolist() == [0, 1, 1, 0] and davis.objects[1].J.tolist() == [0] * 4
    (sav,) = evidence_of(tmp_path, "sav", by_id=True)
    assert [(one.id, one.jf) for one in sav.objects] == [(1, 1.0), (2, 0.0)]


def test_the_result_of_an_object_is_the_one_that_the_protocol_names(tmp_path):
    truth = [boxes(o1=2), boxes(o1=2, o2=30), boxes(o1=2, o2=30)]
    pair_of(tmp_path, truth, [boxes(o5=2), boxes(o5=2, o3=30), boxes(o3=30)])
    (video,) = evidence_of(tmp_path, "davis_unsupervised")
    assert [(one.id, one.track) for one in video.objects] == [(1, 5), (2, None)]


def test_a_davis_2016_mask_is_one_object_whatever_its_label(tmp_path):
    pair_of(tmp_path, [boxes(o255=2)] * 3, [boxes(o1=2)] * 3)
    (video,) = evidence_of(tmp_path, "davis", by_id=True)
    assert [(one.id, one.track, one.jf) for one in video.objects] == [(1, 1, 1.0)]
    many = explain_video(video.pair, rules=Rules("davis", by_id=True, single_object=True))
    assert [one.id for one in many.objects] == [1]


def test_without_objects_or_without_results_there_is_little_to_explain(tmp_path):
    video = explain_video(pair_of(tmp_path, [boxes(o1=2)] * 2, [NOTHING] * 2), rules=TCOVIS)
    assert [(one.track, one.jf) for one in video.objects] == [(None, 0)] and video.switches == []
    video = explain_video(pair_of(tmp_path, [NOTHING], [boxes(o1=2)], "dog"), rules=TCOVIS)
    assert video.objects == [] and video.switches == []
    assert find_switches([], []) == []


def test_an_object_that_is_given_on_the_last_frame_has_no_score(tmp_path):
    video = explain_video(
        pair_of(tmp_path, [NOTHING, boxes(o1=2)], [NOTHING, boxes(o1=2)]), rules=Rules("tcovis", by_id=True)
    )
    assert video.objects[0].jf is None


def test_processes_share_the_work(tmp_path):
    for name in ("cat", "dog"):
        pair_of(tmp_path, [boxes(o1=2)] * 2, [boxes(o1=2), boxes(o2=2)], name)
    report = report_of(tmp_path, "mots")
    pairs = label_folders("mots", tmp_path / "results", tmp_path / "truth", ["dog", "cat"])
    videos = explain(report, pairs, by_id=False, num_workers=2)
    assert [(video.pair.name, len(video.switches)) for video in videos] == [("dog", 1), ("cat", 1)]


def test_what_cannot_be_explained_says_what_is_needed(tmp_path):
    pair_of(tmp_path, [NOTHING], [NOTHING])
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(UserError, match=r"results\.json: give folders of label maps"):
        label_folders("tcovis", tmp_path / "results.json", tmp_path / "truth", ["cat"])
    with pytest.raises(UserError, match="give folders of label maps"):
        label_folders("ytvis", tmp_path / "results", tmp_path / "truth", ["cat"])
    write(tmp_path / "truth" / "dog" / "001", [NOTHING])
    write(tmp_path / "results" / "dog", [NOTHING])
    with pytest.raises(UserError, match=r"truth/dog has a folder for each object: join"):
        label_folders("sav", tmp_path / "results", tmp_path / "truth", ["dog"])
