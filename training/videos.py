"""The videos of a run: its data sets, or synthetic ones that are written first."""

from pathlib import Path

from annotated.layouts import Split, split_videos
from common import distributed
from training.config import TrainConfig
from video import synthetic


def prepare_data(options: TrainConfig, run: Path | None) -> list[Path]:
    """The roots of the data sets; synthetic videos are written into the run folder first."""
    if not options.synthetic:
        return [Path(root) for root in options.dataset_root]
    if distributed.is_main() and not (run / "data").exists():
        counts = {"train_videos": options.synthetic_videos, "valid_videos": 25, "frames": 20, "size": 64}
        synthetic.generate(run / "data", options.synthetic, seed=options.seed, **counts)
    distributed.barrier()
    return [run / "data"]


def load_videos(options: TrainConfig, run: Path | None = None) -> Split:
    """As `split_videos`, by the options of a run and, for synthetic videos, its folder."""
    roots, weights = prepare_data(options, run), options.dataset_weights
    return split_videos(roots, weights=weights, holdout=options.holdout, skip_bad=options.skip_bad)
