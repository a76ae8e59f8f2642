"""XMemTracker: carries the masks of a prompt through a video of any length, in bounded memory."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.config import option
from systems.stcn.affinity import anisotropic_memory_terms, anisotropic_query_terms
from systems.stcn.tracker import OBJECTS_AT_ONCE, STCNTracker
from systems.xmem.memory import MemoryBank
from systems.xmem.modules import KeyFeatures, XMem
from video.masks import soft_aggregate


class XMemTracker(STCNTracker):
    """XMem on one video: STCN's tracker with a sensory memory and a long-term memory.

    Objects that started on the same frame have one working and one long-term memory, of frames since then, so
    that those of objects that come late are aligned with theirs and forget by their own use.
    """

    frame_mode = "bilinear"

    @dataclass(kw_only=True)
    class Config(MemoryBank.Config):
        top_k: int = option(30, "memory elements that each cell of a frame reads", least=1)
        mem_every: int = option(5, "frames from one that is remembered to the next", least=1)
        deep_update_every: int = option(
            -1,
            "least frames between deep updates of the sensory memory; -1: whenever a frame is remembered",
            least=-1,
        )
        short_side: int = option(480, "short side of the frames in the network, pixels; -1: as they are")
        flip: bool = option(False, "track the mirror image; the results are mirrored back")

    def __init__(self, network: XMem, config: Config):
        super().__init__(network, config)
        self._make_bank()  # which refuses what cannot be

    def reset(self) -> None:
        """Forget the video."""
        super().reset()
        self.hidden: Tensor | None = None  # (1, K, hidden_dim, h, w)
        self.renewed: Tensor | None = None  # what the decoder made of it in this frame
        self.since_deep = self.config.deep_update_every  # frames since the last deep update: one is due

    @property
    def _synchronised(self) -> bool:
        return self.config.deep_update_every < 0

    def _make_bank(self) -> MemoryBank:
        return MemoryBank(self.config)

    def _propagate(self, features: KeyFeatures, size: tuple[int, int], *, prompted: bool) -> Tensor:
        query = anisotropic_query_terms(features.key[0].flatten(1), features.selection[0].flatten(1))
        due = prompted or self.since + 1 >= self.config.mem_every
        probs, renewed = [], []
        for group in self.groups:
            readout = group.bank.read(query, self.config.top_k)  # (L, K * value_dim)
            readout = readout.T.unflatten(0, (1, group.stop - group.start, -1))
            readout = readout.unflatten(-1, features.key.shape[-2:])
            hidden = self.hidden[:, group.start : group.stop]
            for few in zip(readout.split(OBJECTS_AT_ONCE, 1), hidden.split(OBJECTS_AT_ONCE, 1), strict=True):
                logits, state = self.network.decode(*few, features, update=not self._synchronised or not due)
                probs.append(logits.float().sigmoid())
                renewed.append(state)
        self.renewed = torch.cat(renewed, 1)
        return soft_aggregate(torch.cat(probs, 1))[0].softmax(0)

    def _remember(self, image: Tensor, features: KeyFeatures, probs: Tensor, *, prompted: bool) -> None:
        """Renew the sensory memory; add the frame to the working memory where it is due.

        A frame that is remembered has a deep update in place of the decoder's, or after it where deep updates
        have a schedule of their own, which then wait for such a frame.
        """
        self.since += 1
        due = prompted or self.since >= self.config.mem_every
        if self.hidden is None:
            self.hidden = self.network.initial_hidden(features.key, 0)
        if self.renewed is not None and not (self._synchronised and due):
            self.hidden = self.renewed
        self.renewed = None
        new = len(probs) - 1 - self.hidden.shape[1]
        self.hidden = torch.cat([self.hidden, self.network.initial_hidden(features.key, new)], 1)
        if due:
            values = self._values(image, features, probs)
            self._add(features, values)
            self.since = 0
            if self._synchronised or self.since_deep >= self.config.deep_update_every:
                self.hidden = self.network.deep_update(values[None], self.hidden)
                self.since_deep = 0
        self.since_deep += 1

    def _keep(self, slots: list[int]) -> None:
        super()._keep(slots)
        self.hidden = self.hidden[:, slots]

    def _add(self, features: KeyFeatures, values: Tensor) -> None:
        """Add a frame to the memory of every group, values (K, value_dim, h, w)."""
        key, shrinkage, selection = (x[0].flatten(1) for x in features[:3])
        terms = anisotropic_memory_terms(key, shrinkage)
        values = values.flatten(2).permute(2, 0, 1)  # (L, K, value_dim)
        for group in self.groups:
            own = values[:, group.start : group.stop].flatten(1)
            group.bank.add(terms, selection.float().T, own)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"hidden": self.hidden, "since_deep": self.since_deep}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.hidden, self.renewed, self.since_deep = state["hidden"], None, state["since_deep"]
