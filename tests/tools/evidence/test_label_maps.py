"""Which label maps a protocol looks at, and which cannot be explained."""

import pytest

from common.errors import UserError
from scoring.protocols.table import PROTOCOLS
from tests.support.evidence import NOTHING, TCOVIS, pair_of, write
from tools.evidence.label_maps import ScoredResults, label_map_pairs, rules_of


def test_what_cannot_be_explained_says_what_is_needed(tmp_path):
    pair_of(tmp_path, [NOTHING], [NOTHING])
    (tmp_path / "results.json").write_text("[]")
    scored = ScoredResults({}, tmp_path / "results", tmp_path / "truth", TCOVIS)
    with pytest.raises(UserError, match=r"results\.json: give folders of label maps"):
        label_map_pairs(scored._replace(results=tmp_path / "results.json"), ["cat"])
    with pytest.raises(UserError, match="give folders of label maps"):
        label_map_pairs(scored._replace(rules=rules_of(PROTOCOLS["ytvis"], {})), ["cat"])
    write(tmp_path / "truth" / "dog" / "001", [NOTHING])
    write(tmp_path / "results" / "dog", [NOTHING])
    with pytest.raises(UserError, match=r"truth/dog has a folder for each object: join"):
        label_map_pairs(scored._replace(rules=rules_of(PROTOCOLS["sav"], {})), ["dog"])


def test_the_options_of_a_protocol_say_how_its_ids_are_read():
    tcovis, davis = PROTOCOLS["tcovis"], PROTOCOLS["davis"]
    assert [rules_of(tcovis, {"prompted": prompted}).by_id for prompted in (False, True)] == [False, True]
    assert [rules_of(davis, {"year": year}).single_object for year in (2017, 2016)] == [False, True]
    assert rules_of(davis, {}).by_id and not rules_of(PROTOCOLS["mots"], {}).by_id
