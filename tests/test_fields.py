"""Declared fields: typed, or refused with the field's name."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.alert import Body, JsonNumber, read_body
from bridge.errors import AlertError
from bridge.fields import DeclarationError, declare
from bridge.numbers import dump_json, shortest


def read(kind: Any, value: Any) -> Any:
    return declare({"f": kind}).read(Body("json", {"f": value}, ""))["f"]


def refusal(kind: Any, value: Any) -> str:
    with pytest.raises(AlertError) as refused:
        read(kind, value)
    assert [fault.field for fault in refused.value.faults] == ["f"]
    return str(refused.value)


@pytest.mark.parametrize(("kind", "value", "expected"), [
    ("text", "ES1!", "ES1!"), ("text", " EURUSD ", "EURUSD"), ("text", JsonNumber("500325"), "500325"),
    ("text", "50%", "50%"), ("integer", JsonNumber("2"), Decimal(2)), ("integer", "2", Decimal(2)),
    ("integer", "2.0", Decimal(2)), ("integer", JsonNumber("1e2"), Decimal(100)), ("integer", "-2", Decimal(-2)),
    ("number", "5300.30", Decimal("5300.30")), ("number", JsonNumber("5300.30"), Decimal("5300.30")),
    ("number", " 0.1", Decimal("0.1")), ("number", 5, Decimal(5)),
    ("number", "1.2376578968407697", Decimal("1.2376578968407697")), ("side", "BUY", "buy"), ("side", "long", "buy"),
    ("side", JsonNumber("1"), "buy"), ("side", "-1", "sell"), ("side", "Short", "sell"), ("side", "s", "sell"),
    ("bool", True, True), ("bool", "yes", True), ("bool", JsonNumber("0"), False), ("bool", "FALSE", False),
    ("time", "2026-11-20T15:30:00Z", datetime(2026, 11, 20, 15, 30, tzinfo=UTC)),
    ("time", "2026-11-20T15:30Z", datetime(2026, 11, 20, 15, 30, tzinfo=UTC)),
    ("time", "2026-11-20 09:30:00.1234567-0500", datetime(2026, 11, 20, 14, 30, 0, 123456, tzinfo=UTC)),
    ("time", JsonNumber("1795188600"), datetime(2026, 11, 20, 15, 30, tzinfo=UTC)),
    ("time", "1795188600000", datetime(2026, 11, 20, 15, 30, tzinfo=UTC)),
    ({"type": "time", "zone": "Asia/Kolkata"}, "2026-11-20 21:00:00", datetime(2026, 11, 20, 15, 30, tzinfo=UTC)),
    ({"type": "time", "zone": "Asia/Kolkata"}, "2026-11-20T15:30:00Z", datetime(2026, 11, 20, 15, 30, tzinfo=UTC)),
    ({"type": "number", "optional": True}, None, None), ({"type": "number", "optional": True}, " ", None),
    ({"type": "text", "one_of": ["buy", "sell"]}, "sell", "sell"),
    ({"type": "integer", "one_of": [1, "2"]}, "2", Decimal(2))])
def test_a_value_is_read_alike_from_json_and_from_text(kind: Any, value: Any, expected: Any) -> None:
    found = read(kind, value)

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("kind", "value", "words"), [
    ("text", "", "empty"), ("text", None, "null"), ("text", {"a": 1}, "an object"), ("text", ["a"], "a list"),
    ("text", True, "true"), ("text", "{{ticker}}", "placeholder"), ("text", "a {{ x", "placeholder"),
    ("text", "%last_price%", "placeholder"), ("text", "${ACTION}", "placeholder"), ("text", "{ticker}", "placeholder"),
    ("text", "a\0b", "U+0000"), ("text", "\x1b[2J", "U+001B"), ("text", "a\nb", "U+000A"),
    ("text", "a\ud800", "U+D800"), ("text", "a\u2028b", "U+2028"), ("text", "x" * 1001, "at most 1000"),
    ("integer", "1.37", "not a whole number"), ("integer", "1_000", "plain number"),
    ("integer", "1,000", "plain number"), ("integer", "٣", "plain number"), ("integer", "２", "plain number"),
    ("integer", True, "true"), ("integer", "0x2", "plain number"),
    ("integer", JsonNumber("1e20000000"), "plain number"), ("integer", JsonNumber("1e99"), "too large"),
    ("integer", [2], "a list"), ("number", "NaN", "no value"), ("number", "sNaN", "no value"),
    ("number", "inf", "no value"), ("number", "", "empty"), ("number", "5300.2.5", "plain number"),
    ("number", JsonNumber("9" * 5000), "characters"), ("number", JsonNumber("1e-20000000"), ""),
    ("side", "hold", "no side"), ("side", "", "no side"), ("side", JsonNumber("2"), "no side"),
    ("side", "buy sell", "no side"), ("bool", "maybe", "neither true nor false"), ("time", "yesterday", "no time"),
    ("time", "2026-02-30T10:00:00Z", "no possible"), ("time", "0000-01-01T00:00:00Z", "no possible"),
    ("time", "2026-11-20T25:00:00Z", "no possible"), ("time", JsonNumber("-1"), "no time"),
    ("time", "x1795188600", "no time"), ("time", "2026-11-20 09:30:00", "no time zone"),
    ("time", "2026-11-20", "no time"), ("time", "0001-01-01T00:00:00+14:00", "beyond"),
    ("time", "9999-12-31T23:59:59-14:00", "beyond"), ("time", "1795188600000000", "no time"),
    ("time", "2026-11-20T15:30:00+25:00", "no possible offset"), ("time", "٢026-11-20T15:30:00Z", "no time"),
    ({"type": "time", "zone": "America/New_York"}, "2026-11-01 01:30:00", "twice or not at all"),
    ({"type": "time", "zone": "America/New_York"}, "2026-03-08 02:30:00", "twice or not at all"),
    ({"type": "text", "one_of": ["buy", "sell"]}, "hold", "none of buy, sell"),
    ({"type": "number", "optional": True}, "NaN", "no value")])
def test_a_value_that_is_not_plain_is_refused_with_its_field(kind: Any, value: Any, words: str) -> None:
    assert words in refusal(kind, value)


@given(st.sampled_from(["text", "integer", "number", "side", "time", "bool"]),
       st.none() | st.booleans() | st.text(st.characters(codec=None), max_size=30) | st.integers().map(lambda n: JsonNumber(str(n)))
       | st.decimals(allow_nan=True) | st.lists(st.integers(), max_size=2) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"))
def test_no_value_raises_anything_but_alert_errors(kind: str, value: Any) -> None:
    try:
        read(kind, value)
    except AlertError as error:
        assert [fault.field for fault in error.faults] == ["f"]


@given(st.decimals("-999999999", "999999999", places=9))
def test_a_price_in_is_the_price_out_to_the_last_digit(price: Decimal) -> None:
    body = read_body(f'{{"a": {price:f}, "b": "{price:f}"}}'.encode())
    found = declare({"a": "number", "b": "number"}).read(body)

    assert found["a"].as_tuple() == found["b"].as_tuple() == Decimal(f"{price:f}").as_tuple()
    assert dump_json(found["a"]) == shortest(price)


def test_all_wrong_fields_are_told_together() -> None:
    fields = declare({"ticker": "text", "action": "side", "price": "number"})

    with pytest.raises(AlertError) as refused:
        fields.read(read_body(b'{"action": "hold", "price": null}'))
    assert {fault.field for fault in refused.value.faults} == {"ticker", "action", "price"}


def test_a_missing_field_is_named_with_what_stands_in_its_place() -> None:
    with pytest.raises(AlertError, match="it has 'Ticker': upper and lower case must match"):
        declare({"ticker": "text"}).read(read_body(b'{"Ticker": "ES1!"}'))
    with pytest.raises(AlertError, match="it has 'tickr'"):
        declare({"ticker": "text"}).read(read_body(b'{"tickr": "ES1!"}'))


def test_the_keys_of_pairs_match_in_any_case() -> None:
    assert declare({"Ticker": "text"}).read(read_body(b"TICKER=ES1!")) == {"Ticker": "ES1!"}


def test_a_field_may_lie_deep_in_the_body() -> None:
    body = read_body(b'{"strategy": {"order": {"price": 5.5}}, "zone": [1, 2], "a.b": "x"}')
    fields = declare({"price": {"type": "number", "from": ["strategy", "order", "price"]},
                      "high": {"type": "number", "from": ["zone", 1]}, "dotted": {"type": "text", "from": ["a.b"]},
                      "none": {"type": "text", "from": ["strategy", "order", "no", "where"], "optional": True}})

    assert fields.read(body) == {"price": Decimal("5.5"), "high": Decimal(2), "dotted": "x", "none": None}


@pytest.mark.parametrize(("section", "path", "words"), [
    ({"f": "whole"}, ("f", "type"), "'whole' is no type"), ({"f": "intger"}, ("f", "type"), "did you mean 'integer'"),
    ({"f": {"optional": True}}, ("f",), "has no type"),
    ({"f": {"type": "text", "form": ["x"]}}, ("f", "form"), "did you mean 'from'"),
    ({"f": {"type": "text", "from": []}}, ("f", "from"), "list of names"),
    ({"f": {"type": "text", "zone": "UTC"}}, ("f", "zone"), "time"),
    ({"f": {"type": "time", "zone": "Mars/Olympus"}}, ("f", "zone"), "no time zone"),
    ({"f": {"type": "time", "zone": "../../etc/passwd"}}, ("f", "zone"), "no time zone"),
    ({"f": {"type": "text", "optional": "perhaps"}}, ("f", "optional"), "true or false"),
    ({"raw": "text"}, ("raw",), "reserved"),
    ({"f": {"type": "integer", "one_of": ["x"]}}, ("f", "one_of"), "plain number"),
    ({"a b": "text"}, ("a b",), "no field name"),
    ({"f": {"type": "text", "one_of": []}}, ("f", "one_of"), "list of values"), ({"f": 5}, ("f",), "expected a type"),
    ({"__class__": "text"}, ("__class__",), "no field name")])
def test_a_wrong_declaration_is_refused_with_its_place(section: Any, path: tuple[str, ...], words: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        declare(section)

    assert [found for found, _ in refused.value.faults] == [path]
    assert words in refused.value.faults[0][1]
