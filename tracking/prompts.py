"""The prompts of a run of inference.py: label maps, boxes or clicks, checked before anything is tracked."""

from collections.abc import Callable, Container, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from annotated.mots import mots_files
from common.errors import UserError
from common.files import below, is_visible
from common.progress import say
from common.types import Prompt, Tracker
from tracking.config import RunConfig
from tracking.sparse_prompts.cutting import Cutter
from tracking.sparse_prompts.files import named
from tracking.sparse_prompts.prompts import SparsePrompts, sparse_prompts_of
from video.images import (
    DEEP_MODES,
    MAX_LABEL,
    MOTS_MASKS,
    check_label_mode,
    exif_remedy,
    holds_255_only,
    list_files,
    list_folders,
    mots_ids,
    read_header,
    read_label_map,
    shows_one_object,
)
from video.label_maps import IGNORE, has_smoothed_edges, objects_in
from video.masks import prompt_from_labels
from video.painted import COLOUR_MODES, ColourIds, is_painted, join_edges, smoothed_line
from video.reader import ImageSequence, Video

MOST_PROMPTED = 60_000  # the highest id that a prompt may give where a tracker numbers other objects after it


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


def check_room(path: Path, labels: np.ndarray) -> None:
    """Raise UserError where a map has ids after which too few are left for objects that a tracker finds."""
    highest = int(labels.max(initial=0))
    if highest > MOST_PROMPTED:
        reason = f"objects that are found get higher ids, and a label map ends at {MAX_LABEL}"
        raise UserError(f"{path} has the id {highest}, but {reason}: use ids up to {MOST_PROMPTED}")


def unused_line(video: Video, folder: Path, used: Container[str]) -> list[str]:
    """A line on the files in a video's folder of prompts that no frame will ask for; none without any."""
    entries = folder.iterdir() if folder.is_dir() else ()
    unused = [path.name for path in entries if path.name not in used and is_visible(path.name)]
    example = (video.frame_names or ["00000"])[0]
    line = f"{folder} has files that are not used ({named(unused)}): a prompt is named as its frame"
    return [f"{line}, such as {example}.png"] if unused else []


def check_folders(root: Path, videos: list[Video]) -> None:
    """Say which folders of prompts belong to no video; UserError where none belongs to one."""
    others = set(list_folders(root)) - {video.name for video in videos}
    if not any(below(root, video.name).is_dir() for video in videos):
        there = f", but {named(others)}" if others else ""
        raise UserError(f"--prompt_root {root} has no folder of a video, such as {videos[0].name}/{there}")
    if others:
        say(f"--prompt_root {root}: no video has the name of {named(others)}, not used", error=True)


class PromptFolder:
    """Label maps that a person gave, as <video>/<frame>.png, on any frame.

    In a folder "instances", as MOTS has it, 10000 in a map of 16 bits is to be ignored. Maps that are painted
    in colours have the ids of `ColourIds`; values on smoothed edges join a neighbour.
    frames: `first` takes each id from the first map in which it appears, `all` takes every map.
    """

    def __init__(self, root: Path, frames: str = "first"):
        if not root.is_dir():
            remedy = "it holds label maps as <video>/<frame>.png"
            if root.name == MOTS_MASKS and mots_files(root.parent):
                remedy = f"make it by python -m tools.convert {root.parent} --output {root}"
            raise UserError(f"--prompt_root {root}: no such folder; {remedy}")
        self.root, self.frames = root, frames
        self.is_mots = root.resolve().name == MOTS_MASKS
        self.prompted_ids: set[int] = set()  # ids that the video's prompts named so far
        self.unused: set[str] = set()  # names of its maps that no frame has asked for
        self.colours: tuple[str, ColourIds] | None = None  # of the video that was asked about last
        self.smoothed: set[Path] = set()  # maps whose smoothed edges were reported

    def check(self, video: Video, *, needed: bool) -> None:
        """Look at a video's maps before anything is tracked: at all headers, and for the first object.

        Files that are no prompt of a frame, and smoothed edges, are reported on stderr. Raises UserError at a
        map that is no label map or has another size than the first frame. If no map of a frame shows an
        object, it is refused where a prompt is needed, else reported; where none is needed, an id that leaves
        no room for those of objects that are found is refused.
        """
        folder = below(self.root, video.name)
        paths = list(self._maps(video))
        lines = unused_line(video, folder, {path.name for path in paths})
        frame_size = video.size if paths else None
        image = video.images[0] if isinstance(video, ImageSequence) else None
        for path in paths:
            mode, size = read_header(path)
            if mode not in COLOUR_MODES:
                check_label_mode(path, mode)
            check_size(path, size, frame_size, image)
            if not needed and mode in DEEP_MODES:
                check_room(path, self._labels(video, path))
        if not any(objects_in(self._labels(video, path)) for path in paths):
            if needed:
                raise UserError("; ".join([str(no_prompt(video.name)), *lines]))
            if paths:
                lines.append(f"{folder} has label maps without any object: {video.name} is tracked without")
        lines += self._colour_ids(video).lines(folder)
        for line in lines:
            say(line, error=True)

    def sources(self, video: Video) -> list[Path]:
        """What a video's prompts are made from."""
        return list(self._maps(video))

    def labels(self, video: Video, frame: str) -> np.ndarray:
        """The (H, W) map of a frame that has one."""
        return self._labels(video, self._map(video, frame))

    def of_video(self, video: Video) -> Callable[[str, Tensor], Prompt | None]:
        """Begin a video: a function of a frame's name and the frame that tells its prompt."""
        self.prompted_ids = set()
        self.unused = {path.stem for path in self._maps(video)}

        def prompt_of(name: str, frame: Tensor) -> Prompt | None:
            if name not in self.unused:
                return None
            self.unused.remove(name)
            return self._prompt(video, self._map(video, name), frame)

        return prompt_of

    def starts_of(self, video: Video) -> dict[str, list[int]]:
        """The frames of a video whose maps are the first of some ids, in order, and those ids."""
        self.prompted_ids, starts = set(), {}
        for path in self._maps(video):
            new = [i for i in self._read(video, path).ids if i not in self.prompted_ids]
            if new:
                starts[path.stem] = new
                self.prompted_ids |= set(new)
        return starts

    def prompt_for(self, video: Video, name: str, ids: list[int], frame: Tensor) -> Prompt:
        """What the map of one frame says of some ids; after `starts_of` of the same video."""
        prompt = self._read(video, self._map(video, name), frame)
        prompt.labels[~torch.isin(prompt.labels, torch.tensor(ids))] = 0
        return prompt

    def _map(self, video: Video, frame: str) -> Path:
        return below(below(self.root, video.name), frame, ".png")

    def _maps(self, video: Video) -> Iterator[Path]:
        """The label maps of a video's frames, in their order."""
        for path in list_files(below(self.root, video.name), {".png"}):
            if path.suffix == ".png" and video.has_frame(path.stem):
                yield path

    def _colour_ids(self, video: Video) -> ColourIds:
        """Those of the video's painted maps; UserError where they are none, or lie beside maps of numbers."""
        if self.colours is None or self.colours[0] != video.name:
            paths = list(self._maps(video))
            painted = [path for path in paths if is_painted(path)]
            if len(painted) not in (0, len(paths)):
                number = next(path for path in paths if path not in painted)
                raise UserError(f"{painted[0]} has colours, {number} has numbers: save all in one way")
            self.colours = video.name, ColourIds(painted)
        return self.colours[1]

    def _labels(self, video: Video, path: Path) -> np.ndarray:
        """The (H, W) label map in a file, in which void is as `void_in` says.

        Values on smoothed edges join a neighbour, which is reported once.
        """
        if is_painted(path):
            return self._colour_ids(video).read(path)
        labels = read_label_map(path, lambda: shows_one_object(self._maps(video)))
        if has_smoothed_edges(labels):
            labels, joined = join_edges(path, labels)
            labels = labels // IGNORE if holds_255_only(labels) else labels  # one object, painted in white
            if path not in self.smoothed:
                say(smoothed_line(path, joined), error=True)
                self.smoothed.add(path)
        return mots_ids(labels) if self.is_mots else labels

    def _read(self, video: Video, path: Path, frame: Tensor | None = None) -> Prompt:
        """All that a map says."""
        labels = self._labels(video, path)
        if frame is not None:
            check_size(path, labels.shape, frame.shape[-2:])
        return prompt_from_labels(labels)

    def _prompt(self, video: Video, path: Path, frame: Tensor) -> Prompt | None:
        prompt = self._read(video, path, frame)
        if self.frames == "first":
            former = [i for i in prompt.ids if i in self.prompted_ids]
            prompt.labels[torch.isin(prompt.labels, torch.tensor(former, dtype=torch.int64))] = 0
        self.prompted_ids |= set(prompt.ids)
        return prompt if prompt.ids else None


Prompts = PromptFolder | SparsePrompts


def prompts_of_run(
    root: Path | None,
    config: RunConfig,
    videos: list[Video],
    tracker: Tracker,
    cutter: Cutter | None = None,
) -> Prompts | None:
    """What --prompt_root, or the flags of boxes and clicks, say of the videos; None where none is given.

    root: --prompt_root; cutter: makes label maps of boxes and clicks first
    Raises UserError where flags contradict each other, where a needed prompt is absent, and where there are
    label maps for no video.
    """
    maps = PromptFolder(root, config.prompt_frames) if root else None
    marks, needed = sparse_prompts_of(videos, config, tracker, cutter), tracker.needs_prompt
    if maps and marks:
        raise UserError("--prompt_root and boxes or clicks: give one of the two")
    if needed and not (maps or marks):
        remedy = "give label maps with --prompt_root, boxes with --box or --boxes, or clicks"
        raise UserError(f"this system follows what a prompt names: {remedy}")
    if config.reverse and not (needed and maps):
        raise UserError("--reverse follows prompts backwards: give label maps with --prompt_root")
    if maps:
        check_folders(maps.root, videos)
    return maps or marks


def check_video(video: Video, prompts: Prompts | None, *, needed: bool) -> None:
    """Raise UserError where a video cannot be opened, or its prompts are wrong or absent though needed."""
    video.check()
    if prompts:
        prompts.check(video, needed=needed)
