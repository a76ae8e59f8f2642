"""The official numbers of XMem: networks with weights made from names; used by tests of XMem."""

from functools import cache
from typing import Any

from systems.xmem.modules import XMem
from tests.support.stcn_golden import NUMBERS, golden


@cache
def official_network(hidden_dim: int = 64) -> XMem:
    """Full size, in evaluation mode, with the weights of the golden set; nobody may change it."""
    network = XMem(XMem.Config(hidden_dim=hidden_dim)).eval()
    return golden("fill_by_name").fill_module(network, gains=golden("golden_config").gains_xmem(hidden_dim))


def assert_official(arrays: dict[str, Any]) -> list[str]:
    """Assert that module-level arrays are the official ones, within the tolerance of the golden set.

    Returns the names of the official arrays that are not among them.
    """
    return golden("check_golden").check_modules(str(NUMBERS), "xmem", arrays)[1]
