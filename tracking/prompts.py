"""The prompts of a run of inference.py: label maps or boxes, checked before anything is tracked."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from common.errors import UserError
from common.files import below
from common.types import Prompt
from tracking.boxes import BoxPrompts, boxes_for
from tracking.config import RunConfig
from video.images import check_label_mode, exif_remedy, list_files, read_header, read_label_map
from video.masks import prompt_from_labels
from video.reader import ImageSequence, Video


def no_prompt(video: str) -> UserError:
    return UserError(
        f"video {video} has no prompt: give label maps with --prompt_root as {video}/<frame>.png"
    )


def check_size(
    path: Path, size: tuple[int, int], frame_size: tuple[int, int], image: Path | None = None
) -> None:
    """Raise UserError where a prompt has another size than its frame, whose file, if any, is `image`."""
    if tuple(size) != tuple(frame_size):
        (h, w), (H, W) = size, frame_size
        remedy = (exif_remedy(image, size) if image else "") or ": draw it at the frame's size"
        raise UserError(f"prompt {path} is {w}x{h} but its frame is {W}x{H}{remedy}")


class PromptFolder:
    """Label maps that a person gave, as <video>/<frame>.png, on any frame.

    frames: `first` takes each id from the first map in which it appears, `all` takes every map.
    """

    def __init__(self, root: Path, frames: str = "first"):
        if not root.is_dir():
            raise UserError(
                f"--prompt_root {root}: no such folder; it holds label maps as <video>/<frame>.png"
            )
        self.root, self.frames = root, frames
        self.prompted_ids: set[int] = set()  # ids that the video's prompts named so far
        self.unused: set[str] = set()  # names of its maps that no frame has asked for

    def check(self, video: Video, *, needed: bool) -> None:
        """Look at a video's maps before anything is tracked: at all headers, and for the first object.

        Raises UserError at a map that is no label map or has another size than the first frame; and, where a
        prompt is needed, if no map of a frame shows an object.
        """
        names, paths = video.frame_names, self._maps(video.name)
        if names is not None:
            paths = [path for path in paths if path.stem in set(names)]
        frame_size = video.size if paths else None
        image = video.images[0] if isinstance(video, ImageSequence) else None
        for path in paths:
            mode, size = read_header(path)
            check_label_mode(path, mode)
            check_size(path, size, frame_size, image)
        if needed and not any(read_label_map(path).any() for path in paths):
            raise no_prompt(video.name)

    def of_video(self, video: str) -> Callable[[str, Tensor], Prompt | None]:
        """Begin a video: a function of a frame's name and the frame that tells its prompt."""
        self.prompted_ids = set()
        self.unused = {path.stem for path in self._maps(video)}

        def prompt_of(name: str, frame: Tensor) -> Prompt | None:
            if name not in self.unused:
                return None
            self.unused.remove(name)
            return self._prompt(self._map(video, name), frame)

        return prompt_of

    def starts_of(self, video: Video) -> dict[str, list[int]]:
        """The frames of a video whose maps are the first of some ids, in order, and those ids."""
        self.prompted_ids, starts = set(), {}
        names = None if video.frame_names is None else set(video.frame_names)
        for path in self._maps(video.name):
            new = [i for i in self._read(path).ids if i not in self.prompted_ids]
            if new and (names is None or path.stem in names):
                starts[path.stem] = new
                self.prompted_ids |= set(new)
        return starts

    def prompt_for(self, video: str, name: str, ids: list[int], frame: Tensor) -> Prompt:
        """What the map of one frame says of some ids; after `starts_of` of the same video."""
        prompt = self._read(self._map(video, name), frame)
        prompt.labels[~torch.isin(prompt.labels, torch.tensor(ids))] = 0
        return prompt

    def _map(self, video: str, frame: str) -> Path:
        return below(below(self.root, video), frame, ".png")

    def _maps(self, video: str) -> list[Path]:
        """The label maps of a video, in the order of its frames."""
        return [path for path in list_files(below(self.root, video), {".png"}) if path.suffix == ".png"]

    def _read(self, path: Path, frame: Tensor | None = None) -> Prompt:
        """All that a map says."""
        labels = read_label_map(path)
        if frame is not None:
            check_size(path, labels.shape, frame.shape[-2:])
        return prompt_from_labels(labels)

    def _prompt(self, path: Path, frame: Tensor) -> Prompt | None:
        prompt = self._read(path, frame)
        if self.frames == "first":
            former = [i for i in prompt.ids if i in self.prompted_ids]
            prompt.labels[torch.isin(prompt.labels, torch.tensor(former, dtype=torch.int64))] = 0
        self.prompted_ids |= set(prompt.ids)
        return prompt if prompt.ids else None


Prompts = PromptFolder | BoxPrompts


def prompts_of_run(
    root: Path | None, config: RunConfig, videos: list[Video], *, needed: bool
) -> Prompts | None:
    """What --prompt_root, --box or --boxes say of the videos; None where none of them is given.

    root: --prompt_root
    needed: whether the system follows nothing but what a prompt names
    Raises UserError where flags contradict each other, where a needed prompt is absent, and where there are
    label maps for no video.
    """
    maps = PromptFolder(root, config.prompt_frames) if root else None
    boxes = boxes_for(videos, config.box, config.boxes)
    if maps and boxes:
        raise UserError("--prompt_root and boxes: give one of the two")
    if needed and not (maps or boxes):
        remedy = "give label maps with --prompt_root, or boxes with --box or --boxes"
        raise UserError(f"this system follows what a prompt names: {remedy}")
    if config.reverse and not (needed and maps):
        raise UserError("--reverse follows prompts backwards: give label maps with --prompt_root")
    if maps and not any(below(maps.root, video.name).is_dir() for video in videos):
        raise UserError(f"--prompt_root {maps.root} has no folder of a video, such as {videos[0].name}/")
    return maps or boxes


def check_videos(videos: list[Video], prompts: Prompts | None, *, needed: bool) -> None:
    """Raise UserError where a video cannot be opened, or its prompts are wrong or absent though needed."""
    for video in videos:
        video.check()
        if prompts:
            prompts.check(video, needed=needed)
