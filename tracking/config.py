"""The options of a run of inference.py, whichever tracker it is of."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.config import Parser, add_config_flags, option
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
    click: str | None = option(
        None, "x,y[,x,y...] on an object on the first frame, for SAM or --cut; with --box, on the one in it"
    )
    negative_click: str | None = option(None, "x,y[,x,y...] on what does not belong to that object")
    clicks: str | None = option(
        None, "JSON file with clicks, {video: {id: [[x, y, 1], ...]}}, 0 for 1 where one is negative"
    )
    cut: str | None = option(
        None, "a checkpoint of SAM, which first cuts out what boxes and clicks mark; sam_vit_b is fetched"
    )
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
    discover: str | None = option(
        None, "a checkpoint of VITA-TCOVIS that finds objects: those in boxes, or, without any prompt, all"
    )
    discover_every: int = option(10, "frames from one look for newcomers to the next; 0: first only", least=0)
    annotate: bool = option(False, "paint prompts and run in a browser, in place of tracking at once")
    overwrite: bool = option(False, "replace the results, finished or not, that --output holds already")

    @property
    def marks(self) -> list[str]:
        """The flags that mark objects by boxes and clicks, those that are given."""
        names = ("box", "boxes", "click", "negative_click", "clicks")
        return [name for name in names if getattr(self, name)]


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


def read_first(argv: Sequence[str], description: str, systems: Sequence[str]) -> tuple[Parser, Namespace]:
    """The parser of inference.py without a tracker's flags, and --checkpoint and --system, which say whose.

    systems: those that there are
    """
    parser = Parser(prog="inference.py", description=description)
    add_paths(parser, systems)
    add_config_flags(parser, RunConfig, "run")
    first = Parser(add_help=False)
    first.add_argument("--checkpoint", type=Path)
    first.add_argument("--system", choices=systems)
    return parser, first.parse_known_args(argv)[0]
