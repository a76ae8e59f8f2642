"""The flags of inference.py: of a run, and of a checkpoint's tracker; nothing in here loads torch."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, fields
from glob import glob
from pathlib import Path
from typing import Any

from common.config import AMP_CHOICES, Parser, add_config_flags, config_from_args, option
from common.errors import UserError
from common.files import check_checkpoint
from configs.listeners import ClearMLConfig
from configs.systems import CONFIGS, DEFAULT
from video.reader import find_videos
from video.streams.live import LiveRoot, video_root
from video.streams.parts import Part, PartFlags

EXAMPLES = """examples:
  python inference.py --checkpoint runs/1/best.pth --video_root videos --output out
  python inference.py --checkpoint xmem --video_root dog.mp4 --output out --box 80,60,200,150
  python inference.py --checkpoint stcn --video_root DAVIS --prompt_root masks --output out
  python inference.py --checkpoint xmem --video_root dog.mp4 --output out --annotate
  python inference.py --system xmem --help                  the tracker flags of another system
  python inference.py --checkpoint runs/1/best.pth --help   their defaults in a checkpoint
"""


@dataclass
class VideoFlags(PartFlags):
    """What is read of the videos."""

    raw_size: str | None = option(None, "WIDTHxHEIGHT of raw RGB frames that --video_root - reads")


@dataclass
class PromptFlags:
    """Which objects are tracked."""

    prompt_frames: str = option(
        "first", "use the first map of each id in --prompt_root, or all maps", ("first", "all")
    )
    box: str | None = option(None, "x,y,width,height of an object on the first frame, in pixels")
    boxes: str | None = option(None, "JSON file of such boxes, {video: {id: [x, y, width, height]}}")
    click: str | None = option(
        None, "x,y[,x,y...] on an object on the first frame, for SAM or --cut; with --box, on the one in it"
    )
    negative_click: str | None = option(None, "x,y[,x,y...] on what does not belong to that object")
    clicks: str | None = option(
        None, "JSON file of clicks, {video: {id: [[x, y, 1], ...]}}; 0 instead of 1: a negative click"
    )
    cut: str | None = option(
        None,
        "checkpoint of SAM that makes masks of boxes and clicks, on the page too; sam_vit_b is downloaded",
    )
    discover: str | None = option(
        None, "checkpoint of VITA-TCOVIS that finds objects: those in boxes, or, without prompts, all"
    )
    discover_every: int = option(
        10, "frames between searches for new objects with --discover; 0: first frame only", least=0
    )
    max_discovered: int = option(
        20, "maximum number of objects with --discover; beyond, the one lost for longest is dropped", least=1
    )
    annotate: bool = option(False, "paint prompts and track in a browser")


@dataclass
class OutputFlags:
    """What is written."""

    overlays: bool = option(True, "write overlays/<video>.mp4")
    show: bool = option(False, "show the overlay of each frame in a window as it comes")
    save_detections: bool = option(
        False, "write detections/<video>.npz, for python -m tuning.replay and tuning.search"
    )
    overwrite: bool = option(False, "replace the results in --output, finished or not")


@dataclass
class RunFlags:
    """How is tracked."""

    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...")
    amp: str = option(
        "auto",
        "mixed precision; auto: bf16 or fp16 on a GPU, off on a CPU; bf16 is faster on one with AVX512-BF16",
        AMP_CHOICES,
    )
    winograd: bool = option(
        True, "on a CPU: Winograd convolutions of STCN and XMem, faster, with 1.8 to 4 times their weights"
    )
    reverse: bool = option(False, "track backwards, too, from the prompts that start objects")
    save_state_every: int = option(
        500, "frames between saved states, from which an interrupted video continues; 0: none", least=0
    )


WITHOUT_PAGE = ("show", "save_detections", "enable_clearml", "clearml_offline")  # not beside --annotate
GROUPS = {"video": VideoFlags, "prompts": PromptFlags, "output": OutputFlags, "run": RunFlags}


@dataclass
class RunConfig(VideoFlags, PromptFlags, OutputFlags, RunFlags):
    """The flags of inference.py that are not a tracker's."""

    @property
    def marks(self) -> list[str]:
        """The flags that mark objects by boxes and clicks, those that are given."""
        names = ("box", "boxes", "click", "negative_click", "clicks")
        return [name for name in names if getattr(self, name)]

    @property
    def part(self) -> Part | None:
        """Which frames of each video are read; None: all. UserError where the flags do not say it."""
        return Part.of_flags(self.start, self.end, self.every, self.fps)


def parse_first(argv: Sequence[str]) -> Namespace:
    """--checkpoint and --system, which say of which tracker the flags are."""
    parser = Parser(add_help=False)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--system", choices=list(CONFIGS))
    return parser.parse_known_args(argv)[0]


def _make_parser(tracker: dict[str, type], **options: Any) -> Parser:
    """The parser of inference.py with a tracker's flags, {title of their group: dataclass}, if any."""
    parser = Parser(
        prog="inference.py",
        usage="python inference.py --checkpoint C --video_root V --output O [flags]",
        description="Tracks objects through videos, and writes their masks.",
        epilog=EXAMPLES,
        **options,
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="a .pth file of main.py, a published one, or the name of one that is downloaded",
    )
    sources = "video file, folder of frames, or folder of either; 0: a camera; rtsp:// or http://: a stream; "
    parser.add_argument("--video_root", type=video_root, required=True, help=f"{sources}-: standard input")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--prompt_root", type=Path, help="label maps <video>/<frame>.png of the objects to track"
    )
    parser.add_argument("--system", choices=list(CONFIGS), help="require a checkpoint of this system")
    for title, config in (GROUPS | tracker | {"ClearML": ClearMLConfig}).items():
        add_config_flags(parser, config, title)
    parser.set_defaults(task_name="inference")
    return parser


def make_parser(system: str) -> Parser:
    """The parser of inference.py with a checkpoint of a system."""
    return _make_parser({f"tracker of {system} (defaults: as trained)": CONFIGS[system].tracker})


def check_page(args: Namespace) -> None:
    """Raise UserError where --annotate stands beside flags that its page does not use."""
    run, prompts = config_from_args(RunConfig, args), args.output / "prompts"
    if run.part:
        raise UserError(f"--annotate shows whole videos: leave out {run.part}")
    if args.prompt_root or run.marks or run.reverse:
        remedy = "leave out --prompt_root, boxes, clicks and --reverse"
        raise UserError(
            f"--annotate paints the prompts of a run forwards: {remedy}; maps in {prompts} are taken up"
        )
    if others := [name for name in WITHOUT_PAGE if getattr(args, name)]:
        after = f"the same command with --prompt_root {prompts} --prompt_frames all instead takes it"
        raise UserError(f"--annotate makes no use of --{others[0]}: leave it out; {after}")


def check_flags(argv: Sequence[str]) -> None:
    """Show the help, or refuse flags and paths that no run can have, as far as that takes no checkpoint.

    Raises UserError.
    """
    known = parse_first(argv)
    if known.checkpoint is None:
        make_parser(known.system or DEFAULT).parse_args(argv)
    if {"-h", "--help"} & set(argv):  # which shows what the checkpoint was trained with
        return
    parser = _make_parser({}, add_help=False)
    args, others = parser.parse_known_args(argv)
    systems = [known.system] if known.system else CONFIGS
    flags = {f"--{item.name}" for name in systems for item in fields(CONFIGS[name].tracker)}
    for word in others:
        if word.startswith("--") and word.partition("=")[0] not in flags:
            parser.error(f"unrecognized arguments: {word}")
    run = config_from_args(RunConfig, args)
    part, root = run.part, args.video_root
    if run.annotate:
        check_page(args)
    if args.checkpoint.suffix:  # a published one has a name without
        check_checkpoint(args.checkpoint)
    if isinstance(root, LiveRoot) or run.raw_size or not (root.exists() or glob(str(root))):
        find_videos(root, run.fps, part, run.raw_size)  # refuses them, and opens none
