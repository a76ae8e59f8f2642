"""The files that name videos, frames and tracks: YouTube-VIS annotations and results, and tracks.json.

They are read at flat memory in the length of a video, but for the names of its frames; masks go to disk.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from annotated.json_stream import JsonStream, open_json
from common.config import MAX_FRAMES
from common.errors import UserError
from common.progress import progress, say
from scoring.vis_tracks import check_results, check_truth
from video.images import natural_key
from video.rle import RLE


def say_how_many(names: Iterable[str], what: str) -> None:
    """Say on stderr how many files or videos are what, if any."""
    names = list(names)
    if names:
        say(f"{what}: {len(names)}, such as {names[0]}", error=True)


class MaskTable:
    """Encoded masks by track and frame in a temporary database on disk, which goes when it is closed."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")  # a file without a name, that nobody else can open
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE masks (track INTEGER, frame INTEGER, rle TEXT, PRIMARY KEY (track, frame))"
            "WITHOUT ROWID;"
        )

    def add(self, track: int, frame: int, rle: RLE) -> None:
        """Raises OSError where the disk is full."""
        try:
            self._database.execute(
                "INSERT OR REPLACE INTO masks VALUES (?, ?, ?)", (track, frame, json.dumps(rle))
            )
        except sqlite3.OperationalError as error:
            raise OSError(f"masks cannot be kept in a temporary file: {error}") from error

    def get(self, track: int, frame: int) -> RLE | None:
        query = "SELECT rle FROM masks WHERE track = ? AND frame = ?"
        row = self._database.execute(query, (track, frame)).fetchone()
        return row and json.loads(row[0])

    def tracks(self) -> list[int]:
        rows = self._database.execute("SELECT DISTINCT track FROM masks ORDER BY track")
        return [track for (track,) in rows]

    def frames(self, track: int) -> list[int]:
        """The frames in which the track has a mask, in order."""
        query = "SELECT frame FROM masks WHERE track = ? ORDER BY frame"
        return [frame for (frame,) in self._database.execute(query, (track,))]

    def clear(self) -> None:
        self._database.execute("DELETE FROM masks")

    def close(self) -> None:
        self._database.close()


class VideoListing(NamedTuple):
    """A video with its id in a JSON file, its size (H, W) and the names of its frames."""

    id: int
    name: str
    size: tuple[int, int]
    frames: list[str]


def read_entry(stream: JsonStream, number: int, table: MaskTable | None) -> dict[str, Any]:
    """Take an annotation or result whose lists are left empty: its masks go to the table under `number`.

    "num_segmentations" says how many they were, null included.
    """
    entry: dict[str, Any] = {}
    for key in stream.members():
        if stream.peek() != "[":
            entry[key] = stream.value()
            continue
        entry[key] = []
        for frame in stream.elements():
            value = stream.value()
            if key == "segmentations":
                entry["num_segmentations"] = frame + 1
                if table and value not in (None, []):
                    table.add(number, frame, value)
    return entry


def read_entries(stream: JsonStream, table: MaskTable | None, title: str) -> list[dict[str, Any]]:
    """The annotations or results of the list that comes next, as `read_entry` takes them, numbered from 0."""
    return [read_entry(stream, number, table) for number in progress(stream.elements(), title)]


def read_results(path: Path, table: MaskTable) -> list[dict[str, Any]]:
    """The results of a file in the YouTube-VIS form, as `read_entry` takes them."""
    with open_json(path) as stream:
        results = read_entries(stream, table, f"reading {path.name}")
        stream.end()
    check_results(results, str(path))
    return results


def read_annotations(path: Path, table: MaskTable | None = None) -> dict[str, Any]:
    """An annotation file in the YouTube-VIS form, with annotations as `read_entry` takes them.

    Without a table to take the masks there need be no annotations: official validation files have none.
    """
    content: dict[str, Any] = {}
    with open_json(path) as stream:
        for key in stream.members():
            is_list = key == "annotations" and stream.peek() == "["
            content[key] = read_entries(stream, table, f"reading {path.name}") if is_list else stream.value()
        stream.end()
    if table is None:
        content["annotations"] = content.get("annotations") or []
    check_truth(content, str(path))
    return content


def list_video(video: dict[str, Any], where: str) -> VideoListing:
    """A video of an annotation file; its name is the folder of its files. UserError where they have none."""
    names = video.get("file_names")
    names = names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []
    paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
    folders, frames = {path.parent.name for path in paths}, [path.stem for path in paths]
    if not folders.isdisjoint({"", ".."}) or len(folders) != 1 or len(set(frames)) != video["length"]:
        form = "<video>/<frame>.jpg, one for each of its frames, all in one folder"
        raise UserError(f"{where}: video {video['id']} must have file_names {form}")
    return VideoListing(video["id"], folders.pop(), (video["height"], video["width"]), frames)


def list_videos(content: dict[str, Any], where: str) -> list[VideoListing]:
    """The videos of an annotation file; UserError where two have one id or one name."""
    videos = [list_video(video, where) for video in content["videos"]]
    for what, values in (("id", [v.id for v in videos]), ("folder", [v.name for v in videos])):
        twice = [value for value, number in Counter(values).items() if number > 1]
        if twice:
            raise UserError(f"{where} has several videos with the {what} {twice[0]}: leave only one of them")
    return videos


def _number(value: Any, *kinds: type) -> Any:
    """The value; TypeError where it is not of the kinds of number."""
    if type(value) not in kinds:
        raise TypeError(f"{value!r:.40} is not a number")
    return value


class TrackFacts(NamedTuple):
    """What tracks.json says of a track; score is its mean over the frames."""

    category: int
    score: float


class VideoTracks(NamedTuple):
    """What tracks.json says of a video; `frames` names those in which there is a track, in order."""

    id: int
    length: int
    tracks: dict[int, TrackFacts]
    frames: list[str]


def read_video_tracks(stream: JsonStream) -> VideoTracks:
    """One video of a tracks.json."""
    about: dict[str, Any] = {}
    tracks: dict[int, TrackFacts] = {}
    frames: set[str] = set()
    for key in stream.members():
        if key != "tracks":
            about[key] = stream.value()
            continue
        for track in stream.members():
            entry = stream.value()
            tracks[int(track)] = TrackFacts(
                _number(entry["category"], int), _number(entry["score"], int, float)
            )
            frames |= entry["scores"].keys()
    number, length = _number(about["video_id"], int), _number(about["frames"], int)
    if not len(frames) <= length <= MAX_FRAMES:
        raise ValueError(f"{length} frames, of which {len(frames)} have tracks")
    return VideoTracks(number, length, tracks, sorted(frames, key=natural_key))


def read_tracks_json(path: Path) -> dict[str, VideoTracks]:
    """The videos of a tracks.json by name; UserError where it is none."""
    with open_json(path) as stream:
        try:
            return {video: read_video_tracks(stream) for video in stream.members()}
        except UserError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} has not the form of inference.py's tracks.json ({error!r})") from error


def name_frames(some: dict[int, str], length: int) -> list[str] | None:
    """The names of all frames of a video from those of some, {place: name} in order.

    What is missing continues numbers in even steps; None where the names are no such numbers.
    """
    if len(some) == length:
        return list(some.values())
    if len(some) < 2 or not all(name.isdecimal() and len(name) < 19 for name in some.values()):
        return None
    places, numbers = list(some), [int(name) for name in some.values()]
    digits = len(some[places[0]])
    step = (numbers[-1] - numbers[0]) // (places[-1] - places[0])
    start = numbers[0] - step * places[0]
    names = [f"{start + step * place:0{digits}d}" for place in range(length)]
    return names if start >= 0 and all(names[place] == name for place, name in some.items()) else None
