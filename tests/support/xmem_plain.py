"""XMem on a video as the specification says it, written plainly: nothing shared, nothing in place.

Every object has a memory of its own, a list of elements of which each knows from which frame it is; keys,
values and counters of an element are one record, so that nothing can be misaligned.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from common.types import Prompt
from systems.stcn.modules import others_of
from systems.xmem.modules import KeyFeatures, XMem
from systems.xmem.tracker import XMemTracker
from video.masks import pad_around, soft_aggregate
from video.transforms import normalise


@dataclass
class Element:
    """One cell of a remembered frame, or a prototype: (C,) key and selection, (V,) value."""

    key: Tensor
    shrinkage: Tensor
    selection: Tensor
    value: Tensor
    frame: int
    use: float = 0.0
    life: float = 1e-7

    @property
    def usage(self) -> float:
        return self.use / self.life


def plain_similarity(elements: list[Element], query: Tensor, selection: Tensor) -> Tensor:
    """(S, L) in float64: shrinkage times the squared distances that the queries (C, L) select."""
    keys = torch.stack([e.key for e in elements]).double()[:, :, None]
    shrinkage = torch.stack([e.shrinkage for e in elements]).double()  # (S, 1)
    distance = (selection.double() * (keys - query.double()).square()).sum(1)
    return -shrinkage * distance / keys.shape[1] ** 0.5


class PlainMemory:
    """The memory of one object."""

    def __init__(self, config: XMemTracker.Config):
        self.config = config
        self.working: list[Element] = []
        self.long_term: list[Element] = []

    def read(self, query: Tensor, selection: Tensor) -> Tensor:
        """(V, L)."""
        elements = self.long_term + self.working
        similarity = plain_similarity(elements, query, selection)
        best = similarity.topk(min(self.config.top_k, len(elements)), dim=0)
        affinity = torch.zeros_like(similarity).scatter(0, best.indices, best.values.softmax(0))
        for element, read in zip(elements, affinity.sum(1).tolist(), strict=True):
            element.use, element.life = element.use + read, element.life + 1
        return torch.stack([e.value for e in elements]).double().T @ affinity

    def add(self, frame: list[Element]) -> None:
        config, cells = self.config, len(frame)
        self.working += frame
        if config.no_long_term or len(self.working) < config.max_mid_term_frames * cells:
            return
        surplus = len(self.long_term) - (config.max_long_term_elements - config.num_prototypes)
        if surplus > 0:
            worth = [e.usage if config.enable_long_term_count_usage else -e.life for e in self.long_term]
            threshold = sorted(worth)[surplus - 1]
            self.long_term = [e for e, w in zip(self.long_term, worth, strict=True) if w > threshold]
        last = len(self.working) - (config.min_mid_term_frames - 1) * cells
        candidates = self.working[cells:last]
        self.working = self.working[:cells] + self.working[last:]
        ranked = sorted(candidates, key=lambda e: -e.usage)[: config.num_prototypes]
        for chosen in ranked:
            weights = plain_similarity(candidates, chosen.key[:, None], chosen.selection[:, None]).softmax(0)
            mixed = [
                (weights * torch.stack([getattr(e, name) for e in candidates]).double()).sum(0).float()
                for name in ("value", "shrinkage")
            ]
            new = replace(chosen, value=mixed[0], shrinkage=mixed[1], use=0.0, life=1e-7)
            self.long_term.append(new)


@torch.no_grad()
def plain_program(
    network: XMem, frames: Tensor, prompts: dict[int, Prompt], config: XMemTracker.Config
) -> tuple[list[Tensor], dict[int, PlainMemory]]:
    """The (K + 1, H, W) probabilities of every frame from the first prompt on, and the memories by id."""
    memory: dict[int, PlainMemory] = {}
    hidden: dict[int, Tensor] = {}  # (D, h, w)
    last_mem, last_deep, time, outputs = 0, -config.deep_update_every, -1, []
    synchronised = config.deep_update_every < 0
    for t, frame in enumerate(frames):
        new = prompts[t].ids if t in prompts else []
        if not memory and not new:
            continue
        time += 1
        remembered = bool(new) or time - last_mem >= config.mem_every
        deep = remembered if synchronised else time - last_deep >= config.deep_update_every
        image, window = pad_around(normalise(frame)[None], 16)
        f: KeyFeatures = network.encode_key(image)
        known, probs = list(memory), []
        if set(known) - set(new):
            for i in known:
                readout = memory[i].read(f.key[0].flatten(1), f.selection[0].flatten(1)).float()
                readout = readout.view(1, 1, -1, *f.key.shape[-2:])
                logits, renewed = network.decode(readout, hidden[i][None, None], f)
                probs.append(logits[0, 0].sigmoid())
                if not (synchronised and deep):
                    hidden[i] = renewed[0, 0]
            aggregated = soft_aggregate(torch.stack(probs)[None])[0].softmax(0)
        else:
            aggregated = torch.zeros(len(known) + 1, *image.shape[-2:])
        if new:
            given = pad_around(torch.stack([prompts[t].labels == i for i in new]).float(), 16)[0]
            objects = {i: aggregated[1 + k] * ~given.any(0) for k, i in enumerate(known)}
            objects |= dict(zip(new, given, strict=True))
            for i in new:
                memory.setdefault(i, PlainMemory(config))
                hidden.setdefault(i, torch.zeros(network.config.hidden_dim, *f.key.shape[-2:]))
            aggregated = soft_aggregate(torch.stack([objects[i] for i in memory])[None])[0].softmax(0)
        if remembered:
            last_mem = time
            masks = aggregated[1:][None]
            values = network.encode_value(image, f.f16, masks, others_of(masks))[0]
            for i, value in zip(memory, values, strict=True):
                rows = zip(*(x[0].flatten(1).T for x in f[:3]), value.flatten(1).T, strict=True)
                memory[i].add([Element(*row, frame=t) for row in rows])
            if deep:
                last_deep = time
                for i, value in zip(memory, values, strict=True):
                    hidden[i] = network.deep_update(value[None, None], hidden[i][None, None])[0, 0]
        outputs.append(aggregated[(..., *window)])
    return outputs, memory
