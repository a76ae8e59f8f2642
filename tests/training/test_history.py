import csv

import pytest
import torch

from training.history import History, Means, num_without_improvement, read_rows, write_rows


def read(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_later_row_may_bring_new_columns(tmp_path):
    path = tmp_path / "results.csv"
    rows = [{"epoch": 1, "loss/total": 1 / 3}]
    write_rows(path, rows)
    assert read(path) == [{"epoch": "1", "loss/total": "0.333333"}]
    write_rows(path, [*rows, {"epoch": 2, "loss/total": 2e-7, "val/J&F": 50.0}])
    assert read(path) == [
        {"epoch": "1", "loss/total": "0.333333", "val/J&F": ""},
        {"epoch": "2", "loss/total": "2e-07", "val/J&F": "50"},
    ]


def test_rows_are_read_back_as_far_as_an_epoch(tmp_path):
    rows = [{"epoch": e, "loss": 1 / e, **({"val": 0.1 * e} if e % 2 else {})} for e in range(1, 5)]
    write_rows(tmp_path / "written.csv", rows)
    read_back = read_rows(tmp_path / "written.csv", epoch=3)
    assert [row["epoch"] for row in read_back] == [1, 2, 3]
    for name, some in (("written.csv", rows[:3]), ("again.csv", read_back)):
        write_rows(tmp_path / name, some)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "written.csv").read_bytes()


@pytest.mark.parametrize(
    "spoilt", [b"2,high", b"2,0.5,7", b",0.5", b"two,0.5", b"\xff\xfe,\x00", b'"two', b""]
)
def test_rows_that_cannot_be_read_are_left_out(tmp_path, spoilt):
    path = tmp_path / "results.csv"
    assert read_rows(path, epoch=3) == []
    path.write_bytes(b"epoch,loss\n1,0.5\n" + spoilt + b"\n")
    assert read_rows(path, epoch=3) == [{"epoch": 1, "loss": 0.5}]
    path.write_bytes(spoilt)
    assert read_rows(path, epoch=3) == []


def test_means_go_on_where_they_were_saved():
    whole, resumed, rest = Means(), Means(), Means()
    values = [{"loss": torch.rand(())} for _ in range(5)]
    for value in values:
        whole.add(value)
    for value in values[:3]:
        resumed.add(value)
    rest.load_state_dict(resumed.state_dict())
    for value in values[3:]:
        rest.add(value)
    assert rest.result() == whole.result()


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


def test_an_interval_holds_the_steps_since_the_last_and_the_epoch_all_of_them():
    history, intervals = History(), []
    for loss in (1.0, 3.0, 8.0):
        history.add({"loss/total": torch.tensor(loss), "gradient_norm": torch.tensor(2.0)})
        if loss > 1:
            intervals.append(history.end_interval())
    assert intervals == [{"loss/total": value, "optimiser/gradient_norm": 2.0} for value in (2.0, 8.0)]
    assert history.means.result()["loss/total"] == 4.0


def test_evaluations_after_the_best_are_counted_and_epochs_without_any_are_not():
    rows = [
        {"epoch": 1, "val/J&F": 1.0},
        {"epoch": 2, "val/J&F": 5.0},
        {"epoch": 3},
        {"epoch": 4, "val/J&F": 4.0},
    ]
    assert num_without_improvement(rows, {"J&F": 5.0, "epoch": 2}) == 1
    assert num_without_improvement(rows, None) == 0
