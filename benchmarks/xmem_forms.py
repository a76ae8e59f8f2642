"""Each of the exact rewritings of XMem's inference against the plain form, in turns: part of benchmarks.vos.

The forms: the anisotropic similarity as one product, and in passes; top-k with a readout of the few rows
that count, and a dense product with all rows; the frame's share of a fusion block computed once, and
with every object; memory written in place, and concatenated anew for every frame. Then the whole frame with
all of them, and with none.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measuring import Aim, Phases, counted, print_parts
from common.types import Prompt
from systems.stcn import blocks
from systems.stcn.affinity import (
    anisotropic_memory_terms,
    anisotropic_query_terms,
    keys_of_terms,
    read_sparse,
    top_k_affinity,
)
from systems.xmem.memory import MemoryBank
from systems.xmem.modules import XMem
from systems.xmem.tracker import XMemTracker

READ_AIM, FRAME_AIM, ERROR_AIM = 5.0, 0.6, 1e-4
PLAIN, OURS = "plain", "ours"


def plain_similarity(keys: Tensor, shrinkage: Tensor, query: Tensor, selection: Tensor) -> Tensor:
    """Keys (C, S), shrinkage (1, S), query and selection (C, L) to (S, L), in passes."""
    squares = keys.square().T @ selection
    products = 2 * (keys.T @ (query * selection))
    lengths = (selection * query.square()).sum(0, keepdim=True)
    return (-squares + products - lengths) * shrinkage.T / keys.shape[0] ** 0.5


def plain_read(
    keys: Tensor, shrinkage: Tensor, values: Tensor, query: Tensor, selection: Tensor, top_k: int
) -> tuple[Tensor, Tensor]:
    """What is read of values (V, S), (V, L), and the usage (S,): with all similarities, and all rows."""
    similarity = plain_similarity(keys, shrinkage, query, selection)
    best = similarity.topk(min(top_k, len(similarity)), dim=0)
    affinity = torch.zeros_like(similarity).scatter_(0, best.indices, best.values.softmax(0))
    return values @ affinity, affinity.sum(1)


class PlainBank(MemoryBank):
    """The same memory, read in the plain form from tensors that are concatenated anew for every read."""

    def read(self, query: Tensor, top_k: int) -> Tensor:
        C = query.shape[1] // 2
        selection = -query[:, :C].T * C**0.5
        asked = query[:, C : 2 * C].T * C**0.5 / (2 * selection)
        spans = slice(self.start, self.middle), slice(self.middle, self.stop)
        parts = [self.buffer.rows(span) for span in spans]
        keys, shrinkage = keys_of_terms(torch.cat([part.terms for part in parts]))
        values = torch.cat([part.values for part in parts]).T
        readout, usage = plain_read(keys, shrinkage, values, asked, selection, top_k)
        self.elements.use.add_(usage)
        self.elements.life.add_(1)
        return readout.T


def plain_joined(conv: blocks.JoinedConv2d, objects: Tensor, frame: Tensor) -> Tensor:
    """The convolution of the frame's features with each object's."""
    B, K = objects.shape[:2]
    frame = frame.expand(-1, K, -1, -1, -1)
    joined = torch.cat([frame, objects] if conv.frame_first else [objects, frame], 2).flatten(0, 1)
    return F.conv2d(joined, conv.weight, conv.bias, conv.stride, conv.padding).unflatten(0, (B, K))


@contextmanager
def plain_forms() -> Iterator[None]:
    """Within the block a tracker that is reset uses the plain forms."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(blocks.JoinedConv2d, "forward", plain_joined))
        stack.enter_context(
            patch.object(XMemTracker, "_make_bank", lambda tracker: PlainBank(tracker.config))
        )
        yield


def compare(
    name: str, ours: Callable[[], Tensor], plain: Callable[[], Tensor], rounds: int, device: torch.device
) -> tuple[Phases, float]:
    """Times of both, in turns, after one round that is not counted, and their largest difference."""
    phases, difference = Phases(device), 0.0
    for _ in range(rounds + 1):
        phases.begin()
        with phases.part(f"{name}, {OURS}"):
            result = ours()
        with phases.part(f"{name}, {PLAIN}"):
            expected = plain()
        difference = max(difference, float((result - expected).abs().max()))
    del phases.rounds[0]
    return phases, difference


def ratio_of(phases: Phases) -> float:
    """How many times as long the plain form takes."""
    ours, plain = phases.medians().values()
    return counted(plain) / counted(ours)


def forms(
    args: argparse.Namespace, network: XMem, device: torch.device
) -> dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]]:
    """Each form as ours computes it and as the plain one does, of random tensors."""
    h, w = (-(-side // 16) for side in args.size)
    C, K, S = args.key_dim, args.memory_objects, h * w * args.memory_frames
    conv, width = network.decoder.fuser.block1.conv1, args.value_dim + args.hidden_dim
    with device:
        keys, query, selection = torch.randn(C, S), torch.randn(C, h * w), torch.rand(C, h * w)
        shrinkage, values = 1 + torch.rand(1, S), torch.randn(S, args.value_dim * K)
        frame = torch.randn(1, 1, conv.in_channels - width, h, w)
        objects = torch.randn(1, K, width, h, w)
    terms, columns = anisotropic_memory_terms(keys, shrinkage), values.T.contiguous()
    top_k, half = args.top_k, S // 2

    def read() -> Tensor:
        return read_sparse(values, top_k_affinity(anisotropic_query_terms(query, selection), terms, top_k)).T

    def read_plain() -> Tensor:
        parts = keys[:, :half], keys[:, half:], columns[:, :half], columns[:, half:]
        joined = torch.cat(parts[:2], 1), torch.cat(parts[2:], 1)  # long-term and working memory
        return plain_read(joined[0], shrinkage, joined[1], query, selection, top_k)[0]

    return {
        "similarity": (
            lambda: (anisotropic_query_terms(query, selection) @ terms.T).T,
            lambda: plain_similarity(keys, shrinkage, query, selection),
        ),
        "full read": (read, read_plain),
        "fusion convolution": (lambda: conv(objects, frame), lambda: plain_joined(conv, objects, frame)),
    }


@torch.inference_mode()
def measure_parts(args: argparse.Namespace, network: XMem, device: torch.device) -> list[Aim]:
    """Print the times of each form; the aims of the read."""
    aims = []
    for name, (ours, plain) in forms(args, network, device).items():
        phases, difference = compare(name, ours, plain, args.rounds, device)
        parts = phases.medians()
        print_parts(parts, list(parts.values())[1])
        aims.append(Aim(f"{name}: largest difference, in 1e-4", difference / ERROR_AIM, 1.0))
        if name == "full read":
            aims.append(Aim("speed of a full read / the plain form", ratio_of(phases), READ_AIM, True))
    return aims


def measure_frame(
    args: argparse.Namespace, network: XMem, frames: list[Tensor], prompt: Prompt, device: torch.device
) -> list[Aim]:
    """The time of whole frames, their memory filled before, against the same without any of the forms."""
    phases = Phases(device)
    options = {"mem_every": args.mem_every, "top_k": args.top_k, "short_side": -1}
    config = XMemTracker.Config(**options, max_mid_term_frames=max(10, args.memory_frames + 1))
    ours, plain = XMemTracker(network, config), XMemTracker(network, config)
    for t, frame in enumerate(frames):
        phases.begin()
        with phases.part(f"whole frame, {OURS}"):
            tracks = ours.step(frame, None if t else prompt)
        with plain_forms(), phases.part(f"whole frame, {PLAIN}"):
            expected = plain.step(frame, None if t else prompt)
        if t == 0:
            _fill(ours, args.memory_frames - 1)
            _fill(plain, args.memory_frames - 1)
    del phases.rounds[0]
    count = len(phases.rounds)  # a mean, because one frame in some is remembered and costs more
    sums = {name: sum(parts[name] for parts in phases.rounds) / count for name in phases.medians()}
    mine_ms, plain_ms = sums.values()
    print_parts(sums, plain_ms)
    difference = float((tracks.masks - expected.masks).abs().max())
    return [
        Aim("whole frame / the plain form", counted(mine_ms) / counted(plain_ms), FRAME_AIM),
        Aim("largest difference of probabilities, in 1e-4", difference / ERROR_AIM, 1.0),
    ]


@torch.inference_mode()
def _fill(tracker: XMemTracker, frames: int) -> None:
    """Add so many frames to the memory of every group: the first one, with other keys."""
    for group in tracker.groups:
        first = group.bank.elements.copied()
        keys, shrinkage = keys_of_terms(first.terms)
        for number in range(frames):
            noise = torch.randn(keys.shape, generator=torch.Generator().manual_seed(number)).to(keys.device)
            terms = anisotropic_memory_terms(keys + noise * keys.std(), shrinkage)
            group.bank.add(terms, first.selection, first.values)


def report_forms(
    args: argparse.Namespace, network: XMem, frames: list[Tensor], prompt: Prompt, device: torch.device
) -> list[Aim]:
    """The tables, and what was aimed at."""
    print(f"\nits forms against plain ones, {args.memory_frames} frames, {args.memory_objects} objects")
    aims = measure_parts(args, network, device)
    return aims + measure_frame(args, network, frames, prompt, device)
