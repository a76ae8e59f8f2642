"""What is written of one video, first into its working place: label maps, an overlay, and rows."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from torch import Tensor

from common.files import below, remove_own
from common.types import BinaryTracks, Prompt
from tracking.spool import ResultsSpool
from video.images import read_label_map, write_label_map
from video.pictures import draw_overlay
from video.reader import Video, VideoFile
from video.streams.window import Window
from video.writer import OverlayWriter

DETECTIONS = "detections"  # the folder of what --save_detections writes


class VideoPaths(NamedTuple):
    """Where the files of one video are: the folder of its label maps, its overlay, its detections."""

    maps: Path
    overlay: Path
    detections: Path

    @classmethod
    def of_results(cls, output: Path, name: str) -> "VideoPaths":
        """Among the results of a run; UserError where the name is none of a file."""
        return cls(
            below(output / "Annotations", name),
            below(output / "overlays", name, ".mp4"),
            below(output / DETECTIONS, name, ".npz"),
        )

    @classmethod
    def of_work(cls, place: Path) -> "VideoPaths":
        """In the working place of a video."""
        return cls(place / "maps", place / "overlay.mp4", place / "detections.npz")

    def remove(self) -> None:
        """Remove what is there; UserError where it is not this program's."""
        remove_own(self.maps)
        self.overlay.unlink(missing_ok=True)
        self.detections.unlink(missing_ok=True)

    def move(self, target: "VideoPaths") -> None:
        """Move what is there to where nothing is."""
        for source, path in zip(self, target, strict=True):
            if source.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                source.replace(path)


class VideoOutput:
    """Writes label maps, rows, and an overlay where that is asked for, of one video: a context manager.

    place: the working place of the video. The rows stay there in any case as of the last commit, the overlay
        where the block comes to its end.
    every: frames from one commit of the rows to the next; 0: at the end alone
    window: is offered each frame's overlay
    """

    def __init__(
        self, place: Path, video: Video, *, overlay: bool, every: int = 0, window: Window | None = None
    ):
        self.video, self.every, self.window = video, every, window
        self.paths = VideoPaths.of_work(place)
        self.spool = ResultsSpool(place / "rows.sqlite")
        self.overlay = None
        if overlay:
            sound = video.path if isinstance(video, VideoFile) else None
            self.overlay = OverlayWriter(self.paths.overlay, video.fps, video.pixel_aspect, sound)

    @property
    def num_frames(self) -> int:
        """Those that are written for good."""
        return self.spool.num_frames

    def go_on(self, num_frames: int) -> None:
        """Begin to write after so many frames, of which those that are written for good are kept."""
        self.spool.go_on(self.video.name, num_frames)

    def redrawn(self, frames: Iterable[tuple[str, Tensor]], num_frames: int) -> Iterator[tuple[str, Tensor]]:
        """The same frames; the first ones, whose maps are written already, go into the overlay once more."""
        for place, (name, frame) in enumerate(frames):
            if place < num_frames and self.overlay:
                self._draw(name, frame, read_label_map(self._map(name)))
            yield name, frame

    def record(self, name: str, frame: Tensor, tracks: BinaryTracks, prompt: Prompt | None = None) -> None:
        """Write frame `name`, uint8 RGB (3, H, W), with its tracks."""
        labels = tracks.labels.cpu().numpy()
        labels = labels.astype(np.min_scalar_type(labels.max()))  # 8 bits are gone through the fastest
        write_label_map(self._map(name), labels)
        if self.overlay or self.window:
            self._draw(name, frame, labels)
        self.spool.add_tracks(name, tracks)
        if self.every and self.num_frames % self.every == 0:
            self.spool.commit()

    def __enter__(self) -> "VideoOutput":
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
                self.spool.commit()
        finally:
            self.spool.__exit__()

    def _map(self, name: str) -> Path:
        return below(self.paths.maps, name, ".png")

    def _draw(self, name: str, frame: Tensor, labels: np.ndarray) -> None:
        picture = draw_overlay(frame.permute(1, 2, 0).cpu().numpy(), labels)
        if self.overlay:
            self.overlay.add(picture, self.video.times.get(name))
        if self.window:
            self.window.offer(picture)
