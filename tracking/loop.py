"""Runs any tracker over a video: prompts in, tracks out and recorded, one frame at a time."""

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from common.parallel import BackgroundWriter
from common.types import BinaryTracks, Prompt, Tracker, Tracks
from tracking.prompts import no_prompt
from video.masks import above

PENDING = 4  # frames that are tracked and not yet recorded


def binarise(tracks: Tracks, threshold: float) -> BinaryTracks:
    """Tracks with the pixels above the threshold in place of the probabilities, a quarter of their memory."""
    masks = above(tracks.masks, threshold) if tracks.binary_masks is None else tracks.binary_masks
    return BinaryTracks(tracks.ids, tracks.labels, masks, tracks.scores, tracks.classes, tracks.boxes)


PromptOf = Callable[[str, Tensor], Prompt | None]  # of a frame's name, and the frame (3, H, W)
RecordFrame = Callable[[str, Tensor, BinaryTracks, Prompt | None], None]  # name, frame, tracks, its prompt


def track_video(
    tracker: Tracker, video: str, frames: Iterable[tuple[str, Tensor]], prompt_of: PromptOf | None = None
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


def record_video(
    tracker: Tracker,
    video: str,
    frames: Iterable[tuple[str, Tensor]],
    prompt_of: PromptOf | None,
    record: RecordFrame,
) -> int:
    """Run a tracker over a video and return its number of frames.

    A thread records each frame, in order, while the next ones are tracked; what `record` raises is raised.
    """
    num_frames = 0
    with BackgroundWriter(depth=PENDING) as writer:
        for name, frame, tracks, prompt in track_video(tracker, video, frames, prompt_of):
            tracks = binarise(tracks, tracker.mask_threshold)  # frees the probabilities before the next step
            writer.submit(record, name, frame, tracks, prompt)
            num_frames += 1
    return num_frames
