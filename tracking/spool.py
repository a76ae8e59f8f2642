"""Keeps the tracks of all videos, from which results.json and tracks.json are written.

On disk everything is kept and written frame by frame, at flat memory in the length of a video.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError, available
from common.files import atomic_write, joined
from common.types import BinaryTracks
from video.masks import extreme_points
from video.rle import RLE, encode_rle


class TrackRow(NamedTuple):
    """One track in one frame.

    track: the id
    score: in [0, 1]
    category: 1 where there are no classes
    rle: the run-length encoding of the mask; None where nothing can encode it and only tracks.json is wanted
    box: the 4 corners (x, y) of a rotated box; None where the system has none
    extremes: beside a box, the mask's extreme points (x, y): left, top, right, bottom; None where it is empty
    """

    track: int
    score: float
    category: int
    rle: RLE | None
    box: list[list[float]] | None = None
    extremes: list[list[int]] | None = None


def track_rows(tracks: BinaryTracks, *, encode: bool) -> list[TrackRow]:
    """What results.json and tracks.json keep of one frame: every track whose mask has a pixel.

    A track that only the label map shows, because all its probabilities are below the threshold, has a score
    and no mask, and so has one of which there is a box alone.
    encode: whether masks are run-length encoded, which needs pycocotools
    """
    classes = [0] * len(tracks.ids) if tracks.classes is None else tracks.classes.tolist()
    boxes = [None] * len(tracks.ids) if tracks.boxes is None else tracks.boxes.tolist()
    rows, masks = [], tracks.binary_masks.cpu().numpy()
    for track, score, category, mask, box in zip(
        tracks.ids.tolist(), tracks.scores.tolist(), classes, masks, boxes, strict=True
    ):
        if mask.any():
            rle, extremes = encode_rle(mask) if encode else None, extreme_points(mask) if box else None
            rows.append(TrackRow(track, score, category + 1, rle, box, extremes))
        elif box or (tracks.labels == track).any():
            rows.append(TrackRow(track, score, category + 1, None, box))
    return rows


SCHEMA = """
CREATE TABLE IF NOT EXISTS videos (video INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS frames (
    video INTEGER, frame INTEGER, name TEXT NOT NULL,
    PRIMARY KEY (video, frame)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    video INTEGER, track INTEGER, frame INTEGER,
    score REAL NOT NULL, category INTEGER NOT NULL, rle TEXT NOT NULL,
    box TEXT NOT NULL, extremes TEXT NOT NULL,
    PRIMARY KEY (video, track, frame)
) WITHOUT ROWID;
"""
VIDEOS = """
SELECT name, (SELECT COUNT(*) FROM frames WHERE frames.video = videos.video) FROM videos ORDER BY video
"""
# A track's category is the one it has in most frames, the smallest among equals.
TRACK_SUMMARY = """
SELECT track, AVG(score), (
    SELECT category FROM rows AS other WHERE other.video = rows.video AND other.track = rows.track
    GROUP BY category ORDER BY COUNT(*) DESC, category LIMIT 1
), MIN(frame), MAX(frame) FROM rows WHERE video = ? GROUP BY track ORDER BY track
"""
COLUMNS = {  # of each table, beside the video
    "videos": "name",
    "frames": "frame, name",
    "rows": "track, frame, score, category, rle, box, extremes",
}
TRACK_VALUES = """
SELECT frames.name, {column} FROM rows JOIN frames USING (video, frame)
WHERE video = ? AND track = ? AND {column} != 'null' ORDER BY frame
"""


class ResultsSpool:
    """Keeps the tracks of all videos in a database, from which the JSON files are written.

    A context manager: `start_video`, `add_tracks` for every frame in order, and at the end `write_results`
    and `write_tracks`, or `results`. A video's id is the 1-based rank of its name among all videos; a track's
    score is the mean of its scores over the frames where it is present.
    path: of the database, which holds what it held at the last `commit`, whatever ended the process since;
        None keeps it in memory
    Raises UserError where the path is too long, OSError where the database cannot be written.
    """

    def __init__(self, path: Path | None = None):
        self._path = path
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:  # the calls may come from a background thread, one at a time
            self._database = sqlite3.connect(path or ":memory:", check_same_thread=False)
        except sqlite3.OperationalError as error:  # SQLite takes no path of more than 512 bytes
            raise UserError(f"{path} cannot be opened: choose a folder with a shorter path") from error
        try:
            with self._disk_errors():
                self._database.executescript(SCHEMA)
        except OSError:
            self.__exit__()
            raise
        self._encode = available("pycocotools.mask")
        self._read_videos()

    def _read_videos(self) -> None:
        """Names of the videos, whose places in the list are the keys in the tables, and lengths in frames."""
        videos = self._database.execute(VIDEOS).fetchall()
        self._names, self._lengths = [name for name, _ in videos], [length for _, length in videos]

    @property
    def num_frames(self) -> int:
        """Of the video started last."""
        return self._lengths[-1] if self._lengths else 0

    def start_video(self, name: str) -> None:
        assert name not in self._names, f"video {name} comes twice"
        with self._disk_errors():
            self._database.execute("INSERT INTO videos VALUES (?, ?)", (len(self._names), name))
        self._names.append(name)
        self._lengths.append(0)

    def go_on(self, name: str, num_frames: int) -> None:
        """Start a video, or go on with it, the one started last, after so many frames; later ones go."""
        if name not in self._names:
            self.start_video(name)
        with self._disk_errors():
            for table in ("frames", "rows"):
                query = f"DELETE FROM {table} WHERE video = ? AND frame >= ?"
                self._database.execute(query, (len(self._names) - 1, num_frames))
        self._lengths[-1] = num_frames

    def commit(self) -> None:
        with self._disk_errors():
            self._database.commit()

    def take(self, path: Path) -> None:
        """Append the videos of another database."""
        first = len(self._names)
        with self._disk_errors():
            self._database.commit()
            self._database.execute("ATTACH ? AS other", (str(path),))
            for table, columns in COLUMNS.items():
                query = f"INSERT INTO {table} SELECT video + ?, {columns} FROM other.{table}"
                self._database.execute(query, (first,))
            self._database.commit()
            self._database.execute("DETACH other")
        self._read_videos()

    def add_tracks(self, name: str, tracks: BinaryTracks) -> None:
        """Append a frame of the video started last; masks are kept where pycocotools can encode them."""
        self.add_frame(name, track_rows(tracks, encode=self._encode))

    def add_frame(self, name: str, rows: Iterable[TrackRow]) -> None:
        """Append a frame of the video started last, with the tracks that are present in it (maybe none)."""
        video, frame = len(self._names) - 1, self._lengths[-1]
        texts = (
            (video, row.track, frame, row.score, row.category, *map(json.dumps, row[3:])) for row in rows
        )
        with self._disk_errors():
            self._database.execute("INSERT INTO frames VALUES (?, ?, ?)", (video, frame, name))
            self._database.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)", texts)
        self._lengths[video] += 1

    def results(self) -> list[dict[str, Any]]:
        """The results in the YouTube-VIS format: one entry for each track of each video.

        An entry is {"video_id", "category_id", "score", "segmentations": an RLE or None for each frame}.
        """
        return [
            entry | {"segmentations": list(map(json.loads, texts))} for entry, texts in self._result_entries()
        ]

    def write_results(self, path: Path) -> None:
        """Write the list of `results`."""
        entries = (
            joined(f'{json.dumps(entry)[:-1]}, "segmentations": [', ([text] for text in texts), ", ", "]}")
            for entry, texts in self._result_entries()
        )
        self._write(path, joined("[\n", entries, ",\n", "\n]\n"))

    def write_tracks(self, path: Path) -> None:
        """Write who was when and where: for each video its id, its length in frames and its tracks.

        {video: {"video_id", "frames", "tracks": {id: {"category", "score", "first", "last", "scores"}}}}:
        "first" and "last" are names of frames, "scores" holds those of the frames where the track is present.
        Where a system has boxes, beside them "boxes", 4 corners (x, y) for each frame, and "extreme_points",
        the left, top, right and bottom pixel of each mask that is not empty.
        """
        self._write(path, joined("{\n", self._video_entries(), ",\n", "\n}\n"))

    def __enter__(self) -> "ResultsSpool":
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def _write(self, path: Path, pieces: Iterable[str]) -> None:
        with self._disk_errors(), atomic_write(path) as temporary:
            with open(temporary, "w", encoding="utf-8") as file:
                file.writelines(pieces)

    def _ranked(self) -> Iterator[tuple[int, int]]:
        """(video_id, key in the tables) of every video, by name."""
        return enumerate(sorted(range(len(self._names)), key=self._names.__getitem__), start=1)

    def _result_entries(self) -> Iterator[tuple[dict[str, Any], Iterator[str]]]:
        """Each entry of the results without its segmentations, and the JSON texts of these."""
        for video_id, video in self._ranked():
            for track, score, category, *_ in self._database.execute(TRACK_SUMMARY, (video,)):
                entry = {"video_id": video_id, "category_id": category, "score": score}
                yield entry, self._segmentations(video, track)

    def _segmentations(self, video: int, track: int) -> Iterator[str]:
        """The encoding of the track's mask in every frame of the video, null where it is absent."""
        next_frame = 0
        query = "SELECT frame, rle FROM rows WHERE video = ? AND track = ? ORDER BY frame"
        for frame, rle in self._database.execute(query, (video, track)):
            yield from repeat("null", frame - next_frame)
            yield rle
            next_frame = frame + 1
        yield from repeat("null", self._lengths[video] - next_frame)

    def _video_entries(self) -> Iterator[Iterator[str]]:
        for video_id, video in self._ranked():
            entry = json.dumps({"video_id": video_id, "frames": self._lengths[video]})
            opening = f'{json.dumps(self._names[video])}: {entry[:-1]}, "tracks": {{'
            yield joined(opening, self._track_entries(video), ",", "}}")

    def _track_entries(self, video: int) -> Iterator[Iterator[str]]:
        for track, score, category, first, last in self._database.execute(TRACK_SUMMARY, (video,)):
            ends = {"first": self._frame_name(video, first), "last": self._frame_name(video, last)}
            entry = json.dumps({"category": category, "score": score, **ends})
            yield joined(f'\n  "{track}": {entry[:-1]}, ', self._track_values(video, track), ", ", "}")

    def _track_values(self, video: int, track: int) -> Iterator[Iterator[str]]:
        """What a track has for each frame, by its name: scores; boxes and points where there are boxes."""
        for title, column in (("scores", "score"), ("boxes", "box"), ("extreme_points", "extremes")):
            query = TRACK_VALUES.format(column=column)
            values = self._database.execute(query, (video, track))
            first = values.fetchone()
            if first is None:
                continue
            texts = ([f"{json.dumps(name)}: {value}"] for name, value in chain([first], values))
            yield joined(f'"{title}": {{', texts, ", ", "}")

    def _frame_name(self, video: int, frame: int) -> str:
        query = "SELECT name FROM frames WHERE video = ? AND frame = ?"
        return self._database.execute(query, (video, frame)).fetchone()[0]

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Name the file where the database meets a full disk or the like."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise OSError(f"{self._path}: {error}") from error
