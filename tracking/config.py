"""The options of a run of inference.py, whichever tracker it is of."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.config import Parser, option
from common.device import AMP_CHOICES
from video.reader import DEFAULT_FPS


@dataclass
class RunConfig:
    """The flags of inference.py that are not a tracker's."""

    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...")
    amp: str = option(
        "auto", "mixed precision of the network; auto: bf16 or fp16 on a GPU, off on a CPU", AMP_CHOICES
    )
    prompt_frames: str = option(
        "first", "take each id's first map in --prompt_root, or all", ("first", "all")
    )
    box: str | None = option(
        None, "x,y,width,height of an object on the first frame, in place of a label map"
    )
    boxes: str | None = option(None, "JSON file with such boxes, {video: {id: [x, y, width, height]}}")
    max_discovered: int = option(
        20, "most objects followed with --discover; of more, the one lost for longest is let go", least=1
    )
    overlays: bool = option(True, "write overlays/<video>.mp4")
    fps: float = option(
        DEFAULT_FPS, "frames per second of the overlays of image folders", least=0.1, most=1000
    )
    save_detections: bool = option(
        False, "write detections/<video>.npz, from which tuning.replay makes tracks by other flags in seconds"
    )
    save_state_every: int = option(
        500,
        "frames from one saved state to the next, from which a long video goes on after a kill; 0: none",
        least=0,
    )
    reverse: bool = option(False, "follow objects backwards too, from the prompts that start them")
    discover: str | None = option(None, "a checkpoint of VITA-TCOVIS that finds objects, in place of prompts")
    discover_every: int = option(10, "frames from one look for newcomers to the next; 0: first only", least=0)
    annotate: bool = option(False, "paint prompts and run in a browser, in place of tracking at once")
    overwrite: bool = option(False, "replace the results, finished or not, that --output holds already")


def add_paths(parser: Parser, systems: Sequence[str]) -> None:
    """Add the flags that say what is tracked by which checkpoint, of one of these systems, and where to."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="a .pth file that main.py wrote, or a published one or its name",
    )
    parser.add_argument("--video_root", type=Path, required=True, help="folder of videos, or one video")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--prompt_root", type=Path, help="label maps <video>/<frame>.png that name objects")
    parser.add_argument("--system", choices=systems, help="refuse a checkpoint of another system")


def checkpoint_of(argv: Sequence[str], systems: Sequence[str]) -> argparse.Namespace:
    """The flags `checkpoint` and `system` alone, by which the others are known; None where not given."""
    first = Parser(add_help=False)
    first.add_argument("--checkpoint", type=Path)
    first.add_argument("--system", choices=systems)
    return first.parse_known_args(argv)[0]
