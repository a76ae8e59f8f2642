"""What holds for every protocol on random videos: results go by any name, a perfect one scores 1."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.protocols.table import PROTOCOLS
from tests.support.label_folders import NOTHING, blobs, boxes, tracks_of, truth_json, youtube_roots
from tests.support.metrics_golden import differences

pytest.importorskip("pycocotools")

Maps = list[np.ndarray]
DOT = np.zeros((20, 30), dtype=np.uint8)
DOT[7, 11] = 1
ANY_NAMES = {
    "mots": ("mots", {}),
    "mots_tools": ("mots", {"definition": "mots_tools"}),
    "davis_unsupervised": ("davis_unsupervised", {}),
    "trackeval": ("davis_unsupervised", {"definition": "trackeval"}),
    "tcovis": ("tcovis", {}),
}
BY_NAME = {
    "davis": ("davis", {}),
    "sav": ("sav", {}),
    "youtube_vos": ("youtube_vos", {}),
    "prompted": ("tcovis", {"prompted": True}),
}
FOLDERS = ANY_NAMES | BY_NAME
BEST = {  # what a perfect result scores, in the protocol's unit; None: there is nothing to do
    "mots": dict.fromkeys("HOTA DetA AssA LocA IDF1 MOTSA sMOTSA MOTSP".split(), 1),
    "mots_tools": dict.fromkeys("MOTSA sMOTSA MOTSP MOTSAL MODSA recall precision F1 MT".split(), 1),
    "davis_unsupervised": dict.fromkeys("J&F-Mean J-Mean J-Recall F-Mean F-Recall".split(), 1),
    "davis": dict.fromkeys("J&F-Mean J-Mean J-Recall F-Mean F-Recall".split(), 1),
    "trackeval": dict.fromkeys("J&F J-Mean J-Recall F-Mean F-Recall".split(), 1),
    "sav": dict.fromkeys(("J&F", "J", "F"), 100),
    "youtube_vos": dict.fromkeys(("G", "J_seen", "F_seen", "J_unseen", "F_unseen"), 1),
    "tcovis": dict.fromkeys("J F J&F J_tube HOTA DetA AssA IDF1".split(), 100),
    "prompted": dict.fromkeys("J F J&F HOTA DetA AssA IDF1".split(), 100),
}


def overall(case: str, truth: Maps, results: Maps) -> dict[str, Any]:
    """The scores of one video in a protocol for folders."""
    name, options = FOLDERS[case]
    with TemporaryDirectory() as folder:
        folders = youtube_roots(Path(folder), truth, results, {1: "ape", 2: "zebra", 3: "ape"})
        return PROTOCOLS[name].score(*folders, **options)["overall"]


def ytvis_report(truth: list[dict], results: list[dict], length: int) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        paths = Path(folder) / "results.json", Path(folder) / "instances.json"
        for path, content in zip(paths, (results, truth_json(truth, {1: length})), strict=True):
            path.write_text(json.dumps(content))
        return PROTOCOLS["ytvis"].score(*paths, tracking=True)


def noise(seed: int) -> tuple[Maps, Maps]:
    """Truth and results of three objects, pixels mixed by chance: no two matchings are equally good."""
    rng = np.random.default_rng(seed)
    truth = [np.where(rng.random((20, 30)) < 0.7, labels, 0) for labels in blobs(seed, frames=5)]
    mixed = [np.where(rng.random((20, 30)) < 0.8, labels, rng.integers(0, 4, (20, 30))) for labels in truth]
    return truth, [labels.astype(np.uint8) for labels in mixed]


@pytest.mark.parametrize("case", ANY_NAMES)
@given(st.integers(0, 9999), st.permutations([1, 2, 3]))
@settings(max_examples=15, deadline=None)
def test_names_of_results_change_no_score(case, seed, names):
    truth, results = noise(seed)
    renamed = [np.array([0, *names], dtype=np.uint8)[labels] for labels in results]
    assert differences(overall(case, truth, renamed), overall(case, truth, results)) == []


@given(st.integers(0, 9999), st.permutations(range(6)))
@settings(max_examples=15, deadline=None)
def test_the_order_of_results_changes_no_score_of_ytvis(seed, order):
    truth, results = noise(seed)
    tracks = [track for maps in (results, truth[:3] + [NOTHING] * 2) for track in tracks_of(maps, 1)]
    tracks = [{**track, "score": 0.9 - place / 10} for place, track in enumerate(tracks)]
    shuffled = [tracks[place] for place in order if place < len(tracks)]
    before, after = (ytvis_report(tracks_of(truth, 1), one, 5) for one in (tracks, shuffled))
    for reports in (before, after):  # its TrackMAP does depend on which result is the first
        for scores in reports["tracking"].values():
            scores.pop("TrackMAP")
    for part in ("overall", "videos", "tracking"):
        assert differences(after[part], before[part]) == []


@pytest.mark.parametrize("case", FOLDERS)
@given(st.integers(0, 9999))
@settings(max_examples=10, deadline=None)
def test_a_perfect_result_scores_one(case, seed):
    truth = blobs(seed, frames=5)
    for labels in truth[:2]:
        labels[15:18, ::10] = [1, 2, 3]  # everybody is there at the start
    truth[-1][15:18, ::10] = [1, 2, 3]
    scores = overall(case, truth, truth)
    assert {name: scores[name] for name in BEST[case]} == pytest.approx(BEST[case])
    for name in ("IDSW", "id_switches", "fragments", "fp", "fn", "J-Decay", "F-Decay"):
        assert scores.get(name, 0) == 0


@given(st.integers(0, 9999))
@settings(max_examples=10, deadline=None)
def test_a_perfect_result_scores_one_in_ytvis(seed):
    maps = blobs(seed, frames=5)
    tracks = tracks_of(maps, 1)
    report = ytvis_report(tracks, tracks, 5)
    perfect = pytest.approx(1 if tracks else -1)
    assert report["overall"]["AP"] == report["overall"]["AP75"] == report["overall"]["AR10"] == perfect
    if tracks:
        pooled = report["tracking"]["cls_comb_det_av"]
        assert pooled["HOTA"]["HOTA"] == pooled["Identity"]["IDF1"] == pooled["CLEAR"]["MOTA"] == 1


@pytest.mark.parametrize("case", FOLDERS)
def test_an_object_of_one_pixel_is_found_or_missed(case):
    groups = {"J_unseen": 0, "F_unseen": 0}  # the one object is of a seen category
    perfect, missed = overall(case, [DOT] * 4, [DOT] * 4), overall(case, [DOT] * 4, [NOTHING] * 4)
    for name, best in BEST[case].items():
        if name in groups:
            assert perfect[name] is missed[name] is None
            continue
        assert perfect[name] == pytest.approx(best), name
        undefined = {"LocA": 1, "MOTSP": None if case == "mots_tools" else 0}  # without any match
        assert missed[name] == undefined.get(name, 0), name


@pytest.mark.parametrize("case", FOLDERS)
def test_nothing_against_nothing_is_legal_and_has_no_means_over_objects(case):
    scores = overall(case, [NOTHING] * 4, [NOTHING] * 4)
    for name in BEST[case]:
        assert scores[name] in (None, 0, 1)
    assert all(scores.get(name) is None for name in ("J", "J&F", "J-Mean", "G"))


@pytest.mark.parametrize("case", FOLDERS)
def test_an_object_that_is_away_and_not_found_there_costs_nothing(case):
    truth = [boxes(o1=2), boxes(o1=2), NOTHING, boxes(o1=2), boxes(o1=2)]
    scores = overall(case, truth, truth)
    for name, best in BEST[case].items():
        assert scores[name] is None or scores[name] == pytest.approx(best), name
    invented = overall(case, truth, [boxes(o1=2)] * 5)
    main = next(name for name in BEST[case])
    assert invented[main] < scores[main]


@pytest.mark.parametrize("case", [case for case in FOLDERS if case not in ("davis", "sav")])
def test_a_video_of_one_frame(case):
    scores = overall(case, [boxes(o1=2)], [boxes(o1=2)])
    given_there = case in ("youtube_vos", "prompted")  # then the one frame is not scored
    main = next(name for name in BEST[case])
    assert scores[main] == (None if given_there else pytest.approx(BEST[case][main]))
