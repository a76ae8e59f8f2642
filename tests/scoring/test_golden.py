"""The official numbers, whole files at a time: what is in a file and is not compared here fails as well.

The numbers come from the protocols' reports wherever a report has them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scoring.jf import pairwise_jf, statistics
from scoring.label_folders import VideoPair, read_pairs, true_masks
from scoring.protocols.davis import DAVIS_NAMES, davis, davis_unsupervised, match_by_id, match_proposals
from scoring.protocols.mots import mots, score_by_trackeval
from scoring.protocols.vos import sav
from scoring.protocols.ytvis import ytvis
from scoring.protocols.ytvis_tracking import PER_ALPHA
from scoring.report import Report
from scoring.tracking_scores import TrackingScore
from scoring.vis_ap import MAX_RESULTS, average_precision, by_score
from scoring.vis_tracks import read_tracks, track_ious
from tests.support.jf import boundary_measure, region_similarity
from tests.support.metrics_golden import (
    FOLDER,
    REAL,
    VIDEOS,
    differences,
    golden_arrays,
    needs_golden,
    numbers,
    save_golden_masks,
)

pytest.importorskip("pycocotools")
pytestmark = needs_golden


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_golden_masks(tmp_path_factory.mktemp("golden"))


def test_no_file_of_the_set_is_forgotten():
    compared = {f"expected_{name}.json" for name in ("davis", "sav", "tracking", "ytvis", "real_osvos")}
    inputs = {"README.md", "masks.npz", "ytvis_gt.json", "ytvis_pred.json"}
    assert {path.name for path in FOLDER.iterdir()} == {"expected_arrays.npz", *compared, *inputs}


def test_what_is_wrong_absent_or_not_compared_is_noticed():
    official = {"a": [0.5, "nan"], "b": [{"c": "inf"}], "d": "words"}
    ours = {"a": [0.5 + 1e-10, np.nan], "b": [{"c": np.inf}], "d": "words"}
    assert differences(ours, official) == []
    for change in (
        {"a": [0.5 + 1e-8, np.nan]},
        {"a": [0.5, 0.0]},
        {"a": [0.5]},
        {"b": [{"c": 1e300}]},
        {"b": []},
        {"b": [{}]},
        {"d": "others"},
        {"e": 1},
    ):
        assert len(differences(ours | change, official)) == 1, change
    assert differences({"a": ours["a"]}, official) == [": other keys"]


# ----------------------------------------------------------------------------------------------------
# expected_davis.json, expected_sav.json, expected_real_osvos.json


def davis_scores(report: Report, by_proposal: bool) -> dict[str, Any]:
    """A report in the official form; the unsupervised task numbers the objects by their proposals."""
    per_object = {}
    for name, video in report["videos"].items():
        objects = list(video["objects"].items())
        if by_proposal:
            objects = list(enumerate(sorted(video["objects"].values(), key=lambda one: one["proposal"]), 1))
        per_object |= {f"{name}_{i}": {key: one[key] for key in DAVIS_NAMES} for i, one in objects}
    return {"global": report["overall"], "per_object": per_object}


def test_davis(folders):
    official = numbers("expected_davis.json")
    semi = davis(folders / "pred_vos", folders / "void")
    unsupervised = davis_unsupervised(folders / "pred_uns", folders / "void")
    series = [[float(value) for value in case["x"]] for case in official["db_statistics"]]
    ours = {
        "davis": {
            "semi-supervised": davis_scores(semi, False),
            "unsupervised": davis_scores(unsupervised, True),
        },
        "db_statistics": [{"n": len(x), "x": x, "M_O_D": statistics(x)} for x in series],
    }
    for task in ours["davis"]:
        ours["davis"][task]["frames"] = official["davis"][task]["frames"]  # words: which frames are scored
    assert differences(ours, official) == []


def test_sav(folders):
    ours = {}
    for layout, suffix in (("davis_layout", ""), ("sav_layout", "_by_object")):
        roots = folders / f"pred_vos{suffix}", folders / f"gt{suffix}"
        for skip in (True, False):
            report = sav(*roots, skip_first_and_last=skip)
            per_object = {
                name: {key: {i: one[key] for i, one in video["objects"].items()} for key in "JF"}
                for name, video in report["videos"].items()
            }
            ours[f"{layout}_skip{int(skip)}"] = {**report["overall"], "per_object": per_object}
    assert differences(ours, numbers("expected_sav.json")) == []


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real clips are not at {REAL}")
def test_published_results_on_real_clips():
    official = numbers("expected_real_osvos.json")
    root = REAL / "DAVIS16_480p"
    report = davis(root / "OSVOS_results", root)
    sequences = {}
    for name, video in report["videos"].items():
        paths = true_masks(root / "Annotations" / name)
        maps = ([labels > 0 for labels in pair] for pair in read_pairs(paths, root / "OSVOS_results" / name))
        J, F = zip(*((region_similarity(*pair), boundary_measure(*pair)) for pair in maps), strict=True)
        scores = {key: video[key] for key in DAVIS_NAMES}
        sequences[name] = {**scores, "J_all_frames": J, "F_all_frames": F}
    ours = {"protocol": official["protocol"], "global": report["overall"], "sequences": sequences}
    assert differences(ours, official) == []


# ----------------------------------------------------------------------------------------------------
# expected_tracking.json


def trackeval_families(score: TrackingScore, frames: bool) -> dict[str, dict]:
    """All that TrackEval says of a sequence; of several together it does not count the frames."""
    hota = score.hota.scores()
    counts = {"HOTA_TP": score.hota.tp, "HOTA_FN": score.hota.fn, "HOTA_FP": score.hota.fp}
    first = {"HOTA(0)": hota["HOTA"][0], "LocA(0)": hota["LocA"][0]}
    first["HOTALocA(0)"] = first["HOTA(0)"] * first["LocA(0)"]
    count = {name: value for name, value in score.size.scores().items() if frames or name != "Frames"}
    return {
        "HOTA": hota | counts | first,
        "CLEAR": score.clear.scores(),
        "Identity": score.identity.scores(),
        "Count": count,
        "HOTA_mean": {name: values.mean() for name, values in hota.items()},
    }


def test_mots_and_davis_by_trackeval_and_mots_tools(folders):
    scores = {
        f"v{v}": score_by_trackeval(
            VideoPair("", folders / "mots" / f"v{v}", folders / "pred_trk" / f"v{v}")
        )[0]
        for v in VIDEOS
    }
    by_trackeval = {name: trackeval_families(score, frames=True) for name, score in scores.items()}
    by_trackeval["COMBINED_SEQ"] = trackeval_families(TrackingScore.total(scores.values()), frames=False)
    tools = mots(folders / "pred_trk", folders / "mots", definition="mots_tools")
    jf = davis_unsupervised(folders / "pred_uns", folders / "void", definition="trackeval")
    ours = {
        "mots": by_trackeval,
        "mots_tools": {**tools["videos"], "ALL": tools["overall"]},
        "davis_JAndF": {
            **{name: {key: video[key] for key in jf["overall"]} for name, video in jf["videos"].items()},
            "COMBINED_SEQ": jf["overall"],
        },
    }
    assert differences(ours, numbers("expected_tracking.json")) == []


def test_the_report_on_mots_has_those_numbers(folders):
    report = mots(folders / "pred_trk", folders / "mots")
    official = numbers("expected_tracking.json")["mots"]
    for name, ours in [*report["videos"].items(), ("COMBINED_SEQ", report["overall"])]:
        clear = official[name]["CLEAR"]
        expected = {key: official[name]["HOTA_mean"][key] for key in PER_ALPHA}
        expected |= {"MOTSA": clear["MOTA"], "sMOTSA": clear["sMOTA"], "MOTSP": clear["MOTP"]}
        expected |= {"IDSW": clear["IDSW"], "Frag": clear["Frag"], "IDF1": official[name]["Identity"]["IDF1"]}
        expected["per_alpha"] = {key: official[name]["HOTA"][key] for key in PER_ALPHA}
        assert differences({key: ours[key] for key in expected}, expected) == []
        assert "switches" not in ours or len(ours["switches"]) == clear["IDSW"]


# ----------------------------------------------------------------------------------------------------
# expected_ytvis.json


def test_ytvis():
    ours: dict[str, Any] = {}
    for name, use_categories in (("useCats", True), ("noCats", False)):
        report = ytvis(
            FOLDER / "ytvis_pred.json", FOLDER / "ytvis_gt.json", use_categories=use_categories, tracking=True
        )
        per_category = {str(category): scores for category, scores in report["categories"].items()}
        ours[name] = {"stats": report["overall"], "per_category": per_category}
        if use_categories:
            ours["trackeval"] = {
                name: {
                    "HOTA_mean": {key: one["HOTA"][key] for key in PER_ALPHA},
                    "HOTA_alpha": one["per_alpha"]["HOTA"],
                    "CLEAR": one["CLEAR"],
                    "Identity": one["Identity"],
                    "TrackMAP_AP_all_mean": one["TrackMAP"],
                }
                for name, one in report["tracking"].items()
            }
    assert differences(ours, numbers("expected_ytvis.json")) == []


# ----------------------------------------------------------------------------------------------------
# expected_arrays.npz


def arrays_of_videos(folders: Path) -> dict[str, np.ndarray]:
    """J and F frame by frame: of both DAVIS tasks, and of all objects by id in all frames without void."""
    masks, ours = golden_arrays("masks.npz"), {}
    for v in VIDEOS:
        truth = folders / "void" / f"v{v}"
        semi = match_by_id(VideoPair("", truth, folders / "pred_vos" / f"v{v}"))
        unsupervised = match_proposals(VideoPair("", truth, folders / "pred_uns" / f"v{v}"))
        ours |= {f"davis_semi_J_v{v}": semi.J, f"davis_semi_F_v{v}": semi.F}
        order = np.argsort(
            unsupervised.proposals
        )  # officially, objects stand in the order of their proposals
        ours |= {f"davis_unsu_J_v{v}": unsupervised.J[order], f"davis_unsu_F_v{v}": unsupervised.F[order]}
        gt, found = masks[f"gt_v{v}"], masks[f"pred_vos_v{v}"]
        ids = range(1, gt.max() + 1)
        J, F = zip(*(pairwise_jf(*maps, ids, ids) for maps in zip(gt, found, strict=True)), strict=True)
        ours |= {f"raw_{k}_v{v}": np.array(x).diagonal(0, 1, 2).T for k, x in (("J", J), ("F", F))}
    return ours


def arrays_of_pairs() -> dict[str, list[float]]:
    """J and F of single masks, with and without void and at other tolerances."""
    masks = golden_arrays("masks.npz")
    triples = np.unpackbits(masks["pairs"], axis=-1)[..., : masks["pairs_shape"][-1]].astype(bool)
    return {
        "pairs_J": [region_similarity(g, p) for g, p, _ in triples],
        "pairs_F": [boundary_measure(g, p) for g, p, _ in triples],
        "pairs_J_void": [region_similarity(*triple) for triple in triples],
        "pairs_F_void": [boundary_measure(*triple) for triple in triples],
        "pairs_F_bound3px": [boundary_measure(g, p, bound_th=3) for g, p, _ in triples],
        "pairs_F_bound003": [boundary_measure(g, p, bound_th=0.03) for g, p, _ in triples],
    }


def arrays_of_ytvis() -> dict[str, np.ndarray]:
    """Precision, recall, and the IoU of every video and category in which there is a result."""
    truth, results = numbers("ytvis_gt.json"), numbers("ytvis_pred.json")
    ours = {}
    for name, use_categories in (("useCats", True), ("noCats", False)):
        ap = average_precision(truth, results, use_categories)
        ours |= {f"ytvis_precision_{name}": ap.precision, f"ytvis_recall_{name}": ap.recall}
    tracks = read_tracks(truth, results, True, "truth", "results")
    for (video, category), found in tracks.results.items():
        there = by_score(found)[: MAX_RESULTS[-1]]
        ours[f"ytvis_iou_vid_cat_{video}_{category}"] = track_ious(there, tracks.truth[video, category])
    return ours


def test_arrays(folders):
    ours = arrays_of_videos(folders) | arrays_of_pairs() | arrays_of_ytvis()
    assert differences(ours, golden_arrays("expected_arrays.npz")) == []
