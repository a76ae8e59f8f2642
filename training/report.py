"""What a run tells: rows and curves in its folder, pictures, lines on the screen, an experiment."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from annotated.videos import VideoSet
from common.files import atomic_write, write_json
from common.progress import say
from training.curves import plot_curves
from training.experiment import Experiment
from training.history import Row, write_rows
from video.images import MOTS_MASKS

METRICS = """J F J&F J_tube AP AP50 AP75 AR10 HOTA DetA AssA IDF1 id_switches id_switches_per_100_frames
cosine_positive cosine_negative cosine_margin videos frames""".split()  # of metrics.json, beside `seconds`
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


class Report:
    """Writes into the run's folder and reports to its experiment; one process of a run does."""

    def __init__(self, folder: Path, experiment: Experiment):
        self.folder, self.experiment = folder, experiment

    def numbers(self, values: dict[str, float], step: int) -> None:
        """Send numbers by their names, group/series; those without a group are left out."""
        for name, value in values.items():
            group, _, series = name.partition("/")
            if series:
                self.experiment.scalars(group, {series: value}, step)

    def table(self, rows: list[Row]) -> None:
        """Write results.csv and draw its curves."""
        write_rows(self.folder / "results.csv", rows)
        plot_curves(self.folder / "results.csv", self.folder / "results.png")

    def epoch(self, rows: list[Row], title: str) -> None:
        """Write the rows and curves of all epochs, and print a line of the last."""
        self.table(rows)
        row = rows[-1]
        self.numbers(row, row["step"])
        numbers = ", ".join(f"{name} {row[name]:.3f}" for name in SHOWN if row.get(name) is not None)
        say(f"{title}: {numbers} ({row['seconds']:.0f} s)")

    def picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Write a contact sheet of an evaluation, (H, W, 3) uint8 RGB, as overlays/<name>.png."""
        with atomic_write(self.folder / "overlays" / f"{name}.png") as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
        self.experiment.image("validation", "truth and tracks", step, picture)

    def metrics(self, scores: dict[str, Any], seconds: float, best: Path, step: int) -> None:
        """Write metrics.json of a finished run, print it, and send it with the best checkpoint.

        seconds: of the whole run
        """
        metrics = {name: scores.get(name) for name in METRICS} | {"seconds": round(seconds, 1)}
        write_json(self.folder / "metrics.json", metrics)
        for name, value in metrics.items():
            text = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else value
            say(f"{name:28} {text}")
            if value is not None:
                self.experiment.single_value(name, value)
        self.experiment.figure("results", self.folder / "results.png", step)
        self.experiment.artifact("metrics", metrics)
        self.experiment.model("best", best)
