"""Propagation backwards from prompts in mid-video, by the command: images, video files, late objects."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import inference
from common.checkpoint import save_checkpoint
from tests.support.commands import assert_refused, files_in, run_here
from tests.support.fake_system import FakeNetwork, FakeTracker
from video.images import read_label_map, write_label_map

SIZE, LENGTH = (24, 40), 7


@pytest.fixture
def checkpoint(fake_system, tmp_path) -> Path:
    """Of the fake system, whose network tells pixels apart by their colours."""
    torch.manual_seed(0)
    weights = FakeNetwork(FakeNetwork.Config()).state_dict()
    config = {"network": {"width": 8}, "tracker": vars(FakeTracker.Config(mask_threshold=0.35))}
    state = {"format": 1, "system": "fake", "config": config, "model": weights, "ema": None}
    save_checkpoint(tmp_path / "fake.pth", state)
    return tmp_path / "fake.pth"


def true_labels(t: int) -> np.ndarray:
    labels = np.zeros(SIZE, dtype=np.uint8)
    labels[2:10, 2 + 2 * t : 12 + 2 * t] = 5
    labels[14:22, 26 - 2 * t : 36 - 2 * t] = 9
    return labels


def frame_of(t: int) -> np.ndarray:
    """Red is object 5, blue is object 9."""
    frame = np.full((*SIZE, 3), 60, dtype=np.uint8)
    frame[true_labels(t) == 5] = (250, 20, 20)
    frame[true_labels(t) == 9] = (20, 20, 250)
    return frame


@pytest.fixture(params=["images", "file"])
def video(request, tmp_path) -> Path:
    """Seven frames; ids 5 and 9 are prompted on frames 2 and 5."""
    (tmp_path / "videos").mkdir()
    if request.param == "images":
        (tmp_path / "videos" / "walk").mkdir()
        for t in range(LENGTH):
            Image.fromarray(frame_of(t)).save(tmp_path / "videos" / "walk" / f"{t:05d}.png")
    else:
        av = pytest.importorskip("av")
        with av.open(str(tmp_path / "videos" / "walk.mp4"), "w") as container:
            stream = container.add_stream("libx264rgb", rate=10, options={"qp": "0"})
            stream.height, stream.width = SIZE
            stream.pix_fmt = "rgb24"
            for t in range(LENGTH):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_of(t), format="rgb24")))
            container.mux(stream.encode(None))
    for t, track in ((2, 5), (5, 9)):
        labels = np.where(true_labels(t) == track, track, 0)
        write_label_map(tmp_path / "prompts" / "walk" / f"{t:05d}.png", labels)
    return tmp_path


def infer(checkpoint: Path, root: Path, *further: object):
    flags = ["--checkpoint", checkpoint, "--video_root", root / "videos", "--output", root / "output"]
    return run_here(inference.main, *flags, *further)


def written_labels(root: Path) -> list[np.ndarray]:
    return [read_label_map(root / "output" / "Annotations" / "walk" / f"{t:05d}.png") for t in range(LENGTH)]


def overlap(labels: np.ndarray, t: int, track: int) -> float:
    predicted, true = labels == track, true_labels(t) == track
    return (predicted & true).sum() / (predicted | true).sum()


def test_objects_are_followed_back_to_the_first_frame(checkpoint, video):
    assert infer(checkpoint, video, "--prompt_root", video / "prompts", "--reverse").status == 0
    for t, labels in enumerate(written_labels(video)):
        assert overlap(labels, t, 5) > 0.8 and overlap(labels, t, 9) > 0.8
    tracks = json.loads((video / "output" / "tracks.json").read_text())["walk"]["tracks"]
    for track in ("5", "9"):
        assert (tracks[track]["first"], tracks[track]["last"]) == ("00000", "00006")
        assert len(tracks[track]["scores"]) == LENGTH
    assert not [name for name in files_in(video / "output") if "reverse" in name]


def test_from_its_start_on_an_object_is_followed_as_without(checkpoint, video):
    prompts = ["--prompt_root", video / "prompts"]
    infer(checkpoint, video, *prompts, "--reverse")
    both = written_labels(video)
    infer(checkpoint, video, *prompts, "--overwrite")
    forwards = written_labels(video)
    assert [set(np.unique(labels)) for labels in forwards[:2]] == [{0}, {0}]
    assert all(np.array_equal(*pair) for pair in zip(both[5:], forwards[5:], strict=True))
    for one, other in zip(both[2:5], forwards[2:5], strict=True):
        assert np.array_equal(one == 5, other == 5) and not (other == 9).any() and (one == 9).any()


def test_every_id_counts_from_its_first_map(checkpoint, video):
    write_label_map(video / "prompts" / "walk" / "00006.png", true_labels(6))
    for frames in ("first", "all"):
        flags = ["--prompt_root", video / "prompts", "--prompt_frames", frames, "--overwrite"]
        assert infer(checkpoint, video, *flags, "--reverse").status == 0
        assert overlap(written_labels(video)[0], 0, 9) > 0.8


def test_a_map_of_0_and_255_is_one_object_backwards_too(checkpoint, video):
    for path in (video / "prompts" / "walk").iterdir():
        path.unlink()
    mask = ((true_labels(4) == 5) * 255).astype(np.uint8)
    Image.fromarray(mask).save(video / "prompts" / "walk" / "00004.png")
    assert infer(checkpoint, video, "--prompt_root", video / "prompts", "--reverse").status == 0
    assert np.array_equal(np.unique(written_labels(video)[0]), [0, 1])


def test_without_prompts_there_is_nothing_to_reverse(checkpoint, video, trained):
    assert_refused(infer(trained.run / "best.pth", video, "--reverse"), "--reverse", "--prompt_root")
