"""A video, a tracker that is told by prompts and by all frames before, and a session or a server of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.types import Prompt, Tracks
from tests.support.waiting import SECONDS
from tools.annotate.server import Annotator, make_server
from tracking.config import RunConfig
from video.reader import Video, find_videos

SIZE = (24, 32)  # (H, W)


class ShiftingTracker:
    """Moves the label map a pixel to the right each frame, and counts all frames and prompts that it took.

    What it says of a frame depends on each step before, so that a step too many or too few shows.
    """

    needs_prompt = True
    mask_threshold = 0.5

    def __init__(self) -> None:
        self.steps = 0  # over all videos
        self.go = Event()  # cleared: it waits before each step
        self.go.set()
        self.reset()

    def reset(self) -> None:
        self.labels: Tensor | None = None
        self.taken = 0

    def step(self, frame: Tensor, prompt: Prompt | None = None) -> Tracks:
        assert self.go.wait(SECONDS)
        self.steps += 1
        self.taken += 1
        if self.labels is not None:
            self.labels = self.labels.roll(1, 1)
        if prompt is not None:
            former = torch.zeros_like(prompt.labels) if self.labels is None else self.labels
            self.labels = torch.where(prompt.labels > 0, prompt.labels, former)
        labels = (
            torch.zeros(frame.shape[-2:], dtype=torch.int64) if self.labels is None else self.labels.clone()
        )
        if self.labels is not None:
            labels[-1, self.taken % frame.shape[-1]] = 99  # where it is in the video
        ids = labels.unique()[labels.unique() > 0]
        masks = (labels == ids[:, None, None]).float()
        return Tracks(ids=ids, labels=labels, masks=masks, scores=torch.ones(len(ids)))

    def state_dict(self) -> dict[str, Any]:
        return {"labels": self.labels, "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.labels, self.taken = state["labels"], state["taken"]


class SquareCutter:
    """Cuts out 5x5 pixels around each click on the object, without 3x3 around each that is not on it."""

    takes_clicks = True

    def __init__(self) -> None:
        self.encoded: list[int] = []  # the red of each frame that was encoded
        self.go = Event()  # cleared: it waits before it cuts
        self.go.set()

    def encode(self, frame: Tensor) -> Tensor:
        self.encoded.append(int(frame[0, 0, 0]))
        return frame[:1, :1, :1].float()

    def cut_encoded(self, embedding: Tensor, size: tuple[int, int], prompt: Prompt) -> Prompt:
        assert self.go.wait(SECONDS) and int(embedding) == self.encoded[-1]
        ((track, clicks),) = prompt.clicks.items()
        labels = torch.zeros(size, dtype=torch.int64)
        for x, y, label in sorted(clicks, key=lambda click: -click[2]):
            reach = 2 if label else 1
            rows, columns = (slice(max(0, int(v) - reach), int(v) + reach + 1) for v in (y, x))
            labels[rows, columns] = track * label
        return Prompt(labels)


def make_video(folder: Path, num_frames: int) -> Video:
    """A folder of frames f0.png, f1.png, ..., whose red is ten times their number."""
    folder.mkdir(parents=True)
    for k in range(num_frames):
        Image.new("RGB", SIZE[::-1], (10 * k % 256, 0, 90)).save(folder / f"f{k}.png")
    (video,) = find_videos(folder)
    return video


def square(top: int, left: int, track: int = 1, side: int = 4) -> np.ndarray:
    """(H, W) map of one square."""
    labels = np.zeros(SIZE, dtype=np.uint16)
    labels[top : top + side, left : left + side] = track
    return labels


@contextmanager
def served(
    tracker: Any, videos: list[Video], output: Path, cutter: Any = None
) -> Iterator[tuple[Annotator, int]]:
    """Inside, the page is served: the annotator and the port."""
    output.mkdir(exist_ok=True)
    annotator = Annotator(tracker, videos, output, RunConfig(device="cpu", amp="off"), cutter)
    try:
        with make_server(annotator) as server:
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield annotator, server.server_address[1]
            finally:
                server.shutdown()
                thread.join()
    finally:
        annotator.close()
