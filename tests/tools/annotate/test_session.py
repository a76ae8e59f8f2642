"""A session's tracks are those of an unbroken run, however it was stopped, mended and run on."""

from threading import Thread

import numpy as np
import pytest

from common.errors import UserError
from tests.support.annotating import SIZE, ShiftingTracker, make_video, square
from tests.support.waiting import SECONDS
from tools.annotate.session import Session
from tracking.config import RunConfig
from tracking.loop import track_video
from tracking.prompts import PromptFolder
from video import reader
from video.images import read_label_map, write_label_map

NUM_FRAMES = 30


@pytest.fixture
def video(tmp_path):
    return make_video(tmp_path / "clip", NUM_FRAMES)


@pytest.fixture
def make_session(video, tmp_path):
    """A function that begins a session of a tracker on the video."""

    def make(tracker: ShiftingTracker, number: int = 0) -> Session:
        work = tmp_path / f"work{number}"
        work.mkdir()
        return Session(tracker, video, tmp_path / "prompts", work, RunConfig(device="cpu", amp="off"))

    return make


def run_to_end(session: Session) -> None:
    session.run()
    session._thread.join(SECONDS)
    assert session.error == "" and session.tracked == NUM_FRAMES


def unbroken(video, prompt_root) -> list[np.ndarray]:
    """The label maps of one run with --prompt_root and --prompt_frames all."""
    prompt_of = PromptFolder(prompt_root, "all").of_video(video)
    run = track_video(ShiftingTracker(), video.name, video.frames(), prompt_of)
    return [tracks.labels.numpy() for _, _, tracks, _ in run]


def maps_of(session: Session) -> list[np.ndarray]:
    return [read_label_map(session._map_path(k)) for k in range(NUM_FRAMES)]


def assert_unbroken(session: Session) -> None:
    expected = unbroken(session.video, session.prompt_root)
    assert all(map(np.array_equal, maps_of(session), expected))


def test_a_whole_run_is_that_of_the_command(make_session):
    session = make_session(ShiftingTracker())
    session.paint(2, square(3, 4))
    run_to_end(session)
    assert_unbroken(session)
    assert session.labels(0)[1].max() == 0 and session.labels(2)[0] == "prompt"
    assert session.labels(3)[0] == "track" and session.labels(3)[1][3, 5] == 1


def test_a_correction_runs_on_from_its_frame_and_not_from_the_start(make_session, monkeypatch):
    tracker = ShiftingTracker()
    session = make_session(tracker)
    session.paint(0, square(3, 4))
    run_to_end(session)
    assert tracker.steps == NUM_FRAMES
    read, read_frame = [], reader.read_frame
    monkeypatch.setattr(reader, "read_frame", lambda path: read.append(path.stem) or read_frame(path))
    session.paint(19, square(10, 2, track=2))
    assert (session.tracked, session.reached) == (19, NUM_FRAMES)
    run_to_end(session)
    assert tracker.steps == NUM_FRAMES + (NUM_FRAMES - 16)  # the state after 16 frames is the nearest
    assert read == [f"f{k}" for k in range(16, NUM_FRAMES)]
    assert_unbroken(session)
    session.paint(19, np.zeros(SIZE, dtype=np.uint16))  # and back
    run_to_end(session)
    assert_unbroken(session)
    assert not any((labels == 2).any() for labels in maps_of(session))


def test_a_run_of_what_is_tracked_takes_no_step(make_session):
    tracker = ShiftingTracker()
    session = make_session(tracker)
    session.paint(0, square(3, 4))
    run_to_end(session)
    session.run()
    assert not session.running and tracker.steps == NUM_FRAMES


def test_a_stopped_run_goes_on_where_it_stopped(make_session):
    tracker = ShiftingTracker()
    session = make_session(tracker)
    session.paint(0, square(3, 4))
    while session.tracked < NUM_FRAMES:
        before = session.tracked
        session.run()
        session.stop()  # at least one frame a run
        assert session.tracked > before and not session.running
    assert tracker.steps == NUM_FRAMES
    assert_unbroken(session)


def test_while_it_runs_nothing_is_painted(make_session):
    tracker = ShiftingTracker()
    session = make_session(tracker)
    session.paint(0, square(3, 4))
    tracker.go.clear()
    session.run()
    with pytest.raises(UserError, match="stop it"):
        session.paint(1, square(0, 0))
    tracker.go.set()
    session.stop()


def test_a_prompt_that_is_taken_away_while_it_is_read_is_read_whole(make_session, monkeypatch):
    session, read = make_session(ShiftingTracker()), PromptFolder.labels
    session.paint(3, square(3, 4))
    taking_away = Thread(target=session.paint, args=(3, 0 * square(3, 4)))

    def read_slowly(*args):
        taking_away.start()
        taking_away.join(0.2)
        return read(*args)

    monkeypatch.setattr(PromptFolder, "labels", read_slowly)
    assert session.labels(3)[0] == "prompt"
    taking_away.join(SECONDS)
    assert session.labels(3)[0] == "none"


def test_a_run_without_any_prompt_is_refused_where_one_is_needed(make_session):
    with pytest.raises(UserError, match="paint an object first"):
        make_session(ShiftingTracker()).run()


def test_prompts_of_a_former_session_are_taken_up(make_session, tmp_path):
    make_session(ShiftingTracker()).paint(7, square(3, 4, track=200))
    session = make_session(ShiftingTracker(), 1)
    assert session.status()["prompted"] == [7]
    assert np.array_equal(session.labels(7)[1], square(3, 4, track=200))


def test_a_prompt_of_another_size_is_refused_when_the_video_is_opened(make_session, tmp_path):
    write_label_map(tmp_path / "prompts" / "clip" / "f3.png", np.ones((5, 5), dtype=np.uint8))
    with pytest.raises(UserError, match=r"f3\.png is 5x5 but its frame is 32x24"):
        make_session(ShiftingTracker())


def test_what_a_tracker_raises_is_told_and_the_frames_before_it_stay(make_session, capsys, monkeypatch):
    tracker = ShiftingTracker()
    session = make_session(tracker)
    session.paint(0, square(3, 4))
    step = tracker.step

    def failing(frame, prompt=None):
        if tracker.taken == 5:
            raise UserError("the frame is odd")
        return step(frame, prompt)

    monkeypatch.setattr(tracker, "step", failing)
    session.run()
    session._thread.join(SECONDS)
    assert (session.tracked, session.status()["error"]) == (5, "the frame is odd")
    assert "clip: the frame is odd" in capsys.readouterr().err
    monkeypatch.setattr(tracker, "step", step)
    run_to_end(session)
    assert_unbroken(session)
