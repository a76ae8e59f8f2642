"""The same label maps as a data set of YouTube-VIS, of COCO, and of images with masks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from video.rle import encode_rle

SIZE = (40, 40)
Maps = dict[str, np.ndarray]  # {video: (T, H, W) label maps, 255 void}


def frame_of(labels: np.ndarray) -> Image.Image:
    """A frame whose red is ten times the label."""
    frame = np.stack([np.where(labels == 255, 0, labels) * 10, labels * 0, labels * 0 + 7], -1)
    return Image.fromarray(frame.astype(np.uint8))


def as_mask(mask: np.ndarray, form: str) -> Any:
    """A mask as an RLE of text or of counts, or as polygons around its pixels; null where it is empty."""
    if not mask.any():
        return None
    if form == "text":
        return encode_rle(mask)
    if form == "polygons":
        return [[x, y, x + 1, y, x + 1, y + 1, x, y + 1] for y, x in np.argwhere(mask).tolist()]
    column = mask.T.ravel()
    changes = np.flatnonzero(np.diff(column, prepend=0, append=2))
    runs = np.diff([0, *changes]).tolist()
    return {"size": list(mask.shape), "counts": runs}


def content_of(kind: str, entries: list[dict], annotations: list[dict], names: dict[int, str]) -> str:
    categories = [{"id": 10 * i, "name": name} for i, name in names.items()]
    annotations = [{"id": i, **one} for i, one in enumerate(annotations, start=1)]
    return json.dumps({"info": {}, kind: entries, "annotations": annotations, "categories": categories})


def write_vis(
    path: Path, folder: Path, maps: Maps, names: dict[int, str] | None = None, form: str = "text"
) -> Path:
    """A file of YouTube-VIS with its frames <video>/<frame>.png; object k is of category names[k]."""
    names = names or {1: "ape", 2: "bee", 3: "cat"}
    videos, annotations = [], []
    for number, (video, labels) in enumerate(maps.items(), start=5):
        H, W = labels.shape[1:]
        files = [f"{video}/{t:05d}.png" for t in range(len(labels))]
        (folder / video).mkdir(parents=True, exist_ok=True)
        for file, one in zip(files, labels, strict=True):
            frame_of(one).save(folder / file)
        videos.append({"id": number, "height": H, "width": W, "length": len(files), "file_names": files})
        for k in (int(k) for k in np.unique(labels) if k):
            about = {"video_id": number, "category_id": 10 * min(k, max(names)), "iscrowd": int(k == 255)}
            masks = [as_mask(one == k, form) for one in labels]
            annotations.append(
                about | {"segmentations": masks, "object_id": k, "bboxes": [None] * len(masks)}
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content_of("videos", videos, annotations, names))
    return path


def write_coco(
    path: Path, folder: Path, maps: Maps, names: dict[int, str] | None = None, form: str = "text"
) -> Path:
    """A file of COCO with an image <video><frame>.png of each frame; object k is of category names[k]."""
    names = names or {1: "ape", 2: "bee", 3: "cat"}
    images, annotations = [], []
    folder.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    for video, labels in maps.items():
        for t, one in enumerate(labels):
            number = len(images) + 7
            frame_of(one).save(folder / f"{video}{t:05d}.png")
            images.append(
                {
                    "id": number,
                    "height": one.shape[0],
                    "width": one.shape[1],
                    "file_name": f"{video}{t:05d}.png",
                }
            )
            for k in (int(k) for k in np.unique(one) if k):
                about = {"image_id": number, "category_id": 10 * min(k, max(names)), "iscrowd": int(k == 255)}
                annotations.append(
                    about | {"segmentation": as_mask(one == k, form), "object_id": k, "area": 4.5}
                )
    path.write_text(content_of("images", images, annotations, names))
    return path


def write_pairs(root: Path, maps: Maps) -> Path:
    """An image <video><frame>.png with a mask of each frame."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    for video, labels in maps.items():
        for t, one in enumerate(labels):
            frame_of(one).save(root / "images" / f"{video}{t:05d}.png")
            Image.fromarray(one.astype(np.uint8)).save(root / "masks" / f"{video}{t:05d}.png")
    return root


def write_vos(root: Path, maps: Maps) -> Path:
    """A folder in the layout of YouTube-VOS with the same frames."""
    for video, labels in maps.items():
        for t, one in enumerate(labels):
            for kind, image in (("JPEGImages", frame_of(one)), ("Annotations", Image.fromarray(one))):
                (root / kind / video).mkdir(parents=True, exist_ok=True)
                image.save(root / kind / video / f"{t:05d}.png")
    return root
