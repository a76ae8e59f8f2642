"""Runs any tracker over a video: prompts in, tracks out, one frame at a time."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.masks import above, encode_rle
from common.results import TrackRow
from common.types import Prompt, Tracker, Tracks
from common.vos_dataset import read_label_map


class PromptFolder:
    """Label maps that a person gave, as <video>/<frame>.png, on any frame.

    frames: `first` takes each id from the first map in which it appears, `all` takes every map.
    """

    def __init__(self, root: Path, frames: str = "first"):
        if not root.is_dir():
            raise UserError(
                f"--prompt_root {root}: no such folder; it holds label maps as <video>/<frame>.png"
            )
        self.root, self.frames = root, frames
        self.seen: set[int] = set()  # ids that the video's prompts named so far
        self.left: set[str] = set()  # names of its maps that no frame has asked for

    def of_video(self, video: str) -> Callable[[str, Tensor], Prompt | None]:
        """Begin a video: a function of a frame's name and the frame that tells its prompt."""
        self.seen = set()
        self.left = {path.stem for path in (self.root / video).glob("*.png")}

        def prompt_of(name: str, frame: Tensor) -> Prompt | None:
            if name not in self.left:
                return None
            self.left.remove(name)
            return self._prompt(self.root / video / f"{name}.png", frame)

        return prompt_of

    def _prompt(self, path: Path, frame: Tensor) -> Prompt | None:
        labels = read_label_map(path)
        if labels.shape != frame.shape[-2:]:
            (h, w), (H, W) = labels.shape, frame.shape[-2:]
            raise UserError(f"prompt {path} is {w}x{h} but its frame is {W}x{H}: draw it at the frame's size")
        prompt = Prompt(torch.from_numpy(labels.astype(np.int64)))
        if self.frames == "first":
            known = [i for i in prompt.ids if i in self.seen]
            prompt.labels[torch.isin(prompt.labels, torch.tensor(known, dtype=torch.int64))] = 0
        self.seen |= set(prompt.ids)
        return prompt if prompt.ids else None


def track_video(
    tracker: Tracker,
    video: str,
    frames: Iterable[tuple[str, Tensor]],
    prompt_of: Callable[[str, Tensor], Prompt | None] | None = None,
) -> Iterator[tuple[str, Tensor, Tracks, Prompt | None]]:
    """Run a tracker over a video: (frame name, frame, tracks, prompt) of every frame as it is decided.

    Raises UserError where a video ends without a prompt for a tracker that needs one.
    """
    tracker.reset()
    prompted = False
    for name, frame in frames:
        prompt = prompt_of(name, frame) if prompt_of else None
        prompted |= prompt is not None
        yield name, frame, tracker.step(frame, prompt), prompt
    if tracker.needs_prompt and not prompted:
        raise UserError(
            f"video {video} has no prompt: give label maps with --prompt_root as {video}/<frame>.png"
        )


def track_rows(tracks: Tracks, mask_threshold: float, *, encode: bool) -> list[TrackRow]:
    """What results.json and tracks.json keep of one frame: every track with a pixel above the threshold.

    tracks: their masks are probabilities, or bool: above the threshold or not
    encode: whether masks are run-length encoded, which needs pycocotools
    """
    masks = tracks.masks if tracks.masks.dtype == torch.bool else above(tracks.masks, mask_threshold)
    masks = masks.cpu().numpy()
    classes = [0] * len(masks) if tracks.classes is None else tracks.classes.tolist()
    return [
        TrackRow(track, score, category + 1, encode_rle(mask) if encode else None)
        for track, score, category, mask in zip(
            tracks.ids.tolist(), tracks.scores.tolist(), classes, masks, strict=True
        )
        if mask.any()
    ]
