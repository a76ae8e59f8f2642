"""Runs an official script: `python -m benchmarks.peers.script CHECKOUT SCRIPT ARGV...`, with what it was
written for; nothing heavy is imported, because its time and memory are measured.
"""

import builtins
import os
import runpy
import sys

import numpy as np


def enter(checkout: str) -> None:
    """From here on modules are those of the checkout, with the names that NumPy had before 1.24."""
    for name in ("bool", "int", "float", "object"):
        if not hasattr(np, name):
            setattr(np, name, getattr(builtins, name))
    os.chdir(checkout)
    sys.path[0] = checkout


def main() -> None:
    checkout, *sys.argv = sys.argv[1:]
    enter(checkout)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
