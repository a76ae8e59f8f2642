"""Shows listeners, ClearML above all, what inference.py has tracked and evaluate.py has scored."""

import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.config import Parser
from common.files import read_json
from scoring.report import Report, numbers_of
from training.listeners.listener import Listener, Listeners, table_of
from training.listeners.opening import open_listeners

MAX_VIDEOS = 10  # that are shown with their tracks


def show_tracks(listeners: Listeners, output: Path, seconds: float) -> None:
    """Show the results in a folder of inference.py: a row a video, some overlays, the JSON files.

    seconds: that tracking took
    """
    if not listeners.listeners:  # tracks.json of hours of video is large
        return
    listeners.begin(output, 0)
    rows = [
        {"video": name, "frames": entry["frames"], "tracks": len(entry["tracks"])}
        for name, entry in read_json(output / "tracks.json").items()
    ]
    listeners.table("videos", table_of(rows), 0)
    totals = {name: sum(row[name] for row in rows) for name in ("frames", "tracks")}
    rate = {"frames per second": round(totals["frames"] / seconds, 2)}
    for name, value in ({"videos": len(rows)} | totals | rate).items():
        listeners.single_value(name, value)
    overlays = [output / "overlays" / f"{row['video']}.mp4" for row in rows]
    for path in [path for path in overlays if path.is_file()][:MAX_VIDEOS]:
        listeners.video("tracks", path.stem, 0, path)
    for name in ("tracks", "results"):
        if (output / f"{name}.json").is_file():
            listeners.artifact(name, output / f"{name}.json")


@contextmanager
def showing_tracks(args: Namespace, parser: Parser) -> Iterator[None]:
    """Inside, inference.py tracks by these flags; at the end its listeners are shown the results."""
    begun = time.monotonic()
    with open_listeners(args, parser) as listeners:
        yield
        show_tracks(listeners, args.output, time.monotonic() - begun)


def show_scores(listener: Listener, report: Report, results: Path) -> None:
    """Show a report of evaluate.py on the results of a folder or file: its numbers, and a row a video."""
    listener.begin(results, 0)
    for name in numbers_of([report["overall"]]):
        listener.single_value(name, report["overall"].get(name))
    names = numbers_of(report["videos"].values())
    rows = [{"video": video, **{n: entry.get(n) for n in names}} for video, entry in report["videos"].items()]
    if rows:
        listener.table("videos", table_of(rows), 0)
    listener.artifact("report", dict(report))
