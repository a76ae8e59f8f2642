"""SiamMaskDataset: pairs of a template and a search crop of one object, cut from annotated videos."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from annotated.videos import AnnotatedVideo, VideoSet
from common.types import Clip
from configs.siammask import DataConfig
from dataset import VOSDataset
from systems.siammask.augmentation import (
    BoxXYXY,
    Part,
    box_in_wide,
    cut,
    draw_variation,
    greyed,
    mask_box,
    vary,
    wide_crop,
)
from systems.siammask.backbones import centred
from systems.siammask.crops import SEARCH, TEMPLATE
from training.loader import Key
from video.label_maps import void_in
from video.transforms import draw

SMALL_SEARCH = 143  # side of the search crops that train the refinement, pixels
TEMPLATE_SHIFT, TEMPLATE_SCALE = 4.0, 0.05
RETRIES = 10  # draws of a pair in which the object is not seen


@dataclass(kw_only=True)
class Pairs(Clip):
    """Clips of two crops: a template, in the middle 127x127 of the first, and where it is searched for.

    Frames are raw BGR pixels; the slot is the object, empty where the search shows another one.
    boxes: (B, 4) of the object in the search crop, (x1, y1, x2, y2) in pixels
    """

    boxes: Tensor


class Sighting(NamedTuple):
    """An object in a frame of a video."""

    video: AnnotatedVideo
    frame: str
    track: int
    mask: np.ndarray

    @property
    def identity(self) -> tuple[str, int]:
        return self.video.name, self.track


def as_tensor(image: np.ndarray) -> Tensor:
    """(S, S, 3) to float32 (3, S, S)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))


class SiamMaskDataset(VOSDataset):
    """Pairs of crops, each a `Pairs` of B = 1.

    A template is an object in any annotated frame of a video; the search is the same object in a frame near
    it, or with probability `negative` any object of any video, which may be the same by chance. Without
    `training`, a pair is the largest object of the first frames of a video, unchanged.
    """

    Config = DataConfig

    def __init__(
        self, folder: VideoSet, config: Config, *, training: bool, seed: int = 0, skip_bad: bool = False
    ):
        super().__init__(folder, config, training=training, seed=seed, skip_bad=skip_bad)
        self.search = SMALL_SEARCH if config.refine else SEARCH
        published = {"negative": 0.0 if config.refine else 0.2, "shift": 8.0 if config.refine else 64.0}
        self.negative, self.shift = (
            value if getattr(config, name) is None else getattr(config, name)
            for name, value in published.items()
        )

    @staticmethod
    def collate(clips: list[Pairs]) -> Pairs:
        tensors = {
            name: torch.cat([getattr(clip, name) for clip in clips])
            for name in ("frames", "labels", "ids", "classes", "boxes")
        }
        return Pairs(
            names=[names for clip in clips for names in clip.names],
            skipped=[path for clip in clips for path in clip.skipped],
            **tensors,
        )

    def _draw(self, key: Key) -> Pairs:
        video = self.videos[key.index % len(self.videos)]
        if not self.training:
            return self._pair(*self._first_pair(video))
        if draw(0, 1) < self.negative:
            other = self.videos[int(draw(0, len(self.videos)))]
            return self._pair(self._any_object(video), self._any_object(other))
        return self._pair(*self._near_pair(video))

    def _objects(self, video: AnnotatedVideo, frame: str) -> dict[int, np.ndarray]:
        """{id: (H, W) bool} of the objects of a frame that are large enough, the largest first."""
        labels = video.read_labels(frame)
        areas = np.bincount(np.where(void_in(labels), 0, labels).ravel())
        areas[0] = 0
        order = np.argsort(-areas, kind="stable").tolist()
        return {track: labels == track for track in order if areas[track] > self.config.min_area}

    def _any_object(self, video: AnnotatedVideo) -> Sighting | None:
        """An object in any frame of a video; None where none was met."""
        for _ in range(RETRIES):
            frame = video.annotated[int(draw(0, len(video.annotated)))]
            objects = list(self._objects(video, frame).items())
            if objects:
                return Sighting(video, frame, *objects[int(draw(0, len(objects)))])
        return None

    def _near_pair(self, video: AnnotatedVideo) -> tuple[Sighting | None, Sighting | None]:
        """An object in any frame, and in one near it."""
        template = self._any_object(video)
        if template is None:
            return None, None
        place, reach = video.annotated.index(template.frame), self.config.frame_range
        for _ in range(RETRIES):
            low, high = max(0, place - reach), min(len(video.annotated), place + reach + 1)
            frame = video.annotated[int(draw(low, high))]
            mask = self._objects(video, frame).get(template.track)
            if mask is not None:
                return template, Sighting(video, frame, template.track, mask)
        return template, template

    def _first_pair(self, video: AnnotatedVideo) -> tuple[Sighting | None, Sighting | None]:
        """The largest object of the first frame with one, and the last frame in reach that shows it."""
        for place, frame in enumerate(video.annotated):
            for track, mask in self._objects(video, frame).items():
                template = Sighting(video, frame, track, mask)
                for later in video.annotated[place + 1 : place + 1 + self.config.frame_range][::-1]:
                    later_mask = self._objects(video, later).get(track)
                    if later_mask is not None:
                        return template, Sighting(video, later, track, later_mask)
                return template, template
        return None, None

    def _pair(self, template: Sighting | None, search: Sighting | None) -> Pairs:
        """The crops of two objects; where there is none, the middle of a frame that shows nobody."""
        is_known = template is not None and search is not None
        is_same = is_known and template.identity == search.identity
        parts = self._parts([template or self._nobody(), search or self._nobody()])
        images = [centred(as_tensor(parts[0].image), self.search), as_tensor(parts[1].image)]
        masks = [torch.from_numpy(part.mask).to(torch.uint8) for part in parts]
        labels = torch.stack([centred(masks[0], self.search) * is_known, masks[1] * is_same])
        ids = torch.tensor([[template.track if is_same else 0]])
        return Pairs(
            frames=torch.stack(images)[None],
            labels=labels[None],
            ids=ids,
            classes=torch.zeros_like(ids),
            names=[[(one.video.name, one.frame) if one else ("", "") for one in (template, search)]],
            boxes=torch.tensor([parts[1].box], dtype=torch.float32),
        )

    def _nobody(self) -> Sighting:
        """The middle of a frame of any video, as if it were an object."""
        video = self.videos[int(draw(0, len(self.videos)))]
        frame = video.annotated[0]
        mask = np.zeros(video.read_labels(frame).shape, bool)
        H, W = mask.shape
        mask[H // 4 : H // 4 + max(1, H // 2), W // 4 : W // 4 + max(1, W // 2)] = True
        return Sighting(video, frame, 0, mask)

    def _parts(self, pair: list[Sighting]) -> list[Part]:
        """Template and search crop, varied in training."""
        grey = self.training and draw(0, 1) < self.config.gray
        strengths = (
            (TEMPLATE, TEMPLATE_SHIFT, TEMPLATE_SCALE, 0.0),
            (self.search, self.shift, self.config.scale, self.config.blur),
        )
        parts = []
        for one, (size, shift, scale, blur) in zip(pair, strengths, strict=True):
            box: BoxXYXY = mask_box(one.mask)
            image, mask = wide_crop(one.video.read_frame(one.frame), one.mask, box)
            image = greyed(image) if grey else image
            variation = draw_variation(shift, scale) if self.training else draw_variation(0.0, 0.0)
            part = cut(image, mask, box_in_wide(box), size, variation)
            parts.append(vary(part, blur) if self.training else part)
        return parts
