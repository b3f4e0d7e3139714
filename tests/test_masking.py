"""Other services' keys never reach the record of alerts, and nothing else of a body changes."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.alert import read_body
from bridge.errors import BodyError
from bridge.masking import MASK, SECRET_NAMES, is_secret, masked


@pytest.mark.parametrize(("body", "expected"), [
    ('{"apikey":"s3cr3t","symbol":"SBIN"}', '{"apikey":"***","symbol":"SBIN"}'),
    ('{"Token" : "s3cr3t", "price": 5300.250}', '{"Token" : "***", "price": 5300.250}'),
    ('{"a": {"secret": 12345}, "n": [1, {"key": null}]}', '{"a": {"secret": "***"}, "n": [1, {"key": "***"}]}'),
    ('{"accounts":[{"token":"s3","id":"A"},{"token":"s4","id":"B"}]}',
     '{"accounts":[{"token":"***","id":"A"},{"token":"***","id":"B"}]}'),
    ('{"secret": ["s3", {"x": "s4"}], "n": 1}', '{"secret": "***", "n": 1}'),
    ('{"to\\u006ben": "s3cr3t"}', '{"to\\u006ben": "***"}'),
    ('{"note": "token: \\"key\\": \\"x\\"", "n": 1}', '{"note": "token: \\"key\\": \\"x\\"", "n": 1}'),
    ('{"key": "a\\"b", "n": 1}', '{"key": "***", "n": 1}'),
    ('{"instrument_token": "3045", "code": "SBIN"}', '{"instrument_token": "3045", "code": "SBIN"}'),
    ('{"key": "s3cr3t', '{"key": "***"'), ('{"secret": {"a": "s3', '{"secret": "***"'), ('{"key":', '{"key":'),
    ('\ufeff{"key": "s3"}', '\ufeff{"key": "***"}'),
    ("key=s3cr3t;command=PLACE;account=sim101;", "key=***;command=PLACE;account=sim101;"),
    ("KEY = my secret ; qty=1", "KEY = ***; qty=1"), ("qty=1;\r\npassphrase=two words\r\nside=buy",
     "qty=1;\r\npassphrase=***\r\nside=buy"),
    ("BUY ES1! token=s3cr3t qty 2", "BUY ES1! token=*** qty 2"), ("BUY ES1! key: s3cr3t", "BUY ES1! key: ***"),
    ("monkey=1;turkey: 2", "monkey=1;turkey: 2"), ("BUY ES1! @ 5300.25", "BUY ES1! @ 5300.25"), ("", "")])
def test_keys_are_masked_and_the_rest_stays_to_the_byte(body: str, expected: str) -> None:
    assert masked(body) == expected
    assert masked(expected) == expected


def test_a_masked_body_is_read_like_before_but_for_its_keys() -> None:
    body = '{"token": "s3cr3t", "n": 1.10, "deep": {"apikey": 5, "x": [1, "two"]}}'

    fields = read_body(masked(body).encode()).fields

    assert fields is not None
    assert fields["token"] == MASK and fields["deep"]["apikey"] == MASK
    assert str(fields["n"]) == "1.10"
    assert fields["deep"]["x"][1] == "two"


_PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20))
_NAMES = st.one_of(st.sampled_from(sorted(SECRET_NAMES)), st.text(max_size=12))
_BODIES = st.recursive(_PLAIN, lambda inner: st.one_of(st.lists(inner, max_size=3),
                                                       st.dictionaries(_NAMES, inner, max_size=4)), max_leaves=15)


def _without_keys(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: MASK if is_secret(name) else _without_keys(value) for name, value in found.items()}
    return [_without_keys(each) for each in found] if isinstance(found, list) else found


@given(st.dictionaries(_NAMES, _BODIES, max_size=5), st.sampled_from([None, 2]), st.booleans())
def test_of_any_json_every_key_and_only_the_keys_are_masked(body: dict[str, Any], indent: int | None, ascii: bool) -> None:
    text = json.dumps(body, indent=indent, ensure_ascii=ascii)

    assert json.loads(masked(text)) == _without_keys(body)


@given(st.text("{}[]\":,\\ ;=\nkeytoken1", max_size=60))
def test_no_body_breaks_the_masking(text: str) -> None:
    again = masked(text)

    assert masked(again) == again
    for form in (text, again):
        try:
            read_body(form.encode())
        except BodyError:
            pass


@pytest.mark.parametrize("body", ['{"key":' * 9000, '{"a":"' + "\\" * 60_000, "key=" * 16_000, "key = " * 10_000,
                                  '{"key":' + "[" * 60_000, "key" + " " * 60_000 + "x", '{"key"' + " " * 60_000 + "x"])
def test_masking_takes_no_longer_than_the_body_is_long(body: str) -> None:
    began = time.process_time()
    masked(body)

    assert time.process_time() - began < 0.1
