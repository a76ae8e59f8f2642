"""Label maps to the YouTube-VIS form: annotations, or a list of results, at flat memory in their length."""

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from annotated.videos import read_categories, read_category_names, read_objects
from common.errors import UserError, require
from common.files import atomic_write, below, joined
from common.progress import progress, say
from scoring.label_folders import mask_root, true_masks
from tools.convert.vis_files import (
    MaskTable,
    TrackFacts,
    VideoListing,
    VideoTracks,
    list_videos,
    read_annotations,
    read_tracks_json,
    say_how_many,
)
from video.images import list_files, list_folders, read_header, read_label_map
from video.label_maps import objects_in
from video.rle import encode_rle


def crowds_in(path: Path) -> set[tuple[str, int]]:
    """The (video, object) that a meta.json calls a crowd."""
    return {
        (video, i)
        for video, objects in read_objects(path).items()
        for i, about in objects.items()
        if about.get("iscrowd")
    }


class ObjectFacts:
    """What is known of the objects in label maps beside their pixels: categories and scores.

    meta.json names the category of each object; tracks.json has the scores of tracks and the numbers of their
    categories, which categories.json names. All are optional.
    """

    def __init__(self, source: Path, official: list[dict[str, Any]] | None):
        """official: the categories of an annotation file, whose ids hold"""
        self.root = source.parent if source.name == "Annotations" else source
        self.meta = read_categories(self.root / "meta.json")
        self.crowds = crowds_in(self.root / "meta.json")
        tracks = self.root / "tracks.json"
        self.tracks = read_tracks_json(tracks) if tracks.exists() else {}
        self.names = read_category_names(self.root / "categories.json")
        self.official = official
        self.ids = {name: number for number, name in self.names.items()}
        for name in sorted({name for objects in self.meta.values() for name in objects.values()}):
            self.ids.setdefault(name, max(self.ids.values(), default=0) + 1)
        if official is not None:
            self.ids = {category.get("name"): category["id"] for category in official}
        only = official[0]["id"] if official is not None and len(official) == 1 else 1
        self.unknown = TrackFacts(category=only, score=1.0)  # what is said of an object without any facts
        self.used: set[int] = set()

    def track(self, video: str, object_id: int) -> TrackFacts:
        tracks = self.tracks[video].tracks if video in self.tracks else {}
        return tracks.get(object_id, self.unknown)

    def category(self, video: str, object_id: int) -> int:
        """The category id of an object; UserError where it has none, or one that the official ones lack."""
        number, names = self.track(video, object_id).category, self.meta.get(video)
        if names and object_id not in names:
            raise UserError(f"{self.root / 'meta.json'} lacks object {object_id} of video {video}: add it")
        name = names[object_id] if names else self.names.get(number)
        number = number if name is None else self.ids.get(name)
        if number is None or (self.official and number not in self.ids.values()):
            what = f"object {object_id} of video {video} is of the category {name or number}"
            raise UserError(f"{what}, which the annotation file does not have: rename it, or add it there")
        self.used.add(number)
        return number

    def categories(self) -> list[dict[str, Any]]:
        """The list "categories"; one without a name is called by its number, or "object" if that is 1."""
        if self.official is not None:
            return self.official
        names = {number: "object" if number == 1 else str(number) for number in self.used or {1}}
        names |= {number: name for name, number in self.ids.items()}
        return [{"id": number, "name": name} for number, name in sorted(names.items())]


def list_mask_folders(masks: Path, tracks: dict[str, VideoTracks]) -> list[VideoListing]:
    """The videos of a folder of label maps; ids are those of tracks.json, or else the ranks of the names."""
    names = list_folders(masks)
    if not names:
        raise UserError(f"{masks} holds no videos: put the label maps of each into a folder of its own")
    videos = []
    for rank, name in enumerate(names, start=1):
        paths = true_masks(masks / name)
        number = tracks[name].id if tracks.keys() >= set(names) else rank
        videos.append(VideoListing(number, name, read_header(paths[0])[1], [path.stem for path in paths]))
    return videos


def read_masks(folder: Path, video: VideoListing, table: MaskTable) -> int:
    """Put the mask of every object in every frame into the table; returns the number of label maps."""
    num_maps = 0
    for place, frame in enumerate(video.frames):
        path = below(folder, frame, ".png")
        if not path.is_file():
            continue
        labels = read_label_map(path)
        if labels.shape != video.size:
            (h, w), (H, W) = labels.shape, video.size
            raise UserError(f"{path} is {w}x{h}, but video {video.name} is {W}x{H}: write it at that size")
        for object_id in objects_in(labels):
            table.add(object_id, place, encode_rle(labels == object_id))
        num_maps += 1
    return num_maps


def video_entry(video: VideoListing) -> dict[str, Any]:
    """An entry of the list "videos"; frames are named as in the official files."""
    (H, W), names = video.size, [f"{video.name}/{frame}.jpg" for frame in video.frames]
    return {"id": video.id, "width": W, "height": H, "length": len(names), "file_names": names}


def entry_pieces(head: dict[str, Any], lists: dict[str, Iterable[Any]]) -> Iterator[str]:
    """The text of an object with the members of `head` and lists whose elements come one by one."""
    parts = (
        joined(f"{json.dumps(name)}: [", ([json.dumps(value)] for value in values), ", ", "]")
        for name, values in lists.items()
    )
    return joined(f"{json.dumps(head)[:-1]}, ", parts, ", ", "}")


class MaskReader:
    """The entries of a JSON file, video by video, from a folder of label maps; counts what it reads."""

    def __init__(self, masks: Path, facts: ObjectFacts, table: MaskTable):
        self.masks, self.facts, self.table = masks, facts, table
        self.num_maps = self.num_objects = 0

    def read(self, videos: list[VideoListing]) -> Iterator[tuple[VideoListing, int]]:
        """Each video and each id in it, while the table holds its masks."""
        for video in progress(videos, f"reading {self.masks}"):
            self.table.clear()
            self.num_maps += read_masks(below(self.masks, video.name), video, self.table)
            for object_id in self.table.tracks():
                self.num_objects += 1
                yield video, object_id

    def results(self, videos: list[VideoListing]) -> Iterator[Iterator[str]]:
        """The text of each entry of a list of results."""
        for video, object_id in self.read(videos):
            category = self.facts.category(video.name, object_id)
            score = self.facts.track(video.name, object_id).score
            head = {"video_id": video.id, "category_id": category, "score": score}
            yield entry_pieces(head, {"segmentations": self._rles(video, object_id)})

    def annotations(self, videos: list[VideoListing]) -> Iterator[Iterator[str]]:
        """The text of each entry of the list "annotations"."""
        coder = require("pycocotools.mask", "converting masks")
        for video, object_id in self.read(videos):
            category = self.facts.category(video.name, object_id)
            crowd = int((video.name, object_id) in self.facts.crowds)
            head = {"id": self.num_objects, "video_id": video.id, "category_id": category}
            head |= {"iscrowd": crowd, "object_id": object_id}
            areas = (rle and int(coder.area(rle)) for rle in self._rles(video, object_id))
            boxes = (rle and coder.toBbox(rle).tolist() for rle in self._rles(video, object_id))
            rles = self._rles(video, object_id)
            yield entry_pieces(head, {"segmentations": rles, "areas": areas, "bboxes": boxes})

    def _rles(self, video: VideoListing, object_id: int) -> Iterator[Any]:
        return (self.table.get(object_id, place) for place in range(len(video.frames)))


def listed_videos(annotations: Path, content: dict[str, Any], masks: Path) -> list[VideoListing]:
    """The videos of an annotation file; UserError where there are label maps of none of them."""
    videos = list_videos(content, str(annotations))
    names = {video.name for video in videos}
    if names.isdisjoint(list_folders(masks)):
        example = f", such as {min(names)}" if names else ""
        raise UserError(f"{masks} has no folder of a video of {annotations}{example}: give its label maps")
    return videos


def say_unlisted(videos: list[VideoListing], masks: Path, annotations: Path) -> None:
    """Say on stderr which videos of an annotation file, and which label maps, have no counterpart."""
    names, folders = {video.name for video in videos}, list_folders(masks)
    say_how_many(sorted(names - set(folders)), f"videos of {annotations} without label maps")
    unlisted = (name for name in folders if name not in names)
    say_how_many(unlisted, f"folders left out, which are no video of {annotations}")
    maps = [path for video in videos for path in list_files(below(masks, video.name), {".png"})]
    frames = {(video.name, frame) for video in videos for frame in video.frames}
    unlisted = (str(path) for path in maps if (path.parent.name, path.stem) not in frames)
    say_how_many(unlisted, f"label maps left out, which are no frame of {annotations}")


def truth_pieces(videos: list[VideoListing], reader: MaskReader) -> Iterator[str]:
    """The text of an annotation file; its categories are known when all label maps are read."""
    info = {"description": "label maps that tools.convert put into the YouTube-VIS form"}
    head = {"info": info, "videos": [video_entry(video) for video in videos]}
    opening = f'{json.dumps(head)[:-1]}, "annotations": [\n'
    yield from joined(opening, reader.annotations(videos), ",\n", "\n], ")
    yield f'"categories": {json.dumps(reader.facts.categories())}}}\n'


def masks_to_json(source: Path, target: Path, form: str, annotations: Path | None) -> str:
    """Write label maps in the YouTube-VIS form, "truth" or "results"; returns a summary.

    annotations: the annotation file whose videos, frames and ids of categories hold
    """
    masks = mask_root(source)
    official = read_annotations(annotations) if annotations else None
    facts = ObjectFacts(source, official["categories"] if official else None)
    videos = (
        listed_videos(annotations, official, masks) if official else list_mask_folders(masks, facts.tracks)
    )
    with closing(MaskTable()) as table, atomic_write(target) as temporary:
        reader = MaskReader(masks, facts, table)
        pieces = (
            truth_pieces(videos, reader)
            if form == "truth"
            else joined("[\n", reader.results(videos), ",\n", "\n]\n")
        )
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(pieces)
    if official:
        say_unlisted(videos, masks, annotations)
    if official and len(official["categories"]) > 1 and not facts.meta and not facts.tracks:
        trouble = f"{facts.root} has neither meta.json nor tracks.json"
        say(f"{trouble}: every object is of category {facts.unknown.category}", error=True)
    return f"{target}: {len(videos)} videos, {reader.num_maps} label maps, {reader.num_objects} objects"
