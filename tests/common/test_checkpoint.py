"""Checkpoints are written whole or not at all; a bad one is refused in one line and not executed."""

import hashlib
import os
import pickle
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from torch import nn

from common.checkpoint import Loadable, load_network, read_checkpoint, save_checkpoint
from common.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


class FakeNetwork(nn.Module):
    @dataclass
    class Config:
        width: int = 3
        bias: bool = True

    def __init__(self, config: Config):
        super().__init__()
        self.layer = nn.Linear(2, config.width, bias=config.bias)


class Evil:
    """Creates a file when unpickled without care."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


SYSTEMS = {"fake": Loadable(FakeNetwork, None)}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return FakeNetwork(FakeNetwork.Config(width=4))


@pytest.fixture
def contents(network) -> dict:
    optimizer = torch.optim.AdamW(network.parameters())
    network.layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {
        "format": 1,
        "system": "fake",
        "config": {"network": asdict(FakeNetwork.Config(width=4)), "tracker": {"beta": 0.9}},
        "model": network.state_dict(),
        "ema": None,
        "criterion": {},
        "optimizer": optimizer.state_dict(),
        "scheduler": {"step": 3},
        "scaler": None,
        "epoch": 2,
        "step": 3,
        "best": {"J&F": 50.0, "epoch": 1},
        "args": {"lr": 1e-4, "milestones": [3, 4], "amp": "off"},
    }


def assert_one_line(error: pytest.ExceptionInfo, *parts: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    assert all(str(part) in message for part in parts), message


def test_what_is_saved_is_read_back(tmp_path, contents):
    save_checkpoint(tmp_path / "last.pth", contents)
    found = read_checkpoint(tmp_path / "last.pth")
    assert found.keys() == contents.keys()
    assert found["args"] == contents["args"] and found["best"] == contents["best"]
    assert all(found["model"][key].equal(value) for key, value in contents["model"].items())
    moments = found["optimizer"]["state"][0]["exp_avg"], contents["optimizer"]["state"][0]["exp_avg"]
    assert moments[0].equal(moments[1])
    assert [path.name for path in tmp_path.iterdir()] == ["last.pth"]


def test_a_new_checkpoint_takes_the_place_of_the_former(tmp_path, contents):
    path = str(tmp_path / "last.pth")
    save_checkpoint(path, contents)
    save_checkpoint(path, {**contents, "epoch": 3})
    assert read_checkpoint(path)["epoch"] == 3


def test_what_a_killed_process_left_is_overwritten(tmp_path, contents):
    (tmp_path / "last.pth.tmp").write_bytes(b"half")
    save_checkpoint(tmp_path / "last.pth", contents)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pth"]


def test_a_full_disk_leaves_the_former_file_and_no_temporary_one(tmp_path, contents):
    path = tmp_path / "last.pth"
    save_checkpoint(path, contents)
    former = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write the checkpoint.*last\.pth'"):
            save_checkpoint(path, {**contents, "model": {"weight": torch.zeros(1_000_000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == former
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_save_leaves_the_former_file_and_no_temporary_one(tmp_path, contents, monkeypatch):
    path = tmp_path / "last.pth"
    save_checkpoint(path, contents)
    former = path.read_bytes()

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {**contents, "epoch": 3})
    assert path.read_bytes() == former
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path, contents):
    with pytest.raises(FileNotFoundError, match=r"nowhere/last\.pth'"):
        save_checkpoint(tmp_path / "nowhere" / "last.pth", contents)


@pytest.mark.parametrize("value", [np.float64(0.5), Path("x"), {"deep": [np.zeros(1)]}, {1, 2}])
def test_what_could_not_be_read_back_is_not_saved(tmp_path, contents, value):
    with pytest.raises(AssertionError, match="plain types"):
        save_checkpoint(tmp_path / "last.pth", {**contents, "best": value})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_and_a_folder_are_told_in_one_line(tmp_path):
    with pytest.raises(UserError) as error:
        read_checkpoint(tmp_path / "none.pth")
    assert_one_line(error, tmp_path / "none.pth", "does not exist")
    with pytest.raises(UserError) as error:
        read_checkpoint(tmp_path)
    assert_one_line(error, tmp_path, "is a folder")


@pytest.mark.parametrize(
    "junk", [b"", b"junk", b"hello world\n" * 20, bytes(range(256)) * 20, b"\x80\x02L\xff"]
)
def test_junk_is_told_in_one_line(tmp_path, junk):
    path = tmp_path / "junk.pth"
    path.write_bytes(junk)
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    assert_one_line(error, path, "is not a checkpoint")


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.7, 0.99])
def test_a_truncated_checkpoint_is_told_in_one_line(tmp_path, contents, kept):
    path = tmp_path / "last.pth"
    save_checkpoint(path, contents)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    assert_one_line(error, path, "not a checkpoint")


def weights_in(path: Path) -> dict[str, bytes]:
    return {key: value.numpy().tobytes() for key, value in read_checkpoint(path)["model"].items()}


@pytest.mark.parametrize(
    "part", [pytest.param(slice(None), marks=pytest.mark.slow), slice(7, None, 97)], ids=["every", "some"]
)
def test_a_flipped_bit_is_told_in_one_line_or_changes_nothing(tmp_path, part):
    whole, damaged = tmp_path / "last.pth", tmp_path / "damaged.pth"
    weights = {"layer.weight": torch.randn(20), "layer.bias": torch.arange(5)}
    save_checkpoint(whole, {"format": 1, "system": "fake", "config": {"network": {}}, "model": weights})
    expected, content, refused = weights_in(whole), whole.read_bytes(), 0
    bits = range(len(content) * 8)[part]
    for bit in bits:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        damaged.write_bytes(changed)
        try:
            assert weights_in(damaged) == expected
        except UserError as error:
            assert "\n" not in str(error) and str(damaged) in str(error)
            refused += 1
    assert refused > len(bits) / 2  # the others are between the entries, or say when they were written


def test_a_changed_weight_is_told_with_its_entry_and_the_remedy(tmp_path, contents):
    path = tmp_path / "last.pth"
    save_checkpoint(path, contents)
    weight = contents["model"]["layer.weight"].numpy().tobytes()
    path.write_bytes(path.read_bytes().replace(weight, b"\0" + weight[1:]))
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    assert_one_line(error, path, "is damaged", "archive/data/0", "checksum", "another copy")


def test_a_compressed_file_is_refused_before_it_fills_memory(tmp_path, contents):
    save_checkpoint(tmp_path / "last.pth", contents | {"step": "0" * 100_000})
    with ZipFile(tmp_path / "last.pth") as whole, ZipFile(tmp_path / "x.pth", "w", ZIP_DEFLATED) as bomb:
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name))
    with pytest.raises(UserError, match=r"x\.pth is compressed"):
        read_checkpoint(tmp_path / "x.pth")


def test_a_file_without_checksums_is_read(tmp_path, contents):
    former = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        save_checkpoint(tmp_path / "last.pth", contents)
    finally:
        torch.serialization.set_crc32_options(former)
    assert read_checkpoint(tmp_path / "last.pth")["epoch"] == 2


@pytest.mark.parametrize(
    ("name", "algorithm", "length"),
    [("resnet50-{}.pth", "sha256", 8), ("resnet18-{}.pth", "sha256", 8), ("sam_vit_b_{}.pth", "md5", 6)],
)
def test_a_published_file_has_the_digest_that_its_name_begins_with(
    tmp_path, contents, name, algorithm, length
):
    plain = tmp_path / "plain.pth"
    torch.save(contents, plain, _use_new_zipfile_serialization=False)  # which has no checksum
    digest = hashlib.new(algorithm, plain.read_bytes()).hexdigest()[:length]
    published = tmp_path / name.format(digest)
    published.write_bytes(plain.read_bytes())
    assert read_checkpoint(published)["epoch"] == 2
    published.write_bytes(plain.read_bytes() + b"\0")
    with pytest.raises(UserError) as error:
        read_checkpoint(published)
    assert_one_line(error, published, "is damaged", algorithm, "download it again")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("number", [np.float64(0.25), np.float32(0.25), np.int64(3)])
def test_numbers_of_numpy_in_a_file_are_read(tmp_path, contents, number, zipped):
    path = tmp_path / "numbers.pth"
    torch.save({**contents, "accuracy": number}, path, _use_new_zipfile_serialization=zipped)
    assert read_checkpoint(path)["accuracy"] == number


def test_the_name_of_numbers_in_older_files_of_numpy_is_known(tmp_path, contents):
    path = tmp_path / "old.pth"
    torch.save({**contents, "accuracy": np.float64(0.25)}, path, _use_new_zipfile_serialization=False)
    written = path.read_bytes()
    other = written.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path.write_bytes(other if other != written else written.replace(b"numpy.core", b"numpy._core"))
    assert read_checkpoint(path)["accuracy"] == 0.25


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused_and_not_executed(tmp_path, contents, zipped):
    path, witness = tmp_path / "evil.pth", tmp_path / "executed"
    torch.save({**contents, "args": Evil(witness)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    assert_one_line(error, path, "it holds arbitrary objects", "nothing in it was executed")
    assert not witness.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_pickle_that_would_run_code_is_not_executed(tmp_path, protocol):
    path, witness = tmp_path / "evil.pkl", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Evil(witness), protocol=protocol))
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    assert_one_line(error, path, "arbitrary objects", "nothing in it was executed")
    assert not witness.exists()


def test_the_file_of_another_project_is_told_in_one_line(tmp_path, contents):
    path = tmp_path / "foreign.pth"
    for foreign in (contents["model"], [1, 2], torch.zeros(3)):
        torch.save(foreign, path)
        with pytest.raises(UserError) as error:
            read_checkpoint(path)
        assert_one_line(error, path, "not a checkpoint of this project", "format, system")


def test_a_newer_format_is_told_in_one_line(tmp_path, contents):
    save_checkpoint(tmp_path / "new.pth", {**contents, "format": 2})
    with pytest.raises(UserError) as error:
        read_checkpoint(tmp_path / "new.pth")
    assert_one_line(error, tmp_path / "new.pth", "format 2", "update")


def test_a_network_comes_back_as_it_was_with_its_config(tmp_path, network, contents):
    save_checkpoint(tmp_path / "last.pth", contents)
    loaded, config = load_network(tmp_path / "last.pth", SYSTEMS, "fake")
    assert not loaded.training
    assert loaded.layer.weight.equal(network.layer.weight)
    assert config == {"system": "fake", **contents["config"]}


def test_the_ema_weights_are_preferred(tmp_path, contents):
    ema = {key: value + 1 for key, value in contents["model"].items()}
    save_checkpoint(tmp_path / "last.pth", {**contents, "ema": ema})
    loaded, _ = load_network(tmp_path / "last.pth", SYSTEMS)
    assert loaded.layer.weight.equal(ema["layer.weight"])


def test_another_system_and_an_unknown_one_are_named(tmp_path, contents):
    save_checkpoint(tmp_path / "last.pth", contents)
    with pytest.raises(UserError) as error:
        load_network(tmp_path / "last.pth", SYSTEMS, "vita_tcovis")
    assert_one_line(error, tmp_path / "last.pth", "fake", "vita_tcovis")
    save_checkpoint(tmp_path / "last.pth", {**contents, "system": "nobody"})
    with pytest.raises(UserError) as error:
        load_network(tmp_path / "last.pth", SYSTEMS)
    assert_one_line(error, tmp_path / "last.pth", "unknown system nobody", "fake")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"width": 4}, "(bias)"),
        ({"width": 4, "bias": True, "depth": 2}, "(depth)"),
    ],
)
def test_options_that_the_network_lacks_or_has_more_are_named(tmp_path, contents, options, told):
    save_checkpoint(tmp_path / "last.pth", {**contents, "config": {"network": options}})
    with pytest.raises(UserError) as error:
        load_network(tmp_path / "last.pth", SYSTEMS)
    assert_one_line(error, tmp_path / "last.pth", told)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"args": [3]}, "its args is odd"),
        ({"args": {"seed": torch.zeros(2)}}, "its args is odd"),
        ({"args": {"seed": [[[[[[[[[1]]]]]]]]]}}, "its args is odd"),
        ({"best": 3.0}, "its best is odd"),
        ({"epoch": "two"}, "its epoch is odd"),
        ({"format": torch.zeros(2)}, "its format is odd"),
        ({"system": ["fake"]}, "its system is odd"),
        ({"model": {"layer.weight": 3}}, "its model is odd"),
        ({"model": {"layer.weight": torch.zeros(4, 2, device="meta")}}, "its model is odd"),
        ({"ema": torch.zeros(2)}, "its ema is odd"),
        ({"config": {3: 4}}, "its config is odd"),
        ({"config": {"network": [3]}}, "its config of network is odd"),
        ({"config": {"network": {}, "categories": 3}}, "its config of categories is odd"),
        ({"config": {"network": {"width": "4", "bias": True}}}, "has width '4'"),
        ({"config": {"network": {"width": 4, "bias": 1}}}, "has bias 1"),
        ({"config": {"network": {"width": 10**9, "bias": True}}}, "of another shape (layer.bias"),
        ({"config": {"network": {"width": 2**62, "bias": True}}}, "no network has its options"),
    ],
)
def test_parts_of_another_type_or_absurd_options_are_refused_in_a_line(tmp_path, contents, change, told):
    torch.save({**contents, **change}, tmp_path / "last.pth")
    with pytest.raises(UserError) as error:
        load_network(tmp_path / "last.pth", SYSTEMS)
    assert_one_line(error, tmp_path / "last.pth", told)


def test_weights_that_do_not_fit_are_counted_and_named(tmp_path, contents):
    weights = {"layer.weight": torch.zeros(9, 2)} | {f"head.{k}": torch.zeros(1) for k in range(5)}
    save_checkpoint(tmp_path / "last.pth", {**contents, "model": weights})
    with pytest.raises(UserError) as error:
        load_network(tmp_path / "last.pth", SYSTEMS)
    expected = "1 missing (layer.bias), 5 unexpected (head.0, head.1, head.2, ...)"
    assert_one_line(error, expected, "1 of another shape (layer.weight)")


def test_killing_a_writing_process_leaves_a_whole_checkpoint(tmp_path):
    script = """
import itertools, sys, torch
from common.checkpoint import save_checkpoint
base = {"format": 1, "system": "fake", "config": {}}
for step in itertools.count():
    save_checkpoint(sys.argv[1], {**base, "step": step, "model": {"w": torch.full((200_000,), float(step))}})
    print(step, flush=True)
"""
    path = tmp_path / "last.pth"
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        saved = [int(process.stdout.readline()) for _ in range(20)][-1]
        process.kill()
    checkpoint = read_checkpoint(path)
    assert checkpoint["step"] >= saved
    assert checkpoint["model"]["w"].eq(checkpoint["step"]).all()
