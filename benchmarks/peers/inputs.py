"""What both programs are given: a clip, random weights in the published layout, and results to score."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.metrics import write_video
from benchmarks.peers.ours import NAMES
from benchmarks.vos import bands, draw_frames
from inference import SYSTEMS
from systems.sam_track.published import ADDED, PREFIX
from video.images import list_files, read_label_map
from video.label_maps import ids_in
from video.rle import encode_rle

OPTIONS = {"siammask": {"refine": True}, "sam": {"prompt_encoder": True}}  # beside a network's defaults
PEDESTRIAN = 2
SHARE = 0.2  # of a residual block in its sum; as it is drawn, the values would grow with every block


def three(name: str) -> str:
    """The name of a third norm in the block of a second one."""
    return name.replace("bn2", "bn3")


def write_clip(path: Path, size: tuple[int, int], frames: int, objects: int) -> None:
    """Frames of drifting noise, and the label map of the first: objects side by side."""
    torch.manual_seed(0)
    clip = torch.stack(list(draw_frames(size, frames))).permute(0, 2, 3, 1).numpy()
    np.savez(path, frames=clip, labels=bands(size, objects).labels.numpy().astype(np.uint8))


def write_weights(path: Path, program: str) -> None:
    """Random weights of the network in its published size, under the published names."""
    torch.manual_seed(0)
    kind = SYSTEMS[NAMES[program]].network
    weights = kind(kind.Config(**OPTIONS.get(program, {}))).state_dict()
    weights = {n: w for n, w in weights.items() if not n.startswith(tuple(PREFIX + part for part in ADDED))}
    for name, weight in weights.items():
        if "rel_pos" in name:  # zero before training
            torch.nn.init.normal_(weight, std=0.1)
        if name.endswith("bn3.weight") or (name.endswith("bn2.weight") and three(name) not in weights):
            weight.fill_(SHARE)
        if name == "features.features.conv1.weight":  # of SiamMask, which takes pixels of 0 to 255
            weight.div_(512)
    torch.save(weights, path)


def write_results(root: Path, size: tuple[int, int], videos: int, frames: int) -> tuple[Path, Path]:
    """Label maps of generated videos in the layout of DAVIS, and rough ones as results: the two folders."""
    truth, results = root / "DAVIS", root / "results"
    names = [str(number) for number in range(videos)]
    for name in names:
        write_video(name, truth / "Annotations" / "480p", results, frames, *size)
        folder = truth / "JPEGImages" / "480p" / name
        folder.mkdir(parents=True)
        for frame in range(frames):
            Image.new("RGB", size[::-1]).save(folder / f"{frame:05}.jpg")
    lists = truth / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("".join(f"{name}\n" for name in names))
    return truth, results


def write_mots_file(maps: Path, path: Path) -> None:
    """The label maps of a folder as a text file of MOTS, its times from 1."""
    lines = []
    for time, image in enumerate(list_files(maps, {".png"}), 1):
        labels = read_label_map(image)
        H, W = labels.shape
        for i in ids_in(labels):
            counts = encode_rle(labels == i)["counts"]
            lines.append(f"{time} {1000 * PEDESTRIAN + i} {PEDESTRIAN} {H} {W} {counts}\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))


def write_mots(root: Path, truth: Path, results: Path) -> tuple[Path, Path]:
    """The same in the layout of MOTSChallenge: the folder of the truth, and that of the results' files."""
    mots, tracked = root / "mots", root / "trackers" / "ours" / "data"
    for maps in sorted((truth / "Annotations" / "480p").iterdir()):
        write_mots_file(maps, mots / maps.name / "gt" / "gt.txt")
        write_mots_file(results / maps.name, tracked / f"{maps.name}.txt")
        frames = len(list_files(maps, {".png"}))
        (mots / maps.name / "seqinfo.ini").write_text(f"[Sequence]\nseqLength={frames}\n")
    return mots, tracked
