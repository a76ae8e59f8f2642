"""What several test files share: a small data set, a run trained on it, the fake system in the table."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import inference
import main
from common.errors import ENDING_SIGNALS
from configs.systems import CONFIGS
from tests.support.commands import TINY, Outcome, run_here
from tests.support.fake_system import FAKE_CONFIGS, SYSTEM
from training import report
from video import synthetic


@pytest.fixture(scope="session", autouse=True)
def heed_signals() -> None:
    """Let signals mean what they do in a terminal: what is started in the background may ignore some."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tests share their cores, and sums in one thread have one order."""
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(former)


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """What a test draws does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 4 training and 2 validation videos of 5 frames, 32x32; nobody may change it."""
    root = tmp_path_factory.mktemp("small") / "data"
    synthetic.generate(root, "easy", seed=1, train_videos=4, valid_videos=2, frames=5, size=32)
    return root


@pytest.fixture(scope="session")
def trained(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A finished run of two epochs of two steps; nobody may change it."""
    run_dir = tmp_path_factory.mktemp("trained")
    flags = ["--dataset_root", small_data, "--run_dir", run_dir, "--epochs", 2]
    outcome = run_here(main.main, *TINY, *flags)
    assert outcome.status == 0, outcome.err
    return outcome


@pytest.fixture
def train(small_data: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """A function of further flags that trains VITA-TCOVIS on the small data set in this process."""
    flags = [*TINY, "--dataset_root", small_data, "--run_dir", tmp_path / "runs", "--epochs", 1]
    return lambda *further: run_here(main.main, *flags, *further)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the curves of a run, which take half a second, where a test is about something else."""
    monkeypatch.setattr(report, "plot_curves", lambda *_: None)


@pytest.fixture
def fake_system(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the fake prompted system, which is added as a user would: a row in each table."""
    monkeypatch.setitem(inference.SYSTEMS, "fake", SYSTEM)
    monkeypatch.setitem(CONFIGS, "fake", FAKE_CONFIGS)
    return "fake"
