"""STCNDataset: three frames of a video, or of a still image, with a target object and a second one."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from annotated.paste import draw_cut_outs, identities, paste, require_others
from annotated.videos import AnnotatedVideo, VideoSet, VOSFolder, check, check_objects
from common.errors import UserError
from common.files import read_text
from common.progress import say
from common.types import Clip
from configs.stcn import DataConfig
from dataset import VOSDataset, collate, keep_objects, label_areas, label_slots, read_frames
from systems.stcn.augmentation import vary_video
from systems.stcn.static import SoftClip, StillClips, collate_soft
from training.loader import Key
from video.label_maps import IGNORE
from video.transforms import draw, fit_short_side, resize_frames, resize_labels

NUM_FRAMES = 3
RETRIES = 5  # draws of a clip in whose first frame no object is seen


def jump_of_epoch(jumps: Sequence[int], starts: Sequence[float], epoch: int, epochs: int) -> int:
    """The largest jump in an epoch: jumps[0] first, jumps[i + 1] from epoch round(starts[i] * epochs) on."""
    return jumps[sum(epoch >= round(start * epochs) for start in starts)]


def frame_spacing(names: Sequence[str]) -> int:
    """The usual step from a frame's number to the next: 5 in YouTube-VOS; 1 where names are no numbers."""
    if len(names) < 2 or not all(name.isdigit() for name in names):
        return 1
    return max(1, round(median(int(b) - int(a) for a, b in pairwise(names))))


def random_places(length: int, max_jump: int) -> list[int]:
    """Three frames of a video with random jumps between them, that do not favour its first frames."""

    def below(number: int) -> int:
        return int(draw(0, number))

    jump = min(length, max_jump)
    start = below(length - jump + 1)
    second = min(start + below(jump + 1) + 1, length - jump, length - 1)
    third = min(second + below(jump + 1) + 1, length - jump // 2, length - 1)
    places = [start, second, third]
    return places[::-1] if draw(0, 1) < 0.5 else places


def choose_targets(first: Tensor, instance: str, min_area: int, most: int = 2) -> list[int]:
    """At most so many labels of the first frame's (H, W) label map: the target's, and the second one's.

    instance: `random`, or `largest` for those that cover most pixels
    """
    (areas,) = label_areas(first[None]).tolist()
    candidates = [label for label in range(1, IGNORE) if areas[label] >= min_area]
    order = torch.randperm(len(candidates)).tolist()  # always, so that what is drawn later is the same
    if instance == "largest":
        return sorted(candidates, key=lambda label: -areas[label])[:most]
    return [candidates[i] for i in order[:most]]


def davis_videos(root: Path, *, skip_bad: bool) -> list[AnnotatedVideo]:
    """The checked training videos of DAVIS; those that ImageSets/2017/train.txt names, where there is one.

    With `skip_bad` every bad file that is left out is reported. Raises UserError where there is no folder,
    or no video is left, or none shows an object.
    """
    if not root.is_dir():
        raise UserError(f"--davis_root {root}: no such folder; it holds JPEGImages/ and Annotations/")
    folder = VOSFolder(root, skip_bad=skip_bad)
    listed = root / "ImageSets" / "2017" / "train.txt"
    if listed.exists():
        names = read_text(listed).split()
        absent = sorted(set(names) - {video.name for video in folder.videos})
        if absent:
            say(f"{listed} names {len(absent)} videos that are not there, such as {absent[0]}", error=True)
        folder.videos = [video for video in folder.videos if video.name in names]
        if not folder.videos:
            raise UserError(f"--davis_root {root} holds no video that {listed} names: check the folder")
    for trouble in check(folder, skip_bad=skip_bad):
        say(f"skipped bad file: {trouble}")
    check_objects(root, folder.videos)
    return folder.videos


class STCNDataset(VOSDataset):
    """Clips of three frames, each a `Clip` of B = 1 with at most two slots, both seen in the first frame.

    Slot 1 is the target, slot 2 the second object, the label map both together (`gt`, `sec_gt` and `cls_gt`
    of the published program); all other objects are background, because a network is asked for those of the
    prompt only.
    Without `training`, a clip is three frames of each video, `max_jump[0]` apart where it is long enough.
    Raises UserError where no video has three annotated frames.
    """

    soft_stills = True  # whether the first masks of clips of still images are soft
    crop_mode = "bicubic"  # by which a part of a frame is resized

    Config = DataConfig

    def __init__(
        self, folder: VideoSet, config: Config, *, training: bool, seed: int = 0, skip_bad: bool = False
    ):
        super().__init__(folder, config, training=training, seed=seed, skip_bad=skip_bad)
        self.stills: StillClips | None = None
        if training and config.static_root != "none":
            if config.paste_probability:
                raise UserError(
                    f"--paste_probability {config.paste_probability} is for videos: 0 with --static_root"
                )
            self.stills = StillClips(Path(config.static_root), config.crop_size, self.num_frames)
        elif training:
            self.videos = self._training_videos(folder)
            require_others(config.paste_probability, folder.root, self.videos)

    @property
    def num_frames(self) -> int:
        """Of a clip."""
        return NUM_FRAMES

    @property
    def num_targets(self) -> int:
        """The most objects of a clip."""
        return 2

    def _training_videos(self, folder: VideoSet) -> list[AnnotatedVideo]:
        """Each as often as it counts in an epoch, without those that are too short."""
        config = self.config
        videos = folder.videos * config.clips_per_video
        if config.davis_root != "none":
            davis = davis_videos(Path(config.davis_root), skip_bad=self.skip_bad)
            videos += davis * config.davis_repeats * config.clips_per_video
        videos = [video for video in videos if len(video.annotated) >= self.num_frames]
        if not videos:
            raise UserError(
                f"{folder.root} has no video with {self.num_frames} annotated frames: give longer ones"
            )
        return videos

    @staticmethod
    def collate(clips: list[Clip]) -> Clip:
        return collate_soft(clips) if isinstance(clips[0], SoftClip) else collate(clips)

    def __len__(self) -> int:
        return len(self.stills or self.videos)

    def _draw(self, key: Key) -> Clip:
        if not self.stills:
            return self._draw_of_video(self.videos[key.index], key.epoch)
        clip = self.stills.draw(key.index)
        return clip if self.soft_stills else clip.hard

    def _draw_of_video(self, video: AnnotatedVideo, epoch: int) -> Clip:
        """A clip of a video; one in whose first frame no object is seen after some retries has no slots."""
        config = self.config
        for _ in range(RETRIES if self.training else 1):
            names = self._names(video, epoch)
            frames, labels, colours, ids = self._read(video, names, epoch)
            chosen = choose_targets(
                labels[0],
                config.instance if self.training else "largest",
                config.min_area,
                self.num_targets,
            )
            if chosen:
                break
        ids = torch.tensor([[ids[label] for label in chosen]], dtype=torch.int64)
        return Clip(
            frames=frames[None],
            labels=keep_objects(labels, chosen, others=0)[None],
            ids=ids,
            classes=torch.zeros_like(ids),
            names=[[(video.name, name) for name in names]],
            sizes=[tuple(frames.shape[-2:])],
            colours=None if colours is None else colours.unsqueeze(0),
        )

    def _names(self, video: AnnotatedVideo, epoch: int) -> list[str]:
        return [video.annotated[place] for place in self._places(video, epoch)]

    def _places(self, video: AnnotatedVideo, epoch: int) -> list[int]:
        config, length = self.config, len(video.annotated)
        spacing = frame_spacing(video.annotated)
        if self.training:
            jump = jump_of_epoch(config.max_jump, config.jump_at, epoch, config.epochs)
            return self._random_places(length, max(1, jump // spacing))
        steps = max(1, self.num_frames - 1)
        step = max(1, min(config.max_jump[0] // spacing, (length - 1) // steps))
        return [min(place * step, length - 1) for place in range(self.num_frames)]

    def _random_places(self, length: int, max_jump: int) -> list[int]:
        return random_places(length, max_jump)

    def _read(
        self, video: AnnotatedVideo, names: list[str], epoch: int
    ) -> tuple[Tensor, Tensor, Tensor | None, dict[int, int]]:
        """(T, 3, H, W) uint8 frames and (T, H, W) labels, augmented in training, the frames' colours there,
        and the id of each label.
        """
        config = self.config
        frames = list(read_frames(video, names))
        labels, ids = label_slots([video.read_labels(name) for name in names])
        if self.training:
            names_of = partial(self._names, epoch=epoch)
            cut_outs = draw_cut_outs(
                config.paste_probability, self.videos, video, names_of, min_area=config.min_area
            )
            frames, labels, pasted = paste(frames, labels, cut_outs)
            turn = {"min_crop": config.min_crop, "degrees": config.degrees, "shear": config.shear}
            varied = vary_video(frames, labels, config.crop_size, mode=self.crop_mode, **turn)
            return *varied, identities(ids, pasted)
        size = fit_short_side(*labels[0].shape, config.crop_size, 2 * config.crop_size)
        frames, labels = torch.stack(frames), torch.stack(labels)
        return resize_frames(frames, size), resize_labels(labels, size), None, identities(ids, {})
