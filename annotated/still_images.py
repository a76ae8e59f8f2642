"""Folders of still images with masks, each image a video of one frame."""

from pathlib import Path

from annotated.videos import AnnotatedVideo, VideoSet, read_categories
from common.errors import UserError
from common.progress import say
from video.images import FRAME_SUFFIXES, files_below, natural_key


def has_masks(root: Path) -> bool:
    """Whether a folder has images/ and masks/."""
    return (root / "images").is_dir() and (root / "masks").is_dir()


def find_pairs(root: Path) -> list[tuple[Path, Path]]:
    """The images of a folder with their masks: images/<name> with masks/<name>.png, or <name>.jpg beside
    <name>.png at any depth. Those without a mask are counted on stderr. Raises UserError where there is no
    pair.
    """
    if has_masks(root):
        images = files_below(root / "images", FRAME_SUFFIXES)
        pairs = [(p, root / "masks" / p.relative_to(root / "images").with_suffix(".png")) for p in images]
    else:
        images = files_below(root, FRAME_SUFFIXES - {".png"})
        pairs = [(path, path.with_suffix(".png")) for path in images]
    total, pairs = len(pairs), [pair for pair in pairs if pair[1].is_file()]
    if not pairs:
        layouts = "images/<name>.jpg with masks/<name>.png, or <name>.jpg beside <name>.png"
        raise UserError(f"{root} holds no image with a mask: looked for {layouts}")
    if total > len(pairs):
        say(f"{root}: {total - len(pairs)} of {total} images have no mask and are left out", error=True)
    return sorted(pairs, key=lambda pair: natural_key(str(pair[0])))


class StillImages(VideoSet):
    """The images of a folder that have masks, by `find_pairs`, each a video of one frame.

    Videos are named as the images are, below the folder; meta.json may give categories under these names.
    """

    def __init__(self, root: Path):
        meta = root / "meta.json"
        categories = read_categories(meta)
        super().__init__(root, [], (name for objects in categories.values() for name in objects.values()))
        top = root / "images" if has_masks(root) else root
        for image, mask in find_pairs(root):
            name, frames = image.relative_to(top).as_posix(), [image.stem]
            facts = {"categories": categories.get(name), "meta": meta}
            self.videos.append(
                AnnotatedVideo(name, image.parent, mask.parent, image.suffix, frames, frames, **facts)
            )
