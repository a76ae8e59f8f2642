"""The row of SAM for tracking, trained in a way of its own: Adam at a constant 1e-4, and nothing else."""

from systems.sam_track.criterion import SAMTrackCriterion
from systems.sam_track.cutter import cutter_of
from systems.sam_track.dataset import SAMTrackDataset
from systems.sam_track.modules import SAMTrack
from systems.sam_track.published import DOWNLOADS, recognise
from systems.sam_track.start import start
from systems.sam_track.tracker import SAMTracker
from training.system import System

DEFAULTS = {
    "optimizer": "adam",
    "lr_head": 1e-4,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup_steps": 0,
    "clip_grad": 0.0,
    "ema": 0.0,
}
SYSTEM = System(
    SAMTrack,
    SAMTrackCriterion,
    SAMTracker,
    SAMTrackDataset,
    start,
    recognise,
    DOWNLOADS,
    DEFAULTS,
    cutter=cutter_of,
)
