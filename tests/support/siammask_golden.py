"""The official numbers of SiamMask: a network with weights made from names; used by tests of SiamMask."""

import json
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from systems.siammask.modules import SiamMask
from tests.support.siammask_sam_golden import FOLDER, golden

# OpenCV before 5 warps in steps of 1/32 pixel; the official numbers were made with OpenCV 5.
EXACT_WARP = int(cv2.__version__.split(".")[0]) >= 5
needs_exact_warp = pytest.mark.skipif(
    not EXACT_WARP, reason=f"OpenCV {cv2.__version__} warps in steps of 1/32 pixel: 5 is exact"
)


@cache
def numbers(name: str) -> tuple[Any, dict]:
    """An official file and its settings."""
    arrays = np.load(FOLDER / f"siammask_{name}.npz")
    return arrays, json.loads(str(arrays["meta"]))


@cache
def official_network() -> SiamMask:
    """Full size, refining, in evaluation mode, with the weights of the golden set; nobody may change it."""
    network = SiamMask(SiamMask.Config(refine=True)).eval()
    return golden("fill_by_name").fill_module(network, golden("gains").GAINS["siammask"])


@cache
def clip(seed: int, crc: int, frames: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """(T, H, W, 3) BGR frames and label maps of a seed."""
    made = golden("make_inputs").make_clip(seed, frames=frames)
    assert golden("make_inputs").crc(made[0]) == crc
    return made


def as_frame(image: np.ndarray) -> Tensor:
    """(H, W, 3) BGR as a tracker takes it: RGB (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))


def assert_official(name: str, arrays: dict[str, Any], tolerance: float = 1e-5) -> None:
    """Assert that arrays are the official ones of a file, errors judged by the largest magnitude."""
    for key, value in arrays.items():
        golden("golden_io").compare(numbers(name)[0], key, value, tolerance)


def bits(name: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """A packed mask of a file."""
    return np.unpackbits(numbers(name)[0][key])[: int(np.prod(shape))].reshape(shape).astype(bool)
