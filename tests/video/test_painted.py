"""Painted pictures become label maps: flat colours are objects, smoothed edges are none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from common.errors import UserError
from video.painted import ColourIds, join_edges, read_flat_colours
from video.pictures import PALETTE

RED, BLUE, SAND = (255, 0, 0), (10, 20, 250), (200, 180, 90)


def paint(path, shapes, *, mode="RGB", scale=1, size=(60, 40), ground=None):
    """A picture of ellipses [(colour, box), ...]; `scale` above 1 smooths their edges."""
    ground = ground or (0,) * len(mode)
    image = Image.new(mode, (size[0] * scale, size[1] * scale), ground)
    for colour, box in shapes:
        ImageDraw.Draw(image).ellipse([side * scale for side in box], fill=colour)
    image.resize(size, Image.Resampling.BOX).save(path)
    return path


SHAPES = [(BLUE, (30, 5, 55, 35)), (RED, (5, 10, 35, 30))]


def test_every_flat_colour_is_an_object_numbered_from_the_top(tmp_path):
    path = paint(tmp_path / "0.png", SHAPES)
    colours = ColourIds([path])
    assert colours.ids == {0x0A14FA: 1, 0xFF0000: 2} and colours.joined == {}
    pixels, labels = np.array(Image.open(path)), colours.read(path)
    assert np.array_equal(labels == 2, (pixels == RED).all(-1))
    assert np.array_equal(labels == 1, (pixels == BLUE).all(-1))
    assert list(colours.lines(tmp_path)) == [
        f"{tmp_path} is painted in colours; they are the objects 1 #0a14fa, 2 #ff0000"
    ]


def test_a_colour_has_one_id_in_all_frames(tmp_path):
    first = paint(tmp_path / "0.png", SHAPES[1:])
    second = paint(tmp_path / "1.png", [*SHAPES, (SAND, (2, 2, 8, 8))])
    colours = ColourIds([first, second])
    assert colours.ids == {0xFF0000: 1, 0xC8B45A: 2, 0x0A14FA: 3}
    assert set(np.unique(colours.read(second))) == {0, 1, 2, 3}


def test_colours_of_the_palette_are_their_ids(tmp_path):
    labels = np.zeros((20, 30), np.uint8)
    labels[2:8, 2:8], labels[10:18, 10:18] = 7, 2
    Image.fromarray(PALETTE[labels]).save(tmp_path / "0.png")
    assert np.array_equal(ColourIds([tmp_path / "0.png"]).read(tmp_path / "0.png"), labels)


def test_transparent_pixels_are_background_whatever_their_colour(tmp_path):
    shapes = [((*RED, 255), (5, 10, 35, 30))]
    path = paint(tmp_path / "0.png", shapes, mode="RGBA", ground=(255, 255, 255, 0))
    assert ColourIds([path]).ids == {0xFF0000: 1}


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_smoothed_edges_join_the_nearest_colour(tmp_path, scale):
    path = paint(tmp_path / "0.png", [*SHAPES, (SAND, (2, 30, 12, 39))], scale=scale)
    assert len(np.unique(np.array(Image.open(path)).reshape(-1, 3), axis=0)) > 10
    colours = ColourIds([path])
    assert set(colours.ids) == {0xFF0000, 0x0A14FA, 0xC8B45A}
    labels = colours.read(path)
    full = np.array(Image.open(paint(tmp_path / "flat.png", [(RED, (5, 10, 35, 30))]))).any(-1)
    inside = labels == colours.ids[0xFF0000]
    assert (inside & full).sum() / (inside | full).sum() > 0.9
    assert f"{colours.joined[path]} pixels joined" in list(colours.lines(tmp_path))[1]


def test_edges_of_a_grey_map_join_too():
    labels = np.zeros((9, 9), np.uint8)
    labels[2:7, 2:7] = 255
    labels[2], labels[:, 2] = np.where(labels[2], 100, 0), np.where(labels[:, 2], 90, 0)
    joined, count = join_edges(Path("x.png"), labels)
    assert count == 9 and set(np.unique(joined)) == {0, 255}
    assert join_edges(Path("x.png"), joined)[1] == 0


def test_what_is_no_painted_map_is_refused_with_the_remedy(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    noise[0, 0] = 0
    Image.fromarray(noise).save(tmp_path / "photo.png")
    Image.new("RGB", (9, 9), SAND).save(tmp_path / "full.png")
    Image.open(paint(tmp_path / "x.png", SHAPES)).save(tmp_path / "jpeg.png", format="JPEG")
    ramp = np.zeros((20, 40, 3), np.uint8)
    ramp[5:15, 5:35, 0] = np.arange(30) * 8 + 1
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    reasons = {
        "photo": "as a photo",
        "full": "no background",
        "jpeg": "is a JPEG",
        "ramp": "than flat pixels",
    }
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=reason):
            read_flat_colours(tmp_path / f"{name}.png")
