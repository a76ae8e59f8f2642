"""Memory for large results: huge pages, where the system has them."""

import numpy as np
import torch
from torch import Tensor


def empty(*size: int, device: torch.device | str = "cpu") -> Tensor:
    """As `torch.empty`, float32.

    On the CPU NumPy takes the memory, because it asks Linux for huge pages and torch does not: the first
    touch of ordinary pages costs more than the computation that fills them.
    """
    if torch.device(device).type == "cpu":
        return torch.from_numpy(np.empty(size, dtype=np.float32))
    return torch.empty(size, device=device)


def zeros(*size: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
    """As `torch.zeros`, with the memory of `empty`."""
    if torch.device(device).type != "cpu":
        return torch.zeros(size, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(size, dtype=torch.empty(0, dtype=dtype).numpy().dtype))
