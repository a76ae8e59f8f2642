"""YouTube-VIS average precision: pycocotools counts tracks that are matched by their IoU over the video."""

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.errors import require
from scoring.vis_tracks import PURPOSE, Track, VisTracks, read_tracks, track_ious

AREA_RANGES = [
    [0, 1e10],
    [0, 128**2],
    [128**2, 256**2],
    [256**2, 1e10],
]  # of a track's mean mask: all, s, m, l
MAX_RESULTS = [1, 10, 100]  # per video and category


@dataclass
class VideoAP:
    """Precision and recall as COCO accumulates them; -1 where there is no truth.

    precision: (10 thresholds, 101 recalls, categories, 4 area ranges, 3 limits of results)
    recall: (10, categories, 4, 3)
    categories: the category id of each row of the axis, -1 where categories were not distinguished
    videos: {video id: AP and AP50 of that video alone}
    """

    precision: np.ndarray
    recall: np.ndarray
    categories: list[int]
    videos: dict[int, dict[str, float]]

    def scores(self) -> dict[str, float]:
        """The official numbers in [0, 1]: AP over all thresholds, at one, by area; AR by limit, by area."""
        precision, recall = self.precision[..., 2], self.recall
        return {
            "AP": mean_of_defined(precision[..., 0]),
            "AP50": mean_of_defined(precision[0, ..., 0]),
            "AP75": mean_of_defined(precision[5, ..., 0]),
            "APs": mean_of_defined(precision[..., 1]),
            "APm": mean_of_defined(precision[..., 2]),
            "APl": mean_of_defined(precision[..., 3]),
            "AR1": mean_of_defined(recall[..., 0, 0]),
            "AR10": mean_of_defined(recall[..., 0, 1]),
            "AR100": mean_of_defined(recall[..., 0, 2]),
            "ARs": mean_of_defined(recall[..., 1, 2]),
            "ARm": mean_of_defined(recall[..., 2, 2]),
            "ARl": mean_of_defined(recall[..., 3, 2]),
        }

    def per_category(self) -> dict[int, dict[str, float]]:
        """AP and AR100 of each category."""
        return {
            category: {
                "AP": mean_of_defined(self.precision[:, :, k, 0, 2]),
                "AR100": mean_of_defined(self.recall[:, k, 0, 2]),
            }
            for k, category in enumerate(self.categories)
        }


def mean_of_defined(values: np.ndarray) -> float:
    """The mean of what is above -1, which stands for undefined; -1 where nothing is."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0


def make_evaluator(tracks: VisTracks, max_results: list[int]) -> Any:
    """COCOeval on tracks: they are in place, and matched by their IoU over the video.

    max_results: limits of results per video and category, ascending
    """
    evaluator = require("pycocotools.cocoeval", PURPOSE).COCOeval(iouType="bbox")
    evaluator._gts, evaluator._dts = tracks.truth, tracks.results
    evaluator._prepare = lambda: None  # COCOeval would look for images

    def ious(video: int, category: int) -> np.ndarray:
        results = by_score(tracks.results[video, category])[: max_results[-1]]
        return track_ious(results, tracks.truth[video, category])

    evaluator.computeIoU = ious
    parameters = evaluator.params
    parameters.imgIds, parameters.catIds = list(tracks.lengths), tracks.categories
    parameters.areaRng, parameters.maxDets = AREA_RANGES, max_results
    return evaluator


def by_score(results: list[Track]) -> list[Track]:
    """The results in the order in which COCOeval walks them."""
    return sorted(results, key=lambda track: -track["score"])


def evaluate_quietly(evaluator: Any) -> None:
    """Let COCOeval match and accumulate without its messages."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()
        evaluator.accumulate()


def _ap_of_videos(evaluator: Any) -> dict[int, dict[str, float]]:
    """{video id: AP and AP50 of the video alone} from an evaluator that has matched all of them."""
    parameters, matches = evaluator.params, evaluator.evalImgs
    videos, categories = parameters.imgIds, parameters.catIds
    per_category = len(parameters.areaRng) * len(videos)
    parameters.areaRng, parameters.maxDets = parameters.areaRng[:1], parameters.maxDets[-1:]
    scores = {}
    for place, video in enumerate(videos):
        there = [k for k, category in enumerate(categories) if evaluator._gts[video, category]]
        parameters.imgIds, parameters.catIds = [video], [categories[k] for k in there]
        evaluator.evalImgs = [matches[k * per_category + place] for k in there]
        evaluator._paramsEval = parameters
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator.accumulate()
        precision = evaluator.eval["precision"]
        scores[int(video)] = {"AP": mean_of_defined(precision), "AP50": mean_of_defined(precision[0])}
    return scores


def average_precision(
    truth: dict,
    results: list[dict],
    use_categories: bool = True,
    truth_name: str = "the annotations",
    results_name: str = "the results",
) -> VideoAP:
    """Score a results list against annotations, as `read_tracks` takes them, as ytvoseval does."""
    return score_tracks(read_tracks(truth, results, use_categories, truth_name, results_name))


def score_tracks(tracks: VisTracks) -> VideoAP:
    """Score tracks as ytvoseval does."""
    evaluator = make_evaluator(tracks, MAX_RESULTS)
    evaluate_quietly(evaluator)
    return VideoAP(
        evaluator.eval["precision"], evaluator.eval["recall"], tracks.categories, _ap_of_videos(evaluator)
    )
