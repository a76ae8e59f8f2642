"""Peak resident memory of inference.py on a synthetic video of 200 and of 2,000 frames, and their ratio.

python -m benchmarks.memory --checkpoint runs/1/best.pth

The program ends with exit status 1 where the long video takes more than 1.05 times as much as the short one.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measuring import Aim, judge
from video import synthetic

ROOT = Path(__file__).resolve().parents[1]
LENGTHS = (200, 2000)
AIM = 1.05
RUN = """
import sys, inference
inference.main()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak_memory(checkpoint: Path, videos: Path, output: Path) -> float:
    """MiB of resident memory that one run of inference.py takes at most, as the Linux kernel counts it."""
    flags = ["--checkpoint", checkpoint, "--video_root", videos, "--output", output]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *flags], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(done.stdout.splitlines()[-1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64, help="height and width of the frames")
    args = parser.parse_args()
    peaks = []
    for length in LENGTHS:
        with TemporaryDirectory() as folder:
            data = Path(folder) / "data"
            one = {"seed": 0, "train_videos": 0, "valid_videos": 1, "frames": length, "size": args.size}
            synthetic.generate(data, "easy", **one)
            peaks.append(
                peak_memory(args.checkpoint.resolve(), data / "valid" / "JPEGImages", Path(folder) / "out")
            )
        print(f"{length:5} frames: {peaks[-1]:8.1f} MiB")
    judge([Aim(f"peak memory, {LENGTHS[1]} / {LENGTHS[0]} frames", peaks[1] / peaks[0], AIM)])


if __name__ == "__main__":
    main()
