"""The flags of inference.py are checked before anything is loaded."""

import pytest

from common.errors import UserError
from tracking.config import check_flags

BEGIN = ["--checkpoint", "stcn", "--output", "none", "--video_root"]


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_help_on_a_checkpoint_needs_no_other_flag(tmp_path, flag):
    check_flags(["--checkpoint", str(tmp_path / "best.pth"), flag])  # which is shown when that is read


@pytest.mark.parametrize(
    "flags, reason",
    [
        (["0", "--start", "x"], "--start x: give frames"),
        (["0", "--every", "2"], "--video_root 0 can be read only once, and as a whole: leave out --every 2"),
        (["-", "--raw_size", "wide"], "--raw_size wide: give WIDTHxHEIGHT"),
        ([".", "--raw_size", "8x6"], "--raw_size 8x6 describes raw frames on standard input"),
        (["none/*.jpg"], "none/.*: no such file or folder"),
    ],
)
def test_what_no_run_can_read_is_refused_before_torch_is_loaded(tmp_path, monkeypatch, flags, reason):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=reason):
        check_flags([*BEGIN, *flags])


def test_files_that_are_passed_over_are_not_told_by_the_check(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "clip.mp4").write_bytes(b"")
    check_flags([*BEGIN, str(tmp_path / "*")])
    assert capsys.readouterr().err == ""
