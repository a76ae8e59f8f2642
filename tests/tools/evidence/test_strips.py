"""The pictures of a strip: what is cut out of a frame, and what is drawn over it."""

import numpy as np
from PIL import Image

from tools.evidence.strips import Window, cell, ground, window_around


def test_pictures_are_cut_to_the_objects_in_the_proportions_of_the_frame():
    inside = np.zeros((100, 200), dtype=bool)
    assert window_around(inside) == Window(0, 0, 100, 200)
    inside[90:98, 180:190] = True
    assert window_around(inside) == Window(70, 140, 30, 60)  # pushed into the frame
    inside[:] = False
    inside[40:60, 20:120] = True
    assert window_around(inside) == Window(15, 0, 70, 140)
    inside[5:95] = True
    assert window_around(inside) == Window(0, 0, 100, 200)


def test_a_cell_shows_its_window_of_label_map_and_frame(tmp_path):
    labels = np.zeros((100, 200), dtype=np.uint8)
    labels[40:60, 100:140] = 1
    frame = np.zeros((200, 400, 3), dtype=np.uint8)
    frame[:, 200:] = 200
    Image.fromarray(frame).save(tmp_path / "frame.png")
    window = Window(25, 60, 50, 80)
    picture = cell(ground(tmp_path / "frame.png", window, labels.shape), labels, window)
    assert picture.shape == (200, 320, 3)
    assert picture[10, 10].tolist() == [0, 0, 0] and picture[10, 300].tolist() == [200, 200, 200]
    assert picture[130, 300].tolist() == [164, 100, 100]  # beside the name, which stands in the middle
