"""Trackers of every system on a simulated GPU: they say what they say on a CPU, and seldom wait."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import inference
import main
from common.checkpoint import save_checkpoint
from common.types import Prompt, Tracker, Tracks
from inference import SYSTEMS
from tests.support.commands import SMALL, run_here
from tests.support.simulated_gpu import SimulatedGPU, simulated_gpu
from tracking.discovery import DiscoveringTracker
from tracking.output import VideoOutput
from tracking.states import States
from training.system import Plan
from video.images import read_label_map, write_label_map

# How often a frame without a prompt waits at most: the frame goes to the GPU, and what is named comes back.
WAITS = {
    "vita_tcovis": 2,  # scores and embeddings; overlaps of masks
    "stcn": 1,
    "xmem": 2,  # what the long-term memory forgets
    "siammask": 2,  # boxes and masks of the best windows
    "sam_track": 2,  # which masks are to be trusted
}


@pytest.fixture
def gpu() -> Iterator[SimulatedGPU]:
    with simulated_gpu() as gpu:
        yield gpu


def make_plan(name: str) -> Plan:
    """A small network, and a tracker, of which VITA-TCOVIS's takes whatever it sees."""
    eager = ["--score_threshold", "0", "--birth_score", "0"] if name == "vita_tcovis" else []
    return SYSTEMS[name].plan(main.parse_args(["--system", name, *SMALL[name], *eager])[0])


def make_tracker(name: str, device: str) -> Tracker:
    """A tracker with the same random weights on every device."""
    plan = make_plan(name)
    torch.manual_seed(0)
    return SYSTEMS[name].tracker(plan.make_network().eval().to(device), plan.configs["tracker"])


def make_frames() -> list[Tensor]:
    """Six frames of 32x32, noise: of this size nobody resizes, which a GPU does by another arithmetic."""
    generator = torch.Generator().manual_seed(1)
    return list(torch.randint(0, 255, (6, 3, 32, 32), generator=generator, dtype=torch.uint8))


def prompt_of(ids: dict[int, slice]) -> Prompt:
    """A band of rows for each id."""
    labels = torch.zeros(32, 32, dtype=torch.int64)
    for track, rows in ids.items():
        labels[rows] = track
    return Prompt(labels)


def track(tracker: Tracker, gpu: SimulatedGPU) -> tuple[list[Tracks], list[int]]:
    """The tracks of six frames with prompts on the first, and how often each frame waited."""
    tracks, waits = [], []
    for number, frame in enumerate(make_frames()):
        prompt = prompt_of({5: slice(2, 14)}) if number == 0 and tracker.needs_prompt else None
        gpu.reset()
        tracks.append(tracker.step(frame, prompt))
        waits.append(len(gpu.synchronisations))
    return tracks, waits


def assert_alike(tracks: list[Tracks], expected: list[Tracks]) -> None:
    assert any(len(frame.ids) for frame in expected)
    for one, other in zip(tracks, expected, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        torch.testing.assert_close(one.masks.cpu(), other.masks, rtol=0, atol=1e-5)
        torch.testing.assert_close(one.scores.cpu(), other.scores, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_tracker_says_on_a_gpu_what_it_says_on_a_cpu_and_seldom_waits(gpu, name):
    expected, _ = track(make_tracker(name, "cpu"), gpu)
    tracks, waits = track(make_tracker(name, "cuda"), gpu)
    assert_alike(tracks, expected)
    assert max(waits[1:]) == WAITS[name]


@pytest.mark.parametrize("name", [name for name, system in SYSTEMS.items() if system.tracker.needs_prompt])
def test_a_prompt_in_mid_video_is_taken_on_a_gpu_as_a_label_map_and_as_a_box(gpu, name):
    tracker = make_tracker(name, "cuda")
    prompts = {0: prompt_of({5: slice(2, 14)}), 2: prompt_of({5: slice(4, 14), 9: slice(20, 30)})}
    prompts[3] = Prompt(boxes={7: (2.0, 2.0, 20.0, 12.0)})
    tracks = [tracker.step(frame, prompts.get(number)) for number, frame in enumerate(make_frames())]
    assert [sorted(frame.ids.tolist()) for frame in tracks[1:4]] == [[5], [5, 9], [5, 7, 9]]


@pytest.mark.parametrize("name", ["stcn", "xmem"])
def test_objects_are_discovered_on_a_gpu(gpu, name):
    finder = make_tracker("vita_tcovis", "cuda")
    tracker = DiscoveringTracker(make_tracker(name, "cuda"), finder, every=2, most=2)
    tracks = [tracker.step(frame) for frame in make_frames()]
    assert all(frame.ids.tolist() for frame in tracks)


@pytest.mark.parametrize("devices", [("cpu", "cuda"), ("cuda", "cpu")], ids="-".join)
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_tracker_goes_on_from_the_state_of_another_device(gpu, tmp_path, name, devices):
    expected, _ = track(make_tracker(name, "cpu"), gpu)
    former, latter = (make_tracker(name, device) for device in devices)
    frames, states = make_frames(), States(tmp_path)
    former.step(frames[0], prompt_of({5: slice(2, 14)}) if former.needs_prompt else None)
    for frame in frames[1:3]:
        former.step(frame)
    states.keep(3, former)
    assert states.restore(latter, 3, torch.device(devices[1])) == 3
    assert_alike([latter.step(frame) for frame in frames[3:]], expected[3:])


def write_inputs(folder: Path, name: str) -> list[object]:
    """A video whose object is named on its third frame, and a checkpoint; the flags that name both."""
    plan = make_plan(name)
    torch.manual_seed(0)
    config = {role: asdict(part) for role, part in plan.configs.items()}
    state = {"format": 1, "system": name, "config": config, "model": plan.make_network().state_dict()}
    save_checkpoint(folder / "last.pth", {**state, "ema": None})
    (folder / "videos" / "walk").mkdir(parents=True)
    for number, frame in enumerate(make_frames()):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(folder / "videos" / "walk" / f"{number}.png")
    labels = prompt_of({5: slice(2, 14)}).labels
    write_label_map(folder / "prompts" / "walk" / "2.png", labels.numpy().astype(np.uint8))
    flags = ["--checkpoint", folder / "last.pth", "--video_root", folder / "videos"]
    return [*flags, "--prompt_root", folder / "prompts", "--amp", "off", "--overlays", "off"]


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_command_writes_on_a_gpu_what_it_writes_on_a_cpu_backwards_too(gpu, tmp_path, name):
    flags = write_inputs(tmp_path, name)
    flags += ["--reverse"] if SYSTEMS[name].tracker.needs_prompt else []
    written = {}
    for device in ("cpu", "cuda"):
        output = tmp_path / device
        assert run_here(inference.main, *flags, "--output", output, "--device", device).status == 0
        maps = sorted((output / "Annotations" / "walk").glob("*.png"))
        written[device] = np.stack([read_label_map(path) for path in maps])
    assert written["cpu"][:2].any() and (written["cpu"] == 5).any()
    assert (written["cuda"] == written["cpu"]).mean() > 0.99


def test_the_same_command_goes_on_on_a_gpu_with_what_a_cpu_began(tmp_path, monkeypatch):
    flags = [*write_inputs(tmp_path, "xmem"), "--output", tmp_path / "output", "--save_state_every", "1"]
    with monkeypatch.context() as patch:
        record, count = VideoOutput.record, iter(range(9))

        def interrupted(self: VideoOutput, *frame: object) -> None:
            record(self, *frame)
            if next(count) == 4:
                raise KeyboardInterrupt

        patch.setattr(VideoOutput, "record", interrupted)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        assert run_here(inference.main, *flags).status == 130
    with simulated_gpu() as gpu:
        outcome = run_here(inference.main, *flags)
        assert gpu.copies, "the GPU took part"
    assert outcome.status == 0, outcome.err
    assert any("goes on after frame" in line for line in outcome.out)
    assert len(list((tmp_path / "output" / "Annotations" / "walk").glob("*.png"))) == 6
