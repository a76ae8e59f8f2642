"""The benchmark of SAM for tracking at a tiny size: it runs, and prints its tables and aims."""

import pytest
import torch

from benchmarks import sam
from tests.support.commands import assert_refused, run_here
from tests.support.sam_networks import SIZES, small_network

TINY = [str(x) for name, value in SIZES.items() for x in (f"--{name}", value)]


def test_the_benchmark_prints_three_tables(monkeypatch):
    for name, limit in (("MEMORY_AIM", 1e9), ("SPEED_AIM", 1e9), ("OBJECTS_AIM", 1e9), ("CACHE_AIM", 0.0)):
        monkeypatch.setattr(sam, name, limit)  # of such sizes nothing is to be learned
    outcome = run_here(sam.main, "--size", 24, 40, "--pairs", 2, *TINY)
    assert (outcome.status, outcome.err) == (0, [])
    text = "\n".join(outcome.out)
    assert "image encoder, 32 pixels" in text and "a frame of 40x24" in text and "on disk" in text
    assert "of that in float64: lengthened queries and keys " in text
    (error,) = (line for line in outcome.out if line.startswith("largest error of an attention"))
    assert float(error.split("1e-6")[1].split()[0]) < 1


def test_an_attention_that_is_wrong_misses_its_aim(monkeypatch):
    encoder = small_network().image_encoder
    images = torch.randn(1, 3, 32, 32)
    assert (
        len(sam.attention_errors(encoder, images)) == 2 and max(sam.attention_errors(encoder, images)) < 1e-6
    )
    monkeypatch.setattr(sam, "plain_attention", lambda q, k, v, *_: v + q)
    assert min(sam.attention_errors(encoder, images)) > 1e-2


@pytest.mark.parametrize("mistake", ["--frames 0", "--pairs 0", "--parts none", "--image_size 30"])
def test_mistakes_are_refused(mistake):
    assert_refused(run_here(sam.main, *TINY, *mistake.split()), mistake.split()[0])
