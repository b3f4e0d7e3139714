"""Bodies are judged by their content, and refused in words that help."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.alert import MAX_BYTES, JsonNumber, as_raw, fingerprint, read_body
from bridge.errors import BodyError


def refusal(body: str | bytes) -> str:
    with pytest.raises(BodyError) as refused:
        read_body(body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass"))
    return str(refused.value)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_body_raises_anything_but_its_own_error(raw: bytes) -> None:
    try:
        read_body(raw)
    except BodyError as error:
        assert str(error)


@given(st.text('{}[]":;=,\\ \n\t%/aeE0159.-+nulfit', max_size=60))
def test_no_body_that_looks_nearly_right_raises_anything_but_its_own_error(text: str) -> None:
    try:
        read_body(text.encode())
    except BodyError as error:
        assert str(error)


def test_json_numbers_stay_the_text_they_came_as() -> None:
    fields = read_body(b'{"price": 5300.30, "n": 1e2, "deep": [{"x": -0.50}]}').fields
    assert fields is not None

    assert fields["price"] == JsonNumber("5300.30")
    assert as_raw(fields) == {"price": "5300.30", "n": "1e2", "deep": [{"x": "-0.50"}]}
    assert fields["price"].to_json() == Decimal("5300.30")


def test_a_number_beyond_all_bounds_costs_nothing_and_stays_text() -> None:
    fields = read_body(b'{"contracts": 1e20000000}').fields
    assert fields is not None

    assert fields["contracts"].to_json() == "1e20000000"


@pytest.mark.parametrize(("body", "words"), [
    ("", "empty"), (" \n ", "empty"), ("null", "bare null"), ("5300.25", "bare number"), ("true", "bare true"),
    ('"buy"', "JSON text"), ("[]", "JSON array"), ('{"a":1,}', "comma too many"), ('{"a":{{close}}}', "{{close}}"),
    ('{"a":"{{plot("Stop Loss")}}"}', '{{plot("Stop Loss")}}'), ('{"a":%last_price%}', "%last_price%"),
    ('{"a":NaN}', "NaN"), ('{"a":-Infinity}', "-Infinity"), ('{"a":1,"a":2}', "'a' stands twice"),
    ('{"x":{"b":1,"b":1}}', "'b' stands twice"), ('{"a":"x\ny"}', "line break"), ('{"a":1 // no\n}', "comments"),
    ('"a":1,"b":2', "braces"), ("{“a”: 1}", "curly quotes"), ('{"a":', "ends in the middle"), ('{"a":1}\0', "NUL"),
    ('{"a":1}{"a":1}', "more than one"), ('{\u00a0"a":1}', "blank"), ('{"a":007}', "zero too many"),
    ('{"a":"x}', "closing double quote"), ("{a:1}", "double quotes"), ('{"a" 1}', "colon"),
    ("a=1;a=2", "'a' stands twice"), ('{"a":"TP "runner" hit"}', "double quote"), (b"\xff\xfe", "UTF-8"),
    (b"\x1f\x8b\x08", "UTF-8"), ("x" * (MAX_BYTES + 1), "at most 65536"), ('{"a":' * 21 + "1" + "}" * 21, "21 levels"),
    ("[" * 60_000, "levels")])
def test_what_is_wrong_with_a_body_is_said(body: str | bytes, words: str) -> None:
    assert words in refusal(body)


def test_no_refusal_shows_a_value_of_the_body() -> None:
    assert "hunter2" not in refusal('{"secret":"hunter2",}')
    assert "hunter2" not in refusal('{"secret":hunter2}')
    assert "hunter2" not in refusal("secret=hunter2;secret=hunter2")


def test_twenty_levels_are_read_and_brackets_in_texts_do_not_count() -> None:
    read_body(('{"a":' * 20 + "1" + "}" * 20).encode())
    read_body(b'{"a":"' + b"[" * 1000 + b'"}')


@pytest.mark.parametrize(("text", "fields"), [
    ("ticker=ES1!;action=buy", {"ticker": "ES1!", "action": "buy"}),
    ("TICKER = ES 12-26 ;\r\nAction=BUY;", {"ticker": "ES 12-26", "action": "BUY"}), ("a=", {"a": ""}),
    ("token=abc==", {"token": "abc=="}), ("a=b,c=", {"a": "b,c="}), ("a=5=", {"a": "5="}), ("\ufeffa=1", {"a": "1"})])
def test_pairs_are_split_at_semicolons_and_line_ends(text: str, fields: dict[str, str]) -> None:
    body = read_body(text.encode())

    assert (body.form, body.fields) == ("key_value", fields)


@pytest.mark.parametrize("text", ["BUY ES1!", "a=1 b=2", "c=order s=ES1!", "=5", "Price, now = 5", "<p class=x>",
                                  "a=1;junk", "url=http://x?a=b", "x y=1"])
def test_what_does_not_split_cleanly_into_pairs_is_text(text: str) -> None:
    assert read_body(text.encode()).form == "text"


@pytest.mark.parametrize("body", ['{"a":"' + '\\"' * 32_000, "{" + '"\\' * 32_000, "a=" + "a" * 65_000,
                                  "a=" + "a=" * 30_000, "{{" * 32_000, '"' * 65_000, '{"' + "{{" * 32_000,
                                  ";" * MAX_BYTES, "=" * MAX_BYTES, "%" * MAX_BYTES, "{" + "%a" * 32_000])
def test_no_body_costs_more_than_a_moment(body: str) -> None:
    began = time.process_time()
    try:
        read_body(body.encode())
    except BodyError:
        pass

    assert time.process_time() - began < 0.5


def test_a_fingerprint_tells_bodies_apart() -> None:
    assert fingerprint(b"a") == fingerprint(b"a")
    assert fingerprint(b"a") != fingerprint(b"a ")
    assert len(fingerprint(b"")) == 64
