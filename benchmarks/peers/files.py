"""From files to files: inference.py against XMem's eval.py and STCN's eval_generic.py, on the same folder.

`python -m benchmarks.peers.files PROGRAM CHECKOUT SCRIPT ARGV...` runs such a script on a CPU.
"""

import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import torch
from PIL import Image

from benchmarks.peers.official import without_effect, without_gpu, without_imagenet
from benchmarks.peers.script import enter
from benchmarks.peers.turns import Turns, command, run_in_turns
from video.images import read_label_map

SCRIPTS = {
    "xmem": ["eval.py", "--dataset", "G", "--size", "-1", "--generic_path"],
    "stcn": ["eval_generic.py", "--data_path"],  # which takes frames of 480 rows as they are
}


def write_files(root: Path, clip: Path) -> None:
    """A clip as JPEGs, with the label map of its first frame."""
    frames, masks = root / "JPEGImages" / "clip", root / "Annotations" / "clip"
    for folder in (frames, masks):
        folder.mkdir(parents=True)
    with np.load(clip) as arrays:
        for t, frame in enumerate(arrays["frames"]):
            Image.fromarray(frame).save(frames / f"{t:05}.jpg", quality=95)
        labels = Image.fromarray(arrays["labels"])
    labels.putpalette(range(256)[k] for k in range(256) for _ in range(3))
    labels.save(masks / "00000.png")


def track_files(
    name: str, checkout: Path, root: Path, weights: Path, rounds: int, amp: str
) -> tuple[Turns, float]:
    """Both commands in turns; and the share of pixels after the first frame on which their files agree."""
    outputs = [root / "ours", root / "theirs"]
    ours = [sys.executable, "inference.py", "--system", name, "--checkpoint", weights, "--short_side", "-1"]
    ours += ["--video_root", root, "--prompt_root", root / "Annotations", "--output", outputs[0]]
    ours += ["--overlays", "false", "--overwrite", "--amp", amp]
    theirs = [*SCRIPTS[name], root, "--model", weights, "--output", outputs[1]]
    turns = run_in_turns(list(map(str, ours)), command("files", name, checkout, *theirs), checkout, rounds)
    maps = [[read_label_map(path) for path in sorted(output.rglob("clip/*.png"))[1:]] for output in outputs]
    return turns, float((np.stack(maps[0]) == np.stack(maps[1])).mean())


def main() -> None:
    """Run an official script that asks for a GPU, its clock and a progress bar."""
    program, checkout, *sys.argv = sys.argv[1:]
    enter(checkout)
    without_gpu()
    without_imagenet(program)
    torch.set_num_threads(1)
    clock = SimpleNamespace(record=without_effect, elapsed_time=lambda _: 1.0)
    torch.cuda.Event = lambda **_: clock
    torch.cuda.synchronize = without_effect
    torch.cuda.max_memory_allocated = lambda: 0
    bar = ModuleType("progressbar")
    bar.progressbar = lambda items, **_: items
    sys.modules["progressbar"] = bar
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
