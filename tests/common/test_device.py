"""What `--amp auto` stands for, casts without gradient, and memory for large tensors."""

import pytest
import torch

from common.device import empty, in_float32, resolve_amp, zeros


def test_memory_has_the_size_and_the_type_that_was_asked_for():
    assert empty(2, 0, 5).shape == (2, 0, 5) and empty(3).dtype == torch.float32
    assert empty(4, device="meta").is_meta


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int64])
def test_zeros_are_zeros_that_can_be_written(dtype):
    made = zeros(3, 4, dtype=dtype)
    assert torch.equal(made, torch.zeros(3, 4, dtype=dtype))
    made[1] = 7
    assert made.sum() == 28


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_is_bf16_where_a_gpu_has_it_natively_and_fp16_elsewhere(monkeypatch, capability, expected):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    assert resolve_amp("auto", torch.device("cuda", 0)) == expected
    assert resolve_amp("off", torch.device("cuda", 0)) == "off"


def test_auto_is_off_on_a_cpu_where_what_is_asked_for_holds():
    assert resolve_amp("auto", torch.device("cpu")) == "off"
    assert resolve_amp("bf16", torch.device("cpu")) == "bf16"


def test_a_product_in_float32_is_exact_whatever_autocast_says():
    ones = torch.ones(1, 70_001)
    with torch.autocast("cpu", torch.bfloat16):
        assert (ones @ ones.T).item() != 70_001
        with in_float32(ones.device):
            assert (ones @ ones.T).item() == 70_001
