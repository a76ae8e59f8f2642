"""The golden set that SiamMask and SAM share: where it is, and its modules."""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "golden" / "siammask_sam"
needs_golden = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the official numbers are not at {FOLDER}")


@cache
def golden(module: str) -> Any:
    """A module of the golden set: make_inputs, fill_by_name, gains, golden_io.

    Another golden set has modules of the same names, so that none is imported by its bare name.
    """
    spec = importlib.util.spec_from_file_location(f"siammask_sam_{module}", FOLDER / f"{module}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found
