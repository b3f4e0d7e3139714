"""Reading one value of an alert: text, number, side, time or truth, exact and never guessed.

A value may come as JSON or as text and is read alike. Numbers become Decimals, times become datetimes in UTC, sides
become buy or sell. Whatever is wrong is a ValueError in words; the caller knows the field's name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from bridge.alert import JsonNumber
from bridge.numbers import read_number

MAX_TEXT = 1000

_SIDES = {**dict.fromkeys(("buy", "b", "long", "1", "+1"), "buy"),
          **dict.fromkeys(("sell", "s", "short", "-1"), "sell")}
_BOOLS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_PLACEHOLDER = re.compile(r"\{\{|\}\}|%[A-Za-z_]\w*%")
_BARE_PLACEHOLDER = re.compile(r"\$?\{[A-Za-z_][\w.]*\}")
_NOT_FINITE = frozenset({"nan", "snan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity", "na", "∞"})
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s?([Zz]|[+-]\d\d(?::?\d\d)?)?", re.ASCII)
_EPOCH_S, _EPOCH_MS, _EPOCH_END = Decimal(10) ** 8, Decimal(10) ** 11, Decimal(10) ** 14


def as_text(value: Any) -> str:
    """A value as plain text without blanks around it.

    Raises ValueError for what is no text or number, holds a placeholder or a control character, or is too long.
    """
    if isinstance(value, bool):
        raise ValueError(f"is {str(value).lower()}; expected a text or number")
    if isinstance(value, JsonNumber):
        value = value.text
    if isinstance(value, (int, Decimal)):
        return format(Decimal(value), "f")
    if not isinstance(value, str):
        raise ValueError(f"is {_kind(value)}; expected one plain value")
    text = value.strip(" \t\r\n")
    if len(text) > MAX_TEXT:
        raise ValueError(f"has {len(text)} characters; at most {MAX_TEXT}")
    if _PLACEHOLDER.search(text) or _BARE_PLACEHOLDER.fullmatch(text):
        raise ValueError(f"still holds the placeholder {text[:60]!r}: the charting platform did not replace it")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise ValueError(f"holds the control character U+{ord(character):04X}")
    return text


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, (list, tuple)) else f"a {type(value).__name__}"


def read_decimal(value: Any) -> Decimal:
    """A plain number, exact. Raises ValueError."""
    text = as_text(value)
    if not text:
        raise ValueError("is empty; expected a number")
    if text.lower() in _NOT_FINITE:
        raise ValueError(f"is {text}: the alert had no value for it when it fired")
    return read_number(text)


def read_integer(value: Any) -> Decimal:
    """A whole number of at most 30 digits. `2.0` and `1e2` are whole, `1.37` is refused, never rounded."""
    number = read_decimal(value)
    if number.adjusted() >= 30:
        raise ValueError(f"{number} is too large")
    if number != number.to_integral_value():
        raise ValueError(f"{format(number, 'f')} is not a whole number")
    return number.quantize(Decimal(1))


def read_side(value: Any) -> str:
    """buy or sell from buy/sell, long/short, b/s, 1/-1 and the like, in any case. Raises ValueError."""
    text = as_text(value)
    try:
        return _SIDES[text.lower()]
    except KeyError:
        raise ValueError(f"{text[:60]!r} is no side: expected buy or sell (or long/short, 1/-1)") from None


def read_bool(value: Any) -> bool:
    """true/false, yes/no, 1/0. Raises ValueError."""
    if isinstance(value, bool):
        return value
    text = as_text(value)
    try:
        return _BOOLS[text.lower()]
    except KeyError:
        raise ValueError(f"{text[:60]!r} is neither true nor false") from None


def read_time(value: Any, zone: ZoneInfo | None = None) -> datetime:
    """A moment in UTC: ISO 8601 with its zone (or in `zone` where it has none), or epoch seconds or milliseconds.

    Raises ValueError for times that do not exist or are not unambiguous.
    """
    if isinstance(value, datetime):
        return _in_utc(value) if value.tzinfo else _in_zone(value, zone)
    text = as_text(value)
    if not text:
        raise ValueError("is empty; expected a time like 2026-11-20T15:30:00Z")
    found = _TIME.fullmatch(text)
    if not found:
        return _from_epoch(text)
    year, month, day, hour, minute = (int(found[group]) for group in range(1, 6))
    try:
        naive = datetime(year, month, day, hour, minute, int(found[6] or 0), int((found[7] or "0").ljust(6, "0")[:6]))
    except ValueError as error:
        raise ValueError(f"{text!r} is no possible time: {error}") from None
    if not found[8]:
        return _in_zone(naive, zone)
    return _in_utc(naive.replace(tzinfo=_offset(found[8])))


def _from_epoch(text: str) -> datetime:
    try:
        seconds = read_number(text)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is no time like 2026-11-20T15:30:00Z, nor seconds or milliseconds "
                         "since 1970") from None
    if _EPOCH_MS <= seconds < _EPOCH_END:
        seconds /= 1000
    elif not _EPOCH_S <= seconds < _EPOCH_MS:
        raise ValueError(f"{text[:60]!r} is no time in seconds or milliseconds since 1970")
    return _in_utc(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(seconds * 1_000_000)))


def _offset(text: str) -> timezone:
    if text in "Zz":
        return UTC
    hours, minutes = int(text[1:3]), int(text[3:].lstrip(":") or 0)
    if hours > 15 or minutes > 59:
        raise ValueError(f"{text!r} is no possible offset from UTC")
    return timezone(timedelta(hours=hours, minutes=minutes) * (-1 if text[0] == "-" else 1))


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{moment.isoformat()} is beyond all calendars") from None


def _in_zone(naive: datetime, zone: ZoneInfo | None) -> datetime:
    if zone is None:
        raise ValueError(f"'{naive.isoformat()}' names no time zone: send it with Z or an offset, or declare the field "
                         "with `zone:`")
    early, late = naive.replace(tzinfo=zone), naive.replace(tzinfo=zone, fold=1)
    if early.utcoffset() != late.utcoffset():
        raise ValueError(f"'{naive.isoformat()}' happens twice or not at all in {zone.key} (clocks change): "
                         "send it with an offset")
    return _in_utc(early)
