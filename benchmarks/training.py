"""A training step against a bare ResNet-50 forward and backward on the same frames, with its parts.

python -m benchmarks.training
python -m benchmarks.training @presets/a100.txt --device cuda --batch_size 4 --rounds 20 --compile

All flags of main.py count, and say what is trained; the step is that of its training loop. The bare network
is the same backbone, with the same parts frozen, without heads and optimiser. Frames, objects and weights are
random. By default one clip of four frames of 384x640, because a CPU takes seconds a step. Bare network, step
and step in parts take turns; the numbers are medians over the rounds. The program ends with exit status 1
where an aim is missed: a step of at most 1.5 times the bare network, of which criterion and matcher, with
their backward, take at most a tenth.
"""

import argparse
import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from annotated.videos import VOSFolder
from benchmarks.measuring import Aim, Phases, counted, judge, print_parts, set_up
from common.device import autocast, peak_memory
from common.errors import UserError, run_command
from common.types import Clip
from main import SYSTEMS, Trainer
from training.config import make_parser
from training.listeners.listener import Listeners
from training.report import Report
from video import synthetic
from video.masks import pad_to_stride

SYSTEM = "vita_tcovis"
BARE, STEP = "bare network", "training step"
FORWARD, MATCHER, CRITERION = "network forward", "matcher", "criterion"
CRITERION_BACKWARD, BACKWARD = "criterion backward", "network backward"
OPTIMISER, REST = "optimiser", "checks, gradient norm, average"
RATIO_AIM, SHARE_AIM = 1.5, 0.1


def draw_clip(args: argparse.Namespace, height: int, width: int) -> Clip:
    """Random frames, and the label maps of rectangles that move through them."""
    B, T, K = args.batch_size, args.clip_length, args.objects
    labels = torch.zeros(B, T, height, width, dtype=torch.uint8)
    for b in range(B):
        for k in range(K):
            h, w = (int(torch.randint(side // 8, side // 3, ())) for side in (height, width))
            top, left = int(torch.randint(0, height - h, ())), int(torch.randint(0, width - w, ()))
            for t in range(T):
                labels[b, t, top : top + h, min(left + 4 * t, width - w) :][:, :w] = k + 1
    return Clip(
        frames=pad_to_stride(torch.randn(B, T, 3, height, width), 32),
        labels=pad_to_stride(labels, 32),
        ids=torch.arange(1, K + 1).repeat(B, 1),
        classes=torch.zeros(B, K, dtype=torch.int64),
        names=[[(f"video {b}", f"{t:05}") for t in range(T)] for b in range(B)],
    )


def make_trainer(args: argparse.Namespace, folder: Path) -> Trainer:
    """The trainer of main.py, on a network without anybody's weights and a data set that it never reads."""
    plan = SYSTEMS[SYSTEM].plan(args)
    counts = {"train_videos": args.batch_size, "valid_videos": 1, "frames": 1, "size": 16}
    synthetic.generate(folder / "data", "easy", seed=0, **counts)
    train, valid = (VOSFolder(folder / "data" / split) for split in synthetic.SPLITS)
    network = plan.system.network(plan.configs["network"])
    trainer = Trainer(plan, network, train, valid, Report(folder, Listeners()))
    trainer.objective.train()
    return trainer


def make_bare_step(trainer: Trainer) -> Callable[[Clip], None]:
    """Forward and backward of a copy of the backbone alone."""
    backbone = copy.deepcopy(trainer.network.backbone)
    if trainer.plan.flags["compile"]:
        backbone.compile()

    def step(clip: Clip) -> None:
        with autocast(trainer.device, trainer.options.amp):
            features = backbone(clip.frames.flatten(0, 1))[32]
        features.float().mean().backward()
        backbone.zero_grad(set_to_none=True)

    return step


def make_step(trainer: Trainer) -> Callable[[Clip], None]:
    """One optimiser step of the training loop."""
    if trainer.plan.flags["compile"]:
        trainer.network.forward = torch.compile(trainer.network.forward)

    def step(clip: Clip) -> None:
        trainer.optimise([clip] * trainer.options.accumulate)
        trainer.state.step += 1

    return step


@contextmanager
def parts_of(trainer: Trainer, phases: Phases) -> Iterator[None]:
    """Within the block, the parts of a step are told apart.

    The backward of the criterion ends where the first gradient arrives at an output of the network: autograd
    runs what was recorded later first.
    """
    forward = trainer.network.forward

    def watched(*args: Any) -> dict[str, Any]:
        with phases.part(FORWARD):
            outputs = forward(*args)
        arrived = threading.Event()

        def arrive(_: Tensor) -> None:
            if not arrived.is_set():
                arrived.set()
                phases.rename(BACKWARD)

        for x in tree_leaves(outputs):
            if x.requires_grad:
                x.register_hook(arrive)
        return outputs

    with ExitStack() as stack:
        trainer.network.forward = watched
        stack.callback(setattr, trainer.network, "forward", forward)
        for owner, attribute, name in (
            (trainer.criterion, "forward", CRITERION),
            (type(trainer.criterion.matcher), "__call__", MATCHER),
            (Tensor, "backward", CRITERION_BACKWARD),
            (trainer.state.optimizer, "step", OPTIMISER),
        ):
            stack.enter_context(phases.inside(owner, attribute, name))
        yield


def measure(trainer: Trainer, clip: Clip, rounds: int) -> tuple[Phases, list[float]]:
    """Times of bare network, step and parts; peak memory after each round, in MiB."""
    phases, memory = Phases(trainer.device), []
    bare, step = make_bare_step(trainer), make_step(trainer)
    for _ in range(1 + rounds):
        phases.begin()
        with phases.part(BARE):
            bare(clip)
        with phases.part(STEP):
            step(clip)
        with parts_of(trainer, phases), phases.part(REST):
            step(clip)
        memory.append(peak_memory(trainer.device))
    del phases.rounds[0]  # compiling, and memory that is taken for the first time
    return phases, memory


def report(phases: Phases, memory: list[float]) -> None:
    """Print the table and the ratios; ends the program with status 1 where an aim is missed."""
    times = phases.medians()
    bare, step = times.pop(BARE), times.pop(STEP)
    whole = sum(times.values())
    order = (FORWARD, MATCHER, CRITERION, CRITERION_BACKWARD, BACKWARD, OPTIMISER, REST)
    print_parts({BARE: bare, STEP: step} | {f"  {name}": times[name] for name in order}, step)
    peaks = f"peak memory {memory[-1]:.0f} MiB, after the first round {memory[0]:.0f}"
    print(f"{1000 / step[0]:.3g} steps/s, {peaks}\n")
    losses = sum(times[name] for name in (MATCHER, CRITERION, CRITERION_BACKWARD))
    judge(
        [
            Aim(f"{STEP} / {BARE}", counted(step) / counted(bare), RATIO_AIM),
            Aim("criterion and matcher / step", counted(losses) / counted(whole), SHARE_AIM),
        ]
    )


def parse_args() -> argparse.Namespace:
    """The flags of main.py with defaults for a CPU, and the benchmark's own."""
    parser = make_parser(SYSTEM)
    parser.prog, parser.description = "benchmarks.training", __doc__.splitlines()[0]
    group = parser.add_argument_group("benchmark")
    group.add_argument("--height", type=int, help="of the frames (default: --image_size)")
    group.add_argument("--width", type=int, help="of the frames (default: 5/3 of the height)")
    group.add_argument("--objects", type=int, default=5, help="in each clip")
    group.add_argument(
        "--rounds", type=int, default=3, help="of which medians are taken, after one to warm up"
    )
    group.add_argument("--compile", action="store_true", help="compile the networks with torch.compile")
    parser.set_defaults(batch_size=1, clip_length=4, device="cpu", threads=1, num_workers=0)
    args = parser.parse_args()
    for name in ("objects", "rounds"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)} is too small: at least 1")
    return args


def main() -> None:
    args = parse_args()
    device = set_up(args.device, args.threads)
    height = args.height or args.image_size
    width = args.width or round(height * 5 / 3)
    with TemporaryDirectory() as folder:
        trainer = make_trainer(args, Path(folder))
        clip = draw_clip(args, height, width).to(device)
        sizes = "x".join(map(str, clip.frames.shape[:2])) + f" frames of {height}x{width}"
        millions = sum(p.numel() for p in trainer.network.parameters()) / 1e6
        network = f"{args.num_tokens} tokens, {args.backbone}, {millions:.1f} M parameters, amp {args.amp}"
        print(f"{sizes}, {args.objects} objects, {network}{', compiled' * args.compile}\n")
        report(*measure(trainer, clip, args.rounds))


if __name__ == "__main__":
    run_command(main)
