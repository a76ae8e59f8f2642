"""The flags of what a run is reported to: ClearML and TensorBoard."""

from dataclasses import dataclass

from common.config import option


@dataclass
class ClearMLConfig:
    """The flags of every command that can report to ClearML; each calls its task by another name."""

    enable_clearml: bool = option(False, "report to ClearML, as in docs/clearml.md")
    clearml_offline: bool = option(False, "record on this disk, for a later import into a ClearML server")
    project_name: str = option("VITA-TCOVIS", "project in ClearML")
    task_name: str = option("train", "name of the task in ClearML")
    clearml_tags: tuple[str, ...] = option((), "tags of the ClearML task, besides the system's name")


@dataclass
class TrainingListenersConfig(ClearMLConfig):
    """The flags of the listeners of a training run."""

    queue: str | None = option(
        None, "enqueue the run for the agents of this ClearML queue, and do not train here"
    )
    clearml_continue: str = option(
        "same", "with --resume: continue the same ClearML task, or start a new one", ("same", "new")
    )
    clearml_dataset: str | None = option(None, "id of a ClearML data set, instead of --dataset_root")
    tensorboard: bool = option(False, "write reports for TensorBoard into the run folder")
