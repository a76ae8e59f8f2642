"""The row of SiamMask."""

from systems.siammask.criterion import SiamMaskCriterion
from systems.siammask.dataset import SiamMaskDataset
from systems.siammask.modules import SiamMask
from systems.siammask.published import DOWNLOADS, recognise
from systems.siammask.start import start
from systems.siammask.tracker import SiamMaskTracker
from training.system import System

SYSTEM = System(SiamMask, SiamMaskCriterion, SiamMaskTracker, SiamMaskDataset, start, recognise, DOWNLOADS)
