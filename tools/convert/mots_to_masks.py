"""MOTS text files to label maps."""

from pathlib import Path

from annotated.mots import MotsFile, by_time, mots_files
from common.errors import UserError
from common.files import atomic_folder, below
from common.progress import progress
from video.images import FRAME_SUFFIXES, list_files, mots_sequences, read_frame_size, write_label_map


def frame_names(images: dict[int, Path], masks: MotsFile) -> dict[int, str]:
    """{time: name of the frame} of a sequence, by its images; without any, of the times that have a mask.

    Raises UserError where a mask is of a time that has no image.
    """
    if not images:
        return {time: f"{time:06d}" for time in sorted(masks.frames)}
    masks.check_times(images)
    return {time: image.stem for time, image in images.items()}


def write_sequence(maps: Path, image_folder: Path | None, path: Path) -> int:
    """Write the label maps of a MOTS file into a folder; returns their number."""
    masks = MotsFile(path)
    images = by_time(list_files(image_folder, FRAME_SUFFIXES)) if image_folder else {}
    frames = frame_names(images, masks)
    size = masks.size or (read_frame_size(next(iter(images.values()))) if images else None)
    for time, frame in frames.items():
        write_label_map(below(maps, frame, ".png"), masks.label_map(time, size))
    return len(frames)


def mots_to_masks(source: Path, target: Path) -> str:
    """Draw the masks of MOTS files as label maps in a new folder, target/<sequence>/<frame>.png; a summary.

    Ids stay as they are, and regions to ignore have 10000. Frames are those of `mots_sequences`, with
    a mask or without; where a sequence has none, those with a mask, named by six digits.
    """
    files, sequences = mots_files(source), mots_sequences(source)
    if not files:
        raise UserError(f"{source} holds no MOTS files; of label maps {target} must be a .json file")
    with atomic_folder(target) as folder:
        counts = [
            write_sequence(below(folder, name), sequences.get(name), path)
            for name, path in progress(files.items(), f"writing {target}", len(files))
        ]
    return f"{target}: {len(files)} videos, {sum(counts)} label maps"
