"""A script that reports to ClearML, and a (fake) server that it finds."""

from collections.abc import Iterator

import pytest

from tests.support.clearml_runs import Runner
from tests.support.clearml_stub import ClearMLStub


@pytest.fixture
def run(tmp_path) -> Runner:
    pytest.importorskip("clearml")
    return Runner(tmp_path)


@pytest.fixture
def stub(run) -> Iterator[ClearMLStub]:
    with ClearMLStub() as stub:
        run.environment |= stub.environment
        yield stub
