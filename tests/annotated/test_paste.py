"""Cut-outs of other videos: what is cut out, where it moves, what it covers and what it gets labelled."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from annotated.paste import (
    CutOut,
    cut_objects,
    draw_cut_outs,
    paste,
    paste_frame,
    random_path,
    require_others,
)
from annotated.videos import AnnotatedVideo, VOSFolder
from common.errors import UserError
from common.seeding import seeded
from tests.support.vos_folders import write_video
from video.label_maps import IGNORE


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[AnnotatedVideo]:
    """two: objects 1 and 2, which moves by 2 pixels a frame, and ignored pixels; none; small: 4 pixels."""
    root = tmp_path_factory.mktemp("data")
    maps = np.zeros((3, 24, 32), np.uint8)
    for t in range(3):
        maps[t, 2:8, 4:10] = 1
        maps[t, 12:20, 4 + 2 * t : 10 + 2 * t] = 2
        maps[t, 0, :] = IGNORE
    write_video(root, "two", maps)
    for t in range(3):  # in 8 bits, where 255 is to be ignored
        Image.fromarray(maps[t]).save(root / "Annotations" / "two" / f"{t:05d}.png")
    write_video(root, "none", np.zeros_like(maps))
    write_video(root, "small", np.pad(np.full((3, 2, 2), 3, np.uint8), ((0, 0), (9, 9), (9, 9))))
    return sorted(VOSFolder(root).videos, key=lambda video: ["two", "none", "small"].index(video.name))


def square(colour: int, side: int = 10, T: int = 3) -> CutOut:
    """A cut-out that fills its window."""
    frames = torch.full((T, 3, side, side), colour, dtype=torch.uint8)
    return CutOut(None, 1, frames, torch.ones(T, side, side, dtype=torch.bool))


def scene(T: int = 3, size: tuple[int, int] = (40, 60)) -> tuple[Tensor, Tensor]:
    """Grey frames with the bright object 1 in the middle; their first rows are ignored."""
    frames, labels = (
        torch.full((T, 3, *size), 50, dtype=torch.uint8),
        torch.zeros(T, *size, dtype=torch.uint8),
    )
    labels[:, 10:30, 20:40] = 1
    frames[:, :, 10:30, 20:40] = 100
    labels[:, :4] = IGNORE
    return frames, labels


def test_an_object_is_cut_out_of_the_window_that_holds_it_in_all_frames(videos):
    cuts = cut_objects(videos[0], videos[0].annotated, 9, min_area=1)
    assert sorted(cut.id for cut in cuts) == [1, 2]
    one, two = sorted(cuts, key=lambda cut: cut.id)
    assert one.frames.shape == (3, 3, 6, 6) and one.masks.all() and (one.frames == 10).all()
    assert two.masks.shape == (3, 8, 10) and two.video.name == "two"
    for t in range(3):
        assert two.masks[t].any(0).nonzero().flatten().tolist() == list(range(2 * t, 2 * t + 6))
        assert (two.frames[t, :, two.masks[t]] == 20).all() and (two.frames[t, :, ~two.masks[t]] == 0).all()


def test_what_is_ignored_or_small_is_not_cut_out(videos):
    drawn = {cut.id for _ in range(30) for cut in cut_objects(videos[0], ["00000"], 1, min_area=1)}
    assert drawn == {1, 2}
    assert cut_objects(videos[1], videos[1].annotated, 9, min_area=1) == []
    assert cut_objects(videos[2], videos[2].annotated, 9, min_area=5) == []
    assert [cut.id for cut in cut_objects(videos[2], videos[2].annotated, 9, min_area=4)] == [3]


def annotated(video: AnnotatedVideo) -> list[str]:
    return video.annotated


def test_objects_are_cut_out_of_other_videos_however_often_a_video_counts(videos):
    two, _, small = videos
    for seed in range(20):
        with seeded(seed):
            cuts = draw_cut_outs(1.0, [two, two, two, small], two, annotated, min_area=1)
        assert [cut.video.name for cut in cuts] == ["small"]


def test_one_to_three_objects_are_cut_out_with_the_probability_asked_for(videos):
    def count(seed: int, probability: float) -> int:
        with seeded(seed):
            cuts = draw_cut_outs(probability, videos, videos[1], annotated, min_area=1)
        assert len({(cut.video.name, cut.id) for cut in cuts}) == len(cuts)
        return len(cuts)

    always = [count(seed, 1.0) for seed in range(60)]
    assert set(always) == {1, 2, 3}
    assert 10 < sum(count(seed, 0.5) == 0 for seed in range(60)) < 45
    state = torch.random.get_rng_state()
    assert draw_cut_outs(0.0, videos, videos[1], annotated, min_area=1) == []
    assert torch.equal(torch.random.get_rng_state(), state)  # other draws stay what they were without pasting


def test_a_cut_out_moves_smoothly_and_keeps_its_ratio_of_sides():
    for seed in range(40):
        with seeded(seed):
            path = np.array(random_path(torch.zeros(8, 3, 60, 30), (100, 200)))
        top, left, height, width = path.T
        assert 17 <= height.max() <= 82 and abs(height / width - 2).max() < 0.2
        centres = np.stack([top + height / 2, left + width / 2])
        steps = np.diff(centres)
        assert abs(centres[:, -1] - centres[:, 0]).max() <= 7 * 15 + 1
        assert abs(np.diff(steps)).max() < 12  # a parabola of at most 105 pixels in 7 steps, and rounding


def test_a_small_cut_out_is_not_blown_up():
    for seed in range(20):
        with seeded(seed):
            assert max(height for *_, height, _ in random_path(torch.zeros(3, 3, 6, 5), (400, 400))) <= 14


def paste_at(place: tuple[int, int, int, int], is_behind: Tensor) -> tuple[Tensor, Tensor]:
    frames, labels = scene()
    cut = square(200)
    paste_frame(frames[0], labels[0], (cut.frames[0], cut.masks[0]), place, 7, is_behind)
    return frames[0, 0].int(), labels[0]


@pytest.mark.parametrize("top, left", [(25, 35), (-4, -7), (35, 55), (-20, 5), (50, 5), (5, 90)])
def test_a_cut_out_is_pasted_where_it_lies_as_far_as_it_lies_inside(top, left):
    frame, labels = paste_at((top, left, 10, 10), torch.ones(256, dtype=torch.bool))
    before, known = (x[0] for x in scene())
    expected = torch.zeros(40, 60, dtype=torch.bool)
    expected[max(0, top) : max(0, top + 10), max(0, left) : max(0, left + 10)] = True
    assert torch.equal(labels == 7, expected) and torch.equal(labels[~expected], known[~expected])
    assert torch.equal(frame[~expected], before[0][~expected].int())
    inner = torch.zeros_like(expected)
    inner[max(0, top + 1) : max(0, top + 9), max(0, left + 1) : max(0, left + 9)] = True
    assert (frame[inner] == 200).all()
    rim = frame[expected & ~inner]
    assert ((rim > 50) & (rim < 200)).all()  # mixed with what lies below


def test_a_cut_out_lies_behind_what_is_in_front_of_it():
    is_behind = torch.ones(256, dtype=torch.bool)
    is_behind[1] = False
    frame, labels = paste_at((5, 15, 30, 30), is_behind)
    known = scene()[1][0]
    assert torch.equal(labels == 1, known == 1) and (frame[known == 1] == 100).all()
    assert (labels[6:34, 16:19] == 7).all() and (frame[7:33, 16:19] == 200).all()


def test_all_else_stays_and_what_is_ignored_too():
    frames, labels = scene()
    for seed in range(20):
        with seeded(seed):
            changed, found, pasted = paste(frames, labels, [square(200), square(150)])
        assert sorted(pasted) == [2, 3]
        new = (found == 2) | (found == 3)
        assert torch.equal(found[~new], labels[~new])
        assert torch.equal(changed[:, 0][~new], frames[:, 0][~new])
    assert torch.equal(labels, scene()[1]) and torch.equal(frames, scene()[0])  # the input is not written to


def test_the_order_of_depth_is_drawn_and_holds_in_all_frames(monkeypatch):
    monkeypatch.setattr("annotated.paste.random_path", lambda frames, size: [(14, 24, 10, 10)] * len(frames))
    frames, labels = scene()
    seen = set()
    for seed in range(40):
        with seeded(seed):
            _, found, _ = paste(frames, labels, [square(200), square(150)])
        (winner,) = found[:, 14:24, 24:34].unique().tolist()
        seen.add(winner)
        gone = {2, 3} - {winner}
        assert not torch.isin(found, torch.tensor(sorted(gone))).any()  # wholly covered: in no label map
    assert seen == {1, 2, 3}


def test_cut_outs_enter_and_leave():
    frames, labels = scene(T=6)
    enters = leaves = 0
    for seed in range(60):
        with seeded(seed):
            _, found, _ = paste(frames, labels, [square(200, T=6)])
        seen = (found == 2).flatten(1).any(1).tolist()
        enters += seen[-1] and not seen[0]
        leaves += seen[0] and not seen[-1]
    assert enters and leaves


def test_labels_in_use_are_not_taken_and_without_a_free_one_nothing_is_pasted():
    frames, labels = torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.arange(256).byte().view(1, 16, 16)
    assert paste(frames, labels, [square(9, T=1)])[2] == {}
    labels[labels == 77] = 0
    _, found, pasted = paste(frames, labels, [square(9, T=1), square(9, T=1)])
    assert list(pasted) == [77] and found.shape == labels.shape
    assert paste(frames, labels, [])[2] == {}


def test_a_data_set_of_one_video_has_nothing_to_paste(videos):
    require_others(0.0, Path("data"), videos[:1])
    require_others(0.5, Path("data"), videos)
    with pytest.raises(UserError, match=r"--paste_probability 0.5 .* but data has one only .*: add videos"):
        require_others(0.5, Path("data"), videos[:1] * 3)
