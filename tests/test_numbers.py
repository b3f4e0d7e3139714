"""Decimal numbers in and out of text and JSON."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.numbers import dump_json, is_multiple, load_json, read_number, shortest

NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, places=8, min_value=-10**12, max_value=10**12)
LIKE_A_MARK = ["\0" + "0\0", "\0\0" + "1\0\0", '"\0' + '0\0']
TEXTS = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(LIKE_A_MARK)


@given(NUMBERS)
def test_a_number_goes_through_text_and_back_to_the_last_digit(number: Decimal) -> None:
    assert read_number(shortest(number)) == number


@pytest.mark.parametrize("text", ["5300.25", "-0.5", ".5", "5.", "+2", "1e2", "1E-20", "0" * 30])
def test_plain_numbers_are_read(text: str) -> None:
    assert read_number(text) == Decimal(text)


@pytest.mark.parametrize("text", ["", " 5", "5 ", "1,000", "1_000", "٣", "２", "NaN", "sNaN", "inf", "-Infinity", "0x2",
                                  "1e200", "1e20000000", "--5", "5300.2.5", "1" * 31, "0." + "1" * 31, "9" * 5000, "½",
                                  "1e", "e5", ".", "-"])
def test_what_is_no_plain_number_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"number|digits"):
        read_number(text)


@pytest.mark.parametrize(("number", "text"), [
    ("5300.50", "5300.5"), ("1E+3", "1000"), ("-0", "0"), ("-0.00", "0"), ("0.00001", "0.00001"),
    ("-37.630", "-37.63")])
def test_the_shortest_text_is_plain_digits(number: str, text: str) -> None:
    assert shortest(Decimal(number)) == text


def test_what_is_no_finite_number_has_no_text() -> None:
    with pytest.raises(ValueError, match="not a number"):
        shortest(Decimal("NaN"))


def test_a_price_is_a_multiple_of_its_tick_exactly() -> None:
    assert is_multiple(Decimal("5300.25"), Decimal("0.25"))
    assert not is_multiple(Decimal("5300.30"), Decimal("0.25"))
    assert is_multiple(Decimal("110.515625"), Decimal("0.015625"))


VALUES: Any = st.recursive(
    NUMBERS | TEXTS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12)


@given(VALUES)
def test_json_keeps_every_digit_and_every_text_whatever_it_holds(value: Any) -> None:
    text = dump_json(value)

    text.encode()
    assert json.loads(text, parse_float=Decimal) == value


@pytest.mark.parametrize("text", ['{"a": NaN}', '[Infinity]', '{"a": 1, "a": 2}', "[" * 100_000,
                                  '{"a": ' + "9" * 40 + "}", '{"a": 1e20000000}', "", "{"])
def test_json_that_python_would_take_or_die_of_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        load_json(text)


def test_json_numbers_come_back_as_decimals_and_whole_numbers() -> None:
    assert load_json('{"a": 5300.30, "b": 7}') == {"a": Decimal("5300.30"), "b": 7}
    assert isinstance(load_json("[0.1]")[0], Decimal)


class Named:
    def to_json(self) -> dict[str, Decimal]:
        return {"price": Decimal("1.10")}


def test_things_with_a_json_form_are_written_by_it() -> None:
    assert dump_json([Named()]) == '[{"price": 1.1}]'
    with pytest.raises(TypeError, match="no JSON form"):
        dump_json([object()])
