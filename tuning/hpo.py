"""Trains a run for each of several combinations of flags, and says which scores best.

python -m tuning.hpo --output O --vary lr_head=1e-5..1e-3:log --trials 9 -- @presets/demo.txt --epochs 5
python -m tuning.hpo --output O --vary lr_head=1e-5..1e-3:log --trials 9 --clearml_template ID --queue Q
"""

import shlex
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common.errors import run_check, run_command
from tuning.space import Sampler, parse_hpo, words_of

if __name__ == "__main__":  # help and mistakes come before torch is loaded, which takes seconds
    run_check(parse_hpo)

from common.errors import UserError
from common.files import LOCK, atomic_write, read_json, sole_writer
from common.progress import check_shown, say
from tools.run_report.comparison import write_comparison
from training.report import METRICS
from tuning.search import Numbers, Trial, table, write_csv

ROOT = Path(__file__).resolve().parents[1]
TRIALS, BEST, PAGE = "trials.csv", "best.txt", "comparison.html"
NO_NUMBERS: Numbers = dict.fromkeys([*METRICS, "seconds"])  # of a run that failed


class Finished(NamedTuple):
    """A trial, and the folder of its run, None where it made none here."""

    trial: Trial
    run: Path | None


def train(flags: Sequence[str], run_dir: Path) -> Path | None:
    """Train in a process of its own, and pass on its lines; the run's folder, None where the run failed.

    What ends this process lets the other one keep what it has.
    """
    command = [sys.executable, str(ROOT / "main.py"), *flags, "--run_dir", str(run_dir)]
    folder = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in map(str.rstrip, process.stdout):
                say(f"  {line}")
                if Path(line).parent == run_dir:  # the last line of main.py, which ClearML's may follow
                    folder = Path(line)
        except KeyboardInterrupt:
            process.terminate()
            raise
    return folder if process.returncode == 0 else None


def search(sampler: Sampler, num_trials: int, fixed: Sequence[str], output: Path, by: str) -> list[Finished]:
    """Train what the sampler asks for, one after the other; trials.csv has all that are done."""
    done: list[Finished] = []
    while len(done) < num_trials and (flags := sampler.ask()) is not None:
        say(f"trial {len(done) + 1}: {' '.join(words_of(flags))}")
        run = train([*fixed, *words_of(flags)], output / "runs")
        numbers = NO_NUMBERS | (read_json(run / "metrics.json") if run else {})
        done.append(Finished(Trial(flags, numbers), run))
        sampler.tell(numbers[by])
        write_csv(output / TRIALS, [one.trial for one in done])
        say(f"trial {len(done)}: {by} {numbers[by]:.3f}" if numbers[by] is not None else "it failed")
    return done


def search_by_agents(args: Namespace) -> list[Finished]:
    """As `search`, by ClearML; a line names the task of the best trial."""
    from tuning import clearml_search  # ClearML, which no other search needs

    found = clearml_search.search(args)
    done = [Finished(one.trial, None) for one in found]
    if done:
        write_csv(args.output / TRIALS, [one.trial for one in done])
        best = min(found, key=lambda one: one.trial.rank(args.by))
        say(f"the best is the task {best.task}, whose other arguments are those of {args.clearml_template}")
    return done


def write_best(path: Path, best: Trial, fixed: Sequence[str], by: str) -> None:
    """Write a preset of the best trial: the flags of all runs, and those that were varied."""
    lines = [f"# The best {by} of a search: {best.numbers[by]:.3f}"]
    lines += [shlex.join(fixed), shlex.join(words_of(best.flags)), ""]
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Search; print the best trials, and write all of them, the best as a preset, a page of several runs."""
    args, sampler = parse_hpo()
    with sole_writer(args.output / LOCK):
        if args.clearml_template:
            done = search_by_agents(args)
        else:
            done = search(sampler, args.trials, args.flags, args.output, args.by)
        scored = [one for one in done if one.trial.numbers[args.by] is not None]
        if not scored:
            raise UserError(f"none of {len(done)} runs has a score {args.by}: see their lines above")
        best = min(scored, key=lambda one: one.trial.rank(args.by))
        write_best(args.output / BEST, best.trial, args.flags, args.by)
        if len(scored) > 1 and not args.clearml_template:
            write_comparison([one.run for one in scored], args.output / PAGE)
    for line in table([one.trial for one in scored], args.by):
        say(line)
    say(f"next: python main.py @{args.output / BEST}")
    say(str(args.output))
    check_shown()


if __name__ == "__main__":
    run_command(main)
