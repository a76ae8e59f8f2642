"""The server of the page: on the loopback interface alone, for who has the token, one video at a time.

What is asked for is a number of a video or of a frame, never a path. The page, its script and its style hold
nothing of the user's; all else needs the token, which the address has behind its #, so that no log and no
other site learns it.
"""

import hmac
import io
import json
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import RLock
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

from common import distributed
from common.errors import UserError
from common.files import LOCK, sole_writer
from common.progress import say
from common.types import Tracker
from tools.annotate.clicks import ClickMasks, read_marks
from tools.annotate.results import Results
from tools.annotate.session import Session
from tracking.config import RunConfig
from tracking.sparse_prompts.clicks import check_clicks
from tracking.sparse_prompts.cutting import EncodingCutter
from video.pictures import OUTLINES, PALETTE
from video.reader import Video
from video.streams.live import check_repeats

HERE = Path(__file__).parent
SCRIPTS = ("keys.js", "page.js", "paint.js", "server.js", "view.js")
PAGE = {"/": ("page.html", "text/html"), "/page.css": ("page.css", "text/css")}
PAGE |= {f"/{name}": (name, "text/javascript") for name in SCRIPTS}
HOSTS = {"127.0.0.1", "localhost"}  # by any port, so that it may be forwarded; other names are of other sites
PROMPTS = "prompts"  # the folder of the output that --prompt_root takes
WORK = ".annotate."  # how the folder of a session begins, which leaves with it
WORK_FILES = {".png", ".pt", ".tmp"}
SAFE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Reply(NamedTuple):
    """The body of an answer, its type, and further headers."""

    body: bytes
    kind: str = "application/json"
    headers: Mapping[str, str] = MappingProxyType({})


def as_json(values: Any) -> Reply:
    return Reply(json.dumps(values).encode())


class Annotator:
    """What the page asks for, by method and path; `n` is the number of a video or of a frame, from 0.

    cutter: cuts objects out at clicks; None: the page takes no clicks
    settings: of the results, as of `Work.goes_on`
    """

    def __init__(
        self,
        tracker: Tracker,
        videos: list[Video],
        output: Path,
        config: RunConfig,
        cutter: EncodingCutter | None = None,
        settings: dict[str, Any] | None = None,
    ):
        self.tracker, self.videos, self.output, self.config = tracker, videos, output, config
        self.token = secrets.token_urlsafe(24)
        self.lock = RLock()  # of what changes something
        self.click_masks = ClickMasks(cutter, config) if cutter else None
        self.results = Results(tracker, videos, output, config, output / PROMPTS, settings)
        self.calls: dict[tuple[str, str], Callable[[int, bytes], Reply]] = {
            ("POST", "/open"): self.open,
            ("POST", "/run"): self.run,
            ("POST", "/stop"): self.stop,
            ("POST", "/results"): self.write_results,
            ("GET", "/status"): self.status,
            ("GET", "/frame"): self.frame,
            ("GET", "/labels"): self.labels,
            ("PUT", "/labels"): self.paint,
            ("POST", "/click"): self.click,
        }
        self.work, self.session = self._begin(0)

    def _begin(self, n: int) -> tuple[Path, Session]:
        work = Path(tempfile.mkdtemp(prefix=WORK, dir=self.output))
        try:
            return work, Session(self.tracker, self.videos[n], self.output / PROMPTS, work, self.config)
        except BaseException:
            shutil.rmtree(work)
            raise

    def close(self) -> None:
        """Stop what runs, and remove what only the session needs."""
        with self.lock:
            self.results.stop()
            self.session.stop()
            shutil.rmtree(self.work, ignore_errors=True)

    def open(self, n: int, body: bytes) -> Reply:
        """Take up a video, and say all that stays as it is while it is open."""
        with self.lock:
            if n >= len(self.videos):
                raise UserError(f"there is no video {n}")
            if self.videos[n] is not self.session.video:
                begun = self._begin(n)  # where the video is bad, the former one stays open
                self.close()
                self.work, self.session = begun
            height, width = self.session.size
            pictures = self.session.pictures
            facts = {
                "videos": [video.name for video in self.videos],
                "video": n,
                "size": [height, width],
                "frames": [pictures.name(k) for k in range(pictures.num_frames)],
                "fps": self.session.video.fps,
                "colours": np.stack([PALETTE, OUTLINES], 1).tolist(),
                "folder": str(self.session.prompt_folder),
                "clicks": self.click_masks is not None,
            }
            return as_json(facts | self._status())

    def run(self, n: int, body: bytes) -> Reply:
        with self.lock:
            self._check_idle()
            self.session.run()
            return self.status(n, body)

    def stop(self, n: int, body: bytes) -> Reply:
        with self.lock:
            self.results.stop()
            self.session.stop()
            return self.status(n, body)

    def write_results(self, n: int, body: bytes) -> Reply:
        """Track every video that has prompts by all of them, and write what inference.py writes."""
        with self.lock:
            self._check_idle()
            self.results.start()
            return self.status(n, body)

    def status(self, n: int, body: bytes) -> Reply:
        return as_json(self._status())

    def frame(self, n: int, body: bytes) -> Reply:
        """Frame n as a JPEG, to look at."""
        file = io.BytesIO()
        Image.fromarray(self._session_with(n).pictures.at(n)).save(file, "JPEG", quality=92)
        return Reply(file.getvalue(), "image/jpeg")

    def labels(self, n: int, body: bytes) -> Reply:
        """The map of frame n: 16 bits a pixel, the low byte first, row by row."""
        origin, labels = self._session_with(n).labels(n)
        return Reply(labels.astype("<u2").tobytes(), "application/octet-stream", {"X-Origin": origin})

    def paint(self, n: int, body: bytes) -> Reply:
        """Take such a map as the prompt of frame n."""
        with self.lock:
            self._check_idle()
            session = self._session_with(n)
            height, width = session.size
            if len(body) != 2 * height * width:
                raise UserError(f"a map of {width}x{height} has {2 * height * width} bytes, not {len(body)}")
            session.paint(n, np.frombuffer(body, "<u2").reshape(height, width))
            return self.status(n, body)

    def click(self, n: int, body: bytes) -> Reply:
        """The object that clicks on frame n mark: a byte a pixel, 1 where it is; body: as of `read_marks`."""
        if self.click_masks is None:
            raise UserError("this page takes no clicks: start it with --cut sam_vit_b")
        track, clicks = read_marks(body)
        with self.lock:
            self._check_idle()
            session = self._session_with(n)
            check_clicks(track, clicks, session.size, has_box=False)
            mask = self.click_masks.cut(session.video.name, n, session.pictures.at(n), track, clicks)
        return Reply(mask.tobytes(), "application/octet-stream")

    def _status(self) -> dict[str, Any]:
        return self.session.status() | {"results": self.results.status()}

    def _check_idle(self) -> None:
        if self.session.running or self.results.running:
            raise UserError("the tracker runs: stop it first")

    def _session_with(self, n: int) -> Session:
        """The session of the video that is open now, which another request may change; it has a frame n."""
        session = self.session
        if n >= session.pictures.num_frames:
            raise UserError(f"there is no frame {n}")
        return session


class Handler(BaseHTTPRequestHandler):
    """One connection; `annotator` is set by the class that `serve` makes."""

    annotator: Annotator
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a connection may wait
    server_version, sys_version = "annotate", ""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        host = self.headers.get("Host", "").rpartition(":")
        if (host[0] or host[2]) not in HOSTS:
            self._send(403, as_json({"error": "open the address that the command printed"}))
        elif self.command == "GET" and address.path in PAGE:
            name, kind = PAGE[address.path]
            self._send(200, Reply((HERE / name).read_bytes(), f"{kind}; charset=utf-8"))
        elif not hmac.compare_digest(self.headers.get("X-Token", "").encode(), self.annotator.token.encode()):
            self._send(403, as_json({"error": "the token is another: open the address that was printed"}))
        elif call := self.annotator.calls.get((self.command, address.path)):
            self._call(call, parse_qs(address.query).get("n", ["0"])[0])
        else:
            self._send(404, as_json({"error": "no such thing"}))

    do_POST = do_PUT = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of every request."""

    def _call(self, call: Callable[[int, bytes], Reply], number: str) -> None:
        length = self.headers.get("Content-Length", "0")
        height, width = self.annotator.session.size
        if not (number.isascii() and number.isdecimal() and len(number) < 10 and length.isdecimal()):
            return self._send(400, as_json({"error": "a number is wrong"}))
        if int(length) > 2 * height * width:
            return self._send(413, as_json({"error": "it is larger than a label map of the video"}))
        try:
            reply = call(int(number), self.rfile.read(int(length)))
        except (UserError, OSError) as error:
            return self._send(409, as_json({"error": str(error)}))
        return self._send(200, reply)

    def _send(self, status: int, reply: Reply) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": reply.kind,
            "Content-Length": str(len(reply.body)),
            **SAFE,
            **reply.headers,
        }
        if status != 200:  # what was sent along may be unread
            self.close_connection = True
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that was closed in the middle of an answer is no trouble; all else is reported."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            say(f"{type(error).__name__}: {error}", error=True)


def make_server(annotator: Annotator) -> Server:
    """The server on a free port of the loopback interface, which listens from now on."""
    handler = type("AnnotatorHandler", (Handler,), {"annotator": annotator})
    return Server(("127.0.0.1", 0), handler)


def remove_left(output: Path) -> None:
    """Remove the folders of sessions that were killed; only within the lock of the output.

    Raises UserError where one holds what no session writes.
    """
    for folder in output.glob(f"{WORK}*"):
        others = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in WORK_FILES]
        if others or folder.is_symlink() or not folder.is_dir():
            raise UserError(
                f"{(others or [folder])[0]} was not written by this page and is in the way: move it away"
            )
        shutil.rmtree(folder)


def annotate(
    tracker: Tracker,
    videos: list[Video],
    output: Path,
    config: RunConfig,
    settings: dict[str, Any],
    cutter: EncodingCutter | None = None,
) -> None:
    """Serve the page until the command is ended by Ctrl-C; then nothing but prompts and results is left.

    settings: of the same command without the page, which goes on with results, and they with its
    cutter: cuts objects out at clicks; None: the tracker's own, where it has one
    """
    if distributed.world_size() > 1:
        raise UserError("--annotate serves one page: start it without torchrun")
    check_repeats(videos, "--annotate")
    with sole_writer(output / LOCK):
        remove_left(output)
        settings |= {"prompt_root": str((output / PROMPTS).resolve()), "prompt_frames": "all"}
        cutter = cutter or getattr(tracker, "cutter", None)
        annotator = Annotator(tracker, videos, output, config, cutter, settings)
        try:
            with make_server(annotator) as server:
                port = server.server_address[1]
                say(f"paint and run in a browser: http://127.0.0.1:{port}/#{annotator.token}")
                say(f"prompts are saved in {output / PROMPTS}; Ctrl-C ends this")
                server.serve_forever()
        finally:
            annotator.close()
            if (output / PROMPTS).is_dir():
                say(f"track by them: --prompt_root {output / PROMPTS} --prompt_frames all")
