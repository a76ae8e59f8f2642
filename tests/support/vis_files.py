"""Small files in the YouTube-VIS form and folders of label maps, for the tests of their conversion."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.commands import run_here
from tools.convert import __main__ as convert
from video.images import read_label_map, write_label_map
from video.rle import encode_rle

Maps = dict[str, dict[str, np.ndarray]]  # {video: {frame: label map}}

LEFT, RIGHT, TOP = np.zeros((3, 3, 4), dtype=bool)
LEFT[:, :2], RIGHT[:, 2:], TOP[0] = True, True, True


def write_maps(root: Path, maps: Maps) -> Path:
    for video, frames in maps.items():
        for frame, labels in frames.items():
            write_label_map(root / video / f"{frame}.png", labels)
    return root


def read_maps(root: Path) -> Maps:
    paths = sorted(root.glob("*/*.png"))
    return {
        v: {p.stem: read_label_map(p) for p in paths if p.parent.name == v}
        for v in {p.parent.name for p in paths}
    }


def assert_equal_maps(maps: Maps, others: Maps) -> None:
    assert {v: list(frames) for v, frames in maps.items()} == {
        v: list(frames) for v, frames in others.items()
    }
    for video, frames in maps.items():
        for frame, labels in frames.items():
            np.testing.assert_array_equal(labels, others[video][frame], f"{video} {frame}")


def random_maps(seed: int, ids: list[int]) -> Maps:
    """Two videos with frames in steps of 5, each of one size; each id is in the first frame."""
    random = np.random.default_rng(seed)
    maps = {}
    for video, size in (("ant", (5, 7)), ("bee", (8, 6))):
        frames = [random.choice([0, *ids], size) for _ in range(4)]
        frames[0].flat[: len(ids)] = ids
        maps[video] = {f"{5 * place:05d}": labels for place, labels in enumerate(frames)}
    return maps


def run(source: Path, target: Path, *flags: object) -> Path:
    """Convert as a user does, without complaint."""
    outcome = run_here(convert.main, source, "--output", target, *flags)
    assert outcome.status == 0 and outcome.out[-1].startswith(f"{target}: "), outcome
    return target


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def spoil(path: Path, *keys: object, value: Any) -> None:
    """Change one value deep inside a JSON file."""
    content = part = load(path)
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    write_json(path, content)


def video_of(number: int, name: str, frames: list[str], size: tuple[int, int] = (3, 4)) -> dict:
    names = [f"{name}/{frame}.jpg" for frame in frames]
    return {"id": number, "height": size[0], "width": size[1], "length": len(names), "file_names": names}


def result_of(video: int, score: float, *masks: np.ndarray | None, category: int = 1) -> dict:
    rles = [None if mask is None else encode_rle(mask) for mask in masks]
    return {"video_id": video, "category_id": category, "score": score, "segmentations": rles}


def truth_of(videos: list[dict], results: list[dict] | None = None) -> dict:
    """An annotation file as official ones are, with keys that nobody asked for."""
    truth = {"info": {}, "licenses": [], "videos": videos}
    truth["categories"] = [{"id": 7, "name": "cat", "supercategory": "x"}, {"id": 3, "name": "dog"}]
    if results is not None:
        extra = {"iscrowd": 0, "height": 3, "width": 4, "length": 1}
        truth["annotations"] = [
            {"segmentations": entry["segmentations"], **extra, "areas": [], "bboxes": [], "id": 1 + i}
            | {key: entry[key] for key in ("video_id", "category_id")}
            for i, entry in enumerate(results)
        ]
    return truth
