"""The protocol of YouTube-VIS: AP and AR on JSON files, and tracking scores of the classes on demand."""

from collections import Counter
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import read_json
from scoring.protocols.ytvis_tracking import CLASS_MEAN, POOLED, score_classes
from scoring.report import Report, make_report
from scoring.vis_ap import score_tracks
from scoring.vis_tracks import ANY_CATEGORY, read_tracks

ALL_CLASSES = "all"  # the class where categories are not distinguished


def _find_json(path: Path, name: str) -> Path:
    """The file itself, or the one of that name in the folder; UserError where there is none."""
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"there is no file {file}: give a JSON file in the YouTube-VIS form, or its folder")
    return file


def _video_names(truth: dict) -> dict[int, str]:
    """{video id: the folder of its frames}; the id as text where one has none, or two have the same."""
    names = {}
    for video in truth["videos"]:
        folder, slash, _ = next(iter(video.get("file_names") or []), "").replace("\\", "/").partition("/")
        names[video["id"]] = folder if slash else str(video["id"])
    return names if len(set(names.values())) == len(names) else {number: str(number) for number in names}


def _class_names(truth: dict, path: Path, use_categories: bool) -> dict[int, str]:
    """{category: its name}; UserError where two have the same."""
    if not use_categories:
        return {ANY_CATEGORY: ALL_CLASSES}
    names = {category["id"]: str(category.get("name", category["id"])) for category in truth["categories"]}
    counts = Counter([*names.values(), CLASS_MEAN, POOLED])
    if doubled := [name for name, count in counts.items() if count > 1]:
        raise UserError(f"{path}: several categories have the name {doubled[0]}: name each in its own way")
    return names


def ytvis(
    results: Path,
    annotations: Path,
    *,
    use_categories: bool = True,
    tracking: bool = False,
    num_workers: int = 0,
) -> Report:
    """YouTube-VIS AP and AR (ytvoseval), in fractions of 1; -1 where there is no truth.

    results, annotations: JSON files in the official form, or folders with results.json and instances.json
    use_categories: whether a result must have the category of the object
    tracking: add HOTA, CLEAR and Identity of each class and of all (TrackEval) under "tracking"; TrackMAP
    there is TrackEval's AP, which is not the official one
    num_workers: processes that read the masks, where there are many

    Each video has the numbers of its objects and results, and the AP and AP50 of that video alone.
    """
    results, annotations = _find_json(results, "results.json"), _find_json(annotations, "instances.json")
    truth, entries = read_json(annotations), read_json(results)
    tracks = read_tracks(truth, entries, use_categories, str(annotations), str(results), num_workers)
    ap = score_tracks(tracks)
    num_objects = Counter(annotation["video_id"] for annotation in truth["annotations"])
    num_results = Counter(result["video_id"] for result in entries)
    names = _video_names(truth)
    videos = {
        names[video]: {"objects": num_objects[video], "results": num_results[video], **ap.videos[video]}
        for video in tracks.lengths
    }
    missed = [video for video in tracks.lengths if num_objects[video] and not num_results[video]]
    warnings = [
        f"{results} has no result of video {i} ({names[i]}): its objects count as missed" for i in missed
    ]
    more: dict[str, Any] = {"categories": ap.per_category()}
    if tracking:
        more["tracking"] = score_classes(tracks, _class_names(truth, annotations, use_categories), names)
    return make_report("ytvis", ap.scores(), videos, warnings, **more)
