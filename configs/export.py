"""The flags of tools.export."""

from argparse import Namespace
from pathlib import Path

from common.config import MAX_SIDE, Parser, within
from common.errors import UserError

FORMATS = (".pt2", ".onnx")
EXAMPLES = """examples:
  python -m tools.export --checkpoint runs/1/best.pth --output model.pt2 --size 384 640
  python -m tools.export --checkpoint xmem --output model.onnx --size 480 864 --objects 3
"""


def parse_args() -> Namespace:
    """The flags of this process; UserError where --output has no suffix of a format."""
    parser = Parser(
        prog="python -m tools.export",
        epilog=EXAMPLES,
        description="Exports the network of a checkpoint for other programs: .pt2 of torch.export, or .onnx.",
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="a .pth file, or the name of a published one"
    )
    parser.add_argument("--output", type=Path, required=True, help="file to write, .pt2 or .onnx")
    parser.add_argument(
        "--size",
        type=within(1, MAX_SIDE),
        nargs=2,
        default=(384, 640),
        metavar=("H", "W"),
        help="size of frames in the network, in pixels; SiamMask and SAM have their own",
    )
    parser.add_argument(
        "--objects", type=within(1, 255), default=1, help="number of objects in a call of the network"
    )
    args = parser.parse_args()
    if args.output.suffix not in FORMATS:
        raise UserError(f"--output {args.output}: give a name that ends in {' or '.join(FORMATS)}")
    return args
