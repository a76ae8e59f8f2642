"""The flags of the training command: what the first description says of them, presets, what is refused."""

import re
import shlex
from dataclasses import fields

import numpy as np
import pytest

import main
from common.config import AMP_CHOICES, has_default
from common.device import AMP
from common.errors import UserError
from configs.listeners import TrainingListenersConfig
from configs.systems import CONFIGS
from systems.siammask.backbones import CORRELATED
from tests.support.commands import ROOT, assert_refused, run_here
from training.config import TrainConfig, check_flags
from training.optim import OPTIMIZERS

# The two command lines of the project's first description, word for word.
RECOMMENDED = """--enable_clearml --project_name VITA_TCOVIS_Project --dataset_root ./dataset --epochs 20
--batch_size 8 --num_tokens 50 --w_dice 5.0 --w_match 2.0""".split()
DEBUG = "--epochs 2 --batch_size 2 --num_tokens 10 --run_dir debug_run".split()
DEFAULTS = {
    "enable_clearml": False,
    "project_name": "VITA-TCOVIS",
    "task_name": "train",
    "dataset_root": ("./dataset",),
    "run_dir": "runs",
    "epochs": 20,
    "batch_size": 8,
    "lr_head": 1e-4,
    "lr_backbone": 1e-5,
    "image_size": 384,
    "clip_length": 5,
    "num_tokens": 20,
    "hidden_dim": 256,
    "w_mask": 5.0,
    "w_dice": 5.0,
    "w_match": 2.0,
    "w_ctr": 1.0,
    "w_class": 2.0,
    "no_object": 0.1,
    "beta": 0.2,
    "match_threshold": 0.5,
}


def test_the_recommended_command_line_keeps_its_meaning():
    args, _ = main.parse_args(RECOMMENDED)
    given = {"enable_clearml": True, "project_name": "VITA_TCOVIS_Project", "num_tokens": 50}
    given["dataset_root"] = ["./dataset"]
    assert {name: getattr(args, name) for name in DEFAULTS} == DEFAULTS | given


def test_the_debugging_command_line_keeps_its_meaning():
    args, _ = main.parse_args(DEBUG)
    given = {"epochs": 2, "batch_size": 2, "num_tokens": 10, "run_dir": "debug_run"}
    assert {name: getattr(args, name) for name in DEFAULTS} == DEFAULTS | given


def test_the_recipe_of_the_readme_is_that_of_the_preset():
    readme = (ROOT / "README.md").read_text()
    (command,) = re.findall(r"python main.py (--enable_clearml.*?)```", readme, re.DOTALL)
    recipe, _ = main.parse_args(shlex.split(command.replace("\\\n", "")))
    assert recipe == main.parse_args([f"@{ROOT / 'presets' / 'a100.txt'}"])[0]


@pytest.mark.parametrize("preset", sorted((ROOT / "presets").glob("*.txt")), ids=lambda path: path.stem)
def test_every_preset_is_read(preset):
    args, _ = main.parse_args([f"@{preset}"])
    written = [line.split()[0] for line in preset.read_text().splitlines() if line.startswith("--")]
    assert written and all(hasattr(args, flag.removeprefix("--")) for flag in written)


def test_what_follows_a_preset_wins(tmp_path):
    (tmp_path / "small.txt").write_text("# small\n--epochs 3\n--hidden_dim 64  # narrow\n")
    args, _ = main.parse_args([f"@{tmp_path / 'small.txt'}", "--epochs", "5"])
    assert (args.epochs, args.hidden_dim) == (5, 64)


@pytest.mark.parametrize(
    "flag", ["--num_query 3", "--num_tok 3", "--epoch 3", "--system stm", "--epochs many"]
)
def test_a_foreign_or_abbreviated_flag_or_value_is_refused_in_one_line(flag, tmp_path):
    outcome = run_here(main.main, *flag.split(), "--run_dir", tmp_path / "runs")
    assert_refused(outcome, flag.split()[0])
    assert not (tmp_path / "runs").exists()


def test_paths_of_a_run_that_is_left_to_a_queue_are_those_of_the_agent():
    paths = ["--dataset_root", "/none", "--resume", "/none/last.pth"]
    check_flags([*paths, "--enable_clearml", "--queue", "q"])
    with pytest.raises(UserError, match=r"/none/last\.pth does not exist"):
        check_flags(paths)


def test_a_system_may_have_defaults_of_its_own_for_the_flags_of_training(monkeypatch, tmp_path):
    monkeypatch.setitem(CONFIGS, "stcn", CONFIGS["stcn"]._replace(training={"ema": 0.5, "epochs": 3}))
    (tmp_path / "preset.txt").write_text("--system stcn\n--epochs 4\n")
    args, parser = main.parse_args([f"@{tmp_path / 'preset.txt'}"])
    assert (args.ema, args.epochs) == (0.5, 4)
    assert "none (default: 0.5)" in " ".join(parser.format_help().split())
    assert main.parse_args([])[0].ema == TrainConfig().ema


def test_no_two_parts_own_the_same_flag():
    for name, configs in CONFIGS.items():
        parts = [TrainConfig, TrainingListenersConfig, *configs.parts.values()]
        flags = [item.name for part in parts for item in fields(part) if has_default(item)]
        assert len(flags) == len(set(flags)), name


def test_every_system_is_made_of_the_options_that_its_flags_give():
    assert CONFIGS.keys() == main.SYSTEMS.keys()
    for name, configs in CONFIGS.items():
        system = main.SYSTEMS[name]
        parts = system.network, system.criterion, system.tracker, system.dataset
        assert [part.Config for part in parts] == list(configs.parts.values())
        assert configs.training.keys() <= {item.name for item in fields(TrainConfig)}


def test_every_choice_of_a_flag_is_there():
    items = {item.name: item for item in fields(TrainConfig)}
    assert items["optimizer"].metadata["choices"] == tuple(OPTIMIZERS)
    assert AMP_CHOICES == ("auto", *AMP)
    backbones = {item.name: item for item in fields(CONFIGS["siammask"].network)}["backbone"]
    assert backbones.metadata["choices"] == tuple(CORRELATED)


def test_evaluations_between_epochs_track_eval_videos_and_the_last_one_all(train, monkeypatch):
    asked = []
    monkeypatch.setattr(main, "evaluate_tracker", lambda *_, num_videos, **__: asked.append(num_videos) or {})
    monkeypatch.setattr(main.Gallery, "picture", lambda _: np.zeros((4, 4, 3), dtype=np.uint8))
    assert train("--eval_videos", 1).status == 0
    assert asked == [1, 0]
