"""Three small videos of YouTube-VOS, long, one and pair, and clips of them."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from annotated.videos import VOSFolder
from common.types import Clip
from dataset import YouTubeVOSDataset
from video.transforms import upload

CATEGORIES = {"long": {1: "cat", 2: "dog", 7: "bird"}, "pair": {5: "dog"}, "one": {9: "cat"}}


def draw_labels(video: str, t: int) -> np.ndarray:
    """long: 1 in every frame, 2 from frame 4 on, 7 of nine pixels; pair: 5; one: 9."""
    labels = np.zeros({"long": (32, 48), "pair": (40, 32), "one": (32, 32)}[video], np.uint8)
    if video != "long":
        labels[4:20, 4:20] = {"pair": 5, "one": 9}[video]
        return labels
    labels[2:14, 2 + t : 18 + t] = 1
    if t >= 4:
        labels[18:30, 20:40] = 2
    labels[28:31, 1:4] = 7
    return labels


def write_video(root: Path, video: str, frames: int, name: str | None = None) -> None:
    """Lossless frames that say what they show: red is 20 times the label, green 10 times the frame."""
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / (name or video)).mkdir(parents=True)
    for t in range(frames):
        labels = draw_labels(video, t)
        frame = np.stack([20 * labels, np.full_like(labels, 10 * t), np.zeros_like(labels)], -1)
        Image.fromarray(frame).save(root / "JPEGImages" / (name or video) / f"{t:02d}.png")
        Image.fromarray(labels).save(root / "Annotations" / (name or video) / f"{t:02d}.png")


def write_videos(root: Path) -> None:
    """Videos of 8, 1 and 2 frames, in this order by name: long, one, pair; and their categories."""
    for video, frames in (("long", 8), ("pair", 2), ("one", 1)):
        write_video(root, video, frames)
    videos = {v: {"objects": {i: {"category": c} for i, c in o.items()}} for v, o in CATEGORIES.items()}
    (root / "meta.json").write_text(json.dumps({"videos": videos}))


def write_damaged_videos(root: Path) -> None:
    """A good video, pair, and one, bad, whose frame is cut short."""
    write_video(root, "pair", 2)
    write_video(root, "one", 1, name="bad")
    path = root / "JPEGImages" / "bad" / "00.png"
    path.write_bytes(path.read_bytes()[:60])


def make_dataset(root: Path, *, training: bool = True, seed: int = 0, skip_bad: bool = False, **options):
    options = {"num_tokens": 5, "num_classes": 1, "image_size": 32, "clip_length": 3, **options}
    config = YouTubeVOSDataset.Config(**options)
    return YouTubeVOSDataset(VOSFolder(root), config, training=training, seed=seed, skip_bad=skip_bad)


def same(clip: Clip, other: Clip) -> bool:
    clip, other = upload(clip, "cpu"), upload(other, "cpu")
    tensors = ("frames", "labels", "ids", "classes")
    equal = all(torch.equal(getattr(clip, name), getattr(other, name)) for name in tensors)
    return equal and clip.names == other.names
