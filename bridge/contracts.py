"""Futures contracts: what a chart calls them, what a broker calls them, and which one is at the front.

Products, their months and the days by which their contracts end are in `futures`; an account may say otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from itertools import islice
from typing import Literal

from bridge.futures import DEFAULT_ROLL, FUTURES, MONTHS, Future, Futures, Roll, first_of
from bridge.order import Product

Form = Literal["tradovate", "ninjatrader", "none"]

_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """A chart's symbol taken apart: either a month (1 to 12) and the year as written, or the place in the row of
    contracts (1: the front month)."""

    future: Future
    place: int = 1
    month: int | None = None
    year: str = ""


_EXCHANGES = frozenset({"CME", "CME_MINI", "CBOT", "CBOT_MINI", "NYMEX", "NYMEX_MINI", "COMEX", "COMEX_MINI"})

# -- reading a chart's symbol ----------------------------------------------------------------------------------------

_CONTINUOUS = re.compile(r"(?P<root>[A-Z0-9]{1,5}?)(?P<place>[1-9])!", re.ASCII)
_CODED = re.compile(r"(?P<root>[A-Z0-9]{1,5}?)(?P<letter>[FGHJKMNQUVXZ])(?P<year>\d{4}|\d{2}|\d)", re.ASCII)
_NUMBERED = re.compile(r"(?P<root>[A-Z0-9]{1,5}) +(?P<month>0[1-9]|1[0-2])-(?P<year>\d{2})", re.ASCII)
_NAMED = re.compile(rf"(?P<root>[A-Z0-9]{{1,5}}) +(?P<name>{'|'.join(_NAMES)})(?P<year>\d{{2}})", re.ASCII)
_ROOT = re.compile(r"(?=[0-9]*[A-Z])[A-Z0-9]{1,5}", re.ASCII)
_MONTH = re.compile(r"(?P<letter>[FGHJKMNQUVXZ])(?P<year>\d{4}|\d{2}|\d)", re.ASCII)
_DELAYED = re.compile(r"_DLY?$")
_FORMS = "ES1!, ESZ6, ESZ2026 or ES 12-26"


def strip_exchange(symbol: str) -> tuple[str, str]:
    """The exchange prefix (or "") and the rest. Raises ValueError for a delayed feed: its prices are old."""
    exchange, colon, rest = symbol.strip().rpartition(":")
    if _DELAYED.search(exchange):
        raise ValueError(f"{symbol!r} comes from a delayed feed ({exchange}): its prices are too old to trade on")
    return exchange if colon else "", rest.strip()


def parse_symbol(symbol: str, futures: Futures = FUTURES) -> Symbol:
    """A chart's or a broker's name of a futures contract, taken apart from the right, its root found in the table.

    Raises ValueError, in words, for anything else.
    """
    if len(symbol) > 60:
        raise ValueError("is too long for a futures contract")
    exchange, name = strip_exchange(symbol.upper())
    continuous = _CONTINUOUS.fullmatch(name)
    dated = _dated_parts(name)
    root = name if name in futures else continuous["root"] if continuous else dated[0] if dated else ""
    if exchange and exchange not in _EXCHANGES and (root in FUTURES or root not in futures):
        raise ValueError(f"{symbol!r}: the exchange {exchange} is none whose futures are known here "
                         f"({', '.join(sorted(_EXCHANGES))})")
    if not root:
        raise ValueError(f"{symbol!r} is no futures contract like {_FORMS}")
    if root not in futures:
        raise ValueError(f"{symbol!r}: the product {root!r} is not in the table of futures; `products:` in accounts.yaml "
                         "adds one")
    future = futures[root]
    if name == root:
        return Symbol(future=future)
    if continuous:
        return Symbol(future=future, place=int(continuous["place"]))
    assert dated is not None  # nothing else gave a root
    _, month, year = dated
    if not future.has(month):
        raise ValueError(f"{symbol!r}: {root} has no contract of month {MONTHS[month - 1]}; it has "
                         f"{', '.join(future.months)}")
    return Symbol(future=future, month=month, year=year)


def _dated_parts(name: str) -> tuple[str, int, str] | None:
    """Root, month (1 to 12) and year as written of a dated symbol of any product; None for anything else."""
    if found := _CODED.fullmatch(name):
        return found["root"], MONTHS.index(found["letter"]) + 1, found["year"]
    if found := _NUMBERED.fullmatch(name):
        return found["root"], int(found["month"]), found["year"]
    if found := _NAMED.fullmatch(name):
        return found["root"], _NAMES.index(found["name"]) + 1, found["year"]
    return None


def root_fault(root: str) -> str:
    """What is wrong with the root of a product that accounts.yaml names, or ""."""
    if not _ROOT.fullmatch(root):
        return "is no root of a product like ES, 6E or M2K: one to five capitals and digits"
    if parts := _dated_parts(root):
        return f"reads as a contract: {parts[0]} of a month; expected the root of a product like ES, 6E or M2K"
    return ""


@lru_cache(maxsize=4096)
def product_of(symbol: str, futures: Futures = FUTURES) -> Product | None:
    """What the table knows of the product of a symbol in any form; None for what is no contract of the table."""
    try:
        return parse_symbol(symbol, futures).future.product
    except ValueError:
        return None


# -- choosing and writing the contract -------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def contract(symbol: str, *, today: date, roll: Roll = DEFAULT_ROLL, form: Form = "tradovate",
             futures: Futures = FUTURES) -> str:
    """The broker's name of the contract that a chart's symbol means on `today`.

    Continuous symbols (`ES1!`, `ES2!`, a bare `ES`) mean the first contract whose last day less the roll's days lies
    after `today`, or the month that the roll writes out, and those behind it. With form "none" (brokers without futures
    of the table) only an exchange prefix is taken off. Raises ValueError, in words, for an unknown product, a delayed
    feed, or a contract that is over.
    """
    if form == "none":
        _, rest = strip_exchange(symbol)
        if not rest:
            raise ValueError(f"{symbol!r} names nothing")
        return rest
    found = parse_symbol(symbol, futures)
    if found.month is None:
        year, month = _in_front(found.future, today, roll, found.place, symbol)
    else:
        year, month = full_year(found.year, today), found.month
        if is_over(year, month, today):
            raise ValueError(f"{symbol!r}: the contract of {year}-{month:02} is over")
    return write_contract(found.future.root, year, month, today, form)


def front_month(future: Future, roll: Roll, today: date) -> tuple[int, int]:
    """Year and month of the contract that a continuous symbol means. Raises ValueError in words."""
    return _in_front(future, today, roll, 1, f"{future.root}1!")


def _in_front(future: Future, today: date, roll: Roll, place: int, symbol: str) -> tuple[int, int]:
    """Year and month of the `place`th contract that is not yet to be rolled out of."""
    year, month = 0, 0
    if written := roll.month_of(future.root):
        year, month = _written_month(future, written, today, symbol)
        if place == 1:
            return year, month
        place -= 1
    if not future.months or future.expiry is None:
        raise ValueError(f"{symbol!r}: Bridge does not know which months {future.root} has: give `months` and `last_trade` "
                         f"under `products:` in accounts.yaml, or a dated symbol like {future.root}Z6")
    days = timedelta(days=0 if written else roll.days)
    row = (each for each in _contracts_from(future, max(year, today.year))
           if each > (year, month) and future.end_of(*each) - days > today)
    return next(islice(row, place - 1, None))


def _contracts_from(future: Future, year: int) -> Iterator[tuple[int, int]]:
    """Year and month of each contract that continuous symbols roll through, without end."""
    while True:
        yield from ((year, MONTHS.index(letter) + 1) for letter in future.months)
        year += 1


def next_month(future: Future, year: int, month: int) -> tuple[int, int] | None:
    """The contract that follows in the row; None for a product without months."""
    if not future.months:
        return None
    return next(each for each in _contracts_from(future, year) if each > (year, month))


def _written_month(future: Future, written: str, today: date, symbol: str) -> tuple[int, int]:
    """The month that the account's roll writes out for this product."""
    letter, year = written[0], full_year(written[1:], today)
    month = MONTHS.index(letter) + 1
    if not future.has(month):
        raise ValueError(f"{symbol!r}: {future.root} has no contract of month {letter}, which the account's `roll` names; it "
                         f"has {', '.join(future.months)}")
    if is_over(year, month, today):
        raise ValueError(f"{symbol!r}: the contract of {year}-{month:02} ({written}), which the account's `roll` names, is "
                         "over; name the next there")
    return year, month


def month_fault(written: str) -> str:
    """What is wrong with a month as a roll writes it out, or ""."""
    return "" if _MONTH.fullmatch(written) else ("is no month of a contract like H7 (the month's letter "
                                                 f"{MONTHS[0]} to {MONTHS[-1]} and the year)")


def is_over(year: int, month: int, today: date) -> bool:
    """Whether a contract's month lies behind."""
    return first_of(year, month + 1) <= today


def full_year(written: str, today: date) -> int:
    """One digit means the nearest such year (at most four back, five ahead), two digits the nearest such year too."""
    if len(written) == 4:
        if not today.year - 100 < int(written) < today.year + 100:
            raise ValueError(f"{written} is no year of a contract")
        return int(written)
    back, span = (49, 100) if len(written) == 2 else (4, 10)
    return next(year for year in range(today.year - back, today.year - back + span) if year % span == int(written))


def write_contract(root: str, year: int, month: int, today: date, form: Form) -> str:
    """The broker's name of a contract. Raises ValueError for one that its form cannot tell from another."""
    if form == "ninjatrader":
        return f"{root} {month:02}-{year % 100:02}"
    if full_year(str(year % 10), today) != year:
        raise ValueError(f"{root} of {year}-{month:02} is too far away to be written with one digit of its year")
    return f"{root}{MONTHS[month - 1]}{year % 10}"


# -- the same contract -----------------------------------------------------------------------------------------------


def _key_parts(symbol: str) -> tuple[str, int, str] | None:
    """Root, month and year of a dated contract of any product, known or not, so that every account agrees on it."""
    exchange, _, name = symbol.upper().strip().rpartition(":")
    return None if exchange and exchange not in _EXCHANGES else _dated_parts(name.strip())


def contract_key(symbol: str) -> str:
    """The same text for every way to write a contract (`ESZ6`, `ES 12-26`); a symbol that is none is its own."""
    parts = _key_parts(symbol)
    return symbol if parts is None else f"{parts[0]} {parts[1]} {parts[2][-1:]}"


def contract_of_key(key: str, today: date) -> tuple[str, int, int] | None:
    """Root, year and month of what `contract_key` gave for a contract, its year the nearest; None for another symbol."""
    root, _, rest = key.partition(" ")
    month, _, digit = rest.partition(" ")
    if not (month.isdecimal() and digit.isdecimal()):
        return None
    return root, full_year(digit, today), int(month)


def same_contract(one: str, other: str) -> bool:
    """Whether two symbols name the same thing, however they are written: `ES 12-26` is `ESZ6`.

    A year of one digit matches every decade; symbols that are no contract match only themselves.
    """
    if one == other:
        return True
    first, second = _key_parts(one), _key_parts(other)
    if first is None or second is None:
        return False
    return first[:2] == second[:2] and (first[2].endswith(second[2]) or second[2].endswith(first[2]))
