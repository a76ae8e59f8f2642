"""Our own protocol: the numbers of metrics.json for a folder of results."""

from functools import partial
from pathlib import Path

from annotated.videos import read_categories, read_category_names
from common.errors import UserError
from common.files import read_json
from scoring.label_folders import VideoPair, mask_root, read_pair, score_folders, true_masks, video_pairs
from scoring.report import Report, Scores, make_report, name_ids, nothing_scored
from scoring.tracker_scores import AP_NAMES, VideoScore, VideoScorer, summarise
from video.images import list_files, list_folders
from video.label_maps import objects_in


def _tcovis_video(
    pair: VideoPair, video_id: int, categories: dict[int, int] | None, prompted: bool, meta: Path
) -> VideoScore:
    """Score the annotated frames of a video; a prompted system was given each object on its first one.

    meta: the file of the categories, for the UserError where it lacks one
    """
    scorer = VideoScorer(prompted, video_id, categories)
    places = {path.name: place for place, path in enumerate(list_files(pair.result, {".png"}))}
    earlier: set[int] = set()
    for path in true_masks(pair.truth):
        truth, result = read_pair(path, pair.result / path.name)
        new = {*objects_in(truth)} - earlier
        if lacking := new - (new if categories is None else categories.keys()):
            raise UserError(f"{meta} lacks the category of {name_ids(lacking)} of video {pair.name}: add it")
        scorer.add(truth, result, new if prompted else frozenset(), places[path.name])
        earlier |= new
    return scorer.result()


def _category_ids(results: Path, annotations: Path, names: list[str]) -> list[dict[int, int]]:
    """For each video {object: the id that results.json gives its category of meta.json}.

    The ids are those of categories.json beside the results, {id: name}; a category that it lacks gets an id
    of its own, which no result has.
    """
    ids = {name: number for number, name in read_category_names(results / "categories.json").items()}
    videos = read_categories(annotations / "meta.json")
    for category in sorted({category for objects in videos.values() for category in objects.values()}):
        ids.setdefault(category, len(ids) + 1)
    return [{i: ids[category] for i, category in videos.get(name, {}).items()} for name in names]


def _video_entry(score: VideoScore) -> Scores:
    """The numbers of one video, AP aside, which is one of all videos together."""
    return {name: value for name, value in summarise([score]).items() if name not in (*AP_NAMES, "videos")}


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
    masks, truth = mask_root(results), mask_root(annotations)
    names = [pair.name for pair in video_pairs(masks, truth)]
    ranks = {name: rank for rank, name in enumerate(list_folders(masks), start=1)}
    categories = _category_ids(masks.parent, annotations, names) if use_categories else [None] * len(names)
    score = partial(_tcovis_video, prompted=prompted, meta=annotations / "meta.json")
    columns = [ranks[name] for name in names], categories
    scores, warnings = score_folders(score, masks, truth, *columns, num_workers=num_workers)
    path = masks.parent / "results.json"
    if not path.exists():
        warnings.append(f"AP is skipped: there is no {path}")
    overall = summarise(scores.values(), read_json(path) if path.exists() else None, str(path))
    warnings += nothing_scored({name: len(one.objects) for name, one in scores.items()})
    videos = {name: _video_entry(one) for name, one in scores.items()}
    return make_report("tcovis", overall, videos, warnings)
