"""The numbers of the official evaluators, and how close ours must come; used by the tests of metrics."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "golden" / "metrics"
REAL = Path(__file__).resolve().parents[2] / "shared" / "real"
TOLERANCE = 1e-9
VIDEOS = range(6)

needs_golden = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the official numbers are not at {FOLDER}")


@cache
def golden_arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / name) as file:
        return dict(file)


@cache
def numbers(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


def close(ours: Any, official: Any) -> bool:
    """Whether two arrays agree within the tolerance, NaN with NaN."""
    ours, official = np.asarray(ours, dtype=float), np.asarray(official, dtype=float)
    return ours.shape == official.shape and np.allclose(
        ours, official, rtol=0, atol=TOLERANCE, equal_nan=True
    )
