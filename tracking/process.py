"""Tracks videos and writes what is found in them; reading, network and writing overlap."""

import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.device import autocast, pick_device
from common.errors import available
from common.parallel import prefetch
from common.progress import progress, say
from common.types import Tracker
from tracking.config import RunConfig
from tracking.detections import check_saved, saving
from tracking.loop import record_video
from tracking.output import VideoOutput, detections_path, note_video, remove_video, unfinished, videos_of
from tracking.prompts import Prompts
from tracking.reverse import EarlierFrames
from tracking.spool import ResultsSpool
from video.reader import Video


def process_video(
    tracker: Tracker,
    video: Video,
    prompts: Prompts | None,
    spool: ResultsSpool,
    output: Path,
    config: RunConfig,
) -> None:
    """Track one video; write its maps and its overlay into `output`, and put its rows into the spool."""
    begun = time.monotonic()
    overlay: dict[str, Any] = {"fps": None}
    if config.overlays:
        overlay = {"fps": video.fps, "times": video.times, "pixel_aspect": video.pixel_aspect}
    frames = progress(prefetch(video.frames()), video.name, video.num_frames)
    with (
        VideoOutput(output, video.name, spool, **overlay) as files,
        EarlierFrames(output) if config.reverse else nullcontext() as earlier,
        saving(tracker, detections_path(output, video.name), frames, config) as frames,
        autocast(pick_device(config.device), config.amp),
    ):
        record = files.record
        if earlier:
            earlier.track(tracker, video, prompts)
            record = earlier.joined_before(record)
        prompt_of = prompts.of_video(video) if prompts else None
        count = record_video(tracker, video.name, frames, prompt_of, record)
        note_video(output, video.name)
    seconds = time.monotonic() - begun
    say(f"{video.name}: {count} frames, {count / seconds:.1f} frames/s")
    late = [name for name in sorted(prompts.unused) if video.has_frame(name)] if prompts else []
    if late:  # the other names were told before
        say(f"{video.name}: no frame has the name of the prompts {late}", error=True)


def process_videos(
    tracker: Tracker, videos: list[Video], prompts: Prompts | None, output: Path, config: RunConfig
) -> None:
    """Track the videos and write all of a run's results; those of videos that were there before leave."""
    if config.overlays and not available("av"):
        say("overlays are skipped: writing video files needs av: pip install av", error=True)
        config = replace(config, overlays=False)
    if config.save_detections:
        check_saved(tracker, config)
    former = set(videos_of(output))
    with unfinished(output):
        with ResultsSpool(output) as spool:
            for video in videos:
                process_video(tracker, video, prompts, spool, output, config)
            spool.write_tracks(output / "tracks.json")
            if available("pycocotools.mask"):
                spool.write_results(output / "results.json")
            else:
                say("results.json is skipped: it needs pycocotools: pip install pycocotools", error=True)
        for name in former - {video.name for video in videos}:
            remove_video(output, name)
