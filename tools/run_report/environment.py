"""Where a run was made: versions, machine, device, and the commit of the program."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from common.device import pick_device, resolve_amp

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "numpy torchvision scipy pycocotools av clearml tensorboard".split()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def commit_of(root: Path) -> str:
    """The git commit of a folder as text, with "-dirty" where tracked files differ from it."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def environment(device: str, amp: str, num_processes: int = 1) -> dict[str, str]:
    """What a run of `--device` and `--amp` runs on, by names for people."""
    place = pick_device(device)
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else platform.processor()
    return {
        "device": f"{place} ({name})" if name else str(place),
        "mixed precision": resolve_amp(amp, place),
        "processes": str(num_processes),
        "threads": str(torch.get_num_threads()),
        "CPU cores": str(os.cpu_count()),
        "system": platform.platform(),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        **{package: _version(package) for package in PACKAGES},
        "commit": commit_of(ROOT),
    }
