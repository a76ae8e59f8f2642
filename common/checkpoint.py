"""Checkpoints: written whole or not at all, read without running anything in them, loaded strictly.

A checkpoint is {"format", "system", "config", "model", "ema", "criterion", "optimizer", "scheduler",
"scaler", "epoch", "step", "best", "history", "args"}, of tensors and plain types alone. It says which system
it belongs to and with which options the network was built, so that `load_network` needs no other file and no
flag.
"""

import hashlib
import os
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor, nn

from common import distributed
from common.config import config_from_dict
from common.device import without_memory
from common.errors import UserError
from common.files import Download, check_checkpoint, fetch
from common.progress import say
from common.types import Network

FORMAT = 1
MAX_DEPTH = 8  # of dictionaries and lists in each other among the options and flags in a checkpoint
NEEDED = {"format": int, "system": str, "config": dict, "model": dict}  # what every checkpoint of ours has
OPTIONAL = {"ema": dict | None, "best": dict | None, "args": dict, "epoch": int, "step": int}  # of a run
ZIP_MAGIC = b"PK\x03\x04"  # by which torch, too, tells its zip files from the pickles of before version 1.6
DOS_FOLDER = 0x10  # the attribute of an entry of a zip file
WRAPPERS = ("model", "network", "state_dict")  # under which training programs keep the weights
PREFIXES = re.compile(r"^((module|_orig_mod)\.)+")  # of data-parallel and of compiled networks
# Published files whose names hold the beginning of a digest: torchvision's and SAM's.
DIGESTS = {
    r"(?:resnet\d+|mobilenet_v2|maskrcnn_resnet50_fpn_v2_coco)-([0-9a-f]{8})\.pth": "sha256",
    r"sam_vit_[bhl]_([0-9a-f]{6})\.pth": "md5",
}

# NumPy's numbers, such as the best accuracy that a published training checkpoint noted, under their names of
# NumPy 1 and 2.
_SCALAR = np.float64(0).__reduce__()[0]
NUMBERS = [(_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
NUMBERS += [np.dtype, *(type(np.dtype(name)) for name in ("float64", "float32", "int64"))]


def with_batch_counters(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with batch norm's counters, which some published files leave out."""
    norms = [key.removesuffix("running_var") for key in weights if key.endswith("running_var")]
    return {f"{norm}num_batches_tracked": torch.tensor(0) for norm in norms} | weights


class Published(NamedTuple):
    """A published checkpoint of a system, in this project's terms.

    config: the options of its parts, as in a checkpoint of ours
    description: what it is, in a few words
    """

    config: dict[str, dict[str, Any]]
    weights: dict[str, Tensor]
    description: str


Recognise = Callable[[Any], Published | None]  # what a file holds, to what it is; None where it is another


def _are_weights(content: Any) -> bool:
    """Whether this is {name: Tensor}, each tensor an ordinary one of real numbers in memory."""
    return isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(x, Tensor) and _is_ordinary(x) for name, x in content.items()
    )


def _is_ordinary(x: Tensor) -> bool:
    return x.layout is torch.strided and not (x.is_meta or x.is_complex() or x.is_quantized)


def state_dict_of(content: Any) -> dict[str, Tensor]:
    """The weights in a file that is a state dict, or holds one under one of `WRAPPERS`.

    Names lose the prefixes of data-parallel and compiled networks. Empty where there are no weights, and
    where two would have the same name.
    """
    parts = [content.get(key) for key in WRAPPERS] if isinstance(content, dict) else []
    weights = next((part for part in parts if isinstance(part, dict)), content)
    if not _are_weights(weights):
        return {}
    renamed = {PREFIXES.sub("", name): x for name, x in weights.items()}
    return renamed if len(renamed) == len(weights) else {}


class Loadable(NamedTuple):
    """What is needed of a system to load its checkpoints; a row of the table of systems has both, too.

    recognise: tells the published files of the system by their keys; None where there are none
    downloads: published files by the names that may stand for their paths
    """

    network: type[Network]
    recognise: Recognise | None
    downloads: Mapping[str, Download] = MappingProxyType({})


def _is_plain(value: Any) -> bool:
    """Whether `torch.load(weights_only=True)` will read the value back (not a NumPy scalar, not a Path)."""
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, Tensor) or type(value) in (str, int, float, bool, type(None))


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, checkpoint: dict[str, Any]) -> None:
    with open(path, "wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())


def save_checkpoint(path: str | Path, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint atomically: at every moment `path` is the former file or the new one, whole.

    Raises OSError with the path where it cannot be written (disk full, no folder, no permission); the former
    file is untouched then and no temporary file stays.
    """
    assert _is_plain(checkpoint), "a checkpoint holds tensors and plain types only"
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")  # a fixed name: what a killed process left is overwritten
    try:
        _write(temporary, checkpoint)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        # torch's zip writer answers a failed write with a RuntimeError of its own, raised over the OSError.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise OSError(cause.errno, f"cannot write the checkpoint: {cause.strerror}", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def check_digest(path: Path) -> None:
    """Raise UserError where a published file is not the one whose digest its name begins with."""
    for pattern, algorithm in DIGESTS.items():
        if match := re.fullmatch(pattern, path.name):
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, algorithm).hexdigest()
            if not digest.startswith(match[1]):
                problem = f"its {algorithm} begins with {digest[: len(match[1])]}, not as its name says"
                raise UserError(
                    f"{path} is damaged, or another file: {problem}; download it again, or rename it"
                )


def _damaged_entry(archive: ZipFile) -> str | None:
    """The first entry that has not its CRC-32, at which torch does not look, or that is marked as a folder.

    Of the latter torch gives memory that nothing was read into. A file that was written without checksums has
    zeros for all of them and passes.
    """
    entries = archive.infolist()
    for entry in entries:
        if entry.external_attr & DOS_FOLDER and entry.file_size:
            return entry.filename
    return archive.testzip() if any(entry.CRC for entry in entries) else None


def _check_entries(path: Path, file: IO[bytes]) -> None:
    """Raise UserError where an entry of a zip file is damaged, or entries are larger than the file, as those
    of a decompression bomb; what is no zip file has no checksum.
    """
    if file.read(len(ZIP_MAGIC)) == ZIP_MAGIC:
        with ZipFile(file) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise UserError(f"{path} is compressed, as no file of torch is; unpack it, or pass another")
            damaged = _damaged_entry(archive)
        if damaged:
            problem = f"{damaged} in it has not the checksum that it was written with"
            raise UserError(f"{path} is damaged: {problem}; take another copy, or an earlier checkpoint")
    file.seek(0)


def _unpickle(path: Path, map_location: torch.device | str) -> Any:
    """Read the tensors, plain types and NumPy numbers of a file; what holds more is refused, not executed."""
    with open(path, "rb") as file:
        try:
            _check_entries(path, file)
            with torch.serialization.safe_globals(NUMBERS):
                return torch.load(file, map_location=map_location, weights_only=True)
        except UserError:
            raise
        except pickle.UnpicklingError as error:
            # Without the word GLOBAL the reader met an instruction unknown to it, and cannot say more.
            objects = "arbitrary objects, which could run code"
            reason = f"it holds {objects}" if "GLOBAL" in str(error) else f"it is damaged, or holds {objects}"
            raise UserError(f"{path} is not a checkpoint: {reason}; nothing in it was executed") from error
        except Exception as error:  # damage shows in a dozen ways, from EOFError to UnicodeDecodeError
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise UserError(f"{path} is not a checkpoint, or is damaged ({reason}); pass another") from error


def read_file(path: Path, map_location: torch.device | str = "cpu") -> Any:
    """What a file of torch's holds, ours or not; UserError as for `read_checkpoint`."""
    check_checkpoint(path)
    check_digest(path)
    return _unpickle(path, map_location)


def read_checkpoint(path: str | Path, map_location: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint of this project, tensors placed on `map_location`; no code in the file is ever run.

    Raises UserError with the path: no such file, a folder, junk, truncated, other bytes than were written,
    arbitrary objects, the file of another project, or one written by a newer version of this one.
    """
    return _check_ours(Path(path), read_file(Path(path), map_location))


def _are_settings(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Whether this is text, a number, a truth value, None, or lists and dictionaries of such, a few deep."""
    if isinstance(value, dict):
        return bool(depth) and all(
            isinstance(k, str) and _are_settings(x, depth - 1) for k, x in value.items()
        )
    if isinstance(value, list | tuple):
        return bool(depth) and all(_are_settings(item, depth - 1) for item in value)
    return isinstance(value, str | int | float | None)


def _is_part(role: str, part: Any) -> bool:
    """Whether this may stand in a config: the options of a part, or the names of categories."""
    if role == "categories":
        return isinstance(part, list) and all(isinstance(name, str) for name in part)
    return isinstance(part, dict)


def _check_ours(path: Path, checkpoint: Any) -> dict[str, Any]:
    """The same checkpoint; UserError where it lacks an entry, or has one of another type than ours."""
    absent = [key for key in NEEDED if not isinstance(checkpoint, dict) or key not in checkpoint]
    if absent:
        raise UserError(f"{path} is not a checkpoint of this project: it has no {', '.join(absent)}")
    if isinstance(checkpoint["format"], int) and checkpoint["format"] != FORMAT:
        version = f"{path} has checkpoint format {checkpoint['format']}"
        raise UserError(f"{version}, this version reads {FORMAT}; update the project")
    kinds = {key: kind for key, kind in (NEEDED | OPTIONAL).items() if key in checkpoint}
    odd = [key for key, kind in kinds.items() if not isinstance(checkpoint[key], kind)]
    odd += [key for key in ("config", "args", "best") if not _are_settings(checkpoint.get(key))]
    weights = [key for key in ("model", "ema") if checkpoint.get(key) is not None]
    odd += [key for key in weights if not _are_weights(checkpoint[key])]
    odd = odd or [
        f"config of {role}" for role, part in checkpoint["config"].items() if not _is_part(role, part)
    ]
    if odd:
        raise UserError(f"{path} is not a checkpoint of this project: its {odd[0]:.40} is odd; pass another")
    return checkpoint


def _build(path: Path, network: type[Network], options: Any, states: list[dict[str, Tensor]]) -> nn.Module:
    """Build a network from the options of a checkpoint and load the last of its weights; none are fetched.

    It is built without memory, because options that are not those of the weights may ask for any, and takes
    the weights themselves, so that they are in memory once.
    """
    config = config_from_dict(network.Config, options, str(path))
    try:
        with without_memory():
            built = network(config)
    except RuntimeError as error:  # a size that is too large even to be written down
        raise UserError(f"{path}: no network has its options ({error!s:.60}); pass another") from error
    expected = built.state_dict()
    for weights in states:
        check_weights(path, expected, weights)
    built.load_state_dict({key: x.to(expected[key].dtype) for key, x in states[-1].items()}, assign=True)
    return built.eval()


def _is_finite(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether all numbers are finite, and stay so as a network has them."""
    return bool((x.isfinite() & x.to(dtype).isfinite()).all())


def check_weights(path: Path, expected: dict[str, Tensor], weights: dict[str, Tensor]) -> None:
    """Raise UserError, with counts and first names, unless names and shapes agree and all is finite.

    expected: the state dict of the network, which may be without memory
    """
    common = expected.keys() & weights.keys()
    parts = {
        "missing": sorted(expected.keys() - common),
        "unexpected": sorted(weights.keys() - common),
        "of another shape": sorted(key for key in common if expected[key].shape != weights[key].shape),
    }
    fitting = common - set(parts["of another shape"])
    parts["not finite"] = sorted(key for key in fitting if not _is_finite(weights[key], expected[key].dtype))
    troubles = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in parts.items()
        if keys
    ]
    if troubles:
        raise UserError(f"{path} does not fit its network: weights {', '.join(troubles)}")


def check_start(path: str, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    """Raise UserError unless weights of --load_network have the names and shapes of a state dict."""
    unfit = [key for key in state if key not in weights or weights[key].shape != state[key].shape]
    if unfit or len(weights) != len(state):
        raise UserError(
            f"--load_network {path}: its network has other options, as {[*unfit, 'its size'][0]} shows"
        )


def _recognise(path: Path, content: Any, systems: Mapping[str, Loadable]) -> dict[str, Any]:
    """A published file as a checkpoint of ours, which a line says; UserError where its keys are unknown."""
    published_systems = {name: system.recognise for name, system in systems.items() if system.recognise}
    for name, recognise in published_systems.items():
        published = recognise(content)
        if published:
            say(f"{path}: {published.description}")
            return {"system": name, "config": published.config, "model": published.weights}
    others = ", ".join(published_systems)
    known = f", nor a published one of {others}, by its keys" if others else ""
    raise UserError(f"{path} is not a checkpoint of this project{known}; pass another")


def _local_file(name: str | Path, systems: Mapping[str, Loadable], system: str | None) -> Path:
    """The file of a path, or the published one of a name, which its first use fetches into torch's cache.

    A file whose path it is wins over the name. Of several processes the first fetches, and the others wait.
    """
    rows = [row for key, row in systems.items() if system in (None, key)]
    downloads = {key: download for row in rows for key, download in row.downloads.items()}
    if downloads and not Path(name).exists() and str(name) not in downloads:
        known = f"a published one's name: {', '.join(downloads)}"
        raise UserError(f"checkpoint {name} does not exist; pass a .pth file that main.py wrote, or {known}")
    if Path(name).is_file() or str(name) not in downloads:
        return Path(name)
    download, folder = downloads[str(name)], Path(torch.hub.get_dir()) / "checkpoints"
    if distributed.is_main():
        fetch(download, folder)
    distributed.barrier()
    return fetch(download, folder)  # nothing is left to do but on a machine without the first process


def load_network(
    path: str | Path, systems: Mapping[str, Loadable], system: str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network that a checkpoint describes and load its weights, the EMA's where there are any.

    path: of a file, or the name of a published one in `downloads`, which is fetched
    systems: those of which it may be, by name; it may also be a checkpoint that one of them recognises as
    published: a line says so.
    Returns the network, on the CPU in `eval` mode, and the checkpoint's config: its system, and the options
    of each part as plain types, {"system": str, "network": {...}, "criterion": {...}, "tracker": {...},
    "data": {...}}.
    Raises UserError for what `read_checkpoint` refuses, a system other than `system`, an unknown one, options
    that `config_from_dict` refuses, and weights that do not fit exactly or are not finite.
    """
    path = _local_file(path, systems, system)
    content = read_file(path)
    ours = isinstance(content, dict) and "format" in content
    checkpoint = _check_ours(path, content) if ours else _recognise(path, content, systems)
    name = checkpoint["system"]
    if system not in (None, name):
        raise UserError(f"{path} is a checkpoint of the system {name}, not of {system}; leave --system out")
    if name not in systems:
        raise UserError(f"{path} is of the unknown system {name}; known are: {', '.join(systems)}")
    states = [state_dict_of(checkpoint[role]) for role in ("model", "ema") if checkpoint.get(role)]
    network = _build(path, systems[name].network, checkpoint["config"].get("network"), states or [{}])
    return network, {"tracker": {}, **checkpoint["config"], "system": name}
