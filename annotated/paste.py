"""Copy-paste between clips (Ghiasi et al. 2021): cut-outs of objects of other videos move over a clip.

All draws come from torch's generator.
"""

import math
from collections.abc import Callable, Sequence
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from annotated.videos import AnnotatedVideo
from common.errors import UserError
from video.label_maps import IGNORE, objects_in, span
from video.transforms import draw, glide, resize_frames, resize_labels

MOST_CUT_OUTS = 3  # in one clip
SIZES = (0.2, 0.7)  # the longer side of a cut-out, relative to the short side of the frame
MOST_ENLARGED = 2.0  # beyond, a cut-out is blurred as nothing else in the frame is
GROWTH = 0.15  # how far the size strays in a clip, as a logarithm
SPEED = 0.15  # a cut-out's way between two frames, on average of a clip at most; relative to the short side
MARGIN = 0.05  # how far outside the middle of a cut-out's way may lie, relative to each side of the frame


class CutOut(NamedTuple):
    """An object of another video, in the window that holds it in all frames of a clip.

    frames, masks: (T, 3, h, w) uint8 and (T, h, w) bool; id: in that video
    """

    video: AnnotatedVideo
    id: int
    frames: Tensor
    masks: Tensor


def require_others(probability: float, root: Path, videos: Sequence[AnnotatedVideo]) -> None:
    """Raise UserError where objects are to be pasted, but no two videos are there."""
    if probability and all(video is videos[0] for video in videos):
        trouble = f"--paste_probability {probability} takes objects of other videos, but {root} has one only"
        raise UserError(f"{trouble} to train on: add videos, or give 0")


def cut_objects(video: AnnotatedVideo, names: Sequence[str], most: int, min_area: int) -> list[CutOut]:
    """At most `most` random objects of these frames of a video, each of `min_area` pixels in some frame."""
    label_maps = {name: video.read_labels(name) for name in dict.fromkeys(names)}
    candidates = sorted(
        {
            i
            for label_map in label_maps.values()
            for i in objects_in(label_map)
            if np.count_nonzero(label_map == i) >= min_area
        }
    )
    if not candidates:
        return []
    pictures = {name: video.read_frame(name) for name in label_maps}
    found = []
    for chosen in (candidates[place] for place in torch.randperm(len(candidates))[:most].tolist()):
        masks = np.stack([label_maps[name] == chosen for name in names])
        anywhere = masks.any(0)
        window = span(anywhere.any(1)), span(anywhere.any(0))
        frames = torch.from_numpy(np.stack([pictures[name][window] for name in names])).permute(0, 3, 1, 2)
        found.append(CutOut(video, chosen, frames, torch.from_numpy(masks[:, *window])))
    return found


def draw_cut_outs(
    probability: float,
    videos: Sequence[AnnotatedVideo],
    video: AnnotatedVideo,
    names_of: Callable[[AnnotatedVideo], list[str]],
    *,
    min_area: int,
) -> list[CutOut]:
    """With this probability 1 to 3 objects of other `videos`, in the frames of theirs that `names_of` draws.

    A video gives as many objects as it has, because reading it costs most of the time; fewer are found where
    videos show none of `min_area` pixels. A probability of 0 draws nothing.
    """
    if not probability or draw(0, 1) >= probability:
        return []
    most, found = int(draw(1, MOST_CUT_OUTS + 1)), []
    order = (videos[place] for place in torch.randperm(len(videos)).numpy())
    for other in islice((other for other in order if other is not video), most):
        if len(found) < most:
            found += cut_objects(other, names_of(other), most - len(found), min_area)
    return found


def random_path(frames: Tensor, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Top, left, height and width, in pixels, of (T, 3, h, w) frames of a cut-out that moves smoothly over
    frames of this size, and out of them and in where it begins or ends near an edge.
    """
    T, _, h, w = frames.shape
    short_side = min(size)
    scale = min(draw(*SIZES) * short_side / max(h, w), MOST_ENLARGED)
    way = SPEED * short_side * (T - 1) / 2  # to both sides of the middle
    y, x = (draw(-MARGIN, 1 + MARGIN) * side for side in size)
    middle = torch.tensor([y, x, math.log(scale)])
    strays = torch.tensor([way, way, GROWTH]) * (2 * torch.rand(3, 3) - 1)
    path = []
    for y, x, log_scale in glide(middle + strays, T).tolist():
        height, width = (max(1, round(side * math.exp(log_scale))) for side in (h, w))
        path.append((round(y - height / 2), round(x - width / 2), height, width))
    return path


def paste_frame(
    frame: Tensor,
    labels: Tensor,
    cut: tuple[Tensor, Tensor],
    place: tuple[int, int, int, int],
    label: int,
    is_behind: Tensor,
) -> None:
    """Paste a picture (3, h, w) and its mask (h, w) into a frame (3, H, W) and its label map, in place.

    place: top, left, height and width, which may lie outside; is_behind: (256,) bool, the labels it covers
    The outermost pixels of the mask are mixed with the frame, so that no cut edge is there to be learnt.
    """
    top, left, h, w = place
    H, W = labels.shape
    rows, columns = slice(max(0, top), max(0, top + h)), slice(max(0, left), max(0, left + w))
    part = ..., slice(rows.start - top, max(0, H - top)), slice(columns.start - left, max(0, W - left))
    picture, mask = resize_frames(cut[0], (h, w))[part], resize_labels(cut[1], (h, w))
    opacity = F.avg_pool2d(mask[None].float(), 3, 1, 1)[0][part]
    below, old = frame[:, rows, columns], labels[rows, columns]
    visible = mask[part] & is_behind[old.long()]
    below.copy_(torch.lerp(below.float(), picture.float(), opacity * visible).round_())
    old.masked_fill_(visible, label)


def paste(
    frames: Sequence[Tensor], labels: Sequence[Tensor], cut_outs: Sequence[CutOut]
) -> tuple[Sequence[Tensor], Sequence[Tensor], dict[int, CutOut]]:
    """Cut-outs of T frames over T frames (3, H, W) uint8 and their label maps (H, W) uint8, which come back
    as two tensors; without cut-outs as they are.

    The third result says which label, free so far, each cut-out has got; those for which none is free are
    left out. All objects, the clip's and the cut-outs, lie in a random order of depth, in front of background
    and of pixels that are ignored.
    """
    if not cut_outs:
        return frames, labels, {}
    frames, labels = torch.stack(tuple(frames)), torch.stack(tuple(labels))  # not those of the caller
    areas = torch.bincount(labels.flatten(), minlength=256)
    free = (areas[1:IGNORE] == 0).nonzero().flatten() + 1
    pasted = dict(zip(free.tolist(), cut_outs, strict=False))
    depths = torch.rand(256)
    depths[[0, IGNORE]] = -1.0
    for label, cut in sorted(pasted.items(), key=lambda item: depths[item[0]].item()):
        is_behind, is_flipped = depths < depths[label], draw(0, 1) < 0.5
        pictures, masks = (x.flip(-1) if is_flipped else x for x in (cut.frames, cut.masks))
        for t, place in enumerate(random_path(pictures, labels.shape[-2:])):
            paste_frame(frames[t], labels[t], (pictures[t], masks[t]), place, label, is_behind)
    return frames, labels, pasted


def identities(ids: Sequence[int], pasted: dict[int, CutOut]) -> dict[int, int]:
    """{label: id} of a clip whose labels 1, 2, ... have these ids, and new ones for what was pasted."""
    return dict(enumerate(ids, 1)) | dict(zip(pasted, count(max(ids, default=0) + 1)))
