"""The scores of a tracker on annotated videos: the flat numbers of metrics.json, whoever asks for them."""

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from common.errors import MissingPackage, available, require
from common.progress import say
from scoring.counts import best_pairs
from scoring.jf import Overlap, boundary_radius, contours_of, pairwise_boundary, pairwise_overlap, slots_of
from scoring.jf_table import make_room
from scoring.tracking_scores import TrackingAccumulator, TrackingScore
from scoring.vis_ap import PURPOSE, average_precision
from scoring.vis_truth import TruthTracks, on_annotated_frames, truth_annotations
from video.label_maps import objects_in, void_in

AP_NAMES = ("AP", "AP50", "AP75", "AR10")


@dataclass
class ObjectScore:
    """One true object against the track it is matched to, each in [0, 1]; NaN where no frame counts.

    track: the id of the track, None where the object has none, which scores 0
    J, F: means from the object's first appearance to the last annotated frame
    J_tube: IoU over the whole video
    """

    track: int | None
    J: float
    F: float
    J_tube: float


@dataclass
class VideoScore:
    """What one video adds to the scores.

    objects: {true id: its score}
    object_of: {track: the true object that it is matched with}, of those that overlap or share a given id
    tracking: HOTA, CLEAR and Identity of the video; its id switches say where each happened
    frames: annotated frames
    visible: true detections, that is pairs of an object and a frame in which it has a pixel
    truth: the true tracks for AP, None where pycocotools is missing
    """

    objects: dict[int, ObjectScore]
    object_of: dict[int, int]
    tracking: TrackingScore
    frames: int
    visible: int
    truth: TruthTracks | None


class VideoScorer:
    """Scores one video from the label maps of its annotated frames, given in order; memory is flat in pixels.

    Sums over the frames are kept for every pair of an object and a track, with a last row and a last column
    of `make_room`.
    """

    def __init__(
        self, prompted: bool = False, video_id: int = 1, categories: Mapping[int, int] | None = None
    ) -> None:
        """prompted: whether the tracker gets the objects' ids; then objects are matched to tracks by id.

        video_id: of this video in the tracker's results
        categories: the category id of each object, None where AP is not to tell categories apart
        """
        self._prompted = prompted
        self._objects: list[int] = []
        self._tracks: list[int] = []
        self._quality = np.zeros((3, 1, 1))  # (3, K+1, N+1): sums of J, of F, and of the frames that count
        self._pixels = np.zeros((2, 1, 1), dtype=np.int64)  # (2, K+1, N+1): sums of intersection and of union
        self._tracking = TrackingAccumulator()
        self._frames = self._visible = 0
        self._truth = TruthTracks(video_id, categories) if available("pycocotools.mask") else None

    def add(
        self,
        truth_labels: np.ndarray,
        prediction_labels: np.ndarray,
        prompted_ids: Set[int] = frozenset(),
        frame: int | None = None,
    ) -> None:
        """Take the next annotated frame.

        truth_labels, prediction_labels: (H, W) maps of ids; where the truth is void neither counts
        prompted_ids: objects whose mask the tracker was given on this frame, which does not count for them
        frame: its number in the video, by which results are looked up; by default the number of frames added
        """
        assert truth_labels.shape == prediction_labels.shape, "truth and prediction have one size"
        void = void_in(truth_labels)
        self._admit(objects_in(truth_labels), np.setdiff1d(prediction_labels[~void], [0]))
        K, N = len(self._objects), len(self._tracks)
        truth = slots_of(truth_labels, self._objects, void)
        prediction = slots_of(prediction_labels, self._tracks, void)
        overlap = pairwise_overlap(truth, prediction, K + 1, N + 1)
        self._add_pairs(truth, prediction, overlap, prompted_ids)
        self._add_detections(overlap)
        if self._truth:
            self._truth.add(truth_labels, self._frames if frame is None else frame)
        self._frames += 1

    def result(self) -> VideoScore:
        """The score of the frames so far."""
        J, F = self._quality[:2, :-1, :-1] / np.maximum(self._quality[2, :-1, :-1], 1)  # each (K, N)
        intersection, union = self._pixels[:, :-1, :-1]
        scores = np.stack([J, F, intersection / np.maximum(union, 1)])  # (3, K, N)
        matches = self._matches((J + F) / 2)
        objects = {}
        for k, object_id in enumerate(self._objects):
            if not self._quality[2, k, -1]:
                objects[object_id] = ObjectScore(None, math.nan, math.nan, math.nan)
            elif k in matches:
                objects[object_id] = ObjectScore(self._tracks[matches[k]], *scores[:, k, matches[k]].tolist())
            else:
                objects[object_id] = ObjectScore(None, 0.0, 0.0, 0.0)
        object_of = {
            self._tracks[n]: self._objects[k]
            for k, n in matches.items()
            if self._prompted or intersection[k, n]
        }
        tracking = self._tracking.score()
        return VideoScore(objects, object_of, tracking, self._frames, self._visible, self._truth)

    def _admit(self, objects: list[int], tracks: np.ndarray) -> None:
        """Make room for the ids that come for the first time."""
        self._objects += [i for i in objects if i not in self._objects]
        self._tracks += [i for i in tracks.tolist() if i not in self._tracks]
        K, N = len(self._objects), len(self._tracks)
        self._quality, self._pixels = make_room(self._quality, K, N), make_room(self._pixels, K, N)

    def _add_pairs(
        self, truth: np.ndarray, prediction: np.ndarray, overlap: Overlap, prompted_ids: Set[int]
    ) -> None:
        """Add a frame, as (H, W) maps of slots, to the sums of the objects that were not prompted on it."""
        K, N = len(self._objects), len(self._tracks)
        radius = boundary_radius(*truth.shape)
        contours = contours_of(truth, K + 1, radius), contours_of(prediction, N + 1, radius)
        quality = np.stack([overlap.iou, pairwise_boundary(*contours), np.ones_like(overlap.iou)])
        pixels = np.stack([overlap.intersection, overlap.union])
        counted = [k for k, object_id in enumerate(self._objects) if object_id not in prompted_ids]
        self._quality[:, counted] += quality[:, counted]
        self._pixels[:, [*counted, K]] += pixels[:, [*counted, K]]

    def _add_detections(self, overlap: Overlap) -> None:
        """Give the objects and tracks that are there in a frame to the tracking metrics."""
        rows, columns = np.flatnonzero(overlap.truth_area), np.flatnonzero(overlap.prediction_area)
        objects, tracks = [self._objects[k] for k in rows], [self._tracks[n] for n in columns]
        self._tracking.add(objects, tracks, overlap.iou[np.ix_(rows, columns)])
        self._visible += len(rows)

    def _matches(self, quality: np.ndarray) -> dict[int, int]:
        """{row of an object: column of its track}: by id where prompted, else for the most (K, N) quality."""
        if self._prompted:
            columns = {track: column for column, track in enumerate(self._tracks)}
            return {k: columns[i] for k, i in enumerate(self._objects) if i in columns}
        return dict(zip(*(side.tolist() for side in best_pairs(quality)), strict=True))


def _percent_of_mean(values: Sequence[float]) -> float | None:
    """The mean of the values that are not NaN, in percent; None where there are none."""
    defined = [value for value in values if not math.isnan(value)]
    return 100 * sum(defined) / len(defined) if defined else None


def _tracking_summary(scores: list[VideoScore]) -> dict[str, float | int | None]:
    total = TrackingScore.total(score.tracking for score in scores)
    visible = sum(score.visible for score in scores)
    identity = total.identity
    defined = identity.tp + identity.fn + identity.fp > 0
    hota, switches = total.hota.scores(), len(total.clear.switches)
    means = {name: 100 * float(hota[name].mean()) if defined else None for name in ("HOTA", "DetA", "AssA")}
    return means | {
        "IDF1": 100 * identity.scores()["IDF1"] if defined else None,
        "id_switches": switches,
        "id_switches_per_100_frames": 100 * switches / visible if visible else None,
    }


def _ap_summary(scores: list[VideoScore], results: list[dict], results_name: str) -> dict[str, float | None]:
    truths = [score.truth for score in scores if score.truth]
    truth = truth_annotations(truths)
    use_categories = any(track.categories is not None for track in truths)
    chosen = on_annotated_frames(results, truths, results_name)
    ap = average_precision(truth, chosen, use_categories, results_name=results_name).scores()
    return {name: 100 * ap[name] if ap[name] >= 0 else None for name in AP_NAMES}


def summarise(
    scores: Iterable[VideoScore], results: list[dict] | None = None, results_name: str = "the results"
) -> dict[str, float | int | None]:
    """The numbers of metrics.json over all videos: in percent, flat, None where undefined.

    results: the tracker's results in the YouTube-VIS form, for AP; without them, or without pycocotools (as
    stderr says), AP is None
    results_name: their file, for the UserError that is raised where they are not of that form
    Means of J, F and J_tube are over all objects of all videos; tracking scores are combined as in TrackEval.
    """
    scores = list(scores)
    objects = [one for score in scores for one in score.objects.values()]
    summary: dict[str, float | int | None] = {
        "J": _percent_of_mean([one.J for one in objects]),
        "F": _percent_of_mean([one.F for one in objects]),
        "J&F": _percent_of_mean([(one.J + one.F) / 2 for one in objects]),
        "J_tube": _percent_of_mean([one.J_tube for one in objects]),
        **dict.fromkeys(AP_NAMES),
        **_tracking_summary(scores),
        "videos": len(scores),
        "frames": sum(score.frames for score in scores),
    }
    if results is not None:
        try:
            require("pycocotools.cocoeval", PURPOSE)
            summary |= _ap_summary(scores, results, results_name)
        except MissingPackage as error:
            say(f"AP is skipped: {error}", error=True)
    return summary
