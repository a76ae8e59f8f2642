"""Commands load what they use: scores, conversions, help and refusals do without torch, in little memory."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.commands import Outcome, run_apart
from tests.support.label_folders import MOVING, SWITCHED, roots, write

HEAVY = ("torch", "torchvision", "matplotlib", "cv2", "av", "clearml")
MOST_MIB = 120  # of which NumPy takes 25, and SciPy 54 where objects are matched
PEAK = """
import atexit, re, runpy, sys
tell = lambda: print(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1], file=sys.stderr)
atexit.register(tell)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_without(packages: Sequence[str], folder: Path, *argv: object) -> Outcome:
    """Run `python argv...` where importing one of the packages ends any of its processes."""
    folder.mkdir(exist_ok=True)
    for package in packages:
        (folder / f"{package}.py").write_text(f"raise SystemExit('{package} is imported')\n")
    return run_apart(*argv, through=["env", f"PYTHONPATH={folder}"])


def test_a_package_that_is_missed_is_noticed(tmp_path):
    outcome = run_without(["torch"], tmp_path / "none", "-c", "import torch")
    assert (outcome.status, outcome.err) == (1, ["torch is imported"])


@pytest.mark.parametrize(
    "argv, status",
    [
        (["evaluate.py", "--help"], 0),
        (["evaluate.py", "--protocol", "mots", "--help"], 0),
        (["evaluate.py", "--protocol", "coco"], 2),
        (["evaluate.py", "--results", "none", "--annotations", "none"], 2),
        (["-m", "tools.convert", "--help"], 0),
        (["-m", "tools.convert", "none", "--output", "none"], 2),
        (["-m", "tools.cutout", "--help"], 0),
        (["-m", "tools.export", "--help"], 0),
        (["-m", "tools.export", "--checkpoint", "none", "--output", "none.pth"], 2),
        (["-m", "tuning.replay", "--help"], 0),
        (["-m", "tuning.replay", "none", "--output", "none"], 2),
        (["-m", "tuning.search", "--help"], 0),
        (["-m", "tuning.hpo", "--help"], 0),
        (["-m", "tuning.hpo", "--output", "none", "--vary", "lr_haed=1,2", "--", "--synthetic", "easy"], 2),
        (["-m", "tools.run_report", "--help"], 0),
        (["-m", "tools.run_report", "none"], 2),
        (["-m", "video.synthetic", "--help"], 0),
        (["inference.py", "--help"], 0),
        (["inference.py", "--system", "xmem", "--help"], 0),
        (["inference.py", "--checkpoint", "none.pth", "--video_root", ".", "--output", "none"], 2),
        (["inference.py", "--checkpoint", "stcn", "--video_root", "none", "--output", "none"], 2),
        (
            ["inference.py", "--checkpoint", "stcn", "--video_root", ".", "--output", "none", "--betta", "1"],
            2,
        ),
        (["main.py", "--help"], 0),
        (["main.py", "--system", "stcn", "--help"], 0),
        (["main.py", "--epochs", "x"], 2),
        (["main.py", "--batch_size", "0"], 2),
        (["main.py", "--resume", "none.pth"], 2),
        (["main.py", "--dataset_root", "none"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_help_and_refusals_load_neither_torch_nor_scipy(tmp_path, argv, status):
    outcome = run_without([*HEAVY, "scipy"], tmp_path / "none", *argv)
    assert outcome.status == status, outcome.err
    assert bool(outcome.out) == (status == 0) and len(outcome.err) == (status == 2)


def test_training_and_tracking_begin_with_torch_alone_and_most_networks_do_with_it(tmp_path):
    code = """
import main, inference
import torch
from common.backbone import Backbone
from systems.siammask.backbones import DilatedResNet
from systems.stcn.backbones import stages_of
from video.transforms import normalise, resize_frames
frames = normalise(resize_frames(torch.zeros(1, 3, 40, 60, dtype=torch.uint8), (32, 64)))
features = Backbone("narrow", "none")(frames)
print(*features[32].shape, len(stages_of("narrow")), DilatedResNet("resnet50").channels)
"""
    packages = {*HEAVY, "scipy", "pycocotools"} - {"torch"}
    outcome = run_without(packages, tmp_path / "none", "-c", code)
    assert outcome == Outcome(0, ["1 96 1 2 2 (64, 256, 512, 1024)"], [])


def test_checkpoints_are_loaded_without_the_compiler_of_torch(tmp_path):
    code = f"""
import sys
from dataclasses import asdict
import torch
from inference import SYSTEMS, load_network
small = {{"backbone": "narrow", "backbone_weights": "none"}}
for system, options in {{
    "vita_tcovis": small,
    "siammask": small | {{"refine": True}},
    "stcn": small,
    "xmem": small,
    "sam_track": {{"embed_dim": 48, "depth": 1, "num_heads": 2, "global_blocks": "0"}},
}}.items():
    network = SYSTEMS[system].network
    made = network.Config(**options)
    weights = network(made).state_dict()
    config = {{"network": asdict(made), "data": {{}}, "tracker": {{}}, "criterion": {{}}}}
    torch.save({{"format": 1, "system": system, "config": config, "model": weights}}, "{tmp_path}/c.pth")
    loaded = load_network("{tmp_path}/c.pth")[0].state_dict()
    print(all(torch.equal(x, weights[name]) for name, x in loaded.items()), "sympy" in sys.modules)
"""
    outcome = run_apart("-c", code)
    assert outcome.out == ["True False"] * 5, outcome.err


@pytest.mark.parametrize("protocol", ["tcovis", "davis_unsupervised", "mots"])
def test_label_maps_are_scored_and_explained_without_torch_in_all_processes(tmp_path, protocol):
    results, truth = roots(tmp_path, MOVING, SWITCHED)
    for folder in (results, truth):
        (folder / "dog").symlink_to(folder / "cat")  # a second video, for a second process
    flags = ["--results", results, "--annotations", truth, "--protocol", protocol, "--num_workers", 2]
    flags += ["--explain", tmp_path / "page.html"]
    outcome = run_without(HEAVY, tmp_path / "none", "evaluate.py", *flags)
    assert outcome.status == 0, outcome.err
    assert {"cat", "dog", "overall"} <= {line.split(" ")[0] for line in outcome.out}
    assert (tmp_path / "page.html").is_file()


def test_results_are_packed_for_a_server_without_torch(tmp_path):
    results, root = write(tmp_path / "results" / "cat", MOVING), tmp_path / "DAVIS"
    write(root / "Annotations" / "480p" / "cat", MOVING)
    write(root / "JPEGImages" / "480p" / "cat", MOVING)  # of which only the size is asked
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("cat\n")
    flags = ["--results", results, "--annotations", root, "--submission", tmp_path / "s.zip"]
    packages = [*HEAVY, "scipy"]
    outcome = run_without(packages, tmp_path / "none", "evaluate.py", *flags, "--protocol", "davis")
    assert outcome.out == [f"{tmp_path / 's.zip'}: 1 videos, 3 frames for davis"], outcome.err


def test_label_maps_become_json_that_is_scored_without_torch(tmp_path):
    results, truth = roots(tmp_path, MOVING, MOVING)
    convert, files = ("-m", "tools.convert"), (tmp_path / "results.json", tmp_path / "truth.json")
    for command in (
        (*convert, results, "--output", files[0], "--form", "results"),
        (*convert, truth, "--output", files[1]),
        (*convert, files[1], "--output", tmp_path / "maps"),
        ("evaluate.py", "--results", files[0], "--annotations", files[1], "--protocol", "ytvis"),
    ):
        outcome = run_without(HEAVY, tmp_path / "none", *command)
        assert outcome.status == 0, outcome.err
    assert any(line.split()[0] == "overall" for line in outcome.out)


@pytest.mark.parametrize("protocol", ["tcovis", "davis_unsupervised"])
def test_scoring_takes_little_memory(tmp_path, protocol):
    results, truth = roots(tmp_path, MOVING, SWITCHED)
    flags = ["--results", results, "--annotations", truth, "--protocol", protocol, "--num_workers", 0]
    outcome = run_apart("-c", PEAK, "evaluate.py", *flags)
    assert outcome.status == 0, outcome.err
    assert int(outcome.err[-1]) < MOST_MIB * 1024
