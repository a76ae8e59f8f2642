"""Where the parts of a data set lie: published layouts by split, and several data sets as one."""

import copy
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from annotated.json_videos import JsonVideos
from annotated.still_images import StillImages, has_masks
from annotated.videos import VideoSet, VOSFolder, check, check_objects, has_annotations
from common.errors import UserError
from video.images import mots_sequences

# How data sets call their splits, and where {} is that name, the JSON file and the folder of frames.
SPLITS = {"train": ("train", "train2017", "train2014"), "valid": ("valid", "val", "val2017", "val2014")}
JSON_FILES = (
    "{}/instances.json",  # YouTube-VIS 2021
    "{}/{}.json",
    "{}/_annotations.coco.json",  # as annotation programs export
    "{}.json",  # YouTube-VIS 2019
    "annotations_{}.json",  # OVIS
    "annotations/{}.json",
    "annotations/annotations_{}.json",
    "annotations/instances_{}.json",  # COCO
)
FRAME_FOLDERS = ("{}/JPEGImages", "{}/images", "{}", "images/{}")
UNSPLIT = ("instances.json", ("images", "JPEGImages"))  # of a data set that has no splits


def _json_files(root: Path, split: str) -> Iterator[tuple[Path, list[Path]]]:
    """Each place of a JSON file of a split, with those of its frames."""
    for name in SPLITS[split]:
        folders = [root / folder.format(name) for folder in FRAME_FOLDERS]
        for path in JSON_FILES:
            yield root / path.format(name, name), folders
    if split == "train":
        yield root / UNSPLIT[0], [root / folder for folder in UNSPLIT[1]]


def find_json(root: Path, split: str) -> tuple[Path, Path] | None:
    """The JSON file of a split, and the folder of its frames or where they should be."""
    for path, folders in _json_files(root, split):
        if path.is_file():
            return path, next(filter(Path.is_dir, folders), folders[0])
    return None


def _open_json(path: Path, frames: Path, split: str) -> JsonVideos | None:
    videos = JsonVideos(path, frames)
    if not videos.videos and split == "train":
        raise UserError(f"{path} holds no annotation of an object: give one that does")
    if videos.videos and not frames.is_dir():
        raise UserError(f"{path} has no frames: put them into {frames}")
    return videos if videos.videos else None


def open_split(root: Path, split: str, *, skip_bad: bool) -> VideoSet | None:
    """The videos of "train" or "valid" in any layout, JSON before label maps; None where valid has no masks.

    Sequences of MOTS, an instances.json with images, and images with masks may lie in `root` itself. Raises
    UserError where there is nothing to train on, or a file has another form.
    """
    folder = root / split
    if found := find_json(root, split):
        return _open_json(*found, split)
    if split == "train" and mots_sequences(root):
        return VOSFolder(root, skip_bad=skip_bad)
    if has_annotations(folder):
        return VOSFolder(folder, skip_bad=skip_bad)
    for place in (folder, root) if split == "train" else (folder,):
        if has_masks(place):
            return StillImages(place)
    return VOSFolder(folder, skip_bad=skip_bad) if split == "train" else None  # which says what is absent


def join(parts: Sequence[VideoSet], weights: Sequence[int] = ()) -> VideoSet:
    """Several data sets as one, of which each video is there `weights[i]` times; categories join by name.

    Where two have videos of one name, these have the folder of their data set before it.
    """
    if len(parts) > 1:
        counts = Counter(video.name for part in parts for video in part.videos)
        for part in parts:
            part.videos = [
                replace(video, name=f"{part.root}/{video.name}") if counts[video.name] > 1 else video
                for video in part.videos
            ]
    videos = [
        video
        for part, weight in zip(parts, weights or [1] * len(parts), strict=True)
        for video in part.videos * weight
    ]
    return VideoSet(parts[0].root, videos, (name for part in parts for name in part.categories))


class Split(NamedTuple):
    """Training and validation videos, and what is wrong with files that were left out."""

    train: VideoSet
    valid: VideoSet | None
    troubles: list[str]


def has_scores(folder: VideoSet) -> bool:
    """Whether videos can be scored: most have masks beyond the first frames, or all are still images."""
    return folder.is_still or statistics.median(len(video.annotated) for video in folder.videos) > 2


def open_root(root: Path, *, skip_bad: bool) -> Split:
    """The checked videos of a data set, without validation videos where those given have no scores."""
    train, valid = (open_split(root, split, skip_bad=skip_bad) for split in ("train", "valid"))
    troubles = check(train, skip_bad=skip_bad)
    if valid:
        troubles += check(valid, skip_bad=skip_bad)
        valid = valid if has_scores(valid) else None
    return Split(train, valid, troubles)


def hold_out(train: VideoSet, holdout: int) -> VideoSet:
    """Take every `holdout`-th of the videos, for validation; UserError where there is but one."""
    valid = copy.copy(train)
    valid.videos = train.videos[holdout - 1 :: holdout] or train.videos[-1:]
    held_out = {video.name for video in valid.videos}
    train.videos = [video for video in train.videos if video.name not in held_out]
    if not train.videos:
        raise UserError(f"{train.root} holds one video; two are needed, one of them for validation")
    return valid


def split_videos(
    roots: Sequence[Path], *, weights: Sequence[int] = (), holdout: int, skip_bad: bool
) -> Split:
    """Training and validation videos of data sets, checked, and what is wrong with files that were left out.

    weights: how often each root's training videos are there, once unless given
    Where no root has validation videos, or most have masks of first frames only (as YouTube-VOS publishes
    them), every `holdout`-th training video of each is held out: without masks there is no score. Roots of
    still images are for training alone, unless all are. Raises UserError where a folder is absent or holds
    bad files that are not to be skipped, training videos show no object, or weights are not as many as roots.
    """
    if weights and len(weights) != len(roots):
        given = " ".join(map(str, weights))
        raise UserError(f"--dataset_weights {given}: give one for each of the {len(roots)} --dataset_root")
    splits = [open_root(root, skip_bad=skip_bad) for root in roots]
    scored = [split for split in splits if not split.train.is_still] or splits
    several = [split for split in scored if len(split.train.videos) > 1] or scored
    valid = [split.valid for split in scored if split.valid]
    valid = valid or [hold_out(split.train, holdout) for split in several]
    for split in splits:
        check_objects(split.train.root, split.train.videos)
    train = join([split.train for split in splits], weights)
    valid = join(valid)
    valid.categories = train.categories  # a class has the number that it was trained with
    return Split(train, valid, [trouble for split in splits for trouble in split.troubles])
