"""Working and long-term memory of objects that started together: bounded, preallocated, written in place.

Cheng and Schwing 2022, section 3.3. Recent frames are whole in the working memory. Where that is full, the
elements of all but its first and its latest frames are consolidated: those that were read most become
prototypes, whose values are gathered from all of them (potentiation), and go to the long-term memory. Where
that is full, what was read least is forgotten.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.device import in_float32, on_device
from common.errors import UserError
from configs.xmem import MemoryConfig
from systems.stcn.affinity import (
    anisotropic_memory_terms,
    anisotropic_query_terms,
    keys_of_terms,
    read_sparse,
    similarity,
    top_k_affinity,
)
from systems.stcn.memory import FIRST_ROOM, chosen_values

NEW_LIFE = 1e-7  # of an element that was never read, so that its usage is 0, as published


class Elements(NamedTuple):
    """Rows of a memory.

    terms: (S, 2 C + 1) the memory's side of the anisotropic similarity
    selection: (S, C), not used in the long-term memory
    values: (S, V)
    use: (S,) the sum of the affinities of all cells that read it; life: (S,) how often it could be read
    """

    terms: Tensor
    selection: Tensor
    values: Tensor
    use: Tensor
    life: Tensor

    @classmethod
    def unread(cls, terms: Tensor, selection: Tensor, values: Tensor) -> "Elements":
        use = terms.new_zeros(len(terms))
        return cls(terms, selection, values, use, torch.full_like(use, NEW_LIFE))

    @property
    def usage(self) -> Tensor:
        """(S,) how much each was read, on average over the frames since it came."""
        return self.use / self.life

    def rows(self, rows: slice | Tensor) -> "Elements":
        return Elements(*(x[rows] for x in self))

    def copied(self) -> "Elements":
        return Elements(*(x.clone() for x in self))

    def write(self, start: int, rows: "Elements") -> None:
        for buffer, values in zip(self, rows, strict=True):
            buffer[start : start + len(values)] = values

    def room(self, size: int) -> "Elements":
        """Space for so many rows like these."""
        return Elements(*(x.new_zeros(size, *x.shape[1:]) for x in self))


def prototypes_of(candidates: Elements, number: int) -> Elements:
    """The `number` candidates that were read most, or all of fewer, with values and shrinkage gathered from
    all candidates that are like them: each prototype asks as a query, in a softmax over the candidates.
    """
    usage = candidates.usage
    chosen = usage.topk(min(number, len(usage))).indices
    keys, shrinkage = keys_of_terms(candidates.terms)  # (C, S), (1, S)
    keys, selection = keys[:, chosen], candidates.selection[chosen]
    with in_float32(keys.device):
        affinity = similarity(anisotropic_query_terms(keys, selection.T), candidates.terms).softmax(1)
        values = affinity.to(candidates.values.dtype) @ candidates.values  # (P, S) of (S, V)
        shrinkage = shrinkage @ affinity.T
    return Elements.unread(anisotropic_memory_terms(keys, shrinkage), selection, values)


class MemoryBank:
    """The memory of a group of objects: prototypes in any order, then whole frames in theirs.

    All are rows of one buffer, `start` to `middle` and `middle` to `stop`, so that one product reads them.
    """

    Config = MemoryConfig

    def __init__(self, config: Config):
        if config.min_mid_term_frames >= config.max_mid_term_frames:
            limit = f"--max_mid_term_frames {config.max_mid_term_frames}"
            raise UserError(f"--min_mid_term_frames {config.min_mid_term_frames} must be less than {limit}")
        if config.num_prototypes > config.max_long_term_elements:
            limit = f"--max_long_term_elements {config.max_long_term_elements}"
            raise UserError(f"--num_prototypes {config.num_prototypes} must be at most {limit}")
        self.config = config
        self.buffer: Elements | None = None
        self.start = self.middle = self.stop = 0

    @property
    def num_working(self) -> int:
        """Elements of the working memory."""
        return self.stop - self.middle

    @property
    def num_long_term(self) -> int:
        """Elements of the long-term memory."""
        return self.middle - self.start

    @property
    def elements(self) -> Elements:
        """A view of all elements."""
        return self.buffer.rows(slice(self.start, self.stop))

    def add(self, terms: Tensor, selection: Tensor, values: Tensor) -> None:
        """Take a frame of L cells: terms (L, 2 C + 1), selection (L, C) and values (L, V)."""
        frame, cells = Elements.unread(terms, selection, values), len(terms)
        self._make_room(frame)
        self.buffer.write(self.stop, frame)
        self.stop += cells
        if not self.config.no_long_term and self.num_working >= self.config.max_mid_term_frames * cells:
            self._consolidate(cells)

    def read(self, query: Tensor, top_k: int) -> Tensor:
        """What L cells read, (L, V), with query terms (L, 2 C + 1): their `top_k` most similar elements."""
        elements = self.elements
        affinity = top_k_affinity(query, elements.terms, top_k)
        if not self.config.no_long_term:
            elements.use.add_(affinity.usage(len(elements.use)))
            elements.life.add_(1)
        return read_sparse(elements.values, affinity)

    def keep(self, objects: list[int], among: int) -> None:
        """Keep the values of these objects, by their places among so many, and no other's."""
        self.buffer = self.buffer._replace(values=chosen_values(self.buffer.values, objects, among))

    def state_dict(self) -> dict[str, Any]:
        return {"long_term": self.num_long_term, "elements": self.elements.copied()._asdict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.buffer = Elements(**state["elements"]).copied()
        self.start, self.middle, self.stop = 0, state["long_term"], len(self.buffer.use)

    def _make_room(self, frame: Elements) -> None:
        """See to it that a further frame fits: a bounded working memory has all its room from the start."""
        cells = len(frame.use)
        if self.buffer is not None and self.stop + cells <= len(self.buffer.use):
            return
        if self.config.no_long_term:
            working = max(FIRST_ROOM * cells, 2 * self.num_working)
        else:
            working = self.config.max_mid_term_frames * cells
        self._move(frame.room(self.middle + working), self.middle)

    def _move(self, room: Elements, middle: int) -> None:
        """Bring all elements into a new buffer, in which the working memory starts at `middle`."""
        start, stop = middle - self.num_long_term, middle + self.num_working
        if self.buffer is not None:
            room.write(start, self.elements)
        self.buffer, self.start, self.middle, self.stop = room, start, middle, stop

    def _consolidate(self, cells: int) -> None:
        """Replace all frames but the first and the last min_mid_term_frames - 1 by prototypes."""
        most = self.config.max_long_term_elements
        if self.middle < most:  # the first time: room for the whole long-term memory
            working = self.config.max_mid_term_frames * cells
            self._move(self.buffer.room(most + working), most)
        self._forget(most - self.config.num_prototypes)
        first = self.middle + cells
        last = self.stop - (self.config.min_mid_term_frames - 1) * cells
        prototypes = prototypes_of(self.buffer.rows(slice(first, last)), self.config.num_prototypes)
        kept = self.buffer.rows(slice(last, self.stop)).copied()  # what it is moved over may be itself
        self.buffer.write(first, kept)
        self.stop = first + len(kept.use)
        self.start -= len(prototypes.use)
        self.buffer.write(self.start, prototypes)

    def _forget(self, target: int) -> None:
        """Leave at most `target` elements in the long-term memory.

        Of several that are equal to the last that must go, all go, as published. The front of the buffer is
        given up: only what stays of it is moved, into the gaps behind, however large the memory is.
        """
        surplus = self.num_long_term - target
        if surplus <= 0:
            return
        long_term = self.buffer.rows(slice(self.start, self.middle))
        worth = long_term.usage if self.config.enable_long_term_count_usage else -long_term.life
        leaving = (~(worth > worth.kthvalue(surplus).values)).cpu()
        number = int(leaving.sum())
        staying = on_device((~leaving[:number]).nonzero()[:, 0], worth.device)
        gaps = on_device(leaving[number:].nonzero()[:, 0] + number, worth.device)
        for rows in long_term:
            rows[gaps] = rows[staying]
        self.start += number
