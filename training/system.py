"""The row of a system: its parts, whose options are flags, what a run begins with, and its own defaults."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import nn

from common.checkpoint import Recognise
from common.config import Parser, add_config_flags, config_from_args
from common.errors import UserError
from common.files import Download
from common.types import ClipDataset, Criterion, Network, Tracker
from training.config import TrainConfig
from training.listeners.opening import add_listener_flags
from training.recompute import checkpoint_activations


class Plan(NamedTuple):
    """What the flags of a run say: of which system, the loop's options and each part's, and all as given.

    flags: without --resume, so that a resumed run notes what an unbroken one does
    """

    name: str
    system: "System"
    options: TrainConfig
    configs: dict[str, Any]
    flags: dict[str, Any]

    @property
    def use_classes(self) -> bool:
        """Whether the network tells the categories of meta.json apart."""
        return self.flags.get("num_classes", 1) > 1

    def make_network(self) -> nn.Module:
        """The network; with `--checkpoint_activations` it keeps few of them, or UserError if it cannot."""
        network = self.system.network(self.configs["network"])
        if self.options.checkpoint_activations:
            checkpoint_activations(network)
        return network


class System(NamedTuple):
    """All that the commands know of a system; each part has a dataclass `Config`, whose fields are flags.

    start: brings the weights that a run begins with into a new network, by the network's options
    recognise: tells the published checkpoints of the system by their keys; None where there are none
    downloads: the published checkpoints that are fetched by name
    defaults: of the training loop's flags, where the system has its own
    cutter: what cuts objects out by boxes and clicks, made of the system's network, or None where that cannot
    """

    network: type[Network]
    criterion: type[Criterion]
    tracker: type[Tracker]
    dataset: type[ClipDataset]
    start: Callable[[nn.Module, Any], None]
    recognise: Recognise | None = None
    downloads: Mapping[str, Download] = MappingProxyType({})
    defaults: Mapping[str, Any] = MappingProxyType({})
    cutter: Callable[[nn.Module], Any] = lambda network: None

    @property
    def parts(self) -> dict[str, type]:
        """The parts by their roles, as a checkpoint's config names them."""
        return {
            "network": self.network,
            "criterion": self.criterion,
            "tracker": self.tracker,
            "data": self.dataset,
        }

    def add_flags(self, parser: Parser, name: str) -> None:
        """Add the flags of the training loop, of the experiment, and of the system's parts."""
        assert self.defaults.keys() <= {item.name for item in fields(TrainConfig)}
        add_config_flags(parser, TrainConfig, "training")
        add_listener_flags(parser)
        for part in self.parts.values():
            add_config_flags(parser, part.Config, f"{name}: {part.__name__}")
        parser.set_defaults(**self.defaults)

    def plan(self, args: argparse.Namespace) -> Plan:
        """The plan of a run by its flags; UserError where a number is out of range, or flags disagree."""
        options = config_from_args(TrainConfig, args)
        if options.patience and not options.eval_every:
            raise UserError("--patience counts evaluations, of which --eval_every 0 has one: give another")
        return Plan(args.system, self, options, self.configs(args), vars(args) | {"resume": None})

    def configs(self, args: argparse.Namespace) -> dict[str, Any]:
        """The options of each part by its role; UserError where a number is out of range."""
        return {role: config_from_args(part.Config, args) for role, part in self.parts.items()}
