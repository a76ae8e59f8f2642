"""The benchmark of video object segmentation at tiny sizes: it runs, and its plain read is the sparse one."""

import torch

from benchmarks import vos
from systems.stcn.affinity import memory_terms, query_terms, read_sparse, top_k_affinity
from tests.support.commands import assert_refused, run_here
from tests.support.stcn_networks import NARROW

TINY = """--size 32 48 --objects 1 2 --frames 2 --memory_frames 3 --rounds 1 --long_frames 10
--key_dim 8 --value_dim 16"""


def test_the_plain_read_is_the_sparse_one():
    torch.manual_seed(0)
    keys, query, values = torch.randn(8, 40), torch.randn(8, 6), torch.randn(5, 40)
    sparse = read_sparse(values.T.contiguous(), top_k_affinity(query_terms(query), memory_terms(keys), 7))
    torch.testing.assert_close(vos.dense_read(keys, query, values, 7), sparse.T, atol=1e-5, rtol=0)


def test_a_prompt_of_bands_has_every_object_and_some_background():
    assert vos.bands((32, 48), 10).ids == list(range(1, 11))
    assert not vos.bands((32, 48), 3).labels[0].any()


def test_the_benchmark_prints_three_tables(monkeypatch):
    monkeypatch.setattr(vos, "SPEED_AIM", 0.0)  # of such sizes nothing is to be learned
    monkeypatch.setattr(vos, "GROWTH_AIM", 9.0)
    monkeypatch.setattr(vos, "SLOWING_AIM", 99.0)
    network = [word for name, value in NARROW.items() for word in (f"--{name}", value)]
    outcome = run_here(vos.main, "--system", "stcn", "--short_side", -1, *TINY.split(), *network)
    assert (outcome.status, outcome.err) == (0, [])
    text = "\n".join(outcome.out)
    assert "48x32" in text and "one read of 3 frames in memory" in text and "10 frames" in text
    rows = [line.split() for line in outcome.out if line.split()[:1] in (["1"], ["2"]) and "MiB" not in line]
    assert [row[0] for row in rows] == ["1", "2"]


def test_another_system_and_no_frames_are_refused():
    assert_refused(run_here(vos.main, "--system", "vita_tcovis"), "--system")
    assert_refused(run_here(vos.main, "--frames", 0), "--frames 0")
