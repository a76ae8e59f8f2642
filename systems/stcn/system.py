"""The row of STCN."""

from systems.stcn.criterion import STCNCriterion
from systems.stcn.dataset import STCNDataset
from systems.stcn.modules import STCN
from systems.stcn.published import DOWNLOADS, recognise
from systems.stcn.start import start
from systems.stcn.tracker import STCNTracker
from training.system import System

SYSTEM = System(STCN, STCNCriterion, STCNTracker, STCNDataset, start, recognise, DOWNLOADS)
