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
    tracker: Tracker,
    video: str,
    frames: Iterable[tuple[str, Tensor]],
    prompt_of: PromptOf | None = None,
    taken: int = 0,
) -> Iterator[tuple[str, Tensor, Tracks, Prompt | None]]:
    """Run a tracker over a video: (frame name, frame, tracks, prompt) of every frame as it is decided.

    taken: first frames that are passed over, because the tracker is in the state after them
    Raises UserError where a video ends without a prompt for a tracker that needs one.
    """
    if not taken:
        tracker.reset()
    prompted = False
    for place, (name, frame) in enumerate(frames):
        prompt = prompt_of(name, frame) if prompt_of else None
        prompted |= prompt is not None
        if place < taken:
            continue
        yield name, frame, tracker.step(frame, prompt), prompt
    if tracker.needs_prompt and not prompted:
        raise no_prompt(video)


def record_video(
    tracker: Tracker,
    video: str,
    frames: Iterable[tuple[str, Tensor]],
    prompt_of: PromptOf | None,
    record: RecordFrame,
    taken: int = 0,
    save: Callable[[int], None] | None = None,
) -> int:
    """Run a tracker over a video and return its number of frames.

    A thread records each frame, in order, while the next ones are tracked; what `record` raises is raised.
    taken: as of `track_video`
    save: is called after each step with how many frames the tracker has taken; they may not be recorded yet
    """
    # Before there are threads: of two that begin to import SciPy at once, one may meet half of it.
    import scipy.ndimage
    import scipy.optimize  # noqa: F401

    num_frames = taken
    with BackgroundWriter(depth=PENDING) as writer:
        for name, frame, tracks, prompt in track_video(tracker, video, frames, prompt_of, taken):
            tracks = binarise(tracks, tracker.mask_threshold)  # frees the probabilities before the next step
            writer.submit(record, name, frame, tracks, prompt)
            num_frames += 1
            if save:
                save(num_frames)
    return num_frames
