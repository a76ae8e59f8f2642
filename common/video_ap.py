"""YouTube-VIS average precision: pycocotools counts tracks that are matched by their IoU over the video."""

import contextlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.errors import UserError, require
from common.masks import RLE, encode_rle
from common.types import IGNORE
from common.vis_tracks import PURPOSE, Track, VisTracks, check_results, read_tracks, track_ious

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
    categories: the category id of each row of the axis, -1 where categories were not told apart
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


class TruthTracks:
    """The true tracks of one video in the YouTube-VIS form, built from its annotated label maps one by one.

    frames: the number of each annotated frame in its video, by which results are looked up
    """

    def __init__(self, video_id: int, categories: Mapping[int, int] | None = None) -> None:
        """video_id: as in the results; categories: the category id of each object, 1 for all where None."""
        self.video_id = video_id
        self.categories = categories
        self.frames: list[int] = []
        self._size = (0, 0)
        self._tracks: dict[int, dict[int, RLE]] = {}  # {object id: {position in frames: mask}}
        self._scored: list[RLE | None] = []

    def add(self, labels: np.ndarray, frame: int) -> None:
        """Take the (H, W) label map of frame number `frame`; 255 marks pixels that count for nothing."""
        for object_id in np.setdiff1d(labels, [0, IGNORE]).tolist():
            self._tracks.setdefault(object_id, {})[len(self.frames)] = encode_rle(labels == object_id)
        void = labels == IGNORE
        self._scored.append(encode_rle(~void) if void.any() else None)
        self._size = labels.shape
        self.frames.append(frame)

    def video(self) -> dict:
        """The entry of the list "videos"."""
        height, width = self._size
        sizes = {"height": int(height), "width": int(width), "length": len(self.frames)}
        return {"id": self.video_id, **sizes, "scored": self._scored}

    def annotations(self) -> list[dict]:
        """The entries of the list "annotations", one for each object, in the order of their ids."""
        coder = require("pycocotools.mask", PURPOSE)
        annotations = []
        for object_id, masks in sorted(self._tracks.items()):
            segmentations = [masks.get(t) for t in range(len(self.frames))]
            annotations.append(
                {
                    "video_id": self.video_id,
                    "category_id": 1 if self.categories is None else self.categories[object_id],
                    "iscrowd": 0,
                    "segmentations": segmentations,
                    "areas": [rle and int(coder.area(rle)) for rle in segmentations],
                    "bboxes": [rle and coder.toBbox(rle).tolist() for rle in segmentations],
                }
            )
        return annotations


def truth_annotations(videos: Iterable[TruthTracks]) -> dict:
    """Annotations in the official YouTube-VIS form (ids from 1 on) from the true tracks of each video."""
    videos = list(videos)
    annotations = [annotation for video in videos for annotation in video.annotations()]
    categories = sorted({annotation["category_id"] for annotation in annotations} | {1})
    return {
        "videos": [video.video() for video in videos],
        "categories": [{"id": category, "name": str(category)} for category in categories],
        "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations, start=1)],
    }


def on_annotated_frames(results: list[dict], videos: Iterable[TruthTracks], name: str) -> list[dict]:
    """The results of the given videos, their masks on the annotated frames alone; `name` is their file."""
    check_results(results, name)
    frames = {video.video_id: video.frames for video in videos}
    chosen = []
    for i, result in enumerate(results):
        if result["video_id"] in frames:
            masks, wanted = result["segmentations"], frames[result["video_id"]]
            if len(masks) <= max(wanted, default=-1):
                raise UserError(
                    f"{name}: result {i} has {len(masks)} segmentations: one for each frame is needed"
                )
            chosen.append({**result, "segmentations": [masks[t] for t in wanted]})
    return chosen
