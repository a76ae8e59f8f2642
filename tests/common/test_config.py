"""Fields become flags and flags become fields; mistakes end in one line and exit status 2."""

import math
import os
import time
from dataclasses import asdict, dataclass, replace

import pytest

from common.config import (
    Parser,
    add_config_flags,
    boolean,
    checked,
    config_from_args,
    config_from_dict,
    expand_presets,
    option,
)
from common.errors import UserError


@dataclass(kw_only=True)
class Part:
    num_tokens: int  # another part's flag
    rate: float = option(0.5, "a rate of 50 %")
    name: str = option("plain", "a name", ("plain", "fancy"))
    path: str | None = option(None, "a path")
    fast: bool = option(False, "a switch")
    safe: bool = option(True, "another switch")
    size: tuple[int, int] = option((4, 8), "height and width")
    stride: int = option(4, "a stride", (4, 8))
    weights: tuple[int, ...] = option((), "any number of weights", least=1)
    roots: tuple[str, ...] = option(("./a",), "any number of folders")


def make_parser() -> Parser:
    parser = Parser(prog="test.py")
    parser.add_argument("--num_tokens", type=int, default=20)
    add_config_flags(parser, Part, "part")
    return parser


def parse(*argv: str) -> Part:
    return config_from_args(Part, make_parser().parse_args(argv))


def test_without_flags_the_defaults_are_those_of_the_fields():
    assert parse() == Part(num_tokens=20)


def test_every_kind_of_field_is_read_from_its_flag():
    argv = "--num_tokens 3 --rate 2e-3 --name fancy --path a/b --fast --safe false --size 6 7 --stride 8 "
    argv += "--weights 1 5 --roots b"
    assert asdict(parse(*argv.split())) == {
        **{"num_tokens": 3, "rate": 2e-3, "name": "fancy", "path": "a/b"},
        **{"fast": True, "safe": False, "size": (6, 7), "stride": 8},
        **{"weights": (1, 5), "roots": ("b",)},
    }


@pytest.mark.parametrize(
    "text, value", [("true", True), ("ON", True), ("1", True), ("False", False), ("no", False)]
)
def test_a_switch_reads_words_too(text, value):
    assert boolean(text) is value
    assert parse("--fast", text).fast is value


@pytest.mark.parametrize(
    "argv",
    [
        ["--unknown", "1"],
        ["--num_tok", "3"],
        ["--num_tokens", "three"],
        ["--name", "other"],
        ["--stride", "5"],
        ["--fast", "perhaps"],
        ["--size", "6"],
        ["@absent.txt"],
        ["--rate", "nan"],
        ["--rate", "-inf"],
        ["--rate", "1e999"],
        ["--num_tokens", "9" * 30],
        ["--num_tokens", "9" * 5000],
    ],
)
def test_a_foreign_abbreviated_or_illegal_flag_is_one_line_and_status_2(capsys, argv):
    with pytest.raises(SystemExit) as caught:
        make_parser().parse_args(argv)
    written = capsys.readouterr()
    assert caught.value.code == 2 and written.out == ""
    assert written.err.startswith("error: ") and written.err.count("\n") == 1
    assert argv[0].lstrip("@-") in written.err


def test_a_value_that_begins_with_a_minus_and_is_no_number_needs_an_equals_sign(capsys):
    with pytest.raises(SystemExit):
        parse("--path", "-5,7")
    assert "--flag=VALUE" in capsys.readouterr().err
    assert parse("--path=-5,7").path == "-5,7"


def test_a_preset_is_a_file_of_flags_and_what_follows_it_wins(tmp_path):
    preset = tmp_path / "small.txt"
    preset.write_text('# a small one\n--num_tokens 5  # few\n\n--size 2 3\n--path "two words"\n--fast\n')
    expected = Part(num_tokens=5, size=(2, 3), path="two words", fast=True)
    assert parse(f"@{preset}") == expected
    assert parse(f"@{preset}", "--num_tokens", "7").num_tokens == 7


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"--name caf\xe9\n", "save it as UTF-8"),
        (b"--num_tokens 3\n--name \\", "line 2"),
        (b"--name 'open", "line 1"),
        (b"--num_tokens 3 @PRESET", "does it name itself"),
        (b"@PRESET @PRESET @PRESET", "does it name itself"),
    ],
)
def test_a_preset_that_cannot_be_read_is_one_line(tmp_path, capsys, content, told):
    preset = tmp_path / "bad.txt"
    preset.write_bytes(content.replace(b"PRESET", str(preset).encode()))
    with pytest.raises(SystemExit) as caught:
        parse(f"@{preset}")
    written = capsys.readouterr().err
    assert caught.value.code == 2 and written.count("\n") == 1
    assert "bad.txt" in written and told in written


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("--num_tokens 3\n" * 1001, "more than 2000 arguments"),
        ("# no flag\n" * 100_000, "more than 65536 bytes"),
    ],
)
def test_a_preset_that_is_too_long_is_refused_at_once(tmp_path, capsys, content, told):
    (tmp_path / "long.txt").write_text(content)
    begun = time.monotonic()
    with pytest.raises(SystemExit):
        parse(f"@{tmp_path / 'long.txt'}")
    assert told in capsys.readouterr().err and time.monotonic() - begun < 2


def test_arguments_of_presets_keep_their_order(tmp_path):
    (tmp_path / "inner.txt").write_text("2 3\n4")
    (tmp_path / "outer.txt").write_text(f"1 @{tmp_path / 'inner.txt'} 5")
    assert expand_presets(["0", f"@{tmp_path / 'outer.txt'}", "6"]) == list("0123456")


def test_a_pipe_is_no_preset(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SystemExit):
        parse(f"@{tmp_path / 'pipe'}")
    assert f"{tmp_path / 'pipe'} is a pipe" in capsys.readouterr().err


def test_a_preset_may_name_another(tmp_path):
    (tmp_path / "inner.txt").write_text("--num_tokens 5 --fast")
    (tmp_path / "outer.txt").write_text(f"--name fancy @{tmp_path / 'inner.txt'}\n--num_tokens 6")
    assert parse(f"@{tmp_path / 'outer.txt'}") == Part(num_tokens=6, fast=True, name="fancy")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_option_is_nan_or_infinite(value):
    with pytest.raises(UserError, match="is not a finite number"):
        checked(Part(num_tokens=3, rate=value))


def test_the_help_shows_text_and_defaults():
    text = make_parser().format_help()
    assert "a rate of 50 % (default: 0.5)" in text
    assert "a path\n" in text and "default: None" not in text
    assert "{plain,fancy}" in text
    assert "any number of folders (default: ./a)" in text and "any number of weights\n" in text


def test_a_config_comes_back_from_the_plain_values_of_a_checkpoint():
    config = parse("--size", "6", "7")
    plain = {**asdict(config), "size": [6, 7]}  # as JSON gives it
    assert config_from_dict(Part, plain, "last.pth") == config


@pytest.mark.parametrize("change", [{"old": 1}, None])
def test_values_of_other_fields_are_refused_with_source_and_names(change):
    values = asdict(parse())
    values = {**values, **change} if change else {k: v for k, v in values.items() if k != "rate"}
    with pytest.raises(UserError, match=r"^last\.pth: its Part has other fields \((old|rate)\)"):
        config_from_dict(Part, values, "last.pth")


def test_a_retired_field_of_an_older_checkpoint_is_passed_over(monkeypatch):
    monkeypatch.setattr(Part, "RETIRED", ("old",), raising=False)
    assert config_from_dict(Part, {**asdict(parse()), "old": 1}, "last.pth") == parse()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_tokens", 3.0),
        ("num_tokens", True),
        ("rate", "0.5"),
        ("rate", math.nan),
        ("name", "other"),
        ("path", 3),
        ("fast", 1),
        ("size", [1]),
        ("size", [1, "2"]),
        ("stride", None),
        ("weights", [1, "2"]),
        ("weights", [3, 0]),
        ("roots", "a"),
    ],
)
def test_values_of_another_type_are_refused_with_source_and_name(name, value):
    with pytest.raises(UserError, match=rf"^last\.pth: .*{name}"):
        config_from_dict(Part, {**asdict(parse()), name: value}, "last.pth")


def test_an_added_field_that_an_older_checkpoint_lacks_has_the_value_that_it_stands_for(monkeypatch):
    monkeypatch.setattr(Part, "ADDED", {"rate": 0.25}, raising=False)
    older = {name: value for name, value in asdict(parse()).items() if name != "rate"}
    assert config_from_dict(Part, older, "last.pth") == replace(parse(), rate=0.25)


def test_a_field_that_cannot_be_a_flag_is_the_programmers_mistake():
    @dataclass
    class Wrong:
        table: bytes = option(b"", "no flag")

    with pytest.raises(AssertionError, match="table"):
        add_config_flags(Parser(), Wrong, "wrong")
