"""The benchmarks of speed and memory at tiny sizes: their tables hold what they promise, aims are judged."""

from types import ModuleType
from typing import Any

import pytest

from benchmarks import inference, loader, memory, tracker, training
from tests.support.commands import TINY, Outcome, assert_refused, run_here

SMALL = TINY[: TINY.index("--batch_size")]  # the flags of the network and of its clips
NETWORK = SMALL[: SMALL.index("--clip_length")]
DATA = "--image_size 32 --clip_length 2 --clips 2".split()
VIDEO = "--frames 3 --rounds 1 --objects 2".split()


@pytest.fixture
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Videos of 96x54 in place of those of 1280x720."""
    monkeypatch.setattr(loader, "HEIGHT", 54)
    monkeypatch.setattr(loader, "WIDTH", 96)


def rows(outcome: Outcome) -> dict[str, list[float]]:
    """{part: (wall ms, CPU ms, share)} of the tables that a benchmark printed."""
    ending = [line.rsplit(maxsplit=3) for line in outcome.out if line.endswith("%")]
    return {name.strip(): [float(number.rstrip("%")) for number in numbers] for name, *numbers in ending}


def ratios(outcome: Outcome) -> dict[str, float]:
    """What was aimed at, and what was measured."""
    lines = [line.partition("   aim: at ")[0] for line in outcome.out if "   aim: at " in line]
    return {line[:44].strip(): float(line[44:]) for line in lines}


def assert_judged(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, limits: dict[str, Any], missed: list[str], *flags
) -> Outcome:
    """Run a benchmark with other aims; assert that it misses those, and ends with what that means."""
    for name, limit in limits.items():
        monkeypatch.setattr(module, name, limit)
    outcome = run_here(module.main, *flags)
    assert outcome.err == [] and set(missed) <= ratios(outcome).keys()
    assert outcome.status == (f"missed: {', '.join(missed)}" if missed else 0)  # a text is exit status 1
    return outcome


@pytest.mark.parametrize("met", [True, False])
def test_the_benchmark_of_training_tells_the_parts_of_a_step(met, monkeypatch):
    names = ["training step / bare network", "criterion and matcher / step"]
    limits = dict.fromkeys(["RATIO_AIM", "SHARE_AIM"], 1e9 if met else 0.0)
    flags = [*SMALL, "--rounds", 1, "--objects", 2]
    outcome = assert_judged(monkeypatch, training, limits, [] if met else names, *flags)
    table = rows(outcome)
    assert {"bare network", "training step", "network forward", "criterion", "optimiser"} <= table.keys()
    assert all(wall > 0 for wall, *_ in table.values())


@pytest.mark.parametrize("met", [True, False])
def test_the_benchmark_of_the_loader_tells_the_parts_of_a_clip(met, monkeypatch, small_pictures):
    name = "speed of the loader / bare decoding"
    monkeypatch.setattr(loader, "MILLISECONDS", dict.fromkeys(loader.MILLISECONDS, 1e9))
    outcome = assert_judged(monkeypatch, loader, {"AIM": 0.0 if met else 1e9}, [] if met else [name], *DATA)
    table = rows(outcome)
    bare, whole = (table.pop(f"{name}, a frame") for name in ("bare JPEG decoding", "loader"))
    assert {"frames: read, decode", "masks: read, decode, check", "collate"} <= table.keys()
    assert sum(cpu for _, cpu, _ in table.values()) == pytest.approx(whole[1], abs=0.1)
    assert ratios(outcome)[name] == pytest.approx(bare[1] / whole[1], rel=0.2)


def test_the_benchmark_of_the_loader_takes_a_data_set(small_data, monkeypatch):
    monkeypatch.setattr(loader, "MILLISECONDS", dict.fromkeys(loader.MILLISECONDS, 1e9))
    outcome = assert_judged(monkeypatch, loader, {"AIM": 0.0}, [], *DATA, "--dataset_root", small_data)
    assert f"{small_data / 'train'}: 4 videos, 2 clips of 2 frames" in outcome.out


@pytest.mark.parametrize("met", [True, False])
def test_the_benchmark_of_inference_tells_the_parts_of_a_frame(met, monkeypatch, small_pictures):
    name = "speed of inference.py / bare network"
    limits, missed = {"AIM": 0.0 if met else 1e9}, [] if met else [name]
    outcome = assert_judged(monkeypatch, inference, limits, missed, *NETWORK, *VIDEO)
    table = rows(outcome)
    assert outcome.out[2] == "0: 3 frames of 96x54, --image_size 32, narrow, amp off, 2 objects"
    bare, whole, alone = (table.pop(row) for row in ("bare network", "inference.py", "without its threads"))
    assert {"read", "network", "masks to full size", "label map", "write label map"} <= table.keys()
    assert sum(cpu for _, cpu, _ in table.values()) == pytest.approx(alone[1], abs=0.2)
    assert ratios(outcome)[name] == pytest.approx(bare[0] / whole[0], abs=0.02)


def test_the_benchmark_of_inference_takes_a_checkpoint_and_a_video(trained, small_data, monkeypatch):
    flags = ["--checkpoint", trained.run / "best.pth", "--video_root", small_data / "valid"]
    outcome = assert_judged(monkeypatch, inference, {"AIM": 0.0}, [], *flags, *VIDEO, "--image_size", 32)
    assert "3 frames of 32x32, --image_size 32, narrow" in outcome.out[2]


@pytest.mark.parametrize("met", [True, False])
def test_the_benchmark_of_the_tracker_has_a_table_for_each_size(met, monkeypatch):
    limits = {"AIM_SIZES": (3, 5), "AIMS": dict.fromkeys([False, True], 1e9 if met else 0.0)}
    flags = "--detections 3 2 --tracks 5 4 --frames 3".split()
    kinds = ["vectors alone", "masks of 96x160"]
    missed = [] if met else [f"milliseconds a frame, {kind}" for kind in kinds]
    outcome = assert_judged(monkeypatch, tracker, limits, missed, *flags)
    titles = [line for line in outcome.out if "detections" in line]
    sizes = [title.partition(" tracks")[0] for title in titles]
    assert sizes == ["3 detections, 5", "3 detections, 5", "2 detections, 4", "2 detections, 4"]
    assert {"update", "assign", "mask overlaps", "remember", "retire"} <= set(rows(outcome))


@pytest.mark.slow
def test_the_benchmark_of_memory_compares_two_lengths(trained, monkeypatch):
    limits = {"LENGTHS": (2, 4), "AIM": 0.0}
    missed = ["peak memory, 4 / 2 frames"]
    checkpoint = trained.run / "best.pth"
    outcome = assert_judged(monkeypatch, memory, limits, missed, "--checkpoint", checkpoint, "--size", 32)
    assert [line.split()[:2] for line in outcome.out[:2]] == [["2", "frames:"], ["4", "frames:"]]
    assert 0.8 < ratios(outcome)[missed[0]] < 1.2


@pytest.mark.parametrize(
    "module, flag",
    [(training, "--rounds"), (loader, "--clips"), (inference, "--frames"), (tracker, "--frames")],
)
def test_a_number_that_is_too_small_is_refused(module, flag):
    assert_refused(run_here(module.main, flag, 0), flag)
