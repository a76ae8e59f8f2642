"""What the data doctor may find: the kinds by severity, what to do about each, and the table of them."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)  # the gravest first
NUM_SHOWN = 3  # findings of a kind that the table names


@dataclass(frozen=True)
class Kind:
    """What is found, how grave it is, and what to do. An error stops training, or teaches what is wrong."""

    severity: str
    title: str
    remedy: str


KINDS = {
    "bad_video": Kind(ERROR, "videos that cannot be used", "mend or remove them; --skip_bad leaves them out"),
    "bad_file": Kind(ERROR, "bad frames and masks", "mend or replace them; --skip_bad leaves them out"),
    "smoothed_edges": Kind(
        ERROR, "masks with smoothed edges", "draw them without anti-aliasing: values between are read as ids"
    ),
    "no_objects": Kind(
        ERROR, "no object in any training mask", "give each object a pixel value from 1 to 254"
    ),
    "renamed_id": Kind(ERROR, "an object goes on under another id", "give it one id in all frames"),
    "leaked_video": Kind(
        ERROR, "validation videos that show what training has", "remove one of the two: scores are too good"
    ),
    "exchanged_ids": Kind(
        WARNING, "an id jumps to where another one was", "look whether ids were exchanged by mistake"
    ),
    "single_appearance": Kind(
        WARNING, "ids that appear in one mask only", "look whether they are stray pixels or a wrong id"
    ),
    "missing_frames": Kind(WARNING, "gaps in the numbers of frames", "add the frames, or split the video"),
    "extra_frames": Kind(
        WARNING, "frames between the steps of the others, or without a number", "remove what is no frame"
    ),
    "missing_masks": Kind(WARNING, "gaps between masks", "add the masks: these frames are not trained on"),
    "void_only": Kind(
        WARNING,
        "masks of 255 alone beside masks with ids",
        "255 is void there: give the object its id, or leave the mask as it is if nothing is known",
    ),
    "empty_video": Kind(WARNING, "videos without any object", "leave them out: they teach background alone"),
    "single_mask": Kind(NOTE, "videos with one mask", "nothing: they are trained on as still images"),
    "tiny_object": Kind(
        WARNING, "objects that are tiny in every mask", "look whether they are stray pixels; --min_area"
    ),
    "giant_object": Kind(
        WARNING, "masks that fill nearly the whole frame", "look whether the background has an id"
    ),
    "repeated_video": Kind(
        WARNING, "videos of one split that show the same", "leave out all but one: some may be held out"
    ),
    "meta_lacks": Kind(
        WARNING, "objects that meta.json lacks", "add them: training with classes stops at the video"
    ),
    "meta_extra": Kind(
        WARNING, "entries of meta.json without masks or frames", "remove them, or add what is missing"
    ),
    "unscored_valid": Kind(
        NOTE, "most validation videos have first masks only", "nothing: training videos are held out instead"
    ),
    "one_object": Kind(NOTE, "masks of 0 and 255", "nothing: they are read as one object, of id 1"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    path: the file or folder to look at; count: how many masks, objects or frames it is about
    frames: names of annotated frames that show it, at most two
    """

    kind: str
    split: str
    video: str
    path: Path
    detail: str
    count: int = 1
    frames: tuple[str, ...] = ()

    @property
    def severity(self) -> str:
        return KINDS[self.kind].severity

    @property
    def line(self) -> str:
        """Path and detail; the detail alone where it names the path itself."""
        return self.detail if str(self.path) in self.detail else f"{self.path}: {self.detail}"


def by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """The findings of each kind that there is, the gravest kinds first, otherwise as `KINDS` has them."""
    groups: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.kind].append(finding)
    kinds = sorted(KINDS, key=lambda kind: SEVERITIES.index(KINDS[kind].severity))
    return {kind: groups[kind] for kind in kinds if kind in groups}


def table(findings: Iterable[Finding]) -> list[str]:
    """Lines to print: each kind with counts, its first findings by path, and what to do."""
    lines = [f"{'severity':8} {'count':>7} {'videos':>7}  finding"]
    for kind, group in by_kind(findings).items():
        about, videos = KINDS[kind], len({(one.split, one.video) for one in group})
        count = sum(one.count for one in group)
        lines.append(f"{about.severity:8} {count:7} {videos:7}  {about.title}")
        lines += [f"{'':26}{one.line}" for one in group[:NUM_SHOWN]]
        if len(group) > NUM_SHOWN:
            lines.append(f"{'':26}... and {len(group) - NUM_SHOWN} more, in findings.csv")
        lines.append(f"{'':26}-> {about.remedy}")
    return lines if len(lines) > 1 else ["nothing was found"]
