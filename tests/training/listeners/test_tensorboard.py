"""TensorBoard gets the reports of a run as its own files."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import MissingPackage
from training.listeners.tensorboard import TensorBoard


def test_tensorboard_that_is_not_installed_is_told_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingPackage, match=r"--tensorboard needs tensorboard.*pip install tensorboard"):
        TensorBoard()


def read(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def written(folder: Path, step: int, losses: dict[int, float]) -> None:
    board = TensorBoard()
    board.begin(folder, step)
    for at, loss in losses.items():
        board.scalars("loss", {"total": loss, "dice": None, "bce": float("nan")}, at)
    board.image("validation", "truth", 2, np.full((4, 6, 3), 200, np.uint8))
    board.table("videos", [["video", "J"], ["a", 90.5]], 2)
    board.single_value("J&F", 80.5)
    Image.new("RGB", (4, 4)).save(folder / "results.png")
    board.figure("results", folder / "results.png", 2)
    board.close()


def test_reports_are_written_and_steps_that_are_done_again_replace_the_former(tmp_path):
    pytest.importorskip("tensorboard")
    written(tmp_path, 0, {1: 4.0, 2: 3.0, 3: 2.0})
    written(tmp_path, 2, {3: 2.5, 4: 1.0})
    events = read(tmp_path)
    assert events.Tags()["scalars"] == ["loss/total"]
    assert [(e.step, e.value) for e in events.Scalars("loss/total")] == [(1, 4), (2, 3), (3, 2.5), (4, 1)]
    assert events.Tags()["images"] == ["validation/truth", "plots/results"]
    texts = [events.Tensors(tag)[0].tensor_proto.string_val[0] for tag in events.Tags()["tensors"]]
    assert texts == [b"video | J\n--- | ---\na | 90.5", b"name | value\n--- | ---\nJ&F | 80.5"]


def test_a_run_that_ends_before_it_has_a_folder_writes_nothing(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    TensorBoard().close()
    assert list(tmp_path.iterdir()) == []
