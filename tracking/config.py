"""The flags of inference.py: of a run, and of a checkpoint's tracker; nothing in here loads torch."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from common.config import AMP_CHOICES, Parser, add_config_flags, config_from_args, option
from common.files import check_checkpoint
from configs.listeners import ClearMLConfig
from configs.systems import CONFIGS, DEFAULT
from video.reader import DEFAULT_FPS, find_videos

DESCRIPTION = "Tracks objects through videos."


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


def parse_first(argv: Sequence[str]) -> Namespace:
    """--checkpoint and --system, which say of which tracker the flags are."""
    parser = Parser(add_help=False)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--system", choices=sorted(CONFIGS))
    return parser.parse_known_args(argv)[0]


def _common_parser(**options: Any) -> Parser:
    """The parser of inference.py without a tracker's flags."""
    parser = Parser(prog="inference.py", description=DESCRIPTION, **options)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="a .pth file that main.py wrote, or a published one or its name",
    )
    parser.add_argument("--video_root", type=Path, required=True, help="folder of videos, or one video")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--prompt_root", type=Path, help="label maps <video>/<frame>.png that name objects")
    parser.add_argument("--system", choices=sorted(CONFIGS), help="refuse a checkpoint of another system")
    add_config_flags(parser, RunConfig, "run")
    add_config_flags(parser, ClearMLConfig, "ClearML")
    parser.set_defaults(task_name="inference")
    return parser


def make_parser(system: str) -> Parser:
    """The parser of inference.py with a checkpoint of a system."""
    parser = _common_parser()
    add_config_flags(parser, CONFIGS[system].tracker, system)
    return parser


def check_flags(argv: Sequence[str]) -> None:
    """Show the help, or refuse flags and paths that no run can have, as far as that takes no checkpoint.

    Raises UserError.
    """
    known = parse_first(argv)
    if known.checkpoint is None:
        make_parser(known.system or DEFAULT).parse_args(argv)
    parser = _common_parser(add_help=False)  # the help shows what the checkpoint was trained with
    args, others = parser.parse_known_args(argv)
    if {"-h", "--help"} & set(others):
        return
    systems = [known.system] if known.system else CONFIGS
    flags = {f"--{item.name}" for name in systems for item in fields(CONFIGS[name].tracker)}
    for word in others:
        if word.startswith("--") and word.partition("=")[0] not in flags:
            parser.error(f"unrecognized arguments: {word}")
    run = config_from_args(RunConfig, args)
    if args.checkpoint.suffix:  # a published one has a name without
        check_checkpoint(args.checkpoint)
    find_videos(args.video_root, run.fps)
