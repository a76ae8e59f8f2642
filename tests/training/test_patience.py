"""`--patience`: training ends when evaluations improve no more."""

import numpy as np

import main
from common.checkpoint import read_checkpoint
from tests.support.commands import assert_refused
from training import report


def scored(monkeypatch, scores: list[float]) -> None:
    """Let the evaluations of a run, the final one aside, give these J&F."""
    left = [*scores]
    monkeypatch.setattr(main.Gallery, "picture", lambda _: np.zeros((4, 4, 3), dtype=np.uint8))
    monkeypatch.setattr(report, "plot_curves", lambda *_: None)
    monkeypatch.setattr(main, "evaluate_tracker", lambda *_, **__: {"J&F": left.pop(0) if left else 0.0})


def test_training_ends_after_evaluations_without_improvement_and_is_then_done(train, monkeypatch):
    scored(monkeypatch, [1.0, 3.0, 2.0, 2.5, 9.0])
    outcome = train("--epochs", 9, "--patience", 2)
    last = read_checkpoint(outcome.run / "last.pth")
    assert last["epoch"] == 4 and last["best"] == {"J&F": 3.0, "epoch": 2}
    assert "none of 2 evaluations was better: training ends after epoch 4" in outcome.out
    assert any(line.endswith("by the weights of epoch 2, the best of the run") for line in outcome.out)
    again = train("--epochs", 9, "--patience", 2, "--resume", "auto")
    assert again.out[0].startswith("nothing to resume") and "raise --patience" in again.out[0]
    assert (
        read_checkpoint(train("--epochs", 9, "--patience", 4, "--resume", "auto").run / "last.pth")["epoch"]
        > 4
    )


def test_patience_without_evaluations_is_refused(train, tmp_path):
    assert_refused(train("--patience", 2, "--eval_every", 0), "--patience", "--eval_every")
    assert not (tmp_path / "runs").exists()
