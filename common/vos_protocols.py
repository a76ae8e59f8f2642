"""The protocols that score masks by J and F: DAVIS, unsupervised DAVIS, SA-V and YouTube-VOS.

Each takes folders of label maps and returns {"protocol", "overall": {...}, "videos": {name: {...}}}, in the
names and units of the official program; a video's entry has its objects under "objects". What is undefined is
None. UserError names the file at fault.
"""

import math
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


def null_for_nan(value: Any) -> Any:
    """The value with None for every NaN in its dictionaries, as JSON wants it."""
    if isinstance(value, dict):
        return {key: null_for_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _report(protocol: str, summarise: Any, videos: dict[str, dict[str, Scores]]) -> Report:
    """A report from {video: {object: scores}}; `summarise` takes the means of objects' scores."""
    report = {
        "protocol": protocol,
        "overall": summarise([scores for objects in videos.values() for scores in objects.values()]),
        "videos": {
            name: {**summarise(objects.values()), "objects": objects} for name, objects in videos.items()
        },
    }
    return null_for_nan(report)


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
    """The sequences in ImageSets/2017/<image_set>.txt of the DAVIS root; all where there is no such list."""
    listed = annotations / "ImageSets" / "2017" / f"{image_set}.txt"
    names = listed.read_text(encoding="utf-8").split() if listed.is_file() else None
    return video_pairs(mask_root(results), masks, names)


def _check_highest(labels: np.ndarray, limit: int, path: Path, what: str) -> None:
    if labels.max(initial=0) > limit:
        raise UserError(
            f"{path} has the id {labels.max()}, but {what} end at {limit}: renumber the results from 1"
        )


def _davis_video(pair: VideoPair, single_object: bool, official_decay: bool) -> dict[str, Scores]:
    """Objects are 1..N, N the largest id of the first frame; the first and the last frame are not scored.

    Void is background. A map whose only label is 255 is a DAVIS 2016 mask of one object.
    """
    paths = true_masks(pair.truth)
    if len(paths) < 3:
        raise UserError(
            f"{pair.truth} has {len(paths)} masks: DAVIS leaves out the first and last, so give 3 or more"
        )
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
    """Objects as in `_davis_video`; all frames, void excluded; results matched by mean J&F over the video.

    Each object names its result under "proposal"; the official program numbers the objects in that order.
    """
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
    scores = _davis_objects(J[:, objects, proposals].T, F[:, objects, proposals].T, official_decay)
    numbers = zip(objects.tolist(), proposals.tolist(), scores.values(), strict=True)
    return {str(i + 1): {**one, "proposal": proposal + 1} for i, proposal, one in sorted(numbers)}


def davis_unsupervised(
    results: Path,
    annotations: Path,
    *,
    image_set: str = "val",
    official_decay: bool = True,
    num_workers: int = 0,
) -> Report:
    """Unsupervised DAVIS 2017 (davis2017-evaluation), in fractions of 1; options as for `davis`."""
    folders = (
        f"{kind}{size}" for kind in ("Annotations_unsupervised", "Annotations") for size in ("/480p", "")
    )
    pairs = _davis_pairs(results, annotations, mask_root(annotations, folders), image_set)
    score = partial(_davis_unsupervised_video, official_decay=official_decay)
    objects = score_each(score, pairs, num_workers=num_workers)
    return _report(
        "davis_unsupervised", _davis_summary, {p.name: o for p, o in zip(pairs, objects, strict=True)}
    )


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
        objects.update((name, one) for one in scores.values())
    return objects


def sav(
    results: Path, annotations: Path, *, skip_first_and_last: bool = True, num_workers: int = 0
) -> Report:
    """SA-V (sav_dataset and vos-benchmark), in percent.

    skip_first_and_last: leave out the first and the last annotated frame of each video
    """
    pairs = video_pairs(mask_root(results), mask_root(annotations))
    score = partial(_sav_video, skip_first_and_last=skip_first_and_last)
    objects = score_each(score, pairs, num_workers=num_workers)
    return _report("sav", _jf_summary, {p.name: o for p, o in zip(pairs, objects, strict=True)})


def _youtube_vos_video(pair: VideoPair, rule: str) -> dict[str, Scores]:
    """{id: mean J and F}, by id, to the last annotated frame; void is excluded.

    An object that appears on the last frame alone is left out where its first frame is skipped.
    """
    values: dict[int, list[tuple[float, float]]] = {}
    for truth, result in read_pairs(true_masks(pair.truth), pair.result):
        known = list(values)
        for new in np.setdiff1d(truth, [0, IGNORE, *known]).tolist():
            values[new] = []
        scored = known if rule == "skip" else list(values)
        J, F = pairwise_jf(truth, result, scored, scored, truth == IGNORE)
        for number, object_id in enumerate(scored):
            values[object_id].append((J[number, number], F[number, number]))
    means = {i: np.mean(values[i], axis=0).tolist() for i in sorted(values) if values[i]}
    return {str(i): {"J&F": (J + F) / 2, "J": J, "F": F} for i, (J, F) in means.items()}


def _youtube_vos_overall(seen: list[Scores], unseen: list[Scores]) -> Scores:
    """The official G is the mean of the other four; of those that are defined where a group has no object."""
    groups = {"seen": seen, "unseen": unseen}
    means = {f"{name}_{group}": _mean(groups[group], name) for name in "JF" for group in groups}
    defined = [value for value in means.values() if not math.isnan(value)]
    return {"G": float(np.mean(defined)) if defined else math.nan} | means


def _categories(path: Path, purpose: str) -> dict[str, dict[int, str]]:
    if not path.is_file():
        raise UserError(f"there is no {path}, which says {purpose}: put the meta.json of YouTube-VOS there")
    return read_categories(path)


def youtube_vos(
    results: Path,
    annotations: Path,
    *,
    train_meta: Path | None = None,
    first_frame: str = "skip",
    num_workers: int = 0,
) -> Report:
    """YouTube-VOS with seen and unseen categories, in fractions of 1; the report names the rule under "rule".

    annotations: a root with meta.json and Annotations, which holds every true mask
    train_meta: the meta.json of the training set, whose categories are the seen ones; by default that of the
    folder "train" beside the root
    first_frame: a key of YOUTUBE_VOS_RULES; the official server does not say what it does
    """
    if first_frame not in YOUTUBE_VOS_RULES:
        raise UserError(
            f"unknown rule {first_frame} for the first frame: choose among {', '.join(YOUTUBE_VOS_RULES)}"
        )
    masks = mask_root(annotations)
    root = annotations if (annotations / "meta.json").is_file() else masks.parent
    categories = _categories(root / "meta.json", "the category of each object")
    training = _categories(train_meta or root.parent / "train" / "meta.json", "which categories are seen")
    seen = {category for objects in training.values() for category in objects.values()}
    pairs = video_pairs(mask_root(results), masks)
    scores = score_each(partial(_youtube_vos_video, rule=first_frame), pairs, num_workers=num_workers)
    groups: dict[bool, list[Scores]] = {True: [], False: []}
    for pair, objects in zip(pairs, scores, strict=True):
        for object_id, one in objects.items():
            try:
                category = categories[pair.name][int(object_id)]
            except KeyError:
                raise UserError(
                    f"{root / 'meta.json'} lacks object {object_id} of video {pair.name}: add it"
                ) from None
            groups[category in seen].append(one)
    report = _report("youtube_vos", _jf_summary, {p.name: o for p, o in zip(pairs, scores, strict=True)})
    rule = YOUTUBE_VOS_RULES[first_frame]
    overall = null_for_nan(_youtube_vos_overall(groups[True], groups[False]))
    return report | {"overall": overall, "rule": rule}
