"""SiamMaskTracker: follows boxes or masks through a video, every object by a template of its own."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.device import empty, in_float32, on_device
from common.errors import require
from common.progress import every
from common.types import Prompt, Tracks
from configs.siammask import TrackerConfig
from systems.siammask import crops
from systems.siammask.anchors import STRIDE
from systems.siammask.crops import SEARCH, TEMPLATE, Window
from systems.siammask.modules import Kernels, SiamMask
from systems.siammask.prompts import PromptedObject, read_prompt
from systems.siammask.selection import choose
from video.masks import above, labels_from_masks

OBJECTS_AT_ONCE = {"cpu": 1, "cuda": 16}  # whose crops are searched together: on a CPU more gain nothing
LEAST_SIDE = 10  # of a tracked box, pixels
FIRST_WINDOW = 4  # the mask of the response (y, x) begins at 8 * (y - 4), 8 * (x - 4) of the search crop


@dataclass
class Target:
    """An object that is tracked.

    centre, size: (x, y) and (w, h) of its box, pixels of the frame
    colour: (3,) mean BGR of the frame on which it started, which lies around every crop
    kernels: of the template, (1, C, 5, 5) each
    features: (1, C, 7, 7) of the template that was given; None where templates are never renewed
    age: frames since it was given
    """

    track: int
    centre: tuple[float, float]
    size: tuple[float, float]
    colour: np.ndarray
    kernels: Kernels
    features: Tensor | None = None
    age: int = 0

    @property
    def template_side(self) -> float:
        """Side of the square of the frame that a template of it would show, pixels."""
        return crops.context_side(*self.size)

    @property
    def search_side(self) -> int:
        """Side of the square that its search crop shows, whole pixels."""
        return max(1, crops.search_side(self.template_side))


class BestWindow(NamedTuple):
    """The window of a search crop that is the object, as the network has it.

    row, column: of the response
    score: the object's probability; penalty: in (0, 1], for a change of size and ratio
    box: (cx, cy, w, h) in pixels of the crop, from its middle
    mask: (s, s) probabilities, of no size where boxes are asked for
    """

    row: float
    column: float
    score: float
    penalty: float
    box: tuple[float, float, float, float]
    mask: np.ndarray


class Detection(NamedTuple):
    """What is said of an object in a frame, beside its mask: (4, 2) corners of its box and the score."""

    corners: np.ndarray
    score: float


def mask_window(target: Target, best: BestWindow) -> Window:
    """Where in the frame the mask lies, of a target that has not moved yet."""
    ratio = target.search_side / SEARCH
    x, y = (
        middle - target.search_side / 2 + (response - FIRST_WINDOW) * STRIDE * ratio
        for middle, response in zip(target.centre, (best.column, best.row), strict=True)
    )
    return Window(x, y, TEMPLATE * ratio)


def moved_box(target: Target, best: BestWindow, size_lr: float) -> tuple[tuple, tuple]:
    """Centre (x, y) and size (w, h) of the target's box in this frame; they may leave the frame."""
    scale = TEMPLATE / target.template_side
    x, y, *size = best.box
    step = best.penalty * best.score * size_lr
    centre = target.centre[0] + x / scale, target.centre[1] + y / scale
    lengths = zip(target.size, size, strict=True)
    return centre, tuple(former * (1 - step) + new / scale * step for former, new in lengths)


def similarity(features: Tensor, others: Tensor) -> Tensor:
    """(K,) cosines of (K, C, h, w) features."""
    return torch.cosine_similarity(features.flatten(1).float(), others.flatten(1).float())


class SiamMaskTracker:
    """SiamMask on one video: a search around the last place of every object, whose mask comes from the best
    window.

    A prompt on any frame starts its new ids and starts its known ones anew. All that is known of an object is
    here, nothing in the network; objects are searched for in one batch.
    """

    needs_prompt = True
    sparse_prompts = ("boxes",)

    Config = TrackerConfig

    def __init__(self, network: SiamMask, config: Config):
        require("cv2", "SiamMask")  # before anything is written
        self.network, self.config = network, config
        self.mask_threshold = config.seg_thr
        self.refined = config.mask_form == "best" and network.config.refine
        self.reset()

    def reset(self) -> None:
        """Forget the video."""
        self.targets: list[Target] = []

    @torch.inference_mode()
    def step(self, frame: Tensor, prompt: Prompt | None = None) -> Tracks:
        """Frame uint8 RGB (3, H, W) of any size, on any device; the tracks are on the CPU.

        It is computed in float32: a search begins where the last one ended, so that roundings add up.
        """
        with in_float32(next(self.network.parameters()).device):
            return self._step(frame, prompt)

    def _step(self, frame: Tensor, prompt: Prompt | None) -> Tracks:
        size = tuple(frame.shape[-2:])
        prompted = read_prompt(prompt, size)
        if not self.targets and not prompted:
            return Tracks.empty(*size)
        image = crops.to_bgr(frame.cpu().numpy())
        prompted_ids = {one.track for one in prompted}
        known = [target for target in self.targets if target.track not in prompted_ids]
        at_once = OBJECTS_AT_ONCE[next(self.network.parameters()).device.type]
        for few in every(prompted, at_once):
            self._start(image, few)
        masks = empty(len(self.targets), *size)
        mask_of = {target.track: mask for target, mask in zip(self.targets, masks.numpy(), strict=True)}
        detections: dict[int, Detection] = {}
        for few in every(known, at_once):
            detections |= self._search(image, few, mask_of)
        for one in prompted:
            mask_of[one.track][:] = one.mask
            corners = crops.box_corners(*_corner(one.centre, one.size), *one.size)
            detections[one.track] = Detection(corners, 1.0)
        return self._tracks([detections[target.track] for target in self.targets], masks)

    def _to_network(self, images: list[np.ndarray]) -> Tensor:
        """Crops (S, S, 3) as one batch (K, 3, S, S) of raw pixels where the network is."""
        batch = torch.from_numpy(np.stack(images)).to(next(self.network.parameters()).device)
        return batch.permute(0, 3, 1, 2).float()  # this is channels last in memory

    def _templates(
        self, image: np.ndarray, objects: list[Target] | list[PromptedObject], colours: list[np.ndarray]
    ) -> tuple[list[Kernels], Tensor]:
        """The kernels of each object as it is in this frame, and features (K, C, 7, 7)."""
        templates = [
            crops.crop(image, one.centre, TEMPLATE, max(1, round(crops.context_side(*one.size))), colour)
            for one, colour in zip(objects, colours, strict=True)
        ]
        kernels, features = self.network.encode_template(self._to_network(templates))
        return [Kernels(*each) for each in zip(*(part.split(1) for part in kernels), strict=True)], features

    def _start(self, image: np.ndarray, prompted: list[PromptedObject]) -> None:
        """Take the templates that a prompt gives; known ids begin anew, in their places."""
        colour = image.mean((0, 1))
        kernels, features = self._templates(image, prompted, [colour] * len(prompted))
        places = {target.track: place for place, target in enumerate(self.targets)}
        for one, its_kernels, its_features in zip(prompted, kernels, features.split(1), strict=True):
            its_features = its_features if self.config.update_template else None
            target = Target(one.track, one.centre, one.size, colour, its_kernels, its_features)
            if one.track in places:
                self.targets[places[one.track]] = target
            else:
                self.targets.append(target)

    def _search(
        self, image: np.ndarray, targets: list[Target], mask_of: dict[int, np.ndarray]
    ) -> dict[int, Detection]:
        """Find each target near its last place, move it there, and write its mask into `mask_of` its id."""
        detections = {
            target.track: self._move(target, best, mask_of[target.track])
            for target, best in zip(targets, self._best_windows(image, targets), strict=True)
        }
        if self.config.update_template:
            self._renew(image, targets, [detections[target.track].score for target in targets])
        return detections

    def _best_windows(self, image: np.ndarray, targets: list[Target]) -> list[BestWindow]:
        """What the network says of the search crop of each target, fetched from the device at once."""
        kernels = Kernels(*(torch.cat(part) for part in zip(*(x.kernels for x in targets), strict=True)))
        searches = [crops.crop(image, x.centre, SEARCH, x.search_side, x.colour) for x in targets]
        response = self.network.search(kernels, self._to_network(searches))
        sizes = [[length * (TEMPLATE / x.template_side) for length in x.size] for x in targets]
        sizes = on_device(sizes, response.cls.device, torch.float64)
        penalties = {name: getattr(self.config, name) for name in ("penalty_k", "window_influence")}
        place, numbers = choose(response.cls, response.loc, sizes, **penalties)
        if self.config.mask_form == "box":
            masks = numbers.new_zeros(len(targets), 0, 0)
        else:
            masks = self.network.masks_at(response, place[:, 1:], refined=self.refined).float().sigmoid()
        fetched = torch.cat([place[:, 1:].double(), numbers, masks.flatten(1).double()], 1).cpu()
        masks = fetched[:, 8:].float().unflatten(1, masks.shape[1:]).numpy()
        return [
            BestWindow(*row[:4], tuple(row[4:]), mask)
            for row, mask in zip(fetched[:, :8].tolist(), masks, strict=True)
        ]

    def _move(self, target: Target, best: BestWindow, frame_mask: np.ndarray) -> Detection:
        """Bring a target to where the network has it, and its mask into `frame_mask`, (H, W)."""
        H, W = frame_mask.shape
        window = mask_window(target, best)
        centre, size = moved_box(target, best, self.config.size_lr)
        target.centre = min(max(centre[0], 0.0), float(W)), min(max(centre[1], 0.0), float(H))
        target.size = tuple(
            float(max(LEAST_SIDE, min(most, length))) for most, length in zip((W, H), size, strict=True)
        )
        target.age += 1
        if self.config.mask_form == "box":
            box = (*_corner(target.centre, target.size), *target.size)
            frame_mask[:] = crops.fill_box(box, (H, W))
            return Detection(crops.box_corners(*box), best.score)
        crops.paste(best.mask, window, frame_mask)
        corners = crops.rotated_box(frame_mask > self.config.seg_thr)
        if corners is None:  # the mask is too small: the box of the regression, as it was before clipping
            corners = crops.box_corners(*_corner(centre, size), *size)
        return Detection(corners, best.score)

    def _renew(self, image: np.ndarray, targets: list[Target], scores: list[float]) -> None:
        """Replace the templates of objects that are sure and still look as they did when they were given.

        Every new one is compared with the first, so that small changes do not add up to another object.
        """
        config = self.config
        candidates = [
            target
            for target, score in zip(targets, scores, strict=True)
            if target.age % config.update_every == 0 and score >= config.update_score
        ]
        if not candidates:
            return
        kernels, features = self._templates(image, candidates, [target.colour for target in candidates])
        cosines = similarity(features, torch.cat([target.features for target in candidates])).tolist()
        for target, new, cosine in zip(candidates, kernels, cosines, strict=True):
            if cosine >= config.update_similarity:
                target.kernels = new

    def _tracks(self, detections: list[Detection], masks: Tensor) -> Tracks:
        """The best object has a pixel, where it is above the threshold; masks (K, H, W) are cut to [0, 1]."""
        ids = torch.tensor([target.track for target in self.targets])
        masks = masks.clamp_(0, 1)
        binary_masks = above(masks, self.mask_threshold)
        return Tracks(
            ids=ids,
            labels=labels_from_masks(masks, ids, binary_masks=binary_masks),
            masks=masks,
            binary_masks=binary_masks,
            scores=torch.tensor([detection.score for detection in detections]),
            boxes=torch.from_numpy(np.stack([detection.corners for detection in detections])).float(),
        )

    def state_dict(self) -> dict[str, Any]:
        return {"followed": [_plain(target) for target in self.targets]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.targets = [
            Target(**values | {"colour": np.array(values["colour"]), "kernels": Kernels(*values["kernels"])})
            for values in state["followed"]
        ]


def _plain(target: Target) -> dict[str, Any]:
    """The fields of a target as tensors and plain types."""
    return vars(target) | {"colour": target.colour.tolist(), "kernels": list(target.kernels)}


def _corner(centre: tuple[float, float], size: tuple[float, float]) -> tuple[float, float]:
    """The top left corner of a box."""
    return centre[0] - size[0] / 2, centre[1] - size[1] / 2
