"""Annotations or results in the YouTube-VIS form to label maps, at flat memory in the length of a video."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from annotated.json_stream import open_json
from annotated.json_videos import labels_of
from common.errors import UserError
from common.files import atomic_folder, below, joined
from common.progress import progress
from tools.convert.vis_files import (
    MaskTable,
    VideoListing,
    VideoTracks,
    list_videos,
    name_frames,
    read_annotations,
    read_results,
    read_tracks_json,
    say_how_many,
)
from video.images import write_label_map
from video.rle import check_mask_size, checked_rle, draw_masks, rle_area


class DrawnObject(NamedTuple):
    """An object to draw.

    label: its id in the label maps
    number: where its masks are in the table
    category: its id
    score: None for a true object
    crowd: whether a true object stands for several
    """

    label: int
    number: int
    category: int
    score: float | None
    crowd: bool


class Source(NamedTuple):
    """What is to be drawn.

    objects: those of each video, by its id
    categories: names of the categories of true objects, by id; None for results
    where: what errors call an object, before its number in the file
    left_out: names of the videos that have no mask, and so no known size
    """

    videos: list[VideoListing]
    objects: dict[int, list[DrawnObject]]
    categories: dict[int, str] | None
    where: str
    left_out: list[str]


def objects_of(
    videos: list[VideoListing], entries: list[dict[str, Any]], min_score: float, where: str
) -> dict[int, list[DrawnObject]]:
    """The objects of each video in the order of the file; weak ones left out.

    Raises UserError where an entry is of an unknown video, or has not a mask or null for each frame.
    """
    lengths = {video.id: len(video.frames) for video in videos}
    kept: dict[int, list[int]] = {video: [] for video in lengths}
    for number, entry in enumerate(entries):
        video, score, length = entry["video_id"], entry.get("score"), entry.get("num_segmentations", 0)
        if video not in lengths:
            raise UserError(f"{where} {number} is of video {video}, which is not listed: leave it out")
        if length != lengths[video]:
            mismatch = f"{length} segmentations, but video {video} has {lengths[video]} frames"
            raise UserError(
                f"{where} {number} has {mismatch}: give one for each, null where there is no mask"
            )
        if score is None or score >= min_score:
            kept[video].append(number)
    objects = {}
    for video, numbers in kept.items():
        chosen = [entries[number] for number in numbers]
        labels = labels_of([one.get("object_id") for one in chosen])
        objects[video] = [
            DrawnObject(label, number, one["category_id"], one.get("score"), bool(one.get("iscrowd")))
            for label, number, one in zip(labels, numbers, chosen, strict=True)
        ]
    return objects


def listing_of_tracks(
    name: str, tracks: VideoTracks, numbers: list[int], table: MaskTable, where: str
) -> VideoListing:
    """A video of tracks.json, of which the masks with these numbers tell the size; they are not all empty.

    Raises UserError where the names of frames without a track cannot be known.
    """
    number_at = {place: number for number in numbers for place in table.frames(number)}
    places = sorted(number_at)
    frames = None
    if len(places) == len(tracks.frames):
        frames = name_frames(dict(zip(places, tracks.frames, strict=True)), tracks.length)
    if frames is None:
        raise UserError(f"{where} does not name every frame of {name}: give an annotation file by --videos")
    rle = table.get(number_at[places[0]], places[0])
    size = rle.get("size") if isinstance(rle, dict) else None
    if not isinstance(size, list) or len(size) != 2:
        raise UserError(f"the results of video {name} have masks without a size [height, width]: add it")
    size = tuple(int(side) if side == round(side) else side for side in size)
    check_mask_size(size, f"a result of video {name}")
    return VideoListing(tracks.id, name, size, frames)


def videos_of_tracks(
    path: Path, entries: list[dict[str, Any]], table: MaskTable
) -> tuple[list[VideoListing], list[str]]:
    """The videos of results by the tracks.json beside them, and the names of those without any mask.

    Raises UserError where there is no such file, or it does not name all frames.
    """
    if not path.is_file():
        raise UserError(f"there is no {path} that names the videos: give an annotation file by --videos")
    numbers: dict[int, list[int]] = {}
    for number, entry in enumerate(entries):
        numbers.setdefault(entry["video_id"], []).append(number)
    videos = read_tracks_json(path)
    masks_of = {name: numbers.get(video.id, []) for name, video in videos.items()}
    left_out = [name for name in videos if not any(table.frames(number) for number in masks_of[name])]
    names = (name for name in videos if name not in left_out)
    listings = [listing_of_tracks(name, videos[name], masks_of[name], table, str(path)) for name in names]
    return listings, left_out


def read_source(source: Path, annotations: Path | None, min_score: float, table: MaskTable) -> Source:
    """Read a file of annotations, or of results, whose videos `annotations` or a tracks.json lists."""
    with open_json(source) as stream:
        is_results = stream.peek() == "["
    if is_results:
        entries, where = read_results(source, table), f"{source}: result"
        if annotations:
            videos, left_out = list_videos(read_annotations(annotations), str(annotations)), []
        else:
            videos, left_out = videos_of_tracks(source.parent / "tracks.json", entries, table)
        return Source(videos, objects_of(videos, entries, min_score, where), None, where, left_out)
    if annotations or min_score:
        raise UserError(f"{source} holds annotations: --videos and --min_score are for results")
    content, where = read_annotations(source, table), f"{source}: annotation"
    videos = list_videos(content, str(source))
    categories = {entry["id"]: str(entry.get("name", entry["id"])) for entry in content["categories"]}
    for number, entry in enumerate(content["annotations"]):
        if entry["category_id"] not in categories:
            raise UserError(
                f"{where} {number} is of category {entry['category_id']}, which is not listed: add it"
            )
    return Source(videos, objects_of(videos, content["annotations"], 0.0, where), categories, where, [])


def draw(
    video: VideoListing, place: int, objects: list[DrawnObject], table: MaskTable, where: str
) -> np.ndarray:
    """The (H, W) label map of a frame; of masks that overlap the one of the higher score is on top.

    Of true masks, which have no score, it is the smaller one; of equals the first in the file.
    """
    masks = []
    for one in objects:
        rle = checked_rle(table.get(one.number, place), video.size, f"{where} {one.number}, frame {place},")
        if rle:
            masks.append((-rle_area(rle) if one.score is None else one.score, one.label, rle))
    labels = np.zeros(video.size, dtype=np.int32)
    draw_masks(labels, masks)
    return labels


def object_pieces(source: Source, video: VideoListing, table: MaskTable) -> Iterator[list[str]]:
    """What `write_facts` says of each object of a video that has a mask."""
    for one in source.objects[video.id]:
        frames = [video.frames[place] for place in table.frames(one.number)]
        if not frames:
            continue
        if source.categories is not None:
            about = {"category": source.categories[one.category], "frames": frames}
            about |= {"iscrowd": 1} if one.crowd else {}
        else:
            ends = {"first": frames[0], "last": frames[-1]}
            about = {"category": one.category, "score": one.score, **ends}
            about["scores"] = dict.fromkeys(frames, one.score)
        yield [f'"{one.label}": {json.dumps(about)}']


def video_pieces(source: Source, video: VideoListing, table: MaskTable) -> Iterator[str]:
    """What `write_facts` says of a video."""
    head = '"objects"'
    if source.categories is None:
        head = f'"video_id": {video.id}, "frames": {len(video.frames)}, "tracks"'
    opening = f"{json.dumps(video.name)}: {{{head}: {{\n  "
    return joined(opening, object_pieces(source, video, table), ",\n  ", "}}")


def write_facts(folder: Path, source: Source, table: MaskTable) -> None:
    """Write what label maps do not say: meta.json in the YouTube-VOS form, or of results tracks.json."""
    path, opening, ending = folder / "tracks.json", "{\n", "\n}\n"
    if source.categories is not None:
        path, opening, ending = folder / "meta.json", '{"videos": {\n', "\n}}\n"
    videos = (video_pieces(source, video, table) for video in source.videos)
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(joined(opening, videos, ",\n", ending))


def json_to_masks(path: Path, target: Path, annotations: Path | None, min_score: float) -> str:
    """Draw the masks of a JSON file as label maps in a new folder, target/<video>/<frame>.png; a summary.

    Beside them is meta.json of true objects, or tracks.json of results, so that the way back loses nothing.
    annotations: the annotation file that lists the videos of results; tracks.json beside them by default
    min_score: results of a lower score are left out
    """
    with closing(MaskTable()) as table, atomic_folder(target) as folder:
        source = read_source(path, annotations, min_score, table)
        for video in progress(source.videos, f"writing {target}"):
            maps = below(folder, video.name)
            maps.mkdir()
            for place, frame in enumerate(video.frames):
                labels = draw(video, place, source.objects[video.id], table, source.where)
                write_label_map(below(maps, frame, ".png"), labels)
        write_facts(folder, source, table)
    say_how_many(source.left_out, "videos without any mask, which get no label maps")
    num_maps = sum(len(video.frames) for video in source.videos)
    num_objects = sum(map(len, source.objects.values()))
    return f"{target}: {len(source.videos)} videos, {num_maps} label maps, {num_objects} objects"
