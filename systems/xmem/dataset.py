"""XMemDataset: eight frames of a video that are near one another, or three of a still image."""

from configs.xmem import DataConfig
from systems.stcn.dataset import STCNDataset
from video.transforms import draw


def nearby_places(length: int, max_jump: int, count: int) -> list[int]:
    """So many frames of a video, in order or backwards: the first is drawn anywhere, each further one from
    those at most `max_jump` from any that was drawn.
    """
    chosen = {int(draw(0, length))}
    near: set[int] = set()
    latest = next(iter(chosen))
    for _ in range(count - 1):
        near |= set(range(max(0, latest - max_jump), min(length, latest + max_jump + 1)))
        free = sorted(near - chosen)
        latest = free[int(draw(0, len(free)))]
        chosen.add(latest)
    places = sorted(chosen)
    return places[::-1] if draw(0, 1) < 0.5 else places


class XMemDataset(STCNDataset):
    """STCN's clips, with more frames and objects: `clip_length` frames, at most `num_objects` slots.

    The objects are drawn among those seen in the first frame. The masks of still images are hard.
    """

    soft_stills = False
    crop_mode = "bilinear"

    Config = DataConfig

    @property
    def num_frames(self) -> int:
        return self.config.clip_length

    @property
    def num_targets(self) -> int:
        return self.config.num_objects

    def _random_places(self, length: int, max_jump: int) -> list[int]:
        return nearby_places(length, max_jump, self.num_frames)
