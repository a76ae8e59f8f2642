"""How much of a batch is padding: a draw of scale and crop for each clip, against one for the whole batch.

python -m benchmarks.batches
python -m benchmarks.batches --batch_size 4 --image_size 384 --epochs 20

Before: every clip by itself, in any order. After: what training does, batches of one orientation. No file is
read; of 1000 videos as many as SIZES says have those sizes. Areas are those of the padded frames, relative
to 384x640. The program ends with exit status 1 where an aim is missed.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from annotated.videos import AnnotatedVideo, VideoSet
from benchmarks.measuring import Aim, judge, set_up
from common.config import Parser, add_config_flags, config_from_args
from common.errors import run_command
from dataset import STRIDE, YouTubeVOSDataset
from modules import VITA_TCOVIS
from training.loader import EpochSampler, Key
from video.transforms import Geometry, fit_short_side, random_window

SIZES = {
    (720, 1280): 900,
    (1280, 720): 60,
    (720, 960): 40,
}  # much like YouTube-VOS: mostly 16:9, some upright
UNIT = 384 * 640
LARGEST_PADDING, LARGEST_MEAN, LARGEST_AREA = 0.07, 1.0, 1.6


def make_clips(config: YouTubeVOSDataset.Config, seed: int) -> YouTubeVOSDataset:
    """The clips of videos that have sizes and no files."""
    sizes = [size for size, count in SIZES.items() for _ in range(count)]
    videos = [AnnotatedVideo("", Path(), Path(), ".jpg", ["0"], ["0"], size) for size in sizes]
    return YouTubeVOSDataset(VideoSet(Path(), videos), config, training=True, seed=seed)


def frame_size(geometry: Geometry, size: tuple[int, int]) -> tuple[int, int]:
    """The (H, W) that `augment` makes of frames of this size."""
    if geometry.crop:
        size = torch.empty(size, device="meta")[random_window(*size, geometry.crop)].shape
    return fit_short_side(*size, geometry.short_side, geometry.longest)


def batch_areas(clips: YouTubeVOSDataset, keys: list[Key]) -> tuple[float, float]:
    """Pixels that a frame of a batch fills in the mean, and those that it has with its padding."""
    sizes = [
        frame_size(clips.geometry(key), clips.videos[key.index % len(clips.videos)].size) for key in keys
    ]
    H, W = (max(sides) + -max(sides) % STRIDE for sides in zip(*sizes, strict=True))
    return float(np.mean([h * w for h, w in sizes])), H * W


def by_itself(key: Key) -> Key:
    """A key whose clip shares its geometry with no other."""
    return key._replace(batch=key.index, is_mixed=False)


def all_areas(
    clips: YouTubeVOSDataset, sampler: EpochSampler, epochs: int, change: Callable[[Key], Key]
) -> Iterator[tuple[float, float]]:
    """`batch_areas` of every batch of some epochs, its keys changed."""
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for keys in sampler:
            yield batch_areas(clips, [change(key) for key in keys])


def main() -> None:
    parser = Parser(prog="benchmarks.batches", description=__doc__.splitlines()[0])
    parser.add_argument("--image_size", type=int, default=384, help="short side of the frames, pixels")
    parser.add_argument("--batch_size", type=int, default=8, help="clips in a batch of one process")
    parser.add_argument("--epochs", type=int, default=8, help="of 1000 clips each")
    parser.add_argument("--seed", type=int, default=0, help="of the order and of all draws")
    add_config_flags(parser, VITA_TCOVIS.Config, "network")
    add_config_flags(parser, YouTubeVOSDataset.Config, "data set")
    args = parser.parse_args()
    set_up("cpu", 1)
    clips = make_clips(config_from_args(YouTubeVOSDataset.Config, args), args.seed)
    orders = {"before": ((), by_itself), "after": (clips.upright, lambda key: key)}
    print(f"\n{'':8}{'padding':>10}{'mean area':>12}{'largest':>10}")
    for name, (upright, change) in orders.items():
        sampler = EpochSampler(len(clips), args.batch_size, seed=args.seed, upright=upright)
        filled, padded = np.array(list(all_areas(clips, sampler, args.epochs, change))).T
        padding, mean, largest = 1 - filled.sum() / padded.sum(), padded.mean() / UNIT, padded.max() / UNIT
        print(f"{name:8}{padding:10.1%}{mean:12.2f}{largest:10.2f}")
    print()
    judge(
        [
            Aim("share of padding", padding, LARGEST_PADDING),
            Aim("mean area of a batch / 384x640", mean, LARGEST_MEAN),
            Aim("largest area of a batch / 384x640", largest, LARGEST_AREA),
        ]
    )


if __name__ == "__main__":
    run_command(main)
