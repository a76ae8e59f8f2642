"""Small networks of SAM for tracking, and one without weights that knows colours, for the tests."""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.sam_track.images import restore
from systems.sam_track.modules import SAMTrack

SIZES = {
    "image_size": 32,
    "patch_size": 8,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "window_size": 3,
    "global_blocks": "1",
    "out_dim": 16,
    "decoder_heads": 2,
    "decoder_mlp_dim": 32,
    "iou_hidden": 16,
}
FLAGS = ["--system", "sam_track", *(str(x) for name, x in SIZES.items() for x in (f"--{name}", x))]
FLAGS += ["--batch_size", "2", "--num_workers", "0", "--device", "cpu"]


def small_network(seed: int = 0, **options: Any) -> SAMTrack:
    """Of random weights, in evaluation mode, without a cache."""
    torch.manual_seed(seed)
    config = SAMTrack.Config(**SIZES | {"embedding_cache": "none"} | options)
    network = SAMTrack(config).eval()
    for name, parameter in network.image_encoder.named_parameters():
        if "rel_pos" in name or name == "pos_embed":  # zero before training
            nn.init.normal_(parameter, std=0.5)
    return network


EXTENSION = ("mask_decoder.template_", "mask_decoder.track_token.")


def published(network: SAMTrack) -> dict[str, Tensor]:
    """The weights as they would be published, of a network with a prompt encoder: without the extension."""
    return {name: x for name, x in network.state_dict().items() if not name.startswith(EXTENSION)}


class ColourNetwork(nn.Module):
    """An object is where the picture has the mean colour of its templates; it counts what is encoded."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(image_size=32, patch_size=4, prompt_encoder=False)
        self.weight = nn.Parameter(torch.zeros(1))
        self.encoded = 0

    def encode(self, images: Tensor) -> Tensor:
        self.encoded += len(images)
        return F.avg_pool2d(images, 4)

    def padding(self, sizes: list, image_size: int, grid: int, objects: int) -> None:
        return None

    def track(self, image: Tensor, templates: Tensor, masks: Tensor, padding: None) -> tuple[Tensor, Tensor]:
        weights = masks.unsqueeze(2) / masks.sum((1, 2, 3), keepdim=True).unsqueeze(2)
        colours = (templates * weights).sum((1, 3, 4))[..., None, None]  # (N, 3, 1, 1)
        logits = 8 - 4 * (image - colours).square().sum(1, keepdim=True)
        return logits.repeat_interleave(4, -1).repeat_interleave(4, -2), logits.amax((2, 3))

    def to_frame(self, logits: Tensor, size: tuple[int, int], image_size: int) -> Tensor:
        return restore(logits.sigmoid(), size, image_size)
