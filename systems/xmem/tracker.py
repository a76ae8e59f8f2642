"""XMemTracker: carries the masks of a prompt through a video of any length, in bounded memory."""

from typing import Any

import torch
from torch import Tensor

from configs.xmem import TrackerConfig
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

    Config = TrackerConfig

    def __init__(self, network: XMem, config: Config):
        super().__init__(network, config)
        self._make_bank()  # which refuses what cannot be

    def reset(self) -> None:
        """Forget the video."""
        super().reset()
        self.hidden: Tensor | None = None  # (1, K, hidden_dim, h, w)
        self.decoded_hidden: Tensor | None = None  # what the decoder made of it in this frame
        self.since_deep = self.config.deep_update_every  # frames since the last deep update: one is due

    @property
    def _is_synchronised(self) -> bool:
        """Whether deep updates are those of the memory frames, in place of the decoder's."""
        return self.config.deep_update_every < 0

    def _make_bank(self) -> MemoryBank:
        return MemoryBank(self.config)

    def _propagate(self, features: KeyFeatures, *, is_memory_frame: bool) -> Tensor:
        query = anisotropic_query_terms(features.key[0].flatten(1), features.selection[0].flatten(1))
        updates_hidden = not (self._is_synchronised and is_memory_frame)
        probs, states = [], []
        for group in self.groups:
            readout = group.bank.read(query, self.config.top_k)  # (L, K * value_dim)
            readout = readout.T.unflatten(0, (1, len(group), -1))
            readout = readout.unflatten(-1, features.key.shape[-2:])
            hidden = self.hidden[:, group.slots]
            for few in zip(readout.split(OBJECTS_AT_ONCE, 1), hidden.split(OBJECTS_AT_ONCE, 1), strict=True):
                logits, state = self.network.decode(*few, features, update=updates_hidden)
                probs.append(logits.float().sigmoid())
                states.append(state)
        self.decoded_hidden = torch.cat(states, 1)
        return soft_aggregate(torch.cat(probs, 1))[0].softmax(0)

    def _remember(
        self, image: Tensor, features: KeyFeatures, probs: Tensor, *, is_memory_frame: bool
    ) -> None:
        """Renew the sensory memory; add a memory frame to the working memory.

        A memory frame has a deep update in place of the decoder's, or after it where deep updates have a
        schedule of their own, which then wait for such a frame.
        """
        is_due = self._is_synchronised or self.since_deep >= self.config.deep_update_every
        has_deep_update = is_memory_frame and is_due
        self._update_hidden(features, num_objects=len(probs) - 1, is_memory_frame=is_memory_frame)
        if is_memory_frame:
            values = self._values(image, features, probs)
            self._add(features, values)
            if has_deep_update:
                self.hidden = self.network.deep_update(values[None], self.hidden)
        self.since_memory = 0 if is_memory_frame else self.since_memory + 1
        self.since_deep = 1 if has_deep_update else self.since_deep + 1

    def _update_hidden(self, features: KeyFeatures, *, num_objects: int, is_memory_frame: bool) -> None:
        """Take over the decoder's update, unless a deep one replaces it, and let new objects join."""
        if self.hidden is None:
            self.hidden = self.network.initial_hidden(features.key, 0)
        if self.decoded_hidden is not None and not (self._is_synchronised and is_memory_frame):
            self.hidden = self.decoded_hidden
        self.decoded_hidden = None
        initial = self.network.initial_hidden(features.key, num_objects - self.hidden.shape[1])
        self.hidden = torch.cat([self.hidden, initial], 1)

    def _keep(self, slots: list[int]) -> None:
        super()._keep(slots)
        self.hidden = self.hidden[:, slots]

    def _add(self, features: KeyFeatures, values: Tensor) -> None:
        """Add a frame to the memory of every group, values (K, value_dim, h, w)."""
        key, shrinkage, selection = (x[0].flatten(1) for x in features[:3])
        terms = anisotropic_memory_terms(key, shrinkage)
        values = values.flatten(2).permute(2, 0, 1)  # (L, K, value_dim)
        for group in self.groups:
            group.bank.add(terms, selection.float().T, values[:, group.slots].flatten(1))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"hidden": self.hidden, "since_deep": self.since_deep}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.hidden, self.decoded_hidden = state["hidden"], None
        self.since_deep = state["since_deep"]
