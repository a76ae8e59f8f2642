"""The prompts of a run of inference.py: label maps or boxes, checked before anything is tracked."""

import argparse

from common.box_prompts import BoxPrompts, boxes_for
from common.errors import UserError
from common.tracking import PromptFolder
from common.video import Video

Prompts = PromptFolder | BoxPrompts


def prompts_of_run(args: argparse.Namespace, videos: list[Video], *, needed: bool) -> Prompts | None:
    """What --prompt_root, --box or --boxes say of the videos; None where none of them is given.

    args: `prompt_root`, `prompt_frames`, `box`, `boxes`, `reverse`
    needed: whether the system follows nothing but what a prompt names
    Raises UserError where flags contradict each other, where a needed prompt is absent, and where there are
    label maps for no video.
    """
    maps = PromptFolder(args.prompt_root, args.prompt_frames) if args.prompt_root else None
    boxes = boxes_for(videos, args.box, args.boxes)
    if maps and boxes:
        raise UserError("--prompt_root and boxes: give one of the two")
    if needed and not (maps or boxes):
        told = "give label maps with --prompt_root, or boxes with --box or --boxes"
        raise UserError(f"this system follows what a prompt names: {told}")
    if args.reverse and not (needed and maps):
        raise UserError("--reverse follows prompts backwards: give label maps with --prompt_root")
    if maps and not any((maps.root / video.name).is_dir() for video in videos):
        raise UserError(f"--prompt_root {maps.root} has no folder of a video, such as {videos[0].name}/")
    return maps or boxes


def check_videos(videos: list[Video], prompts: Prompts | None, *, needed: bool) -> None:
    """Raise UserError where a video cannot be opened, or its prompts are wrong or absent though needed."""
    for video in videos:
        video.check()
        if prompts:
            prompts.check(video, needed=needed)
