"""Single frames of a video by their number, in any order, for who looks at it."""

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import numpy as np

from common.errors import UserError
from video.images import read_frame
from video.reader import ImageSequence, Video
from video.streams.containers import open_video, shown_times, upright

KEPT, MOST_KEPT = 128 << 20, 256  # bytes of pixels, and number, of the frames that were decoded last
NEAR = 64  # frames further on that are decoded on the way; further ones may have a nearer key frame


def decode_from(path: Path, time: int | None) -> Iterator[tuple[int | None, np.ndarray]]:
    """Yield (time, (H, W, 3) uint8 RGB) of the frames of a file, from the key frame at or before `time`.

    From the first one where `time` is None.
    """
    with open_video(path) as (container, stream):
        stream.thread_type = "FRAME"
        if time is not None:
            container.seek(time, stream=stream)
        for frame in container.decode(stream):
            yield frame.pts, upright(frame)


class Pictures:
    """The frames of a video by their number, for several threads; the latest are kept in bounded memory.

    num_frames: of the video; where a file does not say when its frames are shown, all are decoded for it
    Of a file, frame k is found by the time at which it is shown, from the key frame before it; where that
    does not lead to it, by counting from the first.
    """

    def __init__(self, video: Video):
        self.video = video
        self._lock = Lock()
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._numbers: dict[int | None, int] = {}  # of the frames, by the times at which they are shown
        self._next, self._reading = 0, iter(())  # the frame that goes on from the last one decoded
        if isinstance(video, ImageSequence):
            self._times, self.num_frames = None, video.num_frames
            return
        self._times = shown_times(video.path)
        self._numbers = {time: k for k, time in enumerate(self._times or ())}
        self.num_frames = len(self._times) if self._times else sum(1 for _ in decode_from(video.path, None))

    def name(self, k: int) -> str:
        """What frame k is called in label maps and results."""
        return self.video.images[k].stem if isinstance(self.video, ImageSequence) else f"{k:05d}"

    def number(self, name: str) -> int | None:
        """The number of the frame of a name; None where there is none."""
        if not isinstance(self.video, ImageSequence):
            return int(name) if self.video.has_frame(name) and int(name) < self.num_frames else None
        names = self.video.frame_names
        return names.index(name) if name in names else None

    def at(self, k: int) -> np.ndarray:
        """Frame k, (H, W, 3) uint8 RGB; UserError where it cannot be read."""
        if isinstance(self.video, ImageSequence):
            return read_frame(self.video.images[k])
        with self._lock:
            if k not in self._kept and not self._search(k):
                self._times = None
                if not self._search(k):
                    raise UserError(f"{self.video.path}: frame {k} cannot be read: copy it again")
            self._kept.move_to_end(k)
            return self._kept[k]

    def _search(self, k: int) -> bool:
        """Decode up to frame k, from where the reader is or from a key frame; whether it was met."""
        times = self._times
        far = times is not None and k > self._next + NEAR
        if k < self._next or far or not self._next:
            self._reading = decode_from(self.video.path, times and times[k])
            self._next = 0
        for count, (time, picture) in enumerate(self._reading, start=self._next):
            number = self._numbers.get(time, -1) if times else count
            if number >= 0:
                self._keep(number, picture)
                self._next = number + 1
            if number >= k:
                return number == k
        self._next = 0
        return False

    def _keep(self, k: int, picture: np.ndarray) -> None:
        self._kept[k] = picture
        room = min(KEPT // picture.nbytes, MOST_KEPT)
        while len(self._kept) > max(room, 1):
            self._kept.popitem(last=False)
