"""The table of scoring protocols for folders and files of results: those of the field, and our own.

Each takes (results, annotations, **options) and returns the report of `score_report`, in the names and units
of the official program. UserError names the file at fault.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from common.davis_protocols import davis, davis_unsupervised
from common.errors import UserError
from common.mask_folders import (
    VideoPair,
    ids_in,
    mask_root,
    read_pair,
    read_pairs,
    score_each,
    true_masks,
    video_pairs,
    videos_without_truth,
)
from common.metrics import pairwise_overlap, slots_of
from common.mots_tools import MotsToolsAccumulator, MotsToolsCounts
from common.score_report import Report, Scores, make_report, name_ids
from common.tracking_metrics import TrackingAccumulator, TrackingScore, outside_ignored
from common.types import IGNORE
from common.video_scores import AP_NAMES, VideoScore, VideoScorer, summarise
from common.vos_dataset import list_files, list_folders, read_categories
from common.vos_protocols import sav, youtube_vos
from common.ytvis_protocol import read_json, ytvis

MOTS_IGNORE = 10_000  # the id of regions to ignore in a 16-bit MOTS annotation


def _mots_frames(pair: VideoPair) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """For each frame (K,) true ids, (N,) result ids, their (K, N) IoU, and (N,) the ignored share of each."""
    for truth, result in read_pairs(true_masks(pair.truth), pair.result):
        ignored = truth == (MOTS_IGNORE if truth.dtype.itemsize > 1 else IGNORE)
        maps = np.where(ignored, 0, truth), result
        truth_ids, result_ids = (np.array(ids_in(labels), dtype=np.int64) for labels in maps)
        result_slots, N = slots_of(result, result_ids), len(result_ids)
        overlap = pairwise_overlap(slots_of(truth, truth_ids), result_slots, len(truth_ids), N)
        ignored_pixels = np.bincount(result_slots[ignored], minlength=N + 1)[1:]
        yield truth_ids, result_ids, overlap.iou, ignored_pixels / overlap.prediction_area


def score_by_trackeval(pair: VideoPair) -> tuple[TrackingScore, Scores]:
    """TrackEval's counts of a video, and its entry in the report."""
    accumulator = TrackingAccumulator()
    for truth_ids, result_ids, iou, ignored_share in _mots_frames(pair):
        kept = outside_ignored(iou, ignored_share)
        accumulator.add(truth_ids, result_ids[kept], iou[:, kept])
    score = accumulator.score()
    frames = [path.stem for path in true_masks(pair.truth)]
    switches = [{**s._asdict(), "frame": frames[s.frame]} for s in score.clear.switches]
    return score, {**_mots_summary(score), "switches": switches}


def score_by_mots_tools(pair: VideoPair) -> tuple[MotsToolsCounts, Scores]:
    """The counts of mots_tools of a video, and its entry in the report."""
    accumulator = MotsToolsAccumulator()
    for frame in _mots_frames(pair):
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
    """MOTS on label maps of 8 or 16 bits, in fractions of 1; all ids are of one class.

    definition: trackeval: HOTA, IDF1 and the MOTSA family, and each video lists its id switches (frame, true
    object, old and new id); mots_tools: the MOTSA family as the first program had it, which matches above an
    IoU of 0.5, not at it, and counts fragments in another way
    Regions to ignore are the pixels of id 10000 in a 16-bit annotation and 255 in one of 8 bits.
    """
    definitions = {
        "trackeval": (score_by_trackeval, TrackingScore.total, _mots_summary),
        "mots_tools": (score_by_mots_tools, MotsToolsCounts.total, MotsToolsCounts.scores),
    }
    if definition not in definitions:
        raise UserError(f"unknown definition {definition}: choose among {', '.join(definitions)}")
    score, combine, summarise = definitions[definition]
    pairs = video_pairs(mask_root(results), mask_root(annotations))
    counts, entries = zip(*score_each(score, pairs, num_workers=num_workers), strict=True)
    videos = {pair.name: entry for pair, entry in zip(pairs, entries, strict=True)}
    warnings = videos_without_truth(mask_root(results), mask_root(annotations))
    return make_report("mots", summarise(combine(counts)), videos, warnings, definition=definition)


def _tcovis_video(
    pair: VideoPair, video_id: int, categories: dict[int, int] | None, prompted: bool, meta: Path
) -> VideoScore:
    """Score the annotated frames of a video; a prompted system was given each object on its first one.

    meta: the file of the categories, for the UserError where it lacks one
    """
    scorer = VideoScorer(prompted, video_id, categories)
    places = {path.name: place for place, path in enumerate(list_files(pair.result, {".png"}))}
    seen: set[int] = set()
    for path in true_masks(pair.truth):
        truth, result = read_pair(path, pair.result / path.name)
        new = {*ids_in(truth)} - {IGNORE} - seen
        if lacking := new - (new if categories is None else categories.keys()):
            raise UserError(f"{meta} lacks the category of {name_ids(lacking)} of video {pair.name}: add it")
        scorer.add(truth, result, new if prompted else frozenset(), places[path.name])
        seen |= new
    return scorer.result()


def _category_ids(results: Path, annotations: Path, names: list[str]) -> list[dict[int, int]]:
    """For each video {object: the id that results.json gives its category of meta.json}.

    The ids are those of categories.json beside the results, {id: name}; a category that it lacks gets an id
    of its own, which no result has.
    """
    path = results / "categories.json"
    content = read_json(path) if path.is_file() else {}
    try:
        ids = {name: int(number) for number, name in content.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f'{path} has not the form {{"1": "cat", ...}} ({error}): write it anew') from error
    named = read_categories(annotations / "meta.json")
    for category in sorted({category for objects in named.values() for category in objects.values()}):
        ids.setdefault(category, len(ids) + 1)
    return [{i: ids[category] for i, category in named.get(name, {}).items()} for name in names]


def tcovis(
    results: Path,
    annotations: Path,
    *,
    prompted: bool = False,
    use_categories: bool = False,
    num_workers: int = 0,
) -> Report:
    """The numbers of metrics.json, in percent, for a folder of inference.py; AP comes from its results.json.

    prompted: whether the system was given each object on its first annotated frame
    use_categories: whether AP tells the categories of meta.json in `annotations` apart
    """
    masks = mask_root(results)
    pairs = video_pairs(masks, mask_root(annotations))
    ranks = {name: rank for rank, name in enumerate(list_folders(masks), start=1)}
    names = [pair.name for pair in pairs]
    categories = _category_ids(masks.parent, annotations, names) if use_categories else [None] * len(pairs)
    score = partial(_tcovis_video, prompted=prompted, meta=annotations / "meta.json")
    scores = score_each(score, pairs, [ranks[name] for name in names], categories, num_workers=num_workers)
    videos = {}
    for name, one in zip(names, scores, strict=True):
        numbers = summarise([one])
        videos[name] = {key: value for key, value in numbers.items() if key not in (*AP_NAMES, "videos")}
    warnings, path = videos_without_truth(masks, mask_root(annotations)), masks.parent / "results.json"
    if not path.is_file():
        warnings.append(f"AP is skipped: there is no {path}")
    overall = summarise(scores, read_json(path) if path.is_file() else None, str(path))
    return make_report("tcovis", overall, videos, warnings)


PROTOCOLS: dict[str, Callable[..., Report]] = {
    "tcovis": tcovis,
    "davis": davis,
    "davis_unsupervised": davis_unsupervised,
    "sav": sav,
    "youtube_vos": youtube_vos,
    "ytvis": ytvis,
    "mots": mots,
}
