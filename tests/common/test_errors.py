import signal
import sys

import pytest

from common.errors import REMEDIES, MissingPackage, UserError, available, require, run_command


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


def test_a_programmers_mistake_keeps_its_traceback():
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(main)


def test_a_command_that_ends_well_ends_quietly(capsys):
    assert run_command(lambda: print("done")) is None
    assert capsys.readouterr().out == "done\n"


def test_a_scheduler_that_ends_a_command_is_heeded_once_as_ctrl_c_is():
    cleaned, former = [], signal.getsignal(signal.SIGTERM)

    def main() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned.append(True)

    with pytest.raises(SystemExit) as caught:
        run_command(main)
    assert caught.value.code == 130 and cleaned and signal.getsignal(signal.SIGTERM) is former
