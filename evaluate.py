"""Scores a folder of results, or a JSON file of them, by a named protocol.

python evaluate.py --results R --annotations A --protocol P [--json FILE] [--csv FILE] [--explain FILE]
"""

import argparse
import csv
import inspect
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from common.config import MAX_WORKERS, Parser, add_config_flags, boolean, within
from common.errors import UserError, run_command
from common.files import atomic_write, lock_of, sole_writer, write_json
from common.progress import check_shown, say
from configs.listeners import ClearMLConfig
from scoring.protocols.table import PROTOCOLS
from scoring.report import Report, numbers_of
from tools.compare import align, compare, comparison_lines, plain
from tools.evidence.label_maps import ScoredResults, rules_of
from tools.evidence.report import write_report
from tools.shown import show_scores
from tools.submission import write_submission
from training.listeners.agent import arguments
from training.listeners.listener import Listener
from training.listeners.opening import open_listeners

DEFAULT = "tcovis"
EXAMPLES = """examples:
  python evaluate.py --results out --annotations dataset/valid
  python evaluate.py --results out --annotations DAVIS --protocol davis --csv scores.csv
  python evaluate.py --results out/results.json --annotations instances.json --protocol ytvis
  python evaluate.py --results out --annotations dataset/valid --explain page.html
  python evaluate.py --protocol mots --help                the flags of another protocol
"""
REPORT_HEADS = (b'{\n  "protocol": ', b"video,object,", b"<!doctype html>")  # of what a report's file holds


def descriptions_in(docstring: str, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """A docstring without its lines on these parameters, and {parameter: what they say}."""
    pattern = re.compile(rf"^({'|'.join(names)}): (.+(?:\n(?!\w+: ).+)*)\n*", re.MULTILINE)
    return pattern.sub("", docstring).strip(), {
        match[1]: " ".join(match[2].split()) for match in pattern.finditer(docstring)
    }


def add_protocol_flags(parser: Parser, protocol: str) -> None:
    """The keyword options of a protocol as flags, described as in its docstring."""
    score = PROTOCOLS[protocol].score
    options = inspect.signature(score).parameters.values()
    options = {item.name: item.default for item in options if item.kind is item.KEYWORD_ONLY}
    text, helps = descriptions_in(inspect.getdoc(score), list(options))
    group = parser.add_argument_group(f"protocol {protocol}", text)
    for name, default in options.items():
        if name != "num_workers":
            kind = boolean if isinstance(default, bool) else type(default or "")
            group.add_argument(f"--{name}", type=kind, default=default, help=helps[name].replace("%", "%%"))


def add_output_flags(parser: Parser) -> None:
    """What is done with the scores beside printing them."""
    add = parser.add_argument_group("output").add_argument
    add("--json", type=Path, help="write the scores to this JSON file")
    add("--csv", type=Path, help="write a row for each object and video, and for all, to this CSV file")
    add("--explain", type=Path, help="write an HTML page of ID switches and of the worst objects")
    add("--video_root", type=Path, help="frames for --explain (default: JPEGImages beside the annotations)")
    add("--against", type=Path, help="other results to compare with --results")
    add(
        "--submission",
        type=Path,
        help="pack the results for the benchmark's server into this folder or .zip; they are scored only "
        "with --json, --csv, --explain or --against",
    )


def make_parser(protocol: str) -> Parser:
    parser = Parser(
        prog="evaluate.py",
        usage="python evaluate.py --results R --annotations A [--protocol P] [flags]",
        description="Scores results by the definitions of a benchmark.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    add("--results", type=Path, required=True, help="output of inference.py, or folder of label maps")
    add("--annotations", type=Path, required=True, help="data set, or folder of annotated label maps")
    add(
        "--protocol",
        default=protocol,
        choices=list(PROTOCOLS),
        help=f"benchmark whose definitions hold (default: {DEFAULT})",
    )
    cores = min(os.cpu_count() or 1, MAX_WORKERS)
    add("--num_workers", type=within(0, MAX_WORKERS), default=cores, help="processes that score")
    add_output_flags(parser)
    add_protocol_flags(parser, protocol)
    add_config_flags(parser, ClearMLConfig, "ClearML")
    parser.set_defaults(task_name="evaluate")
    return parser


def print_table(report: Report) -> None:
    """A row for every video and one for all; numbers only."""
    rows = {**report["videos"], "overall": report["overall"]}
    names = numbers_of([report["overall"], *report["videos"].values()])
    cells = [[plain(row.get(name)) for name in names] for row in rows.values()]
    for line in align([["", *names], *([row, *line] for row, line in zip(rows, cells, strict=True))]):
        say(line)


def write_csv(path: Path, report: Report) -> None:
    """A row for every object, every video and all; a cell is empty where a number is undefined or absent."""
    rows = []
    for video, entry in report["videos"].items():
        rows.append(({"video": video}, entry))
        objects = entry.get("objects")
        for name, one in objects.items() if isinstance(objects, dict) else ():
            rows.append(({"video": video, "object": name}, one))
    rows.append(({"video": "overall"}, report["overall"]))
    names = numbers_of(numbers for _, numbers in rows)
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["video", "object", *names], extrasaction="ignore")
        writer.writeheader()
        for place, numbers in rows:
            writer.writerow({**numbers, **place})


def is_report(path: Path) -> bool:
    """Whether a file begins as those that --json, --csv and --explain write."""
    with open(path, "rb") as file:
        return file.read(len(max(REPORT_HEADS, key=len))).startswith(REPORT_HEADS)


def check_paths(args: argparse.Namespace) -> None:
    """Raise UserError, before hours of scoring, where what is asked for cannot be read or written.

    Nothing is written over results or annotations: below them only an earlier report is replaced.
    """
    if args.explain and not PROTOCOLS[args.protocol].label_maps:
        raise UserError(
            "--explain needs label maps: make them by python -m tools.convert, and choose another --protocol"
        )
    outputs = [path.resolve() for path in (args.json, args.csv, args.explain) if path]
    inputs = [path.resolve() for path in (args.results, args.annotations, args.against) if path]
    for path in outputs:
        is_odd = path.exists() and not path.is_file()
        if is_odd or any(parent.is_file() for parent in path.parents) or outputs.count(path) > 1:
            raise UserError(
                f"{path} cannot be written: give each of --json, --csv, --explain a file of its own"
            )
        if path.exists() and any(map(path.is_relative_to, inputs)) and not is_report(path):
            raise UserError(f"{path} is one of the files to score, not a report: give another file")
    for path in (args.against, args.video_root):
        if path and not path.exists():
            raise UserError(f"there is no {path}: give results with --against, frames with --video_root")


@contextmanager
def sole_writer_of_all(args: argparse.Namespace) -> Iterator[None]:
    """Inside, no other process writes what is asked for; UserError where one does."""
    locks = {lock_of(path) for path in (args.json, args.csv, args.explain, args.submission) if path}
    with ExitStack() as held:
        for lock in sorted(locks):
            held.enter_context(sole_writer(lock))
        yield


def score(args: argparse.Namespace, options: dict[str, Any], listener: Listener) -> None:
    """Score the results, print and show them and write what was asked for, in spite of a lost line."""
    protocol = PROTOCOLS[args.protocol]
    report = protocol.score(args.results, args.annotations, **options)
    print_table(report)
    show_scores(listener, report, args.results)
    for name in ("rule", "definition"):
        if name in report:
            say(f"{name}: {report[name]}")
    against = protocol.score(args.against, args.annotations, **options) if args.against else None
    for line in dict.fromkeys([*report["warnings"], *(against["warnings"] if against else [])]):
        say(f"warning: {line}", error=True)
    if against:
        say("\n".join(["", *comparison_lines(compare(report, against))]))
    if args.csv:
        write_csv(args.csv, report)
    if args.json:
        write_json(args.json, report | ({"against": against} if against else {}))
    if args.explain:
        scored = ScoredResults(report, args.results, args.annotations, rules_of(protocol, options))
        write_report(
            args.explain,
            scored,
            against=scored._replace(report=against, results=args.against) if against else None,
            video_root=args.video_root,
            num_workers=args.num_workers,
        )
    check_shown()


def main() -> None:
    """Score a folder of results, or pack it for a server."""
    first = Parser(add_help=False)
    first.add_argument("--protocol", default=DEFAULT, choices=list(PROTOCOLS))
    argv = arguments()
    protocol = first.parse_known_args(argv)[0].protocol
    parser = make_parser(protocol)
    args = parser.parse_args(argv)
    names = inspect.signature(PROTOCOLS[protocol].score).parameters.keys() - {"results", "annotations"}
    options = {name: value for name, value in vars(args).items() if name in names}
    check_paths(args)
    with sole_writer_of_all(args):
        if args.submission:
            image_set = {"image_set": args.image_set} if "image_set" in options else {}
            say(write_submission(args.submission, args.results, args.annotations, protocol, **image_set))
        if not args.submission or args.json or args.csv or args.explain or args.against:
            with open_listeners(args, parser, tags=[protocol]) as listeners:
                score(args, options, listeners)


if __name__ == "__main__":
    run_command(main)
