"""SAMTracker, with a network that knows colours: templates, the gate, objects that leave, one encoding."""

import pytest
import torch

from common.errors import UserError
from common.types import Prompt
from systems.sam_track.tracker import SAMTracker
from tests.support.sam_networks import ColourNetwork, small_network

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)
SIZE = (32, 32)


def picture(*squares: tuple[tuple[int, int, int], int, int]) -> torch.Tensor:
    """Black, with squares of 8x8, each (colour, row, column)."""
    frame = torch.zeros(3, *SIZE, dtype=torch.uint8)
    for colour, row, column in squares:
        frame[:, row : row + 8, column : column + 8] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    return frame


def prompt(squares: dict[int, tuple[int, int]]) -> Prompt:
    """A label map of squares of 8x8, {id: (row, column)}."""
    labels = torch.zeros(SIZE, dtype=torch.int64)
    for track, (row, column) in squares.items():
        labels[row : row + 8, column : column + 8] = track
    return Prompt(labels)


def tracker(**options: object) -> SAMTracker:
    return SAMTracker(ColourNetwork(), SAMTracker.Config(**options))


def place(labels: torch.Tensor, track: int) -> tuple[int, int]:
    """The first row and column of an object."""
    pixels = (labels == track).nonzero()
    return tuple(pixels.amin(0).tolist())


def test_objects_are_followed_and_frames_are_encoded_once():
    one = tracker()
    one.step(
        picture((RED, 0, 0), (GREEN, 16, 0), (BLUE, 24, 24)), prompt({3: (0, 0), 5: (16, 0), 9: (24, 24)})
    )
    for t in (8, 16):
        tracks = one.step(picture((RED, 0, t), (GREEN, 16, t), (BLUE, 24 - t, 24)))
        assert tracks.ids.tolist() == [3, 5, 9]
        assert [place(tracks.labels, i) for i in (3, 5, 9)] == [(0, t), (16, t), (24 - t, 24)]
        assert (tracks.scores > 0.9).all()
    assert one.network.encoded == 3 and len(one.embeddings) == 1


def test_before_the_first_prompt_nothing_is_encoded():
    one = tracker()
    assert len(one.step(picture((RED, 0, 0))).ids) == 0 and one.network.encoded == 0


@pytest.mark.parametrize("template", ["previous", "first", "both"])
def test_an_object_that_leaves_is_lost_and_found_when_it_returns(template):
    one = tracker(template=template)
    one.step(picture((RED, 0, 0)), prompt({3: (0, 0)}))
    one.step(picture((RED, 0, 8)))
    for _ in range(3):
        tracks = one.step(picture())
        assert tracks.ids.tolist() == [3] and not tracks.labels.any() and tracks.scores.tolist() == [0]
    tracks = one.step(picture((RED, 16, 16)))
    assert place(tracks.labels, 3) == (16, 16) and tracks.scores > 0.9
    assert one.previous[3].frame == 5


@pytest.mark.parametrize("size", [(60, 40), (20, 33)])
def test_frames_that_are_resized_may_have_nobody_in_them(size):
    one = tracker()
    labels = torch.zeros(size, dtype=torch.int64)
    labels[:16, :16] = 3
    frame = torch.zeros(3, *size, dtype=torch.uint8)
    frame[0, :16, :16] = 250
    one.step(frame, Prompt(labels))
    for _ in range(2):
        tracks = one.step(torch.zeros_like(frame))
        assert not tracks.labels.any() and tracks.masks.shape == (1, *size)
    assert (one.step(frame).labels[:12, :12] == 3).all()


def test_the_gate_keeps_an_unsure_mask_from_becoming_the_template():
    unsure = (180, 0, 0)  # the probability is 0.9
    for gate, expected in ((0.0, 1), (0.999, 0)):
        one = tracker(gate=gate)
        one.step(picture((RED, 0, 0)), prompt({3: (0, 0)}))
        tracks = one.step(picture((unsure, 0, 8)))
        assert tracks.labels.any() and 0.5 < tracks.scores < 0.999
        assert one.previous[3].frame == expected


def test_templates_of_an_object_that_changes():
    """The colour goes from red to green in small steps: who looks at the step before follows it."""
    is_visible = {}
    for template in ("previous", "first", "both"):
        one = tracker(template=template)
        one.step(picture((RED, 0, 0)), prompt({3: (0, 0)}))
        for t in range(1, 6):
            tracks = one.step(picture(((250 - 50 * t, 50 * t, 0), 0, 8)))
        is_visible[template] = bool((tracks.labels == 3).any())
    assert is_visible["previous"] and not is_visible["first"]


def test_feedback_is_soft_or_binary():
    for feedback in ("soft", "binary"):
        one = tracker(feedback=feedback)
        one.step(picture((RED, 0, 0)), prompt({3: (0, 0)}))
        one.step(picture((RED, 8, 8)))
        shares = one.previous[3].mask
        assert (set(shares.unique().tolist()) == {0.0, 1.0}) == (feedback == "binary")


def test_a_prompt_corrects_a_known_object_and_wins_inside_of_its_mask():
    one = tracker(template="first")
    one.step(picture((RED, 0, 0), (GREEN, 16, 0)), prompt({3: (0, 0), 5: (16, 0)}))
    tracks = one.step(picture((RED, 0, 8), (GREEN, 16, 8)), prompt({3: (16, 8)}))
    assert place(tracks.labels, 3) == (16, 8) and not (tracks.labels == 5).any()
    assert one.first[3].frame == one.previous[3].frame == 1 and one.first[5].frame == 0
    tracks = one.step(picture((GREEN, 0, 0)))
    assert (tracks.labels[:8, :8] > 0).all() and tracks.masks[:, 2, 2].min() > 0.9  # both look for green now


def test_of_former_frames_only_templates_are_kept():
    one = tracker(template="both")
    one.step(picture((RED, 0, 0)), prompt({3: (0, 0)}))
    for t in range(1, 12):
        if t == 4:
            one.step(picture((RED, 0, 8), (GREEN, 16, 16)), prompt({5: (16, 16)}))
        else:
            one.step(picture((RED, 0, 8), *([(GREEN, 16, 16)] if 4 < t < 8 else [])))
    assert one.embeddings.keys() == {0, 4, 7, 11}


def test_a_box_without_a_pixel_is_refused_and_an_empty_map_names_nobody():
    one = tracker()
    with pytest.raises(UserError, match="the box of id 3"):
        one.step(picture(), Prompt(boxes={3: (40, 40, 5, 5)}))
    assert len(one.step(picture(), Prompt(torch.zeros(SIZE, dtype=torch.int64))).ids) == 0


@pytest.mark.parametrize("side", [16, 48])
def test_frames_may_be_tracked_at_another_size_than_the_networks(side):
    one = SAMTracker(small_network(), SAMTracker.Config(track_size=side))
    one.step(picture((RED, 0, 0)), prompt({3: (0, 0)}))
    tracks = one.step(picture((RED, 0, 8)))
    assert tracks.masks.shape == (1, *SIZE) and one.embeddings[0].shape[-1] == side // 8
    with pytest.raises(UserError, match="--track_size 20 must be a multiple of the patch, 8"):
        SAMTracker(small_network(), SAMTracker.Config(track_size=20))


def test_the_templates_of_padding_free_networks_come_one_by_one_or_in_twos():
    for template in ("previous", "both"):
        one = SAMTracker(small_network(attn_padding=False), SAMTracker.Config(template=template, gate=0.0))
        frame = picture((RED, 0, 0))[:, :20]
        labels = prompt({3: (0, 0)}).labels[:20]
        one.step(frame, Prompt(labels))
        assert one.step(frame).masks.shape == (1, 20, 32)
