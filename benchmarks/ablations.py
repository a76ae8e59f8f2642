"""What each part is worth: the network trained without it, the tracker run without it, on `hard` videos.

python -m benchmarks.ablations --run_dir runs/ablations

Every row is `main.py @presets/ablation.txt` with the row's flags, once for each seed, which draws weights,
order and augmentation; the videos are the same. It is scored on held-out videos by the run's own final
evaluation. The rows of the tracker run the networks of the first row with other flags of inference.py, on
longer videos, in which objects leave and return. A run that has its metrics.json is not done again, so that
the command may be stopped and repeated. `--jobs` runs take place at a time, of one thread each.
"""

import json
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch

from annotated.videos import VOSFolder
from common.config import Parser, config_from_dict
from common.errors import UserError, run_command
from common.files import write_json
from inference import VITATracker, load_network
from tools.validation import evaluate_tracker
from video import synthetic

ROOT = Path(__file__).resolve().parents[1]
PRESET = "presets/ablation.txt"
DATA = {"profile": "hard", "seed": 0, "train_videos": 2500, "valid_videos": 60, "frames": 20, "size": 64}
LONG = {"profile": "hard", "seed": 1, "train_videos": 0, "valid_videos": 30, "frames": 80, "size": 64}

REFERENCE = "reference"
TRAINING = {
    REFERENCE: "",
    "no matching loss": "--w_match 0",
    "no contrastive loss": "--w_ctr 0",
    "neither": "--w_match 0 --w_ctr 0",
    "one assignment for the clip": "--assign clip",
    "every frame by itself": "--propagate false",
    "no masked attention": "--masked_attention false",
    "no foreground loss": "--w_foreground 0",
    "no instance discrimination": "--w_instance 0",
    "strides 32, 16, 8 attended": "--attention_stride 8",
    "no deep supervision": "--deep_supervision false",
    "masks at stride 32, no laterals": "--mask_stride 32",
    "the first description, literally": "--mask_stride 32 --deep_supervision false --w_foreground 0",
}
TRACKER = {
    "the defaults": "",
    "no mask IoU": "--iou_weight 0",
    "mask IoU in full": "--iou_weight 1",
    "cosine in place of bi-softmax": "--similarity cosine",
    "no occlusion freeze": "--max_overlap 1",
    "weak detections update, too": "--update_score 0",
    "beta 0, the first embedding stays": "--beta 0",
    "beta 0.5": "--beta 0.5",
    "beta 1, the last embedding counts": "--beta 1",
    "dormant after 5 frames": "--max_age 5",
    "dormant after 5 frames, none revived": "--max_age 5 --max_dormant 0",
}
COLUMNS = {
    "AP": "AP",
    "AP50": "AP50",
    "J&F": "J&F",
    "J_tube": "tube IoU",
    "HOTA": "HOTA",
    "AssA": "AssA",
    "id_switches_per_100_frames": "switches",
    "cosine_margin": "margin",
}
FINE = ("id_switches_per_100_frames", "cosine_margin")  # shown with one more digit


def make_data(folder: Path, profile: str, **settings: int) -> Path:
    """The synthetic videos of this description, written once."""
    if not folder.exists():
        synthetic.generate(folder, profile, **settings)
    return folder


def slug(row: str) -> str:
    """The name of a row's folder."""
    return "".join(c if c.isalnum() else "_" for c in row)


def train(folder: Path, data: Path, flags: str, seed: int) -> dict[str, float]:
    """The metrics of one run; its output is in folder/log.txt. UserError where it fails."""
    done = sorted(folder.glob("*/metrics.json"))
    if not done:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "main.py", f"@{PRESET}", "--dataset_root", data, "--run_dir", folder]
        command += ["--seed", str(seed), *flags.split()]
        if any(folder.glob("*/last.pth")):
            command += ["--resume", "auto"]
        with (folder / "log.txt").open("a") as log:
            code = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=False).returncode
        if code:
            words = shlex.join(map(str, command))
            raise UserError(f"{words} ended with status {code}: see {folder / 'log.txt'}")
        done = sorted(folder.glob("*/metrics.json"))
    return json.loads(done[-1].read_text())


def track(folder: Path, data: Path, flags: str) -> dict[str, float]:
    """The metrics of the network trained in `folder` on other videos, with other flags of the tracker."""
    path = folder / f"tracker{slug(flags)}.json"
    if not path.is_file():
        checkpoint = sorted(folder.glob("*/best.pth"))[-1]
        network, config = load_network(checkpoint)
        words = flags.split()
        tracker = config_from_dict(VITATracker.Config, config["tracker"], str(checkpoint))
        for flag, value in zip(words[::2], words[1::2], strict=True):
            name = flag.removeprefix("--")
            tracker = replace(tracker, **{name: type(getattr(tracker, name))(value)})
        write_json(path, evaluate_tracker(VITATracker(network, tracker), VOSFolder(data / "valid")))
    return json.loads(path.read_text())


def table(rows: dict[str, str], metrics: dict[str, list[dict[str, float]]]) -> list[str]:
    """Lines of Markdown: each row's mean over the seeds, and half the range of the seeds."""
    shown = [name for name in COLUMNS if any(name in scores for runs in metrics.values() for scores in runs)]
    lines = [f"| | flags | {' | '.join(COLUMNS[name] for name in shown)} |", "|---" * (2 + len(shown)) + "|"]
    for row, runs in metrics.items():
        cells = []
        for name in shown:
            values = [scores[name] for scores in runs]
            digits = 2 if name in FINE else 1
            cells.append(f"{mean(values):.{digits}f} ± {(max(values) - min(values)) / 2:.{digits}f}")
        lines.append(f"| {row} | {f'`{rows[row]}`' if rows[row] else ''} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = Parser(prog="benchmarks.ablations", description=__doc__.splitlines()[0])
    parser.add_argument("--run_dir", type=Path, default=Path("runs/ablations"), help="data, runs and scores")
    parser.add_argument("--rows", nargs="+", choices=TRAINING, default=list(TRAINING), help="to train")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--jobs", type=int, default=2, help="runs that take place at a time")
    args = parser.parse_args()
    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs} is too small: at least 1")
    torch.set_num_threads(1)
    folder = args.run_dir.resolve()
    data = make_data(folder / "data", **DATA)
    runs = [(row, seed) for seed in args.seeds for row in args.rows]
    places = [folder / f"{slug(row)}-{seed}" for row, seed in runs]
    with ThreadPoolExecutor(args.jobs) as pool:
        done = list(pool.map(lambda run, place: train(place, data, TRAINING[run[0]], run[1]), runs, places))
    trained = {row: [m for (name, _), m in zip(runs, done, strict=True) if name == row] for row in args.rows}
    lines = table(TRAINING, trained)
    if REFERENCE in args.rows:
        videos = make_data(folder / "long", **LONG)
        places = [place for place, (row, _) in zip(places, runs, strict=True) if row == REFERENCE]
        tracked = {row: [track(place, videos, flags) for place in places] for row, flags in TRACKER.items()}
        lines += ["", *table(TRACKER, tracked)]
    print("\n".join(lines))


if __name__ == "__main__":
    run_command(main)
