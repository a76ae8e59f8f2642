"""Annotations and results in the YouTube-VIS form: checked, and read as tracks of run-length encodings."""

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.config import MAX_FRAMES
from common.errors import UserError, require
from common.parallel import process_map
from video.rle import RLE, check_mask_size, checked_rle

MANY = 1000  # annotations or results, from which on further processes are worth their start
PURPOSE = "YouTube-VIS average precision"
ANY_CATEGORY = -1
RESULT_FORM = {"video_id": int, "category_id": int, "score": int | float, "segmentations": list}
ANNOTATION_FORM = {"video_id": int, "category_id": int, "segmentations": list}
VIDEO_FORM = {"id": int, "width": int, "height": int, "length": int}

Track = dict[str, Any]
Groups = defaultdict[tuple[int, int], list[Track]]  # {(video id, category id): tracks}, by list where absent


def _track(entry: dict, video: dict, where: str) -> dict:
    """One annotation or result as COCOeval takes it: checked RLEs, all its pixels, and its mean area."""
    coder = require("pycocotools.mask", PURPOSE)
    size, length = (video["height"], video["width"]), video["length"]
    rles, scored = entry["segmentations"], video.get("scored") or [None] * length
    if not isinstance(rles, list) or len(rles) != length:
        raise UserError(
            f"{where} must have {length} segmentations, one for each frame of video {video['id']}"
        )
    segmentations: list[RLE | None] = [None] * length
    for t, rle in enumerate(rles):
        rle = checked_rle(rle, size, f"{where}, frame {t},")
        counted = checked_rle(scored[t], size, f"{where}, scored pixels of frame {t},")
        segmentations[t] = coder.merge([rle, counted], intersect=True) if rle and counted else rle
    pixels = np.array([0 if rle is None else coder.area(rle) for rle in segmentations], dtype=np.int64)
    areas = np.array([area or 0 for area in entry.get("areas") or pixels], dtype=np.float64)
    return {
        "category_id": entry["category_id"],
        "segmentations": segmentations,
        "pixels": int(pixels.sum()),
        "area": float(areas[areas > 0].mean()) if (areas > 0).any() else 0.0,
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

    def fits(value: Any, kind: Any) -> bool:
        return isinstance(value, kind) and not isinstance(value, bool)  # which Python takes for a number

    if not isinstance(entries, list):
        raise UserError(f"{where}: it must be a list in the official YouTube-VIS form, not {entries!r:.40}")
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict) or not all(fits(entry.get(k), kind) for k, kind in form.items()):
            raise UserError(f"{where} {i} must have {', '.join(form)} as in the official YouTube-VIS form")


def check_results(results: Any, name: str) -> None:
    """Raise UserError unless this is a list of results in the YouTube-VIS form; `name` is its file."""
    _check_form(results, RESULT_FORM, f"{name}: result")
    for i, result in enumerate(results):
        if not math.isfinite(result["score"]):
            raise UserError(f"{name}: result {i} has the score {result['score']}: give a finite number")


def _make_sizes_whole(videos: Any) -> None:
    """Make sizes and lengths such as 720.0, which some programs write, the whole numbers that they are."""
    for video in videos if isinstance(videos, list) else []:
        for key in ("height", "width", "length") if isinstance(video, dict) else ():
            if isinstance(video.get(key), float) and video[key].is_integer():
                video[key] = int(video[key])


def _check_video(video: dict, where: str) -> None:
    """Raise UserError where a video has absurd sizes, or lists of another form than the official ones."""
    check_mask_size((video["height"], video["width"]), where)
    if not 0 <= video["length"] <= MAX_FRAMES:
        raise UserError(f"{where} has the length {video['length']}: a video has at most {MAX_FRAMES} frames")
    names, scored = video.get("file_names") or [], video.get("scored") or [None] * video["length"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where} must have file_names that are a list of texts")
    if not isinstance(scored, list) or len(scored) != video["length"]:
        raise UserError(f"{where} must have a mask of scored pixels, or null, for each of its frames")


def check_truth(truth: Any, name: str) -> None:
    """Raise UserError unless this is an annotation file in the YouTube-VIS form; `name` is its file."""
    forms = {"videos": VIDEO_FORM, "categories": {"id": int}, "annotations": ANNOTATION_FORM}
    if not isinstance(truth, dict) or not forms.keys() <= truth.keys():
        raise UserError(f"{name} is not a YouTube-VIS annotation file: it needs {', '.join(forms)}")
    if truth["annotations"] is None:
        raise UserError(f"{name} holds no true masks, which the server keeps: give a file with annotations")
    _make_sizes_whole(truth["videos"])
    for key, form in forms.items():
        _check_form(truth[key], form, f"{name}: entry of {key}")
    for video in truth["videos"]:
        _check_video(video, f"{name}: video {video['id']}")
    if not all(isinstance(category.get("name"), str | int | None) for category in truth["categories"]):
        raise UserError(f"{name}: the name of a category must be a text")
    for i, entry in enumerate(truth["annotations"]):
        areas = entry.get("areas") or []
        fine = isinstance(areas, list) and all(isinstance(area, int | float | None) for area in areas)
        if not fine or entry.get("iscrowd", 0) not in (0, 1):
            raise UserError(f"{name}: annotation {i} needs areas that are numbers, and iscrowd 0 or 1")


@dataclass
class VisTracks:
    """The tracks of some videos, in the order of the files.

    lengths: {video id: number of frames}, by id
    categories: their ids, ascending; ANY_CATEGORY alone where they are not distinguished
    truth, results: the tracks of each video and category. A track has "id" (from 1 on), "category_id",
    "segmentations" (RLE or None for each frame), "pixels" (of all frames), "area" (mean over its frames),
    "iscrowd" and "ignore" (0 or 1), and "score" (None in the truth)
    """

    lengths: dict[int, int]
    categories: list[int]
    truth: Groups
    results: Groups


def _grouped(entries: list[dict], truth: dict, use_categories: bool, where: str, num_workers: int) -> Groups:
    """Entries as tracks, those of a video by category; UserError where a video or category is unknown."""
    videos = {video["id"]: video for video in truth["videos"]}
    categories = {category["id"] for category in truth["categories"]}
    groups: Groups = defaultdict(list)
    for number, entry in enumerate(entries):
        video_id, category = entry["video_id"], entry["category_id"]
        if video_id not in videos:
            raise UserError(f"{where} {number} is of video {video_id!r}, which the annotations do not have")
        if use_categories and category not in categories:
            raise UserError(
                f"{where} {number} is of category {category!r}, which the annotations do not have"
            )
    names = [f"{where} {number}" for number in range(len(entries))]
    of_videos = [videos[entry["video_id"]] for entry in entries]
    num_workers = num_workers if len(entries) >= MANY else 0
    tracks = process_map(
        _track, entries, of_videos, names, num_workers=num_workers, title=f"reading {where}s"
    )
    for number, (entry, track) in enumerate(zip(entries, tracks, strict=True)):
        video_id, category = entry["video_id"], entry["category_id"]
        crowd = int(entry.get("iscrowd", 0))
        track |= {"id": number + 1, "iscrowd": crowd, "ignore": crowd, "score": entry.get("score")}
        groups[video_id, category if use_categories else ANY_CATEGORY].append(track)
    for tracks in groups.values():
        tracks.sort(key=lambda track: track["category_id"])
    return groups


def read_tracks(
    truth: dict,
    results: list[dict],
    use_categories: bool,
    truth_name: str,
    results_name: str,
    num_workers: int = 0,
) -> VisTracks:
    """Tracks of annotations and results, both in the official YouTube-VIS form.

    Beyond that form a video may have "scored": for each frame an RLE of the pixels that count, null for all.
    Raises UserError that names the file where the form is another, MissingPackage without pycocotools.
    """
    check_truth(truth, truth_name)
    check_results(results, results_name)
    categories = sorted({c["id"] for c in truth["categories"]}) if use_categories else [ANY_CATEGORY]
    return VisTracks(
        {video["id"]: video["length"] for video in sorted(truth["videos"], key=lambda video: video["id"])},
        categories,
        _grouped(truth["annotations"], truth, use_categories, f"{truth_name}: annotation", num_workers),
        _grouped(results, truth, use_categories, f"{results_name}: result", num_workers),
    )
