"""Videos and images that a JSON file annotates, in the form of YouTube-VIS, OVIS or COCO.

The file is gone through once, for the place of every mask in it; a mask is decoded when it is asked for. So
memory stays flat in the masks.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from annotated.json_stream import LENIENT, JsonStream, open_json, read_part
from annotated.videos import AnnotatedVideo, VideoSet
from common.config import MAX_FRAMES
from common.errors import UserError
from common.files import below
from common.progress import progress, say
from video.label_maps import IGNORE
from video.rle import check_mask_size, checked_rle, draw_masks, rle_area

CROWD = 0  # in place of the label of an object


@dataclass(kw_only=True)
class JsonVideo(AnnotatedVideo):
    """A video, or an image as a video of one frame, whose masks are parts of a JSON file.

    changed_at: the time of the file when it was gone through, in nanoseconds
    mask_size: (H, W) of its masks, by the file
    listed: the frames in the order of the masks
    masks: (M, 4) int64, of each mask the place of its frame in `listed`, its label or `CROWD`, its first
        byte in the file, and its length in bytes
    """

    json_path: Path
    changed_at: int
    mask_size: tuple[int, int]
    listed: list[str]
    masks: np.ndarray

    def mask_path(self, frame: str) -> Path:
        return self.json_path

    def read_mask(self, frame: str) -> np.ndarray:
        """The (H, W) label map of a frame: of masks that overlap the smaller one is on top.

        Crowds are void, where no object lies on them. Of equals the first in the file is on top.
        Raises UserError where a mask is no RLE and no polygon of the video's size.
        """
        if self.json_path.stat().st_mtime_ns != self.changed_at:
            raise UserError(f"{self.json_path} was changed after the start: start anew")
        place = self.listed.index(frame)
        is_wide = self.masks[:, 1].max(initial=0) >= IGNORE
        labels, void = np.zeros(self.mask_size, np.int32 if is_wide else np.uint8), -1 if is_wide else IGNORE
        masks = []
        for _, label, start, length in self.masks[self.masks[:, 0] == place].tolist():
            value = read_part(self.json_path, start, length)
            where = f"{self.json_path}: the mask of {self.frame_path(frame)} at byte {start}"
            if rle := checked_rle(value, self.mask_size, where):
                masks.append(((label != CROWD, -rle_area(rle)), void if label == CROWD else label, rle))
        draw_masks(labels, masks)
        return labels

    def has_smoothed_edges(self) -> bool:
        return False

    def _check_mask(self, frame: str, frame_size: tuple[int, int] | None) -> None:
        self._check_mask_size(frame, self.mask_size, frame_size)


def labels_of(object_ids: list[Any]) -> list[int]:
    """The id in the label maps of each object of a video: its "object_id", which `masks_to_json` writes.

    Where one has none that is legal and its own, they are numbered from 1, without 255.
    """
    is_legal = all(type(i) is int and 0 < i < 1 << 16 and i != IGNORE for i in object_ids)
    if is_legal and len(set(object_ids)) == len(object_ids):
        return object_ids
    return [number + (number >= IGNORE) for number in range(1, len(object_ids) + 1)]


def _whole(entry: dict[str, Any], key: str, where: str, default: int | None = None) -> int:
    """A whole number of an entry, also one such as 480.0; UserError where it has none."""
    value = entry.get(key, default)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or abs(value) >= 1 << 62:
        raise UserError(f"{where} has the {key} {value!r:.40}: give a whole number")
    return value


class Listing(NamedTuple):
    """What a JSON file says of a video or an image: its id, its size (H, W), and the names of its files."""

    is_image: bool
    id: int
    size: tuple[int, int]
    files: list[str]


def _listing(entry: Any, where: str) -> Listing:
    if not isinstance(entry, dict):
        raise UserError(f"{where} is {entry!r:.40}: give id, width, height and file_name or file_names")
    number = _whole(entry, "id", where)
    where = f"{where} (id {number})"
    size = _whole(entry, "height", where), _whole(entry, "width", where)
    check_mask_size(size, where)
    is_image = "file_names" not in entry
    files = [entry.get("file_name")] if is_image else entry["file_names"]
    if not isinstance(files, list) or not files or not all(isinstance(name, str) for name in files):
        raise UserError(f"{where} names no files: give file_name of an image, file_names of a video")
    if len(files) != _whole(entry, "length", where, len(files)) or len(files) > MAX_FRAMES:
        raise UserError(f"{where} names {len(files)} files, which is not its length: name one a frame")
    return Listing(is_image, number, size, files)


class Annotations:
    """The annotations of a JSON file in columns, and where their masks are.

    entries: (A, 5) int64: id of the video or image, id of the category, iscrowd, object_id (0 for none),
        number of masks with those that are null
    masks: (M, 4) int64: row in `entries`, place of the frame, first byte, bytes
    """

    def __init__(self, stream: JsonStream, path: Path):
        entries, masks = array("q"), array("q")
        for number in progress(stream.elements(), f"reading {path.name}"):
            entries.extend(self._read(stream, number, masks, f"{path}: annotation {number}"))
        self.entries = np.array(entries, dtype=np.int64).reshape(-1, 5)
        self.masks = np.array(masks, dtype=np.int64).reshape(-1, 4)

    def _read(self, stream: JsonStream, number: int, masks: array, where: str) -> tuple[int, ...]:
        entry, length = {}, 0
        for key in stream.members():
            if key == "segmentations" and stream.peek() == "[":
                for place in stream.elements():
                    self._read_mask(stream, number, place, masks)
                    length = place + 1
            elif key == "segmentation":
                self._read_mask(stream, number, 0, masks)
                length = 1
            else:
                entry[key] = stream.value(LENIENT)
        video = _whole(entry, "video_id" if "video_id" in entry else "image_id", where)
        crowd = _whole(entry, "iscrowd", where, 0)
        if crowd not in (0, 1):
            raise UserError(f"{where} has the iscrowd {crowd}: give 0 or 1")
        object_id = entry.get("object_id")
        object_id = object_id if type(object_id) is int and 0 < object_id < 1 << 16 else 0
        return video, _whole(entry, "category_id", where), crowd, object_id, length

    @staticmethod
    def _read_mask(stream: JsonStream, number: int, place: int, masks: array) -> None:
        start = stream.offset
        if stream.value(LENIENT) not in (None, []):
            masks.extend((number, place, start, stream.offset - start))


class Content(NamedTuple):
    """What a JSON file holds; categories: their names by id."""

    changed_at: int
    videos: list[Listing]
    categories: dict[int, str]
    annotations: Annotations | None


def _categories(entries: Any, path: Path) -> dict[int, str]:
    form = '[{"id": 1, "name": "cat"}, ...]'
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path} has categories that are not {form}: mend them")
    names = {
        _whole(entry, "id", f"{path}: category {i}"): entry.get("name") for i, entry in enumerate(entries)
    }
    if not all(isinstance(name, str | int | None) for name in names.values()) or len(names) < len(entries):
        raise UserError(f"{path} has categories that are not {form}, each with an id of its own: mend them")
    return {number: str(number if name is None else name) for number, name in names.items()}


def read_content(path: Path) -> Content:
    """Go through a JSON file in the form of YouTube-VIS or COCO; UserError where it has another form."""
    changed_at, videos = path.stat().st_mtime_ns, None
    categories, annotations = None, None
    with open_json(path, in_bytes=True) as stream:
        for key in stream.members():
            if key in ("videos", "images"):
                where = f"{path}: entry {{}} of {key}"
                videos = [_listing(stream.value(), where.format(i)) for i in stream.elements()]
            elif key == "categories":
                categories = _categories(stream.value(), path)
            elif key == "annotations" and stream.peek() == "[":
                annotations = Annotations(stream, path)
            elif stream.value(LENIENT) is not None and key == "annotations":
                raise UserError(f"{path} holds annotations that are no list: write it anew")
        stream.end()
    if videos is None or categories is None:
        raise UserError(f"{path} is no annotation file of YouTube-VIS or COCO: it lacks videos or categories")
    return Content(changed_at, videos, categories, annotations)


def name_unlisted(content: Content, path: Path) -> None:
    """Let categories that annotations have, and the file does not list, be classes by their numbers."""
    numbers = set() if content.annotations is None else set(content.annotations.entries[:, 1].tolist())
    unlisted = sorted(numbers - content.categories.keys())
    if unlisted:
        first = ", ".join(map(str, unlisted[:5])) + (", ..." if len(unlisted) > 5 else "")
        trouble = f"lists {len(unlisted)} categories of its annotations nowhere ({first})"
        say(f"{path} {trouble}: each is a class by its number", error=True)
    content.categories.update({number: f"category {number}" for number in unlisted})


def _frames_of(video: Listing, folder: Path, where: str) -> tuple[Path, str, list[str]]:
    """The folder of a video's frames, their suffix, their names without it; UserError where one is none."""
    paths = [PurePosixPath(name.replace("\\", "/")) for name in video.files]
    places = {path.parent for path in paths}, {path.suffix for path in paths}
    names = [path.stem for path in paths]
    if any(len(place) > 1 for place in places) or len(set(names)) < len(names):
        raise UserError(f"{where} must have files in one folder, of one format, each named once")
    for part in (*paths[0].parts[:-1], *(path.name for path in paths)):
        below(folder, part)
    return folder / paths[0].parent, paths[0].suffix, names


def _check_known(content: Content, path: Path) -> np.ndarray:
    """The rank of each annotation's video, (A,); UserError where it has none, or not a mask a frame."""
    entries = content.annotations.entries
    rank_of = {video.id: rank for rank, video in enumerate(content.videos)}
    ranks = np.array([rank_of.get(video, -1) for video in entries[:, 0].tolist()], dtype=np.int64)
    for number in np.flatnonzero(ranks < 0)[:1]:
        trouble = f"is of video or image {entries[number, 0]}, which is not listed"
        raise UserError(f"{path}: annotation {number} {trouble}: leave it out")
    frames = np.array([len(video.files) for video in content.videos], dtype=np.int64)[ranks]
    for number in np.flatnonzero(entries[:, 4] == 0)[:1]:
        trouble = "has no mask: it needs a segmentation, or segmentations of a video"
        raise UserError(f"{path}: annotation {number} {trouble}; a box is not enough")
    for number in np.flatnonzero(entries[:, 4] != frames)[:1]:
        trouble = f"has {entries[number, 4]} masks, but its video has {frames[number]} frames"
        raise UserError(f"{path}: annotation {number} {trouble}: give one for each, null where there is none")
    return ranks


def _groups(ranks: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """For each rank below `count` the rows that have it, in order."""
    order = np.argsort(ranks, kind="stable")
    bounds = np.searchsorted(ranks[order], np.arange(count + 1))
    return (order[start:end] for start, end in pairwise(bounds.tolist()))


def _check_alone(values: Iterable[Any], what: str, path: Path) -> None:
    """Raise UserError where a value comes twice."""
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise UserError(f"{path} has several videos or images with the {what} {twice[0]}: leave only one")


class JsonVideos(VideoSet):
    """The videos, or images, of a JSON file in the form of YouTube-VIS, OVIS or COCO.

    path: the file; folder: what the names of its frames begin in
    Those without any mask of an object are left out, and counted on stderr. Raises UserError where the file
    has another form.
    """

    def __init__(self, path: Path, folder: Path):
        content = read_content(path)
        name_unlisted(content, path)
        super().__init__(folder, [], content.categories.values())
        _check_alone((video.id for video in content.videos), "id", path)
        if content.annotations is not None:
            self.videos = [video for video in self._videos(content, path) if video.categories]
            _check_alone((video.name for video in self.videos), "name", path)
            left_out = len(content.videos) - len(self.videos)
            if self.videos and left_out:
                total = len(content.videos)
                say(f"{path}: {left_out} of {total} show no object and are left out", error=True)

    def _videos(self, content: Content, path: Path) -> Iterator[JsonVideo]:
        entries, masks = content.annotations.entries, content.annotations.masks
        ranks, count = _check_known(content, path), len(content.videos)
        labels = np.full(len(entries), CROWD, dtype=np.int64)
        grouped = zip(content.videos, _groups(ranks, count), _groups(ranks[masks[:, 0]], count), strict=True)
        for video, own, rows in grouped:
            objects = own[entries[own, 2] == 0]
            labels[objects] = labels_of(entries[objects, 3].tolist())
            rows = masks[rows]
            table = np.stack([rows[:, 1], labels[rows[:, 0]], rows[:, 2], rows[:, 3]], 1)
            shown = np.unique(rows[:, 0][table[:, 1] != CROWD]).tolist()
            names = {
                int(labels[i]): content.categories[number]
                for i, number in zip(shown, entries[shown, 1].tolist(), strict=True)
            }
            where = f"{path}: video or image {video.id}"
            frame_folder, suffix, frames = _frames_of(video, self.root, where)
            has_folder = not video.is_image and frame_folder != self.root
            name = frame_folder if has_folder else frame_folder / f"{frames[0]}{suffix}"
            yield JsonVideo(
                name.relative_to(self.root).as_posix(),
                frame_folder,
                path.parent,
                suffix,
                frames,
                list(frames),
                categories=names,
                meta=path,
                json_path=path,
                changed_at=content.changed_at,
                mask_size=video.size,
                listed=frames,
                masks=table,
            )
