"""A tracked frame by a network as it is trained, against one in its form for inference, for every system.

python -m benchmarks.forms
python -m benchmarks.forms --systems vita_tcovis --size 480 854 --device cuda

For inference, batch norms are folded into the convolutions and channels are last in memory. Networks of full
size with random weights and without backbone weights, but VITA-TCOVIS's, whose backbone has the frozen batch
norms that it has with weights; one object from a mask. Both forms take turns; medians over the rounds.
"""

import argparse
import copy

import torch

from benchmarks.measuring import Phases, add_machine_flags, counted, set_up
from common.backbone import for_inference
from common.config import Parser, add_config_flags, config_from_args
from common.errors import UserError, run_command
from common.types import Prompt
from inference import SYSTEMS

FORMS = ("training", "inference")


def measure(name: str, args: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Milliseconds of a frame by each form."""
    system = SYSTEMS[name]
    flags = Parser()
    add_config_flags(flags, system.network.Config, name)
    network = system.network(config_from_args(system.network.Config, flags.parse_args([]))).to(device).eval()
    networks = dict(zip(FORMS, (network, for_inference(copy.deepcopy(network))), strict=True))
    trackers = {form: system.tracker(each, system.tracker.Config()) for form, each in networks.items()}
    frames = torch.randint(0, 256, (3, 3, *args.size), dtype=torch.uint8)
    labels = torch.zeros(args.size, dtype=torch.int64)
    labels[args.size[0] // 4 : args.size[0] // 2, args.size[1] // 4 : args.size[1] // 2] = 1
    phases = Phases(device)
    for _ in range(args.rounds):
        phases.begin()
        for form, tracker in trackers.items():
            tracker.reset()
            tracker.step(frames[0], Prompt(labels.clone()))
            with phases.part(form):
                for frame in frames[1:]:
                    tracker.step(frame)
    return {form: counted(spent) / (len(frames) - 1) for form, spent in phases.medians().items()}


def main() -> None:
    parser = Parser(prog="benchmarks.forms", description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=sorted(SYSTEMS), default=sorted(SYSTEMS))
    parser.add_argument(
        "--size", type=int, nargs=2, default=[240, 432], help="height and width of the frames"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of which medians are taken")
    add_machine_flags(parser)
    args = parser.parse_args()
    if args.rounds < 1 or min(args.size) < 16:
        raise UserError("--rounds must be at least 1, and --size at least 16")
    device = set_up(args.device, args.threads)
    print(f"\n{'':16}{'training ms':>12}{'inference ms':>14}{'ratio':>8}")
    for name in args.systems:
        training, inference = measure(name, args, device).values()
        print(f"{name:16}{training:12.1f}{inference:14.1f}{inference / training:8.2f}")


if __name__ == "__main__":
    run_command(main)
