"""Commands of README.md and of docs/: each has flags that its program takes; blocks marked `bash run` run."""

import argparse
import importlib
import json
import re
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.support.commands import ROOT, run_here

PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md"))]
OF_CHECKPOINTS = {"xmem": "xmem", "stcn": "stcn", "siammask": "siammask", "sam_vit": "sam_track"}


def commands(page: str, mark: str = "[^\n]*") -> list[list[str]]:
    """The words of each command in the `bash` blocks of a page, or in those with a mark."""
    blocks = re.findall(rf"^ *```bash{mark}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r"&&|\||>", line)]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


def program(words: list[str]) -> tuple[str, list[str]]:
    """The module of this project that a command runs, "" where it runs none, and its arguments."""
    for place, word in enumerate(words):
        if word.endswith(".py"):
            return word.removesuffix(".py"), words[place + 1 :]
        if word == "-m" and words[place - 1] == "python" and words[place + 1] != "pytest":
            return words[place + 1], words[place + 2 :]
    return "", []


def is_written_before(argument: str) -> bool:
    """Whether it names a preset that an earlier command of the page writes."""
    return argument.startswith("@") and not Path(argument[1:]).exists()


def main_of(module: str) -> Callable[[], None]:
    package = (ROOT / module.replace(".", "/")).is_dir()
    main: Callable[[], None] = importlib.import_module(f"{module}.__main__" if package else module).main
    return main


@cache
def parser_of(module: str, *choice: str) -> argparse.ArgumentParser:
    """The parser whose help a program shows, once `choice` has said of which system or protocol."""
    shown: list[argparse.ArgumentParser] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "print_help", lambda parser, file=None: shown.append(parser))
        run_here(main_of(module), *choice, "--help")
    return shown[-1]


def choice_of(module: str, arguments: list[str]) -> list[str]:
    """The flag, or the preset, that decides which other flags there are."""
    for flag in ("--system", "--protocol"):
        if flag in arguments:
            return arguments[arguments.index(flag) :][:2]
    if module == "inference" and "--checkpoint" in arguments:
        checkpoint = Path(arguments[arguments.index("--checkpoint") + 1]).name.lower()
        return [
            f"--system={system}" for start, system in OF_CHECKPOINTS.items() if checkpoint.startswith(start)
        ]
    return [word for word in arguments if module == "main" and word.startswith("@")]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_has_flags_and_values_that_its_program_takes(page, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    refused = []
    for words in commands(page):
        module, arguments = program(words)
        if module and not any(is_written_before(word) for word in arguments):
            try:
                parser_of(module, *choice_of(module, arguments)).parse_args(arguments)
            except SystemExit:
                refused.append((shlex.join(words), capsys.readouterr().err))
    assert not refused


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page, " run")])
def test_every_command_of_a_block_marked_run_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in commands(page, " run"):
        module, arguments = program(words)
        outcome = run_here(main_of(module), *arguments)
        assert outcome.status == 0, (words, outcome.err)


def test_true_masks_scored_against_themselves_have_100(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in commands("docs/score.md", " run")[:2]:
        module, arguments = program(words)
        run_here(main_of(module), *arguments)
    overall = json.loads(Path("scores.json").read_text())["overall"]
    assert overall["J&F"] == overall["HOTA"] == overall["J_tube"] == 100
