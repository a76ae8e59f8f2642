"""The row of XMem."""

from systems.xmem.criterion import XMemCriterion
from systems.xmem.dataset import XMemDataset
from systems.xmem.modules import XMem
from systems.xmem.published import DOWNLOADS, recognise
from systems.xmem.start import start
from systems.xmem.tracker import XMemTracker
from training.system import System

SYSTEM = System(XMem, XMemCriterion, XMemTracker, XMemDataset, start, recognise, DOWNLOADS)
