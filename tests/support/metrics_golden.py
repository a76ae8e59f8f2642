"""The numbers of the official evaluators, and how close ours must come; used by the tests of metrics."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "golden" / "metrics"
REAL = Path(__file__).resolve().parents[3] / "shared" / "real"
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


def differences(ours: Any, official: Any, where: str = "") -> list[str]:
    """The places in which two nested structures of numbers disagree, or one lacks what the other has.

    The official files write what is not finite as text.
    """
    if isinstance(official, dict):
        if not isinstance(ours, dict) or ours.keys() != official.keys():
            return [f"{where}: other keys"]
        return [line for key in official for line in differences(ours[key], official[key], f"{where}/{key}")]
    if isinstance(official, list) and any(isinstance(value, dict) for value in official):
        if len(ours) != len(official):
            return [f"{where}: another length"]
        pairs = enumerate(zip(ours, official, strict=True))
        return [line for i, pair in pairs for line in differences(*pair, f"{where}/{i}")]
    if isinstance(official, str) and official not in ("nan", "inf", "-inf"):
        return [] if ours == official else [f"{where}: {ours}, not {official}"]
    return [] if close(ours, official) else [f"{where}: {ours}, not {official}"]


def save_maps(folder: Path, maps: np.ndarray) -> None:
    """Write (T, H, W) label maps of 8 or 16 bits as folder/<frame>.png."""
    folder.mkdir(parents=True)
    for frame, labels in enumerate(maps):
        Image.fromarray(labels.copy()).save(folder / f"{frame:05d}.png")


def save_golden_masks(root: Path) -> Path:
    """Every stack of masks as root/<kind>/v0, v1, ...; returns the root.

    Beside those of masks.npz the kinds are "void" (the truth, with 255 where there is void), "mots" (16 bits,
    10000 where results are ignored), and "gt_by_object", "pred_vos_by_object" (a folder for each object).
    """
    masks = golden_arrays("masks.npz")
    for v in VIDEOS:
        video, truth = f"v{v}", masks[f"gt_v{v}"]
        for kind in ("gt", "pred_vos", "pred_uns", "pred_trk"):
            save_maps(root / kind / video, masks[f"{kind}_{video}"])
        save_maps(root / "void" / video, masks.get(f"gt_void_{video}", truth))
        ignored = masks.get(f"ignore_{video}", np.zeros_like(truth)) > 0
        save_maps(root / "mots" / video, np.where(ignored, 10_000, truth.astype(np.uint16)))
        for kind in ("gt", "pred_vos"):
            for i in np.setdiff1d(truth, [0]):
                one = (masks[f"{kind}_{video}"] == i).astype(np.uint8)
                save_maps(root / f"{kind}_by_object" / video / f"{i:03d}", one)
    return root
