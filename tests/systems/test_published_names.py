"""The name of a published checkpoint stands for its path: it is fetched once; a file of that name wins."""

import io
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch

import inference
from common import distributed, files
from common.errors import UserError
from common.files import Download
from inference import SYSTEMS, load_network
from systems.stcn.modules import STCN
from systems.stcn.published import DOWNLOADS
from systems.stcn.start import start
from systems.stcn.tracker import STCNTracker
from tests.support.commands import ROOT, assert_refused, run_here
from tests.support.file_server import FileServer
from tests.support.stcn_networks import small_network

NAMES = "xmem stcn siammask_davis siammask_vot sam_vit_b sam_vit_l sam_vit_h".split()
ROWS = {name: row for system in SYSTEMS.values() for name, row in system.downloads.items()}


def checkpoint_of(network: STCN) -> bytes:
    """A checkpoint in this project's format: those in that of STCN's authors have one size, a large one."""
    config = {"network": asdict(network.config), "tracker": asdict(STCNTracker.Config())}
    file = io.BytesIO()
    torch.save({"format": 1, "system": "stcn", "config": config, "model": network.state_dict()}, file)
    return file.getvalue()


@pytest.fixture
def content() -> bytes:
    return checkpoint_of(small_network())


@pytest.fixture
def server(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server of a small STCN, to which its name leads; the working folder and torch's cache are empty."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    with FileServer(content) as server:
        monkeypatch.setitem(DOWNLOADS, "stcn", Download("stcn.pth", server.address, "unknown"))
        yield server


def cached(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "hub" / "checkpoints" / "stcn.pth"


def test_a_name_is_fetched_into_the_cache_of_torch_once(server, content, tmp_path):
    for _ in range(2):
        network, config = load_network("stcn")
        assert config["system"] == "stcn"
    assert cached(tmp_path).read_bytes() == content and server.asked == [""]
    assert torch.equal(network.key_comp.weight, small_network().key_comp.weight)


def test_training_starts_from_a_name(server):
    network = small_network(seed=1)
    start(network, replace(network.config, load_network="stcn"))
    assert server.asked == [""]
    assert torch.equal(network.key_comp.weight, small_network().key_comp.weight)


def test_a_file_of_that_name_wins(server):
    Path("stcn").write_bytes(checkpoint_of(small_network(seed=1)))
    assert torch.equal(load_network("stcn")[0].key_comp.weight, small_network(seed=1).key_comp.weight)
    assert server.asked == []


def test_a_folder_of_that_name_is_no_checkpoint(server):
    Path("stcn").mkdir()
    assert load_network("stcn")[1]["system"] == "stcn"


def test_a_name_of_another_system_than_the_one_asked_for_is_not_fetched(server):
    with pytest.raises(UserError, match="checkpoint stcn does not exist"):
        load_network("stcn", "xmem")
    assert server.asked == []


def test_other_processes_wait_for_the_first_one_to_fetch(server, content, tmp_path, monkeypatch):
    def first_fetches() -> None:
        cached(tmp_path).parent.mkdir(parents=True)
        cached(tmp_path).write_bytes(content)

    monkeypatch.setattr(distributed, "is_main", lambda: False)
    monkeypatch.setattr(distributed, "barrier", first_fetches)
    assert load_network("stcn")[1]["system"] == "stcn" and server.asked == []


def test_without_a_network_the_command_says_address_and_place_in_one_line(server, tmp_path):
    server.__exit__()
    flags = ["--checkpoint", "stcn", "--video_root", tmp_path, "--output", tmp_path / "out"]
    outcome = run_here(inference.main, *flags)
    assert_refused(outcome, server.address, f"put the file at {cached(tmp_path)}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_known_to_inference_and_to_the_start_of_its_system(name, tmp_path, monkeypatch):
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(files, "urlopen", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    system = next(system for system in SYSTEMS.values() if name in system.downloads)
    network, config = SimpleNamespace(cache=None), system.network.Config(load_network=name)
    for load in (lambda: load_network(name), lambda: system.start(network, config)):
        with pytest.raises(UserError, match=re.escape(ROWS[name].address)):
            load()


def test_what_is_neither_file_nor_name_is_answered_with_the_names():
    with pytest.raises(UserError, match=r"xmem\.pth does not exist; pass .* name: .*\bxmem\b"):
        load_network("xmem.pth")


def test_every_published_checkpoint_has_its_name():
    assert sorted(ROWS) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_published_files_says_what_the_table_says(name):
    row, no = ROWS[name], "not published"
    size = no if row.size is None else f"{row.size:,}"
    licence = row.licence.replace("unknown", "not stated")
    cells = [f"`{name}`", f"[{row.name}]({row.address})", size, row.md5 or no, licence]
    assert f"| {' | '.join(cells)} |" in (ROOT / "docs" / "published.md").read_text()
