"""Small videos of squares for the tests of the evidence behind a score."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from scoring.label_folders import VideoPair
from scoring.protocols.table import PROTOCOLS
from tools.evidence.explain import VideoEvidence, explain
from tools.evidence.label_maps import ScoredResults, label_map_pairs, rules_of

TCOVIS, MOTS = (rules_of(PROTOCOLS[name], {}) for name in ("tcovis", "mots"))


def boxes(dtype: type = np.uint8, **left: int) -> np.ndarray:
    """(20, 60) label map of 10 x 10 squares; `o3=10` is object 3 with its left edge at column 10."""
    labels = np.zeros((20, 60), dtype=dtype)
    for name, column in left.items():
        labels[5:15, column : column + 10] = int(name[1:])
    return labels


NOTHING = boxes()


def write(folder: Path, maps: Sequence[np.ndarray]) -> Path:
    folder.mkdir(parents=True)
    for frame, labels in enumerate(maps):
        Image.fromarray(labels).save(folder / f"{frame:05d}.png")
    return folder


def pair_of(
    root: Path, truth: Sequence[np.ndarray], results: Sequence[np.ndarray], name: str = "cat"
) -> VideoPair:
    """Write a video; returns its folders."""
    return VideoPair(name, write(root / "truth" / name, truth), write(root / "results" / name, results))


def scored_by(root: Path, protocol: str, **options: object) -> ScoredResults:
    """The videos that `pair_of` wrote, scored by a protocol."""
    row, results, annotations = PROTOCOLS[protocol], root / "results", root / "truth"
    report = row.score(results, annotations, **options)
    return ScoredResults(report, results, annotations, rules_of(row, options))


def evidence_of(root: Path, protocol: str, **options: object) -> list[VideoEvidence]:
    """The evidence behind the scores of all videos."""
    scored = scored_by(root, protocol, **options)
    return explain(scored, label_map_pairs(scored, list(scored.report["videos"])))


def random_maps(seed: int, dtype: type, void: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(8, 24, 32) truth of three objects in coarse patches, and results with ids that change now and then."""
    rng = np.random.default_rng(seed)
    ids = [0, 1, 2, 3] + ([] if void is None else [void])
    truth = np.repeat(rng.choice(ids, (1, 3, 4)), 8, axis=0)
    moved = rng.random(truth.shape) < 0.1
    truth[moved] = rng.choice(ids, moved.sum())
    results = np.where(truth == void, rng.integers(0, 4, truth.shape), truth)
    for t in range(8):
        names = np.append(0, rng.permutation([1, 2, 3, 4])[:3]) if rng.random() < 0.4 else np.arange(4)
        results[t] = names[results[t]]
    missed = rng.random(truth.shape) < 0.1
    results[missed] = rng.choice(5, missed.sum())
    return tuple(np.kron(maps, np.ones((1, 8, 8))).astype(dtype) for maps in (truth, results))
