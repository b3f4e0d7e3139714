"""Decimal numbers from an alert's text to a broker's JSON, exact to the last digit, never a binary float."""

from __future__ import annotations

import json
import re
from decimal import Context, Decimal
from functools import cache
from typing import Any

_PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,2})?", re.ASCII)
_MAX_DIGITS = 30

EXACT = Context(prec=60)
"""Arithmetic on prices: wide enough that no product or sum of two accepted numbers is rounded."""


def read_number(text: str) -> Decimal:
    """A plain ASCII number of at most 30 digits and an exponent of at most two.

    Raises ValueError, in words, for anything else: `1,000`, `1_000`, `٣`, `NaN`, `1e20000000`.
    """
    if len(text) > 80:
        raise ValueError("is too long for a number")
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"{text!r} is not a plain number like 5300.25")
    if sum(character.isdigit() for character in re.split("[eE]", text)[0]) > _MAX_DIGITS:
        raise ValueError(f"has more than {_MAX_DIGITS} digits")
    return Decimal(text)


def shortest(value: Decimal) -> str:
    """The shortest exact decimal text: 5300.50 → 5300.5, 1E+3 → 1000, -0 → 0."""
    if not value.is_finite():
        raise ValueError(f"{value} is not a number")
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def is_plain(value: Decimal) -> bool:
    """Whether a number is no longer than those that are read: at most 30 digits, written out without an exponent."""
    return sum(character.isdigit() for character in shortest(value)) <= _MAX_DIGITS


def is_multiple(value: Decimal, step: Decimal) -> bool:
    """Whether `value` is a whole number of `step`s."""
    return EXACT.remainder(value, step) == 0


def dump_json(value: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """`json.dumps` for values that hold Decimals: each becomes its shortest exact JSON number.

    Whatever texts the value holds, the result is JSON that can be encoded: half a surrogate pair stays an escape.
    """
    text, numbers = _dump(value, "\0", indent, sort_keys)
    if numbers and len(_kept(1).findall(text)) != len(numbers):
        # A text looks like a number's place-holder: take one with more NULs than any text has in a row.
        longest = max(len(run) for run in re.findall(r"(?:\\u0000)+", text)) // len("\\u0000")
        text, numbers = _dump(value, "\0" * (longest + 1), indent, sort_keys)
        return _encodable(_kept(longest + 1).sub(lambda found: numbers[int(found[1])], text))
    return _encodable(_kept(1).sub(lambda found: numbers[int(found[1])], text) if numbers else text)


def _dump(value: Any, mark: str, indent: int | None, sort_keys: bool) -> tuple[str, list[str]]:
    """The JSON with each number's place in the list of numbers between marks."""
    numbers: list[str] = []

    def keep(number: Any) -> Any:
        if isinstance(number, Decimal):
            numbers.append(shortest(number))
            return f"{mark}{len(numbers) - 1}{mark}"
        if hasattr(number, "to_json"):
            return number.to_json()
        raise TypeError(f"{type(number).__name__} has no JSON form")

    text = json.dumps(value, default=keep, indent=indent, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False)
    return text, numbers


@cache
def _kept(marks: int) -> re.Pattern[str]:
    mark = r"(?:\\u0000)" + f"{{{marks}}}"
    return re.compile(rf'"{mark}(\d+){mark}"', re.ASCII)


def _encodable(text: str) -> str:
    return text if text.isascii() else _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_SURROGATE = re.compile("[\ud800-\udfff]")


def load_json(text: str | bytes) -> Any:
    """Strict JSON with Decimal numbers. Raises ValueError for NaN, infinities, repeated keys and over-deep nesting."""
    try:
        return json.loads(text, parse_float=_decimal, parse_int=_integer, parse_constant=_no_constant,
                          object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("is nested too deep") from None


def load_own_json(text: str | bytes) -> Any:
    """JSON that `dump_json` wrote: Decimal numbers as long as they are, without the limits set for strangers' input."""
    return json.loads(text, parse_float=Decimal)


def _decimal(text: str) -> Decimal:
    return read_number(text)


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS + 1:
        raise ValueError(f"has a number of more than {_MAX_DIGITS} digits")
    return int(text)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {repeated!r} stands twice")
    return found
