"""Memory for large results: it is as large as was asked for, and zeros are zeros."""

import pytest
import torch

from video.allocate import empty, zeros


def test_memory_has_the_size_and_the_type_that_was_asked_for():
    assert empty(2, 0, 5).shape == (2, 0, 5) and empty(3).dtype == torch.float32
    assert empty(4, device="meta").is_meta


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int64])
def test_zeros_are_zeros_that_can_be_written(dtype):
    made = zeros(3, 4, dtype=dtype)
    assert torch.equal(made, torch.zeros(3, 4, dtype=dtype))
    made[1] = 7
    assert made.sum() == 28
