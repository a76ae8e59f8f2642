"""Folders of runs, written by hand: what main.py leaves, without training."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tools.pages import to_uri

FLAGS = {"system": "stcn", "epochs": 4, "lr_head": 1e-3, "seed": 0, "resume": None, "skip_bad": False}
DEFAULTS = FLAGS | {"epochs": 20, "lr_head": 1e-4}
PICTURE = to_uri(np.full((8, 8, 3), 200, np.uint8))


def write_run(
    folder: Path,
    losses: dict[int, float],
    scores: dict[int, float],
    *,
    flags: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    record: dict[str, Any] | None = None,
    slides: list[dict[str, str]] | None = None,
) -> Path:
    """Write the folder of a run; losses and J&F by epoch. What is None is not written, but for flags."""
    (folder / "overlays").mkdir(parents=True)
    (folder / "args.json").write_text(json.dumps(FLAGS | (flags or {})))
    rows = [f"{epoch},{value},{scores.get(epoch, '')}" for epoch, value in losses.items()]
    (folder / "results.csv").write_text("\n".join(["epoch,loss/total,val/J&F", *rows, ""]))
    files = {"metrics.json": metrics, "run.json": record, "overlays/frames.json": slides}
    for name, content in files.items():
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    return folder


def slide(video: str, frame: str, truth: str = PICTURE, tracks: str = PICTURE) -> dict[str, str]:
    return {"video": video, "frame": frame, "truth": truth, "tracks": tracks}
