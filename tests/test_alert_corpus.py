"""Every alert body of the corpus is read as marked: its form and fields, or refused."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bridge.alert import JsonNumber, read_body
from bridge.errors import BodyError
from bridge.numbers import dump_json

CORPUS = Path(__file__).resolve().parents[1] / "../shared/data/alert-corpus.json"
ENTRIES: list[dict[str, Any]] = json.loads(CORPUS.read_text(), parse_float=Decimal) if CORPUS.exists() else []


def plain(found: Any) -> Any:
    """Fields with their numbers as numbers."""
    if isinstance(found, JsonNumber):
        return found.to_json()
    if isinstance(found, dict):
        return {key: plain(value) for key, value in found.items()}
    return [plain(value) for value in found] if isinstance(found, list) else found


@pytest.mark.skipif(not ENTRIES, reason="the alert corpus is not beside this checkout")
def test_the_corpus_is_whole() -> None:
    assert len(ENTRIES) == 125


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry["id"] for entry in ENTRIES])
def test_a_body_of_the_corpus_is_read_as_marked(entry: dict[str, Any]) -> None:
    raw = entry["body"].encode()

    if entry["parse"] == "invalid":
        with pytest.raises(BodyError) as refused:
            read_body(raw)
        assert refused.value.http_status == 400
        return

    body = read_body(raw)
    assert body.form == entry["parse"]
    assert (None if body.fields is None else plain(dict(body.fields))) == entry["fields"]
    assert json.loads(dump_json(body.to_json()), parse_float=Decimal)["fields"] == entry["fields"]
