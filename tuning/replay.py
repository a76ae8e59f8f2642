"""Tracks made anew from saved detections by other flags of GlobalTracker, without the network.

python -m tuning.replay OUTPUT/detections --output O [--beta 0.3 ...]
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.config import Parser, add_config_flags, config_from_args, config_from_dict, option
from common.device import AMP_CHOICES, pick_device
from common.errors import UserError, run_command
from common.files import LOCK, sole_writer
from common.types import Prompt, Tracks
from inference import GlobalTracker, VITATracker
from tracking.batch import end_batch, process_videos
from tracking.config import RunConfig
from tracking.detections import FrameDetections, SavedVideo, saved_videos
from tracking.work import Work


@dataclass
class ReplayConfig:
    """The flags of a replay that are not GlobalTracker's."""

    device: str = option("auto", "where masks are enlarged: that of the full run gives its very label maps")
    amp: str = option("auto", "mixed precision, as of inference.py", AMP_CHOICES)
    overwrite: bool = option(False, "replace the results that --output holds already")


class ReplayTracker:
    """VITA-TCOVIS from the detections of each frame on; prompts were told before."""

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


def read_flags(argv: Sequence[str]) -> tuple[list[SavedVideo], argparse.Namespace, VITATracker.Config]:
    """Saved videos, flags, and the options of the tracker: those of the full run where none is given."""
    parser = Parser(prog="tuning.replay", description=__doc__.splitlines()[0])
    parser.add_argument("detections", type=Path, help="folder or file of inference.py --save_detections true")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    add_config_flags(parser, ReplayConfig, "run")
    add_config_flags(parser, GlobalTracker.Config, "tracker")
    parser.set_defaults(**{name: None for name in asdict(GlobalTracker.Config())})
    args = parser.parse_args(argv)
    videos = saved_videos(args.detections)
    given = {name: value for name, value in vars(args).items() if value is not None}
    options = argparse.Namespace(**(saved_options(videos) | given))
    return videos, args, config_from_args(VITATracker.Config, options)


def main() -> None:
    """Track every saved video anew and write what inference.py writes, but for the overlays."""
    warnings.simplefilter("always", UserWarning)
    videos, args, options = read_flags(sys.argv[1:])
    if args.output.is_file():
        raise UserError(f"--output {args.output} is a file: give a folder")
    if args.detections.resolve().is_relative_to(args.output.resolve()):
        raise UserError(f"--output {args.output} holds the detections: give another folder")
    run = RunConfig(device=args.device, amp=args.amp, overlays=False, overwrite=args.overwrite)
    with sole_writer(args.output / LOCK):
        Work(args.output).check(videos, overwrite=args.overwrite)
        failed = process_videos(ReplayTracker(options, args.device), videos, None, args.output, run)
    end_batch(failed, videos, args.output)


if __name__ == "__main__":
    run_command(main)
