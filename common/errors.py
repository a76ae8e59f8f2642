"""Mistakes that a user can make, told in one line with the remedy."""

import importlib
import signal
import sys
from collections.abc import Callable
from types import FrameType, ModuleType


class UserError(ValueError):
    """A mistake of the user's; the message names the path or value and the remedy, in one line."""


class MissingPackage(UserError, ImportError):
    """An optional package is absent; the message says how to install it."""


REMEDIES = {
    "av": "pip install av",
    "pycocotools": "pip install pycocotools",
    "tqdm": "pip install tqdm",
    "clearml": "pip install clearml",
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


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # another one would break off the cleaning up
    raise KeyboardInterrupt


def run_command(main: Callable[[], None]) -> None:
    """Run a command's main function; what the user can mend ends it in one line, status 2.

    Ctrl-C, and the SIGTERM of a scheduler, let it clean up and end it with status 130.
    """
    former = signal.signal(signal.SIGTERM, _interrupt)
    try:
        main()
    except (UserError, OSError) as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, former)
