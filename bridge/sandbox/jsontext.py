"""JSON in and out without a binary float anywhere.

Numbers with a point or an exponent arrive as `Decimal`, and a `Decimal` leaves as the shortest exact JSON number, so a
price that a client sent comes back from the sandbox digit for digit.
"""

from __future__ import annotations

import json
from decimal import Context, Decimal, InvalidOperation
from json.encoder import encode_basestring_ascii as _quote
from typing import Any, NoReturn

_WIDE = Context(prec=2000)
_PLAIN_DIGITS = 40


class NotJson(ValueError):
    """The text is not a JSON document (NaN and the infinities are none either)."""


def _no_constant(word: str) -> NoReturn:
    raise NotJson(f"{word} is not JSON")


_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_constant)


def loads(text: str | bytes) -> Any:
    """The document as dict, list, str, int, Decimal, bool or None; raises `NotJson` for anything else."""
    try:
        return _DECODER.decode(text if isinstance(text, str) else text.decode("utf-8"))
    except (ValueError, RecursionError, InvalidOperation) as error:
        raise NotJson(str(error)) from None


def number(value: Decimal) -> str:
    """The shortest exact JSON number for a finite Decimal: 5300.50 is written 5300.5, 5E+3 is written 5000."""
    if abs(value.adjusted()) > _PLAIN_DIGITS:  # never write a number out to millions of digits
        return str(value).lower()
    text = format(value.normalize(_WIDE), "f")
    return "0" if text == "-0" else text


def dumps(value: Any) -> str:
    """The value as compact JSON in ASCII. Raises TypeError for a type that JSON does not have, floats included."""
    parts: list[str] = []
    _write(value, parts.append)
    return "".join(parts)


def _write(value: Any, put: Any) -> None:
    if isinstance(value, str):
        put(_quote(value))
    elif value is None:
        put("null")
    elif value is True:
        put("true")
    elif value is False:
        put("false")
    elif isinstance(value, int):
        put(str(value))
    elif isinstance(value, Decimal):
        put(number(value))
    elif isinstance(value, dict):
        put("{")
        comma = ""
        for key, item in value.items():
            put(comma + _quote(str(key)) + ":")
            _write(item, put)
            comma = ","
        put("}")
    elif isinstance(value, (list, tuple)):
        put("[")
        for index, item in enumerate(value):
            if index:
                put(",")
            _write(item, put)
        put("]")
    else:
        raise TypeError(f"{type(value).__name__} cannot be written as JSON")
