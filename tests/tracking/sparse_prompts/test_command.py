"""inference.py with boxes and clicks: cut out by SAM, by what VITA-TCOVIS finds, or by the system itself."""

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import inference
from common.checkpoint import save_checkpoint
from common.types import Prompt, Tracks
from systems.sam_track.cutter import cutter_of
from tests.support import sam_networks, xmem_networks
from tests.support.commands import Outcome, assert_refused, files_in, run_here
from tests.support.vos_folders import write_frames
from video.images import read_frame, read_label_map

BOX, CLICKS = (3.0, 4.0, 20.0, 12.0), [(10.0, 8.0, 1), (2.0, 2.0, 0)]
MARKS = ["--box", "3,4,20,12", "--click", "10,8", "--negative_click", "2,2"]
FILLED = "boxes are taken as filled rectangles: cut the objects out by --cut sam_vit_b"


def save(path: Path, system: str, network: torch.nn.Module) -> Path:
    """A checkpoint of ours, untrained."""
    tracker = asdict(inference.SYSTEMS[system].tracker.Config())
    config = {"network": asdict(network.config), "tracker": tracker}
    content = {"format": 1, "system": system, "config": config, "model": network.state_dict(), "ema": None}
    save_checkpoint(path, content)
    return path


@pytest.fixture
def xmem(tmp_path) -> Path:
    return save(tmp_path / "xmem.pth", "xmem", xmem_networks.small_network())


@pytest.fixture
def sam(tmp_path) -> Path:
    """A published one, small; what it cuts out of the frames here is neither empty nor all."""
    network = sam_networks.small_network(prompt_encoder=True, decoder_heads=8)
    torch.save(sam_networks.published(network), tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


@pytest.fixture
def infer(tmp_path):
    """A function of a checkpoint and further flags that tracks the video walk of three frames."""
    write_frames(tmp_path / "videos" / "walk", 3, ".png")
    flags = ["--video_root", tmp_path / "videos", "--device", "cpu", "--output", tmp_path / "output"]
    return lambda checkpoint, *further: run_here(
        inference.main, "--checkpoint", checkpoint, *flags, "--overwrite", *further
    )


def first_map(outcome: Outcome) -> torch.Tensor:
    assert outcome.status == 0, outcome.err
    maps = sorted((outcome.run / "Annotations" / "walk").iterdir())
    assert len(maps) == 3
    return torch.from_numpy(read_label_map(maps[0]).astype("int64"))


def cut_out(sam: Path, frames: Path, prompt: Prompt) -> torch.Tensor:
    """What that file alone cuts out of the first frame."""
    frame = torch.from_numpy(read_frame(frames / "00000.png")).permute(2, 0, 1)
    labels = cutter_of(inference.load_network(sam)[0]).cut(frame, prompt).labels
    assert labels.any() and not labels.all()
    return labels


def test_another_system_starts_from_what_sam_cuts_out(infer, xmem, sam, tmp_path):
    outcome = infer(xmem, "--cut", sam, *MARKS)
    wanted = cut_out(sam, tmp_path / "videos/walk", Prompt(boxes={1: BOX}, clicks={1: CLICKS}))
    assert first_map(outcome).equal(wanted) and outcome.err == []
    filled = infer(xmem, *MARKS[:2])
    assert filled.err == [FILLED] and first_map(filled).bool().nonzero().amin(0).tolist() == [4, 3]
    assert int(first_map(filled).sum()) == 20 * 12


def test_sam_itself_starts_from_clicks_alone(infer, sam, tmp_path):
    outcome = infer(sam, *MARKS[2:])
    wanted = cut_out(sam, tmp_path / "videos/walk", Prompt(clicks={1: CLICKS}))
    assert first_map(outcome).equal(wanted) and outcome.err == []


def test_sam_that_was_trained_without_a_prompt_encoder_fills_boxes_and_says_so(infer, tmp_path):
    without = save(tmp_path / "best.pth", "sam_track", sam_networks.small_network())
    outcome = infer(without, *MARKS[:2])
    assert outcome.err == [FILLED] and int(first_map(outcome).sum()) == 20 * 12
    assert_refused(infer(without, *MARKS[2:]), "this system takes no clicks", "--cut sam_vit_b")
    assert_refused(infer(without, "--cut", without, *MARKS), "best.pth is no SAM with its prompt encoder")


def test_an_object_that_vita_finds_in_a_box_is_cut_out(infer, xmem, monkeypatch, tmp_path):
    masks = torch.zeros(1, *xmem_size(tmp_path))
    masks[0, 5:16, 4:20] = 0.9
    tracks = Tracks(torch.tensor([1]), (masks[0] > 0.5).long(), masks, torch.ones(1))
    finder = SimpleNamespace(reset=lambda: None, step=lambda frame: tracks, mask_threshold=0.5)
    monkeypatch.setattr(inference, "finder_of", lambda args: finder)
    outcome = infer(xmem, "--discover", "vita.pth", "--box", "3,4,20,12")
    assert first_map(outcome).equal(tracks.labels) and outcome.err == []
    outcome = infer(xmem, "--discover", "vita.pth", "--box", "1,1,3,3")
    assert outcome.err == ["walk: no object fits the box of id 1, which is taken as it is"]
    assert int(first_map(outcome).sum()) == 9


def xmem_size(folder: Path) -> tuple[int, int]:
    """(H, W) of the frames."""
    return read_frame(folder / "videos/walk/00000.png").shape[:2]


def test_a_checkpoint_of_vita_finds_what_is_in_boxes_for_any_system(infer, trained, sam, tmp_path):
    """The untrained finder sees something, or nothing: the run ends well in either case."""
    outcome = infer(sam, "--discover", trained.run / "best.pth", "--box", "3,4,20,12")
    assert first_map(outcome).any()


def test_mistakes_are_one_line_and_leave_nothing(infer, xmem, sam, trained, tmp_path):
    (tmp_path / "c.json").write_text('{"walk": {"1": [[3, 3, 2]]}}')
    for flags, words in (
        (["--click", "10,8"], "this system takes no clicks"),
        (["--click", "10,8", "--box", "3,4,20,12"], "this system takes no clicks"),
        (["--cut", sam], "--cut needs what marks objects"),
        (["--cut", sam, "--click", "900,8"], "lies outside of the frame"),
        (["--cut", sam, "--box", "900,8,3,3"], "lies outside of the frame"),
        (["--box", "900,8,3,3"], "lies outside of the frame"),
        (["--cut", sam, "--negative_click", "9,8"], "id 1 has no click on the object"),
        (["--cut", sam, "--clicks", tmp_path / "c.json"], "has another label than 1"),
        (["--cut", xmem, "--click", "10,8"], "xmem.pth is no SAM with its prompt encoder"),
        (["--cut", tmp_path / "none.pth", "--click", "10,8"], "none.pth"),
        (["--cut", sam, "--discover", "x.pth", "--box", "3,4,20,12"], "--cut and --discover"),
        (["--discover", trained.run / "best.pth", "--click", "10,8"], "--discover takes no clicks"),
        (["--discover", xmem, "--box", "3,4,20,12"], "of the system xmem"),
        (["--annotate", "--click", "10,8"], "leave out --prompt_root, boxes, clicks"),
    ):
        assert_refused(infer(xmem, *flags), words)
    assert files_in(tmp_path / "output") == []
