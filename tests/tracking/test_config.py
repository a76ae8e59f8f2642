"""The flags of inference.py are checked before anything is loaded."""

import pytest

from common.errors import UserError
from tracking.config import check_flags

BEGIN = ["--checkpoint", "stcn", "--output", "none", "--video_root"]


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_help_on_a_checkpoint_needs_no_other_flag(tmp_path, flag):
    check_flags(["--checkpoint", str(tmp_path / "best.pth"), flag])  # which is shown when that is read
