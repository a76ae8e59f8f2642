"""The flags of tools.export."""

from argparse import Namespace
from pathlib import Path

from common.config import MAX_SIDE, Parser, within
from common.errors import UserError

FORMATS = (".pt2", ".onnx")


def parse_args() -> Namespace:
    """The flags of this process; UserError where --output has no suffix of a format."""
    parser = Parser(
        prog="python -m tools.export",
        description="Exports the network of a checkpoint for other programs: .pt2 of torch.export, or .onnx.",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="a .pth file, or a published name")
    parser.add_argument("--output", type=Path, required=True, help="a file .pt2, or .onnx")
    parser.add_argument(
        "--size",
        type=within(1, MAX_SIDE),
        nargs=2,
        default=(384, 640),
        metavar=("H", "W"),
        help="of a frame in the network, resized and padded; crops and SAM's squares have their own",
    )
    parser.add_argument("--objects", type=within(1, 255), default=1, help="that a part takes at once")
    args = parser.parse_args()
    if args.output.suffix not in FORMATS:
        raise UserError(f"--output {args.output}: give a name that ends in {' or '.join(FORMATS)}")
    return args
