"""This project beside the official programs, in turns, on the same frames and weights, or the same results.

python -m benchmarks.peers --xmem ../XMem --stcn ../STCN --siammask ../SiamMask --sam ../segment-anything \
    --davis2017 ../davis2017-evaluation --trackeval ../TrackEval

Each flag is the folder of an official checkout; what has none is passed over. Trackers get random weights,
in one file in the published layout, a clip of drifting noise, and the masks or boxes of its first frame; SAM
gets a box in each of two frames. A program that asks for a GPU gets the CPU. Each tracks the clip in a
process of its own, `--rounds` times in turns, after two frames to warm up; the reading of files is not in
it, but in the rows of `--file_frames`, of whole commands, inference.py and XMem's or STCN's script. Scorers
are whole commands, on generated results of DAVIS and of MOTSChallenge. Times are CPU seconds, of
trackers for each frame; the ratio is the median of those of the rounds; memory is the peak of a process. The
instructions of both are bounded by ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.measuring import set_up
from benchmarks.peers.files import SCRIPTS, track_files, write_files
from benchmarks.peers.inputs import write_clip, write_weights
from benchmarks.peers.ours import NAMES
from benchmarks.peers.scores import score_in_turns
from benchmarks.peers.turns import Turns, track_in_turns
from common.config import AMP_CHOICES, Parser
from common.errors import UserError, run_command
from common.progress import say

SIGNS = {  # a file of each checkout
    "xmem": "inference/inference_core.py",
    "stcn": "inference_core.py",
    "siammask": "experiments/siammask_sharp/custom.py",
    "sam": "segment_anything/predictor.py",
    "davis2017": "evaluation_method.py",
    "trackeval": "scripts/run_mots_challenge.py",
}


def print_row(name: str, turns: Turns, frames: int, agreement: str) -> None:
    seconds = np.median(turns.cpu, axis=0) / 1000 / frames
    ratio = np.median(turns.cpu[:, 1] / turns.cpu[:, 0])
    memory = "".join(f"{peak:8.0f}" for peak in turns.peaks)
    print(f"{name:26}{seconds[0]:9.3f}{seconds[1]:9.3f}{ratio:8.2f}{memory}   {agreement}", flush=True)


def report_tracker(name: str, args: argparse.Namespace, folder: Path) -> None:
    """A row for each number of objects."""
    job = {"program": name, "checkout": str(getattr(args, name)), "threads": args.threads}
    job |= {"amp": args.amp, "weights": str(folder / "weights.pth"), "clip": str(folder / "clip.npz")}
    write_weights(Path(job["weights"]), name)
    rows = [(objects, args.frames) for objects in args.objects] if name != "sam" else [(1, 2)]
    for objects, frames in rows:
        write_clip(Path(job["clip"]), tuple(args.size), frames, objects)
        turns, equal = track_in_turns(job, folder, args.rounds)
        print_row(f"{name}, objects: {objects}", turns, frames, f"equal pixels: {equal:.5f}")
    if args.file_frames and name in SCRIPTS:
        write_clip(Path(job["clip"]), tuple(args.size), args.file_frames, 1)
        write_files(folder / "files", Path(job["clip"]))
        places = getattr(args, name), folder / "files", Path(job["weights"])
        turns, equal = track_files(name, *places, args.rounds, args.amp)
        print_row(f"{name}, files to files", turns, args.file_frames, f"equal pixels: {equal:.5f}")


def report_scorer(name: str, args: argparse.Namespace, folder: Path) -> None:
    sizes = tuple(args.size), args.videos, args.video_frames, args.rounds
    turns, difference = score_in_turns(name, getattr(args, name), folder, *sizes)
    print_row(f"{name}, videos: {args.videos}", turns, 1, f"scores differ by {difference:.1e}")


def parse_args() -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.peers", description=__doc__.splitlines()[0])
    for name in SIGNS:
        parser.add_argument(f"--{name}", type=Path, help="the folder of its checkout")
    parser.add_argument("--size", type=int, nargs=2, default=[480, 854], help="height and width of frames")
    parser.add_argument("--frames", type=int, default=4, help="of the clip, the first with its masks too")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3], help="of each row of a tracker")
    parser.add_argument("--file_frames", type=int, default=0, help="of a row from files to files; 0: none")
    parser.add_argument("--amp", choices=AMP_CHOICES, default="off", help="of ours, as of inference.py")
    parser.add_argument("--videos", type=int, default=4, help="that are scored")
    parser.add_argument("--video_frames", type=int, default=20, help="of each of these")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each program")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    args = parser.parse_args()
    for name, least in {"frames": 2, "videos": 1, "video_frames": 3, "rounds": 1}.items():
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)} is too small: at least {least}")
    for name, sign in SIGNS.items():
        path = getattr(args, name)
        if path is not None and not (path / sign).is_file():
            raise UserError(f"--{name} {path} has no {sign}: give the folder of an official checkout")
        setattr(args, name, path and path.resolve())
    return args


def main() -> None:
    args = parse_args()
    set_up("cpu", args.threads)
    print(f"instructions: {torch.backends.cpu.get_cpu_capability()}")
    print(f"\n{args.size[1]}x{args.size[0]}, {args.frames} frames, CPU seconds, MiB")
    print(f"{'':26}{'ours':>9}{'theirs':>9}{'ratio':>8}{'ours':>8}{'theirs':>8}")
    for name in SIGNS:
        if getattr(args, name) is None:
            say(f"{name} is not compared: give its checkout by --{name}")
            continue
        with TemporaryDirectory() as folder:
            report = report_tracker if name in NAMES else report_scorer
            report(name, args, Path(folder))


if __name__ == "__main__":
    run_command(main)
