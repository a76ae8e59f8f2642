"""The commands that make a run again, continue it, and use and score it."""

import shlex
from typing import Any

from tools.run_report.folder import Run

NOT_GIVEN = {"system", "resume", "clearml_task"}  # what a user does not repeat: the first stands in front


def flag_words(name: str, value: Any) -> list[str]:
    """A flag with its value as a command line has them; nothing where it is not given."""
    if value is None or value == []:
        return []
    values = value if isinstance(value, list) else [value]
    words = [str(one).lower() if isinstance(one, bool) else str(one) for one in values]
    # argparse takes what begins with - for a flag, unless it is a number.
    return [f"--{name}={words[0]}"] if len(words) == 1 and words[0][0:1] == "-" else [f"--{name}", *words]


def train_words(run: Run) -> list[str]:
    """The command by which the run was made, presets written out: every flag that is not its default."""
    names = run.changed if run.defaults else list(run.flags)
    given = [word for name in names if name not in NOT_GIVEN for word in flag_words(name, run.flags[name])]
    return ["python", "main.py", "--system", str(run.flags.get("system", "vita_tcovis")), *given]


def commands_of(run: Run) -> dict[str, str]:
    """{what for: command}, from the folder of the program; what a run did not note is left out."""
    noted = run.record.get("commands", {})
    weights = "best" if (run.folder / "best.pth").is_file() else "last"
    commands = {
        "Train it again": shlex.join(train_words(run)),
        "Go on with it": shlex.join([*train_words(run), "--resume", str(run.folder / "last.pth")]),
        f"Track the held-out videos by {weights}.pth": noted.get(weights),
        "Score these tracks": noted.get("score"),
        "Make this page again": shlex.join([*"python -m tools.run_report".split(), str(run.folder)]),
    }
    return {title: str(command) for title, command in commands.items() if command}
