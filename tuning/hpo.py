"""Trains a run for each of several combinations of flags, and says which scores best.

python -m tuning.hpo --output O --vary lr_head=1e-5..1e-3:log --trials 9 -- @presets/demo.txt --epochs 5
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common.config import Parser, within
from common.errors import UserError, available, run_command
from common.files import LOCK, atomic_write, read_json, sole_writer
from common.progress import check_shown, say
from tools.run_report.commands import flag_words
from tools.run_report.comparison import write_comparison
from training.report import METRICS
from tuning.search import SHOWN, Numbers, Trial, table, write_csv
from tuning.space import FORMS, METHODS, Choice, Flags, Sampler, parse_space

ROOT = Path(__file__).resolve().parents[1]
TRIALS, BEST, PAGE = "trials.csv", "best.txt", "comparison.html"
MAX_TRIALS = 10_000
NO_NUMBERS: Numbers = dict.fromkeys([*METRICS, "seconds"])  # of a run that failed


class Finished(NamedTuple):
    """A trial, and the folder of its run, None where it made none."""

    trial: Trial
    run: Path | None


def _words(flags: Flags) -> list[str]:
    """Flags as on a command line."""
    return [word for name, value in flags.items() for word in flag_words(name, value)]


def train(flags: Sequence[str], run_dir: Path) -> Path | None:
    """Train in a process of its own, and pass on its lines; the run's folder, None where the run failed.

    What ends this process lets the other one keep what it has.
    """
    command = [sys.executable, str(ROOT / "main.py"), *flags, "--run_dir", str(run_dir)]
    line = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in map(str.rstrip, process.stdout):
                say(f"  {line}")
        except KeyboardInterrupt:
            process.terminate()
            raise
    return Path(line) if process.returncode == 0 and line else None


def search(sampler: Sampler, num_trials: int, fixed: Sequence[str], output: Path, by: str) -> list[Finished]:
    """Train what the sampler asks for, one after the other; trials.csv has all that are done."""
    done: list[Finished] = []
    while len(done) < num_trials and (flags := sampler.ask()) is not None:
        say(f"trial {len(done) + 1}: {' '.join(_words(flags))}")
        run = train([*fixed, *_words(flags)], output / "runs")
        numbers = NO_NUMBERS | (read_json(run / "metrics.json") if run else {})
        done.append(Finished(Trial(flags, numbers), run))
        sampler.tell(numbers[by])
        write_csv(output / TRIALS, [one.trial for one in done])
        say(f"trial {len(done)}: {by} {numbers[by]:.3f}" if numbers[by] is not None else "it failed")
    return done


def write_best(path: Path, best: Trial, fixed: Sequence[str], by: str) -> None:
    """Write a preset of the best trial: the flags of all runs, and those that were varied."""
    lines = [f"# The best {by} of a search: {best.numbers[by]:.3f}"]
    lines += [shlex.join(fixed), shlex.join(_words(best.flags)), ""]
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")


def read_flags(argv: Sequence[str]) -> tuple[argparse.Namespace, Sampler]:
    """The flags, and the sampler that they ask for; UserError where they do not go together."""
    parser = Parser(prog="tuning.hpo", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="a new folder for runs and results")
    parser.add_argument("--vary", nargs="+", required=True, metavar="FLAG", help=f"flags of main.py: {FORMS}")
    help = "grid of lists, random, or Optuna; by default a grid of lists, else Optuna where it is installed"
    parser.add_argument("--method", choices=list(METHODS), help=help)
    help = "runs to train; a grid has all of its own unless given"
    parser.add_argument("--trials", type=within(1, MAX_TRIALS), help=help)
    parser.add_argument("--by", choices=SHOWN[:-1], default="J&F", help="the number that is to be largest")
    parser.add_argument("--seed", type=within(0, 2**31), default=0, help="of random and Optuna")
    parser.add_argument("flags", nargs="*", metavar="-- FLAGS", help="of main.py, the same in every run")
    args = parser.parse_args(argv)
    space = parse_space(args.vary)
    if args.method is None:
        is_list = all(isinstance(values, Choice) for values in space.values())
        args.method = "grid" if is_list else "optuna" if available("optuna") else "random"
    if args.trials is None and args.method != "grid":
        raise UserError(f"--method {args.method} has no end of its own: give --trials")
    args.trials = args.trials or MAX_TRIALS
    if args.output.exists():
        raise UserError(f"--output {args.output} is there already: give a new folder")
    return args, METHODS[args.method](space, args.seed)


def main() -> None:
    """Search; print the best trials, and write all of them, the best as a preset, and a page of all runs."""
    args, sampler = read_flags(sys.argv[1:])
    with sole_writer(args.output / LOCK):
        done = search(sampler, args.trials, args.flags, args.output, args.by)
        scored = [one for one in done if one.trial.numbers[args.by] is not None]
        if not scored:
            raise UserError(f"no run of {len(done)} has a number {args.by}: see their lines above")
        best = min(scored, key=lambda one: one.trial.rank(args.by))
        write_best(args.output / BEST, best.trial, args.flags, args.by)
        write_comparison([one.run for one in scored], args.output / PAGE)
    for line in table([one.trial for one in scored], args.by):
        say(line)
    say(f"next: python main.py @{args.output / BEST}")
    say(str(args.output))
    check_shown()


if __name__ == "__main__":
    run_command(main)
