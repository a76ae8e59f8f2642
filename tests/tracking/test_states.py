"""States of a tracker on disk: the nearest is found, they take bounded room, and a kill leaves no half."""

import torch

from tests.support.annotating import ShiftingTracker
from tracking import states
from tracking.states import SpacedStates, States

CPU = torch.device("cpu")


def test_states_of_a_former_process_are_taken_up_and_those_of_fewer_frames_may_go(tmp_path):
    tracker, kept = ShiftingTracker(), States(tmp_path / "states")
    for taken in (5, 10, 15):
        tracker.taken = taken
        kept.keep(taken, tracker)
    (tmp_path / "states" / ".20.pt.tmp").write_bytes(b"half")
    later = States(tmp_path / "states")
    assert later.restore(tracker, 14, CPU) == tracker.taken == 10
    later.drop_before(10)
    assert sorted(States(tmp_path / "states").sizes) == [10, 15]
    assert later.restore(tracker, 9, CPU) == tracker.taken == 0


def test_states_take_bounded_room_and_the_nearest_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(states, "MOST_STATES", 4)
    tracker, kept = ShiftingTracker(), SpacedStates(tmp_path)
    for taken in range(1, 201):
        tracker.taken = taken
        kept.offer(taken, tracker)
    assert kept.every == 64 and sorted(kept.sizes) == [64, 128, 192]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["128.pt", "192.pt", "64.pt"]
    assert kept.restore(tracker, 191, CPU) == tracker.taken == 128
    kept.drop_after(100)
    assert kept.restore(tracker, 200, CPU) == 64
    assert kept.restore(tracker, 63, CPU) == tracker.taken == 0


def test_states_that_are_too_large_leave_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(states, "MOST_BYTES", 1)
    tracker, kept = ShiftingTracker(), SpacedStates(tmp_path)
    kept.keep(8, tracker)
    assert kept.sizes == {} and kept.restore(tracker, 9, CPU) == 0
