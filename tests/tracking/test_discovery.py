"""Discovery: what a finder sees where nothing is tracked starts tracks, by the command too."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import inference
from common.types import Prompt, Tracker, Tracks
from tests.support.commands import Outcome, assert_refused, files_in, run_here, train_here
from tests.support.stcn_networks import small_tracker as small_stcn
from tests.support.vos_videos import BLUE, GREEN, RED, SIZE, make_video, prompt_of
from tests.support.xmem_networks import FLAGS
from tests.support.xmem_networks import small_tracker as small_xmem
from tracking.discovery import DiscoveringTracker


class Finder:
    """Finds what it is told, whatever the frame: {id: window} for each look."""

    needs_prompt, mask_threshold = False, 0.5

    def __init__(self, *looks: dict[int, tuple[slice, slice]]):
        self.looks, self.num_looks = list(looks), 0

    def reset(self) -> None:
        pass

    def step(self, frame: Tensor, prompt: Prompt | None = None) -> Tracks:
        self.num_looks += 1
        labels = prompt_of(self.looks.pop(0) if self.looks else {}).labels
        ids = labels.unique()[1:]
        return Tracks(ids, labels, (labels == ids[:, None, None]).float(), torch.full((len(ids),), 0.9))


@pytest.mark.parametrize("make", [small_stcn, small_xmem], ids=["stcn", "xmem"])
def test_what_is_found_in_the_first_frame_is_tracked_as_if_it_had_been_given(make):
    frames, finder = make_video(8), Finder({4: RED, 9: BLUE})
    discovering = DiscoveringTracker(make(mem_every=2), finder, 0)
    assert isinstance(discovering, Tracker) and not discovering.needs_prompt
    prompted = make(mem_every=2)
    for t, frame in enumerate(frames):
        tracks = discovering.step(frame)
        expected = prompted.step(frame, prompt_of({1: RED, 2: BLUE}) if t == 0 else None)
        assert tracks.ids.tolist() == expected.ids.tolist() == [1, 2] and tracks.labels.equal(expected.labels)
    assert finder.num_looks == 1


@pytest.mark.parametrize("make", [small_stcn, small_xmem], ids=["stcn", "xmem"])
def test_a_newcomer_starts_where_it_is_found_as_if_it_had_been_given_there(make):
    frames, prompted = make_video(9), make(mem_every=2)
    discovering = DiscoveringTracker(make(mem_every=2), Finder({1: RED}, {}, {1: GREEN}), 3)
    for t, frame in enumerate(frames):
        tracks = discovering.step(frame)
        prompt = prompt_of({1: RED}) if t == 0 else None
        if t == 6:  # what is left of it beside the tracked object, as the finder's look at frame 6 has it
            new = prompt_of({2: GREEN}).labels
            state = prompted.state_dict()
            taken = prompted.step(frame).labels > 0
            prompted.load_state_dict(state)
            prompt = Prompt(torch.where(taken, 0, new))
        expected = prompted.step(frame, prompt)
        assert tracks.ids.tolist() == expected.ids.tolist() == ([1] if t < 6 else [1, 2])
        torch.testing.assert_close(tracks.masks, expected.masks, atol=1e-5, rtol=0)


def test_what_is_tracked_already_or_too_small_is_no_newcomer():
    tracker = DiscoveringTracker(small_xmem(), Finder(), 1)
    labels = prompt_of({1: RED}).labels
    tracks = Tracks(torch.tensor([1]), labels, (labels == 1).float()[None], torch.ones(1))
    inner, dot = (slice(6, 15), slice(3, 15)), (slice(30, 31), slice(30, 31))
    wide, wider = (slice(4, 20), slice(2, 30)), (slice(4, 20), slice(2, 50))
    tracker.finder = Finder({1: inner}, {1: dot}, {1: wide}, {1: wider})
    assert [tracker._newcomers(torch.zeros(3, *SIZE), tracks) for _ in range(3)] == [None] * 3
    prompt = tracker._newcomers(torch.zeros(3, *SIZE), tracks)  # two thirds of it are free: they are new
    assert not prompt.labels[RED].any() and (prompt.labels[4:20, 18:50] == 1).all()


def test_ids_are_never_used_twice_and_never_255():
    tracker = DiscoveringTracker(small_xmem(), Finder({1: RED, 2: BLUE}), 0)
    tracker.next_id = 254
    assert tracker.step(make_video(1)[0]).ids.tolist() == [254, 256]
    tracker.reset()
    tracker.finder = Finder({1: GREEN})
    assert tracker.step(make_video(1)[0], prompt_of({7: RED})).ids.tolist() == [7, 8]


def test_after_the_last_id_of_a_label_map_there_are_no_newcomers():
    tracker = DiscoveringTracker(small_xmem(), Finder({1: RED}, {1: BLUE}), 1)
    tracker.next_id = 65_535
    with pytest.warns(UserWarning, match="id 65535 is the last"):
        assert tracker.step(make_video(1)[0]).ids.tolist() == [65_535]
    assert tracker.step(make_video(1)[0]).ids.tolist() == [65_535]


def test_nothing_found_is_background_until_the_next_look():
    tracker = DiscoveringTracker(small_stcn(), Finder({}, {1: RED}), 2)
    ids = [tracker.step(frame).ids.tolist() for frame in make_video(4)]
    assert ids == [[], [], [1], [1]]


class Follower:
    """Follows what it is given where it was given, except in the frames in which an id is said to be away."""

    mask_threshold = 0.5

    def __init__(self, away: dict[int, set[int]]):
        self.away, self.objects, self.frame, self.forgotten = away, {}, -1, []

    def reset(self) -> None:
        pass

    def step(self, frame: Tensor, prompt: Prompt | None = None, newcomers=None) -> Tracks:
        self.frame += 1
        new = newcomers(self._tracks()) if newcomers else None
        for track in new.ids if new else []:
            self.objects[track] = new.labels == track
        return self._tracks()

    def _tracks(self) -> Tracks:
        labels, ids = (
            torch.zeros(SIZE, dtype=torch.int64),
            torch.tensor(list(self.objects), dtype=torch.int64),
        )
        for track, mask in self.objects.items():
            labels[mask] = 0 if self.frame in self.away.get(track, ()) else track
        inside = labels == ids[:, None, None]
        return Tracks(ids, labels, inside.float(), inside.flatten(1).any(1).float())

    def forget(self, ids: list[int]) -> None:
        self.forgotten += [(self.frame, track) for track in ids]
        for track in ids:
            del self.objects[track]


def test_where_there_are_too_many_the_one_that_is_lost_for_longest_is_forgotten():
    strips = [(slice(8 * k, 8 * k + 6), slice(4, 40)) for k in range(4)]
    looks = [{1: strips[0], 2: strips[1], 3: strips[2]}, {}, {}, {4: strips[3]}]
    follower = Follower({1: {2, 3}, 2: {1, 2, 3}})
    tracker = DiscoveringTracker(follower, Finder(*looks), 1, most=3)
    ids = [tracker.step(torch.zeros(3, *SIZE)).ids.tolist() for _ in range(5)]
    assert ids == [[1, 2, 3]] * 3 + [[1, 2, 3, 4], [1, 3, 4]] and follower.forgotten == [(3, 2)]


def test_where_none_is_lost_a_newcomer_waits_and_the_surest_come_first():
    strips = {k + 1: (slice(8 * k, 8 * k + 6), slice(4, 40)) for k in range(4)}
    follower = Follower({})
    tracker = DiscoveringTracker(follower, Finder(strips, strips), 1, most=2)
    ids = [tracker.step(torch.zeros(3, *SIZE)).ids.tolist() for _ in range(2)]
    assert ids == [[1, 2], [1, 2]] and tracker.next_id == 3 and not follower.forgotten


@pytest.mark.parametrize("make", [small_stcn, small_xmem], ids=["stcn", "xmem"])
def test_who_stays_is_read_as_before_when_others_are_forgotten(make):
    """One object of each of two groups goes: the odds between those that stay are what they were."""
    frames, tracker = make_video(8), make(mem_every=1)
    prompts = {0: prompt_of({1: RED, 2: BLUE}), 2: prompt_of({3: GREEN, 4: (slice(0, 4), slice(40, 60))})}
    for t, frame in enumerate(frames[:4]):
        tracker.step(frame, prompts.get(t))
    state = tracker.state_dict()
    before = tracker.step(frames[4]).masks
    tracker.load_state_dict(state)
    tracker.forget([1, 3])
    tracks = tracker.step(frames[4])
    assert tracks.ids.tolist() == tracker.ids == [2, 4]
    torch.testing.assert_close(tracks.masks[0] / tracks.masks[1], before[1] / before[3], atol=0, rtol=1e-4)
    tracker.forget([2])  # the whole of a group
    assert [(group.start, group.stop) for group in tracker.groups] == [(0, 1)]
    assert tracker.step(frames[5], prompt_of({5: RED})).ids.tolist() == [4, 5]
    tracker.forget([4, 5])
    assert tracker.step(frames[6]).ids.tolist() == []
    assert tracker.step(frames[7], prompt_of({6: RED})).ids.tolist() == [6]


def test_it_goes_on_from_its_state():
    frames = make_video(6)
    one = DiscoveringTracker(small_xmem(), Finder({1: RED}, {1: GREEN}), 4)
    other = DiscoveringTracker(small_xmem(), Finder({1: GREEN}), 4)
    for frame in frames[:3]:
        one.step(frame)
    other.load_state_dict(one.state_dict())
    for frame in frames[3:]:
        tracks, expected = one.step(frame), other.step(frame)
        assert tracks.ids.equal(expected.ids) and tracks.masks.equal(expected.masks)


# ------------------------------------------------------------------------------------------------ the command


@pytest.fixture(scope="module")
def xmem_run(small_data, tmp_path_factory) -> Outcome:
    """A finished run of one epoch; nobody may change it."""
    return train_here(FLAGS, small_data, tmp_path_factory.mktemp("xmem"), epochs=1)


@pytest.fixture
def infer(xmem_run, small_data, tmp_path):
    """A function of further flags that tracks the held-out videos into tmp_path/output."""
    flags = ["--system", "xmem", "--checkpoint", xmem_run.run / "best.pth", "--device", "cpu"]
    flags += ["--video_root", small_data / "valid", "--output", tmp_path / "output"]
    return lambda *further: run_here(inference.main, *flags, *further)


def test_the_command_needs_no_prompts(infer, trained, small_data, tmp_path):
    """The untrained finder sees something, or nothing: every frame has a map in either case."""
    outcome = infer("--discover", trained.run / "best.pth", "--discover_every", 2)
    assert outcome.run == tmp_path / "output"
    assert files_in(outcome.run / "Annotations") == files_in(small_data / "valid" / "Annotations")
    assert len(json.loads((outcome.run / "tracks.json").read_text())) == 2


def test_what_cannot_be_discovered_is_refused(infer, trained, xmem_run, small_data, tmp_path):
    prompts = small_data / "valid" / "Annotations"
    finder = trained.run / "best.pth"
    assert_refused(infer("--discover", finder, "--prompt_root", prompts), "--discover", "--prompt_root")
    assert_refused(infer("--discover", xmem_run.run / "best.pth"), "--discover", "xmem", "vita_tcovis")
    assert_refused(infer("--discover", tmp_path / "nowhere.pth"), "nowhere.pth", "does not exist")
    assert_refused(infer("--discover", finder, "--discover_every", -1), "--discover_every -1")
    flags = ["--checkpoint", finder, "--video_root", small_data / "valid", "--output", tmp_path / "output"]
    assert_refused(run_here(inference.main, *flags, "--discover", finder), "--discover", "another system")
    assert not Path(tmp_path / "output").exists()
