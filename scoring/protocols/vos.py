"""The protocols that score masks by J and F with the objects given: SA-V and YouTube-VOS.

Reports are in the names and units of the official programs. UserError names the file at fault.
"""

import math
from functools import partial
from pathlib import Path

import numpy as np

from annotated.videos import read_categories
from common.errors import UserError
from scoring.jf import pairwise_jf
from scoring.label_folders import MASK_FOLDERS, VideoPair, mask_root, read_pairs, score_folders, true_masks
from scoring.report import (
    Report,
    ScoredVideo,
    Scores,
    mean_jf,
    mean_of,
    name_ids,
    null_for_undefined,
    report_objects,
)
from video.images import list_folders, read_label_map
from video.label_maps import ids_in, objects_in, void_in

SAV_FOLDERS = ("Annotations_6fps", *MASK_FOLDERS)
YOUTUBE_VOS_RULES = {
    "skip": "the frame on which an object first appears is not scored for it",
    "count": "an object is scored from the frame on which it first appears",
}


def _mean_objects(values: dict[int, list[tuple[float, float]]], scale: float) -> dict[str, Scores]:
    """{id: its scores} by id, from its J and F on the frames that count for it; left out where none does."""
    means = {i: (scale * np.mean(values[i], axis=0)).tolist() for i in sorted(values) if values[i]}
    return {str(i): {"J&F": (J + F) / 2, "J": J, "F": F} for i, (J, F) in means.items()}


def _check_single(labels: np.ndarray, path: Path) -> None:
    if len(ids := ids_in(labels)) > 1:
        raise UserError(f"{path} has {name_ids(ids)}: a mask in the folder of one object has one id")


def _sav_objects(paths: list[Path], result_folder: Path, single_object: bool) -> ScoredVideo:
    """J and F in percent, by id, each from the first frame with that id in truth or result."""
    values: dict[int, list[tuple[float, float]]] = {}
    in_truth: set[int] = set()
    for path, (truth, result) in zip(paths, read_pairs(paths, result_folder), strict=True):
        if single_object:
            _check_single(truth, path)
            _check_single(result, result_folder / path.name)
            truth, result = (truth > 0).astype(np.uint8), (result > 0).astype(np.uint8)
        true_ids = ids_in(truth)
        in_truth.update(true_ids)
        for i in (*true_ids, *ids_in(result)):
            values.setdefault(i, [])
        J, F = pairwise_jf(truth, result, list(values), list(values))
        for number, per_frame in enumerate(values.values()):
            per_frame.append((J[number, number], F[number, number]))
    unknown = [i for i in values if i not in in_truth]
    what = "the object" if single_object else name_ids(unknown)
    line = f"{result_folder}: SA-V ignores {what}, which the true masks that are scored lack"
    objects = _mean_objects({i: values[i] for i in in_truth}, scale=100)
    return ScoredVideo(objects, [line] if unknown else [])


def _score_sav(pair: VideoPair, skip_first_and_last: bool) -> ScoredVideo:
    """Label maps <video>/<frame>.png, or binary masks <video>/<object>/<frame>.png, which may overlap."""
    folders = list_folders(pair.truth)
    objects: dict[str, Scores] = {}
    warnings = []
    if unknown := {*list_folders(pair.result)} - {*folders} if folders else set():
        warnings.append(f"{pair.result}: SA-V ignores {name_ids(unknown)}, which the truth lacks")
    for folder in folders or ["."]:
        paths = true_masks(pair.truth / folder)
        if skip_first_and_last and len(paths) < 3:
            few = f"{pair.truth / folder} has {len(paths)} masks"
            warnings.append(f"{few}: SA-V leaves out the first and the last, so nothing is scored")
        kept = paths[1:-1] if skip_first_and_last else paths
        one = _sav_objects(kept, pair.result / folder, single_object=bool(folders))
        objects |= {folder if folders else i: scores for i, scores in one.objects.items()}
        warnings += one.warnings
        if kept != paths:
            ends = {str(i) for path in (paths[0], paths[-1]) for i in ids_in(read_label_map(path))}
            lost = (
                ends - one.objects.keys() if not folders else {folder} if ends and not one.objects else set()
            )
            if lost and kept:
                warnings.append(
                    f"{pair.truth}: SA-V scores no first and last mask, so {name_ids(lost)} is left out"
                )
    return ScoredVideo(objects, warnings)


def sav(
    results: Path, annotations: Path, *, skip_first_and_last: bool = True, num_workers: int = 0
) -> Report:
    """SA-V (sav_dataset and vos-benchmark), in percent.

    skip_first_and_last: leave out the first and the last annotated frame of each video
    """
    masks = mask_root(annotations, SAV_FOLDERS)
    score = partial(_score_sav, skip_first_and_last=skip_first_and_last)
    videos, warnings = score_folders(score, mask_root(results), masks, num_workers=num_workers)
    return report_objects("sav", mean_jf, videos, warnings)


def _score_youtube_vos(pair: VideoPair, rule: str) -> ScoredVideo:
    """J and F, by id, to the last annotated frame; void is excluded.

    An object that appears on the last frame alone is left out where its first frame is skipped.
    """
    values: dict[int, list[tuple[float, float]]] = {}
    in_results: set[int] = set()
    for truth, result in read_pairs(true_masks(pair.truth), pair.result):
        earlier = list(values)
        values |= {new: [] for new in objects_in(truth) if new not in values}
        in_results.update(ids_in(result))
        scored = earlier if rule == "skip" else list(values)
        J, F = pairwise_jf(truth, result, scored, scored, void_in(truth))
        for number, object_id in enumerate(scored):
            values[object_id].append((J[number, number], F[number, number]))
    warnings = []
    if unknown := in_results - values.keys():
        warnings.append(f"{pair.result}: YouTube-VOS ignores {name_ids(unknown)}, which the truth lacks")
    if unscored := [i for i in values if not values[i]]:
        warnings.append(f"{pair.truth}: no score for {name_ids(unscored)}, new on the last mask")
    return ScoredVideo(_mean_objects(values, scale=1), warnings)


def _youtube_vos_overall(seen: list[Scores], unseen: list[Scores]) -> Scores:
    """The official G is the mean of the other four; of those that are defined where a group has no object."""
    groups = {"seen": seen, "unseen": unseen}
    means = {f"{name}_{group}": mean_of(groups[group], name) for name in "JF" for group in groups}
    defined = [value for value in means.values() if not math.isnan(value)]
    return {"G": float(np.mean(defined)) if defined else math.nan} | means


def _categories(path: Path, purpose: str) -> dict[str, dict[int, str]]:
    if not path.exists():
        remedy = "put the meta.json of YouTube-VOS there, or name that of the training set by --train_meta"
        raise UserError(f"there is no {path}, which says {purpose}: {remedy}")
    return read_categories(path)


def youtube_vos(
    results: Path,
    annotations: Path,
    *,
    train_meta: str | Path | None = None,
    first_frame: str = "skip",
    num_workers: int = 0,
) -> Report:
    """YouTube-VOS with seen and unseen categories, in fractions of 1; the report names the rule under "rule".

    annotations: a root with meta.json and Annotations, which holds every true mask
    train_meta: the meta.json of the training set, whose categories are the seen ones; by default that of the
    folder "train" beside the root
    first_frame: skip (the frame on which an object first appears is not scored for it) or count (it is); the
    official server does not say what it does
    """
    if first_frame not in YOUTUBE_VOS_RULES:
        raise UserError(
            f"unknown rule {first_frame} for the first frame: choose among {', '.join(YOUTUBE_VOS_RULES)}"
        )
    masks = mask_root(annotations)
    root = annotations if (annotations / "meta.json").exists() else masks.parent
    categories = _categories(root / "meta.json", "the category of each object")
    training = _categories(
        Path(train_meta or root.parent / "train" / "meta.json"), "which categories are seen"
    )
    seen = {category for objects in training.values() for category in objects.values()}
    score = partial(_score_youtube_vos, rule=first_frame)
    videos, warnings = score_folders(score, mask_root(results), masks, num_workers=num_workers)
    groups: dict[bool, list[Scores]] = {True: [], False: []}
    for name, video in videos.items():
        for object_id, one in video.objects.items():
            category = categories.get(name, {}).get(int(object_id))
            if category is None:
                raise UserError(f"{root / 'meta.json'} lacks object {object_id} of video {name}: add it")
            groups[category in seen].append(one)
    rule = YOUTUBE_VOS_RULES[first_frame]
    report = report_objects("youtube_vos", mean_jf, videos, warnings, rule=rule)
    return report | {"overall": null_for_undefined(_youtube_vos_overall(groups[True], groups[False]))}
