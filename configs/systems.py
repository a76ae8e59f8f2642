"""The flags of each system's parts."""

import argparse
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from common.config import config_from_args
from configs import sam_track, siammask, stcn, vita_tcovis, xmem

TITLES = {"network": "network", "criterion": "losses", "data": "clips", "tracker": "tracker"}


class SystemConfigs(NamedTuple):
    """The dataclasses of the options of a system's network, criterion, tracker and data set.

    training: defaults of the training loop's flags, where the system has its own
    """

    network: type
    criterion: type
    tracker: type
    data: type
    training: Mapping[str, Any] = MappingProxyType({})

    @property
    def parts(self) -> dict[str, type]:
        """The dataclasses by the roles of their parts, as a checkpoint's config names them."""
        return {
            "network": self.network,
            "criterion": self.criterion,
            "tracker": self.tracker,
            "data": self.data,
        }

    def titled(self, system: str) -> dict[str, type]:
        """The dataclasses by the titles of their groups in the help of main.py."""
        return {f"{TITLES[role]} of {system}": config for role, config in self.parts.items()}

    def read(self, args: argparse.Namespace) -> dict[str, Any]:
        """The options of each part by its role; UserError where a number is out of range."""
        return {role: config_from_args(config, args) for role, config in self.parts.items()}


def _configs_of(module: Any, **training: Any) -> SystemConfigs:
    parts = module.NetworkConfig, module.CriterionConfig, module.TrackerConfig, module.DataConfig
    return SystemConfigs(*parts, training)


DEFAULT = "vita_tcovis"  # the system of a command that names none
CONFIGS = {
    "vita_tcovis": _configs_of(vita_tcovis),
    "stcn": _configs_of(stcn),
    "xmem": _configs_of(xmem),
    "siammask": _configs_of(siammask),
    "sam_track": _configs_of(sam_track, **sam_track.TRAINING),
}
