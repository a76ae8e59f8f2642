"""Whatever the system, a run that is stopped, mended and run on is the unbroken one of the same prompts."""

import numpy as np
import pytest
import torch

import main
from configs.systems import CONFIGS
from inference import SYSTEMS
from tests.support.annotating import make_video, square
from tests.support.commands import SMALL
from tests.support.waiting import SECONDS
from tools.annotate.session import Session
from tracking import states
from tracking.config import RunConfig
from tracking.loop import track_video
from tracking.prompts import PromptFolder
from video.images import read_pixels


def wait_for(session: Session) -> None:
    session._thread.join(SECONDS)
    assert session.error == "" and not session.running


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_mended_run_of_every_system_is_the_unbroken_one(name, tmp_path, monkeypatch):
    monkeypatch.setattr(states, "EVERY", 2)
    args, _ = main.parse_args(["--system", name, *SMALL[name]])
    configs = CONFIGS[name].read(args)
    network = SYSTEMS[name].network(configs["network"]).eval()
    video = make_video(tmp_path / "clip", 8)
    (tmp_path / "work").mkdir()
    tracker = SYSTEMS[name].tracker(network, configs["tracker"])
    run = RunConfig(device="cpu", amp="off")
    session = Session(tracker, video, tmp_path / "prompts", tmp_path / "work", run)
    session.paint(0, square(4, 4, side=12))
    session.run()
    session.stop()
    stopped = session.tracked
    session.run()
    wait_for(session)
    session.paint(5, square(8, 10, side=10) + square(2, 2, track=2, side=5))
    session.run()
    wait_for(session)
    assert 0 < stopped <= session.tracked == 8

    prompt_of = PromptFolder(tmp_path / "prompts", "all").of_video(video)
    other = SYSTEMS[name].tracker(network, configs["tracker"])
    with torch.inference_mode():
        expected = [t.labels.numpy() for _, _, t, _ in track_video(other, "clip", video.frames(), prompt_of)]
    assert all(np.array_equal(read_pixels(session._map_path(k)), expected[k]) for k in range(8))
    assert any(labels.any() for labels in expected)
