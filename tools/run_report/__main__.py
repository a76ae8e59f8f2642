"""Makes report.html of a run again, or one page that compares several runs.

python -m tools.run_report RUN
python -m tools.run_report RUN1 RUN2 ... [--output comparison.html]
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from common.config import Parser
from common.errors import UserError, run_command
from common.files import lock_of, sole_writer
from common.progress import check_shown, say
from tools.run_report.comparison import write_comparison
from tools.run_report.report import write_report

HEAD = b"<!doctype html>"


def read_flags(argv: Sequence[str]) -> tuple[list[Path], Path]:
    """The folders of runs, and the page to write; UserError where it would replace something else."""
    parser = Parser(prog="python -m tools.run_report", description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders of main.py, such as runs/1")
    parser.add_argument(
        "--output", type=Path, help="the page that compares; comparison.html beside the first"
    )
    args = parser.parse_args(argv)
    if len(args.runs) == 1 and args.output:
        raise UserError("--output is for several runs: the page of one run is report.html in its folder")
    output = args.output or args.runs[0].resolve().parent / "comparison.html"
    if output.is_dir():
        raise UserError(f"--output {output} is a folder: give a file")
    if output.is_file() and len(args.runs) > 1:
        with open(output, "rb") as file:
            if file.read(len(HEAD)) != HEAD:
                raise UserError(f"--output {output} is no page: give another file")
    return args.runs, output


def main() -> None:
    """Write the page and print its path."""
    runs, output = read_flags(sys.argv[1:])
    if len(runs) == 1:
        output = write_report(runs[0])
    else:
        with sole_writer(lock_of(output)):
            write_comparison(runs, output)
    say(str(output))
    check_shown()


if __name__ == "__main__":
    run_command(main)
