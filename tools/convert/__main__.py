"""The command that converts label maps to the YouTube-VIS form, and back, and other forms to label maps.

python -m tools.convert masks --output truth.json
python -m tools.convert results.json --videos truth.json --output masks
python -m tools.convert MOTS20/train --output MOTS20/train/instances
python -m tools.convert cvat_export --output prompts
"""

from argparse import Namespace
from pathlib import Path

from common.config import Parser
from common.errors import UserError, require, run_command
from common.files import lock_of, sole_writer
from common.progress import say
from tools.convert.json_to_masks import json_to_masks
from tools.convert.masks_to_json import masks_to_json
from tools.convert.mots_to_masks import mots_to_masks
from tools.convert.painted_to_masks import export_labels, painted_to_masks

EXAMPLES = "examples:\n" + "".join(f"  {line}\n" for line in __doc__.splitlines()[2:])


def make_parser() -> Parser:
    parser = Parser(
        prog="python -m tools.convert",
        usage="%(prog)s SOURCE --output O [flags]",
        epilog=EXAMPLES,
        description="Converts a folder of label maps, <video>/<frame>.png, to a JSON file of YouTube-VIS,\n"
        "or such a file, a folder of MOTS text files, or the coloured masks that CVAT or labelme\n"
        "export with their label map, to a folder of label maps.",
    )
    parser.add_argument(
        "source",
        type=Path,
        help="folder of label maps, of MOTS text files or of exported masks, or a .json file",
    )
    parser.add_argument("--output", type=Path, required=True, help=".json file or folder to write")
    parser.add_argument(
        "--videos",
        type=Path,
        help="annotation file in the YouTube-VIS form with the names and ids of videos and frames (default: "
        "ids by the order of names; a results.json has the tracks.json of inference.py beside it)",
    )
    to_json = parser.add_argument_group("label maps to JSON")
    to_json.add_argument(
        "--form", choices=("truth", "results"), help="write annotations or results (default: truth)"
    )
    to_masks = parser.add_argument_group(
        "JSON to label maps",
        "Where masks overlap, the result of the higher score is on top, or the smaller true object.",
    )
    to_masks.add_argument("--min_score", type=float, help="minimum score of results to convert")
    return parser


def convert(args: Namespace) -> str:
    """Do what the flags say; returns a summary."""
    require("pycocotools.mask", "converting masks")
    if not args.source.is_dir():
        if args.form is not None:
            raise UserError(f"--form is for a folder of label maps, but {args.source} is none")
        return json_to_masks(args.source, args.output, args.videos, args.min_score or 0.0)
    if args.min_score is not None:
        raise UserError(f"--min_score is for a file of results, but {args.source} is a folder")
    if args.output.suffix != ".json" or args.output.is_dir():
        if args.form or args.videos:
            raise UserError(f"--form and --videos need an --output that is a .json file, not {args.output}")
        if export_labels(args.source):
            return painted_to_masks(args.source, args.output)
        return mots_to_masks(args.source, args.output)
    return masks_to_json(args.source, args.output, args.form or "truth", args.videos)


def main() -> None:
    """Convert label maps to JSON, or JSON to label maps."""
    args = make_parser().parse_args()
    with sole_writer(lock_of(args.output)):
        say(convert(args))


if __name__ == "__main__":
    run_command(main)
