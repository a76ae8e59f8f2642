"""inference.py from files to files against the bare network on the same frames, with its parts.

python -m benchmarks.inference
python -m benchmarks.inference --backbone narrow --backbone_weights none --objects 10
python -m benchmarks.inference --checkpoint runs/1/best.pth --video_root clip.mp4 --frames 200 --device cuda

Without --checkpoint the network has random weights, and its first tokens are made sure of ellipses that
move, so that there is something to track and to write. Without --video_root a video of 1280x720 is made. The
bare network, the command's whole path (reading, tracking, masks at full size, label maps, overlay video,
results.json and tracks.json) and the same path without its two threads, in parts, take turns; the numbers
are medians over the rounds, a frame. Wall time counts, because reading and writing overlap with the network:
on a machine that is busy with something else they cannot. What is left beside a quick network is told, too.
The program ends with exit status 1 where the whole path reaches less than 0.8 of the speed of the network.
"""

import argparse
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from torch import Tensor, nn

import inference
from benchmarks.loader import write_video
from benchmarks.measuring import (
    Aim,
    Phases,
    add_machine_flags,
    judge,
    print_parts,
    set_up,
)
from common.config import Parser, add_config_flags, config_from_args
from common.device import AMP, autocast, peak_memory
from common.errors import UserError, available, run_command
from inference import VITATracker, load_network
from modules import VITA_TCOVIS
from tracking import loop, output, process, spool
from tracking.batch import process_videos
from tracking.config import RunConfig
from tracking.spool import ResultsSpool
from video.reader import Video, find_videos
from video.writer import OverlayWriter

Item = TypeVar("Item")

BARE, WHOLE, NETWORK, READ = "bare network", "inference.py", "network", "read"
AIM = 0.8


class ConfidentNetwork(nn.Module):
    """A network whose first tokens are sure of ellipses that move, whatever its weights say."""

    def __init__(self, network: VITA_TCOVIS, objects: int):
        super().__init__()
        self.network, self.objects, self.stride = network, objects, network.stride
        self.frame = 0

    def forward(self, frames: Tensor, queries: Tensor | None = None) -> dict[str, Any]:
        """As the network's, for one frame."""
        outputs, K = self.network(frames, queries=queries), self.objects
        masks, embeddings = outputs["mask_logits"][0, 0], outputs["embeddings"][0, 0]
        masks[:K] = self._ellipses(*masks.shape[-2:], masks.device).roll(self.frame, -1)
        embeddings[:K] = torch.eye(K, embeddings.shape[-1], device=masks.device)
        outputs["class_logits"][0, 0, :, -1] = 20.0  # no object
        outputs["class_logits"][0, 0, :K, -1] = -20.0
        self.frame += 1
        return outputs

    def _ellipses(self, height: int, width: int, device: torch.device) -> Tensor:
        """(K, h, w) logits of ellipses side by side, above 0 inside."""
        with device:
            y, x = torch.arange(height)[:, None] / height, torch.arange(width) / width
            centres = (torch.arange(self.objects)[:, None, None] + 0.5) / self.objects
        return 6 - 6 * (((x - centres) * 2.5 * self.objects) ** 2 + ((y - 0.5) * 4) ** 2).clamp(max=2)


@dataclass(frozen=True)
class VideoStart:
    """The first frames of a video."""

    video: Video
    num_frames: int

    @property
    def name(self) -> str:
        return self.video.name

    @property
    def path(self) -> Path:
        return self.video.path

    @property
    def files(self) -> list[Path]:
        return self.video.files

    @property
    def size(self) -> tuple[int, int]:
        return self.video.size

    @property
    def fps(self) -> float:
        return self.video.fps

    @property
    def times(self) -> dict[str, Fraction]:
        return self.video.times

    @property
    def pixel_aspect(self) -> Fraction:
        return self.video.pixel_aspect

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        yield from islice(self.video.frames(), self.num_frames)


class ImmediateWriter:
    """A BackgroundWriter without a thread: what is submitted is done at once."""

    def __init__(self, depth: int = 8):
        pass

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)

    def __enter__(self) -> "ImmediateWriter":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def run_inference(tracker: VITATracker, video: VideoStart, config: RunConfig) -> None:
    """What the command does for one video, into a folder that is removed."""
    with TemporaryDirectory() as name, redirect_stdout(io.StringIO()):
        process_videos(tracker, [video], None, Path(name), config)


@contextmanager
def parts_of(tracker: VITATracker, network: nn.Module, phases: Phases) -> Iterator[None]:
    """Within the block, there are no threads and the parts of inference are told apart."""

    def read(items: Iterable[Item], depth: int = 4) -> Iterator[Item]:
        items = iter(items)
        while True:
            with phases.part(READ):
                item = next(items, None)
            if item is None:
                return
            yield item

    with ExitStack() as stack:
        stack.enter_context(patch.object(process, "prefetch", read))
        stack.enter_context(patch.object(loop, "BackgroundWriter", ImmediateWriter))
        for owner, attribute, name in (
            (inference, "resize_frames", "resize, normalise"),
            (inference, "normalise", "resize, normalise"),
            (network, "forward", NETWORK),
            (inference, "suppress", "suppress, GlobalTracker"),
            (tracker.global_tracker, "update", "suppress, GlobalTracker"),
            (inference, "full_size_probs", "masks to full size"),
            (inference, "above", "masks above the threshold"),
            (tracker, "_tracks", "label map"),
            (output, "write_label_map", "write label map"),
            (output, "draw_overlay", "draw overlay"),
            (OverlayWriter, "add", "encode overlay"),
            (spool, "track_rows", "encode masks"),
            (ResultsSpool, "add_frame", "spool"),
        ):
            stack.enter_context(phases.inside(owner, attribute, name))
        yield


def make_tracker(args: argparse.Namespace, device: torch.device) -> tuple[VITATracker, nn.Module]:
    """The tracker, and the network that it runs."""
    config = config_from_args(VITATracker.Config, args)
    if args.checkpoint:
        network, _ = load_network(args.checkpoint, "vita_tcovis")
    else:
        network = VITA_TCOVIS(config_from_args(VITA_TCOVIS.Config, args)).eval()
    network = network.to(device)
    if args.compile:
        network.forward = torch.compile(network.forward)
    tracked = network if args.checkpoint else ConfidentNetwork(network, args.objects)
    return VITATracker(tracked, config), network


def measure(
    tracker: VITATracker, network: nn.Module, video: VideoStart, config: RunConfig, rounds: int
) -> Phases:
    """Times of a video by the bare network, as a whole and in parts, after a run that tells its frames."""
    inputs_of_network: list[Tensor] = []
    device = next(network.parameters()).device
    watch = network.register_forward_pre_hook(lambda _, inputs: inputs_of_network.append(inputs[0]))
    run_inference(tracker, video, config)
    watch.remove()
    phases = Phases(device)
    for _ in range(rounds):
        phases.begin()
        with phases.part(BARE), torch.inference_mode(), autocast(device, config.amp):
            for frames in inputs_of_network:
                network(frames)
        with phases.part(WHOLE):
            run_inference(tracker, video, config)
        with parts_of(tracker, network, phases), phases.part("besides"):
            run_inference(tracker, video, config)
    for parts in phases.rounds:
        for milliseconds in parts.values():
            milliseconds /= len(inputs_of_network)  # in place
    return phases


def report(phases: Phases) -> None:
    """Print the table and the ratios; ends the program with status 1 where the aim is missed."""
    times = phases.medians()
    bare, whole = times.pop(BARE), times.pop(WHOLE)
    times["besides"] = times.pop("besides")  # at the end
    alone = sum(times.values())
    rows = {BARE: bare, WHOLE: whole, "without its threads": alone}
    print_parts(rows | {f"  {name}": spent for name, spent in times.items()}, alone)
    speeds = f"{1000 / bare[0]:.3g} and {1000 / whole[0]:.3g} frames/s"
    print(f"{speeds}, peak memory {peak_memory(phases.device):.0f} MiB")
    wall, cpu = alone - times[NETWORK]
    print(f"all but the network: {wall:.1f} ms a frame without overlap, {cpu:.1f} ms of CPU time\n")
    judge([Aim(f"speed of {WHOLE} / {BARE}", bare[0] / whole[0], AIM, at_least=True)])


def parse_args() -> argparse.Namespace:
    parser = Parser(prog="benchmarks.inference", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkpoint", type=Path, help="a .pth file that main.py wrote (default: random weights)"
    )
    parser.add_argument("--video_root", type=Path, help="a video, or a folder of which the first counts")
    parser.add_argument("--frames", type=int, default=6, help="of the video that are timed")
    parser.add_argument(
        "--rounds", type=int, default=2, help="of which medians are taken, after one to warm up"
    )
    parser.add_argument("--objects", type=int, default=5, help="that the random network is sure of")
    parser.add_argument("--amp", default="off", choices=tuple(AMP), help="mixed precision of the network")
    parser.add_argument("--compile", action="store_true", help="compile the network with torch.compile")
    add_machine_flags(parser)
    add_config_flags(parser, VITA_TCOVIS.Config, "network, without a checkpoint")
    add_config_flags(parser, VITATracker.Config, "tracker")
    args = parser.parse_args()
    for name in ("frames", "rounds", "objects"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)} is too small: at least 1")
    if not args.checkpoint and args.objects > args.num_tokens:
        raise UserError(f"--objects {args.objects} is too large: at most --num_tokens {args.num_tokens}")
    return args


def main() -> None:
    args = parse_args()
    device = set_up(args.device, args.threads)
    tracker, network = make_tracker(args, device)
    config = RunConfig(device=args.device, amp=args.amp, overlays=available("av"))
    with TemporaryDirectory() as folder:
        if not args.video_root:
            write_video(Path(folder), "0", args.frames)
        video = find_videos(args.video_root or folder)[0]
        _, frame = next(video.frames())
        title = f"{args.frames} frames of {frame.shape[-1]}x{frame.shape[-2]}, --image_size {args.image_size}"
        title = f"{title}, {network.config.backbone}, amp {args.amp}{', compiled' * args.compile}"
        objects = "" if args.checkpoint else f", {args.objects} objects"
        print(f"{video.name}: {title}{objects}{'' if config.overlays else '; no overlay: av is missing'}\n")
        report(measure(tracker, network, VideoStart(video, args.frames), config, args.rounds))


if __name__ == "__main__":
    run_command(main)
