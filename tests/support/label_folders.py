"""Small folders of label maps, drawn by hand or by chance; used by the tests of protocols."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from video.rle import encode_rle


def boxes(**left: int) -> np.ndarray:
    """(20, 30) label map of 6 x 6 squares; `o3=10` is object 3 with its left edge at column 10."""
    labels = np.zeros((20, 30), dtype=np.uint16)
    for name, column in left.items():
        labels[5:11, column : column + 6] = int(name[1:])
    return labels if labels.max() > 255 else labels.astype(np.uint8)


NOTHING = boxes()
MOVING = [boxes(o1=2, o2=20), boxes(o1=3, o2=20), boxes(o1=4)]  # a true video
SWITCHED = [boxes(o1=2, o2=20), boxes(o3=3, o2=18), boxes(o3=4)]  # its results: object 1 is lost to id 3


def blobs(seed: int, frames: int = 4, objects: int = 3, ids: list[int] | None = None) -> list[np.ndarray]:
    """(20, 30) label maps of rectangles that wander by chance, the later over the earlier; some are away.

    ids: of the objects, 1, 2, ... by default
    """
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, (12, 20), (objects, 2))
    sizes = rng.integers(3, (8, 10), (objects, 2))
    maps = []
    for _ in range(frames):
        labels = np.zeros((20, 30), dtype=np.uint8)
        corners = np.clip(corners + rng.integers(-2, 3, corners.shape), 0, (12, 20))
        for name, (y, x), (h, w) in zip(ids or range(1, objects + 1), corners, sizes, strict=True):
            if rng.random() < 0.85:
                labels[y : y + h, x : x + w] = name
        maps.append(labels)
    return maps


def write(folder: Path, maps: list[np.ndarray], names: list[str] | None = None) -> Path:
    """Write label maps as folder/00000.png and so on, or by their names; returns the folder of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame, labels in enumerate(maps):
        Image.fromarray(labels.copy()).save(folder / f"{names[frame] if names else f'{frame:05d}'}.png")
    return folder.parent


def roots(tmp_path: Path, truth: list[np.ndarray], results: list[np.ndarray]) -> tuple[Path, Path]:
    """The folders of results and annotations of one video, "cat"."""
    return write(tmp_path / "results" / "cat", results), write(tmp_path / "truth" / "cat", truth)


def youtube_roots(
    tmp_path: Path, truth: list[np.ndarray], results: list[np.ndarray], categories: dict[int, str]
) -> tuple[Path, Path]:
    """The same for YouTube-VOS; of the categories "ape" was seen in training."""
    write(tmp_path / "valid" / "Annotations" / "cat", truth)
    write(tmp_path / "results" / "Annotations" / "cat", results)
    objects = {str(i): {"category": category} for i, category in categories.items()}
    (tmp_path / "valid" / "meta.json").write_text(json.dumps({"videos": {"cat": {"objects": objects}}}))
    (tmp_path / "train").mkdir(exist_ok=True)
    seen = {"videos": {"other": {"objects": {"1": {"category": "ape"}}}}}
    (tmp_path / "train" / "meta.json").write_text(json.dumps(seen))
    return tmp_path / "results", tmp_path / "valid"


def tracks_of(maps: list[np.ndarray], video_id: int, category: int = 1, score: float = 0.5) -> list[dict]:
    """A result in the YouTube-VIS form for each id in the label maps of a video."""
    tracks = []
    for track in np.setdiff1d(maps, [0]):
        masks = [labels == track for labels in maps]
        rles = [encode_rle(mask) if mask.any() else None for mask in masks]
        entry = {"video_id": video_id, "category_id": category, "score": score, "segmentations": rles}
        tracks.append(entry)
    return tracks


def truth_json(tracks: list[dict], frames: dict[int, int], categories: dict[int, str] | None = None) -> dict:
    """Annotations in the YouTube-VIS form whose objects are the tracks; frames: {video id: its length}."""
    size = {"width": 30, "height": 20}
    videos = [
        {"id": i, **size, "length": length, "file_names": [f"v{i}/{t}.jpg" for t in range(length)]}
        for i, length in frames.items()
    ]
    annotations = [
        {
            **{key: value for key, value in track.items() if key != "score"},
            "id": number,
            "iscrowd": track.get("iscrowd", 0),
            "areas": [36 if rle else None for rle in track["segmentations"]],
            **size,
        }
        for number, track in enumerate(tracks, start=1)
    ]
    names = [
        {"id": i, "name": name} for i, name in ({1: "thing"} if categories is None else categories).items()
    ]
    return {"videos": videos, "categories": names, "annotations": annotations}
