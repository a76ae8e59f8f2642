"""The J and F behind a score: what the protocols say, on hand-made videos."""

import numpy as np
import pytest

from scoring.protocols.table import PROTOCOLS
from tests.support.evidence import NOTHING, TCOVIS, boxes, evidence_of, pair_of, random_maps, scored_by
from tests.support.jf import boundary_measure, region_similarity
from tools.evidence.explain import explain, explain_video
from tools.evidence.label_maps import Rules, label_map_pairs


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("prompted", [False, True])
def test_switches_and_means_are_those_of_the_tcovis_protocol(tmp_path, seed, prompted):
    for number in range(2):
        pair_of(tmp_path, *random_maps(2 * seed + number, np.uint8, 255), f"video{number}")
    report = scored_by(tmp_path, "tcovis", prompted=prompted).report
    for video in evidence_of(tmp_path, "tcovis", prompted=prompted):
        reported = report["videos"][video.pair.name]
        assert len(video.switches) == reported["id_switches"]
        scored = [one.jf for one in video.objects if one.jf is not None]
        assert 100 * np.mean(scored) == pytest.approx(reported["J&F"])


@pytest.mark.parametrize("protocol", ["tcovis", "davis", "mots"])
def test_every_frame_has_the_J_and_F_of_the_definition(tmp_path, protocol):
    truth, results = random_maps(3, np.uint8)
    results[results == 4] = 0
    pair_of(tmp_path, truth, results)
    (video,) = evidence_of(tmp_path, protocol)
    assert len(video.objects) == 3
    for one in video.objects:
        masks = [(t == one.id, r == one.track) for t, r in zip(truth, results, strict=True)]
        np.testing.assert_allclose(one.J, [region_similarity(*pair) for pair in masks])
        np.testing.assert_allclose(one.F, [boundary_measure(*pair) for pair in masks])
        assert one.visible.tolist() == [t.any() for t, _ in masks]
        assert one.active.tolist() == [t.any() or r.any() for t, r in masks]


def test_void_is_background_for_davis_and_is_left_out_for_others(tmp_path):
    truth, result = boxes(o1=2, o255=12), boxes(o1=2) + boxes(o1=12)
    pair = pair_of(tmp_path, [truth] * 3, [result] * 3)
    for protocol, J in {"davis": 0.5, "davis_unsupervised": 1, "youtube_vos": 1, "sav": 0.5}.items():
        video = explain_video(pair, rules=Rules(PROTOCOLS[protocol], by_id=True))
        assert video.objects[0].J.tolist() == [J] * 3
        assert [one.id for one in video.objects] == [1, 255] if protocol == "sav" else [1]


def test_the_J_and_F_of_an_object_is_the_protocol_s_own_where_it_scores_objects(tmp_path):
    truth = [boxes(o1=2), boxes(o1=2, o2=30), boxes(o1=2, o2=30), boxes(o1=2, o2=30)]
    results = [boxes(o1=40), boxes(o1=2), boxes(o1=2), boxes(o1=40)]
    pair_of(tmp_path, truth, results)
    (davis,) = evidence_of(tmp_path, "davis")
    assert [(one.id, one.track, one.jf) for one in davis.objects] == [(1, 1, 1.0), (2, None, None)]
    assert davis.objects[0].J.tolist() == [0, 1, 1, 0] and davis.objects[1].J.tolist() == [0] * 4
    (sav,) = evidence_of(tmp_path, "sav")
    assert [(one.id, one.jf) for one in sav.objects] == [(1, 1.0), (2, 0.0)]


def test_the_result_of_an_object_is_the_one_that_the_protocol_names(tmp_path):
    truth = [boxes(o1=2), boxes(o1=2, o2=30), boxes(o1=2, o2=30)]
    pair_of(tmp_path, truth, [boxes(o5=2), boxes(o5=2, o3=30), boxes(o3=30)])
    (video,) = evidence_of(tmp_path, "davis_unsupervised")
    assert [(one.id, one.track) for one in video.objects] == [(1, 5), (2, None)]


def test_a_davis_2016_mask_is_one_object_whatever_its_label(tmp_path):
    pair_of(tmp_path, [boxes(o255=2)] * 3, [boxes(o1=2)] * 3)
    (video,) = evidence_of(tmp_path, "davis")
    assert [(one.id, one.track, one.jf) for one in video.objects] == [(1, 1, 1.0)]
    many = explain_video(video.pair, rules=Rules(PROTOCOLS["davis"], by_id=True, single_object=True))
    assert [one.id for one in many.objects] == [1]


def test_tracks_are_matched_with_the_objects_that_they_overlap(tmp_path):
    pair = pair_of(tmp_path, [boxes(o1=2, o2=30)] * 3, [boxes(o2=2, o1=30)] * 2 + [boxes(o2=2, o5=45)])
    assert explain_video(pair, rules=TCOVIS).object_of == {2: 1, 1: 2}
    assert explain_video(pair, rules=TCOVIS._replace(by_id=True)).object_of == {1: 1, 2: 2}
    apart = explain_video(pair_of(tmp_path, [boxes(o1=2)], [boxes(o1=30)], "dog"), rules=TCOVIS)
    assert apart.objects[0].track == 1 and apart.object_of == {}


def test_without_objects_or_without_results_there_is_little_to_explain(tmp_path):
    video = explain_video(pair_of(tmp_path, [boxes(o1=2)] * 2, [NOTHING] * 2), rules=TCOVIS)
    assert [(one.track, one.jf) for one in video.objects] == [(None, 0)] and video.switches == []
    video = explain_video(pair_of(tmp_path, [NOTHING], [boxes(o1=2)], "dog"), rules=TCOVIS)
    assert video.objects == [] and video.switches == []


def test_an_object_that_is_given_on_the_last_frame_has_no_score(tmp_path):
    video = explain_video(
        pair_of(tmp_path, [NOTHING, boxes(o1=2)], [NOTHING, boxes(o1=2)]), rules=TCOVIS._replace(by_id=True)
    )
    assert video.objects[0].jf is None


def test_processes_share_the_work(tmp_path):
    for name in ("cat", "dog"):
        pair_of(tmp_path, [boxes(o1=2)] * 2, [boxes(o1=2), boxes(o2=2)], name)
    scored = scored_by(tmp_path, "mots")
    videos = explain(scored, label_map_pairs(scored, ["dog", "cat"]), num_workers=2)
    assert [(video.pair.name, len(video.switches)) for video in videos] == [("dog", 1), ("cat", 1)]
