"""A tracker for scripts: frames and label maps as arrays or tensors, checked as they come."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from common.config import config_from_dict
from common.errors import UserError
from common.types import Prompt, Tracker, Tracks
from video.masks import prompt_from_labels


def as_frame(frame: ArrayLike | Tensor) -> Tensor:
    """The (3, H, W) tensor of a frame: an array (H, W, 3), a picture of PIL, or such a tensor; uint8 RGB."""
    if isinstance(frame, Tensor):
        legal, tensor = frame.ndim == 3 and len(frame) == 3, frame
    else:
        array = np.asarray(frame)
        legal = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8
        tensor = torch.from_numpy(array.copy(order="C")).permute(2, 0, 1) if legal else array
    if not legal or tensor.dtype != torch.uint8:
        shape = f"{type(frame).__name__} {tuple(tensor.shape)} of {tensor.dtype}"
        raise UserError(f"a frame is RGB of uint8, an array (H, W, 3) or a tensor (3, H, W), not {shape}")
    return tensor


def as_prompt(prompt: ArrayLike | Tensor | Prompt | None, size: tuple[int, int]) -> Prompt | None:
    """The prompt of a frame of size (H, W): a label map of integers or bool, 0 background; or as it is."""
    if prompt is None:
        return None
    if not isinstance(prompt, Prompt):
        labels = np.asarray(prompt.cpu() if isinstance(prompt, Tensor) else prompt)
        if labels.dtype.kind not in "biu":
            raise UserError(f"a prompt is a label map of integers or bool, not of {labels.dtype}")
        prompt = prompt_from_labels(labels)
    if prompt.labels is not None and tuple(prompt.labels.shape) != size:
        raise UserError(f"a prompt has the size {size} of its frame, not {tuple(prompt.labels.shape)}")
    return prompt


def tracker_options(config: type, trained: Any, options: dict[str, Any], source: str) -> Any:
    """The `Config` of a tracker as it was trained, {field: value}, with other options in their place.

    Raises UserError, which begins with the source, where an option is unknown or a value illegal.
    """
    known = [item.name for item in fields(config)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UserError(f"{source}: its tracker has no option {unknown[0]}, but: {', '.join(known)}")
    as_trained = config_from_dict(config, trained, source)
    return config_from_dict(config, {**asdict(as_trained), **options}, f"options of {source}")


class ArrayTracker:
    """A tracker that takes what scripts have, and checks it.

    tracker: the system's own, which takes tensors alone
    config: its options
    """

    def __init__(self, tracker: Tracker):
        self.tracker, self.config = tracker, tracker.config
        self.needs_prompt, self.mask_threshold = tracker.needs_prompt, tracker.mask_threshold

    def reset(self) -> None:
        """Forget the video."""
        self.tracker.reset()

    def step(self, frame: ArrayLike | Tensor, prompt: ArrayLike | Tensor | Prompt | None = None) -> Tracks:
        """Take the next frame, as of `as_frame`, with a prompt, as of `as_prompt`; say who is where."""
        tensor = as_frame(frame)
        return self.tracker.step(tensor, as_prompt(prompt, tuple(tensor.shape[-2:])))

    def track(
        self,
        frames: Iterable[ArrayLike | Tensor],
        prompts: ArrayLike | Tensor | Prompt | Mapping[int, Any] | None = None,
    ) -> Iterator[Tracks]:
        """Track a video from its start: the tracks of each frame, as it is decided.

        prompts: of the first frame, or {number of a frame, from 0: its prompt}
        Raises UserError where the tracker needs a prompt and there is none.
        """
        if self.needs_prompt and (prompts is None or (isinstance(prompts, Mapping) and not prompts)):
            raise UserError("this tracker follows what a prompt names: pass the label map of the first frame")
        self.reset()
        by_number = prompts if isinstance(prompts, Mapping) else {0: prompts}
        return (self.step(frame, by_number.get(number)) for number, frame in enumerate(frames))

    def state_dict(self) -> dict[str, Any]:
        return self.tracker.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tracker.load_state_dict(state)
