"""The protocols of DAVIS, with the objects of the first frame given or not (davis2017-evaluation, TrackEval).

Reports are in the names and units of the official programs. UserError names the file at fault.
"""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import UserError
from common.files import read_text
from scoring.counts import best_pairs
from scoring.jf import pairwise_jf, statistics
from scoring.jf_table import JFTable
from scoring.label_folders import MASK_FOLDERS, VideoPair, mask_root, read_pairs, score_folders, true_masks
from scoring.report import Report, ScoredVideo, Scores, mean_of, name_ids, report_objects
from video.images import read_label_map, shows_one_object
from video.label_maps import objects_in, void_in

DAVIS_NAMES = ("J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
MAX_PROPOSALS = 20  # results per video that the unsupervised task allows
GOOD = 0.5  # recall is the share of frames above it
DAVIS_FOLDERS = (*MASK_FOLDERS, "480p")
UNSUPERVISED_FOLDERS = ("Annotations_unsupervised/480p", "Annotations_unsupervised", *DAVIS_FOLDERS)


class MatchedObjects(NamedTuple):
    """The K objects of a video over the T frames that are scored, each with the result that it is matched to.

    ids: (K,) of the objects; proposals: (K,) of the results, None for an empty one
    J, F: (K, T) float64
    warnings: what is silently left out
    """

    ids: list[int]
    proposals: list[int | None]
    J: np.ndarray
    F: np.ndarray
    warnings: list[str]


def num_objects(first: np.ndarray) -> int:
    """N, the highest id of the first true mask of a video, void aside: its objects are 1..N."""
    return max(objects_in(first), default=0)


def _never_scored(truth: Path, ids: Collection[int], N: int) -> list[str]:
    late = {i for i in ids if i > N}
    if not late:
        return []
    return [f"{truth}: DAVIS never scores {name_ids(late)}, above the highest of the first mask ({N})"]


def _check_highest(labels: np.ndarray, limit: int, path: Path, what: str) -> None:
    if labels.max(initial=0) > limit:
        raise UserError(
            f"{path} has the id {labels.max()}, but {what} end at {limit}: renumber the results from 1"
        )


def match_by_id(pair: VideoPair, single_object: bool = False) -> MatchedObjects:
    """The semi-supervised task: objects are 1..N, N the highest id of the first frame; results have the same.

    The first and the last frame are not scored. Void is background. Where there is one object, as in
    DAVIS 2016, every label above 0 is its result.
    """
    paths = true_masks(pair.truth)
    if len(paths) < 3:
        raise UserError(
            f"{pair.truth} has {len(paths)} masks: DAVIS leaves out the first and last, so give 3 or more"
        )
    single_object = single_object or shows_one_object(paths)
    ids = range(1, 1 + (1 if single_object else num_objects(read_label_map(paths[0]))))
    J, F, true_ids = [], [], set()
    for path, (truth, result) in zip(paths[1:-1], read_pairs(paths[1:-1], pair.result), strict=True):
        if single_object:
            truth, result = (truth > 0).astype(np.uint8), (result > 0).astype(np.uint8)
        _check_highest(result, len(ids), pair.result / path.name, f"the objects of {paths[0]}")
        frame_J, frame_F = pairwise_jf(truth, result, ids, ids)
        J.append(frame_J.diagonal())
        F.append(frame_F.diagonal())
        true_ids.update(objects_in(truth))
    warnings = _never_scored(pair.truth, true_ids, len(ids))
    return MatchedObjects([*ids], [*ids], np.array(J).T, np.array(F).T, warnings)


def _assign(table: JFTable, objects: list[int], results: list[int], J_alone: bool) -> MatchedObjects:
    """Match objects to results for the most mean J, or mean J plus mean F, over the video."""
    J, F = table.scores(objects, results)  # each (T, K, N)
    quality = J.mean(0) if J_alone else J.mean(0) + F.mean(0)
    columns, rows = best_pairs(quality.T)  # results first, as officially: it decides between ties
    order = np.argsort(rows)
    rows, columns = rows[order], columns[order]
    proposals = [results[column] for column in columns]
    return MatchedObjects(objects, proposals, J[:, rows, columns].T, F[:, rows, columns].T, [])


def match_proposals(pair: VideoPair) -> MatchedObjects:
    """The unsupervised task: objects as in `match_by_id`; all frames, void excluded, at most 20 proposals."""
    paths = true_masks(pair.truth)
    N = num_objects(read_label_map(paths[0]))
    table = JFTable()
    for path, (truth, result) in zip(paths, read_pairs(paths, pair.result), strict=True):
        _check_highest(result, MAX_PROPOSALS, pair.result / path.name, "proposals")
        table.add(truth, result, void_in(truth))
    proposals = range(1, max(N, *table.results, 0) + 1)  # up to N at least: missing ones are empty masks
    matched = _assign(table, [*range(1, N + 1)], [*proposals], J_alone=False)
    return matched._replace(warnings=_never_scored(pair.truth, table.objects, N))


def match_tracks(pair: VideoPair) -> MatchedObjects:
    """The task as TrackEval has it: the objects of all frames, any number of results, matched by J alone."""
    table = JFTable()
    for truth, result in read_pairs(true_masks(pair.truth), pair.result):
        table.add(truth, result, void_in(truth))
    objects, results = sorted(table.objects), sorted(table.results)
    padding = [0] * max(0, len(objects) - len(results))  # 0 never comes as an id: an empty mask
    matched = _assign(table, objects, [*results, *padding], J_alone=True)
    return matched._replace(proposals=[proposal or None for proposal in matched.proposals])


def _score_video(
    pair: VideoPair,
    match: Callable[[VideoPair], MatchedObjects],
    official_decay: bool,
    good: float = GOOD,
    name_proposals: bool = True,
) -> ScoredVideo:
    """The statistics of each object of a video; the result that it is matched to stands under "proposal".

    good: what J or F has to exceed to count for recall
    """
    matched = match(pair)
    objects = {}
    for object_id, proposal, *values in zip(
        matched.ids, matched.proposals, matched.J, matched.F, strict=True
    ):
        numbers = []
        for x in values:
            mean, _, decay = statistics(x, official_decay)
            numbers += [mean, float(np.mean(x > good)), decay]
        scores = dict(zip(DAVIS_NAMES, numbers, strict=True))
        objects[str(object_id)] = scores | ({"proposal": proposal} if name_proposals else {})
    return ScoredVideo(objects, matched.warnings)


def summarise_davis(objects: Collection[Scores]) -> Scores:
    """The numbers of the official table: means over objects."""
    means = {name: mean_of(objects, name) for name in DAVIS_NAMES}
    return {"J&F-Mean": (means["J-Mean"] + means["F-Mean"]) / 2} | means


def summarise_trackeval(objects: Collection[Scores]) -> Scores:
    """TrackEval's numbers: its mean over videos by their number of objects is the mean over objects."""
    scores = summarise_davis(objects)
    return {"J&F": scores.pop("J&F-Mean")} | scores | {"num_gt_tracks": len(objects)}


def list_folders_of(image_set: str, unsupervised: bool) -> list[str]:
    """The folders of ImageSets to look in: the unsupervised test-dev and test-challenge are those of 2019."""
    return ["2019"] * (unsupervised and image_set.startswith("test")) + ["2017"]


def listed_sequences(root: Path, image_set: str, folders: Collection[str]) -> list[str] | None:
    """The names in ImageSets/<folder>/<image_set>.txt, of the first folder with it; None without ImageSets.

    A line is a name, or begins with a frame's path, as in DAVIS 2016. UserError where no folder has the set.
    """
    if not (root / "ImageSets").is_dir():
        return None
    lists = [root / "ImageSets" / folder / f"{image_set}.txt" for folder in folders]
    path = next((path for path in lists if path.exists()), None)
    if path is None:
        raise UserError(f"there is no {lists[0]}: name a set that is there, such as val or test-dev")
    lines = read_text(path).replace("\\", "/").splitlines()
    firsts = [line.split()[0] for line in lines if line.strip()]
    return list(dict.fromkeys(Path(first).parent.name if "/" in first else first for first in firsts))


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

    image_set: score the videos of ImageSets/<year>/<image_set>.txt; all where there is no folder ImageSets
    year: 2017, or 2016, which takes every label above 0 for the one object
    official_decay: the official decay, which is wrong in videos of more than 256 frames
    """
    folders = {2016: ("2016", "480p"), 2017: ("2017",)}
    if year not in folders:
        raise UserError(f"unknown --year {year}: choose 2016 or 2017")
    masks = mask_root(annotations, DAVIS_FOLDERS)
    names = listed_sequences(annotations, image_set, folders[year])
    match = partial(match_by_id, single_object=year == 2016)
    score = partial(_score_video, match=match, official_decay=official_decay, name_proposals=False)
    videos, warnings = score_folders(score, mask_root(results), masks, names=names, num_workers=num_workers)
    return report_objects("davis", summarise_davis, videos, warnings)


def davis_unsupervised(
    results: Path,
    annotations: Path,
    *,
    definition: str = "davis",
    image_set: str = "val",
    official_decay: bool = True,
    num_workers: int = 0,
) -> Report:
    """Unsupervised DAVIS 2017, in fractions of 1; each object names its result under "proposal";
    the official table numbers the objects in the order of these.

    definition: davis (davis2017-evaluation): the objects of the first frame, at most 20 proposals, matched by
    the sum of J and F; trackeval (TrackEval's J&F): the objects of all frames, any number of results, matched
    by J alone
    image_set: score the videos of ImageSets/<year>/<image_set>.txt; all where there is no folder ImageSets
    official_decay: the official decay, which is wrong in videos of more than 256 frames
    """
    definitions = {
        "davis": (match_proposals, GOOD, summarise_davis),
        "trackeval": (match_tracks, GOOD + np.finfo(np.float64).eps, summarise_trackeval),
    }
    if definition not in definitions:
        raise UserError(f"unknown definition {definition}: choose among {', '.join(definitions)}")
    match, good, summarise = definitions[definition]
    masks = mask_root(annotations, UNSUPERVISED_FOLDERS)
    names = listed_sequences(annotations, image_set, list_folders_of(image_set, unsupervised=True))
    score = partial(_score_video, match=match, official_decay=official_decay, good=good)
    videos, warnings = score_folders(score, mask_root(results), masks, names=names, num_workers=num_workers)
    return report_objects("davis_unsupervised", summarise, videos, warnings, definition=definition)
