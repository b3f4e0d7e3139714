"""YAML files mean the same to every reader, or are refused with their line."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import FileFaults
from bridge.yamlfile import MAX_BYTES, read_yaml, read_yaml_file


def refusal(text: str | bytes) -> str:
    with pytest.raises(FileFaults) as refused:
        read_yaml(text if isinstance(text, bytes) else text.encode(), "t.yaml")
    return str(refused.value)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_file_raises_anything_but_its_faults(content: bytes) -> None:
    try:
        read_yaml(content, "t.yaml")
    except FileFaults as error:
        assert all(fault.file == "t.yaml" and fault.line >= 1 for fault in error.faults)


@given(st.text("{}[]:,-#&*!|>'\"%@` \n\tab01?~<", max_size=60))
def test_no_file_that_looks_nearly_right_raises_anything_but_its_faults(text: str) -> None:
    try:
        read_yaml(text.encode(), "t.yaml")
    except FileFaults as error:
        assert error.faults


def test_plain_values_are_texts_numbers_truths_and_nothing() -> None:
    found = read_yaml(b"a: 1\nb: 5300.250\nc: -1\nd: text\ne: true\nf:\ng: 60s\nh: '010'\ni: [x, 2]\nj: {k: null}\n", "f")

    assert found.value == {"a": 1, "b": Decimal("5300.250"), "c": -1, "d": "text", "e": True, "f": None, "g": "60s",
                           "h": "010", "i": ["x", 2], "j": {"k": None}}
    assert str(found.value["b"]) == "5300.250"


@pytest.mark.parametrize("word", ["no", "yes", "on", "Off", "y", "N", "010", "0o10", "0x10", "0b1", "1:30", "1_000",
                                  "2026-11-20", "2026-11-20T15:30:00Z", ".inf", "-.INF", ".nan", "~", "1e3", "1.5e3",
                                  "=", "010.5", "<<"])
def test_words_that_yaml_versions_read_differently_are_refused_and_may_be_quoted(word: str) -> None:
    assert refusal(f"max_age: {word}\n").startswith("t.yaml:1:10: max_age: is an unquoted word")
    assert read_yaml(f'max_age: "{word}"\n'.encode(), "t.yaml").value == {"max_age": word}


def test_such_a_word_is_refused_as_a_name_too() -> None:
    assert "t.yaml:2:3: accounts.no:" in refusal("accounts:\n  no:\n    broker: x\n")
    assert "t.yaml:1:1: 5: the name '5' is no text" in refusal("5: x\n")


@pytest.mark.parametrize(("text", "words"), [
    ("a: 1\na: 2\n", "2:1: a: stands twice"), ("a: &x 1\n", "anchor"), ("a: *x\n", "alias"), ("a: !!str b\n", "tag"),
    ("a: !python/object:os b\n", "tag"), ("a: 1\n---\nb: 2\n", "second document"),
    ("%YAML 1.1\n---\na: 1\n", "directives"), ("a: [1\n", "no YAML"), ("a: b: c\n", "second colon"),
    ("{{ x }}: 1\n", "must be a text"), ("a: \x01\n", "no YAML"), (b"a: \xe9\n", "1:4: is not UTF-8"),
    (b"a: 1\nb: \0\n", "2:4: holds a NUL"), ("x" * (MAX_BYTES + 1), "256 kB"), ("a: " + "9" * 31 + "\n", "30 digits"),
    ("- " * 21 + "a", "20 levels")])
def test_what_is_not_plain_is_refused_with_its_place(text: str | bytes, words: str) -> None:
    assert words in refusal(text)


def test_all_faults_are_told_together() -> None:
    assert len(refusal("a: no\nb: 010\nc: 1\nc: 2\n").splitlines()) == 3


def test_no_fault_shows_a_value() -> None:
    for text in ("p: *hunter2", "p: &hunter2 x", "p: !hunter2 x", "p: 0x1234", 'p: "hunter2', "p: 1_2_3_4"):
        found = refusal(text)
        assert "hunter2" not in found
        assert "1234" not in found
        assert "1_2" not in found


@pytest.mark.parametrize("text", ["[" * 200_000, "{" * 200_000, "- " * 100_000,
                                  "a: &a [x]\nb: [" + "*a," * 50_000 + "]", "? " * 100_000,
                                  "".join(f"k{number}: no\n" for number in range(20_000))])
def test_no_file_costs_more_than_a_moment(text: str) -> None:
    began = time.process_time()
    refusal(text)

    assert time.process_time() - began < 2


def test_each_part_has_its_place() -> None:
    found = read_yaml(b"order:\n  legs:\n  - side: buy\n  - side: sell\n", "t.yaml")

    assert (found.fault(("order", "legs", 1, "side"), "x").line, found.fault(("order",
    "legs", 1), "x").column) == (4, 5)
    assert str(found.fault(("order", "legs", 1, "price"), "is missing")) == (
        "t.yaml:4:5: order.legs.1.price: is missing")


def test_a_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(FileFaults, match="cannot be read: No such file"):
        read_yaml_file(tmp_path / "none.yaml")
