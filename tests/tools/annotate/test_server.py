"""The server of the page: who is let in, what is answered, and that nothing else can be read or is left."""

import http.client
import io
import json
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import inference
from common.errors import UserError
from common.types import Prompt
from systems.sam_track.cutter import cutter_of
from tests.support.annotating import SIZE, ShiftingTracker, SquareCutter, make_video, served, square
from tests.support.commands import ROOT, assert_refused, files_in, run_here
from tests.support.sam_networks import small_network
from tests.support.waiting import SECONDS, wait_for
from tools.annotate.clicks import ClickMasks
from tools.annotate.server import remove_left
from tracking.config import RunConfig, check_flags
from video.images import read_label_map


@pytest.fixture
def cutter():
    return SquareCutter()


@pytest.fixture
def page(tmp_path, cutter):
    """A function that asks the server of two videos: (status, headers, body)."""
    videos = [make_video(tmp_path / "videos" / name, 12) for name in ("bear", "walk")]
    with served(ShiftingTracker(), videos, tmp_path / "output", cutter) as (annotator, port):

        def ask(method: str, path: str, body: bytes | None = None, **headers: str):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
            sent = {"X-Token": annotator.token} | {name.replace("_", "-"): v for name, v in headers.items()}
            connection.request(method, path, body, sent)
            reply = connection.getresponse()
            content = reply.read()
            connection.close()
            return reply.status, reply.headers, content

        yield ask


def json_of(answer):
    assert answer[0] == 200, answer[2]
    return json.loads(answer[2])


def status_at_end(page) -> dict:
    """What the server says when nothing runs any more."""
    status = {}

    def ended() -> bool:
        status.update(json_of(page("GET", "/status")))
        return not (status["running"] or status["results"]["running"])

    wait_for(ended)
    return status


def painted(labels: np.ndarray) -> bytes:
    return labels.astype("<u2").tobytes()


@pytest.mark.parametrize("token", ["", "wrong", "ü"])
def test_without_the_token_nothing_of_the_user_is_told_or_changed(page, tmp_path, token):
    for method, path in (("GET", "/frame?n=0"), ("GET", "/status"), ("PUT", "/labels?n=0"), ("POST", "/run")):
        status, _, body = page(method, path, b"", X_Token=token.encode("latin-1").decode("latin-1"))
        assert status == 403 and b"token" in body
    assert not (tmp_path / "output" / "prompts").exists()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "192.168.0.7"]
)
def test_a_name_of_another_host_is_refused(page, host):
    assert page("GET", "/", Host=host)[0] == 403
    assert page("GET", "/status", Host=host)[0] == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "localhost", "127.0.0.1"])
def test_a_forwarded_port_is_served(page, host):
    assert page("GET", "/", Host=host)[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/../inference.py", "/server.py", "/%2e%2e/x", "//etc/passwd", "/frame/../../etc/passwd", "/page.js/"],
)
def test_no_file_but_those_of_the_page_is_read(page, path):
    assert page("GET", path)[0] == 404


def test_no_other_site_may_frame_or_read_the_page(page):
    _, headers, body = page("GET", "/")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert (headers["Cross-Origin-Resource-Policy"], headers["X-Content-Type-Options"]) == (
        "same-origin",
        "nosniff",
    )
    assert b"<title>" in body and "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("query", ["n=12", "n=-1", "n=x", "n=1e3", "n=%C2%B2", "n=99999999999"])
def test_a_frame_that_is_none_is_refused(page, query):
    assert page("GET", f"/frame?{query}")[0] in (400, 409)
    assert page("GET", f"/labels?{query}")[0] in (400, 409)


def test_a_frame_is_shown_as_it_is(page):
    status, headers, body = page("GET", "/frame?n=7")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    picture = np.asarray(Image.open(io.BytesIO(body)))
    assert picture.shape == (*SIZE, 3) and abs(int(picture[0, 0, 0]) - 70) <= 3


def test_what_was_painted_is_a_palette_map_of_exactly_these_ids(page, tmp_path):
    labels = square(3, 4, track=254)
    labels[20, 31] = 1
    assert json_of(page("PUT", "/labels?n=5", painted(labels)))["prompted"] == [5]
    path = tmp_path / "output" / "prompts" / "bear" / "f5.png"
    assert Image.open(path).mode == "P" and np.array_equal(read_label_map(path), labels)
    _, headers, body = page("GET", "/labels?n=5")
    assert headers["X-Origin"] == "prompt" and body == painted(labels)
    assert json_of(page("PUT", "/labels?n=5", painted(0 * labels)))["prompted"] == []
    assert not path.exists()


@pytest.mark.parametrize("size", [0, 1, 2 * 24 * 32 - 1, 2 * 24 * 32 + 1, 10**9])
def test_a_map_of_another_size_is_refused(page, tmp_path, size):
    body = bytes(size) if size < 10**6 else b""
    assert page("PUT", "/labels?n=5", body, Content_Length=str(size))[0] in (409, 413)
    assert not (tmp_path / "output" / "prompts").exists()


def clicked(*clicks: list[float], track: object = 3) -> bytes:
    return json.dumps({"object": track, "clicks": clicks}).encode()


def test_clicks_are_cut_out_of_their_frame_which_is_encoded_once(page, tmp_path, cutter):
    for clicks in ([[10, 8, 1]], [[10, 8, 1], [12, 8, 0]]):
        status, _, body = page("POST", "/click?n=4", clicked(*clicks))
        expected = square(6, 8, track=1, side=5)
        expected[7:10, 11:14] *= len(clicks) == 1
        assert status == 200 and np.array_equal(np.frombuffer(body, np.uint8).reshape(SIZE), expected)
    page("POST", "/click?n=5", clicked([10, 8, 1]))
    page("POST", "/open?n=1")
    page("POST", "/click?n=5", clicked([10, 8, 1]))
    assert cutter.encoded == [40, 50, 50]
    assert not (tmp_path / "output" / "prompts").exists()  # the page paints


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "clicks are sent as"),
        (b"[[1, 2, 1]]", "clicks are sent as"),
        (b"[" * 1500, "clicks are sent as"),
        (b'{"object": 1}', "clicks are sent as"),
        (clicked([1, 2, 1], track=0), "whole numbers from 1"),
        (clicked([1, 2, 1], track="1"), "whole numbers from 1"),
        (clicked([1, 2, 1], track=255), "whole numbers from 1"),
        (clicked(), "are no clicks"),
        (clicked([1, 2]), "is no click"),
        (clicked([1, 2, 5]), "another label"),
        (clicked([1, 2, 0]), "no click on the object itself"),
        (clicked([32, 2, 1]), "outside of the frame of 32x24"),
        (b'{"object": 1, "clicks": [[NaN, 2, 1]]}', "is no click"),
    ],
)
def test_clicks_that_are_none_are_refused(page, body, reason):
    status, _, reply = page("POST", "/click?n=4", body)
    assert status == 409 and reason in json.loads(reply)["error"]


def test_clicks_are_for_who_has_the_token_on_frames_that_there_are_and_small(page):
    body = clicked([10, 8, 1])
    assert page("POST", "/click?n=4", body, X_Token="wrong")[0] == 403
    assert page("POST", "/click?n=4", body, Host="evil.example")[0] == 403
    assert page("POST", "/click?n=12", body)[0] == 409
    assert page("POST", "/click?n=4", body, Content_Length="99999")[0] == 413


def test_without_a_cutter_clicks_are_refused_with_the_remedy(tmp_path):
    video = make_video(tmp_path / "clip", 2)
    with served(ShiftingTracker(), [video], tmp_path / "output") as (annotator, _):
        with pytest.raises(UserError, match="start it with --cut sam_vit_b"):
            annotator.click(0, clicked([10, 8, 1]))


def test_a_click_on_the_page_marks_what_sam_cuts_out_there(tmp_path):
    sam = cutter_of(small_network(prompt_encoder=True))
    picture = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    mask = ClickMasks(sam, RunConfig(device="cpu", amp="off")).cut("clip", 0, picture, 3, [(10.0, 8.0, 1)])
    frame = torch.from_numpy(picture).permute(2, 0, 1)
    expected = sam.cut(frame, Prompt(clicks={3: [(10.0, 8.0, 1)]})).labels
    assert mask.shape == SIZE and mask.any() and np.array_equal(3 * mask, expected.numpy())


def test_a_run_and_its_results_are_those_of_the_prompts(page, tmp_path):
    page("PUT", "/labels?n=1", painted(square(3, 4)))
    assert json_of(page("POST", "/run"))["error"] == ""
    assert status_at_end(page)["tracked"] == 12
    tracked = [page("GET", f"/labels?n={k}")[2] for k in range(12) if k != 1]
    page("POST", "/results")
    results = status_at_end(page)["results"]
    assert results["done"] and results["error"] == ""
    output = tmp_path / "output"
    maps = [read_label_map(output / "Annotations" / "bear" / f"f{k}.png") for k in range(12) if k != 1]
    assert [painted(labels) for labels in maps] == tracked
    assert list(json.loads((output / "tracks.json").read_text())) == ["bear"]  # walk has no prompt
    assert (output / "overlays" / "bear.mp4").exists()


def test_another_video_is_opened_with_its_own_prompts(page):
    page("PUT", "/labels?n=1", painted(square(3, 4)))
    facts = json_of(page("POST", "/open?n=1"))
    assert (facts["video"], facts["prompted"], facts["videos"]) == (1, [], ["bear", "walk"])
    assert json_of(page("POST", "/open?n=0"))["prompted"] == [1]
    status, _, body = page("POST", "/open?n=2")
    assert (status, json.loads(body)) == (409, {"error": "there is no video 2"})


def test_a_video_that_cannot_be_opened_leaves_the_former_one_open(page, tmp_path):
    bad = tmp_path / "output" / "prompts" / "walk" / "f0.png"
    bad.parent.mkdir(parents=True)
    Image.new("P", (5, 5), 1).save(bad)
    status, _, body = page("POST", "/open?n=1")
    assert status == 409 and "f0.png is 5x5" in json.loads(body)["error"]
    assert json_of(page("POST", "/open?n=0"))["video"] == 0
    assert len(list((tmp_path / "output").glob(".annotate.*"))) == 1


def test_a_folder_that_no_session_wrote_is_never_removed(tmp_path):
    (tmp_path / ".annotate.mine").mkdir()
    (tmp_path / ".annotate.mine" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"thesis\.txt was not written by this page"):
        remove_left(tmp_path)
    assert (tmp_path / ".annotate.mine" / "thesis.txt").read_text() == "mine"


def test_the_command_serves_until_it_is_interrupted_and_leaves_prompts_alone(trained, small_data, tmp_path):
    output = tmp_path / "output"
    (output / ".annotate.killed").mkdir(parents=True)
    flags = [
        "--checkpoint",
        trained.run / "best.pth",
        "--video_root",
        small_data / "valid",
        "--device",
        "cpu",
    ]
    command = [sys.executable, ROOT / "inference.py", "--annotate", *flags, "--output", output]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        port, token = re.search(r"http://127\.0\.0\.1:(\d+)/#(\S+)", process.stdout.readline()).groups()
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=SECONDS)
        connection.request("POST", "/open", headers={"X-Token": token})
        height, width = json.loads(connection.getresponse().read())["size"]
        body = painted(np.ones((height, width)))
        connection.request("PUT", "/labels?n=0", body, headers={"X-Token": token})
        assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130
        assert "--prompt_frames all" in process.stdout.read()
    assert all(name.startswith("prompts/") for name in files_in(output)) and len(files_in(output)) == 1
    assert [path.name for path in output.iterdir()] == ["prompts"]


@pytest.mark.parametrize(
    "flags, part",
    [
        (["--prompt_root", "."], "leave out --prompt_root"),
        (["--box", "1,2,3,4"], "leave out --prompt_root, boxes"),
        (["--start", "3"], "shows whole videos: leave out --start 3"),
        (["--show"], "no use of --show: leave it out; the same command with --prompt_root"),
        (["--save_detections", "true"], "no use of --save_detections"),
        (["--enable_clearml"], "no use of --enable_clearml"),
    ],
)
def test_flags_that_the_page_does_not_use_are_refused(trained, small_data, tmp_path, flags, part):
    command = ["--checkpoint", trained.run / "best.pth", "--video_root", small_data / "valid", "--annotate"]
    command += ["--output", tmp_path / "o", *flags]
    assert_refused(run_here(inference.main, *command), "--annotate", part)
    with pytest.raises(UserError, match=re.escape(part)):
        check_flags(list(map(str, command)))  # before torch is loaded, too
    assert not (tmp_path / "o").exists()
