"""What the tests of both ways share."""

from pathlib import Path

import pytest

from tests.support.vis_files import LEFT, TOP, result_of, truth_of, video_of, write_json, write_maps


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Good sources of each kind, to be spoilt."""
    write_maps(tmp_path / "maps", {"a": {"0": 1 * LEFT, "1": 2 * TOP}})
    results = [result_of(1, 0.5, LEFT, TOP, category=7)]
    write_json(tmp_path / "videos.json", truth_of([video_of(1, "a", ["0", "1"])]))
    write_json(tmp_path / "truth.json", truth_of([video_of(1, "a", ["0", "1"])], results))
    write_json(tmp_path / "results.json", results)
    (tmp_path / "junk.json").write_text('[{"video_id": 1,')
    return tmp_path
