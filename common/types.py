"""The shared vocabulary: what flows between datasets, networks, criteria, trackers and writers.

Shape letters of the house: B clips, T frames, C channels, H W pixels, h w cells, N tokens proposed, K objects
really there, D hidden width, E embedding width, S memory elements, A anchors, P sampled points.
The order is (B, T, K or N, C, H, W). An *id* says who (positive, constant for life, never reused); a *slot*
says where in a tensor: slot k of a clip is label k in its label maps, at index k - 1 of axis K.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

BoxXYWH = tuple[float, float, float, float]  # left, top, width, height in pixels of the frame
Click = tuple[float, float, int]  # x, y in pixels of the frame; 1 on the object, 0 on what is not of it


@dataclass
class Clip:
    """A batch of annotated clips.

    frames: (B, T, 3, H, W) float32, in whatever normalisation the system's dataset chose (ImageNet by
        default); or uint8 RGB on their way to the device, where `video.transforms.upload` normalises them
    labels: (B, T, H, W) uint8 label maps: 0 background, k slot k, 255 ignore
    ids: (B, K) int64 annotation identity of each slot, 0 where the slot is empty
    classes: (B, K) int64 class index of each slot, 0 where there are no classes
    names: names[b][t] = (video, frame)
    skipped: paths of bad files that were passed over while this batch was drawn
    sizes: of each clip the (H, W) that its frames fill, where they are uint8
    colours: (B, T, 3, 4) float32, what `video.transforms.recolour` makes of uint8 frames; None: no change
    """

    frames: Tensor
    labels: Tensor
    ids: Tensor
    classes: Tensor
    names: list[list[tuple[str, str]]]
    skipped: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    colours: Tensor | None = None

    @property
    def masks(self) -> Tensor:
        """(B, T, K, H, W) bool: the pixels of each slot."""
        return self.labels.unsqueeze(2) == self._slots[None, None, :, None, None]

    @property
    def prompt(self) -> Tensor:
        """(B, K, H, W) bool: the masks of the first frame."""
        return self.labels[:, 0].unsqueeze(1) == self._slots[None, :, None, None]

    @property
    def present(self) -> Tensor:
        """(B, T, K) bool: whether the slot has any pixel in the frame, which is counted each time."""
        B, T = self.labels.shape[:2]
        counts = torch.zeros(B, T, 256, dtype=torch.int32, device=self.labels.device)
        pixels = self.labels.flatten(2).long()
        counts.scatter_add_(2, pixels, torch.ones_like(pixels, dtype=torch.int32))
        return counts[:, :, 1 : self.ids.shape[1] + 1] > 0

    @property
    def _slots(self) -> Tensor:
        return torch.arange(1, self.ids.shape[1] + 1, dtype=torch.uint8, device=self.labels.device)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Clip":
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Clip":
        return self._map(Tensor.pin_memory)

    def _map(self, function: Any) -> "Clip":
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: function(x) for name, x in tensors.items() if isinstance(x, Tensor)})


@dataclass
class Prompt:
    """What a person says about one frame: new ids start tracks, known ids are corrected.

    labels: (H, W) int64 label map, or None; every value above 0 is an id, 255 too
    boxes: {id: box}
    clicks: {id: clicks}, for trackers that take them, and for what makes a label map of them
    """

    labels: Tensor | None = None
    boxes: dict[int, BoxXYWH] = field(default_factory=dict)
    clicks: dict[int, list[Click]] = field(default_factory=dict)

    @property
    def ids(self) -> list[int]:
        """The ids that the prompt names, ascending."""
        named = {*self.boxes, *self.clicks}
        if self.labels is not None:
            named |= set(self.labels.unique().tolist()) - {0}
        return sorted(named)


@dataclass
class Tracks:
    """What a tracker says about one frame, at the frame's own size.

    ids: (K,) int64, each > 0 and constant for life
    labels: (H, W) int64, the system's own decision; 0 background, otherwise an id
    masks: (K, H, W) float32 probabilities; they may overlap
    scores: (K,) float32 in [0, 1]
    classes: (K,) int64 class indices; None where the system has no classes
    boxes: (K, 4, 2) rotated boxes in pixels, or None
    binary_masks: (K, H, W) bool, where `masks` exceed the tracker's threshold; None where it did not look
    """

    ids: Tensor
    labels: Tensor
    masks: Tensor
    scores: Tensor
    classes: Tensor | None = None
    boxes: Tensor | None = None
    binary_masks: Tensor | None = None

    @classmethod
    def empty(cls, height: int, width: int, device: torch.device | str = "cpu") -> "Tracks":
        """No tracks: zero objects is a normal case."""
        return cls(
            ids=torch.zeros(0, dtype=torch.int64, device=device),
            labels=torch.zeros(height, width, dtype=torch.int64, device=device),
            masks=torch.zeros(0, height, width, device=device),
            scores=torch.zeros(0, device=device),
        )


@dataclass
class BinaryTracks:
    """`Tracks` with binary masks: what is recorded of a frame.

    ids: (K,) int64
    labels: (H, W) int64, the system's own decision
    binary_masks: (K, H, W) bool, where the probability is above the system's threshold
    scores: (K,) float32
    classes: (K,) int64, or None
    boxes: (K, 4, 2) rotated boxes in pixels, or None
    """

    ids: Tensor
    labels: Tensor
    binary_masks: Tensor
    scores: Tensor
    classes: Tensor | None = None
    boxes: Tensor | None = None


# ------------------------------------------------------------------------------------------------ the doors


@runtime_checkable
class Network(Protocol):
    """What the training loop asks of a network, an `nn.Module` made of its dataclass `Config` alone.

    stride: H and W of the frames that it takes are multiples of this
    takes_prompt: whether `forward` looks at its `prompt`; where it does not, none is made
    backbone_parts: names of the modules whose learning rate is --lr_backbone; there may be none
    recomputed_parts: names of the modules that --checkpoint_activations computes twice; there may be none
    """

    stride: int
    takes_prompt: bool
    backbone_parts: tuple[str, ...]
    recomputed_parts: tuple[str, ...]

    def set_epoch(self, epoch: int, epochs: int) -> bool:
        """Prepare for an epoch, counted from 0; tells whether other parameters are trained from now on."""

    def __call__(self, frames: Tensor, prompt: Any = None) -> dict[str, Any]:
        """frames (B, T, 3, H, W) in the normalisation of its dataset; prompt (B, K, H, W), the masks of the
        first frame, or what its dataset's clips have in place of them. Returns what its criterion takes.
        """


@runtime_checkable
class Criterion(Protocol):
    """The losses of a network, an `nn.Module` made of its dataclass `Config`.

    stats: detached scalars of the last call that are not losses; of a pair `x_sum` and `x_count` the loop
    makes the one mean `x`. A name "group/series" says in which graph it stands.
    """

    stats: dict[str, Tensor]

    def __call__(self, outputs: dict[str, Any], clip: Clip) -> dict[str, Tensor]:
        """The weighted losses, scalars by name; their sum is minimised. All are finite without objects."""


@runtime_checkable
class ClipDataset(Protocol):
    """Clips of one kind, each a `Clip` of B = 1; made of (folder, config, training=, seed=, skip_bad=).

    upright: of each clip of an epoch, whether its frames are higher than wide, where batches are to be alike
    """

    upright: list[bool]

    def __len__(self) -> int:
        """Clips in an epoch."""

    def __getitem__(self, key: tuple[int, ...]) -> Clip:
        """The clip (epoch, index, ...), which depends on the seed and the key alone."""

    def collate(self, clips: list[Clip]) -> Clip:
        """One batch of single clips."""

    def largest(self, batch: Clip) -> Clip:
        """A batch of the same kind that takes as much memory as any."""


@runtime_checkable
class Tracker(Protocol):
    """One video at a time, one frame at a time; each output is final.

    needs_prompt: whether a video without any prompt is a mistake (the caller raises ValueError at its end)
    mask_threshold: probability above which a pixel of `Tracks.masks` belongs to the object in results.json
    That of a system is made of (network, config), the options of its dataclass `Config`.
    """

    needs_prompt: bool
    mask_threshold: float

    def reset(self) -> None:
        """Forget the video."""

    def step(self, frame: Tensor, prompt: Prompt | None = None) -> Tracks:
        """Take the next frame, uint8 RGB (3, H, W), and say who is where."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on: tensors and plain types."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`; ids go on over chunks of a long video."""
