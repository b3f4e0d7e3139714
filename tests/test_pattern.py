"""`parse:` patterns match as Python's own do, in linear time."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.pattern import MAX_TEXT, compile_pattern, example

ATOMS = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", r"\d", r"\w", r"\s", "1", " ", r"\b", "^", "$", "B",
"(?i:b)"])
REPEATED = st.sampled_from(["a", "b", "[ab]", "ab", "a|b", r"\d", r"\w", "."])
COUNTS = st.sampled_from(["*", "+", "?", "*?", "+?", "??", "{1,2}", "{2}", "{0,2}?"])
PATTERNS = st.recursive(
    ATOMS | st.builds(lambda inner, count: f"(?:{inner}){count}", REPEATED, COUNTS),
    lambda inner: st.builds(lambda one, other: one + other, inner, inner)
    | st.builds(lambda one, other: f"(?:{one}|{other})", inner, inner)
    | st.builds(lambda one: f"({one})", inner), max_leaves=10)


@settings(max_examples=600)
@given(PATTERNS, PATTERNS, st.text("abcB1 ", max_size=9))
def test_a_match_is_the_one_that_python_finds_between_blanks(first: str, second: str, text: str) -> None:
    source = f"(?P<x>{first})(?P<y>{second})?"

    found = compile_pattern(source).search(text)

    expected = re.compile(rf"(?<!\S)(?:{source})(?!\S)").search(text)
    assert found == (None if expected is None else {
        name: value for name, value in expected.groupdict().items() if value is not None})


def test_named_groups_are_what_the_fields_read() -> None:
    pattern = compile_pattern(r"BUY (?P<ticker>\S+) @ (?P<price>[\d.]+)")

    assert pattern.search("BUY USDJPY @ 145.50 SL:145.20 TP:146.00") == {"ticker": "USDJPY", "price": "145.50"}
    assert pattern.search("hello") is None


def test_a_match_never_ends_inside_a_number() -> None:
    pattern = compile_pattern(r"@ (?P<price>[\d.]+)")

    assert pattern.search("BUY @ 5,300.25") is None
    assert pattern.search("BUY @ 5300.25") == {"price": "5300.25"}


@pytest.mark.parametrize(("source", "text"), [
    ("(?P<x>(a+)+)$", "a" * 4000 + "b"), ("(?P<x>.*a.*b.*c.*d.*)e", "abcd" * 1000), ("(?P<x>(a|a)*)b", "a" * 4000),
    ("(?P<x>(a?){100}a{100})b", "a" * 600), (r"(?P<x>(\s*\w*)*)!", "a " * 2000)])
def test_no_pattern_takes_longer_than_the_text_is_long(source: str, text: str) -> None:
    began = time.process_time()

    assert compile_pattern(source).search(text) is None
    assert time.process_time() - began < 3


@pytest.mark.parametrize(("source", "words"), [
    ("BUY .*", "captures no field"), ("(a+)+$", "captures no field"), ("(?P<x>a", "no regular expression"),
    ("(?P<x>(?=a))", "look-ahead"), ("(?P<x>a)(?P=x)", "reference back"), ("(?P<x>a++)", "possessive"),
    ("(?P<x>(?>a))", "atomic"), ("(?P<x>((?:){60000}){60000})", "too large"),
    ("(?P<x>((a{900}){900}){900})", "too large"), ("(?P<x>[[a])", "no regular expression"),
    ("(?P<x>a)" + "(" * 900 + ")" * 900, "is "), ("(?P<x>a)" * 2, "redefinition")])
def test_a_pattern_that_cannot_be_matched_so_is_refused_when_it_loads(source: str, words: str) -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match=words):
        compile_pattern(source)

    assert time.process_time() - began < 1


@given(st.text("(?P<x>)a|*+{1,2}[^]\\d.$", max_size=40))
def test_no_pattern_raises_anything_but_value_errors(source: str) -> None:
    try:
        compile_pattern(source)
    except ValueError as error:
        assert str(error)


def test_a_text_that_is_too_long_is_refused_not_cut() -> None:
    with pytest.raises(ValueError, match="reads at most 4096"):
        compile_pattern("(?P<x>a)").search("a" * (MAX_TEXT + 1))


def test_an_example_has_the_patterns_shape() -> None:
    source = r"^(?P<action>BUY|SELL) (?P<ticker>\S+)(?:\s+x(?P<size>\d+))? at [$](?P<price>[\d.]+)\d{2}$"

    assert example(source, {"action": ("{{a}}", "buy"), "ticker": ("{{t}}", "ES1!"), "size": ("{{s}}", "2"),
                            "price": ("{{p}}", "5.25")}) == "BUY {{t}} x{{s}} at ${{p}}11"
