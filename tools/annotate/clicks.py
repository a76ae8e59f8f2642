"""What clicks on the page mark: cut out by SAM, which encodes a frame once for all clicks on it."""

import json

import numpy as np
import torch

from common.device import autocast, pick_device
from common.errors import UserError
from common.types import Click, Prompt
from tracking.config import RunConfig
from tracking.sparse_prompts.clicks import read_clicks_of_id
from tracking.sparse_prompts.cutting import EncodingCutter
from video.images import MAX_LABEL
from video.label_maps import IGNORE


def read_marks(body: bytes) -> tuple[int, list[Click]]:
    """The id and the clicks of a request, {"object": id, "clicks": [[x, y, 1], ...]}, or UserError."""
    try:
        content = json.loads(body)
        track, clicks = content["object"], content["clicks"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError('clicks are sent as {"object": id, "clicks": [[x, y, 1], ...]}') from error
    if type(track) is not int or not 1 <= track <= MAX_LABEL or track == IGNORE:
        raise UserError(f"ids are whole numbers from 1 to {MAX_LABEL}, not {IGNORE}")
    return track, read_clicks_of_id(clicks, "the page")


class ClickMasks:
    """The masks of objects that clicks mark; the embedding of the frame that was clicked last is kept."""

    def __init__(self, cutter: EncodingCutter, config: RunConfig):
        self.cutter, self.config = cutter, config
        self._place: tuple[str, int] | None = None
        self._embedding: torch.Tensor | None = None

    def cut(self, video: str, k: int, picture: np.ndarray, track: int, clicks: list[Click]) -> np.ndarray:
        """(H, W) bool: where the object is by all clicks on it in frame k, an (H, W, 3) uint8 RGB picture.

        Raises UserError where nothing is found.
        """
        with torch.inference_mode(), autocast(pick_device(self.config.device), self.config.amp):
            if self._place != (video, k):
                frame = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
                self._place, self._embedding = None, self.cutter.encode(frame)
                self._place = video, k
            prompt = Prompt(clicks={track: clicks})
            labels = self.cutter.cut_encoded(self._embedding, picture.shape[:2], prompt).labels
        return (labels == track).cpu().numpy()
