"""Help that a stranger can read: groups and flags in words of the field, rounded defaults, right examples."""

import re
import shlex

import pytest

import evaluate
from common.config import Parser
from configs.systems import CONFIGS
from scoring.protocols.table import PROTOCOLS
from tests.support.commands import ROOT
from tools.convert import __main__ as convert
from tracking import config as tracking
from training import config as training

PARSERS = {
    **{f"main.py {name}": training.make_parser(name) for name in CONFIGS},
    **{f"inference.py {name}": tracking.make_parser(name) for name in CONFIGS},
    **{f"evaluate.py {name}": evaluate.make_parser(name) for name in PROTOCOLS},
    "tools.convert": convert.make_parser(),
}


@pytest.fixture(params=PARSERS)
def parser(request) -> Parser:
    return PARSERS[request.param]


def test_every_flag_is_described_in_words_of_the_field(parser):
    assert all(action.help.strip() for action in parser._actions)
    text = parser.format_help()
    assert re.findall(r"\bleast\b(?! used)|\btold\b", text) == []
    assert re.findall(r"(?:Config|Criterion|Tracker|Dataset)\b", text) == []


def test_defaults_are_rounded_and_said_once(parser):
    text = " ".join(parser.format_help().split())
    assert re.findall(r"\d\.\d{5,}", text) == [] and ") (default" not in text
    assert "True)" not in text and "None)" not in text


def test_the_examples_are_right(parser, monkeypatch):
    monkeypatch.chdir(ROOT)
    parse = training.parse_args if parser.prog == "main.py" else parser.parse_args
    lines = re.findall(r"^  python (?:-m )?\S+ (.*?)(?:   .*)?$", parser.epilog, re.MULTILINE)
    assert len(lines) >= 4
    for words in map(shlex.split, lines):
        if "--help" not in words:
            parse(words)


@pytest.mark.parametrize("name", CONFIGS)
def test_common_flags_come_first_and_those_of_the_system_have_its_name(name):
    titles = re.findall(r"^(\w.*):$", training.make_parser(name).format_help(), re.MULTILINE)
    system = [f"{part} of {name}" for part in ("network", "losses", "tracker", "clips")]
    assert titles[:4] == ["general", "data", "training", "output"]
    assert titles[4:8] == system and titles[-1] == "examples"


def test_what_is_read_of_a_video_stands_in_one_group():
    text = tracking.make_parser("xmem").format_help()
    (group,) = re.findall(r"^video:\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^  --(\w+)", group, re.MULTILINE) == ["start", "end", "every", "fps", "raw_size"]


def test_a_share_is_shown_as_a_person_writes_it():
    assert "divided by 10 (default: 0.8333)" in " ".join(training.make_parser("stcn").format_help().split())
