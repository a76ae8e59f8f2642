"""The boxes and clicks of a run of inference.py, checked before anything is tracked."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from torch import Tensor

from common.errors import UserError
from common.progress import say
from common.types import Click, Prompt, Tracker
from tracking.config import RunConfig
from tracking.sparse_prompts.boxes import box_of_flag, check_box, read_boxes
from tracking.sparse_prompts.clicks import check_clicks, clicks_of_flag, read_clicks
from tracking.sparse_prompts.cutting import Cutter
from tracking.sparse_prompts.files import named
from video.reader import Video

CUT = "cut the objects out by --cut sam_vit_b"


def taken_by(tracker: Tracker) -> Collection[str]:
    """Which of "boxes" and "clicks" a tracker takes for what they are; all others fill boxes."""
    return getattr(tracker, "sparse_prompts", ())


class SparsePrompts:
    """As `PromptFolder`: what starts objects are boxes and clicks on the first frame of each video."""

    unused: frozenset[str] = frozenset()  # no frame is named that may not come

    def __init__(self, prompts: dict[str, Prompt], source: str, cutter: Cutter | None = None):
        """source: of the prompts, for messages; cutter: makes label maps of them, None: they stay"""
        self.prompts, self.source, self.cutter = prompts, source, cutter
        self.note = ""  # a line on what becomes of the prompts, printed with the first

    def check(self, video: Video, *, needed: bool) -> None:
        """Look at a video's prompt before anything is tracked; UserError where it is absent or wrong."""
        prompt = self.prompts.get(video.name, Prompt())
        if needed and not prompt.ids:
            names = named(self.prompts) or "none"
            raise UserError(f"video {video.name} has no box or click: {self.source} names {names}")
        for track, box in prompt.boxes.items():
            check_box(track, box, video.size)
        for track, clicks in prompt.clicks.items():
            check_clicks(track, clicks, video.size, has_box=track in prompt.boxes)

    def sources(self, video: Video) -> dict[str, Any]:
        """What a video's prompts are made from: plain values."""
        prompt = self.prompts.get(video.name, Prompt())
        return {
            "boxes": {str(track): list(box) for track, box in prompt.boxes.items()},
            "clicks": {str(track): [list(click) for click in x] for track, x in prompt.clicks.items()},
        }

    def of_video(self, video: Video) -> Callable[[str, Tensor], Prompt | None]:
        """Begin a video: a function of a frame's name and the frame that tells its prompt."""
        prompt = self.prompts.get(video.name, Prompt())
        waiting = [prompt] if prompt.ids else []
        return lambda name, frame: self._cut(video, frame, waiting.pop()) if waiting else None

    def _cut(self, video: Video, frame: Tensor, prompt: Prompt) -> Prompt:
        """What a frame's prompt is for the tracker."""
        if self.note:
            say(self.note, error=True)
            self.note = ""
        prompt = Prompt(prompt.labels, dict(prompt.boxes), dict(prompt.clicks))
        if self.cutter is None:
            return prompt
        prompt = self.cutter.cut(frame, prompt)
        for track in prompt.boxes:
            say(f"{video.name}: no object fits the box of id {track}, which is taken as it is", error=True)
        return prompt


def check_names(prompts: dict[str, Prompt], videos: list[Video], source: str) -> None:
    """Say which names of prompts belong to no video; UserError where no video has any."""
    others = prompts.keys() - {video.name for video in videos}
    if not any(prompts[video.name].ids for video in videos if video.name in prompts):
        there = f", but of {named(others)}" if others else ""
        raise UserError(f"{source} has no prompt of a video, such as {videos[0].name}{there}")
    if others:
        say(f"{source}: no video has the name of {named(others)}, not used", error=True)


def clicks_of_flags(config: RunConfig) -> dict[int, list[Click]]:
    """The clicks of --click and --negative_click, which are on one object."""
    flags = (("--click", config.click, 1), ("--negative_click", config.negative_click, 0))
    clicks = [click for flag, text, label in flags if text for click in clicks_of_flag(flag, text, label)]
    return {1: clicks} if clicks else {}


def read_sparse_prompts(
    videos: list[Video], config: RunConfig, cutter: Cutter | None = None
) -> SparsePrompts | None:
    """What the flags say of boxes and clicks; None where they say nothing.

    Raises UserError where flags contradict each other, and where what they give is wrong.
    """
    for one, many in (("box", "boxes"), ("click", "clicks"), ("negative_click", "clicks")):
        if getattr(config, one) and getattr(config, many):
            raise UserError(f"--{one} and --{many}: give one of the two")
        if getattr(config, one) and len(videos) != 1:
            number = f"--{one} is for one video, and there are {len(videos)}"
            raise UserError(f"{number}: give {many} for each with --{many}")
    if not config.marks:
        return None
    boxes = read_boxes(Path(config.boxes)) if config.boxes else {}
    clicks = read_clicks(Path(config.clicks)) if config.clicks else {}
    if config.box:
        boxes = {videos[0].name: {1: box_of_flag(config.box)}}
    if of_flags := clicks_of_flags(config):
        clicks = {videos[0].name: of_flags}
    names = dict.fromkeys([*boxes, *clicks])
    prompts = {name: Prompt(boxes=boxes.get(name, {}), clicks=clicks.get(name, {})) for name in names}
    values = {name: getattr(config, name) if name in ("boxes", "clicks") else "" for name in config.marks}
    source = " and ".join(f"--{name} {value}".strip() for name, value in values.items())
    check_names(prompts, videos, source)
    return SparsePrompts(prompts, source, cutter)


def sparse_prompts_of(
    videos: list[Video], config: RunConfig, tracker: Tracker, cutter: Cutter | None
) -> SparsePrompts | None:
    """What the flags say of boxes and clicks, to be cut out where there is a cutter; None: nothing.

    Where boxes are filled, the run says so. Raises UserError where boxes, clicks, or the cutter, have no use.
    """
    prompts = read_sparse_prompts(videos, config, cutter)
    if prompts is None:
        if cutter:
            raise UserError("--cut needs what marks objects: give --box, --boxes, --click or --clicks")
        return None
    taken = taken_by(tracker)
    has_boxes = any(prompt.boxes for prompt in prompts.prompts.values())
    has_clicks = any(prompt.clicks for prompt in prompts.prompts.values())
    if has_clicks and not (cutter.takes_clicks if cutter else "clicks" in taken):
        raise UserError(f"{'--discover' if cutter else 'this system'} takes no clicks: {CUT}")
    if has_boxes and not cutter and "boxes" not in taken:
        if not tracker.needs_prompt:
            raise UserError(f"this system takes label maps, no boxes: {CUT}")
        prompts.note = f"boxes are taken as filled rectangles: {CUT}"
    return prompts
