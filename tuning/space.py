"""What a search over the flags of a run may draw: lists and ranges, by a grid, at random or by Optuna.

And the flags of tuning.hpo, which are checked here: nothing in here loads torch.
"""

import math
import random
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from common.config import Parser, within
from common.errors import UserError, available, require
from configs.tuning import SHOWN
from tools.run_report.commands import flag_words
from training.config import check_flags, parse_args

Flags = dict[str, str]  # of a trial: {flag: value as text}
MAX_TRIALS = 10_000
NO_RUNS = ("check_data", "dry_run", "queue", "resume")  # flags of main.py that make no new run here
FORMS = "NAME=A,B,C or NAME=LOW..HIGH or NAME=LOW..HIGH:log"


class Choice(NamedTuple):
    """A flag that takes one of some values."""

    values: Sequence[str]

    @property
    def ends(self) -> Sequence[str]:
        """The values that are legal only if all are."""
        return self.values


class Range(NamedTuple):
    """A flag that takes a number from `low` to `high`; evenly in its logarithm where `is_log`."""

    low: float
    high: float
    is_log: bool
    is_whole: bool

    @property
    def ends(self) -> Sequence[str]:
        """The values that are legal only if all are."""
        return [text_of(limit, self.is_whole) for limit in (self.low, self.high)]

    def draw(self, share: float) -> float:
        """The number at a share in [0, 1] of the range."""
        if self.is_log:
            return self.low * (self.high / self.low) ** share
        return self.low + (self.high - self.low) * share


Space = Mapping[str, Choice | Range]


def text_of(value: float, is_whole: bool) -> str:
    """A number as a flag's value, of four digits."""
    return str(round(value)) if is_whole else f"{value:.4g}"


def _range_of(text: str) -> Range:
    """The range that `LOW..HIGH` or `LOW..HIGH:log` means; ValueError where it is none."""
    limits, _, scale = text.partition(":")
    low, _, high = limits.partition("..")
    numbers = float(low), float(high)
    if scale not in ("", "log") or not all(map(math.isfinite, numbers)) or not numbers[0] < numbers[1]:
        raise ValueError(text)
    if scale and numbers[0] <= 0:
        raise ValueError(text)
    whole = all(limit.lstrip("+-").isdigit() for limit in (low, high))
    return Range(*numbers, is_log=bool(scale), is_whole=whole)


def parse_space(texts: Sequence[str]) -> Space:
    """{flag: its values} of texts in one of FORMS; UserError where one is in none, or names a flag again."""
    space: dict[str, Choice | Range] = {}
    for text in texts:
        name, _, values = text.removeprefix("--").partition("=")
        try:
            space_of_one = _range_of(values) if ".." in values else Choice(values.split(","))
        except ValueError as error:
            raise UserError(f"--vary {text} is no range: give {FORMS}") from error
        if not name or not values or name in space:
            raise UserError(f"--vary {text} has no values, or is there twice: give {FORMS}")
        space[name] = space_of_one
    return space


class Sampler(Protocol):
    """Chooses the flags of the next trial."""

    def ask(self) -> Flags | None:
        """The flags of the next trial; None where there is none left."""

    def tell(self, score: float | None) -> None:
        """The score of the trial that was asked for last; None where it failed."""


class Grid:
    """All combinations of lists; UserError where a flag has a range."""

    def __init__(self, space: Space, seed: int = 0):
        ranges = [name for name, values in space.items() if isinstance(values, Range)]
        if ranges:
            raise UserError(f"--method grid takes lists, and {ranges[0]} has a range: give --method random")
        combinations = product(*(values.values for values in space.values()))
        self._flags: Iterator[Flags] = (dict(zip(space, one, strict=True)) for one in combinations)

    def ask(self) -> Flags | None:
        return next(self._flags, None)

    def tell(self, score: float | None) -> None:
        """A grid does not learn."""


class Random:
    """Every flag by itself, the same for the same seed."""

    def __init__(self, space: Space, seed: int = 0):
        self._space, self._random = space, random.Random(seed)

    def ask(self) -> Flags:
        return {name: self._draw(values) for name, values in self._space.items()}

    def _draw(self, values: Choice | Range) -> str:
        if isinstance(values, Choice):
            return self._random.choice(values.values)
        return text_of(values.draw(self._random.random()), values.is_whole)

    def tell(self, score: float | None) -> None:
        """Chance does not learn."""


class Optuna:
    """The tree-structured Parzen estimator of Optuna, which learns from the scores so far."""

    def __init__(self, space: Space, seed: int = 0):
        """Raises MissingPackage without Optuna."""
        self._optuna: Any = require("optuna", "--method optuna")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        sampler = self._optuna.samplers.TPESampler(seed=seed)
        self._space, self._study = space, self._optuna.create_study(direction="maximize", sampler=sampler)
        self._trial: Any = None

    def ask(self) -> Flags:
        self._trial = self._study.ask()
        return {name: self._suggest(name, values) for name, values in self._space.items()}

    def _suggest(self, name: str, values: Choice | Range) -> str:
        if isinstance(values, Choice):
            return self._trial.suggest_categorical(name, list(values.values))
        if values.is_whole:
            low, high = int(values.low), int(values.high)
            return str(self._trial.suggest_int(name, low, high, log=values.is_log))
        number = self._trial.suggest_float(name, values.low, values.high, log=values.is_log)
        return text_of(number, is_whole=False)

    def tell(self, score: float | None) -> None:
        failed = self._optuna.trial.TrialState.FAIL
        self._study.tell(self._trial, score, state=None if score is not None else failed)


METHODS = {"grid": Grid, "random": Random, "optuna": Optuna}


def words_of(flags: Flags) -> list[str]:
    """Flags as on a command line."""
    return [word for name, value in flags.items() for word in flag_words(name, value)]


def check_runs(fixed: Sequence[str], space: Space) -> None:
    """Raise UserError, or end as main.py does, where a run of the search would refuse its flags."""
    first = {name: values.ends[0] for name, values in space.items()}
    for name, values in space.items():
        for value in values.ends:
            check_flags([*fixed, *words_of(first | {name: value})])
    args, _ = parse_args([*fixed, *words_of(first)])
    for name in NO_RUNS:
        if getattr(args, name):
            raise UserError(f"--{name} makes runs that cannot be compared: leave it out")


def _add_clearml(parser: Parser) -> None:
    group = parser.add_argument_group("ClearML")
    help = "id of a task of main.py, of which agents train copies in place of runs here"
    group.add_argument("--clearml_template", help=help)
    group.add_argument("--queue", help="ClearML queue of these agents")
    help = "copies that are trained at the same time"
    group.add_argument("--concurrent", type=within(1, 1000), default=1, help=help)


def _check_template(args: Namespace) -> None:
    """Raise UserError where the flags of a search by ClearML do not go together."""
    if bool(args.clearml_template) != bool(args.queue) or (args.queue and args.flags):
        remedy = "give both, and no flags after --, which the template has"
        raise UserError(f"--clearml_template names a task and --queue its agents: {remedy}")


def parse_hpo(argv: Sequence[str] | None = None) -> tuple[Namespace, Sampler]:
    """The flags of tuning.hpo, and the sampler that they ask for.

    Raises UserError where they do not go together, and as `check_runs`.
    """
    parser = Parser(
        prog="python -m tuning.hpo",
        epilog="example:\n  python -m tuning.hpo --output O --vary lr_head=1e-5..1e-3:log --trials 9 -- "
        "@presets/demo.txt\n",
        usage="%(prog)s --output O --vary FLAG ... [flags] -- FLAGS",
        description="Trains a run for each of several combinations of flags, and says which scores best.",
    )
    parser.add_argument("--output", type=Path, required=True, help="a new folder for runs and results")
    parser.add_argument("--vary", nargs="+", required=True, metavar="FLAG", help=f"flags of main.py: {FORMS}")
    help = "grid of lists, random, or Optuna (default: grid if all are lists, else Optuna if it is installed)"
    parser.add_argument("--method", choices=list(METHODS), help=help)
    help = "number of runs to train; a grid trains all its combinations by default"
    parser.add_argument("--trials", type=within(1, MAX_TRIALS), help=help)
    parser.add_argument("--by", choices=SHOWN[:-1], default="J&F", help="score to maximize")
    parser.add_argument("--seed", type=within(0, 2**31), default=0, help="seed of random and Optuna")
    _add_clearml(parser)
    parser.add_argument("flags", nargs="*", metavar="-- FLAGS", help="of main.py, the same in every run")
    args = parser.parse_args(argv)
    args.space = space = parse_space(args.vary)
    _check_template(args)
    if args.method is None:
        is_list = all(isinstance(values, Choice) for values in space.values())
        args.method = "grid" if is_list else "optuna" if available("optuna") else "random"
    if args.trials is None and args.method != "grid":
        raise UserError(f"--method {args.method} needs a number of runs: give --trials")
    args.trials = args.trials or MAX_TRIALS
    if args.output.exists():
        raise UserError(f"--output {args.output} is there already: give a new folder")
    sampler = METHODS[args.method](space, args.seed)
    if not args.clearml_template:
        check_runs(args.flags, space)
    return args, sampler
