"""A report is one file that says what was measured: pictures inside, nothing from elsewhere."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from scoring.protocols.table import PROTOCOLS
from tools.evidence import report as report_module
from tools.evidence.label_maps import ScoredResults, rules_of
from tools.evidence.report import write_report
from video.writer import OverlayWriter

EMPTY_TAGS = {"meta", "img", "br"}
SWAPPED = "true object 1 goes from id 1 to id 2"


class Page(HTMLParser):
    """What a page holds; asserts that its tags are closed in their order."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def values(self, tag: str, name: str) -> list[str]:
        return [attributes[name] for t, attributes in self.tags if t == tag and name in attributes]

    def pictures(self) -> list[Image.Image]:
        encoded = [uri.removeprefix("data:image/jpeg;base64,") for uri in self.values("img", "src")]
        return [Image.open(io.BytesIO(base64.b64decode(one, validate=True))) for one in encoded]


def boxes(dtype: type = np.uint8, **left: int) -> np.ndarray:
    """(30, 60) label map of 10 x 10 squares; `o3=10` is object 3 with its left edge at column 10."""
    labels = np.zeros((30, 60), dtype=dtype)
    for name, column in left.items():
        labels[5:15, column : column + 10] = int(name[1:])
    return labels


STILL = [boxes(o1=2, o2=30)] * 6
SWAP = [boxes(o1=3, o2=30)] * 4 + [boxes(o2=2, o1=32)] * 2


def write(folder: Path, maps, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True)
    for frame, labels in enumerate(maps):
        Image.fromarray(labels).save(folder / f"{frame:05d}{suffix}")
    return folder


def data_set(root: Path, truth, *results, name: str = "cat", frames: bool = True) -> None:
    """Add a video to a YouTube-VOS root with orange frames, and to the results R0, R1, ... beside it."""
    write(root / "data" / "Annotations" / name, truth)
    for number, maps in enumerate(results):
        write(root / f"R{number}" / name, maps)
    if frames:
        orange = np.full((*truth[0].shape, 3), (250, 150, 0), dtype=np.uint8)
        write(root / "data" / "JPEGImages" / name, [orange] * len(truth), ".jpg")


def scored_by(protocol: str, results: Path, annotations: Path) -> ScoredResults:
    row = PROTOCOLS[protocol]
    return ScoredResults(row.score(results, annotations), results, annotations, rules_of(row, {}))


def page_of(root: Path, protocol: str = "tcovis", against: bool = False, **options) -> Page:
    scored = [scored_by(protocol, root / f"R{number}", root / "data") for number in range(1 + against)]
    write_report(root / "report.html", scored[0], against=scored[1] if against else None, **options)
    return Page((root / "report.html").read_text(encoding="utf-8"))


def ground_of(page: Page) -> tuple[int, ...]:
    """The colour below the objects in the first cell of the first picture."""
    return page.pictures()[0].getpixel((20, 150))


def test_a_swap_is_shown_with_its_overlaps_and_nothing_comes_from_elsewhere(tmp_path):
    data_set(tmp_path, STILL, SWAP)
    page = page_of(tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "://" not in html and "<script" not in html and "@import" not in html and "url(" not in html
    assert not {"link", "script", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert all(uri.startswith("data:") for uri in page.values("img", "src"))
    assert all(page.values("img", "alt")) and len(page.values("img", "alt")) == len(page.pictures())
    assert SWAPPED in page.text and "true object 2 goes from id 2 to id 1" in page.text
    assert "true objects 1 and 2 exchanged their ids" in page.text
    assert "drawn on grey" not in page.text
    assert len(page.pictures()) == 4  # two switches, two objects
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.values("a", "href")} <= set(ids)


def test_results_have_the_colours_of_the_objects_that_they_are_matched_with(tmp_path):
    data_set(tmp_path, STILL, [boxes(o2=2, o1=30)] * 6)
    (picture, *_) = page_of(tmp_path).pictures()
    cell = np.asarray(picture.convert("RGB"), dtype=int)
    half = cell.shape[0] // 2
    squares = cell[50:85, 20:60], cell[half + 50 : half + 85, 20:60]  # object 1, of the truth and as id 2
    means = [square.mean((0, 1)) for square in squares]
    assert means[0] == pytest.approx(means[1], abs=6) and means[0][0] > means[0][1] + 60


def test_the_frames_of_a_switch_are_the_last_good_one_and_those_around_it(tmp_path):
    results = [boxes(o1=2)] + [boxes()] * 4 + [boxes(o7=2)] * 3
    data_set(tmp_path, [boxes(o1=2)] * 8, results)
    alt = page_of(tmp_path).values("img", "alt")[0]
    assert alt == "Label maps of video cat in frames 00000, 00004, 00005, 00006; rows: truth, result"


def test_a_switch_on_the_last_frame_has_nothing_after_it(tmp_path):
    data_set(tmp_path, [boxes(o1=2)] * 2, [boxes(o1=2), boxes(o2=2)])
    assert "frames 00000, 00001; rows" in page_of(tmp_path).values("img", "alt")[0]


def test_a_video_without_switches_says_so(tmp_path):
    data_set(tmp_path, STILL, STILL)
    page = page_of(tmp_path)
    assert "There are no ID switches." in page.text and "goes from" not in page.text


def test_empty_results_and_videos_without_objects_have_a_report_too(tmp_path):
    data_set(tmp_path, STILL, [boxes()] * 6)
    data_set(tmp_path, [boxes()], [boxes(o1=3)], name="dog")
    page = page_of(tmp_path)
    assert "J&F 0.000" in page.text and "Result id: none" in page.text
    assert len(page.pictures()) == 2


def test_ids_of_16_bits_are_shown(tmp_path):
    truth = [boxes(np.uint16, o2001=2, o10000=40)] * 2
    data_set(tmp_path, truth, [boxes(np.uint16, o300=2), boxes(np.uint16, o60000=2)])
    page = page_of(tmp_path, "mots")
    assert "true object 2001 goes from id 300 to id 60000" in page.text


@pytest.mark.parametrize(
    ("protocol", "annotations"),
    [("davis", "data"), ("davis_unsupervised", "data/Annotations"), ("sav", "data")],
)
def test_every_protocol_on_label_maps_has_a_report(tmp_path, protocol, annotations):
    data_set(tmp_path, STILL, SWAP)
    write_report(tmp_path / "a.html", scored_by(protocol, tmp_path / "R0", tmp_path / annotations))
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert SWAPPED in page.text and "drawn on grey" not in page.text


def test_label_maps_without_frames_are_drawn_on_grey(tmp_path):
    data_set(tmp_path, STILL, SWAP, frames=False)
    page = page_of(tmp_path)
    assert re.search(r"(\d) of the \1 frames shown were not found in a folder JPEGImages beside", page.text)
    assert ground_of(page) == pytest.approx((128, 128, 128), abs=4)


def test_frames_are_looked_for_where_the_user_says(tmp_path):
    data_set(tmp_path, STILL, SWAP, frames=False)
    write(tmp_path / "frames" / "cat", [np.full((60, 120, 3), (0, 0, 200), dtype=np.uint8)] * 6)
    page = page_of(tmp_path, video_root=tmp_path / "frames")
    assert "drawn on grey" not in page.text
    assert ground_of(page) == pytest.approx((0, 0, 200), abs=8)
    (tmp_path / "frames" / "cat" / "00003.png").unlink()
    page = page_of(tmp_path, video_root=tmp_path / "frames")
    assert re.search(rf"1 of the \d frames shown were not found in {tmp_path / 'frames'}:", page.text)


def test_frames_may_come_from_a_video_file(tmp_path):
    pytest.importorskip("av")
    data_set(tmp_path, STILL, SWAP, frames=False)
    with OverlayWriter(tmp_path / "films" / "cat.mp4", 10.0) as film:
        for _ in STILL:
            film.add(np.full((60, 120, 3), (0, 0, 200), dtype=np.uint8))
    page = page_of(tmp_path, video_root=tmp_path / "films")
    assert "drawn on grey" not in page.text
    assert ground_of(page) == pytest.approx((0, 0, 200), abs=12)


def test_names_of_videos_are_no_html(tmp_path):
    name = '<b onload="x">&amp; 100% #1'
    data_set(tmp_path, STILL, SWAP, [boxes()] * 6, name=name)
    page = page_of(tmp_path, against=True)
    assert name in page.text and "b" not in {tag for tag, _ in page.tags}
    assert f"Label maps of video {name} in frames" in page.values("img", "alt")[0]
    anchors = {attributes.get("id") for _, attributes in page.tags}
    assert {link[1:] for link in page.values("a", "href")} <= anchors


def test_two_results_stand_side_by_side_with_the_largest_difference_first(tmp_path):
    data_set(tmp_path, STILL, SWAP, STILL, name="cat")
    data_set(tmp_path, STILL, STILL, [boxes(o1=2)] * 2 + [boxes(o2=30)] * 4, name="dog")
    data_set(tmp_path, STILL, STILL, STILL, name="elk")
    page = page_of(tmp_path, "davis", against=True)
    alts = page.values("img", "alt")
    assert [alt.split()[4] for alt in alts[:2]] == ["dog", "cat"]
    assert alts[0].endswith("rows: truth, result, against") and "elk" not in "".join(alts[:2])
    order = [page.text.index(f"{name}: J&F-Mean") for name in ("dog", "cat")]
    assert order == sorted(order) and "elk: J&F-Mean" not in page.text
    heights = [picture.height for picture in page.pictures()]
    assert heights[0] == pytest.approx(1.5 * heights[2], abs=4)


def test_results_that_do_not_differ_are_compared_by_their_numbers_alone(tmp_path):
    data_set(tmp_path, STILL, SWAP, SWAP)
    assert "against" not in page_of(tmp_path, "davis").text
    text = page_of(tmp_path, "davis", against=True).text
    assert "cat: J&F-Mean" not in text and "against" in text


def test_switches_beyond_the_limit_are_counted_but_not_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, "MAX_SWITCHES", 3)
    results = [boxes(**{f"o{1 + t % 2}": 2}) for t in range(8)]
    data_set(tmp_path, [boxes(o1=2)] * 8, results)
    page = page_of(tmp_path)
    assert "ID switches: 7; the first 3 are shown" in page.text
    assert page.text.count("true object 1 goes from") == 3
    assert len([tag for tag, _ in page.tags if tag == "circle"]) == 7


def test_the_ten_worst_objects_are_shown_worst_first(tmp_path):
    ids = range(1, 13)
    truth = [np.kron(np.arange(1, 13, dtype=np.uint8).reshape(3, 4), np.ones((10, 10), dtype=np.uint8))] * 3
    result = truth[0].copy()
    for i in ids:
        rows, columns = np.nonzero(result == i)
        result[rows[: 5 * i], columns[: 5 * i]] = 0
    data_set(tmp_path, truth, [result] * 3)
    worst = re.findall(r"true object (\d+): J&F", page_of(tmp_path, "davis").text)
    objects = PROTOCOLS["davis"].score(tmp_path / "R0", tmp_path / "data")["videos"]["cat"]["objects"]
    scores = {name: one["J-Mean"] + one["F-Mean"] for name, one in objects.items()}
    assert worst == sorted(scores, key=scores.get)[:10] and len(set(scores.values())) == 12


def test_the_plot_has_a_broken_line_for_each_object(tmp_path):
    truth = [boxes(o1=2, o2=30)] * 2 + [boxes(o1=2)] * 2 + [boxes(o1=2, o2=30)] * 2
    data_set(tmp_path, truth, truth)
    html = page_of(tmp_path) and (tmp_path / "report.html").read_text(encoding="utf-8")
    lines = re.findall(r'<path d="([^"]*)" stroke="[^"]*" stroke-dasharray="[^"]*"><title>object (\d)', html)
    parts = [(number, path.count("M"), path.count(" ")) for path, number in lines]
    assert parts == [("1", 1, 11), ("2", 2, 6)]


def test_the_same_evidence_gives_the_same_file_whoever_works_on_it(tmp_path):
    for name in ("cat", "dog"):
        data_set(tmp_path, STILL, SWAP, name=name)
    page_of(tmp_path)
    alone = (tmp_path / "report.html").read_bytes()
    page_of(tmp_path, num_workers=2)
    assert (tmp_path / "report.html").read_bytes() == alone


def test_what_cannot_be_read_leaves_no_file(tmp_path):
    data_set(tmp_path, STILL, SWAP)
    with pytest.raises(UserError, match="nowhere"):
        page_of(tmp_path, video_root=tmp_path / "nowhere")
    ap = {"protocol": "ytvis", "overall": {"AP": 0.5}, "videos": {"1": {"objects": 1, "results": 1}}}
    with pytest.raises(UserError, match="label maps"):
        scored = ScoredResults(ap, tmp_path / "R0", tmp_path / "data", rules_of(PROTOCOLS["ytvis"], {}))
        write_report(tmp_path / "report.html", scored)
    assert not (tmp_path / "report.html").exists()


def test_frames_of_mots_are_found_beside_the_folder_instances(tmp_path):
    write(tmp_path / "data/instances/cat", STILL)
    write(tmp_path / "R0/cat", SWAP)
    orange = np.full((*STILL[0].shape, 3), (250, 150, 0), dtype=np.uint8)
    write(tmp_path / "data/cat/img1", [orange] * len(STILL), ".jpg")
    page = page_of(tmp_path, "mots")
    assert SWAPPED in page.text and "drawn on grey" not in page.text
