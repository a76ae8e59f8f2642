"""The benchmark of XMem's forms at tiny sizes: it runs, and the plain forms say the same."""

import torch

from benchmarks import vos, xmem_forms
from tests.support.commands import run_here
from tests.support.stcn_networks import NARROW
from tests.support.vos_videos import BLUE, RED, make_video, play, prompt_of
from tests.support.xmem_networks import small_network, small_tracker

TINY = """--size 32 48 --objects 1 2 --frames 2 --memory_frames 3 --rounds 1 --long_frames 10 --short_side -1
--key_dim 8 --value_dim 16 --decoder_dim 16 --hidden_dim 8"""


def test_a_tracker_of_plain_forms_says_the_same():
    network, frames, prompts = (
        small_network(),
        make_video(12),
        {0: prompt_of({5: RED}), 4: prompt_of({2: BLUE})},
    )
    options = {"mem_every": 1, "min_mid_term_frames": 2, "max_mid_term_frames": 4, "num_prototypes": 6}
    ours = play(small_tracker(network, **options), frames, prompts)
    with xmem_forms.plain_forms():
        tracker = small_tracker(network, **options)
        plain = play(tracker, frames, prompts)
    assert type(tracker.groups[1].bank) is xmem_forms.PlainBank
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one.masks, other.masks, atol=1e-4, rtol=0)


def test_the_benchmark_prints_its_tables(monkeypatch):
    monkeypatch.setattr(xmem_forms, "READ_AIM", 0.0)  # of such sizes nothing is to be learned
    monkeypatch.setattr(xmem_forms, "FRAME_AIM", 99.0)
    monkeypatch.setattr(vos, "GROWTH_AIM", 9.0)
    monkeypatch.setattr(vos, "SLOWING_AIM", 99.0)
    network = [word for name, value in NARROW.items() for word in (f"--{name}", value)]
    outcome = run_here(vos.main, "--system", "xmem", *TINY.split(), *network)
    assert (outcome.status, outcome.err) == (0, [])
    text = "\n".join(outcome.out)
    for row in ("similarity", "full read", "fusion convolution", "whole frame"):
        assert f"{row}, ours" in text and f"{row}, plain" in text
    assert "10 frames" in text
