"""What a system is to the command that trains it: four parts, whose options are flags, and defaults."""

import argparse
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, NamedTuple

from common.config import Parser, add_config_flags, config_from_args
from training.config import TrainConfig
from training.experiment import add_experiment_flags


class System(NamedTuple):
    """The parts of one system; each has a dataclass `Config`, whose fields are the system's flags.

    training: the defaults of the training loop's flags where the system has its own
    """

    network: type
    criterion: type
    tracker: type
    make_dataset: type
    training: Mapping[str, Any] = MappingProxyType({})

    @property
    def parts(self) -> dict[str, type]:
        """The parts by their roles, as a checkpoint's config names them."""
        roles = ("network", "criterion", "tracker", "data")
        return dict(zip(roles, self[: len(roles)], strict=True))

    def add_flags(self, parser: Parser, name: str) -> None:
        """Add the flags of the training loop, of the experiment, and of the system's parts."""
        assert self.training.keys() <= {item.name for item in fields(TrainConfig)}
        add_config_flags(parser, TrainConfig, "training")
        add_experiment_flags(parser)
        for part in self.parts.values():
            add_config_flags(parser, part.Config, f"{name}: {part.__name__}")
        parser.set_defaults(**self.training)

    def configs(self, args: argparse.Namespace) -> dict[str, Any]:
        """The options of each part by its role; UserError where a number is out of range."""
        return {role: config_from_args(part.Config, args) for role, part in self.parts.items()}
