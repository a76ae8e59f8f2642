"""The table of scoring protocols for folders and files of results: those of the field, and our own.

Each takes (results, annotations, **options) and returns {"protocol", "overall", "videos": {name: {...}}}, in
the names and units of the official program. UserError names the file at fault.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from common.mask_folders import (
    VideoPair,
    mask_root,
    read_pair,
    read_pairs,
    score_each,
    true_masks,
    video_pairs,
)
from common.metrics import pairwise_overlap, slots_of
from common.tracking_metrics import TrackingAccumulator, TrackingScore, combine, outside_ignored
from common.types import IGNORE
from common.video_ap import average_precision
from common.video_scores import AP_NAMES, VideoScore, VideoScorer, summarise
from common.vos_dataset import list_files, list_folders, read_categories
from common.vos_protocols import Report, davis, davis_unsupervised, sav, youtube_vos

MOTS_IGNORE = 10_000  # the id of regions to ignore in a 16-bit MOTS annotation


def read_json(path: Path) -> Any:
    """The content of a JSON file; UserError where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not a JSON file ({error}): write it anew") from error


def ytvis(results: Path, annotations: Path, *, use_categories: bool = True, num_workers: int = 0) -> Report:
    """YouTube-VIS AP and AR (ytvoseval), in fractions of 1; -1 where there is no truth.

    results, annotations: JSON files in the official form, or folders with results.json and instances.json
    use_categories: whether a result must have the category of the object
    num_workers: has no effect, the counting is one process
    """
    results, annotations = (
        path / name if path.is_dir() else path
        for path, name in ((results, "results.json"), (annotations, "instances.json"))
    )
    truth, found = read_json(annotations), read_json(results)
    ap = average_precision(truth, found, use_categories, str(annotations), str(results))
    videos = {
        str(video["id"]): {
            "objects": sum(entry["video_id"] == video["id"] for entry in truth["annotations"]),
            "results": sum(entry["video_id"] == video["id"] for entry in found),
        }
        for video in truth["videos"]
    }
    return {"protocol": "ytvis", "overall": ap.scores(), "videos": videos, "categories": ap.per_category()}


def _mots_video(pair: VideoPair) -> TrackingScore:
    accumulator = TrackingAccumulator()
    for truth, result in read_pairs(true_masks(pair.truth), pair.result):
        ignored = truth == (MOTS_IGNORE if truth.dtype.itemsize > 1 else IGNORE)
        truth_ids, result_ids = np.setdiff1d(truth[~ignored], [0]), np.setdiff1d(result, [0])
        result_slots, N = slots_of(result, result_ids), len(result_ids)
        overlap = pairwise_overlap(slots_of(truth, truth_ids), result_slots, len(truth_ids), N)
        ignored_pixels = np.bincount(result_slots[ignored], minlength=N + 1)[1:]
        kept = outside_ignored(overlap.iou, ignored_pixels / overlap.prediction_area)
        accumulator.add(truth_ids, result_ids[kept], overlap.iou[:, kept])
    return accumulator.score()


def _mots_summary(score: TrackingScore) -> dict[str, Any]:
    hota, clear = score.hota.scores(), score.clear.scores()
    per_alpha = {name: hota[name].tolist() for name in ("HOTA", "DetA", "AssA", "LocA")}
    return {
        **{name: float(np.mean(values)) for name, values in per_alpha.items()},
        "IDF1": score.identity.scores()["IDF1"],
        "IDSW": clear["IDSW"],
        "MOTSA": clear["MOTA"],
        "sMOTSA": clear["sMOTA"],
        "MOTSP": clear["MOTP"],
        "Frag": clear["Frag"],
        "per_alpha": per_alpha,
    }


def mots(results: Path, annotations: Path, *, num_workers: int = 0) -> Report:
    """MOTS (TrackEval) on label maps of 8 or 16 bits, in fractions of 1; all ids are of one class.

    Regions to ignore are the pixels of id 10000 in a 16-bit annotation and 255 in one of 8 bits. Each video
    lists its id switches: frame, true object, old and new id.
    """
    pairs = video_pairs(mask_root(results), mask_root(annotations))
    scores = score_each(_mots_video, pairs, num_workers=num_workers)
    videos = {}
    for pair, score in zip(pairs, scores, strict=True):
        frames = [path.stem for path in true_masks(pair.truth)]
        switches = [{**s._asdict(), "frame": frames[s.frame]} for s in score.clear.switches]
        videos[pair.name] = {**_mots_summary(score), "switches": switches}
    return {"protocol": "mots", "overall": _mots_summary(combine(scores)), "videos": videos}


def _tcovis_video(
    pair: VideoPair, video_id: int, categories: dict[int, int] | None, prompted: bool
) -> VideoScore:
    """Score the annotated frames of a video; a prompted system was given each object on its first one."""
    scorer = VideoScorer(prompted, video_id, categories)
    places = {path.name: place for place, path in enumerate(list_files(pair.result, {".png"}))}
    seen: set[int] = set()
    for path in true_masks(pair.truth):
        truth, result = read_pair(path, pair.result / path.name)
        new = set(np.unique(truth).tolist()) - {0, IGNORE} - seen
        scorer.add(truth, result, new if prompted else frozenset(), places[path.name])
        seen |= new
    return scorer.result()


def _category_ids(results: Path, annotations: Path, names: list[str]) -> list[dict[int, int]]:
    """For each video {object: the id that results.json gives its category of meta.json}.

    The ids are those of categories.json beside the results, {id: name}; a category that it lacks gets an id
    of its own, which no result has.
    """
    path = results / "categories.json"
    ids = {name: int(number) for number, name in read_json(path).items()} if path.is_file() else {}
    named = read_categories(annotations / "meta.json")
    for category in sorted({category for objects in named.values() for category in objects.values()}):
        ids.setdefault(category, len(ids) + 1)
    return [{i: ids[category] for i, category in named.get(name, {}).items()} for name in names]


def _results_beside(masks: Path) -> tuple[list[dict] | None, str]:
    """The results.json beside a folder of results and its path; None, as stderr says, where there is none."""
    path = masks.parent / "results.json"
    if path.is_file():
        return read_json(path), str(path)
    print(f"AP is skipped: there is no {path}", file=sys.stderr)
    return None, str(path)


def tcovis(
    results: Path,
    annotations: Path,
    *,
    prompted: bool = False,
    use_categories: bool = False,
    num_workers: int = 0,
) -> Report:
    """The numbers of metrics.json, in percent, for a folder of inference.py; AP comes from its results.json.

    prompted: whether the system was given each object on its first annotated frame
    use_categories: whether AP tells the categories of meta.json in `annotations` apart
    """
    masks = mask_root(results)
    pairs = video_pairs(masks, mask_root(annotations))
    ranks = {name: rank for rank, name in enumerate(list_folders(masks), start=1)}
    names = [pair.name for pair in pairs]
    categories = _category_ids(masks.parent, annotations, names) if use_categories else [None] * len(pairs)
    score = partial(_tcovis_video, prompted=prompted)
    scores = score_each(score, pairs, [ranks[name] for name in names], categories, num_workers=num_workers)
    videos = {}
    for name, one in zip(names, scores, strict=True):
        numbers = summarise([one])
        videos[name] = {key: value for key, value in numbers.items() if key not in (*AP_NAMES, "videos")}
    return {"protocol": "tcovis", "overall": summarise(scores, *_results_beside(masks)), "videos": videos}


PROTOCOLS: dict[str, Callable[..., Report]] = {
    "tcovis": tcovis,
    "davis": davis,
    "davis_unsupervised": davis_unsupervised,
    "sav": sav,
    "youtube_vos": youtube_vos,
    "ytvis": ytvis,
    "mots": mots,
}
