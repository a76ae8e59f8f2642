"""The benchmark beside official programs: checkouts made by hand take the place of theirs."""

import runpy
from pathlib import Path

import pytest

from tests.support.commands import ROOT, Outcome, assert_refused, run_here

SIGN = "evaluation_method.py"
SCORER = """
import argparse, os
from davis2017 import J
parser = argparse.ArgumentParser()
for name in ("task", "davis_path", "results_path"):
    parser.add_argument("--" + name)
args = parser.parse_args()
assert len(os.listdir(args.davis_path + "/JPEGImages/480p")) == 2
path = args.results_path + "/global_results-val.csv"
assert not os.path.exists(path)
open(path, "w").write("J&F-Mean,J-Mean\\n%s,0.5\\n" % J)
"""
NETWORK = """
import torch
class XMem(torch.nn.Module):
    def __init__(self, config, path):
        super().__init__()
        assert config["mem_every"] == 5 and "key_proj.key_proj.weight" in torch.load(path)
"""
CORE = """
import torch
class InferenceCore:
    def __init__(self, network, config):
        self.network = network
    def set_all_labels(self, labels):
        self.labels = labels
    def step(self, image, mask, labels, end):
        assert image.shape == (3, 96, 128) and (mask is None) == (labels is None)
        self.mask = self.mask if mask is None else mask
        return torch.cat([1 - self.mask.sum(0, keepdim=True), self.mask])
"""
EVAL = """
import argparse, os, shutil, torch
from progressbar import progressbar
parser = argparse.ArgumentParser()
for name in ("dataset", "size", "generic_path", "model", "output"):
    parser.add_argument("--" + name)
args = parser.parse_args()
assert "key_proj.key_proj.weight" in torch.load(args.model)
torch.cuda.Event(enable_timing=True).record()
frames, first = (args.generic_path + place for place in ("/JPEGImages/clip", "/Annotations/clip/00000.png"))
os.makedirs(args.output + "/clip", exist_ok=True)
for name in progressbar(sorted(os.listdir(frames)), max_value=2):
    shutil.copy(first, f"{args.output}/clip/{name[:-4]}.png")
"""


def run_benchmark(*flags: object) -> Outcome:
    return run_here(runpy.run_path(str(ROOT / "benchmarks" / "peers" / "__main__.py"))["main"], *flags)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def numbers(outcome: Outcome, name: str) -> tuple[list[float], str]:
    """Seconds of both, their ratio, MiB of both, and what is said of the results."""
    (row,) = (line for line in outcome.out if line.startswith(name))
    return [float(value) for value in row[26:68].split()], row[68:].strip()


def test_what_has_no_checkout_is_passed_over_and_told():
    outcome = run_benchmark()
    assert (outcome.status, outcome.err) == (0, [])
    assert [line for line in outcome.out if "is not compared" in line] == [
        f"{name} is not compared: give its checkout by --{name}"
        for name in ("xmem", "stcn", "siammask", "sam", "davis2017", "trackeval")
    ]


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    outcome = run_benchmark("--davis2017", tmp_path)
    assert_refused(outcome, f"--davis2017 {tmp_path} has no {SIGN}: give the folder of an official checkout")
    assert_refused(run_benchmark("--frames", 1), "--frames 1 is too small: at least 2")


def test_a_scorer_is_timed_in_turns_and_its_score_compared(tmp_path):
    checkout = write(tmp_path, {SIGN: SCORER, "davis2017/__init__.py": "J = 0.25"})
    flags = "--size 48 64 --videos 2 --video_frames 4 --rounds 2".split()
    outcome = run_benchmark("--davis2017", checkout, *flags)
    assert (outcome.status, outcome.err) == (0, [])
    (ours, theirs, ratio, *peaks), agreement = numbers(outcome, "davis2017, videos: 2")
    assert min(ours, theirs) > 0 and ratio == pytest.approx(theirs / ours, rel=0.5)
    assert all(5 < peak < 300 for peak in peaks)  # of the commands, not of this process
    assert agreement.startswith("scores differ by ")


def test_a_program_that_fails_is_told_in_one_line(tmp_path):
    checkout = write(tmp_path, {SIGN: "raise RuntimeError('no such data')"})
    flags = "--size 48 64 --videos 1 --video_frames 4 --rounds 1".split()
    outcome = run_benchmark("--davis2017", checkout, *flags)
    assert_refused(outcome, f"the program of {checkout} has failed (RuntimeError: no such data)")


@pytest.mark.slow
def test_a_tracker_runs_beside_ours_on_the_same_weights_and_frames(tmp_path):
    files = {"model/network.py": NETWORK, "model/resnet.py": "", "inference/inference_core.py": CORE}
    flags = "--size 96 128 --frames 2 --objects 2 --rounds 1 --file_frames 3 --amp bf16".split()
    outcome = run_benchmark("--xmem", write(tmp_path, files | {"eval.py": EVAL}), *flags)
    assert (outcome.status, outcome.err) == (0, [])
    for row in "xmem, objects: 2", "xmem, files to files":
        (ours, theirs, ratio, *_), agreement = numbers(outcome, row)
        assert ours > theirs > 0 and ratio < 1  # theirs computes nothing
        assert 0 < float(agreement.removeprefix("equal pixels: ")) <= 1
