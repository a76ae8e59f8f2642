"""Every tracker under bf16 autocast says what it says in float32: the same ids, and nearly the same pixels.

What is compared are trained networks: one of random weights has no objects, and decides by differences that
no arithmetic keeps.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import main
from annotated.videos import AnnotatedVideo, VOSFolder
from common.types import Prompt, Tracker, Tracks
from inference import SYSTEMS, load_tracker
from tests.support.commands import SMALL, TINY, run_here
from tests.support.siammask_networks import small_network, small_tracker
from tracking.loop import track_video
from training.loader import make_loader
from video.transforms import upload

LEAST_AGREEMENT = 0.995  # of the pixels of a frame
STEPS = {"vita_tcovis": 120, "stcn": 60, "xmem": 160}


def frames_of(video: AnnotatedVideo) -> list[tuple[str, Tensor]]:
    return [(name, torch.from_numpy(video.read_frame(name)).permute(2, 0, 1)) for name in video.frames]


def track_both(tracker: Tracker, video: AnnotatedVideo) -> tuple[list[Tracks], list[Tracks]]:
    """The tracks of a video from its first masks, in float32 and under bf16 autocast."""
    frames, labels = frames_of(video), torch.from_numpy(video.read_labels(video.frames[0]).astype(np.int64))

    def prompt_of(name: str, frame: Tensor) -> Prompt | None:
        return Prompt(labels.clone()) if name == video.frames[0] else None

    both = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            both.append([tracks for _, _, tracks, _ in track_video(tracker, "video", frames, prompt_of)])
    return both[0], both[1]


def assert_alike(exact: list[Tracks], mixed: list[Tracks]) -> None:
    assert any(len(tracks.ids) and tracks.labels.any() for tracks in exact)
    # In the order of scores, of which two may be nearly the same.
    assert [set(tracks.ids.tolist()) for tracks in mixed] == [set(tracks.ids.tolist()) for tracks in exact]
    for one, other in zip(exact, mixed, strict=True):
        assert (one.labels == other.labels).float().mean() >= LEAST_AGREEMENT


@pytest.mark.parametrize("name", STEPS)
def test_a_network_that_knows_its_video_tracks_alike_in_bf16(name, small_data):
    plan = SYSTEMS[name].plan(main.parse_args(["--system", name, *SMALL.get(name, TINY)])[0])
    torch.manual_seed(0)
    objective = main.Objective(plan.make_network(), SYSTEMS[name].criterion(plan.configs["criterion"]))
    folder = VOSFolder(small_data / "train")
    clips = SYSTEMS[name].dataset(folder, plan.configs["data"], training=True)
    batch = next(iter(make_loader(clips, [[(0, 0), (0, 1)]], num_workers=0, pin_memory=False)))
    clip, optimizer = upload(batch, "cpu"), torch.optim.Adam(objective.parameters(), 3e-3)
    for _ in range(STEPS[name]):
        loss = sum(objective.train()(clip).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tracker = SYSTEMS[name].tracker(objective.network.eval(), plan.configs["tracker"])
    assert_alike(*track_both(tracker, folder.videos[0]))


def test_siammask_tracks_in_float32_whatever_autocast_says(small_data):
    video = VOSFolder(small_data / "train").videos[0]
    exact, mixed = track_both(small_tracker(small_network()), video)
    assert_alike(exact, mixed)
    assert all(one.masks.equal(other.masks) for one, other in zip(exact, mixed, strict=True))


@pytest.mark.slow
def test_sam_that_is_trained_on_shapes_tracks_alike_in_bf16(tmp_path):
    flags = "@presets/sam_track_narrow.txt --synthetic_videos 60 --epochs 12 --warmup_steps 20 --eval_every 0"
    outcome = run_here(main.main, *flags.split(), "--run_dir", tmp_path / "runs")
    assert outcome.status == 0, outcome.err
    folder = VOSFolder(Path(outcome.run) / "data" / "valid")
    assert_alike(*track_both(load_tracker(Path(outcome.run) / "last.pth", device="cpu"), folder.videos[0]))
