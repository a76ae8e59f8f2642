"""Tracks many videos into one output, of which a bad one ends no other; a broken run goes on.

Several processes share the videos: the first one begins the output and ends it, with the results of all.
"""

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from common import distributed
from common.backbone import digest
from common.config import MAX_FRAMES, config_from_args
from common.errors import UserError, available, is_out_of_memory
from common.files import FULL, LOCK, sole_writer, write_json
from common.progress import say
from common.types import Tracker
from configs.listeners import ClearMLConfig
from tracking.config import RunConfig
from tracking.detections import check_saved
from tracking.process import process_video, source_of
from tracking.prompts import Prompts, check_video, prompts_of_run
from tracking.sparse_prompts.cutting import Cutter
from tracking.spool import ResultsSpool
from tracking.work import Work
from video.reader import Video
from video.streams.live import LiveVideo, check_repeats
from video.streams.window import check_display

# Flags that do not change what is written, or say where to.
FREE_FLAGS = {"output", "overwrite", "save_state_every", "annotate", "checkpoint", "system", "discover"}
FREE_FLAGS |= {"show"} | {item.name for item in fields(ClearMLConfig)}


def _networks(tracker: Any) -> Iterator[nn.Module]:
    """Those of a tracker and of the trackers that it consists of."""
    for part in vars(tracker).values():
        if isinstance(part, nn.Module):
            yield part
        elif isinstance(part, Tracker):
            yield from _networks(part)


def settings_of(args: Namespace, *parts: Any) -> dict[str, Any]:
    """What the results of a command depend on beside its videos: plain values by name.

    parts: those that have the networks, the tracker first; None where there is none
    """
    flags = {name: value for name, value in vars(args).items() if name not in FREE_FLAGS}
    flags = {name: str(x.resolve()) if isinstance(x, Path) else x for name, x in flags.items()}
    return {**flags, "checkpoint": [digest(x) for part in parts if part for x in _networks(part)]}


def reason_of(error: Exception) -> str | None:
    """Why a video cannot be tracked while others can, in a line; None where it is no fault of its own."""
    if is_out_of_memory(error):
        return "memory is not enough: ask for smaller sizes"
    if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno not in FULL):
        return " ".join(str(error).split())
    return None


def survive(videos: list[Video], function: Callable[[Video], None]) -> dict[str, str]:
    """Do something with each video; {video: reason} of those that fail, which are reported.

    Several processes share the videos. Raises what goes wrong where that is no fault of one video, or there
    is but one.
    """
    failed = {}
    for video in distributed.handed_out(videos):
        try:
            function(video)
        except Exception as error:
            failed[video.name] = reason_of(error)
            if len(videos) == 1 or failed[video.name] is None:
                raise
            say(f"{video.name}: {failed[video.name]}", error=True)
    return failed


def bad_videos(videos: list[Video], prompts: Prompts | None, work: Work, *, needed: bool) -> dict[str, str]:
    """{video: reason} of those that need not be tried, by this process alone; raises as `survive` does.

    needed: whether each video needs a prompt
    """

    def check(video: Video) -> None:
        check_video(video, prompts, needed=needed)
        work.check_frames(video)

    with distributed.alone():
        return survive(videos, check)


def write_results(work: Work, names: list[str], failed: dict[str, str], categories: Sequence[str]) -> None:
    """Write the JSON files of a run: the tracks of these videos, the categories, why other videos failed."""
    output, path = work.output, work.folder / "results.sqlite"
    path.unlink(missing_ok=True)
    with ResultsSpool(path) as spool:
        for name in names:
            spool.take(work.place(name) / "rows.sqlite")
        spool.write_tracks(output / "tracks.json")
        if available("pycocotools.mask"):
            spool.write_results(output / "results.json")
        else:
            say("results.json is skipped: it needs pycocotools: pip install pycocotools", error=True)
    path.unlink()
    if categories:
        write_json(output / "categories.json", dict(enumerate(categories, start=1)))
    (output / "failed.json").unlink(missing_ok=True)
    if failed:
        write_json(output / "failed.json", dict(sorted(failed.items())))


def _begin(
    work: Work,
    videos: list[Video],
    prompts: Prompts | None,
    settings: dict[str, Any] | None,
    config: RunConfig,
) -> None:
    """Begin the output, or go on with it: what was made from other frames or prompts is not done."""
    work.begin(settings, overwrite=config.overwrite)
    for video in videos:
        if work.is_done(video.name):
            work.open(video.name, source_of(video, prompts))


def _longest_first(videos: list[Video]) -> list[Video]:
    """The videos as several processes share them, those of unknown length first; of one, as they are."""
    if distributed.world_size() == 1:
        return videos
    lengths = [video.num_frames or MAX_FRAMES for video in videos] if distributed.is_main() else []
    pairs = zip(videos, distributed.broadcast(lengths), strict=True)
    return [video for video, _ in sorted(pairs, key=lambda pair: -pair[1])]


def _track(
    tracker: Tracker, videos: list[Video], prompts: Prompts | None, work: Work, config: RunConfig
) -> dict[str, str]:
    """Track each video that is not done; {video: reason} of those that failed, of which nothing is kept."""

    def process(video: Video) -> None:
        try:
            process_video(tracker, video, prompts, work, config)
        except Exception as error:
            if reason_of(error) is not None:
                work.clear(video.name)
            raise

    return survive(videos, process)


def _break_off(work: Work, videos: list[Video], *, goes_on: bool) -> None:
    """Leave what the same command, if it goes on, needs; of what other processes are at, everything stays."""
    if not distributed.is_main():
        return
    if (distributed.world_size() > 1 or work.leave()) and goes_on:
        count = sum(work.is_done(video.name) for video in videos)
        say(f"{count} of {len(videos)} videos are done: the same command goes on from there", error=True)


def _finish(work: Work, videos: list[Video], failed: dict[str, str], categories: Sequence[str]) -> None:
    """Write the results of a run, and remove its working place, unless some videos failed."""
    done = [video.name for video in videos if video.name not in failed]
    write_results(work, done, failed, categories)
    work.end(done)


def process_videos(
    tracker: Tracker,
    videos: list[Video],
    prompts: Prompts | None,
    output: Path,
    config: RunConfig,
    *,
    settings: dict[str, Any] | None = None,
    failed: Mapping[str, str] = MappingProxyType({}),
    categories: Sequence[str] = (),
) -> dict[str, str]:
    """Track the videos and write all of a run's results; those of videos that were there before leave.

    settings: as of `Work.goes_on`
    failed: {video: reason} of those that need not be tried
    categories: names of the classes, where there are any; the first is 1 in results.json
    Returns {video: reason} of all that failed.
    """
    if config.overlays and not available("av"):
        say("overlays are skipped: writing video files needs av: pip install av", error=True)
        config = replace(config, overlays=False)
    if config.save_detections:
        check_saved(tracker, config)
    if settings is None:  # nobody goes on with it
        config = replace(config, save_state_every=0)
    work = Work(output)
    tried = [video for video in videos if video.name not in failed]
    if distributed.is_main():
        _begin(work, tried, prompts, settings, config)
    tried = _longest_first(tried)  # when the output has begun
    with distributed.apart():
        try:
            parts = distributed.gather(_track(tracker, tried, prompts, work, config))
        except BaseException:
            _break_off(work, videos, goes_on=settings is not None)
            raise
    failed = {name: reason for part in [failed, *parts] for name, reason in part.items()}
    if distributed.is_main():
        _finish(work, videos, failed, categories)
    return failed


def tell_end(failed: dict[str, str], videos: list[Video], output: Path) -> None:
    """Say where the results are, and how many videos have none."""
    if failed:
        remedy = f"see {output / 'failed.json'}; once they are mended, the same command tracks only these"
        say(f"{len(failed)} of {len(videos)} videos failed: {remedy}", error=True)
    say(str(output))


def track_all(
    tracker: Tracker,
    videos: list[Video],
    args: Namespace,
    categories: list[str],
    cutter: Cutter | None,
    shown: AbstractContextManager[None],
) -> dict[str, str]:
    """Track every video by the flags of the command; on a mistake nothing is left half-written.

    cutter: makes label maps of boxes and clicks first
    shown: is entered when all is checked and nothing is tracked, left when all results are written; by the
        first of several processes
    Returns {video: reason} of those that failed.
    """
    config, needed = config_from_args(RunConfig, args), tracker.needs_prompt
    if config.show:
        check_display()
    if config.reverse:
        check_repeats(videos, "--reverse")
    is_live = any(isinstance(video, LiveVideo) for video in videos)
    if is_live and distributed.world_size() > 1:
        raise UserError(f"--video_root {args.video_root} is one video: track it without torchrun")
    settings = None if is_live else settings_of(args, tracker, cutter)  # it cannot be gone on with
    prompts = prompts_of_run(args.prompt_root, config, videos, tracker, cutter)
    failed, is_main, work = {}, distributed.is_main(), Work(args.output)
    with ExitStack() as stack:
        if is_main:
            stack.enter_context(sole_writer(args.output / LOCK))
            work.check(videos, settings, overwrite=config.overwrite)
            failed = bad_videos(videos, prompts, work, needed=needed)
            stack.enter_context(shown)
        failed = distributed.broadcast(failed)
        extras = {"settings": settings, "failed": failed, "categories": categories}
        failed = process_videos(tracker, videos, prompts, args.output, config, **extras)
    tell_end(failed, videos, args.output)
    return failed
