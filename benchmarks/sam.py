"""SAM for tracking: attention against its plain form, more objects in a frame, embeddings from disk.

python -m benchmarks.sam
python -m benchmarks.sam --device cuda --amp bf16

Three tables, of a network with random weights of the sizes that the network's flags give; the default is
SAM's vit_b at 1024 pixels. First, the image encoder with the attention of systems/sam_track/attention.py
and with the plain one, which adds a bias of tokens x tokens; on a CPU each runs in a process of its own,
whose peak of resident memory tells the extra memory. That both are the same is judged of each attention:
the largest difference of the two forms on the same input, relative to the largest value. Through all blocks
the rounding of either form adds up; a pass in float64 tells how far each is from the truth. Second, a step
of the tracker with 1 and with 5 objects. Third, an epoch of training with a frozen encoder, which computes
its embeddings, and the next, which finds them on disk. The program ends with exit status 1 where an aim is
missed.
"""

import argparse
import multiprocessing
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeVar
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measuring import Aim, Phases, add_machine_flags, counted, judge, set_up
from benchmarks.vos import bands, draw_frames
from common.config import Parser, add_config_flags, config_from_args
from common.device import AMP, autocast, peak_memory
from common.errors import UserError, run_command
from systems.sam_track import attention
from systems.sam_track.embedding_cache import EmbeddingCache
from systems.sam_track.image_encoder import ImageEncoder
from systems.sam_track.modules import SAMTrack, Templates
from systems.sam_track.tracker import SAMTracker
from video.transforms import normalise

Result = TypeVar("Result")
Form = Callable[
    [Tensor, Tensor, Tensor, Tensor, Tensor], Tensor
]  # of attention, as `attention.grid_attention`
OURS, PLAIN = "lengthened queries and keys", "plain"
MEMORY_AIM, SPEED_AIM, ERROR_AIM = 0.5, 1.0, 1e-6
OBJECTS, OBJECTS_AIM = (1, 5), 2.0  # five objects are to cost less than twice as much as one
CACHE_AIM = 2.0  # an epoch without the embeddings, over one with them


def plain_attention(q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor) -> Tensor:
    """`attention.grid_attention` as it is written down: all logits, and a bias for each of them."""
    M, h, w, e = q.shape
    rows, columns = attention.bias_terms(q, table_h, table_w)
    logits = (q.flatten(1, 2) * e**-0.5) @ k.flatten(1, 2).transpose(1, 2)  # (M, h*w, h*w)
    logits = logits.view(M, h, w, h, w) + rows[..., None] + columns[..., None, :]
    return (logits.view(M, h * w, h * w).softmax(-1) @ v.flatten(1, 2)).view(M, h, w, e)


class Encoded(NamedTuple):
    """What one form of the encoder took: (wall, CPU) milliseconds, MiB beside what was there, its output."""

    milliseconds: np.ndarray
    extra: float
    embedding: np.ndarray


def run_encoder(encoder: ImageEncoder, images: Tensor, form: Form, amp: str) -> Encoded:
    """The second of two passes is timed, because the first touches new memory."""
    device = images.device
    before = resident(device)
    phases = Phases(device)
    with patch.object(attention, "grid_attention", form), torch.inference_mode():
        for _ in range(2):
            phases.begin()
            with phases.part("encoder"), autocast(device, amp):
                embedding = encoder(images)
    taken = phases.rounds[-1]["encoder"]
    return Encoded(taken, peak_memory(device) - before, embedding.double().cpu().numpy())


def run_precisely(encoder: ImageEncoder, images: Tensor) -> np.ndarray:
    """The plain form's embedding in float64."""
    with patch.object(attention, "grid_attention", plain_attention), torch.inference_mode():
        return deepcopy(encoder).double()(images.double()).cpu().numpy()


def error_of(result: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.abs(result - expected).max() / np.abs(expected).max())


def attention_errors(encoder: ImageEncoder, images: Tensor) -> list[float]:
    """The error of each block's attention against the plain form on the same input."""
    errors = []

    def compare(module: nn.Module, inputs: tuple[Tensor], result: Tensor) -> None:
        with patch.object(attention, "grid_attention", plain_attention):
            errors.append(error_of(result.cpu().numpy(), module.forward(*inputs).cpu().numpy()))

    hooks = [block.attn.register_forward_hook(compare) for block in encoder.blocks]
    with torch.inference_mode():
        encoder(images)
    for hook in hooks:
        hook.remove()
    return errors


def resident(device: torch.device) -> float:
    """MiB that are taken now; on a GPU its peak begins anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**20
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def apart(function: Callable[..., Result], *args: object) -> Result:
    """The result of a function that a process of its own computes, so that its peak of memory is its own."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(function(*args)))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def here(function: Callable[..., Result], *args: object) -> Result:
    return function(*args)


def report_encoder(network: SAMTrack, args: argparse.Namespace, device: torch.device) -> list[Aim]:
    side, encoder = network.config.image_size, network.image_encoder
    images = torch.randn(1, 3, side, side, device=device)
    run = apart if device.type == "cpu" else here
    print(f"\nimage encoder, {side} pixels{'':18}wall ms      CPU ms   extra MiB")
    results: dict[str, Encoded] = {}
    for name, form in ((OURS, attention.grid_attention), (PLAIN, plain_attention)):
        results[name] = run(run_encoder, encoder, images, form, args.amp)
        wall, cpu = results[name].milliseconds
        print(f"{name:36}{wall:12.0f}{cpu:12.0f}{results[name].extra:12.0f}", flush=True)
    ours, plain = results[OURS], results[PLAIN]
    time = counted(ours.milliseconds) / counted(plain.milliseconds)
    aims = [
        Aim("extra memory / that of the plain form", ours.extra / plain.extra, MEMORY_AIM),
        Aim("time / that of the plain form", time, SPEED_AIM),
    ]
    print(
        f"embeddings: largest difference {error_of(ours.embedding, plain.embedding):.1e} of the largest value"
    )
    if args.amp == "off":
        truth = run(run_precisely, encoder, images)
        print(
            "of that in float64: "
            + ", ".join(f"{n} {error_of(x.embedding, truth):.1e}" for n, x in results.items())
        )
        errors = run(attention_errors, encoder, images)
        print("each block's attention: " + " ".join(f"{error:.1e}" for error in errors))
        aims.append(Aim("largest error of an attention, in 1e-6", max(errors) / ERROR_AIM, 1.0))
    return aims


def report_objects(network: SAMTrack, args: argparse.Namespace, device: torch.device) -> list[Aim]:
    tracker = SAMTracker(network, SAMTracker.Config(gate=0.0))
    frames = list(draw_frames(tuple(args.size), args.frames + 1))
    print(f"\na frame of {args.size[1]}x{args.size[0]}, objects{'':6}wall ms      CPU ms  encoder CPU")
    means = {}
    for objects in OBJECTS:
        tracker.reset()
        phases = Phases(device)
        with phases.inside(network, "encode", "encoder"), autocast(device, args.amp):
            for t, frame in enumerate(frames):
                phases.begin()
                with phases.part("besides"):
                    tracker.step(frame, None if t else bands(tuple(args.size), objects))
        rounds = [(sum(parts.values()), parts["encoder"]) for parts in phases.rounds[1:]]
        means[objects], encoder = (np.mean(x, axis=0) for x in zip(*rounds, strict=True))
        print(f"{objects:27}{means[objects][0]:12.0f}{means[objects][1]:12.0f}{encoder[1]:13.0f}", flush=True)
    one, five = (counted(means[objects]) for objects in OBJECTS)
    return [Aim("5 objects / 1 object", five / one, OBJECTS_AIM)]


def report_cache(network: SAMTrack, args: argparse.Namespace, device: torch.device) -> list[Aim]:
    """Forward and backward of pairs whose embeddings are computed and kept, and again of the same."""
    H, W = args.size
    masks = torch.zeros(1, 1, H, W, dtype=torch.bool, device=device)
    masks[..., : H // 2, : W // 2] = True
    videos = [normalise(torch.stack(list(draw_frames((H, W), 2)))).to(device) for _ in range(args.pairs)]
    phases = Phases(device)
    print(f"\nan epoch of {args.pairs} pairs{'':20}wall ms      CPU ms")
    with TemporaryDirectory() as folder:
        network.cache = EmbeddingCache(folder, 1.0, network.config.cache_type)
        for name in ("embeddings are computed", "embeddings are on disk"):
            phases.begin()
            with phases.part(name), autocast(device, args.amp):
                for number, frames in enumerate(videos):
                    prompt = Templates(masks, [(H, W)], [[f"{number} template", f"{number} image"]])
                    network(frames[None], prompt)["probs"].mean().backward()
            wall, cpu = phases.rounds[-1][name]
            print(f"{name:36}{wall:12.0f}{cpu:12.0f}", flush=True)
        network.cache = None
    first, second = (counted(taken) for taken in phases.medians().values())
    return [Aim("an epoch without / with the embeddings", first / second, CACHE_AIM, True)]


def parse_args() -> argparse.Namespace:
    parser = Parser(prog="benchmarks.sam", description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=[480, 854], help="height and width of frames")
    parser.add_argument("--frames", type=int, default=1, help="that are timed, after the first")
    parser.add_argument("--pairs", type=int, default=1, help="of an epoch")
    parser.add_argument("--amp", default="off", choices=tuple(AMP), help="mixed precision of the network")
    parser.add_argument(
        "--parts", nargs="+", default=["encoder", "objects", "cache"], choices=list(PARTS), help="the tables"
    )
    add_machine_flags(parser)
    add_config_flags(parser, SAMTrack.Config, "network")
    args = parser.parse_args()
    for name in ("frames", "pairs"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)} is too small: at least 1")
    return args


PARTS = {"encoder": report_encoder, "objects": report_objects, "cache": report_cache}


def main() -> None:
    args = parse_args()
    device = set_up(args.device, args.threads)
    config = config_from_args(SAMTrack.Config, args)
    network = SAMTrack(config).to(device).eval()
    for name, weight in network.image_encoder.named_parameters():
        if "rel_pos" in name:  # zero before training
            torch.nn.init.normal_(weight, std=0.1)
    aims = [aim for part in args.parts for aim in PARTS[part](network, args, device)]
    print()
    judge(aims)


if __name__ == "__main__":
    run_command(main)
