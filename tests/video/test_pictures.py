import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from training.curves import plot_curves
from video.pictures import OUTLINES, PALETTE, colour_of, draw_overlay, middle, overlay, strip

GREY = np.full((60, 80, 3), 100, dtype=np.uint8)


def test_the_palette_is_that_of_davis():
    assert PALETTE.shape == (256, 3) and PALETTE.dtype == np.uint8
    assert PALETTE[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert PALETTE[[8, 20, 255]].tolist() == [[64, 0, 0], [0, 64, 128], [224, 224, 192]]
    assert len(np.unique(PALETTE, axis=0)) == 256


def test_colours_of_large_ids_begin_again_but_never_at_the_background():
    assert colour_of(1) == colour_of(256) == (128, 0, 0)
    assert colour_of(255) == colour_of(510) == (224, 224, 192)
    assert (0, 0, 0) not in {colour_of(track) for track in range(1, 1000)}


def test_background_is_untouched_and_objects_are_filled_and_outlined():
    labels = np.zeros((60, 80), dtype=np.int64)
    labels[20:50, 30:60] = 2
    picture = draw_overlay(GREY, labels, text={})
    assert picture.shape == GREY.shape and picture.dtype == np.uint8
    assert (picture[labels == 0] == 100).all()
    assert picture[35, 45].tolist() == [50, 114, 50]  # half of the frame, half of (0, 128, 0)
    edge = np.zeros_like(labels, dtype=bool)
    edge[20:50, 30:60] = True
    edge[21:49, 31:59] = False
    assert (picture[edge] == OUTLINES[2]).all() and OUTLINES[2].tolist() == [0, 255, 0]
    assert (GREY == 100).all()


def test_neighbouring_objects_are_parted_by_both_outlines():
    labels = np.ones((60, 80), dtype=np.uint8)
    labels[:, 40:] = 3
    picture = draw_overlay(GREY, labels, text={})
    assert picture[30, 39].tolist() == [255, 0, 0] and picture[30, 40].tolist() == [255, 255, 0]
    assert (
        picture[0, 0].tolist() == picture[30, 38].tolist() == [114, 50, 50]
    )  # the picture's border is no edge


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_ids_of_any_integers_give_the_same_picture(dtype):
    labels = np.zeros((60, 80), dtype=dtype)
    labels[20:50, 30:60] = 200
    np.testing.assert_array_equal(draw_overlay(GREY, labels), draw_overlay(GREY, labels.astype(np.int32)))


def test_no_object_leaves_the_frame_as_it_is():
    np.testing.assert_array_equal(draw_overlay(GREY, np.zeros((60, 80), dtype=np.int64)), GREY)


def test_a_name_stands_on_the_middle_of_the_largest_part_in_the_colour_of_the_id():
    labels = np.zeros((60, 80), dtype=np.int64)
    labels[30:55, 30:70] = labels[2:5, 2:78] = 300
    changed = (draw_overlay(GREY, labels) != draw_overlay(GREY, labels, text={})).any(2)
    rows, columns = np.nonzero(changed)
    assert abs(rows.mean() - 42) < 2 and 32 < columns.min() and columns.max() < 68
    assert (draw_overlay(GREY, labels)[changed] == colour_of(300)).all(1).mean() > 0.3


def test_the_middle_is_in_the_object_and_deepest_in_its_largest_part():
    mask = np.zeros((300, 300), dtype=bool)
    mask[:, :60], mask[140:150, 60:], mask[:70, 200:270] = True, True, True  # a bar, a stalk, a square apart
    y, x = middle(mask)
    assert abs(y - 150) < 20 and 24 <= x <= 40
    assert middle(np.eye(1, 200, 77, dtype=bool)) == (0, 77)  # no other pixel is looked at


def test_names_may_be_given_and_ids_without_one_have_none():
    labels = np.zeros((60, 80), dtype=np.int64)
    labels[40:55, 5:25], labels[40:55, 50:70] = 1, 2
    changed = (draw_overlay(GREY, labels, text={2: "cat"}) != draw_overlay(GREY, labels, text={})).any(2)
    assert changed[:, 40:].any() and not changed[:, :40].any()


def test_names_stay_in_the_picture_and_do_not_cover_one_another():
    labels = np.zeros((60, 80), dtype=np.int64)
    labels[0:5, 0:5], labels[0:5, 5:10], labels[55:60, 78:80] = 1, 2, 3
    plates = [
        (draw_overlay(GREY, labels, {track: "88"}) != draw_overlay(GREY, labels, {})).any(2).sum()
        for track in (1, 2, 3)
    ]
    together = draw_overlay(GREY, labels, {1: "88", 2: "88", 3: "88"})
    covered = [(together == colour_of(track)).all(2).sum() for track in (1, 2, 3)]
    assert min(covered) > 0.3 * max(plates)


def test_a_name_larger_than_the_picture_is_cut():
    picture = draw_overlay(
        GREY[:4, :4], np.ones((4, 4), dtype=np.uint8), text={1: "much wider than the picture"}
    )
    assert picture.shape == (4, 4, 3)


def test_a_matched_track_has_the_colour_of_its_object_and_keeps_its_number():
    labels = np.zeros((60, 80), dtype=np.int64)
    labels[20:50, 10:30], labels[20:50, 50:70] = 1, 300
    objects = np.where(labels == 1, 300, np.where(labels == 300, 2, 0))
    matched = draw_overlay(GREY, labels, object_of={1: 300, 300: 2})
    np.testing.assert_array_equal(matched, draw_overlay(GREY, objects, text={300: "1", 2: "300"}))
    assert (matched != draw_overlay(GREY, labels)).any()


def test_an_unmatched_track_has_a_colour_that_no_object_has():
    labels = np.ones((60, 80), dtype=np.uint8)
    labels[:, 40:] = 2
    picture = draw_overlay(GREY, labels, text={}, object_of={2: 1})
    assert picture[30, 20].tolist() == [177, 177, 177] and picture[30, 39].tolist() == [0, 0, 0]
    assert picture[30, 60].tolist() == [114, 50, 50] and picture[30, 40].tolist() == [255, 0, 0]
    assert colour_of(1, {2: 1}) == (255, 255, 255)
    assert (255, 255, 255) not in {colour_of(track) for track in range(1, 256)}


@pytest.mark.parametrize("to", [np.asarray, torch.from_numpy])
def test_an_overlay_is_a_picture_that_a_notebook_shows_of_arrays_or_tensors(to):
    labels = np.zeros((60, 80), dtype=np.int64)
    labels[20:50, 30:60] = 2
    drawn = draw_overlay(GREY, labels, {2: "cat"})
    for frame in (GREY, np.ascontiguousarray(GREY.transpose(2, 0, 1))):
        picture = overlay(to(frame), to(labels), {2: "cat"})
        np.testing.assert_array_equal(np.asarray(picture), drawn)
        assert picture._repr_png_().startswith(b"\x89PNG")


def test_a_strip_places_pictures_of_different_sizes_in_rows():
    images = [np.full((10 * k, 8 * k, 3), 60 * k, dtype=np.uint8) for k in (1, 2, 3)]
    sheet = strip(images, columns=2)
    assert sheet.shape == (2 * 34 + 4, 2 * 28 + 4, 3)
    assert [sheet[y + 4, x + 4, 0] for y, x in ((0, 0), (0, 28), (34, 0), (34, 28))] == [60, 120, 180, 255]
    np.testing.assert_array_equal(sheet[4:24, 32:48], images[1])


def test_captions_make_room_above_the_pictures():
    images = [np.zeros((10, 60, 3), dtype=np.uint8)] * 2
    sheet = strip(images, captions=["one", "two"])
    assert sheet.shape == (10 + 18 + 8, 2 * 64 + 4, 3)
    assert sheet[4:20].min() < 100 and (sheet[22:32, 4:64] == 0).all()
    with pytest.raises(ValueError):
        strip(images, captions=["one"])


def save_csv(path: Path, rows: list[list[object]]) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_curves_are_drawn_from_a_csv_with_gaps(tmp_path: Path):
    rows = [["step", "epoch", "loss/total", "loss/dice", "lr/heads", "val/J", "seconds"]]
    rows += [
        [step, step // 5, 1 / (step + 1), "nan", 1e-4, step if step % 5 == 4 else "", 3] for step in range(10)
    ]
    plot_curves(save_csv(tmp_path / "results.csv", rows), tmp_path / "out" / "results.png")
    with Image.open(tmp_path / "out" / "results.png") as image:
        assert image.format == "PNG" and image.size == (1800, 420)  # 3 groups in a row
        assert len(np.unique(np.array(image.convert("RGB")).reshape(-1, 3), axis=0)) > 10
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.png"]


def test_no_two_of_many_curves_look_alike_and_epochs_are_whole(tmp_path: Path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: (drawn.append(figure), open(file, "w")))
    rows = [["epoch", *(f"val/{name}" for name in range(12))], [1, *range(12)], [2, *range(12)]]
    plot_curves(save_csv(tmp_path / "results.csv", rows), tmp_path / "results.png")
    (axes,) = [axes for axes in drawn[0].axes if axes.lines]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 12
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_a_csv_without_rows_or_without_curves_still_gives_a_picture(tmp_path: Path):
    for rows in ([["epoch", "loss/total"]], [["step", "epoch"], [1, 1]], []):
        plot_curves(save_csv(tmp_path / "results.csv", rows), tmp_path / "results.png")
        with Image.open(tmp_path / "results.png") as image:
            assert image.size == (600, 420)


def test_curves_of_a_missing_csv_leave_nothing(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"results\.csv"):
        plot_curves(tmp_path / "results.csv", tmp_path / "results.png")
    assert list(tmp_path.iterdir()) == []
