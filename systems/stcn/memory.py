"""The memory of a video for objects that started together: preallocated, written in place, read sparsely."""

from typing import Any

from torch import Tensor

from systems.stcn.affinity import read_sparse, top_k_affinity

FIRST_ROOM = 8  # frames; a full memory without a bound, or below it, doubles


def chosen_values(values: Tensor, objects: list[int], among: int) -> Tensor:
    """Values (..., K * V) of K = `among` objects to those of some of them."""
    if len(objects) == among:
        return values
    return values.unflatten(-1, (among, -1))[..., objects, :].flatten(-2)


class MemoryBank:
    """Keys (as terms of affinity.py) and values of the frames that a group of objects remembers.

    max_frames: the most frames that are kept, 0 for all. The first, which shows what a person drew, is never
    given up; of the others the oldest makes room. A temporary frame, which the next one replaces, is beside.
    """

    def __init__(self, max_frames: int = 0):
        self.max_frames = max_frames
        self.num_added = 0  # frames that were to be kept
        self.has_temporary = False
        self.terms: Tensor | None = None  # (room, S, key_dim + 1)
        self.values: Tensor | None = None  # (room, S, V)

    @property
    def num_frames(self) -> int:
        """Frames that are kept, without a temporary one."""
        return min(self.num_added, self.max_frames) if self.max_frames else self.num_added

    def add(self, terms: Tensor, values: Tensor, *, temporary: bool = False) -> None:
        """Take a frame of S cells, terms (S, D) and values (S, V), in place of the last temporary one."""
        place = self.num_frames if temporary else self._next_place()
        if place is not None:
            self._make_room(place + 1, terms, values)
            self.terms[place], self.values[place] = terms, values
        self.has_temporary = temporary
        self.num_added += not temporary

    def read(self, query: Tensor, top_k: int) -> Tensor:
        """What L cells read, (L, V), of query terms (L, D), from their `top_k` most similar elements."""
        number = self.num_frames + self.has_temporary
        affinity = top_k_affinity(query, self.terms[:number].flatten(0, 1), top_k)
        return read_sparse(self.values[:number].flatten(0, 1), affinity)

    def keep(self, objects: list[int], among: int) -> None:
        """Keep the values of these objects, by their places among so many, and no other's."""
        self.values = chosen_values(self.values, objects, among)

    def state_dict(self) -> dict[str, Any]:
        number = self.num_frames + self.has_temporary
        return {
            "num_added": self.num_added,
            "has_temporary": self.has_temporary,
            "terms": self.terms[:number].clone(),
            "values": self.values[:number].clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.num_added, self.has_temporary = state["num_added"], state["has_temporary"]
        self.terms, self.values = state["terms"].clone(), state["values"].clone()

    def _next_place(self) -> int | None:
        """Where the next frame goes; None where there is no room but that of the first."""
        if not self.max_frames or self.num_added < self.max_frames:
            return self.num_added
        others = self.max_frames - 1
        return 1 + (self.num_added - 1) % others if others else None

    def _make_room(self, needed: int, terms: Tensor, values: Tensor) -> None:
        room = 0 if self.terms is None else len(self.terms)
        if needed <= room:
            return
        room = max(FIRST_ROOM, 2 * room)
        if self.max_frames:
            room = min(room, self.max_frames + 1)
        self.terms, self.values = (
            self._grown(former, room, like) for former, like in ((self.terms, terms), (self.values, values))
        )

    @staticmethod
    def _grown(former: Tensor | None, room: int, like: Tensor) -> Tensor:
        grown = like.new_empty(room, *like.shape)
        if former is not None:
            grown[: len(former)] = former
        return grown
