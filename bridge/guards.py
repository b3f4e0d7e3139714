"""Guards: the limits that a trader sets for a template or an account, and how they are read from a file.

A guard refuses entries. Only `symbols` can refuse an exit (a cancel or close) too: what may not be traded at all.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from marshmallow import Schema, ValidationError, fields

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
GUARDS = ("max_quantity", "symbols", "sessions", "max_orders_per_minute", "max_orders_per_day", "max_price_distance")
SIZE = "size"
"""What refuses an order whose size comes to nothing; it stands beside the guards' names."""

_SESSION = re.compile(r"(?P<days>\S+)\s+(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)\s+(?P<zone>\S+)", re.ASCII)
_EXAMPLE = "Mon-Fri 09:30-16:00 America/New_York"
_MOST_ORDERS = 100_000


# -- sessions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Session:
    """When entries may be made: on `days` (0 is Monday) from `start` to before `end`, in minutes of the zone's clock.

    An `end` that is not after `start` lies on the next day; `days` are those on which it begins.
    """

    text: str
    days: frozenset[int]
    start: int
    end: int
    zone: ZoneInfo

    def day_of(self, moment: datetime) -> date | None:
        """The day on which the session that holds this moment began; None outside of it."""
        today = moment.astimezone(self.zone).date()
        for day in (today, today - timedelta(days=1)):
            if day.weekday() in self.days and self._begins(day) <= moment < self._ends(day):
                return day
        return None

    def _begins(self, day: date) -> datetime:
        return max(self._at(day, self.start))

    def _ends(self, day: date) -> datetime:
        return min(self._at(day + timedelta(days=1), self.end) if self.end <= self.start else self._at(day, self.end))

    def _at(self, day: date, minutes: int) -> tuple[datetime, datetime]:
        """The two moments that a time of the clock can mean: they differ only where clocks are changed."""
        wall = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)
        return (wall.replace(tzinfo=self.zone).astimezone(UTC), wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC))


def read_session(text: Any) -> Session:
    """`Mon-Fri 09:30-16:00 America/New_York`; days are a range, or several with commas. Raises ValueError in words."""
    if not isinstance(text, str):
        raise ValueError(f"expected days, hours and a time zone like {_EXAMPLE!r}")
    found = _SESSION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text[:60]!r} is no session; expected days, hours and a time zone like {_EXAMPLE!r}")
    start, end = _minutes(found["start"]), _minutes(found["end"])
    if start == 1440:
        raise ValueError("begins at 24:00; that is 00:00 of the next day")
    if start == end:
        raise ValueError(f"begins and ends at {found['start']}; a whole day is 00:00-24:00")
    return Session(" ".join(text.split()), _days(found["days"]), start, end, _zone(found["zone"]))


def _minutes(text: str) -> int:
    hours, minutes = int(text[:2]), int(text[3:])
    if minutes > 59 or hours * 60 + minutes > 1440:
        raise ValueError(f"{text} is no time of a day from 00:00 to 24:00")
    return hours * 60 + minutes


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        start = _day(first)
        end = _day(last) if dash else start
        found |= {(start + step) % 7 for step in range((end - start) % 7 + 1)}
    return frozenset(found)


def _day(name: str) -> int:
    if name.title() not in DAYS:
        close = difflib.get_close_matches(name[:3].title(), DAYS, 1)
        raise ValueError(f"{name[:20]!r} is no day of the week; " + (f"did you mean {close[0]!r}?" if close
                                                                    else f"expected {', '.join(DAYS)}"))
    return DAYS.index(name.title())


def _zone(name: str) -> ZoneInfo:
    known = _zones()
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        raise ValueError(f"{name[:40]!r} is no time zone; " + (f"did you mean {close[0]!r}?" if close
                                                              else "expected one like America/New_York"))
    return ZoneInfo(name)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


# -- the guards ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PriceDistance:
    """How far, in percent, a price may lie from another one; `of` is that one's expression."""

    percent: Decimal
    of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """The limits of one template or one account; None or empty where there is none."""

    max_quantity: Decimal | None = None
    symbols: tuple[str, ...] = ()
    sessions: tuple[Session, ...] = ()
    max_orders_per_minute: int | None = None
    max_orders_per_day: int | None = None
    max_price_distance: PriceDistance | None = None

    def __bool__(self) -> bool:
        return self != NONE

    def day_of(self, moment: datetime) -> str:
        """The day that `max_orders_per_day` counts an order to: its session's, else the day in UTC. `moment` is UTC."""
        days = (session.day_of(moment) for session in self.sessions)
        return next((day for day in days if day is not None), moment.date()).isoformat()


NONE = Guards()


# -- reading them ----------------------------------------------------------------------------------------------------


class _Number(fields.Field[Decimal]):
    """A number above zero that is written out."""

    def __init__(self, most: int, *, whole: bool = False, unit: str = "", required: bool = False) -> None:
        super().__init__(required=required)
        self.most, self.whole, self.unit = most, whole, unit

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Decimal:
        if isinstance(value, str) and "{{" in value:
            raise ValidationError("is written out, not an expression: a guard does not depend on the alert")
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or value <= 0:
            raise ValidationError(f"expected a {'whole ' if self.whole else ''}number{self.unit} above zero")
        if self.whole and value != int(value):
            raise ValidationError(f"{value} is no whole number{self.unit}")
        if value > self.most:
            raise ValidationError(f"{value} is more than {self.most}: no guard any more")
        return Decimal(value)


class _Sessions(fields.Field[tuple[Session, ...]]):
    """A list of sessions."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None,
                     **kwargs: Any) -> tuple[Session, ...]:
        return tuple(_each(value, read_session, f"sessions like [{_EXAMPLE!r}]"))


class _Symbols(fields.Field[tuple[str, ...]]):
    """A list of products or contracts."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None,
                     **kwargs: Any) -> tuple[str, ...]:
        return tuple(_each(value, _symbol, "products or contracts like [MES, MNQ]"))


def _symbol(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected a product or contract like MES or MESZ6")
    if "{{" in value:
        raise ValueError("is written out, not an expression: a guard does not depend on the alert")
    return value.strip()


def _each(value: Any, read: Any, example: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValidationError(f"expected a list of {example}")
    found, wrong = [], {}
    for place, each in enumerate(value):
        try:
            found.append(read(each))
        except ValueError as error:
            wrong[place] = [str(error)]
    if wrong:
        raise ValidationError(wrong)
    return found


class PriceDistanceSchema(Schema):
    """max_price_distance."""

    percent = _Number(100, required=True)
    of = fields.String(required=True)


class GuardsSchema(Schema):
    """`guards:` of a template or an account. Loaded values are what `guards_from` takes."""

    max_quantity = _Number(2_147_483_647)
    symbols = _Symbols()
    sessions = _Sessions()
    max_orders_per_minute = _Number(_MOST_ORDERS, whole=True, unit=" of orders")
    max_orders_per_day = _Number(_MOST_ORDERS, whole=True, unit=" of orders")
    max_price_distance = fields.Nested(PriceDistanceSchema)


def guards_from(loaded: Mapping[str, Any]) -> Guards:
    """The guards of what the schema loaded, as far as it is complete."""
    distance = loaded.get("max_price_distance") or {}
    counts = {name: int(loaded[name]) for name in ("max_orders_per_minute", "max_orders_per_day") if name in loaded}
    return Guards(
        max_quantity=loaded.get("max_quantity"), symbols=loaded.get("symbols", ()), sessions=loaded.get("sessions", ()),
        max_price_distance=PriceDistance(distance["percent"], distance["of"]) if len(distance) == 2 else None, **counts)


_REASON = re.compile(rf"(?:^|; )(?:guard ({'|'.join(GUARDS)})|({SIZE}):)")


def guards_in(reason: str) -> tuple[str, ...]:
    """The names of what refused an order, read from its reason."""
    return tuple(dict.fromkeys(guard or size for guard, size in _REASON.findall(reason)))


def named(guard: str, whose: str) -> str:
    """How a reason begins: `guard max_quantity of the template`."""
    return f"guard {guard} of {whose}"
