"""The flags of what a run is reported to: ClearML and TensorBoard."""

from dataclasses import dataclass

from common.config import option


@dataclass
class ClearMLConfig:
    """The flags of every command that can report to ClearML; each calls its task by another name."""

    enable_clearml: bool = option(False, "show this run in ClearML (docs/clearml.md)")
    clearml_offline: bool = option(False, "record on this disk, to be imported into a server later")
    project_name: str = option("VITA-TCOVIS", "ClearML project")
    task_name: str = option("train", "ClearML task")
    clearml_tags: tuple[str, ...] = option((), "tags of the task, beside the name of the system")


@dataclass
class TrainingListenersConfig(ClearMLConfig):
    """The flags of the listeners of a training run."""

    queue: str | None = option(
        None, "leave the run to the agents of this ClearML queue instead of running it here"
    )
    clearml_continue: str = option(
        "same", "the ClearML task of a run that --resume continues", ("same", "new")
    )
    clearml_dataset: str | None = option(None, "id of a ClearML data set, in place of --dataset_root")
    tensorboard: bool = option(False, "write the reports for TensorBoard into the run's folder, too")
