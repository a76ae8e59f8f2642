"""Tracks one video and writes what was found; reading, network and writing overlap."""

import argparse
import sys
import time
from dataclasses import replace

from torch import Tensor

from common.device import autocast, pick_device
from common.errors import available
from common.parallel import BackgroundWriter, prefetch
from common.progress import progress
from common.types import Tracker, Tracks
from tracking.loop import track_video
from tracking.output import VideoOutput
from tracking.prompts import Prompts
from tracking.reverse import EarlierFrames
from tracking.spool import ResultsSpool, track_rows
from video.masks import above
from video.reader import Video


def process_video(
    tracker: Tracker,
    video: Video,
    prompts: Prompts | None,
    spool: ResultsSpool,
    args: argparse.Namespace,
) -> None:
    """Track one video; write its maps and its overlay, and put its rows into the spool.

    args: `output`, `device`, `amp`, `overlays`, and `reverse`: whether objects are followed backwards too,
        from the prompts that start them
    """
    begun, count, encode = time.monotonic(), 0, available("pycocotools.mask")

    def write(name: str, frame: Tensor, tracks: Tracks) -> None:
        output.add(name, frame, tracks.labels)
        spool.add_frame(name, track_rows(tracks, tracker.mask_threshold, encode=encode))

    spool.start_video(video.name)
    frames = progress(prefetch(video.frames()), video.name, video.num_frames)
    with (
        VideoOutput(args.output, video.name, fps=video.fps if args.overlays else None) as output,
        BackgroundWriter(depth=4) as writer,
        EarlierFrames(args.output) as earlier,
        autocast(pick_device(args.device), args.amp),
    ):
        if args.reverse:
            earlier.track(tracker, video, prompts)
        prompt_of = prompts.of_video(video.name) if prompts else None
        for name, frame, tracks, _ in track_video(tracker, video.name, frames, prompt_of):
            tracks = replace(tracks, masks=above(tracks.masks, tracker.mask_threshold))
            writer.submit(write, name, frame, earlier.joined(name, tracks))
            count += 1
    seconds = time.monotonic() - begun
    print(f"{video.name}: {count} frames, {count / seconds:.1f} frames/s", flush=True)
    if prompts and prompts.left:
        print(f"{video.name}: no frame has the name of the prompts {sorted(prompts.left)}", file=sys.stderr)
