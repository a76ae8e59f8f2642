"""Overlaps of masks, counted once on their device, and what is decided by them: non-maximum suppression."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.device import in_float32


def bits_of(masks: Tensor) -> np.ndarray:
    """(N, h, w) bool masks on the CPU to (N, S) uint64: a bit for each pixel, zeros after the last."""
    octets = np.packbits(masks.flatten(1).numpy(), axis=1)
    return np.pad(octets, [(0, 0), (0, -octets.shape[1] % 8)]).view(np.uint64)


def count_bits(masks: Tensor, others: Tensor) -> Tensor:
    """As `multiply` on the CPU, by words of 64 pixels, without those that are empty in one of the K.

    Needs NumPy 2.
    """
    bits = np.concatenate([bits_of(masks), bits_of(others)])
    counts = np.empty((len(masks) + 1, len(bits)), dtype=np.float32)
    for row, mask in zip(counts[:-1], bits, strict=False):  # the first K
        filled = mask.nonzero()[0]
        np.bitwise_count(bits[:, filled] & mask[filled]).sum(1, out=row)
    np.bitwise_count(bits).sum(1, out=counts[-1])
    return torch.from_numpy(counts)


def multiply(masks: Tensor, others: Tensor) -> Tensor:
    """(K, h, w) and (R, h, w) bool masks of one device to (K + 1, K + R) float32 on the CPU.

    The pixels that each of the K has in common with each of all, and last the areas of all: in one product
    and one transfer.
    """
    both = torch.cat([masks, others]).flatten(1).float()
    with in_float32(masks.device):
        return torch.cat([both[: len(masks)] @ both.T, both.sum(1)[None]]).cpu()


class Overlaps(NamedTuple):
    """What K masks have in common with one another and with R others, on the CPU.

    common: (K, K + R) float32 numbers of pixels
    areas: (K + R,) float32, of each mask and of each other one
    """

    common: Tensor
    areas: Tensor

    @classmethod
    def of(cls, masks: Tensor, others: Tensor) -> "Overlaps":
        """Those of (K, h, w) and (R, h, w) bool masks of one device."""
        count = count_bits if masks.device.type == "cpu" and hasattr(np, "bitwise_count") else multiply
        counts = count(masks, others)
        return cls(counts[:-1], counts[-1])

    def ious(self) -> Tensor:
        """(K, K + R) intersection over union, 0 where the union is empty."""
        areas = self.areas[: len(self.common), None]
        return self.common / (areas + self.areas - self.common).clamp(min=1)

    def ious_with(self, rows: Tensor, others: list[int | None]) -> Tensor:
        """(F, N) IoU of some of the K masks, (F,) indices, with N of the R others; 0 for None."""
        ious = torch.zeros(len(rows), len(others))
        known = [column for column, other in enumerate(others) if other is not None]
        places = torch.tensor([len(self.common) + others[column] for column in known], dtype=torch.int64)
        ious[:, torch.tensor(known, dtype=torch.int64)] = self.ious()[rows][:, places]
        return ious

    def shares(self) -> Tensor:
        """(K, K) the share of each mask (row) that lies under each (column), 0 of an empty one."""
        K = len(self.common)
        return self.common[:, :K] / self.areas[:K, None].clamp(min=1)

    def chosen(self, rows: Tensor) -> "Overlaps":
        """Those of some of the K masks, (k,) indices, with one another and with the same others."""
        columns = torch.cat([rows, torch.arange(len(self.common), len(self.areas))])
        return Overlaps(self.common[rows][:, columns], self.areas[columns])


def suppress(
    overlaps: Overlaps, scores: Tensor, prompted: Tensor, max_iou: float, max_inside: float
) -> Tensor:
    """Non-maximum suppression: the indices, best first, of the masks that are kept; all on the CPU.

    scores (K,). What overlaps a better one by more than `max_iou`, or lies inside a better one by more than
    `max_inside` of itself, is dropped; so is an empty mask. What a prompt shows (`prompted`, (K,) bool) is
    better than the rest and is not dropped.
    """
    K = len(scores)
    bad = (overlaps.ious()[:, :K] > max_iou) | (overlaps.shares() > max_inside)
    bad &= ~prompted[:, None]
    kept: list[int] = []
    for index in (scores + prompted.to(scores)).argsort(descending=True, stable=True).tolist():
        if overlaps.areas[index] and not bad[index, kept].any():
            kept.append(index)
    return torch.tensor(kept, dtype=torch.int64)
