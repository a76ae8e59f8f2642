"""The flags of tuning.replay and tuning.search."""

import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from common.config import AMP_CHOICES, MAX_WORKERS, Parser, add_config_flags, option, within
from common.errors import UserError
from configs.vita_tcovis import GlobalTrackerConfig

FLAGS = {item.name: item for item in fields(GlobalTrackerConfig)}
GRID = {"beta": [0.1, 0.2, 0.4], "match_threshold": [0.3, 0.5, 0.7], "iou_weight": [0.25, 0.5]}  # by default
SHOWN = ("AP", "HOTA", "AssA", "IDF1", "J&F", "id_switches")
FILES = ("trials.csv", "trials.png", "tuned.txt")


@dataclass
class ReplayConfig:
    """The flags of a replay that are not GlobalTracker's."""

    device: str = option("auto", "device that resizes masks; that of the full run gives identical label maps")
    amp: str = option("auto", "mixed precision, as in inference.py", AMP_CHOICES)
    overwrite: bool = option(False, "replace the results in --output")


def _add_detections(parser: Parser) -> None:
    parser.add_argument(
        "detections", type=Path, help="folder or file written by inference.py --save_detections"
    )


def _check_detections(args: Namespace) -> None:
    if not args.detections.exists():
        raise UserError(
            f"{args.detections} holds no detections: make some by inference.py --save_detections true"
        )


def parse_replay(argv: Sequence[str] | None = None) -> Namespace:
    """The flags of tuning.replay; of the tracker's, those that are not given are None.

    Raises UserError where there are no detections, or the results would go among them.
    """
    parser = Parser(
        prog="python -m tuning.replay",
        epilog="example:\n  python -m tuning.replay out/detections --output out2 --beta 0.3 --max_age 60\n",
        usage="%(prog)s DETECTIONS --output O [flags]",
        description="Tracks saved detections anew with other flags of the tracker, without the network.",
    )
    _add_detections(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    add_config_flags(parser, ReplayConfig, "run")
    add_config_flags(parser, GlobalTrackerConfig, "tracker (defaults: as in the saved run)")
    parser.set_defaults(**dict.fromkeys(FLAGS))
    args = parser.parse_args(argv)
    _check_detections(args)
    if args.output.is_file():
        raise UserError(f"--output {args.output} is a file: give a folder")
    if args.detections.resolve().is_relative_to(args.output.resolve()):
        raise UserError(f"--output {args.output} holds the detections: give another folder")
    return args


def parse_search(argv: Sequence[str] | None = None) -> Namespace:
    """The flags of tuning.search; UserError where there are no detections, or --output is there already."""
    parser = Parser(
        prog="python -m tuning.search",
        epilog="example:\n  python -m tuning.search out/detections --annotations dataset/valid "
        "--output tuned --beta 0.1 0.3\n",
        usage="%(prog)s DETECTIONS --annotations A --output O [flags]",
        description="Finds the tracker's flags that score best on annotated videos, from saved detections.",
    )
    _add_detections(parser)
    help = "data set of the same videos, with JPEGImages and Annotations"
    parser.add_argument("--annotations", type=Path, required=True, help=help)
    parser.add_argument("--output", type=Path, required=True, help="new folder for " + ", ".join(FILES))
    parser.add_argument("--by", choices=SHOWN[:-1], default="HOTA", help="score to maximize")
    cores = min(os.cpu_count() or 1, MAX_WORKERS)
    parser.add_argument(
        "--num_workers", type=within(0, MAX_WORKERS), default=cores, help="processes that score"
    )
    usual = "; ".join(f"{name} {' '.join(map(str, values))}" for name, values in GRID.items())
    group = parser.add_argument_group("grid", f"values to combine; by default {usual}")
    for name, item in FLAGS.items():
        choices, about = item.metadata["choices"], item.metadata["help"]
        group.add_argument(f"--{name}", type=item.type, nargs="+", choices=choices, help=about)
    args = parser.parse_args(argv)
    _check_detections(args)
    if args.output.exists():
        raise UserError(f"--output {args.output} is there already: give a new folder")
    return args
