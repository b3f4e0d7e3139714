"""Futures contracts: what a chart calls them, what a broker calls them, and which one is at the front.

The product table below holds the common products of CME, CBOT, NYMEX and COMEX with their tick, the value of one point
in US dollars, the months that are rolled through, and the rule for the day by which a position has to be rolled. That
day is the last trading day; for products that are delivered it is the earlier of the last trading day and the first
notice day. Business days here are Monday to Friday: exchange holidays are not known, so a date can be off by a day or
two, which the roll rule (8 days before, by default) absorbs.

Figures are those of the exchanges' public contract specifications; they change seldom, and a wrong tick makes a
refused order, not a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from bridge.order import Product

Form = Literal["tradovate", "ninjatrader", "none"]

MONTHS = "FGHJKMNQUVXZ"
"""The month letters, January to December."""
DEFAULT_ROLL_DAYS = 8

_QUARTERLY = "HMUZ"
_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Future:
    """One row of the product table. `months` are those that continuous symbols roll through; `serial` products can be
    asked for in every other month too. `expiry` gives the day to be out by, for a year and month."""

    root: str
    product: Product
    months: str
    expiry: Callable[[int, int], date]
    serial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """A chart's symbol taken apart: either a month (1 to 12) and the year as written, or the place in the row of
    contracts (1: the front month)."""

    future: Future
    place: int = 1
    month: int | None = None
    year: str = ""


# -- days ------------------------------------------------------------------------------------------------------------


def _is_business(day: date) -> bool:
    return day.weekday() < 5


def _business_days_before(day: date, count: int) -> date:
    """The `count`th business day before `day`; with 0, `day` itself or the business day before it."""
    while not _is_business(day):
        day -= timedelta(days=1)
    while count:
        day -= timedelta(days=1)
        count -= _is_business(day)
    return day


def _first_of(year: int, month: int) -> date:
    return date(year + (month - 1) // 12, (month - 1) % 12 + 1, 1)


def _weekday_of_month(year: int, month: int, weekday: int, nth: int) -> date:
    first = _first_of(year, month)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (nth - 1))


def _last_business(year: int, month: int, back: int = 0) -> date:
    """The last business day of a month, or the one `back` before it."""
    return _business_days_before(_first_of(year, month + 1) - timedelta(days=1), back)


# -- expiry rules ----------------------------------------------------------------------------------------------------


def _third_friday(year: int, month: int) -> date:
    return _weekday_of_month(year, month, 4, 3)


def _nikkei(year: int, month: int) -> date:
    """The business day before the second Friday."""
    return _business_days_before(_weekday_of_month(year, month, 4, 2), 1)


def _crude(days: int) -> Callable[[int, int], date]:
    """So many business days before the 25th of the month before; one more where the 25th is none."""
    def expiry(year: int, month: int) -> date:
        before = _first_of(year, month) - timedelta(days=1)
        base = before.replace(day=25)
        return _business_days_before(base, days)
    return expiry


def _month_before(back: int) -> Callable[[int, int], date]:
    """The last business day of the month before delivery, or the one `back` before it (last trade or first notice)."""
    def expiry(year: int, month: int) -> date:
        return _business_days_before(_first_of(year, month) - timedelta(days=1), back)
    return expiry


def _third_wednesday(days: int) -> Callable[[int, int], date]:
    """So many business days before the third Wednesday."""
    def expiry(year: int, month: int) -> date:
        return _business_days_before(_weekday_of_month(year, month, 2, 3), days)
    return expiry


def _lean_hogs(year: int, month: int) -> date:
    """The tenth business day of the contract month."""
    day = _first_of(year, month)
    count = int(_is_business(day))
    while count < 10:
        day += timedelta(days=1)
        count += _is_business(day)
    return day


def _live_cattle(year: int, month: int) -> date:
    """First notice: not before the first Monday of the contract month."""
    return _weekday_of_month(year, month, 0, 1)


def _last_thursday(year: int, month: int) -> date:
    last = _first_of(year, month + 1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - 3) % 7)


def _last_friday(year: int, month: int) -> date:
    last = _first_of(year, month + 1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - 4) % 7)


# -- the table -------------------------------------------------------------------------------------------------------

_Row = tuple[str, str, str]


def _rows(months: str, expiry: Callable[[int, int], date], rows: tuple[_Row, ...], *, serial: bool = False,
          may_be_negative: bool = False) -> dict[str, Future]:
    return {root: Future(root=root, months=months, expiry=expiry, serial=serial, product=Product(
        tick=Decimal(tick), point_value=Decimal(value), may_be_negative=may_be_negative)) for root, tick, value in rows}


FUTURES: Mapping[str, Future] = MappingProxyType({
    **_rows(_QUARTERLY, _third_friday, (
        ("ES", "0.25", "50"), ("MES", "0.25", "5"), ("NQ", "0.25", "20"), ("MNQ", "0.25", "2"), ("YM", "1", "5"),
        ("MYM", "1", "0.5"), ("RTY", "0.1", "50"), ("M2K", "0.1", "5"), ("EMD", "0.1", "100"))),
    **_rows(_QUARTERLY, _nikkei, (("NKD", "5", "5"),)),
    **_rows(MONTHS, _crude(3), (("CL", "0.01", "1000"),), may_be_negative=True),
    **_rows(MONTHS, _crude(4), (("MCL", "0.01", "100"), ("QM", "0.025", "500")), may_be_negative=True),
    **_rows(MONTHS, _month_before(2), (("NG", "0.001", "10000"),), may_be_negative=True),
    **_rows(MONTHS, _month_before(3), (("QG", "0.005", "2500"), ("MNG", "0.001", "1000")), may_be_negative=True),
    **_rows(MONTHS, _month_before(0), (("RB", "0.0001", "42000"), ("HO", "0.0001", "42000"))),
    **_rows("GJMQVZ", _month_before(0), (("GC", "0.1", "100"), ("MGC", "0.1", "10")), serial=True),
    **_rows("HKNUZ", _month_before(0), (
        ("SI", "0.005", "5000"), ("SIL", "0.005", "1000"), ("HG", "0.0005", "25000")), serial=True),
    **_rows("HKNUZ", _month_before(2), (("MHG", "0.0005", "2500"),), serial=True),
    **_rows("FJNV", _month_before(0), (("PL", "0.1", "50"),), serial=True),
    **_rows(_QUARTERLY, _month_before(0), (("PA", "0.5", "100"),), serial=True),
    **_rows(_QUARTERLY, _month_before(0), (
        ("ZB", "0.03125", "1000"), ("UB", "0.03125", "1000"), ("ZN", "0.015625", "1000"), ("TN", "0.015625", "1000"),
        ("ZF", "0.0078125", "1000"), ("ZT", "0.00390625", "2000"))),
    **_rows(_QUARTERLY, _third_wednesday(2), (
        ("6A", "0.00005", "100000"), ("6B", "0.0001", "62500"), ("6E", "0.00005", "125000"),
        ("6J", "0.0000005", "12500000"), ("6S", "0.00005", "125000"), ("6N", "0.00005", "100000"),
        ("6M", "0.00001", "500000"), ("M6A", "0.0001", "10000"), ("M6B", "0.0001", "6250"),
        ("M6E", "0.0001", "12500")), serial=True),
    **_rows(_QUARTERLY, _third_wednesday(1), (("6C", "0.00005", "100000"),), serial=True),
    **_rows("HKNUZ", _month_before(0), (
        ("ZC", "0.25", "50"), ("ZW", "0.25", "50"), ("XC", "0.125", "10"), ("XW", "0.125", "10"))),
    **_rows("FHKNQUX", _month_before(0), (("ZS", "0.25", "50"), ("XK", "0.125", "10"))),
    **_rows("FHKNQUVZ", _month_before(0), (("ZL", "0.01", "600"), ("ZM", "0.1", "100"))),
    **_rows("GJKMNQVZ", _lean_hogs, (("HE", "0.025", "400"),)),
    **_rows("GJMQVZ", _live_cattle, (("LE", "0.025", "400"),)),
    **_rows("FHJKQUVX", _last_thursday, (("GF", "0.025", "500"),)),
    **_rows(MONTHS, _last_friday, (
        ("BTC", "5", "5"), ("MBT", "5", "0.1"), ("ETH", "0.5", "50"), ("MET", "0.5", "0.1"))),
})

_EXCHANGES = frozenset({"CME", "CME_MINI", "CBOT", "CBOT_MINI", "NYMEX", "NYMEX_MINI", "COMEX", "COMEX_MINI"})

# -- reading a chart's symbol ----------------------------------------------------------------------------------------

_CONTINUOUS = re.compile(r"(?P<root>[A-Z0-9]{1,4}?)(?P<place>[1-9])!", re.ASCII)
_CODED = re.compile(r"(?P<root>[A-Z0-9]{1,3}?)(?P<letter>[FGHJKMNQUVXZ])(?P<year>\d{4}|\d{2}|\d)", re.ASCII)
_NUMBERED = re.compile(r"(?P<root>[A-Z0-9]{1,3}) +(?P<month>0[1-9]|1[0-2])-(?P<year>\d{2})", re.ASCII)
_NAMED = re.compile(rf"(?P<root>[A-Z0-9]{{1,3}}) +(?P<name>{'|'.join(_NAMES)})(?P<year>\d{{2}})", re.ASCII)
_DELAYED = re.compile(r"_DLY?$")
_FORMS = "ES1!, ESZ6, ESZ2026 or ES 12-26"


def strip_exchange(symbol: str) -> tuple[str, str]:
    """The exchange prefix (or "") and the rest. Raises ValueError for a delayed feed: its prices are old."""
    exchange, colon, rest = symbol.strip().rpartition(":")
    if _DELAYED.search(exchange):
        raise ValueError(f"{symbol!r} comes from a delayed feed ({exchange}): its prices are too old to trade on")
    return exchange if colon else "", rest.strip()


def parse_symbol(symbol: str) -> Symbol:
    """A chart's or a broker's name of a futures contract, taken apart from the right, its root found in the table.

    Raises ValueError, in words, for anything else.
    """
    if len(symbol) > 60:
        raise ValueError("is too long for a futures contract")
    exchange, name = strip_exchange(symbol.upper())
    if exchange and exchange not in _EXCHANGES:
        raise ValueError(f"{symbol!r}: the exchange {exchange} is none whose futures are known here "
                         f"({', '.join(sorted(_EXCHANGES))})")
    if name in FUTURES:
        return Symbol(future=FUTURES[name])
    if found := _CONTINUOUS.fullmatch(name):
        return Symbol(future=_future(found["root"], symbol), place=int(found["place"]))
    if found := _CODED.fullmatch(name):
        return _dated(found["root"], MONTHS.index(found["letter"]) + 1, found["year"], symbol)
    if found := _NUMBERED.fullmatch(name):
        return _dated(found["root"], int(found["month"]), found["year"], symbol)
    if found := _NAMED.fullmatch(name):
        return _dated(found["root"], _NAMES.index(found["name"]) + 1, found["year"], symbol)
    raise ValueError(f"{symbol!r} is no futures contract like {_FORMS}")


def _future(root: str, symbol: str) -> Future:
    if root not in FUTURES:
        raise ValueError(f"{symbol!r}: the product {root!r} is not in the table of futures")
    return FUTURES[root]


def _dated(root: str, month: int, year: str, symbol: str) -> Symbol:
    future = _future(root, symbol)
    letter = MONTHS[month - 1]
    if letter not in future.months and not future.serial:
        raise ValueError(f"{symbol!r}: {root} has no contract of month {letter}; it has {', '.join(future.months)}")
    return Symbol(future=future, month=month, year=year)


@lru_cache(maxsize=4096)
def product_of(symbol: str) -> Product | None:
    """What the table knows of the product of a symbol in any form; None for what is no contract of the table."""
    try:
        return parse_symbol(symbol).future.product
    except ValueError:
        return None


# -- choosing and writing the contract -------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def contract(symbol: str, *, today: date, roll_days: int = DEFAULT_ROLL_DAYS, form: Form = "tradovate") -> str:
    """The broker's name of the contract that a chart's symbol means on `today`.

    Continuous symbols (`ES1!`, `ES2!`, a bare `ES`) mean the first contract whose expiry less `roll_days` days lies
    after `today`, and those behind it. With form "none" (brokers without futures of the table) only an exchange prefix
    is taken off. Raises ValueError, in words, for an unknown product, a delayed feed, or a contract that is over.
    """
    if form == "none":
        _, rest = strip_exchange(symbol)
        if not rest:
            raise ValueError(f"{symbol!r} names nothing")
        return rest
    found = parse_symbol(symbol)
    if found.month is None:
        year, month = _in_front(found.future, today, roll_days, found.place)
    else:
        year, month = _full_year(found.year, today), found.month
        if _first_of(year, month + 1) <= today:
            raise ValueError(f"{symbol!r}: the contract of {year}-{month:02} is over")
    return _write(found.future.root, year, month, today, form)


def _in_front(future: Future, today: date, roll_days: int, place: int) -> tuple[int, int]:
    """Year and month of the `place`th contract that is not yet to be rolled out of."""
    year = today.year
    while True:
        for letter in future.months:
            month = MONTHS.index(letter) + 1
            if future.expiry(year, month) - timedelta(days=roll_days) > today:
                place -= 1
                if place == 0:
                    return year, month
        year += 1


def _full_year(written: str, today: date) -> int:
    """One digit means the nearest such year (at most four back, five ahead); two digits are of this century."""
    if len(written) == 4:
        if not today.year - 100 < int(written) < today.year + 100:
            raise ValueError(f"{written} is no year of a contract")
        return int(written)
    if len(written) == 2:
        return today.year // 100 * 100 + int(written)
    return next(year for year in range(today.year - 4, today.year + 6) if year % 10 == int(written))


def _write(root: str, year: int, month: int, today: date, form: Form) -> str:
    if form == "ninjatrader":
        return f"{root} {month:02}-{year % 100:02}"
    if _full_year(str(year % 10), today) != year:
        raise ValueError(f"{root} of {year}-{month:02} is too far away to be written with one digit of its year")
    return f"{root}{MONTHS[month - 1]}{year % 10}"


def contract_key(symbol: str) -> str:
    """The same text for every way to write a contract (`ESZ6`, `ES 12-26`); a symbol that is none is its own."""
    try:
        found = parse_symbol(symbol)
    except ValueError:
        return symbol
    if found.month is None:
        return symbol
    return f"{found.future.root} {found.month} {found.year[-1:]}"


def same_contract(one: str, other: str) -> bool:
    """Whether two symbols name the same thing, however they are written: `ES 12-26` is `ESZ6`.

    A year of one digit matches every decade; symbols that are no contract match only themselves.
    """
    if one == other:
        return True
    try:
        first, second = parse_symbol(one), parse_symbol(other)
    except ValueError:
        return False
    if first.month is None or second.month is None:
        return False
    return (first.future.root, first.month) == (second.future.root, second.month) and (
        first.year.endswith(second.year) or second.year.endswith(first.year))
