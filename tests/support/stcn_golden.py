"""The official numbers of STCN, weights made from names, videos from seeds; used by tests of STCN."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from systems.stcn.modules import STCN

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "golden" / "stcn_xmem"
NUMBERS = FOLDER / "public"
needs_golden = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the official numbers are not at {FOLDER}")

if FOLDER.is_dir():
    sys.path.insert(0, str(FOLDER))


def golden(module: str) -> Any:
    """A module of the golden set: golden_inputs, golden_config, fill_by_name, check_golden."""
    return __import__(module)


@cache
def official_network() -> STCN:
    """Full size, in evaluation mode, with the weights of the golden set; nobody may change it."""
    network = STCN(STCN.Config()).eval()
    return golden("fill_by_name").fill_module(network, gains=golden("golden_config").GAINS_STCN)


@cache
def module_video() -> tuple[Tensor, np.ndarray]:
    """(T, 3, H, W) normalised frames and (T, H, W) label maps."""
    frames, labels = golden("golden_inputs").module_video(golden("golden_config").PUBLIC)
    return torch.from_numpy(frames), labels


def hard_masks(frame: int, objects: int) -> Tensor:
    """(1, K, H, W) float masks of the first objects in a frame of the module video."""
    return torch.from_numpy(golden("golden_inputs").masks(module_video()[1], frame, objects))[None]


def assert_official(arrays: dict[str, Any]) -> None:
    """Assert that module-level arrays are the official ones, within the tolerance of the golden set."""
    golden("check_golden").check_modules(str(NUMBERS), "stcn", arrays)
