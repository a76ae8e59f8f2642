"""The table of protocols; the same numbers in any order, bit for bit."""

import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scoring.protocols.table import PROTOCOLS
from tests.support.label_folders import MOVING, blobs, write, youtube_roots


def test_the_table_has_the_protocols_of_the_field_and_our_own():
    assert set(PROTOCOLS) >= {"tcovis", "davis", "davis_unsupervised", "sav", "youtube_vos", "ytvis", "mots"}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_docstring_explains_every_option(name):
    options = set(PROTOCOLS[name].score.__kwdefaults__) - {"num_workers"}
    text = PROTOCOLS[name].score.__doc__
    assert [option for option in options if not re.search(rf"^ *(\w+, )*{option}\b.*:", text, re.M)] == []


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "tcovis": ("tcovis", {}),
    "davis": ("davis", {}),
    "davis_unsupervised": ("davis_unsupervised", {}),
    "trackeval": ("davis_unsupervised", {"definition": "trackeval"}),
    "sav": ("sav", {}),
    "youtube_vos": ("youtube_vos", {}),
    "mots": ("mots", {}),
    "mots_tools": ("mots", {"definition": "mots_tools"}),
}


NAMES = ["owl", "ape", "fox", "dog", "eel"]


def save_videos(root: Path, names: list[str]) -> tuple[Path, Path]:
    """Five videos by these names, and "cat"; the results are off by some pixels, and wrong in one frame."""
    folders = youtube_roots(root, MOVING, MOVING, {1: "ape", 2: "zebra"})
    objects = {str(i): {"category": "ape" if i % 2 else "zebra"} for i in (1, 2, 3)}
    meta = {"videos": {name: {"objects": objects} for name in [*names, "cat"]}}
    (folders[1] / "meta.json").write_text(json.dumps(meta))
    for seed, name in enumerate(names):
        truth = blobs(seed, frames=5)
        truth[0][:4, ::10] = [1, 2, 3]  # DAVIS needs the highest id in the first frame
        results = [np.roll(labels, 1 + t % 2, axis=1) for t, labels in enumerate(truth)]
        results[2] = blobs(seed + 9)[0]
        for folder, maps in zip(folders, (results, truth), strict=True):
            write(folder / "Annotations" / name, maps)
    return folders


class Shuffled:
    """The entries of a folder in another order than the disk's."""

    def __init__(self, entries: Iterator[os.DirEntry]):
        with entries:
            self.entries = list(entries)
        random.Random(len(self.entries)).shuffle(self.entries)

    def __iter__(self) -> Iterator[os.DirEntry]:
        return iter(self.entries)

    def __enter__(self) -> Iterator[os.DirEntry]:
        return iter(self.entries)

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("case", CASES)
def test_the_number_of_processes_and_the_order_of_a_folder_change_no_bit(tmp_path, case, monkeypatch):
    name, options = CASES[case]
    folders = save_videos(tmp_path, NAMES)
    reports = [json.dumps(PROTOCOLS[name].score(*folders, **options, num_workers=n)) for n in (0, 1, 2)]
    scandir, listdir = os.scandir, os.listdir
    monkeypatch.setattr(os, "scandir", lambda path=".": Shuffled(scandir(path)))
    monkeypatch.setattr(os, "listdir", lambda path=".": listdir(path)[::-1])
    reports.append(json.dumps(PROTOCOLS[name].score(*folders, **options)))
    assert len(set(reports)) == 1


@pytest.mark.parametrize("case", [case for case in CASES if case != "tcovis"])
def test_the_names_of_the_videos_change_no_bit_of_the_overall_scores(tmp_path, case):
    name, options = CASES[case]
    folders = [save_videos(tmp_path / str(turn), NAMES[turn:] + NAMES[:turn]) for turn in (0, 2)]
    first, second = (PROTOCOLS[name].score(*pair, **options) for pair in folders)
    assert first["overall"] == second["overall"]
    assert first["videos"]["owl"] == second["videos"]["fox"]


def test_a_shuffled_list_of_the_set_changes_no_bit(tmp_path):
    results, root = save_videos(tmp_path, NAMES)
    (root / "ImageSets" / "2017").mkdir(parents=True)
    overall = []
    for names in (NAMES, NAMES[::-1]):
        (root / "ImageSets" / "2017" / "val.txt").write_text("\n".join(names))
        report = PROTOCOLS["davis"].score(results, root)
        assert list(report["videos"]) == names
        overall.append(report["overall"])
    assert overall[0] == overall[1]
