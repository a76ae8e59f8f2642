"""Tracks one video and writes what is found in it; reading, network and writing overlap."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.device import autocast, pick_device
from common.parallel import prefetch
from common.progress import progress, say
from common.types import Tracker
from tracking.config import RunConfig
from tracking.detections import saving
from tracking.loop import record_video
from tracking.output import VideoOutput, VideoPaths
from tracking.prompts import Prompts
from tracking.reverse import EarlierFrames
from tracking.states import States
from tracking.work import Work
from video.reader import Video
from video.streams.live import ended_by_interrupt
from video.streams.window import Window, showing


def _stamp(path: Path) -> list[Any]:
    stat = path.stat()
    return [path.name, stat.st_size, str(stat.st_mtime_ns)]


def source_of(video: Video, prompts: Prompts | None) -> dict[str, Any]:
    """What a video's results are made from, as it is now: names, sizes and times of files, and boxes."""
    sources = prompts.sources(video) if prompts else []
    return {
        "frames": [_stamp(path) for path in video.files],
        "prompts": sources if isinstance(sources, dict) else [_stamp(path) for path in sources],
    }


def description(video: Video) -> str:
    """The length of a video, as far as it is known, and the size of its frames."""
    height, width = video.size
    return f"{'frames' if video.num_frames is None else f'{video.num_frames} frames'} of {width}x{height}"


def saver(
    states: States, tracker: Tracker, every: int, window: Window | None = None
) -> Callable[[int], None]:
    """A function of the number of frames taken that keeps the state after each `every` of them.

    The last but one stays: the rows of the frames before the last may not be written yet.
    window: is refreshed after each frame
    """

    def save(taken: int) -> None:
        if window:
            window.refresh()
        if every and taken % every == 0:
            states.keep(taken, tracker)
            states.drop_before(taken - every)

    return save


def process_video(
    tracker: Tracker, video: Video, prompts: Prompts | None, work: Work, config: RunConfig
) -> None:
    """Track a video that is not done, from its last saved state if there is one; publish its results."""
    begun, device = time.monotonic(), pick_device(config.device)
    place = work.open(video.name, source_of(video, prompts))
    if work.is_done(video.name):
        return
    every = 0 if config.save_detections else config.save_state_every  # those are written in one go
    states, earlier = States(place / "states"), EarlierFrames(place / "reverse")
    with (
        autocast(device, config.amp),
        showing(video.name, show=config.show) as window,
        VideoOutput(place, video, overlay=config.overlays, every=every, window=window) as files,
        ended_by_interrupt(video),
    ):
        record = files.record
        if config.reverse:
            earlier.track(tracker, video, prompts)
            record = earlier.joined_before(record)
        taken = states.restore(tracker, files.num_frames if every else 0, device)
        files.go_on(taken)
        say(f"{video.name}: {description(video)}" + (f", goes on after frame {taken}" if taken else ""))
        frames = progress(prefetch(video.frames()), video.name, video.num_frames, "frame")
        prompt_of = prompts.of_video(video) if prompts else None
        frames, save = files.redrawn(frames, taken), saver(states, tracker, every, window)
        with saving(tracker, VideoPaths.of_work(place).detections, frames, config) as frames:
            count = record_video(tracker, video.name, frames, prompt_of, record, taken, save)
    work.finish(video.name)
    seconds = time.monotonic() - begun
    say(f"{video.name}: {count} frames, {(count - taken) / seconds:.1f} frames/s")
    late = [name for name in sorted(prompts.unused) if video.has_frame(name)] if prompts else []
    if late:  # the other names were reported before
        say(f"{video.name}: no frame has the name of the prompts {late}", error=True)
