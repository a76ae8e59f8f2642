"""The page in a real browser."""

from collections.abc import Iterator

import pytest

from tests.support.annotate_page import BROWSER, Page, opened


@pytest.fixture(scope="module")
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if BROWSER is None:
        pytest.skip("no browser: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser, tmp_path) -> Iterator[Page]:
    with opened(browser, tmp_path) as page:
        page.wait("#where", "f0 (1 of 12)")
        yield page
