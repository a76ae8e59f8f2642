"""Runs commands as a user does, in this process or in one of its own, with settings that take a moment."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import inference
import main
from common.errors import run_command

ROOT = Path(__file__).resolve().parents[2]
TINY = """--backbone narrow --backbone_weights none --image_size 32 --hidden_dim 16 --num_heads 2
--feedforward_dim 16 --decoder_layers 1 --num_tokens 4 --clip_length 2 --batch_size 2 --num_workers 0
--device cpu --lr_head 1e-3 --lr_backbone 1e-3 --warmup_steps 1""".split()
SIAMMASK = "--backbone narrow --backbone_weights none --min_area 16".split()
STCN = """--backbone narrow --backbone_weights none --value_weights none --key_dim 8 --value_dim 16
--crop_size 32 --short_side -1""".split()
XMEM = [*STCN, *"--decoder_dim 16 --hidden_dim 8 --clip_length 4 --min_mid_term_frames 1".split()]
XMEM += "--max_mid_term_frames 2 --mem_every 1 --num_prototypes 4 --max_long_term_elements 6".split()
SAM_TRACK = """--train_encoder --image_size 32 --patch_size 8 --embed_dim 16 --depth 2 --num_heads 2
--window_size 3 --global_blocks 1 --out_dim 16 --decoder_heads 2 --decoder_mlp_dim 32""".split()
SMALL = {  # flags by which a system takes a moment
    "vita_tcovis": [*TINY, "--birth_score", "0.3"],
    "stcn": STCN,
    "xmem": XMEM,
    "siammask": SIAMMASK,
    "sam_track": SAM_TRACK,
    "fake": [],
}


class Outcome(NamedTuple):
    """Exit status, lines of stdout, lines of stderr."""

    status: int
    out: list[str]
    err: list[str]

    @property
    def run(self) -> Path:
        """The folder that a command names in its last line."""
        assert self.status == 0, self.err
        return Path(self.out[-1])


def run_here(command: Callable[[], None], *argv: object) -> Outcome:
    """Run the main function of a command in this process."""
    out, err, former, status = io.StringIO(), io.StringIO(), sys.argv, 0
    sys.argv = ["command", *map(str, argv)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            run_command(command)
    except SystemExit as end:
        status = end.code or 0
    finally:
        sys.argv = former
    return Outcome(status, out.getvalue().splitlines(), err.getvalue().splitlines())


def run_apart(*argv: object, through: Sequence[str] = ()) -> Outcome:
    """Run `python argv...` in a process of its own, in the root of the project, on one thread.

    through: a command that starts the one that follows it, such as unshare
    """
    done = subprocess.run(
        [*through, sys.executable, *map(str, argv)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return Outcome(done.returncode, done.stdout.splitlines(), done.stderr.splitlines())


HOLDING = """
import fcntl, sys
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
file.write("process 7 on a node")
file.flush()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(lock: Path) -> Iterator[subprocess.Popen]:
    """Inside, a process of its own holds a lock file, unless it is killed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(lock)], **pipes) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.stdin.close()


def assert_refused(outcome: Outcome, *parts: object) -> None:
    """Assert that a user's mistake was told in one line, which holds the parts, with exit status 2."""
    assert outcome.status == 2
    assert len(outcome.err) == 1, outcome.err
    assert all(str(part) in outcome.err[0] for part in parts), outcome.err[0]


def files_in(folder: Path) -> list[str]:
    """The files below a folder, hidden ones too; none where there is no such folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def train_here(flags: list[str], data: Path, runs: Path, *, epochs: int) -> Outcome:
    """A finished run of main.py in this process."""
    outcome = run_here(main.main, *flags, "--dataset_root", data, "--run_dir", runs, "--epochs", epochs)
    assert outcome.status == 0, outcome.err
    assert "completed" in (outcome.run / "report.html").read_text(encoding="utf-8")
    return outcome


def tracking_in(folder: Path, checkpoint: Path) -> Callable[..., Outcome]:
    """A function of further flags that tracks folder/videos by folder/prompts into folder/output."""
    flags = ["--checkpoint", checkpoint, "--video_root", folder / "videos", "--device", "cpu"]
    flags += ["--prompt_root", folder / "prompts", "--output", folder / "output"]
    return lambda *further: run_here(inference.main, *flags, *further)
