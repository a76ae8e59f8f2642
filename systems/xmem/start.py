"""What training of XMem starts from: ImageNet's weights of the two encoders, or a checkpoint of XMem."""

from common.checkpoint import Loadable
from systems.stcn.start import start_from
from systems.xmem.modules import XMem
from systems.xmem.published import DOWNLOADS, recognise


def start(network: XMem, config: XMem.Config) -> None:
    """Bring the weights that a run of XMem begins with; UserError where they cannot be loaded."""
    start_from(network, config, {"xmem": Loadable(XMem, recognise, DOWNLOADS)})
