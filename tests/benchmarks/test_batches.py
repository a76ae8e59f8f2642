"""The benchmark of padding takes the sizes that augmentation makes."""

import torch

from benchmarks.batches import batch_areas, by_itself, frame_size, make_clips
from configs.augmentation import Augmentation
from dataset import YouTubeVOSDataset
from training.loader import Key
from video.transforms import augment, draw_geometry

CONFIG = YouTubeVOSDataset.Config(num_tokens=5, num_classes=1, image_size=96)


def test_sizes_of_frames_are_those_that_augmentation_makes():
    torch.manual_seed(0)
    labels = torch.zeros(1, 90, 160, dtype=torch.uint8)
    for _ in range(20):
        geometry = draw_geometry(CONFIG, 96, 192)
        _, made, _ = augment(Augmentation(), geometry, labels[:, None].expand(-1, 3, -1, -1), labels)
        assert frame_size(geometry, (90, 160)) == tuple(made.shape[-2:])


def test_a_batch_is_as_large_as_its_largest_clip_and_alike_where_the_draw_is_one():
    clips = make_clips(CONFIG, seed=0)
    keys = [Key(0, index, batch=3) for index in range(4)]  # of one size
    filled, padded = batch_areas(clips, keys)
    assert filled == batch_areas(clips, keys[:1])[0] <= padded
    alone = [batch_areas(clips, [by_itself(key)]) for key in keys]
    apart = batch_areas(clips, [by_itself(key) for key in keys])
    assert len(set(alone)) == 4 and apart[1] >= max(padded for _, padded in alone)
