"""A tracked frame by a network as it is trained, against one in its forms for inference, for every system.

python -m benchmarks.forms
python -m benchmarks.forms --systems stcn xmem --size 480 854 --rounds 3 --layers
python -m benchmarks.forms --systems vita_tcovis --size 480 854 --device cuda

For inference, batch norms are folded into the convolutions and channels are last in memory, and then, on a
CPU, wide 3x3 convolutions take Winograd's form. "bf16" is the folded form with --amp bf16, which pays on a
CPU that multiplies bf16 by itself. Networks of full size with random weights and without backbone weights,
but VITA-TCOVIS's, whose backbone has the frozen batch norms that it has with weights; objects from masks. All
forms take turns; medians over the rounds. With --layers a second table is of single
convolutions on the CPU, with widths and, at 854x480, sizes of XMem's and STCN's decoders.
"""

import argparse
import copy

import torch

from benchmarks.measuring import Phases, add_machine_flags, counted, set_up
from common.backbone import for_inference
from common.config import Parser, add_config_flags, config_from_args
from common.device import autocast
from common.errors import UserError, run_command
from common.types import Prompt
from inference import SYSTEMS
from systems.stcn.winograd import WinogradConv2d

FORMS = {"training": "off", "folded": "off", "bf16": "bf16", "inference": "off"}  # and their --amp
LAYERS = (
    (1024, 512, 30, 54),
    (512, 512, 30, 54),
    (512, 512, 60, 108),
    (512, 256, 60, 108),
    (256, 256, 120, 216),
)


def measure(name: str, args: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Milliseconds of a frame by each form."""
    system = SYSTEMS[name]
    flags = Parser()
    add_config_flags(flags, system.network.Config, name)
    network = system.network(config_from_args(system.network.Config, flags.parse_args([]))).to(device).eval()
    folded = for_inference(copy.deepcopy(network), winograd=False)
    fast = for_inference(copy.deepcopy(network))
    networks = dict(zip(FORMS, (network, folded, folded, fast), strict=True))
    trackers = {form: system.tracker(each, system.tracker.Config()) for form, each in networks.items()}
    frames = torch.randint(0, 256, (3, 3, *args.size), dtype=torch.uint8)
    labels = torch.zeros(args.size, dtype=torch.int64)
    width = args.size[1] // args.objects
    for number in range(args.objects):
        labels[args.size[0] // 4 : args.size[0] // 2, number * width : (2 * number + 1) * width // 2] = (
            number + 1
        )
    phases = Phases(device)
    for _ in range(args.rounds):
        phases.begin()
        for form, tracker in trackers.items():
            tracker.reset()
            with autocast(device, FORMS[form]):
                tracker.step(frames[0], Prompt(labels.clone()))
                with phases.part(form):
                    for frame in frames[1:]:
                        tracker.step(frame)
    return {form: counted(spent) / (len(frames) - 1) for form, spent in phases.medians().items()}


@torch.inference_mode()
def measure_layer(inputs: int, outputs: int, h: int, w: int, rounds: int) -> tuple[float, float]:
    """Milliseconds of a 3x3 convolution of (1, inputs, h, w), and of the same in Winograd's form."""
    conv = WinogradConv2d(inputs, outputs, 3, padding=1)
    forms = {"plain": for_inference(copy.deepcopy(conv), winograd=False), "winograd": for_inference(conv)}
    x = torch.randn(1, inputs, h, w).to(memory_format=torch.channels_last)
    phases = Phases(torch.device("cpu"))
    for _ in range(rounds + 1):
        phases.begin()
        for form, each in forms.items():
            with phases.part(form):
                each(x)
    del phases.rounds[0]
    plain, winograd = phases.medians().values()
    return counted(plain), counted(winograd)


def main() -> None:
    parser = Parser(prog="benchmarks.forms", description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=sorted(SYSTEMS), default=sorted(SYSTEMS))
    parser.add_argument(
        "--size", type=int, nargs=2, default=[240, 432], help="height and width of the frames"
    )
    parser.add_argument("--objects", type=int, default=1, help="objects that are tracked")
    parser.add_argument("--rounds", type=int, default=5, help="of which medians are taken")
    parser.add_argument("--layers", action="store_true", help="measure single convolutions, too")
    add_machine_flags(parser)
    args = parser.parse_args()
    if min(args.rounds, args.objects) < 1 or min(args.size) < 16:
        raise UserError("--rounds and --objects must be at least 1, and --size at least 16")
    device = set_up(args.device, args.threads)
    heads = "".join(f"{form + ' ms':>14}" for form in FORMS)
    print(f"\n{'':16}{heads}{'to training':>13}{'to folded':>11}{'bf16 to folded':>16}")
    for name in args.systems:
        spent = measure(name, args, device)
        columns = "".join(f"{milliseconds:14.1f}" for milliseconds in spent.values())
        training, folded, bf16, inference = spent.values()
        shares = f"{inference / training:13.2f}{inference / folded:11.2f}{bf16 / folded:16.2f}"
        print(f"{name:16}{columns}{shares}", flush=True)
    if args.layers:
        print(f"\n{'convolution':28}{'plain ms':>10}{'Winograd ms':>13}{'ratio':>8}")
        for layer in LAYERS:
            plain, winograd = measure_layer(*layer, args.rounds)
            inputs, outputs, h, w = layer
            name = f"{inputs} to {outputs} at {h}x{w}"
            print(f"{name:28}{plain:10.1f}{winograd:13.1f}{winograd / plain:8.2f}", flush=True)


if __name__ == "__main__":
    run_command(main)
