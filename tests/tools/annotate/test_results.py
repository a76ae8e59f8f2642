"""Results that the page writes go on where they were stopped, and only while nothing else has changed."""

from pathlib import Path

import numpy as np

from tests.support.annotating import ShiftingTracker, make_video, square
from tools.annotate.results import Results
from tracking.config import RunConfig
from tracking.work import WORK
from video.images import read_label_map, write_label_map
from video.reader import Video, find_videos

NUM_FRAMES = 40
CONFIG = RunConfig(device="cpu", amp="off", overlays=False, save_state_every=8)


def clip_in(folder: Path) -> Video:
    if (folder / "clip").exists():  # with the times of its files
        return find_videos(folder / "clip")[0]
    return make_video(folder / "clip", NUM_FRAMES)


def write(folder: Path, settings: dict | None, *, stop_at: int | None = None) -> tuple[Results, int]:
    """Results of folder/clip by folder/prompts in folder/output, perhaps stopped; the steps that it took."""
    tracker, video = ShiftingTracker(), clip_in(folder)
    results = Results(tracker, [video], folder / "output", CONFIG, folder / "prompts", settings)
    step = tracker.step

    def stopping(frame, prompt=None):
        if tracker.taken == stop_at:
            results._watched.stopping.set()
        return step(frame, prompt)

    tracker.step = stopping
    results.start()
    results._thread.join(60)
    return results, tracker.steps


def maps_of(folder: Path) -> np.ndarray:
    paths = [folder / "output" / "Annotations" / "clip" / f"f{k}.png" for k in range(NUM_FRAMES)]
    return np.stack([read_label_map(path) for path in paths])


def test_results_go_on_from_the_last_state_and_equal_unbroken_ones(tmp_path):
    for folder in ("broken", "unbroken"):
        write_label_map(tmp_path / folder / "prompts" / "clip" / "f1.png", square(3, 4))
    results, steps = write(tmp_path / "broken", {"flag": 1}, stop_at=20)
    assert "goes on from the last saved state" in results.error and not results.done and steps == 21
    results, steps = write(tmp_path / "broken", {"flag": 1})  # as after the command was started again
    assert results.done and results.error == "" and steps <= NUM_FRAMES - 8
    assert not (tmp_path / "broken" / "output" / WORK).exists()
    _, steps = write(tmp_path / "unbroken", {"flag": 1})
    assert steps == NUM_FRAMES
    assert np.array_equal(maps_of(tmp_path / "broken"), maps_of(tmp_path / "unbroken"))


def test_results_of_other_prompts_or_flags_begin_anew(tmp_path):
    prompts = tmp_path / "prompts" / "clip"
    write_label_map(prompts / "f1.png", square(3, 4))
    write(tmp_path, {"flag": 1}, stop_at=20)
    write_label_map(prompts / "f3.png", square(9, 9, track=2))
    assert write(tmp_path, {"flag": 1}, stop_at=20)[1] == 21
    results, steps = write(tmp_path, {"flag": 2})
    assert results.done and steps == NUM_FRAMES
