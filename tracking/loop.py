"""Runs any tracker over a video: prompts in, tracks out, one frame at a time."""

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from common.types import Prompt, Tracker, Tracks
from tracking.prompts import no_prompt


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
        raise no_prompt(video)
