"""Mistakes that a user can make: each is reported in one line, with the remedy."""

import importlib
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from types import FrameType, ModuleType
from typing import Any, NoReturn, TextIO

# By which terminals, schedulers and users end a program, those of them that the platform has.
_NAMES = "SIGTERM SIGHUP SIGQUIT SIGUSR1 SIGUSR2 SIGXCPU SIGBREAK".split()
ENDING_SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but for tabs and ends of lines


class UserError(ValueError):
    """A mistake of the user's; the message names the path or value and the remedy, in one line."""


class MissingPackage(UserError, ImportError):
    """An optional package is absent; the message says how to install it."""


REMEDIES = {
    "av": "pip install av",
    "pycocotools": "pip install pycocotools",
    "tqdm": "pip install tqdm",
    "clearml": "pip install clearml",
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "pip install onnx onnxscript onnxruntime"),
    "optuna": "pip install optuna",
    "tensorboard": "pip install tensorboard",
    **{name: f"pip install {name}" for name in ("matplotlib", "scipy", "torchvision")},
    "cv2": "apt-get install libgl1 libglib2.0-0, or "
    "pip uninstall opencv-python && pip install opencv-python-headless",
}


def require(module: str, purpose: str) -> ModuleType:
    """Import an optional module, or raise MissingPackage that names the purpose and the remedy."""
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackage(f"{purpose} needs {package} ({error}): {REMEDIES[package]}") from error


def available(module: str) -> bool:
    """Whether an optional module can be imported."""
    try:
        require(module, module)
    except MissingPackage:
        return False
    return True


def write_line(text: str, stream: TextIO | None) -> None:
    """Write a line at once; what the stream cannot show, and control characters, are escaped.

    Raises OSError where the stream is closed (None, as Python has it then), or what it leads to is full.
    """
    if stream is None:
        raise OSError("it is closed")
    encoding = stream.encoding or "utf-8"
    text = CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def handle_signals(numbers: list[int], handler: Callable | int) -> dict[int, Any]:
    """Let a handler answer signals, but for those that are ignored, as SIGHUP is under nohup.

    Returns {number: the former handler}.
    """
    former = {number: signal.getsignal(number) for number in numbers}
    former = {number: one for number, one in former.items() if one not in (signal.SIG_IGN, None)}
    for number in former:
        signal.signal(number, handler)
    return former


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the machine or of a GPU, is not enough; torch has no class for the first."""
    if isinstance(error, RuntimeError):
        return "can't allocate memory" in str(error) or "out of memory" in str(error)
    return isinstance(error, MemoryError)


def _end(message: str) -> NoReturn:
    """End the program with one line and status 2."""
    with suppress(OSError):  # the status says it, too
        write_line("error: " + " ".join(message.split()), sys.stderr)
    sys.exit(2)


def _keep_descriptors() -> None:
    """Let no file get the number of a closed standard stream, to which libraries write their messages."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(descriptor)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Another one would break off the cleaning up. Python complains of SIG_IGN where one has come already.
    handle_signals(ENDING_SIGNALS, lambda *_: None)
    raise KeyboardInterrupt


def run_command(main: Callable[[], None]) -> None:
    """Run a command's main function; what the user can mend ends it in one line, status 2.

    Ctrl-C, and the signals of schedulers and closed terminals, let it clean up and end it with status 130.
    """
    _keep_descriptors()
    former = handle_signals([signal.SIGINT], signal.default_int_handler)
    former |= handle_signals(ENDING_SIGNALS, _interrupt)
    try:
        main()
    except (UserError, OSError) as error:
        _end(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in REMEDIES:
            raise
        _end(f"{package} is not installed: {REMEDIES[package]}")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        amount = re.search(r"tried to allocate [\d.]+ \w+", str(error), re.IGNORECASE)
        reason = f"{amount[0]} at once" if amount else "it is used up"
        _end(f"memory is not enough ({reason}): ask for smaller sizes, or a smaller batch")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


TURN = 10.0  # seconds in which the first process of a machine reports what all of them refuse


def _check_quietly(check: Callable[[], None]) -> None:
    """Run a check that another process runs, too; what it refuses is reported after that one's turn."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            run_command(check)
    except SystemExit as end:
        if end.code:
            time.sleep(TURN)
            sys.stderr.write(err.getvalue())
        raise


def run_check(check: Callable[[], None]) -> None:
    """Run what a command checks before it loads torch, as `run_command` does.

    Every process of torchrun checks the same: the first of a machine reports a mistake. The others wait
    meanwhile, because torchrun ends all processes when one has ended; then they report what only they refuse.
    Until `run_command` begins, Ctrl-C and the signals that end a command end it at once, with status 130:
    nothing has been written, and a traceback from the middle of an import would help nobody.
    """
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        run_command(check)
    else:
        _check_quietly(check)
    handle_signals([signal.SIGINT, *ENDING_SIGNALS], lambda *_: os._exit(130))
