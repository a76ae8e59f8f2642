"""Two processes with a share of the batch each learn what one process with the whole batch learns."""

import io
from contextlib import redirect_stdout
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from common import distributed
from common.errors import UserError
from common.progress import say
from tests.support.processes import in_two_processes

SHARES = (3, 1)  # rows of each process


def make_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(5, 4)


def make_batch() -> tuple[Tensor, Tensor]:
    """All rows (sum of SHARES, 5) and who each row shows."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(sum(SHARES), 5, generator=generator), torch.tensor([1, 2, 1, 2])


def contrastive(embeddings: Tensor, ids: Tensor) -> Tensor:
    """Every row should be most similar to the other row of its id."""
    similarity = F.normalize(embeddings, dim=1) @ F.normalize(embeddings, dim=1).T
    logits = similarity.masked_fill(torch.eye(len(ids), dtype=torch.bool), -1e4)
    positive = (ids[:, None] == ids) & ~torch.eye(len(ids), dtype=torch.bool)
    return F.cross_entropy(logits, positive.int().argmax(1))


def gradients(network: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


def train_step(rows: Tensor, ids: Tensor) -> Tensor:
    """The gradient of a contrastive loss over gathered rows plus a mean over all rows."""
    network = make_network()
    wrapped = DistributedDataParallel(network) if distributed.world_size() > 1 else network
    embeddings = wrapped(rows)
    gathered = distributed.gather_with_gradient(embeddings)
    count = distributed.all_reduce_mean(torch.tensor(float(len(rows))))
    loss = contrastive(gathered, ids) + embeddings.square().sum() / count
    loss.backward()
    return gradients(network)


def gather_lengths(lengths: tuple[int, int]) -> Tensor:
    rank = distributed.rank()
    x = torch.full((lengths[rank], 2, 1), float(rank + 1), requires_grad=True)
    gathered = distributed.gather_with_gradient(x)
    gathered.sum().backward()
    assert x.grad.eq(2.0).all()  # one from each process's use of the row
    return gathered.detach()


def lines_said() -> str:
    """What a process shows of a line that all of them say."""
    with redirect_stdout(io.StringIO()) as out:
        say("once")
    return out.getvalue()


def work(rank: int) -> dict[str, Any]:
    """What each of the two processes does."""
    rows, ids = make_batch()
    return {
        "rank": distributed.rank(),
        "world_size": distributed.world_size(),
        "is_main": distributed.is_main(),
        "lines": lines_said(),
        "mean": distributed.all_reduce_mean(torch.tensor([1.0, 10.0]) * (rank + 1)),
        "gradient": train_step(rows.split(SHARES)[rank], ids),
        "taken": list(distributed.handed_out(range(7))),
        "told": distributed.gather({"rank": rank}),
        "gathered": {str(lengths): gather_lengths(lengths) for lengths in [(3, 1), (0, 2), (2, 0), (0, 0)]},
    }


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> list[dict[str, Any]]:
    """The results of two processes, by rank."""
    return in_two_processes(work, tmp_path_factory.mktemp("processes"))


def test_every_process_knows_its_place_and_rank_0_is_the_main_one(processes):
    assert [results["rank"] for results in processes] == [0, 1]
    assert [results["world_size"] for results in processes] == [2, 2]
    assert [results["is_main"] for results in processes] == [True, False]
    assert [results["world_size_after"] for results in processes] == [1, 1]


def test_a_line_is_said_by_one_process(processes):
    assert [results["lines"] for results in processes] == ["once\n", ""]


def test_every_item_is_handed_out_once_and_in_order(processes):
    taken = [results["taken"] for results in processes]
    assert sorted(taken[0] + taken[1]) == list(range(7)) and taken == [sorted(items) for items in taken]


def test_every_process_is_told_what_all_hold_by_rank(processes):
    assert [results["told"] for results in processes] == [[{"rank": 0}, {"rank": 1}]] * 2


def test_the_mean_is_taken_over_all_processes(processes):
    assert all(results["mean"].equal(torch.tensor([1.5, 15.0])) for results in processes)


@pytest.mark.parametrize("lengths", [(3, 1), (0, 2), (2, 0), (0, 0)])
def test_rows_are_gathered_in_the_order_of_the_ranks_whatever_their_number(processes, lengths):
    expected = torch.tensor([1.0] * lengths[0] + [2.0] * lengths[1])[:, None, None].expand(-1, 2, 1)
    assert all(results["gathered"][str(lengths)].equal(expected) for results in processes)


def test_the_gradient_of_two_processes_is_that_of_one_with_the_whole_batch(processes):
    expected = train_step(*make_batch())
    assert expected.abs().max() > 0.1
    for results in processes:
        torch.testing.assert_close(results["gradient"], expected)


def test_a_single_process_needs_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    distributed.init()
    x = torch.ones(2, 3, requires_grad=True)
    assert distributed.gather_with_gradient(x) is x
    assert distributed.all_reduce_mean(x) is x
    assert list(distributed.handed_out("ab")) == ["a", "b"] and distributed.gather(3) == [3]
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    distributed.barrier()
    distributed.shutdown()
    assert not torch.distributed.is_initialized()


def test_more_processes_than_gpus_is_told_in_one_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="local rank 2 has no GPU: torchrun --nproc-per-node may be 2 here"):
        distributed.init()
