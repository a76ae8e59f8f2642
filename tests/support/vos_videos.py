"""Videos of coloured squares in memory, their prompts, and a tracker played over one."""

import torch
from torch import Tensor

from common.types import Prompt, Tracker, Tracks

SIZE = (37, 53)
Window = tuple[slice, slice]
RED, BLUE = (slice(4, 20), slice(2, 18)), (slice(22, 36), slice(38, 50))  # the squares on the first frame
GREEN = (slice(24, 34), slice(4, 20))  # a part of the noise


def make_video(count: int, size: tuple[int, int] = SIZE, seed: int = 1) -> Tensor:
    """(T, 3, H, W) uint8 noise with two coloured squares that move."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 90, (count, 3, *size), generator=generator, dtype=torch.uint8)
    for t in range(count):
        frames[t, 0, 4:20, 2 + t : 18 + t] = 250
        frames[t, 2, 22:36, 40 - t : 52 - t] = 240
    return frames


def prompt_of(ids: dict[int, Window], size: tuple[int, int] = SIZE) -> Prompt:
    """A label map in which each id fills its window."""
    labels = torch.zeros(size, dtype=torch.int64)
    for track, window in ids.items():
        labels[window] = track
    return Prompt(labels)


def play(tracker: Tracker, frames: Tensor, prompts: dict[int, Prompt]) -> list[Tracks]:
    """The tracks of every frame; prompts are by the number of their frame."""
    tracker.reset()
    return [tracker.step(frame, prompts.get(t)) for t, frame in enumerate(frames)]
