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

    device: str = option("auto", "where masks are enlarged: that of the full run gives its very label maps")
    amp: str = option("auto", "mixed precision, as of inference.py", AMP_CHOICES)
    overwrite: bool = option(False, "replace the results that --output holds already")


def _add_detections(parser: Parser) -> None:
    parser.add_argument("detections", type=Path, help="folder or file of inference.py --save_detections true")


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
        description="Tracks saved detections anew with other flags of the tracker, without the network.",
    )
    _add_detections(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    add_config_flags(parser, ReplayConfig, "run")
    add_config_flags(parser, GlobalTrackerConfig, "tracker")
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
        description="Finds the tracker's flags that score best on annotated videos, from saved detections.",
    )
    _add_detections(parser)
    help = "the same videos, JPEGImages and Annotations in one folder"
    parser.add_argument("--annotations", type=Path, required=True, help=help)
    parser.add_argument("--output", type=Path, required=True, help="a new folder for " + ", ".join(FILES))
    parser.add_argument("--by", choices=SHOWN[:-1], default="HOTA", help="the number that is to be largest")
    cores = min(os.cpu_count() or 1, MAX_WORKERS)
    parser.add_argument("--num_workers", type=within(0, MAX_WORKERS), default=cores, help="processes")
    usual = "; ".join(f"{name} {' '.join(map(str, values))}" for name, values in GRID.items())
    group = parser.add_argument_group("grid", f"values to combine; without any flag of these: {usual}")
    for name, item in FLAGS.items():
        choices, about = item.metadata["choices"], item.metadata["help"]
        group.add_argument(f"--{name}", type=item.type, nargs="+", choices=choices, help=about)
    args = parser.parse_args(argv)
    _check_detections(args)
    if args.output.exists():
        raise UserError(f"--output {args.output} is there already: give a new folder")
    return args
