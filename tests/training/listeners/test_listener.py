"""Every report reaches every listener, in order."""

from typing import Any

from common.config import Parser, add_config_flags
from configs.listeners import TrainingListenersConfig
from training.listeners.clearml_reports import ClearMLReports
from training.listeners.listener import Forwarding, Listener, Listeners, table_of
from training.listeners.opening import open_listeners

REPORTS = [name for name in vars(Listener) if not name.startswith("_")]


class Recorder(Forwarding):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple] = []

    def forward(self, name: str, *report: Any) -> None:
        self.told.append((name, *report))


def test_every_report_reaches_every_listener():
    first, second = Recorder(), Recorder()
    error = ValueError()
    with Listeners([first, second]) as listeners:
        for name in REPORTS[:-1]:
            getattr(listeners, name)("a", 1)
        listeners.close(error)
    expected = [*((name, "a", 1) for name in REPORTS[:-1]), ("close", error), ("close", None)]
    assert first.told == second.told == expected


def test_where_one_listener_cannot_be_closed_the_others_are_and_it_is_told(capsys):
    class Failing(Recorder):
        def forward(self, name: str, *report: Any) -> None:
            raise OSError("the disk\nis full")

    last = Recorder()
    Listeners([Failing(), last]).close()
    assert last.told == [("close", None)]
    assert capsys.readouterr().err == "Failing has not ended its reports (OSError: the disk is full)\n"


def test_clearml_takes_every_report():
    assert set(REPORTS) <= vars(ClearMLReports).keys()
    assert len(REPORTS) == 11


def test_without_flags_nobody_listens():
    parser = Parser()
    add_config_flags(parser, TrainingListenersConfig, "listeners")
    listeners = open_listeners(parser.parse_args([]), parser, continued="abc")
    assert listeners.listeners == [] and listeners.task == "abc"


def test_rows_become_a_table_with_the_columns_of_all():
    rows = [{"video": "a", "J": 1 / 3}, {"video": "b", "F": None}]
    assert table_of(rows) == [["video", "J", "F"], ["a", 0.333, None], ["b", None, None]]
