"""Tracking scores on YouTube-VIS tracks, class by class, exactly as TrackEval has them."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.errors import require
from scoring.report import Scores
from scoring.tracking_scores import TrackingAccumulator, TrackingScore
from scoring.vis_ap import AREA_RANGES, evaluate_quietly, make_evaluator, mean_of_defined
from scoring.vis_tracks import PURPOSE, Groups, Track, VisTracks
from video.rle import RLE

PER_ALPHA = ("HOTA", "DetA", "AssA", "LocA")
CLASS_MEAN, POOLED = "cls_comb_cls_av", "cls_comb_det_av"  # TrackEval's names for all classes together


def _ids_and_masks(tracks: list[Track], t: int) -> tuple[list[int], list[RLE]]:
    """Of the tracks that have a mask in frame t, be it an empty one."""
    there = [track for track in tracks if track["segmentations"][t]]
    return [track["id"] for track in there], [track["segmentations"][t] for track in there]


def score_video(truth: list[Track], results: list[Track], length: int) -> TrackingScore:
    """The score of the tracks of one video and class, over its `length` frames."""
    coder = require("pycocotools.mask", PURPOSE)
    accumulator = TrackingAccumulator()
    for t in range(length):
        (truth_ids, truth_masks), (result_ids, masks) = (_ids_and_masks(side, t) for side in (truth, results))
        iou = np.zeros((len(truth_ids), len(result_ids)))
        if iou.size:
            iou = coder.iou(truth_masks, masks, [0] * len(masks))
        accumulator.add(truth_ids, result_ids, iou)
    return accumulator.score()


def _for_track_map(tracks: VisTracks, video_names: dict[int, str]) -> VisTracks:
    """The tracks as TrackMAP sees them: videos numbered by name, the first result with id 0, no crowds."""
    in_order = sorted(tracks.lengths, key=video_names.__getitem__)
    rank = {video: place for place, video in enumerate(in_order)}
    numbered = ((rank[video], track["id"]) for (video, _), group in tracks.results.items() for track in group)
    first = min(numbered, default=None)
    truth: Groups = defaultdict(list)
    results: Groups = defaultdict(list)
    for (video, category), group in tracks.truth.items():
        truth[rank[video], category] = [{**track, "iscrowd": 0} for track in group]
    for (video, category), group in tracks.results.items():
        results[rank[video], category] = [
            {**track, "id": 0} if (rank[video], track["id"]) == first else track for track in group
        ]
    lengths = {rank[video]: tracks.lengths[video] for video in in_order}
    return VisTracks(lengths, tracks.categories, truth, results)


def track_map(tracks: VisTracks, video_names: dict[int, str]) -> dict[int, float]:
    """{category: TrackEval's TrackMAP} in [0, 1], -1 without truth: an AP that is not the official one.

    Its quirks: videos stand in the order of their names, which decides between equal scores; a crowd is
    matched once; results have no limit, and ids from 0, which the matcher takes for "nobody", so that the
    object of the very first result can be taken again.
    """
    limit = max([1, *map(len, tracks.results.values())])
    evaluator = make_evaluator(_for_track_map(tracks, video_names), [limit])
    evaluator.params.areaRng = AREA_RANGES[:1]
    evaluator.params.iouThrs = np.arange(0.5, 0.96, 0.05) - np.finfo(np.float64).eps
    evaluate_quietly(evaluator)
    precision = evaluator.eval["precision"]
    return {category: mean_of_defined(precision[:, :, k]) for k, category in enumerate(tracks.categories)}


def _scores_of(score: TrackingScore, ap: float) -> Scores:
    hota = score.hota.scores()
    return {
        "HOTA": {name: float(values.mean()) for name, values in hota.items()},
        "CLEAR": score.clear.scores(),
        "Identity": score.identity.scores(),
        "TrackMAP": ap,
        "per_alpha": {name: hota[name].tolist() for name in PER_ALPHA},
    }


def _mean_of_classes(values: Sequence[Any]) -> Any:
    """The mean of each number over classes, empty ones in; counts, the whole numbers, are added."""
    if isinstance(values[0], dict):
        return {name: _mean_of_classes([value[name] for value in values]) for name in values[0]}
    return sum(values) if isinstance(values[0], int) else np.mean(values, axis=0).tolist()


def score_classes(tracks: VisTracks, names: dict[int, str], video_names: dict[int, str]) -> dict[str, Scores]:
    """{class: {"HOTA", "CLEAR", "Identity", "TrackMAP", "per_alpha"}} in fractions of 1, TrackEval's names.

    names: {category: its class}; video_names: {video id: name}
    Two more stand for all classes, if there are any: "cls_comb_cls_av" has the mean of their scores,
    "cls_comb_det_av" the score of all detections; the TrackMAP of both is the mean of those that are defined.
    """
    ap = track_map(tracks, video_names)
    scores = {
        category: TrackingScore.total(
            score_video(tracks.truth[video, category], tracks.results[video, category], length)
            for video, length in tracks.lengths.items()
            if tracks.truth[video, category] or tracks.results[video, category]
        )
        for category in tracks.categories
    }
    classes = {names[category]: _scores_of(score, ap[category]) for category, score in scores.items()}
    if not classes:
        return {}
    mean_ap = mean_of_defined(np.array([*ap.values()]))
    mean = _mean_of_classes([*classes.values()]) | {"TrackMAP": mean_ap}
    pooled = _scores_of(TrackingScore.total(scores.values()), mean_ap)
    return classes | {CLASS_MEAN: mean, POOLED: pooled}
