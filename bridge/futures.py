"""Futures: the product table, the rules by which contracts end, and what an account says of both.

The table holds the common products of CME, CBOT, NYMEX and COMEX with their tick, the value of one point in US dollars,
the months that are rolled through, and the rule for the day by which a position has to be rolled. That day is the last
trading day; for products that are delivered it is the earlier of the last trading day and the first notice day. Business
days here are Monday to Friday: exchange holidays are not known, so a date can be off by a day or two, which the roll
rule (8 days before, by default) absorbs.

Figures are those of the exchanges' public contract specifications; they change seldom, and a wrong tick makes a
refused order, not a wrong one. `products:` in accounts.yaml replaces them and adds others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from types import MappingProxyType

from bridge.order import Product

MONTHS = "FGHJKMNQUVXZ"
"""The month letters, January to December."""
DEFAULT_ROLL_DAYS = 8

_QUARTERLY = "HMUZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Future:
    """One product. `months` are those that continuous symbols roll through; `serial` products can be asked for in every
    other month too. `expiry` gives the day to be out by, for a year and month. Without months and expiry there are only
    dated symbols."""

    root: str
    product: Product
    months: str = ""
    expiry: Callable[[int, int], date] | None = None
    serial: bool = False

    def has(self, month: int) -> bool:
        """Whether there is a contract of that month (1 to 12)."""
        return self.serial or MONTHS[month - 1] in self.months

    def end_of(self, year: int, month: int) -> date:
        """The day to be out of a contract by: by the rule, else the end of its month."""
        return self.expiry(year, month) if self.expiry else first_of(year, month + 1) - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Roll:
    """When an account goes to the next month: `days` before the contract's end; or never by itself, for the products
    whose month is written out in `months` as (root, `H7`), the root "" standing for every product."""

    days: int = DEFAULT_ROLL_DAYS
    months: tuple[tuple[str, str], ...] = ()

    def month_of(self, root: str) -> str:
        """The month that is written out for a product, as `H7`; "" where days decide."""
        found = dict(self.months)
        return found.get(root, found.get("", ""))


DEFAULT_ROLL = Roll()


class Futures(Mapping[str, Future]):
    """A table of products by their root. It is never changed, and can be a key of what is remembered."""

    def __init__(self, rows: Mapping[str, Future]) -> None:
        self._rows = dict(rows)
        self._hash = hash(frozenset(self._rows.items()))

    def __getitem__(self, root: str) -> Future:
        return self._rows[root]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Futures) and self._hash == other._hash and self._rows == other._rows)

    def with_rows(self, rows: Mapping[str, Future]) -> Futures:
        """The table with these rows in place of those of the same root; itself where there are none."""
        return Futures({**self._rows, **rows}) if rows else self


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


def first_of(year: int, month: int) -> date:
    """The first day of a month; month 13 is January of the next year."""
    return date(year + (month - 1) // 12, (month - 1) % 12 + 1, 1)


def _weekday_of_month(year: int, month: int, weekday: int, nth: int) -> date:
    first = first_of(year, month)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (nth - 1))


def _last_business(year: int, month: int, back: int = 0) -> date:
    """The last business day of a month, or the one `back` before it."""
    return _business_days_before(first_of(year, month + 1) - timedelta(days=1), back)


# -- expiry rules ----------------------------------------------------------------------------------------------------


def _third_friday(year: int, month: int) -> date:
    return _weekday_of_month(year, month, 4, 3)


def _nikkei(year: int, month: int) -> date:
    """The business day before the second Friday."""
    return _business_days_before(_weekday_of_month(year, month, 4, 2), 1)


def _crude(days: int) -> Callable[[int, int], date]:
    """So many business days before the 25th of the month before; one more where the 25th is none."""
    def expiry(year: int, month: int) -> date:
        before = first_of(year, month) - timedelta(days=1)
        base = before.replace(day=25)
        return _business_days_before(base, days)
    return expiry


def _month_before(back: int) -> Callable[[int, int], date]:
    """The last business day of the month before delivery, or the one `back` before it (last trade or first notice)."""
    def expiry(year: int, month: int) -> date:
        return _business_days_before(first_of(year, month) - timedelta(days=1), back)
    return expiry


def _third_wednesday(days: int) -> Callable[[int, int], date]:
    """So many business days before the third Wednesday."""
    def expiry(year: int, month: int) -> date:
        return _business_days_before(_weekday_of_month(year, month, 2, 3), days)
    return expiry


def _lean_hogs(year: int, month: int) -> date:
    """The tenth business day of the contract month."""
    day = first_of(year, month)
    count = int(_is_business(day))
    while count < 10:
        day += timedelta(days=1)
        count += _is_business(day)
    return day


def _live_cattle(year: int, month: int) -> date:
    """First notice: not before the first Monday of the contract month."""
    return _weekday_of_month(year, month, 0, 1)


def _last_thursday(year: int, month: int) -> date:
    last = first_of(year, month + 1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - 3) % 7)


def _last_friday(year: int, month: int) -> date:
    last = first_of(year, month + 1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - 4) % 7)


EXPIRY_RULES: Mapping[str, Callable[[int, int], date]] = MappingProxyType({
    "third_friday": _third_friday,
    "second_friday_less_1": _nikkei,
    "third_wednesday": _third_wednesday(0),
    "third_wednesday_less_1": _third_wednesday(1),
    "third_wednesday_less_2": _third_wednesday(2),
    "last_friday": _last_friday,
    "last_thursday": _last_thursday,
    "last_business_day": _last_business,
    "last_business_day_less_2": lambda year, month: _last_business(year, month, 2),
    "month_before": _month_before(0),
    "month_before_less_2": _month_before(2),
    "month_before_less_3": _month_before(3),
    "25th_before_less_3": _crude(3),
    "25th_before_less_4": _crude(4),
    "tenth_business_day": _lean_hogs,
    "first_monday": _live_cattle,
})
"""The rules by name, for products that accounts.yaml adds. Each gives the last day on which a contract may be held:
`_less_2` is two business days before, `month_before` the last business day of the month before the contract's own."""


# -- the table -------------------------------------------------------------------------------------------------------

_Row = tuple[str, str, str]


def _rows(months: str, expiry: Callable[[int, int], date], rows: tuple[_Row, ...], *, serial: bool = False,
          may_be_negative: bool = False) -> dict[str, Future]:
    return {root: Future(root=root, months=months, expiry=expiry, serial=serial, product=Product(
        tick=Decimal(tick), point_value=Decimal(value), may_be_negative=may_be_negative)) for root, tick, value in rows}


FUTURES = Futures({
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
