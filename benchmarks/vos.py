"""Video object segmentation from first-frame masks: speed, memory, and the sparse read against the dense one.

python -m benchmarks.vos --system stcn
python -m benchmarks.vos --system xmem --device cuda --amp fp16

Three tables, of a network with random weights. First, the tracker on a video in which objects are given on
the first frame, against the bare key encoder on the same frames, which takes turns with it; one frame in
`--mem_every` is remembered. Second, one read of a memory of `--memory_frames` frames: the similarity as one
product, top-k of some cells at a time and a readout of the few rows that count, against the plain form, which
computes distances in passes and multiplies with all rows; of XMem each of its forms is measured so
(benchmarks/xmem_forms.py), and the whole frame. Third, resident memory and the time of a frame in the course
of a long video with a bound on the memory. The program ends with exit status 1 where an aim is missed.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measuring import (
    Aim,
    Phases,
    add_machine_flags,
    counted,
    judge,
    print_parts,
    set_up,
)
from benchmarks.xmem_forms import report_forms
from common.config import Parser, add_config_flags, config_from_args
from common.device import AMP, autocast, peak_memory
from common.errors import UserError, run_command
from common.types import Prompt, Tracker
from main import SYSTEMS
from systems.stcn.affinity import memory_terms, query_terms, read_sparse, top_k_affinity
from video.masks import pad_around
from video.transforms import normalise

BARE, WHOLE = "bare key encoder", "tracker"
SPARSE, DENSE = "sparse", "dense"
SPEED_AIM, ERROR_AIM, GROWTH_AIM, SLOWING_AIM = 5.0, 1e-5, 1.02, 1.05
LONG_FRAMES, LONG_PARTS = 2000, 20
LONG_BOUND = 5  # frames in the memory of the long video


def draw_frames(size: tuple[int, int], count: int) -> Iterator[Tensor]:
    """uint8 RGB (3, H, W): noise in large cells that drifts."""
    cells = torch.randint(0, 255, (3, -(-size[0] // 8) + 1, -(-size[1] // 8) + 1), dtype=torch.uint8)
    for _ in range(count):
        cells = cells.roll(1, -1)
        yield cells.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, : size[0], : size[1]].contiguous()


def bands(size: tuple[int, int], objects: int) -> Prompt:
    """A prompt of objects side by side."""
    columns = torch.arange(size[1]) * objects // size[1] + 1
    labels = columns.expand(size).clone()
    labels[: size[0] // 4] = 0
    return Prompt(labels)


def measure_tracked(
    phases: Phases, tracker: Tracker, network: nn.Module, frame: Tensor, prompt: Prompt | None, amp: str
) -> None:
    """Time the bare key encoder and the tracker on a frame."""
    image = pad_around(normalise(frame.to(phases.device))[None], network.stride)[0]
    phases.begin()
    with torch.inference_mode(), autocast(phases.device, amp):
        with phases.part(BARE):
            network.key_encoder(image)
        with phases.part(WHOLE):
            tracker.step(frame, prompt)


def mean_times(phases: Phases) -> dict[str, np.ndarray]:
    """Of each part; a mean over the frames, because one in some is remembered and costs more."""
    return {name: sum(parts[name] for parts in phases.rounds) / len(phases.rounds) for name in (BARE, WHOLE)}


def measure_tracking(
    tracker: Tracker, network: nn.Module, frames: list[Tensor], objects: int, amp: str, device: torch.device
) -> Phases:
    """Times of every frame but the first, on which the objects are given."""
    phases = Phases(device)
    tracker.reset()
    for t, frame in enumerate(frames):
        prompt = None if t else bands(tuple(frame.shape[-2:]), objects)
        measure_tracked(phases, tracker, network, frame, prompt, amp)
    del phases.rounds[0]
    return phases


def report_tracking(phases: Phases, objects: int, device: torch.device) -> None:
    bare, whole = mean_times(phases).values()
    print(
        f"{objects:7}{1000 / whole[0]:14.2f}{whole[0]:10.0f}{whole[1]:10.0f}{bare[1]:16.0f}"
        f"{counted(whole) / counted(bare):9.2f}{peak_memory(device):12.0f}"
    )


def dense_read(keys: Tensor, query: Tensor, values: Tensor, top_k: int) -> Tensor:
    """The plain form: keys (C, S), query (C, L), values (V, S) to (V, L)."""
    similarity = 2 * (keys.T @ query) - keys.square().sum(0)[:, None]  # (S, L)
    similarity = similarity / keys.shape[0] ** 0.5
    best = similarity.topk(min(top_k, len(similarity)), dim=0)
    affinity = torch.zeros_like(similarity).scatter_(0, best.indices, best.values.softmax(0))
    return values @ affinity


def measure_read(args: argparse.Namespace, device: torch.device) -> tuple[Phases, float]:
    """Times of both forms of a read, and their largest difference."""
    cells = -(-args.size[0] // 16) * -(-args.size[1] // 16)
    C, V, S = args.key_dim, args.value_dim * args.memory_objects, cells * args.memory_frames
    with device:
        keys, query, values = torch.randn(C, S), torch.randn(C, cells), torch.randn(S, V)
    plain, terms = values.T.contiguous(), memory_terms(keys)  # both are made when a frame is added
    phases, difference = Phases(device), 0.0
    with torch.inference_mode():
        for _ in range(args.rounds + 1):
            phases.begin()
            with phases.part(SPARSE):
                readout = read_sparse(values, top_k_affinity(query_terms(query), terms, args.top_k))
            with phases.part(DENSE):
                expected = dense_read(keys, query, plain, args.top_k)
            difference = max(difference, float((readout.T - expected).abs().max()))
    del phases.rounds[0]
    return phases, difference


def report_read(args: argparse.Namespace, device: torch.device) -> list[Aim]:
    """The table of one read, and what was aimed at."""
    phases, difference = measure_read(args, device)
    parts = phases.medians()
    print(f"\none read of {args.memory_frames} frames in memory, {args.memory_objects} objects")
    print_parts(parts, parts[DENSE])
    ratio = counted(parts[DENSE]) / counted(parts[SPARSE])
    return [
        Aim("speed of the sparse read / the dense", ratio, SPEED_AIM, True),
        Aim("largest difference of the two, in 1e-5", difference / ERROR_AIM, 1.0),
    ]


def resident_memory(device: torch.device) -> float:
    """MiB that the process takes now: of the GPU, or resident, as the Linux kernel counts it."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def measure_long(
    tracker: Tracker, network: nn.Module, size: tuple[int, int], frames: int, device: torch.device
) -> list[Aim]:
    """Print resident memory and times in the course of a video, which is drawn as it goes; what was aimed at.

    Times are compared as multiples of the key encoder's, which takes turns: a machine that is shared is not
    as fast all the time. The first twentieth of the frames, in which the memory takes its room, is left out.
    """
    tracker.reset()
    phases, memory, ratios = Phases(device), [], []
    for t, frame in enumerate(draw_frames(size, frames), start=1):
        measure_tracked(phases, tracker, network, frame, bands(size, 2) if t == 1 else None, "off")
        if t % max(1, frames // LONG_PARTS) == 0:
            times = mean_times(phases)
            phases.rounds.clear()
            bare, whole = counted(times[BARE]), counted(times[WHOLE])
            memory.append(resident_memory(device))
            ratios.append(whole / bare)
            print(f"{t:7} frames{memory[-1]:12.1f} MiB{whole:10.2f} ms a frame{ratios[-1]:8.2f}", flush=True)
    early, last = (sum(part) / len(part) for part in (ratios[1:3], ratios[-LONG_PARTS // 4 :]))
    return [
        Aim("memory at the end / after a tenth", memory[-1] / memory[1], GROWTH_AIM),
        Aim("time of a frame in the last quarter / after a twentieth", last / early, SLOWING_AIM),
    ]


def parse_args() -> argparse.Namespace:
    parser = Parser(prog="benchmarks.vos", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--system", default="stcn", choices=["stcn", "xmem"], help="whose tracker is measured"
    )
    parser.add_argument(
        "--size", type=int, nargs=2, default=[480, 854], help="height and width of the frames"
    )
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3, 10], help="of each row, ascending")
    parser.add_argument("--frames", type=int, default=10, help="that are timed, after the first")
    parser.add_argument("--memory_frames", type=int, default=16, help="in the memory that is read")
    parser.add_argument("--memory_objects", type=int, default=3, help="whose values are read")
    parser.add_argument("--rounds", type=int, default=5, help="of reads, of which medians are taken")
    parser.add_argument("--long_size", type=int, nargs=2, default=[64, 64], help="of the long video")
    parser.add_argument("--long_frames", type=int, default=LONG_FRAMES, help="of the long video; 0: none")
    parser.add_argument("--amp", default="off", choices=tuple(AMP), help="mixed precision of the network")
    add_machine_flags(parser)
    args, _ = parser.parse_known_args()
    for name in ("frames", "memory_frames", "memory_objects", "rounds"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)} is too small: at least 1")
    if args.long_frames and args.long_frames < 2:
        raise UserError(f"--long_frames {args.long_frames} is too small: at least 2, or 0 for none")
    system = SYSTEMS[args.system]
    add_config_flags(parser, system.network.Config, "network")
    add_config_flags(parser, system.tracker.Config, "tracker")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    device = set_up(args.device, args.threads)
    system = SYSTEMS[args.system]
    network = system.network(config_from_args(system.network.Config, args)).to(device).eval()
    config = config_from_args(system.tracker.Config, args)
    frames = list(draw_frames(tuple(args.size), args.frames + 1))
    print(f"\n{args.system}, {args.size[1]}x{args.size[0]}, amp {args.amp}, {args.frames} frames")
    print("objects      frames/s   wall ms    CPU ms  key encoder CPU    ratio    peak MiB")
    for objects in args.objects:
        tracker = system.tracker(network, config)
        report_tracking(
            measure_tracking(tracker, network, frames, objects, args.amp, device), objects, device
        )

    if args.system == "xmem":
        prompt = bands(tuple(args.size), args.memory_objects)
        aims = report_forms(args, network, frames, prompt, device)
    else:
        aims = report_read(args, device)
    if args.long_frames:
        heading = f"a long video of {args.long_size[1]}x{args.long_size[0]}, 2 objects"
        bound = "" if args.system == "xmem" else f", --max_memory_frames {LONG_BOUND}"
        print(f"\n{heading}{bound}")
        limits = {"short_side": -1} | ({"max_memory_frames": LONG_BOUND} if bound else {})
        tracker = system.tracker(network, replace(config, **limits))
        aims += measure_long(tracker, network, tuple(args.long_size), args.long_frames, device)
    print()
    judge(aims)


if __name__ == "__main__":
    run_command(main)
