"""Embeddings on disk: found again, and never those of another file, size, network or type, nor torn ones."""

import errno
import multiprocessing
import os
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from common.errors import UserError
from systems.sam_track import embedding_cache
from systems.sam_track.embedding_cache import EmbeddingCache, digest_of, file_key
from systems.sam_track.modules import SAMTrack
from tests.support.sam_networks import small_network


class Counted:
    """A cache with a small encoder, which counts the images that it encodes."""

    def __init__(
        self, folder: Path, network: SAMTrack | None = None, max_gb: float = 1.0, kept: str = "float16"
    ):
        self.cache = EmbeddingCache(str(folder), max_gb, kept)
        self.encoder = (network or small_network()).image_encoder
        self.encoded = 0

    @torch.no_grad()
    def __call__(self, *names: str) -> torch.Tensor:
        def encode(missing: list[int]) -> torch.Tensor:
            self.encoded += len(missing)
            # One by one: what an image is encoded with changes the rounding.
            return torch.cat([self.encoder(self.image(names[i])[None]) for i in missing])

        return self.cache.through(self.encoder, list(names), encode)

    @staticmethod
    def image(name: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(sum(map(ord, name)))
        return torch.randn(3, 32, 32, generator=generator)

    @property
    def has_room(self) -> bool:
        return self.cache.has_room

    def entries(self) -> list[Path]:
        return sorted(path for path in self.cache.folder.glob("*/*") if len(path.name) == 64)

    def entries_of_its_kind(self) -> list[Path]:
        return [path for path in self.entries() if path.parent == self.cache._path("").parent]


def test_what_was_computed_once_is_found_again_the_same(tmp_path):
    first, second = Counted(tmp_path / "cache"), Counted(tmp_path / "cache")
    computed = first("a", "b")
    assert first("b", "c")[0].equal(computed[1]) and first.encoded == 3
    assert second("a", "b").equal(computed) and second.encoded == 0
    assert computed.dtype == torch.float32 and len(first.entries()) == 3
    twice = second("d", "d")
    assert twice[0].equal(twice[1]) and second.encoded == 1


@pytest.mark.parametrize(("kept", "largest"), [("float16", 5e-3), ("float32", 0.0)])
def test_embeddings_are_kept_in_the_type_that_was_asked_for(tmp_path, kept, largest):
    counted = Counted(tmp_path, kept=kept)
    with torch.no_grad():
        exact = counted.encoder(counted.image("a")[None])
    assert (counted("a") - exact).abs().max() <= largest
    assert counted.entries()[0].stat().st_size == 32 + 12 + exact.numel() * (2 if kept == "float16" else 4)


def test_another_name_network_size_or_type_is_another_entry(tmp_path):
    counted = Counted(tmp_path)
    counted("a")
    for other in (
        Counted(tmp_path, small_network(seed=1)),
        Counted(tmp_path, small_network(image_size=64)),
        Counted(tmp_path, kept="float32"),
    ):
        other("a")
        assert other.encoded == 1
    counted("b")
    assert counted.encoded == 2 and len(counted.entries()) == 5
    with torch.autocast("cpu", torch.bfloat16):
        counted("a")
    assert counted.encoded == 3


def test_weights_that_are_written_to_make_entries_stale(tmp_path):
    counted = Counted(tmp_path)
    former, before = counted("a"), digest_of(counted.encoder)
    with torch.no_grad():
        counted.encoder.neck[0].weight[0, 0] += 0.5
    assert digest_of(counted.encoder) != before
    assert not counted("a").equal(former) and counted.encoded == 2


def test_a_file_is_known_by_its_content_alone(tmp_path):
    path = tmp_path / "frame.png"
    Image.new("RGB", (8, 8), (1, 2, 3)).save(path, compress_level=0)
    before, stat = file_key(path), path.stat()
    Image.new("RGB", (8, 8), (1, 2, 4)).save(path, compress_level=0)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size and path.stat().st_mtime_ns == stat.st_mtime_ns
    assert file_key(path) != before
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "moved.png", compress_level=0)
    assert file_key(tmp_path / "moved.png") == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another's"])
def test_a_torn_entry_is_never_used_and_made_anew(tmp_path, damage):
    counted = Counted(tmp_path)
    whole = counted("a", "b")
    one, other = counted.entries()
    content = one.read_bytes()
    damaged = {"cut": content[:-3], "empty": b"", "another's": other.read_bytes()}
    damaged["flipped"] = content[:-1] + bytes([content[-1] ^ 1])
    one.write_bytes(damaged[damage])
    assert counted("a", "b").equal(whole) and counted.encoded == 3
    assert one.read_bytes() == content


SIZE = 32 + 12 + 16 * 4 * 4 * 2  # bytes of an entry in float16


def test_the_folder_never_holds_more_than_it_may(tmp_path, capsys):
    counted = Counted(tmp_path, max_gb=2.5 * SIZE / 1e9)
    whole = counted("a", "b", "c")
    assert len(counted.entries()) == 2
    assert "holds --cache_gb" in capsys.readouterr().out
    assert counted("a", "b", "c").equal(whole) and counted.encoded == 4
    assert capsys.readouterr().out == ""  # it was told once
    later = Counted(tmp_path, max_gb=2.5 * SIZE / 1e9)
    later("d")
    assert len(later.entries()) == 2


def test_without_room_for_one_nothing_is_written(tmp_path, capsys):
    counted = Counted(tmp_path / "cache", max_gb=0)
    counted("a", "b")
    assert counted("a").isfinite().all() and counted.encoded == 3
    assert not (tmp_path / "cache").exists()
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_what_was_removed_by_hand_makes_room(tmp_path):
    counted = Counted(tmp_path, max_gb=2.5 * SIZE / 1e9)
    counted("a", "b")
    counted.entries()[0].unlink()
    counted("c")
    assert counted.has_room and len(counted.entries()) == 2


def test_former_weights_make_room_and_nothing_else_is_removed(tmp_path, capsys):
    small = 2.5 * SIZE / 1e9
    former, latest = Counted(tmp_path, small_network(seed=1)), Counted(tmp_path, small_network(seed=2))
    former("a"), latest("a")
    for age, one in ((20, former), (10, latest)):
        kind = one.entries_of_its_kind()[0].parent
        (kind / "mine.txt").write_text("x")
        os.utime(kind, (time.time() - age, time.time() - age))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("x")
    counted = Counted(tmp_path, max_gb=small)
    counted("b")
    assert not former.entries_of_its_kind() and latest.entries_of_its_kind()
    assert "were removed" in capsys.readouterr().out
    counted("c")
    assert not latest.entries_of_its_kind() and len(counted.entries_of_its_kind()) == 2
    assert len(list(tmp_path.glob("*/mine.txt"))) == 3


def test_weights_in_use_make_no_room(tmp_path, capsys):
    counted, other = Counted(tmp_path, max_gb=1.5 * SIZE / 1e9), Counted(tmp_path, small_network(seed=1))
    other("a")
    counted("a")
    assert "holds --cache_gb" in capsys.readouterr().out and len(other.entries_of_its_kind()) == 1


def fill(folder: Path, first: int, max_gb: float) -> None:
    torch.set_num_threads(1)
    counted = Counted(folder, max_gb=max_gb)
    for number in range(first, first + 20):
        counted(f"{number}")


def test_processes_share_the_bound(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=fill, args=(tmp_path, 10 * i, 24.5 * SIZE / 1e9)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    later = Counted(tmp_path)
    assert len(later.entries()) == 24  # of 40 names, some of them wanted by two
    later(*map(str, range(40)))
    assert later.encoded == 16


def test_a_full_disk_is_told_once_and_training_goes_on(tmp_path, monkeypatch, capsys):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    counted = Counted(tmp_path)
    kept = counted("a")
    monkeypatch.setattr(embedding_cache, "atomic_write", full)
    embeddings = counted("a", "b", "c")
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1 and "No space left on device" in out and str(tmp_path) in out
    assert embeddings[0].equal(kept[0]) and embeddings.isfinite().all() and len(counted.entries()) == 1
    counted("b")
    assert counted.encoded == 4 and capsys.readouterr().out == ""


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        with pytest.raises(UserError, match=f"{tmp_path / 'file'} is a file"):
            EmbeddingCache(str(folder), 1.0, "float16").check()
    EmbeddingCache(str(tmp_path / "none" / "yet"), 1.0, "float16").check()
