"""The benchmark of small networks at a tiny size: it runs, cuts each at stride 32, and refuses its limits."""

import pytest
import torch

from benchmarks import backbones
from tests.support.commands import assert_refused, run_here


@pytest.mark.parametrize("name", backbones.NETWORKS)
def test_every_network_ends_at_stride_32(name):
    with torch.no_grad():
        features = backbones.features_of(name).eval()(torch.zeros(1, 3, 64, 96))
    assert features.shape[2:] == (2, 3) and features.shape[1] < 500  # nothing of the classifier


def test_the_benchmark_prints_a_row_of_each_network():
    outcome = run_here(backbones.main, "--size", 32, 64, "--rounds", 1)
    assert (outcome.status, outcome.err) == (0, [])
    rows = {name: [float(x) for x in row] for name, *row in map(str.split, outcome.out[-5:])}
    assert list(rows) == list(backbones.NETWORKS) and all(min(row) > 0 for row in rows.values())
    assert rows["mobilenet_v2"][0] == 1.81 and rows["mobilenet_v2"][3] == 71.9
    assert_refused(run_here(backbones.main, "--rounds", 0), "--rounds")
