"""Whatever is in a file, its reader succeeds, or refuses it in one line, within 10 seconds and 2 GiB."""

import io
import json
import shutil
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import inference
from annotated.json_videos import JsonVideos
from annotated.videos import VOSFolder, read_category_names
from common.checkpoint import Loadable, load_network
from common.config import Parser, add_config_flags, config_from_dict
from common.errors import UserError
from scoring.protocols.davis import listed_sequences
from scoring.protocols.servers import YOUTUBE_VOS_SERVER
from scoring.protocols.table import PROTOCOLS
from scoring.protocols.ytvis import ytvis
from tests.support.fake_system import SYSTEM
from tests.support.fuzz import VALUES, mutate_bytes, mutate_json, mutate_tree, survives
from tests.support.vis_files import LEFT, RIGHT, TOP, result_of, truth_of, video_of, write_json, write_maps
from tools.convert.json_to_masks import json_to_masks
from tools.convert.masks_to_json import masks_to_json
from tracking.sparse_prompts.boxes import read_boxes
from tracking.sparse_prompts.clicks import read_clicks
from training.history import read_rows
from video.images import check_end, read_frame, read_header, read_label_map
from video.label_maps import objects_in
from video.painted import ColourIds
from video.pictures import PALETTE
from video.reader import VideoFile
from video.rle import encode_rle
from video.writer import OverlayWriter

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 24, 32, 3), dtype=np.uint8)
META = {
    "videos": {"a": {"objects": {"1": {"category": "cat", "frames": ["0", "1"]}, "2": {"category": "dog"}}}}
}
TRACK = {"category": 7, "score": 0.5, "first": "0", "last": "1", "scores": {"0": 0.4, "1": 0.6}}
TRACKS = {"a": {"video_id": 1, "frames": 2, "tracks": {"1": TRACK, "2": TRACK}}}
TRUTH = truth_of([video_of(1, "a", ["0", "1"])], [result_of(1, 0.5, LEFT, TOP, category=7)])
TRUTH["annotations"][0]["segmentations"][1] = {"size": [3, 4], "counts": [0, 1, 2, 1, 2, 1, 2, 1, 2]}
COCO = {
    "images": [{"id": 7, "height": 3, "width": 4, "file_name": "a/0.jpg"}],
    "annotations": [
        {"image_id": 7, "category_id": 1, "segmentation": [[0, 0, 2.5, 0, 2.5, 3]], "iscrowd": 0},
        {"image_id": 7, "category_id": 1, "segmentation": {"size": [3, 4], "counts": [4, 8]}, "iscrowd": 1},
    ],
    "categories": [{"id": 1, "name": "cat"}],
}
RESULTS = [result_of(1, 0.5, LEFT, TOP, category=7), result_of(1, 0.25, None, RIGHT, category=3)]
MAPS = {"a": {"0": 1 * LEFT, "1": 2 * TOP}}


def picture(pixels: np.ndarray, form: str, mode: str | None = None) -> bytes:
    """Pixels as an image file of a format, with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(pixels)
    image = image if mode is None else image.convert(mode)
    image.save(file := io.BytesIO(), form, **({} if form in ("BMP", "GIF") else {"exif": exif}))
    return file.getvalue()


def video_files(folder: Path) -> list[bytes]:
    """A small video as H.264 in an mp4, and as an animated GIF."""
    with OverlayWriter(folder / "a.mp4", 10) as writer:
        for frame in FRAMES:
            writer.add(frame)
    first, *others = map(Image.fromarray, FRAMES)
    first.save(file := io.BytesIO(), "GIF", save_all=True, append_images=others)
    return [(folder / "a.mp4").read_bytes(), file.getvalue()]


def checkpoint(random: Random, odd: Any) -> bytes:
    """A checkpoint of the fake system, one of whose entries may be odd."""
    network = SYSTEM.network(SYSTEM.network.Config(width=2))
    config = {"network": {"width": 2}, "tracker": {"mask_threshold": 0.5}, "categories": ["cat"]}
    content = {"format": 1, "system": "fake", "config": config, "model": dict(network.state_dict())}
    content |= {"epoch": 1, "step": 2, "best": {"J&F": 1.0}, "args": {"seed": 0, "amp": "auto"}, "ema": None}
    if random.random() < 0.7:
        content = mutate_tree(content, odd, random)
    torch.save(content, file := io.BytesIO())
    return file.getvalue() if random.random() < 0.7 else mutate_bytes(file.getvalue(), random)


# ------------------------------------------------------------------------------------------------ readers


DEEP = {
    suffix: cv2.imencode(suffix, FRAMES[0].astype(np.uint16) * 99)[1].tobytes()
    for suffix in (".png", ".tiff")
}


def read_image(path: Path) -> None:
    for read in (read_header, check_end, read_frame):
        read(path)


def read_video(path: Path) -> None:
    for _ in VideoFile("a", path).frames():
        pass


def read_preset(path: Path) -> None:
    """As a command does: a mistake in it ends the program with status 2, as it does here with a UserError."""
    parser = Parser(prog="fuzz")
    add_config_flags(parser, inference.VITATracker.Config, "tracker")
    written = io.StringIO()
    try:
        with redirect_stderr(written), redirect_stdout(io.StringIO()):
            parser.parse_args([f"@{path}"])
    except SystemExit as end:
        if end.code == 0:  # it asks for the help
            return
        assert end.code == 2 and written.getvalue().count("\n") == 1
        raise UserError(written.getvalue()) from end


def read_checkpoint_file(path: Path) -> None:
    systems = {"fake": SYSTEM, **inference.SYSTEMS}
    _, config = load_network(path, {name: Loadable(s.network, s.recognise) for name, s in systems.items()})
    config_from_dict(SYSTEM.tracker.Config, config["tracker"], str(path))


def read_csv(path: Path) -> None:
    read_rows(path, epoch=1)


def read_list(path: Path) -> None:
    """A list of DAVIS, of whose folder it is `val.txt`."""
    (path.parent / "ImageSets" / "2017").mkdir(parents=True, exist_ok=True)
    shutil.copy(path, path.parent / "ImageSets" / "2017" / "val.txt")
    listed_sequences(path.parent, "val", ["2017"])


def read_meta(path: Path) -> None:
    """meta.json beside label maps: for training, for a submission, and for the conversion."""
    root = path.parent
    for kind in ("JPEGImages", "Annotations"):
        if not (root / kind).is_dir():
            write_maps(root / kind, MAPS)
    folder = VOSFolder(root)
    folder.classes_of(folder.videos[0])
    masks_to_json(root, root / "x.json", "truth", None)
    list(YOUTUBE_VOS_SERVER.requests(root, "val"))


def read_tracks(path: Path) -> None:
    """tracks.json beside results."""
    shutil.copy(path, path.parent / "tracks.json")
    results = write_json(path.parent / "results.json", RESULTS)
    shutil.rmtree(path.parent / "drawn", ignore_errors=True)
    json_to_masks(results, path.parent / "drawn", None, 0.0)


def read_results(path: Path) -> None:
    truth = write_json(path.parent / "truth.json", TRUTH)
    shutil.rmtree(path.parent / "drawn", ignore_errors=True)
    json_to_masks(path, path.parent / "drawn", truth, 0.0)
    ytvis(path, truth, tracking=True)


def read_truth(path: Path) -> None:
    results = write_json(path.parent / "results.json", RESULTS)
    ytvis(results, path)
    shutil.rmtree(path.parent / "drawn", ignore_errors=True)
    json_to_masks(path, path.parent / "drawn", None, 0.0)


def read_training_json(path: Path) -> None:
    """Annotations as training reads them: the videos, and every mask."""
    for video in JsonVideos(path, path.parent).videos:
        for frame in video.annotated:
            objects_in(video.read_mask(frame))


def read_metrics_folder(path: Path) -> None:
    """A label map among the results, and among the truth, of every protocol on label maps."""
    for place, other in (("results", "truth"), ("truth", "results")):
        folders = {name: write_maps(path.parent / name, MAPS) for name in (place, other)}
        shutil.copy(path, folders[place] / "a" / "1.png")
        for name in ("davis", "mots", "tcovis", "youtube_vos", "sav"):
            PROTOCOLS[name].score(folders["results"], folders["truth"], num_workers=0)


def read_mots(path: Path) -> None:
    truth = path.parent / "truth"
    truth.mkdir(exist_ok=True)
    (truth / "a.txt").write_bytes(MOTS)
    (path.parent / "results").mkdir(exist_ok=True)
    shutil.copy(path, path.parent / "results" / "a.txt")
    PROTOCOLS["mots"].score(path.parent / "results", truth, num_workers=0)


def as_bytes(content: Any) -> bytes:
    return json.dumps(content).encode()


LABELS = FRAMES[0, ..., 0]
CSV = b"epoch,loss/train,val/J&F\r\n1,0.5,\r\n2,0.25,60.5\r\n"
MOTS = "".join(
    f"{time} {i} 2 3 4 {encode_rle(mask)['counts']}\n"
    for time in (1, 2)
    for i, mask in ((1, LEFT), (2, RIGHT))
).encode()
PRESET = b"# few\n--beta 0.2 --max_age 3\n--similarity 'cosine'\n"
# {what is read: (valid contents, suffix, its reader)}; the mutations are of bytes, or of JSON
READERS = {
    "image": (
        [picture(FRAMES[0], form) for form in ("PNG", "JPEG", "BMP", "WEBP", "TIFF")],
        ".png",
        read_image,
    ),
    "grey_image": (
        [picture(LABELS.astype(np.uint16) * 99, form) for form in ("PNG", "TIFF")],
        ".png",
        read_image,
    ),
    "colour_of_16_bits": ([DEEP[".png"], DEEP[".tiff"]], ".png", read_image),
    "label_map": ([picture(LABELS, "PNG", mode) for mode in ("P", "L", "1")], ".png", read_label_map),
    "painted_map": (
        [
            picture(PALETTE[np.eye(4, dtype=np.uint8).repeat(6, 0).repeat(8, 1)], "PNG", mode)
            for mode in ("RGB", "RGBA")
        ],
        ".png",
        lambda path: ColourIds([path]).read(path),
    ),
    "video": ([], ".mp4", read_video),
    "boxes": ([as_bytes({"a": {"1": [1, 2, 3, 4], "2": [0, 0, 4, 0, 4, 4, 0, 4]}})], ".json", read_boxes),
    "clicks": ([as_bytes({"a": {"1": [[1, 2, 1], [3, 4, 0]]}})], ".json", read_clicks),
    "categories": ([as_bytes({"1": "cat", "2": "dog"})], ".json", read_category_names),
    "meta": ([as_bytes(META)], ".json", read_meta),
    "tracks": ([as_bytes(TRACKS)], ".json", read_tracks),
    "results": ([as_bytes(RESULTS)], ".json", read_results),
    "truth": ([as_bytes(TRUTH)], ".json", read_truth),
    "training_json": ([as_bytes(TRUTH), as_bytes(COCO)], ".json", read_training_json),
    "list": ([b"a\nb\n", b"/JPEGImages/480p/a/00000.jpg /Annotations/480p/a/00000.png\n"], ".txt", read_list),
    "mots": ([MOTS], ".txt", read_mots),
    "preset": ([PRESET], ".txt", read_preset),
    "csv": ([CSV], ".csv", read_csv),
    "checkpoint": ([], ".pth", read_checkpoint_file),
    "metrics_folder": ([picture(MAPS["a"]["1"].astype(np.uint8), "PNG")], ".png", read_metrics_folder),
}


def fuzz(name: str, folder: Path, num_inputs: int) -> tuple[int, int]:
    """Give a reader mutated files; the numbers of those that it read and refused."""
    contents, suffix, read = READERS[name]
    contents = contents or (video_files(folder) if name == "video" else [])
    path = folder / f"meta{suffix}"
    counts = Counter()

    @settings(max_examples=num_inputs, deadline=None, derandomize=True, database=None)
    @given(seed=st.integers(0, 2**32 - 1), odd=VALUES)
    def check(seed: int, odd: Any) -> None:
        random = Random(seed)
        if name == "checkpoint":
            path.write_bytes(checkpoint(random, odd))
        else:
            mutate = partial(mutate_json, odd=odd) if suffix == ".json" else mutate_bytes
            path.write_bytes(mutate(random.choice(contents), random=random))
        counts[survives(read, path)] += 1

    check()
    return counts[True], counts[False]


@pytest.mark.parametrize("name", READERS)
def test_50_broken_files_are_read_or_refused_in_a_line(name, tmp_path):
    assert sum(fuzz(name, tmp_path, 50)) >= 50


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_1000_broken_files_are_read_or_refused_in_a_line(name, tmp_path):
    assert sum(fuzz(name, tmp_path, 1000)) >= 1000
