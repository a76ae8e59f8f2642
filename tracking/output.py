"""What a run writes of each video: label maps and an overlay, which appear whole or not at all, and rows."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from torch import Tensor

from common.errors import UserError, require
from common.files import atomic_write, below, check_own, is_visible, read_json, remove_own, write_json
from common.types import BinaryTracks, Prompt
from tracking.spool import ResultsSpool
from video.images import write_label_map
from video.pictures import overlay as draw_overlay
from video.reader import Video

JSON_FILES = ("tracks.json", "results.json", "categories.json")  # of all videos of a run
DETECTIONS = "detections"  # the folder of what --save_detections writes
UNFINISHED = ".unfinished.json"  # {name of a video with new results: null}, until a run comes to its end

TICK = Fraction(1, 90_000)  # seconds; the clock of frames that come with their times


class OverlayWriter:
    """Writes an H.264 mp4 that plays in every browser: a context manager with `add`.

    fps: of frames that come without their times
    pixel_aspect: width by height of a pixel on the screen

    The file takes its name when the block ends; an exception in the block, or no frame, leaves nothing.
    Raises MissingPackage without PyAV, OSError where the file cannot be written.
    """

    def __init__(self, path: Path, fps: float, pixel_aspect: Fraction = Fraction(1)):
        self._av = require("av", "writing overlay videos")
        self._path = path
        self._fps = Fraction(fps).limit_denominator(1001)  # 30000/1001 survives
        self._pixel_aspect = pixel_aspect
        self._first_time: Fraction | None = None
        self._last_tick = -1
        self._cleanup = ExitStack()
        self._container: Any = None
        self._stream: Any = None

    def add(self, frame: np.ndarray, time: Fraction | None = None) -> None:
        """Append an (H, W, 3) uint8 RGB frame; all frames have the size of the first.

        time: the second at which it is shown; where the first frame has none, frames come at `fps`
        """
        # The chroma of yuv420p needs even sides: an odd one grows by its last row or column.
        frame = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._first_time = time
            self._open(*frame.shape[:2])
        assert frame.shape[:2] == (self._stream.height, self._stream.width), "all frames have one size"
        picture = self._av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
        if self._first_time is not None:
            tick = 0 if time is None else round((time - self._first_time) / TICK)
            self._last_tick = max(self._last_tick + 1, tick)
            picture.pts, picture.time_base = self._last_tick, TICK
        self._container.mux(self._stream.encode(picture))

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
        if self._pixel_aspect != 1:
            stream.codec_context.sample_aspect_ratio = self._pixel_aspect
        if self._first_time is not None:
            stream.codec_context.time_base = TICK
        context = stream.codec_context  # 1 is BT.709 in each, which players assume where a file does not say
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
        self._stream = stream
        self._cleanup.push(self._flush)

    def _flush(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))


def video_paths(output: Path, name: str) -> tuple[Path, Path]:
    """The folder of a video's label maps, and the file of its overlay."""
    return below(output / "Annotations", name), below(output / "overlays", name, ".mp4")


def detections_path(output: Path, name: str) -> Path:
    """The file of what a video's tracks are made of."""
    return below(output / DETECTIONS, name, ".npz")


class VideoOutput:
    """Writes the label maps of one video, and its overlay where `fps` is given: a context manager.

    Maps go to output/Annotations/<name>/, the overlay to output/overlays/<name>.mp4. Both appear, in place of
    what was there, when the block ends; an exception in it leaves what was there. Tracks go to the spool.
    """

    def __init__(
        self,
        output: Path,
        name: str,
        spool: ResultsSpool,
        *,
        fps: float | None,
        times: Mapping[str, Fraction] | None = None,
        pixel_aspect: Fraction = Fraction(1),
    ):
        """times: {frame name: the second at which it is shown}, filled as the video is read"""
        self.spool, self.times = spool, {} if times is None else times
        self.folder, overlay = video_paths(output, name)
        self.partial = self.folder.with_name(f".{name}.partial")
        self.overlay = None if fps is None else OverlayWriter(overlay, fps, pixel_aspect)

    def record(self, name: str, frame: Tensor, tracks: BinaryTracks, prompt: Prompt | None = None) -> None:
        """Write frame `name`, uint8 RGB (3, H, W), with its tracks."""
        labels = tracks.labels.cpu().numpy()
        labels = labels.astype(np.min_scalar_type(labels.max()))  # 8 bits are gone through the fastest
        write_label_map(below(self.partial, name, ".png"), labels)
        if self.overlay:
            picture = draw_overlay(frame.permute(1, 2, 0).cpu().numpy(), labels)
            self.overlay.add(picture, self.times.get(name))
        self.spool.add_tracks(name, tracks)

    def __enter__(self) -> "VideoOutput":
        self.spool.start_video(self.folder.name)
        remove_own(self.partial)  # a killed run may have left one
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
                remove_own(self.folder)
                os.replace(self.partial, self.folder)
        finally:
            shutil.rmtree(self.partial, ignore_errors=True)


def check_output(output: Path, videos: Sequence[Video], *, overwrite: bool) -> None:
    """Raise UserError where results cannot be put into a folder, or may not replace what it holds.

    Names of videos and frames that no file can have are told here, before others are tracked for hours.
    """
    results = [path for path in (output / "Annotations").glob("*") if is_visible(path.name)]
    results += (output / name for name in JSON_FILES)
    if not overwrite and any(path.exists() for path in results):
        raise UserError(f"--output {output} holds results already: choose another folder, or add --overwrite")
    former, left = set(videos_of(output)), unfinished_in(output)
    if left and not (output / UNFINISHED).exists():
        raise UserError(f"{left[0]} is of no run into --output {output}: move it, or choose another folder")
    for name in sorted({*former, *(video.name for video in videos)}):
        maps, overlay = video_paths(output, name)
        if name not in former and (maps.exists() or overlay.exists()):
            there = maps if maps.exists() else overlay
            raise UserError(f"{there} is of no run into --output {output}: move it, or choose another folder")
        check_own(maps)
    for video in videos:
        for frame in video.frame_names or ():
            below(output / "Annotations" / video.name, frame, ".png")


def _is_entry(value: Any) -> bool:
    """Whether this may be what `tracks.json` says of a video."""
    return isinstance(value, dict) and all(
        isinstance(value.get(name), kind)
        for name, kind in (("video_id", int), ("frames", int), ("tracks", dict))
    )


def _names_in(path: Path, is_entry: Callable[[Any], bool]) -> list[str]:
    """The names of videos in a file of a run; none without it, UserError where no run wrote it."""
    content = read_json(path) if path.exists() else {}
    if not isinstance(content, dict) or not all(map(is_entry, content.values())):
        raise UserError(f"{path} is no file of inference.py: remove it, or choose another --output")
    return list(content)


def videos_of(output: Path) -> list[str]:
    """The names of the videos whose results a folder holds, of a run that came to its end or did not."""
    unfinished = _names_in(output / UNFINISHED, lambda value: value is None)
    return _names_in(output / "tracks.json", _is_entry) + unfinished


def note_video(output: Path, name: str) -> None:
    """Write down that a video gets new results; the former JSON files, which no longer hold, go."""
    write_json(output / UNFINISHED, dict.fromkeys([*videos_of(output), name]))
    for file in JSON_FILES:
        (output / file).unlink(missing_ok=True)


def unfinished_in(output: Path) -> list[Path]:
    """What bears the names of what a killed run leaves half-written."""
    folders = [(output / "Annotations", ".*.partial"), (output, ".reverse.*"), (output, ".results.sqlite")]
    folders += [(output / "overlays", ".*.mp4.tmp"), (output / DETECTIONS, ".*.npz.tmp")]
    folders += ((output, f".{name}.tmp") for name in JSON_FILES)
    return [path for folder, pattern in folders for path in folder.glob(pattern)]


@contextmanager
def unfinished(output: Path) -> Iterator[None]:
    """Inside, a file in the folder says that a run works there; what a killed one left is removed first.

    The file goes at the end of the run, and where it ends before any video has new results. By it the next
    run knows that what is half-written is a run's.
    """
    mark = output / UNFINISHED
    names = _names_in(mark, lambda value: value is None)
    for path in unfinished_in(output):
        if path.is_dir() and not path.is_symlink():
            remove_own(path)
        else:
            path.unlink()
    write_json(mark, dict.fromkeys(names))
    try:
        yield
    except BaseException:
        if not read_json(mark):
            mark.unlink()
        raise
    mark.unlink()


def remove_video(output: Path, name: str) -> None:
    """Remove the label maps, the overlay and the detections of one video."""
    maps, overlay = video_paths(output, name)
    remove_own(maps)
    overlay.unlink(missing_ok=True)
    detections_path(output, name).unlink(missing_ok=True)
