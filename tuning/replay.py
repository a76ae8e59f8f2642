"""Tracks made anew from saved detections by other flags of GlobalTracker, without the network.

python -m tuning.replay OUTPUT/detections --output O [--beta 0.3 ...]
"""

import sys
import warnings
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from common.errors import run_check, run_command
from configs.tuning import FLAGS, parse_replay

if __name__ == "__main__":  # help and mistakes come before torch is loaded, which takes seconds
    run_check(parse_replay)

from common.config import checked, config_from_dict
from common.device import pick_device
from common.errors import UserError
from common.files import LOCK, read_json, sole_writer
from common.types import Prompt, Tracks
from inference import VITATracker
from tracking.batch import process_videos, tell_end
from tracking.config import RunConfig
from tracking.detections import FrameDetections, SavedVideo, saved_videos
from tracking.work import Work


class ReplayTracker:
    """VITA-TCOVIS from the detections of each frame on; prompts were used before."""

    needs_prompt = False

    def __init__(self, config: VITATracker.Config, device: str = "cpu"):
        self.tracker, self.device = VITATracker(None, config), pick_device(device)
        self.mask_threshold = self.tracker.mask_threshold

    def reset(self) -> None:
        self.tracker.reset()

    def step(self, frame: FrameDetections, prompt: Prompt | None = None) -> Tracks:
        """Detections of the next frame in place of the frame."""
        return self.tracker.track(frame._replace(logits=frame.logits.to(self.device)))


def saved_options(videos: Sequence[SavedVideo]) -> dict[str, Any]:
    """The options of the tracker of saved videos; UserError where they were made by several."""
    for video in videos[1:]:
        if video.tracker != videos[0].tracker:
            names = f"{videos[0].path} and {video.path}"
            raise UserError(f"{names} were saved with other flags of the tracker: save both with the same")
    return asdict(config_from_dict(VITATracker.Config, videos[0].tracker, str(videos[0].path)))


def saved_categories(videos: Sequence[SavedVideo]) -> list[str]:
    """The names of the classes that the full run wrote beside its detections; none if it has no classes."""
    path = videos[0].path.resolve().parent.parent / "categories.json"
    return list(read_json(path).values()) if path.is_file() else []


def chosen_options(videos: Sequence[SavedVideo], args: Namespace) -> VITATracker.Config:
    """The options of the tracker: those of the full run where none is given."""
    given = {name: getattr(args, name) for name in FLAGS if getattr(args, name) is not None}
    return checked(VITATracker.Config(**saved_options(videos) | given))


def main() -> None:
    """Track every saved video anew and write what inference.py writes, but for the overlays."""
    warnings.simplefilter("always", UserWarning)
    args = parse_replay()
    videos = saved_videos(args.detections)
    options = chosen_options(videos, args)
    run = RunConfig(device=args.device, amp=args.amp, overlays=False, overwrite=args.overwrite)
    with sole_writer(args.output / LOCK):
        Work(args.output).check(videos, overwrite=args.overwrite)
        categories = saved_categories(videos)
        tracker = ReplayTracker(options, args.device)
        failed = process_videos(tracker, videos, None, args.output, run, categories=categories)
    tell_end(failed, videos, args.output)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    run_command(main)
