"""What this project's trackers say of the same clip: `python -m benchmarks.peers.ours JOB`."""

import json
import sys

import numpy as np
import torch

from benchmarks.peers.official import Job, Track, boxes_of, serve
from common.backbone import for_inference
from common.config import config_from_dict
from common.device import autocast
from common.types import Prompt
from inference import SYSTEMS, load_network

NAMES = {"xmem": "xmem", "stcn": "stcn", "siammask": "siammask", "sam": "sam_track"}


def prompt_of(program: str, labels: np.ndarray) -> Prompt:
    """The objects of a first frame: its label map, or their boxes."""
    if program in ("xmem", "stcn"):
        return Prompt(torch.from_numpy(labels.astype(np.int64)))
    return Prompt(boxes=dict(enumerate(boxes_of(labels), 1)))


def make(job: Job) -> Track:
    program, name = job["program"], NAMES[job["program"]]
    network, config = load_network(job["weights"], name)
    device = torch.device("cpu")
    network = for_inference(network, device, winograd=job["amp"] == "off")
    if program == "sam":
        cutter = SYSTEMS[name].cutter(network)

        def step(frame: torch.Tensor, prompt: Prompt | None) -> torch.Tensor:
            return cutter.cut(frame, prompt).labels
    else:
        kind, sizes = SYSTEMS[name].tracker, {} if program == "siammask" else {"short_side": -1}
        options = config["tracker"] | sizes  # frames are as large as theirs
        tracker = kind(network, config_from_dict(kind.Config, options, job["weights"]))

        def step(frame: torch.Tensor, prompt: Prompt | None) -> torch.Tensor:
            return tracker.step(frame, prompt).labels

    def track(frames: np.ndarray, labels: np.ndarray) -> np.ndarray:
        maps = []
        if program != "sam":
            tracker.reset()
        with autocast(device, job["amp"]):
            for t, frame in enumerate(frames):
                prompt = prompt_of(program, labels) if program == "sam" or t == 0 else None
                maps.append(step(torch.from_numpy(frame).permute(2, 0, 1), prompt).byte().numpy())
        return np.stack(maps)

    return track


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]), make)
