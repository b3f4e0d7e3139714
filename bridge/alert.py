"""An alert's body, judged by its content: a JSON object, `key=value;` pairs, or text. And its fingerprint.

The sender's content type is never asked: senders get it wrong. Nothing in a body is ever evaluated; numbers stay the
text they came as until a declared field reads them, so that no digit is lost and none costs time.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from bridge.errors import BodyError
from bridge.numbers import read_number

MAX_BYTES = 65_536
MAX_DEPTH = 20

Form = Literal["json", "key_value", "text"]


@dataclass(frozen=True, slots=True)
class JsonNumber:
    """A JSON number as it was written. `to_json` is its exact value, or its text where that is out of all bounds."""

    text: str

    def to_json(self) -> Decimal | str:
        """The exact value for `numbers.dump_json`."""
        try:
            return read_number(self.text)
        except ValueError:
            return self.text

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Body:
    """A body that could be read. `fields` is None for text; in JSON, numbers are `JsonNumber`s. `text` is the whole
    body, decoded, without a byte order mark."""

    form: Form
    fields: Mapping[str, Any] | None
    text: str

    def to_json(self) -> dict[str, Any]:
        """What `bridge parse` prints."""
        return {"form": self.form, "fields": self.fields}


def as_raw(found: Any) -> Any:
    """What `alert.raw` shows of a body's fields: the same shape, every plain value as the text it came as."""
    if isinstance(found, Mapping):
        return {key: as_raw(value) for key, value in found.items()}
    if isinstance(found, list):
        return [as_raw(value) for value in found]
    if isinstance(found, bool):
        return "true" if found else "false"
    return found if found is None or isinstance(found, str) else str(found)


def fingerprint(body: bytes) -> str:
    """What the same body always gives, and another does not: its SHA-256 in hex."""
    return hashlib.sha256(body).hexdigest()


def read_body(body: bytes) -> Body:
    """The body as a JSON object, pairs or text. Raises BodyError, in words that help, and nothing else."""
    if len(body) > MAX_BYTES:
        raise BodyError(f"the body has {len(body)} bytes; at most {MAX_BYTES} are read")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BodyError(f"the body is not UTF-8 text (byte {error.start + 1}); compressed ones are not read") from None
    stripped = text.strip()
    if not stripped:
        raise BodyError("the body is empty; an alert is a JSON object, key=value; pairs or text")
    if stripped[0] in '{["':
        return Body("json", _read_object(text), text)
    if _is_json_scalar(stripped):
        raise BodyError(f"the body is a bare {_kind(stripped)}; an alert is a JSON object like "
                        '{"ticker": "ES1!", "action": "buy"}')
    pairs = _split_pairs(text)
    if pairs is None:
        return Body("text", None, text)
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            raise BodyError(f"the key {key!r} stands twice; which of its values is meant?")
        fields[key] = value
    return Body("key_value", fields, text)


# -- JSON ------------------------------------------------------------------------------------------------------------


def _read_object(text: str) -> Mapping[str, Any]:
    depth = _depth(text)
    if depth > MAX_DEPTH:
        raise BodyError(f"the JSON is nested {depth} levels deep; at most {MAX_DEPTH} are read")
    try:
        found = json.loads(text, parse_float=JsonNumber, parse_int=JsonNumber, parse_constant=_no_constant,
                           object_pairs_hook=_unique)
    except _Refused as error:
        raise BodyError(str(error)) from None
    except json.JSONDecodeError as error:
        raise BodyError(_explain(text, error)) from None
    if not isinstance(found, dict):
        kind = "array" if isinstance(found, list) else "text"
        advice = "; one alert can make several orders with `orders:` in its template" if kind == "array" else ""
        raise BodyError(f"the body is a JSON {kind}; an alert is one JSON object{advice}")
    return found


class _Refused(Exception):
    """A JSON body that Python would take and we do not."""


def _no_constant(text: str) -> Any:
    raise _Refused(f"{text} is no JSON number: a plot or price of the alert had no value when it fired")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"the key {key!r} stands twice; which of its values is meant?")
            seen.add(key)
    return found


_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
"""Strings (the last one may be cut) and brackets; possessive, so that a scan is linear whatever the body."""


def _depth(text: str) -> int:
    """How deep brackets nest outside strings: one scan, before the JSON parser's recursion could be reached."""
    depth = deepest = 0
    for found in _STRUCTURE.finditer(text):
        if found[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif found[0] in "]}":
            depth -= 1
    return deepest


def _explain(text: str, error: json.JSONDecodeError) -> str:
    """The JSON parser's complaint in a trader's words: what broke, and where."""
    line, column, at = error.lineno, error.colno, error.pos
    where = f"line {line}, column {column}"
    rest, before = text[at:], text[:at].rstrip()
    # Nothing but names and marks of a body is ever shown: its values may hold a password.
    if placeholder := _placeholder_near(text, at):
        return (f"the body is no JSON: {placeholder} was not replaced by the charting platform ({where}); "
                "put placeholders in double quotes and use only those that this kind of alert knows")
    if before.endswith(",") and rest[:1] in "}]" and rest:
        return f"the body is no JSON: a comma too many before {rest[0]!r} ({where})"
    if "Invalid control character" in error.msg:
        return (f"the body is no JSON: a line break or control character inside a text ({where}); "
                "an alert message or comment with several lines cannot stand in a JSON text")
    if rest.startswith(("//", "/*")):
        return f"the body is no JSON: comments are not allowed ({where})"
    if text.lstrip()[:1] == '"':
        return "the body is no JSON object: its outer braces { } are missing"
    if any(mark in text for mark in "“”„‘’"):
        return f'the body is no JSON: it has curly quotes; write straight ones " ({where})'
    if not rest.strip():
        return f"the body is no JSON: it ends in the middle ({where})"
    if not rest.strip("\0 \r\n\t"):
        return f"a NUL byte follows the JSON object ({where}); MetaTrader sends one when it posts a whole array"
    if error.msg == "Extra data":
        return f"the body is more than one JSON object: something follows its end ({where})"
    if rest[0].isspace() and rest[0] not in " \t\r\n":
        return f"the body is no JSON: it holds a no-break space or another odd blank outside texts ({where})"
    if rest[0].isdigit() and before.endswith("0"):
        return f"the body is no JSON: a number begins with a zero too many ({where})"
    return f"the body is no JSON: {_WORDS.get(error.msg, error.msg)} ({where})"


_WORDS = {
    "Unterminated string starting at": "a text has no closing double quote",
    "Expecting value": "a value is missing or not quoted",
    "Expecting ',' delimiter": "a comma is missing, or a text holds a double quote",
    "Expecting ':' delimiter": "a colon is missing after a name",
    "Expecting property name enclosed in double quotes": "a name is not in double quotes",
    "Illegal trailing comma before end of object": "a comma too many",
    "Illegal trailing comma before end of array": "a comma too many",
}


def _placeholder_near(text: str, at: int) -> str:
    """The placeholder that the parser stumbled over, or one with quotes inside that it stumbled out of."""
    for found in re.finditer(r"\{\{.{0,80}?\}\}|%[A-Za-z_]\w{0,40}%", text):
        if found.start() - 1 <= at <= found.end():
            return found[0]
    return ""


def _is_json_scalar(text: str) -> bool:
    return text in ("null", "true", "false", "NaN", "Infinity", "-Infinity") or bool(_JSON_NUMBER.fullmatch(text))


_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def _kind(text: str) -> str:
    return "number" if _JSON_NUMBER.fullmatch(text) else text


# -- pairs -----------------------------------------------------------------------------------------------------------

_SEPARATOR = re.compile(r"[;\r\n]+")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_KEY_AT_END = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")


def _split_pairs(text: str) -> list[tuple[str, str]] | None:
    """Keys in lower case with their values, or None for a text that does not split cleanly into pairs."""
    pairs: list[tuple[str, str]] = []
    for segment in _SEPARATOR.split(text):
        if not segment.strip():
            continue
        key, equals, value = segment.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not _KEY.fullmatch(key) or _holds_key(value):
            return None
        pairs.append((key.lower(), value))
    return pairs or None


def _holds_key(value: str) -> bool:
    """Whether a value holds a further `key=`: then the text is no clean list of pairs. Padding at its end is none."""
    before_equals = value.rstrip("=").split("=")[:-1]
    return any(_KEY_AT_END.search(part.rstrip()[-64:]) for part in before_equals)
