"""The table of findings: by severity, with counts, paths and what to do."""

from pathlib import Path

from tools.doctor.findings import KINDS, SEVERITIES, Finding, by_kind, table


def test_the_gravest_kinds_come_first_and_all_are_counted():
    tiny = [Finding("tiny_object", "train", video, Path(f"D/{video}.png"), "id 3", 2) for video in "abcd"]
    bad = Finding("bad_file", "valid", "a", Path("D/x.png"), "D/x.png is corrupt: replace it")
    assert list(by_kind([*tiny, bad])) == ["bad_file", "tiny_object"]
    assert [line.split() for line in table([*tiny, bad])] == [
        ["severity", "count", "videos", "finding"],
        ["error", "1", "1", "bad", "frames", "and", "masks"],
        ["D/x.png", "is", "corrupt:", "replace", "it"],
        ["->", *KINDS["bad_file"].remedy.split()],
        ["warning", "8", "4", *KINDS["tiny_object"].title.split()],
        *(["D/" + video + ".png:", "id", "3"] for video in "abc"),
        ["...", "and", "1", "more,", "in", "findings.csv"],
        ["->", *KINDS["tiny_object"].remedy.split()],
    ]


def test_every_kind_has_a_severity():
    assert {kind.severity for kind in KINDS.values()} == set(SEVERITIES)


def test_nothing_found_is_said():
    assert table([]) == ["nothing was found"]
