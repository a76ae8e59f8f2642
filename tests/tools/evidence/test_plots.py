"""The lines of a plot."""

import numpy as np
import pytest

from tools.evidence.plots import LUMINANCE, line_colour
from video.pictures import OUTLINES


@pytest.mark.parametrize("track", [1, 2, 4, 7, 300])
def test_the_colours_of_lines_have_the_hue_of_the_pictures_and_one_luminance(track):
    colour = np.array([int(line_colour(track)[i : i + 2], 16) for i in (1, 3, 5)])
    assert (colour / 255) ** 2.2 @ (0.2126, 0.7152, 0.0722) == pytest.approx(LUMINANCE, abs=0.01)
    bright = OUTLINES[(track - 1) % 255 + 1].astype(int)
    assert np.argsort(colour).tolist()[-1] in np.flatnonzero(bright == bright.max())
