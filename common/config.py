"""Dataclass fields <-> argparse flags, so that every option and its default is written in one place.

Each network, criterion, dataset and tracker has a dataclass `Config`; its fields are its flags. A field
without a default belongs to another part of the same system (the dataset's `num_tokens` is the network's) and
takes that part's value.
"""

import argparse
import math
import shlex
import sys
import types
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar, Union, get_args, get_origin

from common.errors import UserError
from common.files import read_text

ConfigType = TypeVar("ConfigType")
MAX_SIDE = 8192  # pixels of a picture's side
MAX_PIXELS = 1 << 26  # of a picture, 8192 x 8192: twice those of 8K video, and memory for a few copies
MAX_FRAMES = 1_000_000  # of a video, by what a file says: 9 hours at 30 frames per second
MAX_WIDTH = 1 << 16  # channels
MAX_WORKERS = 256  # processes of a command
MAX_PRESETS = 100  # that a command line may name, directly or in presets
MAX_PRESET_BYTES = 1 << 16
AMP_CHOICES = ("auto", "off", "bf16", "fp16")  # what --amp may say
MAX_ARGS = 2000  # of a command, with those of its presets; argparse takes their number squared


def option(
    default: Any,
    help: str,
    choices: Sequence[Any] | None = None,
    *,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """A dataclass field that is also a flag, with its help and its legal values."""
    return field(default=default, metadata={"help": help, "choices": choices, "least": least, "most": most})


def boolean(text: str) -> bool:
    """The value of a switch, in words that also survive a round trip through a ClearML server."""
    values = {
        "true": True,
        "on": True,
        "yes": True,
        "1": True,
        "false": False,
        "off": False,
        "no": False,
        "0": False,
    }
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return values[text.lower()]


def finite_number(text: str) -> float:
    """The value of a flag with a fraction; nan and inf are out of any range."""
    if not math.isfinite(float(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return float(text)


def whole_number(text: str) -> int:
    """The value of a flag without a fraction, of at most 64 bits."""
    if abs(int(text)) >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text[:20]!r}... is too long a number")
    return int(text)


def within(least: int, most: int) -> Callable[[str], int]:
    """The type of a flag without a fraction that has a range and belongs to no `Config`."""

    def number(text: str) -> int:
        value = whole_number(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is out of range: from {least} to {most}")
        return value

    return number


def preset_args(path: Path) -> list[str]:
    """The arguments in a preset: flags with their values, and # comments. UserError where it is none."""
    args = []
    if path.is_file() and path.stat().st_size > MAX_PRESET_BYTES:
        raise UserError(f"preset {path} has more than {MAX_PRESET_BYTES} bytes: is it one?")
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            args += shlex.split(line, comments=True)
        except ValueError as error:
            raise UserError(f"preset {path}, line {number}: {error}: mend the line") from error
    return args


def expand_presets(argv: Sequence[str]) -> list[str]:
    """The arguments, with those of a preset in place of each @file, also within a preset.

    Raises UserError where a preset cannot be read, or there are too many, as where one names itself, or too
    many arguments.
    """
    args, waiting, num_presets = [], deque(argv), 0
    while waiting:
        arg = waiting.popleft()
        if not arg.startswith("@"):
            args.append(arg)
            if len(args) > MAX_ARGS:
                raise UserError(f"{arg} is one of more than {MAX_ARGS} arguments: give fewer")
            continue
        num_presets += 1
        if num_presets > MAX_PRESETS:
            raise UserError(f"{arg} is one of more than {MAX_PRESETS} presets: does it name itself?")
        waiting.extendleft(reversed(preset_args(Path(arg[1:]))))
    return args


def given(text: str) -> str:
    """The value of a flag; refused where it is empty, as of an unset variable, for "" as a path is here."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no value: give one, or leave the flag out")
    return text


class Parser(argparse.ArgumentParser):
    """Flags in full, presets as @files (one flag with its values a line, # comments), one-line errors."""

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("formatter_class", _HelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)
        self._optionals.title = "general"
        self.register("type", float, finite_number)
        self.register("type", int, whole_number)
        self.register("type", str, given)
        self.register("type", Path, lambda text: Path(given(text)))

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        try:
            args = expand_presets(sys.argv[1:] if args is None else args)
        except (UserError, OSError) as error:
            self.error(str(error))
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if message.endswith("expected one argument"):
            message += "; one that begins with - is given as --flag=VALUE"
        self.exit(2, f"error: {' '.join(message.split())} (see {self.prog} --help)\n")


# What the help calls the values of a flag, by the names of their types; of other types by the flag's.
METAVARS = {"int": "N", "number": "N", "float": "X", "boolean": "true|false", "Path": "PATH"}


def _shown(value: Any) -> str:
    """A default as it may be given on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("%", "%%")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows the default of every flag that has one, fractions with four digits."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return METAVARS.get(getattr(action.type, "__name__", ""), action.dest.upper())

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        hidden = action.default in (None, (), argparse.SUPPRESS) or action.nargs == 0
        if hidden or "(default: " in text:
            return text
        values = action.default if isinstance(action.default, tuple | list) else [action.default]
        return f"{text} (default: {' '.join(map(_shown, values))})".lstrip()


@dataclass(frozen=True)
class _Value:
    """How one field reads its text."""

    type: Any
    nargs: str | int | None = None
    const: Any = None


def _value_of(item: Field) -> _Value:
    """The argparse type and number of values of a field; `bool` alone on the command line means true."""
    kind = item.type
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    if kind is bool:
        return _Value(boolean, "?", True)
    if get_origin(kind) is tuple:
        first, *others = get_args(kind)
        return _Value(first, "+" if others == [...] else 1 + len(others))
    assert kind in (int, float, str), f"no flag can be made of {item.name}: {item.type}"
    return _Value(kind)


def has_default(item: Field) -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING


def add_config_flags(parser: argparse.ArgumentParser, config: type, title: str) -> None:
    """Add one flag for each field of the dataclass that has a default, in a group of the help text."""
    group = parser.add_argument_group(title)
    for item in fields(config):
        if not has_default(item):
            continue
        value = _value_of(item)
        group.add_argument(
            f"--{item.name}",
            type=value.type,
            nargs=value.nargs,
            const=value.const,
            default=item.default,
            choices=item.metadata.get("choices"),
            help=item.metadata.get("help", "").replace("%", "%%"),
        )


def checked(config: ConfigType) -> ConfigType:
    """The same config; UserError where a number is not finite, or out of the range of its option."""
    for item in fields(config):
        value, least, most = getattr(config, item.name), item.metadata.get("least"), item.metadata.get("most")
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise UserError(f"--{item.name} {value} is not a finite number")
        if least is not None and any(number < least for number in numbers):
            raise UserError(f"--{item.name} {value} is too small: at least {least}")
        if most is not None and any(number > most for number in numbers):
            raise UserError(f"--{item.name} {value} is too large: at most {most}")
    return config


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the type of a field; a whole number is also a float, but no bool is a number."""
    if get_origin(kind) in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if isinstance(value, tuple) and parts[-1] is ...:
            parts = parts[:1] * len(value)
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
    return type(value) in ((int, float) if kind is float else (kind,))


def config_from_args(config: type[ConfigType], args: argparse.Namespace) -> ConfigType:
    """Build the dataclass from the flags of its fields' names; UserError where a number is out of range."""
    values = {item.name: getattr(args, item.name) for item in fields(config)}
    return checked(config(**{name: tuple(x) if isinstance(x, list) else x for name, x in values.items()}))


def config_from_dict(config: type[ConfigType], values: Any, source: str) -> ConfigType:
    """Build the dataclass from a checkpoint's plain values, {field: value}.

    Raises UserError, which begins with the source, where the fields are not the same, or a value is of
    another type than its field, no legal choice, or out of range. Older checkpoints hold fields in `RETIRED`
    of the dataclass, which are passed over, and lack those in `ADDED`, {field: the value they stand for}.
    """
    retired, added = getattr(config, "RETIRED", ()), getattr(config, "ADDED", {})
    values = added | values if isinstance(values, dict) else {}
    values = {
        name: tuple(x) if isinstance(x, list) else x for name, x in values.items() if name not in retired
    }
    items = {item.name: item for item in fields(config)}
    if items.keys() != values.keys():
        difference = ", ".join(sorted(map(str, items.keys() ^ values.keys())))
        raise UserError(
            f"{source}: its {config.__qualname__} has other fields ({difference}): another version made it"
        )
    for name, value in values.items():
        choices = items[name].metadata.get("choices")
        if not _fits(value, items[name].type) or (choices and value not in choices):
            raise UserError(f"{source}: its {config.__qualname__} has {name} {value!r:.40}: pass another")
    try:
        return checked(config(**values))
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
