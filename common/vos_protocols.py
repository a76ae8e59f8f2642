"""The protocols that score masks by J and F: DAVIS, unsupervised DAVIS, SA-V and YouTube-VOS.

Each takes folders of label maps and returns {"protocol", "overall": {...}, "videos": {name: {...}}}, in the names
and units of the official program; a video's entry has its objects under "objects". UserError names the file at fault.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from common.errors import UserError
from common.mask_folders import VideoPair, mask_root, read_pairs, score_each, true_masks, video_pairs
from common.metrics import pairwise_jf, statistics
from common.types import IGNORE
from common.vos_dataset import list_folders, read_categories, read_label_map

Scores = dict[str, float]
Report = dict[str, Any]
DAVIS_NAMES = ("J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
MAX_PROPOSALS = 20  # results per video that the unsupervised task allows
YOUTUBE_VOS_RULES = {
    "skip": "the frame on which an object first appears is not scored for it",
    "count": "an object is scored from the frame on which it first appears",
}


def _mean(objects: Iterable[Scores], name: str) -> float:
    values = [scores[name] for scores in objects]
    return float(np.mean(values)) if values else math.nan


def _report(protocol: str, summarise: Any, videos: dict[str, dict[str, Scores]]) -> Report:
    """A report from {video: {object: scores}}; `summarise` turns a list of objects' scores into their means."""
    return {
        "protocol": protocol,
        "overall": summarise([scores for objects in videos.values() for scores in objects.values()]),
        "videos": {name: {**summarise(objects.values()), "objects": objects} for name, objects in videos.items()},
    }


def _davis_summary(objects: Iterable[Scores]) -> Scores:
    objects = list(objects)
    means = {name: _mean(objects, name) for name in DAVIS_NAMES}
    return {"J&F-Mean": (means["J-Mean"] + means["F-Mean"]) / 2} | means


def _jf_summary(objects: Iterable[Scores]) -> Scores:
    objects = list(objects)
    J, F = _mean(objects, "J"), _mean(objects, "F")
    return {"J&F": (J + F) / 2, "J": J, "F": F}


def _davis_objects(J: np.ndarray, F: np.ndarray, official_decay: bool) -> dict[str, Scores]:
    """{object: its statistics} from the J and F of the objects 1..N, each (N, T)."""
    objects = {}
    for number, values in enumerate(zip(J, F, strict=True), start=1):
        numbers = [number for x in values for number in statistics(x, official_decay)]
        objects[str(number)] = dict(zip(DAVIS_NAMES, numbers, strict=True))
    return objects


def _davis_pairs(results: Path, annotations: Path, masks: Path, image_set: str) -> list[VideoPair]:
    """The sequences that the DAVIS root lists in ImageSets/2017/<image_set>.txt; all where there is no such list."""
    listed = annotations / "ImageSets" / "2017" / f"{image_set}.txt"
    names = listed.read_text(encoding="utf-8").split() if listed.is_file() else None
    return video_pairs(mask_root(results), masks, names)


def _check_highest(labels: np.ndarray, limit: int, path: Path, what: str) -> None:
    if labels.max(initial=0) > limit:
        raise UserError(f"{path} has the id {labels.max()}, but {what} end at {limit}: renumber the results from 1")


def _davis_video(pair: VideoPair, single_object: bool, official_decay: bool) -> dict[str, Scores]:
    """Objects are 1..N, N the largest id of the first frame; first and last frame are not scored; void is background.

    A map whose only label is 255 is a DAVIS 2016 mask of one object.
    """
    paths = true_masks(pair.truth)
    if len(paths) < 3:
        raise UserError(f"{pair.truth} has {len(paths)} masks: DAVIS leaves out the first and last, so give 3 or more")
    first = read_label_map(paths[0])
    N = int(first[first != IGNORE].max(initial=0))
    single_object = single_object or (N == 0 and IGNORE in first)
    ids = range(1, 2 if single_object else N + 1)
    J, F = [], []
    for path, (truth, result) in zip(paths[1:-1], read_pairs(paths[1:-1], pair.result), strict=True):
        if single_object:
            truth, result = (truth > 0).astype(np.uint8), (result > 0).astype(np.uint8)
        _check_highest(result, len(ids), pair.result / path.name, f"the objects of {paths[0]}")
        frame_J, frame_F = pairwise_jf(truth, result, ids, ids)
        J.append(frame_J.diagonal())
        F.append(frame_F.diagonal())
    return _davis_objects(np.array(J).T, np.array(F).T, official_decay)


def davis(
    results: Path,
    annotations: Path,
    *,
    image_set: str = "val",
    year: int = 2017,
    official_decay: bool = True,
    num_workers: int = 0,
) -> Report:
    """Semi-supervised DAVIS (davis2017-evaluation), in fractions of 1.

    year: 2016 takes every label above 0 for the one object
    official_decay: the official decay, which is wrong in videos of more than 256 frames
    """
    pairs = _davis_pairs(results, annotations, mask_root(annotations), image_set)
    score = partial(_davis_video, single_object=year == 2016, official_decay=official_decay)
    objects = score_each(score, pairs, num_workers=num_workers)
    return _report("davis", _davis_summary, {p.name: o for p, o in zip(pairs, objects, strict=True)})


def _davis_unsupervised_video(pair: VideoPair, official_decay: bool) -> dict[str, Scores]:
    """Objects as in `_davis_video`, all frames, void excluded; results are matched by mean J&F over the video."""
    paths = true_masks(pair.truth)
    first = read_label_map(paths[0])
    N = int(first[first != IGNORE].max(initial=0))
    highest, J, F = N, [], []  # results up to N at least: missing ones are empty masks
    for path, (truth, result) in zip(paths, read_pairs(paths, pair.result), strict=True):
        _check_highest(result, MAX_PROPOSALS, pair.result / path.name, "proposals")
        highest = max(highest, int(result.max(initial=0)))
        limit = max(N, MAX_PROPOSALS)
        frame_J, frame_F = pairwise_jf(truth, result, range(1, N + 1), range(1, limit + 1), truth == IGNORE)
        J.append(frame_J)
        F.append(frame_F)
    J, F = (np.array(values)[:, :, :highest] for values in (J, F))  # (T, N, proposals)
    proposals, objects = linear_sum_assignment(-(J.mean(0) + F.mean(0)).T)
    proposals = proposals[np.argsort(objects)]
    matched = np.arange(N), proposals
    return _davis_objects(J[:, *matched].T, F[:, *matched].T, official_decay)


def davis_unsupervised(
    results: Path, annotations: Path, *, image_set: str = "val", official_decay: bool = True, num_workers: int = 0
) -> Report:
    """Unsupervised DAVIS 2017 (davis2017-evaluation), in fractions of 1; options as for `davis`."""
    folders = (f"{kind}{size}" for kind in ("Annotations_unsupervised", "Annotations") for size in ("/480p", ""))
    pairs = _davis_pairs(results, annotations, mask_root(annotations, folders), image_set)
    score = partial(_davis_unsupervised_video, official_decay=official_decay)
    objects = score_each(score, pairs, num_workers=num_workers)
    return _report("davis_unsupervised", _davis_summary, {p.name: o for p, o in zip(pairs, objects, strict=True)})


def _percent_by_id(paths: list[Path], result_folder: Path, single_object: bool) -> dict[str, Scores]:
    """{id: mean J and F in percent}, by id, each from the first frame with that id in truth or result."""
    values: dict[int, list[tuple[float, float]]] = {}
    in_truth: set[int] = set()
    for truth, result in read_pairs(paths, result_folder):
        if single_object:
            truth, result = (truth > 0).astype(np.uint8), (result > 0).astype(np.uint8)
        in_truth |= set(np.unique(truth).tolist()) - {0}
        for new in np.setdiff1d(np.union1d(truth, result), [0, *values]).tolist():
            values[new] = []
        J, F = pairwise_jf(truth, result, list(values), list(values))
        for number, per_frame in enumerate(values.values()):
            per_frame.append((J[number, number], F[number, number]))
    means = {i: (100 * np.mean(values[i], axis=0)).tolist() for i in sorted(in_truth)}
    return {str(i): {"J&F": (J + F) / 2, "J": J, "F": F} for i, (J, F) in means.items()}


def _sav_video(pair: VideoPair, skip_first_and_last: bool) -> dict[str, Scores]:
    """Label maps <video>/<frame>.png, or binary masks <video>/<object>/<frame>.png, which may overlap."""
    kept = slice(1, -1) if skip_first_and_last else slice(None)
    folders = list_folders(pair.truth)
    if not folders:
        return _percent_by_id(true_masks(pair.truth)[kept], pair.result, single_object=False)
    objects = {}
    for name in folders:
        scores = _percent_by_id(true_masks(pair.truth / name)[kept], pair.result / name, single_object=True)
        objects |= {name: one for one in scores.values()}
    return objects


def sav(results: Path, annotations: Path, *, skip_first_and_last: bool = True, num_workers: int = 0) -> Report:
    """SA-V (sav_dataset and vos-benchmark), in percent.

    skip_first_and_last: leave out the first and the last annotated frame of each video
    """
    pairs = video_pairs(mask_root(results), mask_root(annotations))
    score = partial(_sav_video, skip_first_and_last=skip_first_and_last)
    objects = score_each(score, pairs, num_workers=num_workers)
    return _report("sav", _jf_summary, {p.name: o for p, o in zip(pairs, objects, strict=True)})


def _youtube_vos_video(pair: VideoPair, rule: str) -> dict[str, Scores]:
    """Objects by id from their first appearance in the truth to the last annotated frame; void is excluded."""
    values: dict[int, list[tuple[float, float]]] = {}
    for truth, result in read_pairs(paths := true_masks(pair.truth), pair.result):
        known = list(values)
        values |= {new: [] for new in np.setdiff1d(truth, [0, IGNORE, *values]).tolist()}
        scored = list(values) if rule == "count" else known
        J, F = pairwise_jf(truth, result, scored, scored, truth == IGNORE)
        for number, object_id in enumerate(scored):
            values[object_id].append((J[number, number], F[number, number]))
    assert paths
    means = {i: np.mean(x, axis=0).tolist() for i, x in sorted(values.items()) if x}
    return {str(i): {"J&F": (J + F) / 2, "J": J, "F": F} for i, (J, F) in means.items()}
