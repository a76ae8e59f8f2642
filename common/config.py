"""Dataclass fields <-> argparse flags, so that every option and its default is written in one place.

Each network, criterion, dataset and tracker has a dataclass `Config`; its fields are its flags. A field
without a default belongs to another part of the same system (the dataset's `num_tokens` is the network's) and
takes that part's value.
"""

import argparse
import shlex
import types
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, NoReturn, TypeVar, Union, get_args, get_origin

from common.errors import UserError

ConfigType = TypeVar("ConfigType")


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


class Parser(argparse.ArgumentParser):
    """Flags in full, presets as @files (one flag with its values a line, # comments), one-line errors."""

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("formatter_class", _HelpFormatter)
        super().__init__(allow_abbrev=False, fromfile_prefix_chars="@", **kwargs)

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        return shlex.split(arg_line, comments=True)

    def error(self, message: str) -> NoReturn:
        if message.endswith("expected one argument"):
            message += "; one that begins with - is given as --flag=VALUE"
        self.exit(2, f"error: {' '.join(message.split())} (see {self.prog} --help)\n")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows the default of every flag that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        hidden = action.default in (None, argparse.SUPPRESS) or action.nargs == 0
        return text if hidden or "%(default)" in text else f"{text} (default: %(default)s)".lstrip()


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
        return _Value(get_args(kind)[0], len(get_args(kind)))
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
    """The same config; UserError where a number is out of the range of its option."""
    for item in fields(config):
        value, least, most = getattr(config, item.name), item.metadata.get("least"), item.metadata.get("most")
        if least is not None and value < least:
            raise UserError(f"--{item.name} {value} is too small: at least {least}")
        if most is not None and value > most:
            raise UserError(f"--{item.name} {value} is too large: at most {most}")
    return config


def config_from_args(config: type[ConfigType], args: argparse.Namespace) -> ConfigType:
    """Build the dataclass from the flags of its fields' names; UserError where a number is out of range."""
    values = {item.name: getattr(args, item.name) for item in fields(config)}
    return checked(config(**{name: tuple(x) if isinstance(x, list) else x for name, x in values.items()}))


def config_from_dict(config: type[ConfigType], values: dict[str, Any], source: str) -> ConfigType:
    """Build the dataclass from a checkpoint's plain values; UserError where the fields are not the same.

    Fields in `RETIRED` of the dataclass, if it has any, are passed over: older checkpoints hold them.
    """
    known = {item.name for item in fields(config)}
    values = {name: value for name, value in values.items() if name not in getattr(config, "RETIRED", ())}
    if known != set(values):
        difference = ", ".join(sorted(known ^ set(values)))
        raise UserError(
            f"{source}: its {config.__qualname__} has other fields ({difference}): another version made it"
        )
    return config(**{name: tuple(x) if isinstance(x, list) else x for name, x in values.items()})
