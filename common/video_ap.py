"""YouTube-VIS average precision: pycocotools counts tracks that are matched by their IoU over the video."""

import contextlib
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.errors import UserError, require
from common.masks import RLE, encode_rle
from common.types import IGNORE

PURPOSE = "YouTube-VIS average precision"
AREA_RANGES = [
    [0, 1e10],
    [0, 128**2],
    [128**2, 256**2],
    [256**2, 1e10],
]  # of a track's mean mask: all, s, m, l
MAX_RESULTS = [1, 10, 100]  # per video and category
ANY_CATEGORY = -1
RESULT_FORM = {"video_id": int, "category_id": int, "score": int | float, "segmentations": list}
ANNOTATION_FORM = {"video_id": int, "category_id": int, "segmentations": list, "areas": list}
VIDEO_FORM = {"id": int, "width": int, "height": int, "length": int}


@dataclass
class VideoAP:
    """Precision and recall as COCO accumulates them; -1 where there is no truth.

    precision: (10 thresholds, 101 recalls, categories, 4 area ranges, 3 limits of results)
    recall: (10, categories, 4, 3)
    categories: the category id of each row of the axis, -1 where categories were not told apart
    """

    precision: np.ndarray
    recall: np.ndarray
    categories: list[int]

    def scores(self) -> dict[str, float]:
        """The official numbers in [0, 1]: AP over all thresholds, at one, by area; AR by limit, by area."""
        precision, recall = self.precision[..., 2], self.recall
        return {
            "AP": _mean_of_defined(precision[..., 0]),
            "AP50": _mean_of_defined(precision[0, ..., 0]),
            "AP75": _mean_of_defined(precision[5, ..., 0]),
            "APs": _mean_of_defined(precision[..., 1]),
            "APm": _mean_of_defined(precision[..., 2]),
            "APl": _mean_of_defined(precision[..., 3]),
            "AR1": _mean_of_defined(recall[..., 0, 0]),
            "AR10": _mean_of_defined(recall[..., 0, 1]),
            "AR100": _mean_of_defined(recall[..., 0, 2]),
            "ARs": _mean_of_defined(recall[..., 1, 2]),
            "ARm": _mean_of_defined(recall[..., 2, 2]),
            "ARl": _mean_of_defined(recall[..., 3, 2]),
        }

    def per_category(self) -> dict[int, dict[str, float]]:
        """AP and AR100 of each category."""
        return {
            category: {
                "AP": _mean_of_defined(self.precision[:, :, k, 0, 2]),
                "AR100": _mean_of_defined(self.recall[:, k, 0, 2]),
            }
            for k, category in enumerate(self.categories)
        }


def _mean_of_defined(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0


def rle_runs(counts: str) -> np.ndarray:
    """The run lengths behind the compressed text of an RLE, background first.

    Each run is a chain of 6-bit characters from "0" on (5 bits of value, low ones first, and one that says
    "more"); from the fourth run on it is the difference to the run before the last.
    Raises ValueError where the text is no such chain.
    """
    code = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((code & 32) == 0)
    if not len(ends) or ends[-1] != len(code) - 1 or code.min() < 0 or code.max() > 63:
        raise ValueError("the text is cut short")
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(code)) - np.repeat(starts, ends - starts + 1)
    runs = np.add.reduceat((code & 31) << (5 * place), starts)
    runs -= np.where(code[ends] & 16, 1 << (5 * (place[ends] + 1)), 0)  # the last character bears the sign
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _checked_rle(rle: Any, size: tuple[int, int], where: str) -> RLE:
    """A compressed RLE whose runs fill a picture of (H, W) `size`; anything else is a UserError."""
    if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
        raise UserError(f'{where} is not an RLE: give {{"size": [height, width], "counts": ...}} or null')
    if rle["size"] != list(size):
        raise UserError(
            f"{where} has the size {rle['size']}, but the video has {list(size)}: resize the mask"
        )
    counts = rle["counts"]
    try:
        runs = np.asarray(counts, dtype=np.int64) if isinstance(counts, list) else rle_runs(counts)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{where} has counts that are no RLE ({error}): encode the mask anew") from error
    # pycocotools would hang on runs of another total
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != math.prod(size):
        raise UserError(f"{where} has runs that do not fill {list(size)}: encode the mask anew")
    if isinstance(counts, list):
        return require("pycocotools.mask", PURPOSE).frPyObjects(rle, *size)
    return rle


def _track(entry: dict, video: dict, where: str) -> dict:
    """One annotation or result as COCOeval takes it: checked RLEs, all its pixels, and its mean area."""
    coder = require("pycocotools.mask", PURPOSE)
    size, length = (video["height"], video["width"]), video["length"]
    given, scored = entry["segmentations"], video.get("scored") or [None] * length
    if not isinstance(given, list) or len(given) != length:
        raise UserError(
            f"{where} must have {length} segmentations, one for each frame of video {video['id']}"
        )
    segmentations: list[RLE | None] = [None] * length
    for t, rle in enumerate(given):
        if rle is not None:
            rle = _checked_rle(rle, size, f"{where}, frame {t},")
            segmentations[t] = coder.merge([rle, scored[t]], intersect=True) if scored[t] else rle
    pixels = np.array([0 if rle is None else coder.area(rle) for rle in segmentations], dtype=np.int64)
    areas = np.array([area or 0 for area in entry.get("areas", pixels)], dtype=np.float64)
    return {
        "category_id": entry["category_id"],
        "segmentations": segmentations,
        "pixels": int(pixels.sum()),
        "area": float(areas[areas > 0].mean()) if areas.any() else 0.0,
    }


def track_ious(results: list[dict], truths: list[dict]) -> np.ndarray:
    """(D, G) float64: IoU over the video of D results with G true tracks, 0 where both are empty."""
    coder = require("pycocotools.mask", PURPOSE)
    intersection = np.zeros((len(results), len(truths)))
    for t in range(len(results[0]["segmentations"]) if intersection.size else 0):
        rows = [i for i, track in enumerate(results) if track["segmentations"][t]]
        columns = [j for j, track in enumerate(truths) if track["segmentations"][t]]
        if rows and columns:
            d = [results[i]["segmentations"][t] for i in rows]
            g = [truths[j]["segmentations"][t] for j in columns]
            share = coder.iou(d, g, [1] * len(g))  # a crowd's "IoU" is the covered share of the result
            intersection[np.ix_(rows, columns)] += np.rint(share * coder.area(d)[:, None])
    pixels = np.array([track["pixels"] for track in results]).reshape(-1, 1)
    union = pixels + np.array([track["pixels"] for track in truths]).reshape(1, -1) - intersection
    return intersection / np.maximum(union, 1)


def _check_form(entries: Any, form: dict[str, Any], where: str) -> None:
    """Raise UserError unless this is a list of objects with the keys of `form` and values of its types."""
    if not isinstance(entries, list):
        raise UserError(
            f"{where}s must be a list in the official YouTube-VIS form, not {type(entries).__name__}"
        )
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(k), t) for k, t in form.items()):
            raise UserError(f"{where} {i} must have {', '.join(form)} as in the official YouTube-VIS form")


def check_results(results: Any, name: str) -> None:
    """Raise UserError unless this is a list of results in the YouTube-VIS form; `name` is its file."""
    _check_form(results, RESULT_FORM, f"{name}: result")
    for i, result in enumerate(results):
        if not math.isfinite(result["score"]):
            raise UserError(f"{name}: result {i} has the score {result['score']}: give a finite number")


def check_truth(truth: Any, name: str) -> None:
    """Raise UserError unless this is an annotation file in the YouTube-VIS form; `name` is its file."""
    forms = {"videos": VIDEO_FORM, "categories": {"id": int}, "annotations": ANNOTATION_FORM}
    if not isinstance(truth, dict) or not forms.keys() <= truth.keys():
        raise UserError(f"{name} is not a YouTube-VIS annotation file: it needs {', '.join(forms)}")
    for key, form in forms.items():
        _check_form(truth[key], form, f"{name}: entry of {key}")


def _grouped(
    entries: list[dict], truth: dict, use_categories: bool, where: str
) -> dict[tuple[int, int], list[dict]]:
    """Entries as tracks with ids from 1 on, by (video id, category id); UserError where an id is unknown."""
    videos = {video["id"]: video for video in truth["videos"]}
    categories = {category["id"] for category in truth["categories"]}
    groups = defaultdict(list)
    for number, entry in enumerate(entries):
        video_id, category = entry["video_id"], entry["category_id"]
        if video_id not in videos:
            raise UserError(f"{where} {number} is of video {video_id!r}, which the annotations do not have")
        if use_categories and category not in categories:
            raise UserError(
                f"{where} {number} is of category {category!r}, which the annotations do not have"
            )
        crowd = int(entry.get("iscrowd", 0))
        track = _track(entry, videos[video_id], f"{where} {number}")
        track |= {"id": number + 1, "iscrowd": crowd, "ignore": crowd, "score": entry.get("score")}
        groups[video_id, category if use_categories else ANY_CATEGORY].append(track)
    for tracks in groups.values():
        tracks.sort(key=lambda track: track["category_id"])
    return groups


def average_precision(
    truth: dict,
    results: list[dict],
    use_categories: bool = True,
    truth_name: str = "the annotations",
    results_name: str = "the results",
) -> VideoAP:
    """Score a results list against annotations, both in the official YouTube-VIS form, as ytvoseval does.

    Beyond that form a video may have "scored": for each frame an RLE of the pixels that count, null for all.
    Raises UserError that names the file where the form is another, MissingPackage without pycocotools.
    """
    check_truth(truth, truth_name)
    check_results(results, results_name)
    evaluator = require("pycocotools.cocoeval", PURPOSE).COCOeval(iouType="bbox")
    evaluator._gts = defaultdict(
        list, _grouped(truth["annotations"], truth, use_categories, f"{truth_name}: annotation")
    )
    evaluator._dts = defaultdict(list, _grouped(results, truth, use_categories, f"{results_name}: result"))
    evaluator._prepare = lambda: None  # the tracks are in place; COCOeval would look for images
    evaluator.computeIoU = lambda video, category: _ious(evaluator, video, category)
    parameters = evaluator.params
    parameters.imgIds = [video["id"] for video in truth["videos"]]
    parameters.catIds = sorted(c["id"] for c in truth["categories"]) if use_categories else [ANY_CATEGORY]
    parameters.areaRng, parameters.maxDets = AREA_RANGES, MAX_RESULTS
    with contextlib.redirect_stdout(io.StringIO()):  # COCOeval prints its progress
        evaluator.evaluate()
        evaluator.accumulate()
    return VideoAP(
        evaluator.eval["precision"],
        evaluator.eval["recall"],
        [int(category) for category in parameters.catIds],
    )


def _ious(evaluator: Any, video: int, category: int) -> np.ndarray:
    """The IoUs of one video and category, results in the order in which COCOeval walks them."""
    results = sorted(evaluator._dts[video, category], key=lambda track: -track["score"])[: MAX_RESULTS[-1]]
    return track_ious(results, evaluator._gts[video, category])


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
