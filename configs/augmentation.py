"""The flags of the augmentations that data sets of several systems share."""

from dataclasses import dataclass

from common.config import option


@dataclass
class Augmentation:
    """Random geometry for a batch, and place of the crop, flip and colours for each clip of it.

    Half the time (`crop_probability`) a part of the frames is cut out first: frames are thought of at a short
    side of 1.04 to 1.56 times `image_size`, and 1 to 1.56 times `image_size` of each side are kept. These are
    the ratios of the usual video instance segmentation recipe (resize 400-600, crop 384-600, at 384).
    """

    min_scale: float = option(
        0.75, "minimum short side of training frames, relative to --image_size", least=0.1
    )
    max_scale: float = option(
        1.33, "maximum short side of training frames, relative to --image_size", least=0.1
    )
    crop_probability: float = option(
        0.5, "probability of a random crop, the same for a batch", least=0, most=1
    )
    flip_probability: float = option(0.5, "probability of a horizontal flip of the clip", least=0, most=1)
    color_jitter: float = option(
        0.1, "strength of the jitter of brightness, contrast and saturation", least=0, most=1
    )


@dataclass(kw_only=True)
class Pasting:
    """The flag of the data sets whose training clips take objects of other videos."""

    paste_probability: float = option(
        0.0, "copy-paste: probability of pasting objects of 1 to 3 other videos into a clip", least=0, most=1
    )
