"""VITATracker on a mock network: detection, suppression, sizes, prompts, states."""

import math

import pytest
import torch
from torch import Tensor, nn

from common.types import Prompt, Tracker, Tracks
from inference import VITATracker

SURE = 1 / (1 + math.exp(-10))  # the probability inside the masks of the mock network
Token = dict  # box (x0, y0, x1, y1) in pixels of what the network sees; score or probs; axis of the embedding


class MockNetwork(nn.Module):
    """Says of frame t, whose pixels all have the value t, what the script holds at t."""

    stride = 32

    def __init__(self, script: list[list[Token]], *, num_tokens: int = 5, mask_stride: int = 4):
        super().__init__()
        self.script, self.num_tokens, self.mask_stride = script, num_tokens, mask_stride
        self.weight = nn.Parameter(torch.zeros(1))  # says where the network is

    def forward(self, frames: Tensor, queries: Tensor | None = None) -> dict[str, Tensor | None]:
        assert queries is None and frames.shape[-2] % 32 == frames.shape[-1] % 32 == 0
        t = round(float(frames[0, 0, 0, 0, 0] * 0.229 + 0.485) * 255)
        H, W = (side // self.mask_stride for side in frames.shape[-2:])
        tokens = self.script[t]
        lists = [token.get("probs", [token.get("score", 0.9)]) for token in tokens]
        probs = torch.full((self.num_tokens, len(lists[0]) if lists else 1), 1e-6)
        masks, embeddings = torch.full((self.num_tokens, H, W), -10.0), torch.zeros(self.num_tokens, 16)
        for n, (token, values) in enumerate(zip(tokens, lists, strict=True)):
            x0, y0, x1, y1 = (side // self.mask_stride for side in token["box"])
            masks[n, y0:y1, x0:x1] = token.get("logit", 10)
            embeddings[n, token["axis"]] = 3.0
            probs[n] = torch.tensor(values)
        class_logits = torch.cat([probs, 1 - probs.sum(-1, True)], -1).log()
        outputs = {"class_logits": class_logits, "mask_logits": masks, "embeddings": embeddings}
        return {name: x[None, None] for name, x in outputs.items()} | {"queries": None}


def token(box: tuple[int, int, int, int], axis: int, **details) -> Token:
    return {"box": box, "axis": axis, **details}


def make_tracker(script: list[list[Token]], *, image_size: int = 64, **options) -> VITATracker:
    return VITATracker(MockNetwork(script), VITATracker.Config(image_size=image_size, **options))


def frame(t: int, size: tuple[int, int] = (64, 64)) -> Tensor:
    return torch.full((3, *size), t, dtype=torch.uint8)


def play(tracker: VITATracker, prompts: dict[int, Prompt] | None = None, start: int = 0) -> list[Tracks]:
    length = len(tracker.network.script)
    return [tracker.step(frame(t), (prompts or {}).get(t)) for t in range(start, length)]


def ids_of(results: list[Tracks]) -> list[list[int]]:
    return [sorted(tracks.ids.tolist()) for tracks in results]


def label_map(boxes: dict[int, tuple[int, int, int, int]], size: tuple[int, int] = (64, 64)) -> Tensor:
    labels = torch.zeros(size, dtype=torch.int64)
    for label, (x0, y0, x1, y1) in boxes.items():
        labels[y0:y1, x0:x1] = label
    return labels


def same(a: list[Tracks], b: list[Tracks]) -> bool:
    pairs = [(vars(x), vars(y)) for x, y in zip(a, b, strict=True)]
    return all(
        torch.equal(x[n], y[n]) for x, y in pairs for n in ("ids", "labels", "masks", "scores", "classes")
    )


LEFT, MIDDLE, RIGHT = ((x, 0, x + 16, 64) for x in (0, 24, 48))  # bands: they have no corners to be rounded


# ------------------------------------------------------------------------------------------------ frames


def test_a_detection_is_a_track_with_its_mask_at_the_size_of_the_frame():
    tracker = make_tracker([[token(LEFT, 0, score=0.8)], [token(LEFT, 0)]])
    first, second = play(tracker)
    assert first.ids.tolist() == second.ids.tolist() == [1]
    assert first.scores.tolist() == [pytest.approx(0.8 * SURE)] and first.classes.tolist() == [0]
    assert torch.equal(first.labels, label_map({1: LEFT})) and first.labels.dtype == torch.int64
    assert torch.equal(first.masks[0] > 0.5, first.labels == 1) and first.masks.shape == (1, 64, 64)
    assert isinstance(tracker, Tracker) and not tracker.needs_prompt


def test_a_frame_without_detections_has_no_tracks():
    tracks = play(make_tracker([[], [token(LEFT, 0, score=0.2)]]))
    for empty in tracks:
        assert empty.ids.shape == (0,) and empty.masks.shape == (0, 64, 64)
        assert empty.labels.tolist() == torch.zeros(64, 64).tolist()


@pytest.mark.parametrize("mask_stride", [4, 8, 16, 32])
def test_odd_sizes_are_padded_and_cut_again(mask_stride):
    network = MockNetwork([[token((32, 0, 96, 64), 0)]], mask_stride=mask_stride)
    tracker = VITATracker(network, VITATracker.Config(image_size=50))
    tracks = tracker.step(frame(0, (50, 90)))
    assert torch.equal(tracks.labels, label_map({1: (32, 0, 90, 50)}, (50, 90)))


def test_frames_of_another_size_are_resized_for_the_network_and_masks_back():
    tracker = make_tracker([[token((0, 0, 32, 64), 0)]], image_size=64)
    tracks = tracker.step(frame(0, (192, 256)))  # the network sees 64x85
    inside = tracks.labels == 1
    assert tracks.labels.shape == (192, 256)
    assert inside[:, :95].all() and not inside[:, 98:].any()  # 32 of 85 columns


def test_a_mask_in_the_padding_alone_is_no_detection():
    assert (
        make_tracker([[token((40, 0, 64, 64), 0)]], image_size=33).step(frame(0, (33, 33))).ids.tolist() == []
    )


def test_a_score_is_that_of_no_object_being_absent_and_not_the_largest_class():
    script = [[token(LEFT, 0, probs=[0.3, 0.2, 0.25])], [token(LEFT, 0, probs=[0.1, 0.1, 0.6])]]
    first, second = play(make_tracker(script))
    assert first.scores.tolist() == [pytest.approx(0.75 * SURE)] and first.classes.tolist() == [0]
    assert second.classes.tolist() == [2]  # of the sums 0.4, 0.3 and 0.85


def test_an_uncertain_mask_lowers_the_score():
    script = [[token(LEFT, 0, score=0.8)], [token(LEFT, 0, score=0.8, logit=1.0986123)]]  # of 3 / 4
    assert [tracks.scores.tolist() for tracks in play(make_tracker(script))] == [
        [pytest.approx(0.8 * SURE)],
        [pytest.approx(0.6)],
    ]


def test_duplicates_and_weak_detections_are_dropped_and_weak_ones_continue_tracks():
    weak = token(RIGHT, 1, score=0.4)
    script = [[token(LEFT, 0), token(LEFT, 0, score=0.6), weak], [token(LEFT, 0, score=0.4), weak]]
    assert ids_of(play(make_tracker(script))) == [[1], [1]]
    assert ids_of(play(make_tracker(script, score_threshold=0.5))) == [[1], []]
    assert ids_of(play(make_tracker(script, birth_score=0.35))) == [[1, 2], [1, 2]]


def test_a_pixel_goes_to_the_largest_score_times_probability():
    script = [[token((0, 0, 32, 64), 0, score=0.7), token((20, 0, 60, 64), 1, score=0.9)]]
    (tracks,) = play(make_tracker(script))
    assert tracks.ids.tolist() == [1, 2] and tracks.scores.tolist() == pytest.approx([0.9 * SURE, 0.7 * SURE])
    assert torch.equal(tracks.labels, label_map({2: (0, 0, 20, 64), 1: (20, 0, 60, 64)}))
    assert (tracks.masks[:, 10, 24] > 0.5).all()  # probabilities may overlap


def test_the_mask_threshold_decides_what_is_background():
    trackers = [make_tracker([[token(LEFT, 0)]], mask_threshold=p) for p in (0.05, 0.5, 0.95)]
    areas = [int((tracker.step(frame(0)).labels == 1).sum()) for tracker in trackers]
    assert areas == [17 * 64, 16 * 64, 15 * 64]  # beside the edge the probability is 0.076, then 0.924


# ------------------------------------------------------------------------------------------------ videos


def busy_script() -> list[list[Token]]:
    """Three objects that move, leave, and return; tokens change places."""
    script = []
    for t in range(10):
        tokens = [token((4 * t, 0, 4 * t + 16, 24), 0), token((40 - 4 * t, 32, 60 - 4 * t, 56), 1, score=0.8)]
        tokens += [token((0, 24, 8, 32), 2, score=0.7)] if t not in (3, 4, 5, 6) else []
        script.append(tokens[t % len(tokens) :] + tokens[: t % len(tokens)])
    return script


def test_tracks_keep_their_ids_while_tokens_change_places():
    results = play(make_tracker(busy_script(), max_age=2))
    for t, tracks in enumerate(results):
        assert sorted(tracks.ids.tolist()) == ([1, 2] if t in (3, 4, 5, 6) else [1, 2, 3])
        assert tracks.labels[10, 4 * t + 8] == 1 and tracks.labels[40, 50 - 4 * t] == 2


def test_the_order_of_the_tokens_changes_nothing():
    script = busy_script()
    turned = [tokens[::-1] for tokens in script]
    assert same(play(make_tracker(script)), play(make_tracker(turned)))


@pytest.mark.parametrize("moment", [1, 5])
def test_a_saved_state_continues_the_video_in_another_tracker(tmp_path, moment):
    script = busy_script()
    whole = play(make_tracker(script, max_age=2))
    before = make_tracker(script, max_age=2)
    for t in range(moment):
        before.step(frame(t))
    torch.save(before.state_dict(), tmp_path / "state.pth")
    after = make_tracker(script, max_age=2)
    after.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    assert same(play(after, start=moment), whole[moment:])


def test_what_is_said_of_a_frame_does_not_depend_on_later_ones_and_reset_begins_anew():
    script = busy_script()
    tracker = make_tracker(script)
    whole = play(tracker)
    assert same([make_tracker(script[:4]).step(frame(0))], whole[:1])
    assert same(play(make_tracker(script[:4])), whole[:4])
    tracker.reset()
    assert same(play(tracker), whole)


def test_a_step_leaves_the_network_as_it_was_and_keeps_no_graph():
    tracker = make_tracker(busy_script())
    before = {name: x.clone() for name, x in tracker.network.state_dict().items()}
    tracks = tracker.step(frame(0))
    assert all(torch.equal(x, before[name]) for name, x in tracker.network.state_dict().items())
    assert not tracks.masks.requires_grad and tracks.masks.grad_fn is None


# ------------------------------------------------------------------------------------------------ prompts


def test_a_label_map_gives_the_tracks_their_ids_and_newcomers_get_other_ids():
    tokens = [token(LEFT, 0), token(RIGHT, 1), token(MIDDLE, 2)]
    prompt = Prompt(label_map({3: RIGHT, 1: LEFT}))
    results = play(make_tracker([tokens, tokens[::-1]]), {0: prompt})
    for tracks in results:
        assert torch.equal(tracks.labels, label_map({1: LEFT, 3: RIGHT, 4: MIDDLE}))


def test_only_prompted_objects_are_tracked_where_births_are_off():
    script = [[token(LEFT, 0), token(RIGHT, 1)]] * 2
    results = play(make_tracker(script, birth_score=1.1), {0: Prompt(label_map({7: RIGHT}))})
    assert ids_of(results) == [[7], [7]]


def test_prompted_ids_go_to_the_tokens_that_overlap_most_in_sum():
    script = [[token((0, 0, 32, 64), 0), token((24, 0, 64, 64), 1)]]
    prompt = Prompt(label_map({5: (16, 0, 40, 64), 9: (40, 0, 64, 64)}))  # both overlap the second token most
    (tracks,) = play(make_tracker(script), {0: prompt})
    assert tracks.labels[30, 4] == 5 and tracks.labels[30, 60] == 9


def test_a_prompted_id_goes_to_the_token_that_fits_and_not_to_one_that_merely_covers_it():
    script = [[token((0, 0, 64, 64), 0), token(LEFT, 1, score=0.2)]]
    (tracks,) = play(make_tracker(script, birth_score=1.1), {0: Prompt(label_map({2: LEFT}))})
    assert torch.equal(tracks.labels, label_map({2: LEFT}))


def test_a_prompted_token_is_tracked_however_weak_and_whatever_lies_over_it():
    script = [[token(LEFT, 0, score=0.9), token((0, 0, 16, 56), 1, score=0.05)], [token(LEFT, 1)]]
    results = play(make_tracker(script), {0: Prompt(label_map({6: (0, 0, 16, 56)}))})
    assert ids_of(results) == [[6], [6]]


def test_two_prompted_tokens_are_both_tracked_even_where_one_lies_inside_the_other():
    script = [[token((0, 0, 64, 64), 0), token((32, 0, 64, 64), 1, score=0.5)]]
    results = play(make_tracker(script), {0: Prompt(label_map({1: (0, 0, 32, 64), 2: (32, 0, 64, 64)}))})
    assert ids_of(results) == [[1, 2]]


def test_a_prompt_in_mid_video_adds_new_ids_and_corrects_known_ones():
    script = [[token(LEFT, 0), token(RIGHT, 1)], [token(LEFT, 0), token(RIGHT, 1), token(MIDDLE, 2)]]
    script.append(script[1])
    corrected = Prompt(label_map({1: RIGHT, 8: MIDDLE}))
    results = play(make_tracker(script), {1: corrected})
    assert torch.equal(results[0].labels, label_map({1: LEFT, 2: RIGHT}))
    for tracks in results[1:]:
        assert torch.equal(tracks.labels, label_map({9: LEFT, 1: RIGHT, 8: MIDDLE}))


def test_a_small_prompt_is_not_lost_between_cells():
    script = [[token(LEFT, 0), token(RIGHT, 1)]]
    (tracks,) = play(make_tracker(script), {0: Prompt(label_map({4: (57, 5, 58, 6)}))})
    assert tracks.labels[10, 56] == 4


def test_a_prompt_on_which_no_token_lies_is_told():
    with pytest.warns(UserWarning, match=r"no token lies on the prompted objects \[3\]"):
        (tracks,) = play(make_tracker([[token(LEFT, 0)]]), {0: Prompt(label_map({3: MIDDLE, 2: LEFT}))})
    assert tracks.ids.tolist() == [2]


@pytest.mark.parametrize("labels", [None, label_map({})])
def test_a_prompt_that_names_nobody_changes_nothing(labels):
    script = [[token(LEFT, 0)]]
    assert same(play(make_tracker(script), {0: Prompt(labels)}), play(make_tracker(script)))
