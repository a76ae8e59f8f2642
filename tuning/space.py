"""What a search over the flags of a run may draw: lists and ranges, by a grid, at random or by Optuna."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple, Protocol

from common.errors import UserError, require

Flags = dict[str, str]  # of a trial: {flag: value as text}
FORMS = "NAME=A,B,C or NAME=LOW..HIGH or NAME=LOW..HIGH:log"


class Choice(NamedTuple):
    """A flag that takes one of some values."""

    values: Sequence[str]


class Range(NamedTuple):
    """A flag that takes a number from `low` to `high`; evenly in its logarithm where `is_log`."""

    low: float
    high: float
    is_log: bool
    is_whole: bool

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
