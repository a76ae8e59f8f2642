"""What renewed templates of SiamMask are worth on distractors: two players of one look that cross each other.

python -m benchmarks.siammask_templates --checkpoint runs/1/best.pth

Draws videos of identical twins that move, turn and change their size, gives the tracker of the checkpoint the
first frame's masks, and scores it without `--update_template` and with it (scoring/jf.py): J and F in
percent, J over the whole video, and how often a player is taken for the other.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from annotated.videos import VOSFolder
from benchmarks.measuring import add_machine_flags, set_up
from common.config import Parser, config_from_dict
from common.errors import UserError, run_command
from inference import load_network
from systems.siammask.tracker import SiamMaskTracker
from tools.validation import evaluate_tracker
from video.synthetic import PROFILES, write_split

TWINS = replace(PROFILES["easy"], objects=(2, 2), twin=1.0, speed=(1.0, 2.5), spin=0.1, pulse=0.2)
GATES = ("update_every", "update_score", "update_similarity")
COLUMNS = ("J", "F", "J&F", "J_tube", "id_switches", "IDF1")


def parse_args() -> argparse.Namespace:
    parser = Parser(prog="benchmarks.siammask_templates", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="of a SiamMask that saw synthetic videos"
    )
    parser.add_argument("--videos", type=int, default=25, help="that are drawn")
    parser.add_argument("--frames", type=int, default=60, help="of each video")
    parser.add_argument("--seed", type=int, default=0, help="of the videos")
    parser.add_argument(
        "--update_every", type=int, nargs="+", default=[5], help="frames between looks, one row each"
    )
    parser.add_argument(
        "--update_score", type=float, nargs="+", default=[0.9], help="least scores, one row each"
    )
    parser.add_argument(
        "--update_similarity", type=float, nargs="+", default=[0.8], help="least cosines, one row each"
    )
    add_machine_flags(parser)
    args = parser.parse_args()
    if args.videos < 1:
        raise UserError(f"--videos {args.videos} is too small: at least 1")
    return args


def main() -> None:
    args = parse_args()
    device = set_up(args.device, args.threads)
    network, config = load_network(args.checkpoint, "siammask")
    options = config_from_dict(SiamMaskTracker.Config, config["tracker"], str(args.checkpoint))
    print("\nevery   score  cosine" + "".join(f"{name:>12}" for name in COLUMNS))
    with TemporaryDirectory() as temporary:
        root = Path(temporary) / "valid"
        write_split(root, "valid", TWINS, seed=args.seed, videos=args.videos, frames=args.frames, size=64)
        folder = VOSFolder(root)
        gates = [
            (every, score, cosine)
            for every in args.update_every
            for score in args.update_score
            for cosine in args.update_similarity
        ]
        for gate in (None, *gates):
            values = {"update_template": gate is not None}
            values |= dict(zip(GATES, gate, strict=True)) if gate else {}
            tracker = SiamMaskTracker(network.to(device), replace(options, **values))
            scores = evaluate_tracker(tracker, folder)
            numbers = "".join(f"{scores[name]:12.2f}" for name in COLUMNS)
            row = "first only" if gate is None else "{:4}{:8.2f}{:8.2f}".format(*gate)
            print(f"{row:20}{numbers}", flush=True)


if __name__ == "__main__":
    run_command(main)
