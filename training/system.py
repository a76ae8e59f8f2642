"""The row of a system, its parts and what a run begins with; and the plan of a run."""

import argparse
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import nn

from common.checkpoint import Recognise
from common.files import Download
from common.types import ClipDataset, Criterion, Network, Tracker
from training.config import TrainConfig, read_options
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
    """All that the commands know of a system; each part is made of its options, as of `CONFIGS`.

    start: brings the weights that a run begins with into a new network, by the network's options
    recognise: tells the published checkpoints of the system by their keys; None where there are none
    downloads: the published checkpoints that are fetched by name
    cutter: what cuts objects out by boxes and clicks, made of the system's network, or None where that cannot
    """

    network: type[Network]
    criterion: type[Criterion]
    tracker: type[Tracker]
    dataset: type[ClipDataset]
    start: Callable[[nn.Module, Any], None]
    recognise: Recognise | None = None
    downloads: Mapping[str, Download] = MappingProxyType({})
    cutter: Callable[[nn.Module], Any] = lambda network: None

    def plan(self, args: argparse.Namespace) -> Plan:
        """The plan of a run by its flags; UserError as of `read_options`."""
        options, configs = read_options(args)
        return Plan(args.system, self, options, configs, vars(args) | {"resume": None})
