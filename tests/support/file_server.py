"""A web server for tests that sends one file on a loopback port: whole, slowly, in part, or not at all."""

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """The server; use it as a context manager.

    cuts: after how many bytes each of the first answers ends, in turn; those that follow are whole
    ranges: whether it heeds `Range`; tells_length: whether it says how long an answer is
    pause: seconds between two blocks of 1,000 bytes
    asked: the `Range` of every request so far, "" where there was none
    """

    def __init__(self, content: bytes, *, status: int = 200, content_type: str = "application/octet-stream"):
        self.content, self.status, self.content_type = content, status, content_type
        self.cuts: list[int] = []
        self.ranges = self.tells_length = True
        self.pause = 0.0
        self.asked: list[str] = []
        self.ended = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.address = f"http://127.0.0.1:{self.server.server_port}/weights.pth"

    def __enter__(self) -> "FileServer":
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()


def _handler(files: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            files.asked.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and files.ranges else 0
            if start >= len(files.content):
                return self.send_error(416)
            self.send_response(206 if start else files.status)
            self.send_header("Content-Type", files.content_type)
            if start:
                size = len(files.content)
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            if files.tells_length:
                self.send_header("Content-Length", str(len(files.content) - start))
            self.end_headers()
            end = start + files.cuts.pop(0) if files.cuts else len(files.content)
            for begin in range(start, end, 1000):
                with suppress(ConnectionError):  # the client may have hung up
                    self.wfile.write(files.content[begin : min(end, begin + 1000)])
                files.ended.wait(files.pause)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
