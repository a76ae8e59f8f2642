import csv

import pytest
import torch

from training.history import History, Means


def read(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_each_row_is_on_disk_at_once_and_columns_may_join_later(tmp_path):
    history = History(tmp_path / "results.csv")
    history.add({"epoch": 1, "loss/total": 1 / 3})
    assert read(history.path) == [{"epoch": "1", "loss/total": "0.333333"}]
    history.add({"epoch": 2, "loss/total": 2e-7, "val/J&F": 50.0})
    assert read(history.path) == [
        {"epoch": "1", "loss/total": "0.333333", "val/J&F": ""},
        {"epoch": "2", "loss/total": "2e-07", "val/J&F": "50"},
    ]


def test_a_resumed_run_writes_the_file_of_an_unbroken_one(tmp_path):
    rows = [{"epoch": e, "loss": 1 / e, **({"val": 0.1 * e} if e % 2 else {})} for e in range(1, 5)]
    unbroken, broken = (History(tmp_path / name) for name in ("unbroken.csv", "broken.csv"))
    for row in rows:
        unbroken.add(row)
    for row in rows[:3]:
        broken.add(row)
    resumed = History(broken.path)
    resumed.resume(epoch=2)  # the checkpoint is older than the last row
    assert [row["epoch"] for row in resumed.rows] == [1, 2]
    for row in rows[2:]:
        resumed.add(row)
    assert broken.path.read_text() == unbroken.path.read_text()


def test_a_run_without_a_file_begins_with_no_rows(tmp_path):
    history = History(tmp_path / "results.csv")
    history.resume(epoch=3)
    assert history.rows == [] and not history.path.exists()


def test_means_are_over_calls_and_pairs_of_sum_and_count_become_one_mean():
    means = Means()
    for loss, total, count in ((1.0, 3.0, 4), (2.0, 0.0, 0), (6.0, 3.0, 2)):
        means.add(
            {"loss": torch.tensor(loss), "cos_sum": torch.tensor(total), "cos_count": torch.tensor(count)}
        )
    assert means.result() == pytest.approx({"loss": 3, "cos": 1})


def test_a_mean_of_nothing_is_left_out():
    means = Means()
    assert means.result() == {}
    means.add({"cos_sum": torch.tensor(0.0), "cos_count": torch.tensor(0)})
    assert means.result() == {}


def test_means_keep_no_graph_and_do_not_lose_small_numbers():
    means = Means()
    means.add({"loss": torch.tensor(1e8, requires_grad=True)})
    means.add({"loss": torch.tensor(1.0, requires_grad=True)})
    assert not means.sums["loss"].requires_grad
    assert means.result()["loss"] == (1e8 + 1) / 2
