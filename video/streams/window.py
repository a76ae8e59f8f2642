"""A window that shows pictures as they come (OpenCV)."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from common.errors import UserError, require


def check_display() -> None:
    """Raise UserError where no window can be opened."""
    on_unix = sys.platform not in ("win32", "darwin")
    if on_unix and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError("--show needs a display: log in with ssh -X, or leave it out and look at overlays/")
    require("cv2", "--show")


class Window:
    """Shows the latest picture; the thread that makes it refreshes it, any thread may offer pictures."""

    def __init__(self, title: str):
        """Raises UserError where OpenCV has no windows."""
        self._cv2, self.title = require("cv2", "--show"), title
        self._lock, self._latest = threading.Lock(), None
        try:
            self._cv2.namedWindow(title, self._cv2.WINDOW_NORMAL | self._cv2.WINDOW_KEEPRATIO)
        except self._cv2.error as error:
            remedy = "pip uninstall opencv-python-headless && pip install opencv-python"
            raise UserError(f"--show needs OpenCV with windows: {remedy}") from error

    def offer(self, picture: np.ndarray) -> None:
        """(H, W, 3) uint8 RGB, to be shown next."""
        with self._lock:
            self._latest = picture

    def refresh(self) -> None:
        """Show the latest picture, and let the window answer its user."""
        with self._lock:
            picture, self._latest = self._latest, None
        if picture is not None:
            self._cv2.imshow(self.title, self._cv2.cvtColor(picture, self._cv2.COLOR_RGB2BGR))
        self._cv2.pollKey()

    def close(self) -> None:
        self.refresh()
        self._cv2.destroyWindow(self.title)


@contextmanager
def showing(title: str, *, show: bool) -> Iterator[Window | None]:
    """Inside, there is a window of this title; None where nothing is to be shown."""
    if not show:
        yield None
        return
    window = Window(title)
    try:
        yield window
    finally:
        window.close()
