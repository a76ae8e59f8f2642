"""Features to stride 32 by the small networks of torchvision: parameters, time of a frame, of training on it.

python -m benchmarks.backbones
python -m benchmarks.backbones --size 480 864 --rounds 3

Random weights: what the features are worth is not measured. A frame by the form for inference, as trackers
have it; training is forward and backward of the same frame with fixed batch norms. The networks take turns;
medians over the rounds. Beside them torchvision's own figure of ImageNet: top-1 accuracy in percent.
"""

import argparse
import copy

import torch
from torch import Tensor, nn

from benchmarks.measuring import Phases, add_machine_flags, counted, set_up
from common.backbone import for_inference
from common.config import Parser
from common.errors import UserError, run_command

NETWORKS = {  # with the weights of which torchvision says the accuracy
    "mobilenet_v2": "MobileNet_V2_Weights.IMAGENET1K_V1",
    "mobilenet_v3_large": "MobileNet_V3_Large_Weights.IMAGENET1K_V1",
    "efficientnet_b0": "EfficientNet_B0_Weights.IMAGENET1K_V1",
    "regnet_y_400mf": "RegNet_Y_400MF_Weights.IMAGENET1K_V1",
    "shufflenet_v2_x1_0": "ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1",
}


def features_of(name: str) -> nn.Sequential:
    """A network of random weights up to its last features of stride 32, without what only classifies."""
    from torchvision.models import get_model

    net = get_model(name, weights=None)
    if name.startswith("regnet"):
        return nn.Sequential(net.stem, net.trunk_output)
    if name.startswith("shufflenet"):
        return nn.Sequential(net.conv1, net.maxpool, net.stage2, net.stage3, net.stage4)
    return net.features[:-1]  # the last is a 1x1 convolution for the classifier


def measure(frame: Tensor, rounds: int) -> dict[str, tuple[float, float, float]]:
    """{name: millions of parameters, milliseconds of inference, of training} on a frame (1, 3, H, W)."""
    phases = Phases(frame.device)
    trained = {name: features_of(name).to(frame.device).eval() for name in NETWORKS}
    fast = {name: for_inference(copy.deepcopy(net)) for name, net in trained.items()}
    for warm in (True, *[False] * rounds):
        phases.begin()
        for name in NETWORKS:
            with phases.part(f"{name} inference"), torch.no_grad():
                fast[name](frame)
            with phases.part(f"{name} training"):
                trained[name](frame).mean().backward()
        if warm:
            phases.rounds.clear()
    times = {part: counted(spent) for part, spent in phases.medians().items()}
    return {
        name: (
            sum(p.numel() for p in net.parameters()) / 1e6,
            times[f"{name} inference"],
            times[f"{name} training"],
        )
        for name, net in trained.items()
    }


def main() -> None:
    from torchvision.models import get_weight

    parser = Parser(prog="benchmarks.backbones", description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=[240, 432], help="height and width of the frame")
    parser.add_argument("--rounds", type=int, default=20, help="of which medians are taken")
    add_machine_flags(parser)
    args: argparse.Namespace = parser.parse_args()
    if args.rounds < 1 or min(args.size) < 32:
        raise UserError("--rounds must be at least 1, and --size at least 32")
    device = set_up(args.device, args.threads)
    rows = measure(torch.randn(1, 3, *args.size, device=device), args.rounds)
    print(f"\n{'':20}{'M parameters':>14}{'inference ms':>14}{'training ms':>13}{'top-1, published':>18}")
    for name, (millions, inference, training) in rows.items():
        accuracy = get_weight(NETWORKS[name]).meta["_metrics"]["ImageNet-1K"]["acc@1"]
        print(f"{name:20}{millions:14.2f}{inference:14.1f}{training:13.1f}{accuracy:18.1f}")


if __name__ == "__main__":
    run_command(main)
