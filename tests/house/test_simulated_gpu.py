"""The simulated GPU itself: what it refuses, what it counts, and that it computes what a CPU does."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.simulated_gpu import SimulatedGPU, simulated_gpu


@pytest.fixture
def gpu() -> Iterator[SimulatedGPU]:
    with simulated_gpu() as gpu:
        yield gpu


def names_on(gpu: SimulatedGPU) -> dict[str, Any]:
    """What expressions speak of: `x` on the GPU and `host` on the CPU. Nothing is counted yet."""
    names = {"torch": torch, "x": torch.eye(2, device="cuda"), "host": torch.ones(2, 2)}
    gpu.reset()
    return names


# Each with whether the program waits, and how many tensors are copied from one memory to the other.
EVENTS = {
    "x.sum().item()": (True, 0),
    "bool(x.any())": (True, 0),
    "float(x[0, 0])": (True, 0),
    "x.tolist()": (True, 1),
    "x.cpu()": (True, 1),
    "x.to('cpu', non_blocking=True)": (True, 1),
    "x.nonzero()": (True, 0),
    "x.unique()": (True, 0),
    "x[x > 0]": (True, 0),
    "x[[0, 1]]": (True, 1),
    "x.new_tensor([1, 2])": (True, 1),
    "torch.tensor([1, 2], device='cuda')": (True, 1),
    "host.to('cuda')": (True, 1),
    "x.copy_(host)": (True, 1),
    "x.__setitem__(x > 0, x[0, 0])": (True, 0),
    "host.to('cuda', non_blocking=True)": (False, 1),
    "x.__setitem__(x > 0, 1.0)": (False, 0),
    "x[x.argmax(0), 0]": (False, 0),
    "x.where(x > 0, 1.0) * torch.tensor(2.0)": (False, 0),
    "torch.zeros(2, device='cuda') + x.new_zeros(2)": (False, 0),
    "torch.rand(2, device='cuda').to('cuda')": (False, 0),
}


@pytest.mark.parametrize("expression", EVENTS)
def test_what_waits_for_the_gpu_is_counted(gpu, expression):
    names = names_on(gpu)
    eval(expression, names)
    assert (bool(gpu.synchronisations), len(gpu.copies)) == EVENTS[expression]


REFUSED = [
    "x + host",
    "host.add_(x)",
    "host[0, 0].mul_(x[0, 0])",
    "x @ host",
    "torch.cat([x, host])",
    "torch.cat([x[0], torch.tensor([1.0])])",
    "x.where(host > 0, 0.0)",
    "x.masked_fill(host > 0, 0.0)",
    "host[x > 0]",
    "x.__setitem__(x > 0, host[0])",
    "torch.stack([x.sum(), torch.tensor(1.0)])",
    "torch.nn.functional.linear(x, host)",
]


@pytest.mark.parametrize("expression", REFUSED)
def test_tensors_of_two_devices_are_refused(gpu, expression):
    names = names_on(gpu)
    with pytest.raises(RuntimeError, match="device"):
        eval(expression, names)


def test_numpy_does_not_reach_the_gpu(gpu):
    with pytest.raises(TypeError, match="cuda:0"):
        torch.zeros(2, device="cuda").numpy()


def test_an_event_names_the_line_of_the_project(gpu):
    torch.zeros((), device="cuda").item()
    assert gpu.synchronisations[0].line.startswith("tests/house/test_simulated_gpu.py:")


def train(device: str) -> list[float]:
    """The losses of three steps of a small network."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 1, 1))
    network.to(device)
    optimizer = torch.optim.AdamW(network.parameters(), 0.1, fused=True)
    losses = []
    for _ in range(3):
        optimizer.zero_grad(set_to_none=True)
        loss = network(torch.randn(2, 3, 8, 8, device=device)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_network_learns_there_what_it_learns_on_the_cpu(gpu):
    assert train("cuda") == train("cpu")


def test_afterwards_all_is_as_before():
    before = torch.cuda.is_available()
    with simulated_gpu():
        assert torch.cuda.is_available()
    assert torch.cuda.is_available() is before
    with torch.inference_mode():
        assert torch.is_inference_mode_enabled()


def test_threads_are_in_the_simulation_too(gpu):
    x = torch.ones(2, device="cuda")
    with ThreadPoolExecutor() as pool:
        sums = pool.submit(lambda: x + torch.ones(2).to("cuda")).result()
    assert sums.is_cuda and len(gpu.copies) == 1
