"""Writes what a tracker found in videos: label maps, overlay videos, results.json and tracks.json.

Everything is written frame by frame, at flat memory in the length of a video.
"""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from common.errors import UserError, require
from common.files import atomic_write
from common.masks import RLE
from common.types import IGNORE
from common.visualize import PALETTE
from common.visualize import overlay as draw_overlay

MAX_LABEL = 65535  # of a 16-bit PNG


def write_label_map(path: Path, labels: np.ndarray | Tensor) -> None:
    """Write an (H, W) map of ids as a palette PNG in the DAVIS colours, or 16-bit grey where ids reach 255.

    255 never stands in a palette PNG, because readers of such files take it for "ignore".
    Raises UserError where an id does not fit 16 bits, OSError where the file cannot be written.
    """
    labels = np.asarray(labels)
    highest = int(labels.max(initial=0))
    if highest > MAX_LABEL:
        raise UserError(
            f"{path}: id {highest} does not fit a PNG, which ends at {MAX_LABEL}: split the video"
        )
    if highest < IGNORE:
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette(PALETTE.tobytes())
    else:
        image = Image.fromarray(labels.astype(np.uint16))
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG")


class OverlayWriter:
    """Writes an H.264 mp4 that plays in every browser: a context manager with `add`.

    The file takes its name when the block ends; an exception in the block, or no frame, leaves nothing.
    Raises MissingPackage without PyAV, OSError where the file cannot be written.
    """

    def __init__(self, path: Path, fps: float):
        self._av = require("av", "writing overlay videos")
        self._path = path
        self._fps = Fraction(fps).limit_denominator(1001)  # 30000/1001 survives
        self._cleanup = ExitStack()
        self._container: Any = None
        self._stream: Any = None

    def add(self, frame: np.ndarray) -> None:
        """Append an (H, W, 3) uint8 RGB frame; all frames have the size of the first."""
        # The chroma of yuv420p needs even sides: an odd one grows by its last row or column.
        frame = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._open(*frame.shape[:2])
        assert frame.shape[:2] == (self._stream.height, self._stream.width), "all frames have one size"
        picture = self._av.VideoFrame.from_ndarray(frame, format="rgb24")
        self._container.mux(self._stream.encode(picture.reformat(format="yuv420p", dst_colorspace="ITU709")))

    def __enter__(self) -> "OverlayWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.__exit__(kind, error, trace)

    def _open(self, height: int, width: int) -> None:
        temporary = self._cleanup.enter_context(atomic_write(self._path))
        index_first = {"movflags": "+faststart"}  # so that a browser plays while it loads
        self._container = self._cleanup.enter_context(
            self._av.open(str(temporary), "w", format="mp4", container_options=index_first)
        )
        quality = {"crf": "20", "preset": "superfast"}
        stream = self._container.add_stream("libx264", rate=self._fps, options=quality)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context  # 1 is BT.709 in each, which players assume where a file does not say
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
        self._stream = stream
        self._cleanup.push(self._flush)

    def _flush(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))


class VideoOutput:
    """Writes the label maps of one video, and its overlay where `fps` is given: a context manager.

    Maps go to output/Annotations/<name>/, the overlay to output/overlays/<name>.mp4. Both appear, in place of
    what was there, when the block ends; an exception in it leaves what was there.
    """

    def __init__(self, output: Path, name: str, *, fps: float | None):
        self.folder = output / "Annotations" / name
        self.partial = self.folder.with_name(f".{name}.partial")
        self.overlay = None if fps is None else OverlayWriter(output / "overlays" / f"{name}.mp4", fps)

    def add(self, name: str, frame: Tensor, labels: Tensor) -> None:
        """Write frame `name`, uint8 RGB (3, H, W), with its (H, W) label map."""
        labels = labels.cpu().numpy()
        labels = labels.astype(np.min_scalar_type(labels.max()))  # 8 bits are gone through the fastest
        write_label_map(self.partial / f"{name}.png", labels)
        if self.overlay:
            self.overlay.add(draw_overlay(frame, labels))

    def __enter__(self) -> "VideoOutput":
        shutil.rmtree(self.partial, ignore_errors=True)  # a killed run may have left one
        if self.overlay:
            self.overlay.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.overlay:
                self.overlay.__exit__(kind, error, trace)
            if kind is None:
                shutil.rmtree(self.folder, ignore_errors=True)
                os.replace(self.partial, self.folder)
        finally:
            shutil.rmtree(self.partial, ignore_errors=True)


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raise UserError where results cannot be put into a folder, or may not replace what it holds."""
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file: give a folder")
    if not overwrite and any((output / "Annotations").glob("[!.]*")):
        raise UserError(f"--output {output} holds results already: choose another folder, or add --overwrite")


def videos_of(output: Path) -> list[str]:
    """The names of the videos whose results a folder holds, by its tracks.json; none without one."""
    path = output / "tracks.json"
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []


def remove_video(output: Path, name: str) -> None:
    """Remove the label maps and the overlay of one video."""
    shutil.rmtree(output / "Annotations" / name, ignore_errors=True)
    (output / "overlays" / f"{name}.mp4").unlink(missing_ok=True)


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


SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE frames (
    video INTEGER, frame INTEGER, name TEXT NOT NULL,
    PRIMARY KEY (video, frame)
) WITHOUT ROWID;
CREATE TABLE rows (
    video INTEGER, track INTEGER, frame INTEGER,
    score REAL NOT NULL, category INTEGER NOT NULL, rle TEXT NOT NULL,
    box TEXT NOT NULL, extremes TEXT NOT NULL,
    PRIMARY KEY (video, track, frame)
) WITHOUT ROWID;
"""
# A track's category is the one it has in most frames, the smallest among equals.
TRACK_SUMMARY = """
SELECT track, AVG(score), (
    SELECT category FROM rows AS other WHERE other.video = rows.video AND other.track = rows.track
    GROUP BY category ORDER BY COUNT(*) DESC, category LIMIT 1
), MIN(frame), MAX(frame) FROM rows WHERE video = ? GROUP BY track ORDER BY track
"""
TRACK_VALUES = """
SELECT frames.name, {column} FROM rows JOIN frames USING (video, frame)
WHERE video = ? AND track = ? AND {column} != 'null' ORDER BY frame
"""


def joined(opening: str, parts: Iterable[Iterable[str]], separator: str, closing: str) -> Iterator[str]:
    """The pieces of a JSON list or object, from the pieces of each of its parts."""
    yield opening
    for index, part in enumerate(parts):
        yield separator if index else ""
        yield from part
    yield closing


class ResultsSpool:
    """Keeps the tracks of all videos in a temporary database on disk, from which the JSON files are written.

    A context manager: `start_video`, `add_frame` for every frame in order, and at the end `write_results` and
    `write_tracks`. The database `.results.sqlite` in `folder` is removed when the block ends. A video's id is
    the 1-based rank of its name among all videos; a track's score is the mean of its scores over the frames
    where it is present.
    Raises OSError where the database cannot be written.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / ".results.sqlite"
        self._path.write_bytes(b"")  # a killed run may have left one
        # The calls may come from a background thread, one at a time.
        self._database = sqlite3.connect(self._path, check_same_thread=False)
        self._database.executescript(SCHEMA)
        self._names: list[str] = []  # of the videos; the place in the list is the key in the tables
        self._lengths: list[int] = []  # in frames

    def start_video(self, name: str) -> None:
        assert name not in self._names, f"video {name} comes twice"
        self._names.append(name)
        self._lengths.append(0)

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

    def write_results(self, path: Path) -> None:
        """Write the results in the YouTube-VIS format: a list with one entry for each track of each video.

        An entry is {"video_id", "category_id", "score", "segmentations": an RLE or null for each frame}.
        """
        self._write(path, joined("[\n", self._result_entries(), ",\n", "\n]\n"))

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
        self._path.unlink(missing_ok=True)

    def _write(self, path: Path, pieces: Iterable[str]) -> None:
        with self._disk_errors(), atomic_write(path) as temporary:
            with open(temporary, "w", encoding="utf-8") as file:
                file.writelines(pieces)

    def _ranked(self) -> Iterator[tuple[int, int]]:
        """(video_id, key in the tables) of every video, by name."""
        return enumerate(sorted(range(len(self._names)), key=self._names.__getitem__), start=1)

    def _result_entries(self) -> Iterator[Iterator[str]]:
        for video_id, video in self._ranked():
            for track, score, category, *_ in self._database.execute(TRACK_SUMMARY, (video,)):
                entry = json.dumps({"video_id": video_id, "category_id": category, "score": score})
                opening = f'{entry[:-1]}, "segmentations": ['
                yield joined(opening, self._segmentations(video, track), ", ", "]}")

    def _segmentations(self, video: int, track: int) -> Iterator[list[str]]:
        """The encoding of the track's mask in every frame of the video, null where it is absent."""
        next_frame = 0
        query = "SELECT frame, rle FROM rows WHERE video = ? AND track = ? ORDER BY frame"
        for frame, rle in self._database.execute(query, (video, track)):
            yield from repeat(["null"], frame - next_frame)
            yield [rle]
            next_frame = frame + 1
        yield from repeat(["null"], self._lengths[video] - next_frame)

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
            found = self._database.execute(query, (video, track))
            first = found.fetchone()
            if first is None:
                continue
            texts = ([f"{json.dumps(name)}: {value}"] for name, value in chain([first], found))
            yield joined(f'"{title}": {{', texts, ", ", "}")

    def _frame_name(self, video: int, frame: int) -> str:
        query = "SELECT name FROM frames WHERE video = ? AND frame = ?"
        return self._database.execute(query, (video, frame)).fetchone()[0]

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Name the file where the database meets a full disk or the like."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(f"{self._path}: {error}") from error
