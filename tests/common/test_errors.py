import io
import signal
import sys

import pytest
import torch

from common import errors
from common.errors import (
    ENDING_SIGNALS,
    REMEDIES,
    MissingPackage,
    UserError,
    available,
    require,
    run_check,
    run_command,
    write_line,
)
from tests.support.commands import run_apart


def hide(monkeypatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # importing it now raises ImportError


def test_what_is_installed_is_returned():
    assert require("json.decoder", "reading").JSONDecoder and available("json")


@pytest.mark.parametrize("package", sorted(REMEDIES))
def test_an_absent_package_is_one_line_with_purpose_and_remedy(monkeypatch, package):
    hide(monkeypatch, package)
    with pytest.raises(MissingPackage) as caught:
        require(package, "writing video files")
    message = str(caught.value)
    assert message.startswith(f"writing video files needs {package} (") and "\n" not in message
    assert message.endswith(REMEDIES[package])
    assert isinstance(caught.value, UserError) and isinstance(caught.value, ImportError)
    assert not available(package)


def test_a_module_of_an_absent_package_names_the_package(monkeypatch):
    hide(monkeypatch, "pycocotools.mask")
    with pytest.raises(MissingPackage, match=r"AP needs pycocotools .*: pip install pycocotools"):
        require("pycocotools.mask", "AP")


def test_an_absent_package_ends_a_command_with_one_line_and_a_module_of_ours_does_not(monkeypatch, capsys):
    def main() -> None:
        import scipy.optimize  # noqa: F401

    def mistaken() -> None:
        import commmon  # noqa: F401

    hide(monkeypatch, "scipy")
    hide(monkeypatch, "scipy.optimize")
    with pytest.raises(SystemExit) as caught:
        run_command(main)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: scipy is not installed: pip install scipy\n"
    with pytest.raises(ModuleNotFoundError, match="commmon"):
        run_command(mistaken)


@pytest.mark.parametrize(
    "error, line",
    [
        (UserError("no dataset:\n  give one"), "error: no dataset: give one\n"),
        (FileNotFoundError(2, "No such file or directory", "x.png"), "No such file or directory: 'x.png'\n"),
    ],
)
def test_a_users_mistake_ends_a_command_with_one_line_and_status_2(capsys, error, line):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        run_command(main)
    written = capsys.readouterr()
    assert caught.value.code == 2 and written.out == ""
    assert written.err.endswith(line) and written.err.count("\n") == 1


def allocate() -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


def list_all() -> None:
    [None] * (1 << 60)


@pytest.mark.parametrize(
    "main, part", [(allocate, f"tried to allocate {1 << 60} bytes"), (list_all, "used up")]
)
def test_memory_that_is_not_enough_ends_a_command_with_one_line_and_status_2(capsys, main, part):
    with pytest.raises(SystemExit) as caught:
        run_command(main)
    told = capsys.readouterr().err
    assert caught.value.code == 2 and told.startswith("error: memory is not enough (") and part in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("error", [ZeroDivisionError("why"), RuntimeError("shapes differ")])
def test_a_programmers_mistake_keeps_its_traceback(error):
    def main() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        run_command(main)


def test_a_command_that_ends_well_ends_quietly(capsys):
    assert run_command(lambda: print("done")) is None
    assert capsys.readouterr().out == "done\n"


@pytest.mark.parametrize("number", ENDING_SIGNALS)
def test_a_signal_that_ends_a_command_is_heeded_once_as_ctrl_c_is(number):
    cleaned, former = [], [signal.getsignal(one) for one in ENDING_SIGNALS]

    def main() -> None:
        try:
            signal.raise_signal(number)
        finally:
            for other in ENDING_SIGNALS:
                signal.raise_signal(other)
            cleaned.append(True)

    with pytest.raises(SystemExit) as caught:
        run_command(main)
    assert caught.value.code == 130 and cleaned
    assert [signal.getsignal(one) for one in ENDING_SIGNALS] == former


def test_schedulers_and_terminals_end_by_these_signals():
    assert {"SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1"} <= {number.name for number in ENDING_SIGNALS}


def test_a_signal_that_is_ignored_stays_so_as_under_nohup():
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_command(lambda: signal.raise_signal(signal.SIGHUP)) is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)


def test_what_a_stream_cannot_show_is_escaped():
    ascii_only = io.TextIOWrapper(io.BytesIO(), "ascii")
    write_line("кот\x1b[2J\udc80\tend", ascii_only)
    assert ascii_only.buffer.getvalue() == rb"\u043a\u043e\u0442\x1b[2J\udc80" + b"\tend\n"


def test_no_file_gets_the_number_of_a_closed_stream():
    code = "import os; from common.errors import run_command; "
    code += "run_command(lambda: os._exit(os.open(os.devnull, os.O_RDONLY)))"
    assert run_apart("-c", code, through=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]).status == 3


def refuse() -> None:
    print("a line of help")
    raise UserError("it is refused")


@pytest.mark.parametrize("rank, waited", [("0", []), ("1", [errors.TURN])])
def test_what_all_processes_refuse_the_first_tells_at_once(monkeypatch, capsys, rank, waited):
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        assert capsys.readouterr() == ("", "")  # torchrun ends it now

    monkeypatch.setattr(errors.time, "sleep", wait)
    monkeypatch.setenv("LOCAL_RANK", rank)
    with pytest.raises(SystemExit) as caught:
        run_check(refuse)
    assert caught.value.code == 2 and waits == waited
    assert capsys.readouterr().err == "error: it is refused\n"  # after all, where torchrun does not end it


WHILE_TORCH_IS_LOADED = """
import os, signal
from common.errors import run_check, run_command
run_check(lambda: None)
os.kill(os.getpid(), {number})
"""
WHEN_IT_IS_LOADED = """
def main():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        print("it cleans up")
run_command(main)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_torch_is_loaded_ends_the_command_without_a_traceback(number):
    outcome = run_apart("-c", WHILE_TORCH_IS_LOADED.format(number=int(number)))
    assert outcome == (130, [], [])


def test_ctrl_c_when_torch_is_loaded_lets_the_command_clean_up():
    code = WHILE_TORCH_IS_LOADED.format(number=0) + WHEN_IT_IS_LOADED
    assert run_apart("-c", code) == (130, ["it cleans up"], [])


@pytest.mark.parametrize(
    "argv, lines",
    [
        (["main.py", "--epochs", "x"], ["error: argument --epochs: invalid int value: 'x'"]),
        (["inference.py", "--help"], []),
    ],
)
def test_torchrun_shows_help_and_refusals_once(argv, lines):
    outcome = run_apart("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 3, *argv)
    told = [line for line in outcome.err if line.startswith("error: ")]
    assert len(told) == len(lines) and all(map(str.startswith, told, lines)), outcome.err
    assert sum(line.startswith("usage: ") for line in outcome.out) == (not lines)
