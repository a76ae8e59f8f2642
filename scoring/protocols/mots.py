"""The protocol of MOTS on label maps, as TrackEval has it or as mots_tools, the first program, had it.

Reports are in the names and units of the official programs. UserError names the file at fault.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.parallel import process_map
from scoring.jf import pairwise_overlap, slots_of
from scoring.label_folders import MASK_FOLDERS, VideoPair, mask_root, read_pairs, score_folders, true_masks
from scoring.mots_files import mots_pairs, read_mots_pairs
from scoring.protocols.mots_tools import MotsToolsAccumulator, MotsToolsCounts
from scoring.report import Report, Scores, make_report, nothing_scored
from scoring.tracking_scores import TrackingAccumulator, TrackingScore, outside_ignored
from video.images import MOTS_IGNORE, MOTS_MASKS
from video.label_maps import IGNORE, ids_in

MOTS_FOLDERS = (*MASK_FOLDERS, MOTS_MASKS)  # below the root of a data set


def ignored_region(truth: np.ndarray) -> np.ndarray:
    """(H, W) bool: where an annotation of 8 or 16 bits says that results are to be ignored."""
    return truth == (MOTS_IGNORE if truth.dtype.itemsize > 1 else IGNORE)


def frame_pairs(pair: VideoPair) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """For each frame its name, and the (H, W) label maps of truth and result, be they files or MOTS files."""
    if pair.truth.is_file() or pair.result.is_file():
        yield from read_mots_pairs(pair)
        return
    paths = true_masks(pair.truth)
    for path, (truth, result) in zip(paths, read_pairs(paths, pair.result), strict=True):
        yield path.stem, truth, result


def _mots_frames(pair: VideoPair) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
    """For each frame its name, and (K,) true ids, (N,) result ids, their (K, N) IoU, (N,) ignored shares."""
    for name, truth, result in frame_pairs(pair):
        ignored = ignored_region(truth)
        maps = np.where(ignored, 0, truth), result
        truth_ids, result_ids = (np.array(ids_in(labels), dtype=np.int64) for labels in maps)
        result_slots, N = slots_of(result, result_ids), len(result_ids)
        overlap = pairwise_overlap(slots_of(truth, truth_ids), result_slots, len(truth_ids), N)
        ignored_pixels = np.bincount(result_slots[ignored], minlength=N + 1)[1:]
        yield name, (truth_ids, result_ids, overlap.iou, ignored_pixels / overlap.prediction_area)


def score_by_trackeval(pair: VideoPair) -> tuple[TrackingScore, Scores]:
    """TrackEval's counts of a video, and its entry in the report."""
    accumulator, frames = TrackingAccumulator(), []
    for name, (truth_ids, result_ids, iou, ignored_share) in _mots_frames(pair):
        frames.append(name)
        kept = outside_ignored(iou, ignored_share)
        accumulator.add(truth_ids, result_ids[kept], iou[:, kept])
    score = accumulator.score()
    switches = [{**s._asdict(), "frame": frames[s.frame]} for s in score.clear.switches]
    return score, {**_mots_summary(score), "switches": switches}


def score_by_mots_tools(pair: VideoPair) -> tuple[MotsToolsCounts, Scores]:
    """The counts of mots_tools of a video, and its entry in the report."""
    accumulator = MotsToolsAccumulator()
    for _, frame in _mots_frames(pair):
        accumulator.add(*frame)
    return accumulator.score(), accumulator.score().scores()


def _mots_summary(score: TrackingScore) -> Scores:
    hota, clear = score.hota.scores(), score.clear.scores()
    per_alpha = {name: hota[name].tolist() for name in ("HOTA", "DetA", "AssA", "LocA")}
    return {
        **{name: float(np.mean(values)) for name, values in per_alpha.items()},
        "IDF1": score.identity.scores()["IDF1"],
        "IDSW": clear["IDSW"],
        "MOTSA": clear["MOTA"],
        "sMOTSA": clear["sMOTA"],
        "MOTSP": clear["MOTP"],
        "Frag": clear["Frag"],
        "per_alpha": per_alpha,
        "Count": score.size.scores(),
    }


def mots(results: Path, annotations: Path, *, definition: str = "trackeval", num_workers: int = 0) -> Report:
    """MOTS on label maps of 8 or 16 bits, or on MOTS files, in fractions of 1; all ids are of one class.

    MOTS files <sequence>.txt hold lines `time id class height width rle`; the truth may be in instances_txt,
    <sequence>/gt/gt.txt, or instances/<sequence> as label maps. --submission writes them of label maps named
    by their times; where all ids of a sequence reach 1000 they tell the class, else it is 2, pedestrian.

    definition: trackeval: HOTA, IDF1 and the MOTSA family, and each video lists its id switches (frame, true
    object, old and new id); mots_tools: the MOTSA family as the first program had it, which matches above an
    IoU of 0.5, not at it, and counts fragments in another way

    Regions to ignore: id 10000 of 16-bit annotations, 255 of 8-bit ones, class 10 of MOTS files.
    """
    definitions = {
        "trackeval": (
            score_by_trackeval,
            TrackingScore.total,
            _mots_summary,
            lambda counts: counts.size.truth_detections,
        ),
        "mots_tools": (
            score_by_mots_tools,
            MotsToolsCounts.total,
            MotsToolsCounts.scores,
            lambda counts: counts.tp + counts.fn,
        ),
    }
    if definition not in definitions:
        raise UserError(f"unknown definition {definition}: choose among {', '.join(definitions)}")
    score, total, summarise, num_true = definitions[definition]
    roots = mask_root(results), mask_root(annotations, MOTS_FOLDERS)
    if pairs := mots_pairs(*roots):
        scores, warnings = process_map(score, pairs, num_workers=num_workers), []
        scored = {pair.name: one for pair, one in zip(pairs, scores, strict=True)}
    else:
        scored, warnings = score_folders(score, *roots, num_workers=num_workers)
    overall = summarise(total(counts for counts, _ in scored.values()))
    videos = {name: entry for name, (_, entry) in scored.items()}
    warnings += nothing_scored({name: num_true(counts) for name, (counts, _) in scored.items()})
    return make_report("mots", overall, videos, warnings, definition=definition)
