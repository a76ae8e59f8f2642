"""Label maps as arrays: the ids in them, void pixels, smoothed edges."""

import numpy as np

IGNORE = 255  # the label of pixels that no loss and no score may count


def span(occupied: np.ndarray) -> slice:
    """From the first to the last True; empty where there is none."""
    places = np.flatnonzero(occupied)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def ids_in(labels: np.ndarray) -> list[int]:
    """The ids above 0 in a label map, ascending."""
    flat = labels.ravel()
    begins = flat[1:] != flat[:-1]  # neighbours mostly agree: a look at the pixel that begins a run is enough
    return [i for i in np.unique(np.append(flat[:1], flat[1:][begins])).tolist() if i > 0]


def void_in(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool: the void pixels of a label map, 255 in one of 8 bits; in a wider one negative ones."""
    return labels == IGNORE if labels.itemsize == 1 else labels < 0


def objects_in(labels: np.ndarray) -> list[int]:
    """The ids in a label map, ascending, without that of void pixels."""
    return [i for i in ids_in(labels) if i != IGNORE or labels.itemsize > 1]


def edge_ids(labels: np.ndarray) -> list[int]:
    """The ids of an (H, W) label map that lie on edges alone, as values between two objects do.

    None of their pixels has four neighbours of its own id, and some pixel has one of another object.
    """
    inner, beside = np.ones(labels.shape, dtype=bool), np.zeros(labels.shape, dtype=bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = labels[one] != labels[other]
        inner[one] &= ~differ
        inner[other] &= ~differ
        beside[one] |= differ & (labels[other] > 0)
        beside[other] |= differ & (labels[one] > 0)
    return sorted({*ids_in(labels[beside])} - {*ids_in(labels[inner])})


def has_smoothed_edges(labels: np.ndarray) -> bool:
    """Whether most ids of a label map, three at least, are `edge_ids`, as a paint program leaves them."""
    ids = ids_in(labels)
    return len(ids) > 3 and len(edge_ids(labels)) > max(2, len(ids) // 2)
