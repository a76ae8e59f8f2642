"""The commands of a run are what a user would have to type, presets written out."""

import shlex

import main
from tests.support.run_folders import DEFAULTS, write_run
from tools.run_report.commands import commands_of, flag_words, train_words
from tools.run_report.folder import read_run


def test_flags_are_written_as_the_command_line_takes_them():
    assert flag_words("lr", 1e-5) == ["--lr", "1e-05"]
    assert flag_words("skip_bad", False) == ["--skip_bad", "false"]
    assert flag_words("sizes", [1, 2]) == ["--sizes", "1", "2"]
    assert flag_words("side", -1) == ["--side=-1"]
    assert flag_words("synthetic", None) == flag_words("tags", []) == []


def test_the_command_makes_the_same_flags_again(tmp_path, monkeypatch):
    argv = ["--system", "stcn", "--dataset_root", "a b", "c", "--epochs", "3", "--short_side", "-1"]
    argv += ["--skip_bad", "--lr_head", "3e-4", "--project_name", "it's"]
    args, parser = main.parse_args(argv)
    record = {"defaults": {name: parser.get_default(name) for name in vars(args)}}
    run = read_run(
        write_run(tmp_path / "1", {}, {}, flags=vars(args) | {"clearml_task": "id"}, record=record)
    )
    again, _ = main.parse_args(shlex.split(shlex.join(train_words(run)))[2:])
    as_lists = [
        {k: list(v) if isinstance(v, tuple) else v for k, v in vars(a).items()} for a in (args, again)
    ]
    assert as_lists[0] == as_lists[1]


def test_a_run_tells_how_it_is_continued_used_and_scored(tmp_path):
    noted = {"best": "inference best", "last": "inference last", "score": "evaluate"}
    run = read_run(write_run(tmp_path / "1", {}, {}, record={"defaults": DEFAULTS, "commands": noted}))
    train = "python main.py --system stcn --epochs 4 --lr_head 0.001"
    expected = [train, f"{train} --resume {tmp_path}/1/last.pth", "inference last", "evaluate"]
    assert list(commands_of(run).values()) == [*expected, f"python -m tools.run_report {tmp_path}/1"]
    (tmp_path / "1" / "best.pth").touch()
    assert "inference best" in commands_of(run).values()


def test_what_a_run_did_not_note_is_left_out(tmp_path):
    titles = commands_of(read_run(write_run(tmp_path / "1", {}, {})))
    assert list(titles) == ["Train it again", "Go on with it", "Make this page again"]
