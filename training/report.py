"""What a run tells: rows and curves in its folder, pictures, lines on the screen, and its listeners."""

import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from annotated.videos import VideoSet
from common import distributed
from common.device import peak_memory
from common.files import atomic_write, write_json
from common.progress import say
from training.curves import plot_curves, read_curves
from training.history import Row, say_metrics, write_rows
from training.listeners.listener import Listeners, table_of
from training.state import TrainState
from video.images import MOTS_MASKS, mots_sequences

METRICS = """J F J&F J_tube AP AP50 AP75 AR10 HOTA DetA AssA IDF1 id_switches id_switches_per_100_frames
cosine_positive cosine_negative cosine_margin videos frames""".split()  # of metrics.json, beside `seconds`
CURVES_SECONDS = 30.0  # the least time between two drawings of the curves
MODEL_SECONDS = 600.0  # the least time between two uploads of last.pth
SHOWN = ("loss/total", "cosine/train_margin", "val/J&F", "id_switches/per_100_frames")  # after an epoch


def next_command(videos: VideoSet, checkpoint: Path, folder: Path, *, prompted: bool) -> str:
    """The command that tracks held-out videos by a checkpoint, with their masks where the system is prompted.

    folder: of the run. Masks in JSON or in text of MOTS are converted first. Still images leave nothing to
    track after the prompt: the names of other videos and their masks are left to the user.
    """
    flags = {"--checkpoint": checkpoint, "--video_root": videos.video_root, "--output": folder / "inference"}
    masks = videos.videos[0].mask_path(videos.videos[0].annotated[0])
    commands = []
    if prompted and videos.is_still:
        flags |= {"--video_root": "VIDEOS", "--prompt_root": "THEIR_MASKS"}
    elif prompted and masks.suffix in {".json", ".txt"}:
        source, drawn = (masks, "prompts") if masks.suffix == ".json" else (videos.root, MOTS_MASKS)
        flags["--prompt_root"] = folder / drawn
        commands.append([*"python -m tools.convert".split(), source, "--output", folder / drawn])
    elif prompted:
        flags["--prompt_root"] = masks.parent.parent
    commands.append(["python", "inference.py", *(word for flag in flags.items() for word in flag)])
    return " && ".join(shlex.join(map(str, command)) for command in commands)


def score_command(videos: VideoSet, folder: Path, *, use_classes: bool) -> str | None:
    """The command that scores what `next_command` has tracked; None for still images, which are no videos."""
    masks = videos.videos[0].mask_path(videos.videos[0].annotated[0])
    flags = {"--results": folder / "inference", "--annotations": videos.root}
    if videos.is_still:
        return None
    if masks.suffix == ".json":
        flags |= {"--annotations": masks, "--protocol": "ytvis"}
        flags |= {} if use_classes else {"--use_categories": "false"}
    elif mots_sequences(videos.root):
        flags["--protocol"] = "mots"
    return shlex.join(["python", "evaluate.py", *(str(word) for flag in flags.items() for word in flag)])


def later_commands(videos: VideoSet, folder: Path, *, prompted: bool, use_classes: bool) -> dict[str, str]:
    """The commands for later: tracking by "best" or "last" weights, and the "score" of the tracks."""
    tracking = {
        name: next_command(videos, folder / f"{name}.pth", folder, prompted=prompted)
        for name in ("best", "last")
    }
    score = score_command(videos, folder, use_classes=use_classes)
    return tracking | ({"score": score} if score else {})


def facts_of_run(network: nn.Module, state: TrainState, clips_per_step: int) -> dict[str, float | None]:
    """What a run took, and when it was best, by names for people."""
    rows, device = state.history.rows, next(network.parameters()).device
    seconds = sum(row["seconds"] for row in rows)
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "peak memory, MiB": round(peak_memory(device)),
        "clips per second": round(state.step * clips_per_step / seconds, 3) if seconds else None,
        "best epoch": state.best["epoch"] if state.best else None,
        "epochs": state.epoch,
    }


class Report:
    """Writes into the run's folder and tells its listeners; one process of a run does."""

    def __init__(self, folder: Path, listeners: Listeners):
        self.folder, self.listeners = folder, listeners
        self._last_sent = self._last_drawn = time.monotonic()

    def numbers(self, values: dict[str, float], step: int) -> None:
        """Send numbers by their names, group/series; those without a group are left out."""
        for name, value in values.items():
            group, _, series = name.partition("/")
            if series:
                self.listeners.scalars(group, {series: value}, step)

    def table(self, rows: list[Row]) -> None:
        """Write results.csv, and now and then draw its curves, which takes a second."""
        write_rows(self.folder / "results.csv", rows)
        if time.monotonic() - self._last_drawn >= CURVES_SECONDS:
            self._draw_curves()

    def _draw_curves(self) -> None:
        plot_curves(self.folder / "results.csv", self.folder / "results.png")
        self._last_drawn = time.monotonic()

    def epoch(self, rows: list[Row], title: str, scores: Row) -> None:
        """Write the rows and curves of all epochs, and print a line of the last, whose scores are sent."""
        self.table(rows)
        row = rows[-1]
        self.numbers(scores, row["step"])
        numbers = ", ".join(f"{name} {row[name]:.3f}" for name in SHOWN if row.get(name) is not None)
        say(f"{title}: {numbers} ({row['seconds']:.0f} s)")

    def checkpoint(self, name: str, step: int, *, at_once: bool = False) -> None:
        """Send a checkpoint, of the folder, as an output model; unless `at_once` only now and then."""
        if not at_once:
            if time.monotonic() - self._last_sent < MODEL_SECONDS:
                return
            self._last_sent = time.monotonic()
        self.listeners.model(name, self.folder / f"{name}.pth", step)

    def begin(self, flags: dict[str, Any], step: int, commands: dict[str, str]) -> None:
        """Write args.json, and tell the listeners that the run begins, or goes on after a step.

        commands: of `later_commands`
        """
        if distributed.is_main():
            (self.folder / "metrics.json").unlink(missing_ok=True)  # of fewer epochs
            write_json(self.folder / "args.json", flags)
        self.listeners.begin(self.folder, step)
        self.listeners.artifact("commands", commands)

    def pictures(self, name: str, picture: np.ndarray, slides: list[dict[str, str]], step: int) -> None:
        """Write what an evaluation has to show: overlays/<name>.png, and frames.json there, of the last one.

        picture: a contact sheet, (H, W, 3) uint8 RGB; slides: frames one by one, as data: URIs
        """
        write_json(self.folder / "overlays" / "frames.json", slides)
        with atomic_write(self.folder / "overlays" / f"{name}.png") as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
        self.listeners.image("validation", "truth and tracks", step, picture)

    def videos(self, rows: list[dict[str, Any]], films: list[Path], step: int) -> None:
        """Send the scores of each video, and films, files of an evaluation."""
        if rows:
            self.listeners.table("videos", table_of(rows), step)
        for path in films:
            self.listeners.video("tracks", path.stem, step, path)

    def metrics(self, scores: dict[str, Any], seconds: float, step: int) -> None:
        """Write metrics.json of a finished run, print it, and send it with the curves.

        seconds: of the whole run
        """
        metrics = {name: scores.get(name) for name in METRICS} | {"seconds": round(seconds, 1)}
        write_json(self.folder / "metrics.json", metrics)
        say_metrics(metrics)
        for name, value in metrics.items():
            self.listeners.single_value(name, value)
        self._draw_curves()
        self.listeners.figure("results", self.folder / "results.png", step)
        axis, groups = read_curves(self.folder / "results.csv")
        for group, curves in groups.items():
            named = {name.partition("/")[2]: curve for name, curve in curves.items()}
            self.listeners.curves(f"{group} by {axis}", named, step, axis)
        for name in ("metrics.json", "results.csv", "args.json"):
            self.listeners.artifact(name.partition(".")[0], self.folder / name)

    def facts(self, network: nn.Module, state: TrainState, clips_per_step: int) -> None:
        """Send what a finished run took, and its last checkpoint."""
        for name, value in facts_of_run(network, state, clips_per_step).items():
            self.listeners.single_value(name, value)
        self.checkpoint("last", state.step, at_once=True)
