"""The row of SAM for tracking."""

from systems.sam_track.criterion import SAMTrackCriterion
from systems.sam_track.cutter import cutter_of
from systems.sam_track.dataset import SAMTrackDataset
from systems.sam_track.modules import SAMTrack
from systems.sam_track.published import DOWNLOADS, recognise
from systems.sam_track.start import start
from systems.sam_track.tracker import SAMTracker
from training.system import System

SYSTEM = System(
    SAMTrack,
    SAMTrackCriterion,
    SAMTracker,
    SAMTrackDataset,
    start,
    recognise,
    DOWNLOADS,
    cutter=cutter_of,
)
