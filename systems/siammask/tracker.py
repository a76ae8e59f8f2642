"""SiamMaskTracker: follows boxes or masks through a video, every object by a template of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.config import option
from common.errors import require
from common.types import Prompt, Tracks
from systems.siammask import crops
from systems.siammask.anchors import STRIDE
from systems.siammask.crops import SEARCH, TEMPLATE, Window
from systems.siammask.folding import inference_copy
from systems.siammask.modules import Kernels, SiamMask
from systems.siammask.prompts import Named, read_prompt
from systems.siammask.selection import choose
from video.allocate import empty
from video.masks import above, labels_from_masks

OBJECTS_AT_ONCE = 16  # whose crops are searched together, which bounds memory
LEAST_SIDE = 10  # of a tracked box, pixels
FIRST_WINDOW = 4  # the mask of the response (y, x) begins at 8 * (y - 4), 8 * (x - 4) of the search crop


@dataclass
class Followed:
    """One object.

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


@dataclass
class Found:
    """What is said of one object in a frame, beside its mask: (4, 2) corners and the score."""

    box: np.ndarray
    score: float


def similarity(features: Tensor, others: Tensor) -> Tensor:
    """(K,) cosines of (K, C, h, w) features."""
    return torch.cosine_similarity(features.flatten(1), others.flatten(1))


class SiamMaskTracker:
    """SiamMask on one video: a search around the last place of every object, whose mask comes from the best
    window.

    A prompt on any frame starts its new ids and starts its known ones anew. All that is known of an object is
    here, nothing in the network; objects are searched for in one batch.
    """

    needs_prompt = True

    @dataclass(kw_only=True)
    class Config:
        penalty_k: float = option(0.09, "strength of the penalty for a change of size or ratio", least=0)
        window_influence: float = option(
            0.39, "weight of the window that favours the last place", least=0, most=1
        )
        size_lr: float = option(0.38, "share of a new size that is taken over where all is certain", least=0)
        seg_thr: float = option(0.3, "probability above which a pixel belongs to an object", least=0, most=1)
        mask_form: str = option(
            "best",
            "masks of 127x127 where the network refines, else of 63x63; of 63x63; or filled boxes",
            ("best", "coarse", "box"),
        )
        fold_batchnorm: bool = option(
            True, "put batch norms into the convolutions, which changes rounding only"
        )
        channels_last: bool = option(True, "keep channels last in memory, which changes rounding only")
        update_template: bool = option(
            False, "renew the templates of objects that are sure and still look like the first one"
        )
        update_every: int = option(5, "frames from one look for a new template to the next", least=1)
        update_score: float = option(
            0.9, "least score of an object that gives a new template", least=0, most=1
        )
        update_similarity: float = option(
            0.8,
            "least cosine of a new template and the first one, which keeps it from drifting",
            least=-1,
            most=1,
        )

    def __init__(self, network: SiamMask, config: Config):
        require("cv2", "SiamMask")  # told before anything is written
        self.network, self.config = network, config
        self.mask_threshold = config.seg_thr
        self.reset()

    def reset(self) -> None:
        """Forget the video; the weights are read anew, because they may have been trained in the meantime."""
        config = self.config
        self.followed: list[Followed] = []
        self.fast = inference_copy(
            self.network, fold=config.fold_batchnorm, channels_last=config.channels_last
        )
        self.refined = config.mask_form == "best" and self.network.config.refine

    @torch.inference_mode()
    def step(self, frame: Tensor, prompt: Prompt | None = None) -> Tracks:
        """Frame uint8 RGB (3, H, W) of any size, on any device; the tracks are on the CPU."""
        size = tuple(frame.shape[-2:])
        given = read_prompt(prompt, size)
        if not self.followed and not given:
            return Tracks.empty(*size)
        image = crops.to_bgr(frame.cpu().numpy())
        named = {one.track: one for one in given}
        known = [one for one in self.followed if one.track not in named]
        for few in self._chunks(given):
            self._start(image, few)
        masks = empty(len(self.followed), *size)
        room = {one.track: mask for one, mask in zip(self.followed, masks.numpy(), strict=True)}
        found: dict[int, Found] = {}
        for few in self._chunks(known):
            found |= self._search(image, few, room)
        for one in given:
            room[one.track][:] = one.mask
            corners = crops.box_corners(*_corner(one.centre, one.size), *one.size)
            found[one.track] = Found(corners, 1.0)
        return self._tracks([found[one.track] for one in self.followed], masks)

    @staticmethod
    def _chunks(objects: list) -> Iterator[list]:
        for start in range(0, len(objects), OBJECTS_AT_ONCE):
            yield objects[start : start + OBJECTS_AT_ONCE]

    def _to_network(self, images: list[np.ndarray]) -> Tensor:
        """Crops (S, S, 3) as one batch (K, 3, S, S) of raw pixels where the network is."""
        batch = torch.from_numpy(np.stack(images)).to(next(self.fast.parameters()).device)
        batch = batch.permute(0, 3, 1, 2).float()  # this is channels last in memory
        return batch if self.config.channels_last else batch.contiguous()

    def _templates(
        self, image: np.ndarray, objects: list[Followed] | list[Named], colours: list[np.ndarray]
    ) -> tuple[list[Kernels], Tensor]:
        """The kernels of each object as it is in this frame, and features (K, C, 7, 7)."""
        cut = [
            crops.crop(image, one.centre, TEMPLATE, max(1, round(crops.context_side(*one.size))), colour)
            for one, colour in zip(objects, colours, strict=True)
        ]
        kernels, features = self.fast.encode_template(self._to_network(cut))
        return [Kernels(*each) for each in zip(*(part.split(1) for part in kernels), strict=True)], features

    def _start(self, image: np.ndarray, given: list[Named]) -> None:
        """Take the templates that a prompt gives; known ids begin anew, in their places."""
        colour = image.mean((0, 1))
        kernels, features = self._templates(image, given, [colour] * len(given))
        places = {one.track: place for place, one in enumerate(self.followed)}
        for one, own, seen in zip(given, kernels, features.split(1), strict=True):
            seen = seen if self.config.update_template else None
            new = Followed(one.track, one.centre, one.size, colour, own, seen)
            if one.track in places:
                self.followed[places[one.track]] = new
            else:
                self.followed.append(new)

    def _search(
        self, image: np.ndarray, objects: list[Followed], room: dict[int, np.ndarray]
    ) -> dict[int, Found]:
        """Find each object near its last place, move it there, and paste its mask into its (H, W) `room`."""
        sides = [crops.context_side(*one.size) for one in objects]
        squares = [max(1, crops.search_side(side)) for side in sides]
        cut = [
            crops.crop(image, one.centre, SEARCH, square, one.colour)
            for one, square in zip(objects, squares, strict=True)
        ]
        numbers, masks = self._ask(cut, objects, sides)
        found = {}
        for one, side, square, row, mask in zip(objects, sides, squares, numbers, masks, strict=True):
            found[one.track] = self._move(one, side, square, row, mask, room[one.track])
        if self.config.update_template:
            self._renew(image, objects, [found[one.track].score for one in objects])
        return found

    def _ask(
        self, cut: list[np.ndarray], objects: list[Followed], sides: list[float]
    ) -> tuple[list[list[float]], np.ndarray]:
        """The network's answer to K search crops, fetched from the device at once.

        Returns of each row, column, score, penalty, cx, cy, w, h (pixels of the crop, from its middle), and
        masks (K, s, s) of probabilities, of no size where boxes are asked for.
        """
        kernels = Kernels(*(torch.cat(part) for part in zip(*(one.kernels for one in objects), strict=True)))
        response = self.fast.search(kernels, self._to_network(cut))
        sizes = [
            [length * (TEMPLATE / side) for length in one.size]
            for one, side in zip(objects, sides, strict=True)
        ]
        config = {name: getattr(self.config, name) for name in ("penalty_k", "window_influence")}
        sizes = torch.tensor(sizes, dtype=torch.float64, device=response.cls.device)
        place, numbers = choose(response.cls, response.loc, sizes, **config)
        if self.config.mask_form == "box":
            masks = numbers.new_zeros(len(objects), 0, 0)
        else:
            masks = self.fast.masks_at(response, place[:, 1:], refined=self.refined).float().sigmoid()
        fetched = torch.cat([place[:, 1:].double(), numbers, masks.flatten(1).double()], 1).cpu()
        side = masks.shape[-1]
        return fetched[:, :8].tolist(), fetched[:, 8:].float().view(len(objects), side, side).numpy()

    def _move(
        self,
        one: Followed,
        side: float,
        square: int,
        answer: list[float],
        mask: np.ndarray,
        pasted: np.ndarray,
    ) -> Found:
        """Bring an object to where the answer has it, and its mask into `pasted`, (H, W).

        Template and search show `side` and `square` pixels.
        """
        row, column, score, penalty, x, y, width, height = answer
        scale = TEMPLATE / side
        ratio = square / SEARCH
        corner = (
            one.centre[0] - square / 2 + (column - FIRST_WINDOW) * STRIDE * ratio,
            one.centre[1] - square / 2 + (row - FIRST_WINDOW) * STRIDE * ratio,
        )
        step = penalty * score * self.config.size_lr
        centre = one.centre[0] + x / scale, one.centre[1] + y / scale
        size = tuple(
            old * (1 - step) + new / scale * step for old, new in zip(one.size, (width, height), strict=True)
        )
        H, W = pasted.shape
        one.centre = min(max(centre[0], 0.0), float(W)), min(max(centre[1], 0.0), float(H))
        one.size = tuple(
            float(max(LEAST_SIDE, min(most, own))) for most, own in zip((W, H), size, strict=True)
        )
        one.age += 1
        if self.config.mask_form == "box":
            box = (*_corner(one.centre, one.size), *one.size)
            pasted[:] = crops.fill_box(box, (H, W))
            return Found(crops.box_corners(*box), score)
        crops.paste(mask, Window(*corner, TEMPLATE * ratio), pasted)
        box = crops.rotated_box(pasted > self.config.seg_thr)
        if box is None:  # the mask is too small for one: the box of the regression, as it was before clipping
            box = crops.box_corners(*_corner(centre, size), *size)
        return Found(box, score)

    def _renew(self, image: np.ndarray, objects: list[Followed], scores: list[float]) -> None:
        """Replace the templates of objects that are sure and still look as they did when they were given.

        Every new one is compared with the first, so that small changes do not add up to another object.
        """
        config = self.config
        due = [
            one
            for one, score in zip(objects, scores, strict=True)
            if one.age % config.update_every == 0 and score >= config.update_score
        ]
        if not due:
            return
        kernels, features = self._templates(image, due, [one.colour for one in due])
        alike = similarity(features, torch.cat([one.features for one in due])).tolist()
        for one, new, cosine in zip(due, kernels, alike, strict=True):
            if cosine >= config.update_similarity:
                one.kernels = new

    def _tracks(self, found: list[Found], masks: Tensor) -> Tracks:
        """The best object has a pixel, where it is above the threshold; masks (K, H, W) are cut to [0, 1]."""
        ids = torch.tensor([one.track for one in self.followed])
        masks = masks.clamp_(0, 1)
        binary_masks = above(masks, self.mask_threshold)
        return Tracks(
            ids=ids,
            labels=labels_from_masks(masks, ids, binary_masks=binary_masks),
            masks=masks,
            binary_masks=binary_masks,
            scores=torch.tensor([one.score for one in found]),
            boxes=torch.from_numpy(np.stack([one.box for one in found])).float(),
        )

    def state_dict(self) -> dict[str, Any]:
        plain = ({"colour": one.colour.tolist(), "kernels": list(one.kernels)} for one in self.followed)
        return {"followed": [vars(one) | own for one, own in zip(self.followed, plain, strict=True)]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.followed = [
            Followed(
                **values | {"colour": np.array(values["colour"]), "kernels": Kernels(*values["kernels"])}
            )
            for values in state["followed"]
        ]


def _corner(centre: tuple[float, float], size: tuple[float, float]) -> tuple[float, float]:
    """The top left corner of a box."""
    return centre[0] - size[0] / 2, centre[1] - size[1] / 2
