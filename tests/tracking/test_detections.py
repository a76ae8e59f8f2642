"""Detections of frames: read from outputs, chosen, written and read back as they were."""

import pytest
import torch

from common.errors import UserError
from tracking.detections import DetectionsWriter, FrameDetections, SavedVideo, saved_videos

SIZES = (32, 64), (30, 40), (60, 80)  # padded, resized, frame


def detections(count: int, seed: int = 0) -> FrameDetections:
    """Those of `count` tokens at stride 4, of 3 classes."""
    rng = torch.Generator().manual_seed(seed)
    outputs = {
        "class_logits": torch.randn(1, 1, count, 4, generator=rng),
        "mask_logits": torch.randn(1, 1, count, 8, 16, generator=rng),
        "embeddings": torch.randn(1, 1, count, 5, generator=rng),
    }
    return FrameDetections.of(outputs, *SIZES)


def test_outputs_become_scores_classes_embeddings_and_masks_without_padding():
    logits = torch.full((1, 1, 1, 8, 16), 100.0)
    outputs = {"class_logits": torch.tensor([[[[0.0, 0.0]]]]), "mask_logits": logits}
    found = FrameDetections.of(outputs | {"embeddings": torch.tensor([[[[3.0, 4.0]]]])}, *SIZES)
    assert found.scores.tolist() == [0.5] and found.class_probs.tolist() == [[0.5]]  # sure of its pixels
    assert found.embeddings.tolist() == [[3, 4]] and found.prompted_ids.tolist() == [0]
    assert found.masks.shape == (1, 8, 10) and found.masks.all()  # 30 / 4 and 40 / 4 cells, rounded up


def test_chosen_ones_keep_what_belongs_together():
    every = detections(4)
    some = every.chosen(torch.tensor([2, 0]))
    assert torch.equal(some.embeddings, every.embeddings[[2, 0]])
    assert torch.equal(some.logits, every.logits[[2, 0]]) and some.sizes == every.sizes
    assert every.chosen(torch.tensor([], dtype=torch.int64)).masks.shape == (0, 8, 10)


def test_what_is_written_is_read_back(tmp_path):
    frames = {"00005": detections(3), "b": detections(0), "00007": detections(2, seed=1)}
    with DetectionsWriter(tmp_path / "walk.npz", {"beta": 0.2}) as writer:
        for _, found in writer.named(frames.items()):
            writer.add(found)
        assert not (tmp_path / "walk.npz").exists()
    (video,) = saved_videos(tmp_path)
    assert (video.name, video.tracker, video.num_frames) == ("walk", {"beta": 0.2}, 3)
    for (name, found), (expected_name, expected) in zip(video.frames(), frames.items(), strict=True):
        assert name == expected_name and found.sizes == SIZES
        assert all(map(torch.equal, found[:-1], expected[:-1]))


def test_a_run_that_breaks_off_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError, match="halt"), DetectionsWriter(tmp_path / "walk.npz", {}) as writer:
        writer.add(detections(1))
        raise RuntimeError("halt")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_of_detections_is_refused(tmp_path):
    (tmp_path / "walk.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"walk\.npz holds no detections"):
        SavedVideo(tmp_path / "walk.npz")
    with pytest.raises(UserError, match="save_detections"):
        saved_videos(tmp_path / "absent")
