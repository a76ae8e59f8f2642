"""The numbered folder of a run, and the checkpoint from which a run continues."""

import atexit
import shutil
import tempfile
from pathlib import Path

from common.files import read_json


def new_run_folder(run_dir: Path | str, temporary: bool = False) -> Path:
    """Make the next numbered folder in `run_dir`; one that exists is never used again.

    A `temporary` folder is elsewhere, and goes when the program ends.
    """
    if temporary:
        folder = tempfile.mkdtemp(prefix="dry_run_")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    number = max((int(path.name) for path in run_dir.iterdir() if path.name.isdigit()), default=0) + 1
    while True:
        try:
            (run_dir / str(number)).mkdir()
            return run_dir / str(number)
        except FileExistsError:  # another run was faster
            number += 1


def find_checkpoint(resume: str | None, run_dir: Path) -> Path | None:
    """The checkpoint that `--resume` names: a file, or `auto` for the newest run's; None to begin anew."""
    if resume is None:
        return None
    if resume != "auto":
        return Path(resume)
    checkpoints = [path for path in run_dir.glob("*/last.pth") if path.parent.name.isdigit()]
    return max(checkpoints, key=lambda path: int(path.parent.name), default=None)


def has_results(checkpoint: Path | None) -> bool:
    """Whether a checkpoint is of a run that was scored at its end, and has not gone on since."""
    return checkpoint is not None and checkpoint.with_name("metrics.json").is_file()


def task_of(checkpoint: Path | None) -> str | None:
    """The id of the ClearML task of a checkpoint's run, by args.json beside it, or by the checkpoint.

    Raises UserError where neither can be read.
    """
    if checkpoint is None:
        return None
    from common.checkpoint import read_checkpoint  # torch, which a refusal of flags does without

    args = checkpoint.with_name("args.json")
    flags = read_json(args) if args.is_file() else read_checkpoint(checkpoint)["args"]
    task = flags.get("clearml_task") if isinstance(flags, dict) else None
    return task if isinstance(task, str) else None
