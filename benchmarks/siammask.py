"""SiamMask: a frame against its bare backbone, in both forms of the network, and several objects against one.

python -m benchmarks.siammask
python -m benchmarks.siammask --device cuda --objects 1 5 20

A network with random weights follows boxes through a video. First, one object, by the network as it is
trained and in its form for inference (batch norms folded into the convolutions, channels last in memory);
every row has its own bare backbone, which takes turns with the frame: the backbone of the same form on one
search crop. What a frame costs beside it is cropping, adjust layer, branches, the choice, one refined mask,
pasting and the rotated box. Then numbers of objects, whose crops go through the network one by one on
a CPU, and in batches of 16 on a GPU. Medians
over the frames; the program ends with exit status 1 where the aim is missed.
"""

import argparse

import torch

from benchmarks.measuring import Aim, Phases, add_machine_flags, counted, judge, set_up
from benchmarks.vos import draw_frames
from common.backbone import for_inference
from common.config import Parser, add_config_flags, config_from_args
from common.device import AMP, autocast, peak_memory
from common.errors import UserError, run_command
from common.types import Prompt
from systems.siammask.crops import SEARCH
from systems.siammask.modules import SiamMask
from systems.siammask.tracker import SiamMaskTracker

BARE, WHOLE = "bare backbone", "frame"
RATIO_AIM = 1.3
FORMS = ("training", "inference")


def boxes(size: tuple[int, int], objects: int) -> Prompt:
    """A prompt of boxes side by side."""
    H, W = size
    width = W / objects
    return Prompt(boxes={i + 1: (i * width, H / 4, 0.8 * width, H / 2) for i in range(objects)})


def measure(
    network: SiamMask, args: argparse.Namespace, objects: int, device: torch.device
) -> dict[str, float]:
    """Milliseconds of both parts of a frame, of the time that counts, and frames a second by the clock."""
    tracker, phases = SiamMaskTracker(network, SiamMaskTracker.Config()), Phases(device)
    crop = torch.rand(1, SEARCH, SEARCH, 3, device=device).permute(0, 3, 1, 2) * 255
    for t, frame in enumerate(draw_frames(tuple(args.size), args.frames + 2)):
        phases.begin()
        with torch.inference_mode(), autocast(device, args.amp):
            with phases.part(BARE):
                network.features.features(crop)
            with phases.part(WHOLE):
                tracker.step(frame, None if t else boxes(tuple(args.size), objects))
    del phases.rounds[:2]  # the templates, and the first search
    parts = phases.medians()
    return {name: counted(parts[name]) for name in (BARE, WHOLE)} | {"fps": 1000 / parts[WHOLE][0]}


def parse_args() -> argparse.Namespace:
    parser = Parser(prog="benchmarks.siammask", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--size", type=int, nargs=2, default=[480, 854], help="height and width of the frames"
    )
    parser.add_argument(
        "--objects", type=int, nargs="+", default=[1, 5], help="of each row of the second table"
    )
    parser.add_argument("--frames", type=int, default=10, help="of which medians are taken")
    parser.add_argument("--amp", default="off", choices=tuple(AMP), help="mixed precision of the network")
    add_machine_flags(parser)
    add_config_flags(parser, SiamMask.Config, "network")
    parser.set_defaults(refine=True)
    args = parser.parse_args()
    for name, value in (("frames", args.frames), ("objects", min(args.objects))):
        if value < 1:
            raise UserError(f"--{name} {value} is too small: at least 1")
    return args


def main() -> None:
    args = parse_args()
    device = set_up(args.device, args.threads)
    network = SiamMask(config_from_args(SiamMask.Config, args)).to(device).eval()
    print(f"\n{args.size[1]}x{args.size[0]}, one object, amp {args.amp}, {args.frames} frames")
    print("form of       bare backbone ms  frame ms    ratio  against training  frames/s")
    frames: list[float] = []
    for form in FORMS:
        network = for_inference(network) if form == "inference" else network
        times = measure(network, args, 1, device)
        frames.append(times[WHOLE])
        ratio = times[WHOLE] / times[BARE]
        print(
            f"{form:<12}{times[BARE]:18.1f}{times[WHOLE]:10.1f}{ratio:9.2f}"
            f"{times[WHOLE] / frames[0]:18.2f}{times['fps']:10.1f}"
        )
    print("\nseveral objects\nobjects  frame ms  against one  ms an object  frames/s    peak MiB")
    first = None
    for objects in args.objects:
        times = measure(network, args, objects, device)
        first = first or times[WHOLE]
        each = times[WHOLE] / objects
        print(
            f"{objects:7}{times[WHOLE]:10.1f}{times[WHOLE] / first:13.2f}{each:14.1f}"
            f"{times['fps']:10.1f}{peak_memory(device):12.0f}"
        )
    print()
    judge([Aim("a frame / its bare backbone", ratio, RATIO_AIM)])


if __name__ == "__main__":
    run_command(main)
