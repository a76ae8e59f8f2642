"""GlobalTracker in milliseconds a frame.

python -m benchmarks.tracker
python -m benchmarks.tracker --device cuda

Objects with vectors of their own, as many as tracks, take turns in being seen: each frame holds a random
choice of them, with a little noise, once as vectors alone and once with masks of 96x160, the stride of which
is 4 at 384x640. The numbers are medians over the frames. The program ends with exit status 1 where a
detection does not continue its own track, or where an aim is missed: for 50 detections and 200 tracks
1 ms of vectors alone and 4 ms with masks.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measuring import Aim, Phases, add_machine_flags, counted, judge, print_parts, set_up
from common.config import Parser
from common.errors import UserError, run_command
from inference import GlobalTracker

HEIGHT, WIDTH, EMBEDDING_DIM = 96, 160, 128
NOISE = 0.03  # of each number of a vector; the cosine with the object's own is then about 0.95
AIM_SIZES, AIMS = (50, 200), {False: 1.0, True: 4.0}  # detections and tracks; milliseconds, with masks or not
PARTS = {"_retire": "retire", "_continue": "assign", "overlaps": "mask overlaps", "_remember": "remember"}


def draw_masks(number: int) -> Tensor:
    """(number, HEIGHT, WIDTH) bool: rectangles of up to a third of each side, anywhere."""
    masks = torch.zeros(number, HEIGHT, WIDTH, dtype=torch.bool)
    for mask in masks:
        h, w = int(torch.randint(4, HEIGHT // 3, ())), int(torch.randint(4, WIDTH // 3, ()))
        top, left = int(torch.randint(0, HEIGHT - h, ())), int(torch.randint(0, WIDTH - w, ()))
        mask[top : top + h, left : left + w] = True
    return masks


def draw_frames(
    detections: int, tracks: int, frames: int, *, masks: bool, device: torch.device
) -> Iterator[tuple[Tensor, dict[str, Tensor | None]]]:
    """The objects in a frame, (K,) of 0 to tracks - 1, and what `update` is given; all are in the first."""
    vectors = F.normalize(torch.randn(tracks, EMBEDDING_DIM), dim=-1)
    for frame in range(frames + 1):
        objects = torch.randperm(tracks)[:detections] if frame else torch.arange(tracks)
        embeddings = vectors[objects] + NOISE * torch.randn(len(objects), EMBEDDING_DIM)
        object_masks = draw_masks(len(objects)).to(device) if masks else None
        scores = torch.full((len(objects),), 0.9, device=device)
        yield objects, {"embeddings": embeddings.to(device), "scores": scores, "masks": object_masks}


def measure_tracker(
    detections: int, tracks: int, frames: int, *, masks: bool, device: torch.device
) -> dict[str, np.ndarray]:
    """Medians of the parts of one update; ends the program where a detection leaves its own track."""
    tracker = GlobalTracker(GlobalTracker.Config(max_age=frames + 1))  # nobody falls asleep
    phases = Phases(device)
    id_of, wrong = torch.zeros(tracks, dtype=torch.int64), 0  # the id of each object, from the first frame on
    with ExitStack() as stack:
        for method, name in PARTS.items():
            stack.enter_context(phases.inside(tracker, method, name))
        for objects, inputs in draw_frames(detections, tracks, frames, masks=masks, device=device):
            phases.begin()
            with phases.part("besides"):
                ids = tracker.update(**inputs)
            id_of = id_of if id_of.any() else ids
            wrong += int((ids != id_of[objects]).sum())
    if wrong or len(tracker.bank) != tracks:
        sys.exit(
            f"{wrong} detections left their tracks, and there are {len(tracker.bank)} tracks of {tracks}"
        )
    del phases.rounds[0]  # the births
    return phases.medians()


def main() -> None:
    parser = Parser(prog="benchmarks.tracker", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--detections", type=int, nargs="+", default=[50, 100], help="in a frame, of each row"
    )
    parser.add_argument("--tracks", type=int, nargs="+", default=[200, 1000], help="in the bank, of each row")
    parser.add_argument("--frames", type=int, default=60, help="of which the median is taken")
    add_machine_flags(parser)
    args = parser.parse_args()
    sizes = list(zip(args.detections, args.tracks, strict=False))
    if len(args.detections) != len(args.tracks) or any(not 0 < k <= r for k, r in sizes) or args.frames < 1:
        raise UserError("--detections, --tracks, --frames: as many of each, at least 1, no more than tracks")
    device = set_up(args.device, args.threads)
    aims = []
    for detections, tracks in sizes:
        for masks in (False, True):
            kind = f"masks of {HEIGHT}x{WIDTH}" if masks else "vectors alone"
            print(f"\n{detections} detections, {tracks} tracks, {kind}")
            parts = measure_tracker(detections, tracks, args.frames, masks=masks, device=device)
            whole = sum(parts.values())
            print_parts({"update": whole} | parts, whole)
            if (detections, tracks) == AIM_SIZES:
                aims.append(Aim(f"milliseconds a frame, {kind}", counted(whole), AIMS[masks]))
    print()
    judge(aims)


if __name__ == "__main__":
    run_command(main)
