"""The official numbers of SAM and of its extension, weights made from names, pictures from seeds."""

import json
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from systems.sam_track.modules import SAMTrack
from tests.support.siammask_sam_golden import FOLDER, golden


class Numbers:
    """One file of recorded numbers."""

    def __init__(self, name: str):
        self.arrays = np.load(FOLDER / f"{name}.npz")
        self.meta = json.loads(str(self.arrays["meta"]))

    def check(self, name: str, tensor: Tensor, rtol: float = 1e-5) -> None:
        """Assert that a tensor is the recorded one, errors relative to its largest value."""
        golden("golden_io").compare(self.arrays, name, tensor, rtol=rtol)


def gauss(seed: int, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    return torch.from_numpy(golden("make_inputs").gauss(seed, shape, scale))


@cache
def clip(seed: int, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """(T, H, W, 3) uint8 RGB frames and (T, H, W) labels."""
    return golden("make_inputs").make_clip(seed, **options)


def frame_of(numbers: Numbers) -> Tensor:
    """The (3, H, W) uint8 frame that a file was made of."""
    meta = numbers.meta
    frames, _ = clip(meta["clip_seed"], frames=meta["clip_frames"])
    assert golden("make_inputs").crc(frames) == meta["clip_crc"]
    return torch.from_numpy(frames[meta["frame"]]).permute(2, 0, 1)


def filled(network: SAMTrack, gains: str) -> SAMTrack:
    """In evaluation mode, with the weights of the golden set."""
    return golden("fill_by_name").fill_module(network, golden("gains").GAINS[gains]).eval()


def small_options(cfg: dict[str, Any]) -> dict[str, Any]:
    """The options of the network that a file's settings describe."""
    return {
        "image_size": cfg["img_size"],
        "embed_dim": cfg["embed_dim"],
        "depth": cfg["depth"],
        "num_heads": cfg["num_heads"],
        "window_size": cfg["window_size"],
        "global_blocks": ",".join(map(str, cfg["global_attn_indexes"])),
        "out_dim": cfg["out_chans"],
        "decoder_heads": cfg["dec_heads"],
        "decoder_mlp_dim": cfg["mlp_dim"],
        "iou_hidden": cfg["iou_hidden"],
        "embedding_cache": "none",
    }


def small_network(name: str) -> SAMTrack:
    """A new network of the sizes of a file's settings."""
    options = small_options(Numbers(name).meta["cfg"])
    return filled(SAMTrack(SAMTrack.Config(**options)), "sam_small")
