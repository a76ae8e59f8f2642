"""The page for painting in a real browser, as a user sees it, and what lies in its output.

Needs Chromium and playwright (`apt-get install chromium`, `pip install playwright`).
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.annotating import SIZE, ShiftingTracker, SquareCutter, make_video, served
from tests.support.waiting import SECONDS, wait_for
from video.images import read_label_map

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NUM_FRAMES = {"clip": 12, "other": 5}  # of the two videos
# The next answer to a call is kept from the page until it is released.
HOLD = """(call) => {
    const whole = window.fetch;
    window.release = () => {};
    window.fetch = async (path, options) => {
        const answer = await whole(path, options);
        if (`${options.method} ${path}` === call && !window.held) {
            window.held = true;
            await new Promise((resolve) => (window.release = resolve));
        }
        return answer;
    };
}"""


class Page:
    """The open page, by pixels of the frame; and what lies in the output."""

    def __init__(self, page: Any, tracker: ShiftingTracker, cutter: SquareCutter, output: Path):
        self.page, self.tracker, self.cutter, self.output = page, tracker, cutter, output
        self.keys, self.mouse = page.keyboard, page.mouse

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where the middle of a pixel of the frame is on the screen."""
        canvas = self.page.locator("#view")
        box = canvas.bounding_box()
        zoom, left, top = (float(canvas.get_attribute(f"data-{name}")) for name in ("zoom", "left", "top"))
        return box["x"] + left + (x + 0.5) * zoom, box["y"] + top + (y + 0.5) * zoom

    def drag(self, *points: tuple[int, int]) -> None:
        self.mouse.move(*self.at(*points[0]))
        self.mouse.down()
        for point in points[1:]:
            self.mouse.move(*self.at(*point))
        self.mouse.up()

    def wait(self, selector: str, text: str) -> None:
        wait_for(lambda: text in self.page.locator(selector).inner_text(), self.pause)

    def pause(self, seconds: float) -> None:
        self.page.wait_for_timeout(1000 * seconds)

    def brush(self, radius: int) -> None:
        self.page.fill("#radius", str(radius))

    def prompt(self, frame: int = 0) -> np.ndarray:
        """The label map of a frame's prompt, once it is saved; (H, W)."""
        self.wait("#saved", "saved in")
        return read_label_map(self.output / "prompts" / "clip" / f"f{frame}.png")

    def becomes(self, expected: np.ndarray) -> bool:
        """Wait until the prompt of the first frame is this map, (H, W); all background: none."""
        path = self.output / "prompts" / "clip" / "f0.png"

        def is_expected() -> bool:
            try:
                return np.array_equal(read_label_map(path), expected)
            except FileNotFoundError:
                return not expected.any()

        wait_for(is_expected, self.pause)
        return True

    def run(self) -> None:
        self.page.click("#run")
        self.wait("#run", "Run")

    def hold(self, call: str) -> None:
        """Keep the next answer to a call, such as "GET /labels?n=0", from the page."""
        self.page.evaluate(HOLD, call)

    def wait_held(self) -> None:
        """Wait until there is such an answer."""
        wait_for(lambda: self.page.evaluate("window.held"), self.pause)

    def release(self) -> None:
        """Give it to the page, where there is one."""
        self.page.evaluate("window.release()")


@contextmanager
def opened(browser: Any, folder: Path) -> Iterator[Page]:
    """Inside, the page is open in a browser; an error that the browser shows fails the test."""
    tracker, cutter, output = ShiftingTracker(), SquareCutter(), folder / "output"
    videos = [make_video(folder / name, number) for name, number in NUM_FRAMES.items()]
    with served(tracker, videos, output, cutter) as (annotator, port):
        page, errors = browser.new_page(viewport={"width": 1000, "height": 700}), []
        page.set_default_timeout(1000 * SECONDS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.goto(f"http://127.0.0.1:{port}/#{annotator.token}")
        page.wait_for_selector("#view[data-zoom]")
        yield Page(page, tracker, cutter, output)
        page.close()
        assert errors == []


def rectangle(top: int, left: int, bottom: int, right: int, track: int = 1) -> np.ndarray:
    """(H, W) map of a rectangle with these corners, which belong to it."""
    labels = np.zeros(SIZE, dtype=np.uint8)
    labels[top : bottom + 1, left : right + 1] = track
    return labels
