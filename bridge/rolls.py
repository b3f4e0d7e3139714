"""Rolls: which contract an account leaves next, and which exits name another month than the one that was entered.

Around a roll an alert's `ES1!` begins to mean another contract than the position that it is to close. Pure: the day is a
parameter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import Any, cast

from bridge.contracts import (
    Form,
    contract_key,
    contract_of_key,
    front_month,
    full_year,
    is_over,
    next_month,
    parse_symbol,
    write_contract,
)
from bridge.futures import DEFAULT_ROLL_DAYS, Future
from bridge.schemas import Where
from bridge.work import Account

WARN_DAYS = 5
"""So many days before a roll it is told."""


def roll_ahead(symbol: str, account: Account, form: str, today: date, within: int = WARN_DAYS) -> str:
    """In words, that the contract which a symbol means at this account is left within so many days; "" where it is not.

    `symbol` is a chart's (`ES1!`) or a broker's (`ESZ6`); a month that is not at the front is nobody's roll.
    """
    if form == "none":
        return ""
    try:
        found = parse_symbol(symbol, account.futures)
        year, month = front_month(found.future, account.roll, today)
        if found.month is not None and (full_year(found.year, today), found.month) != (year, month):
            return ""
        if found.month is None and found.place != 1:
            return ""
        return _words(found.future, year, month, account, cast(Form, form), today, within)
    except ValueError:  # unknown, without months, over: told where the symbol is used
        return ""


def _words(future: Future, year: int, month: int, account: Account, form: Form, today: date, within: int) -> str:
    leaves = write_contract(future.root, year, month, today, form)
    written = account.roll.month_of(future.root)
    on = future.end_of(year, month) - timedelta(days=DEFAULT_ROLL_DAYS if written else account.roll.days)
    if written:
        if today < on - timedelta(days=within):
            return ""
        return (f"{future.root} stays at {leaves} for account {account.name}, as its `roll` says; that contract is to be left "
                f"by {future.end_of(year, month)} ({_in_days(future.end_of(year, month), today)}): write the next month there")
    if on > today + timedelta(days=within):
        return ""
    follows = next_month(future, year, month)
    enters = write_contract(future.root, *follows, today, form) if follows else "the next month"
    return f"{future.root} rolls from {leaves} to {enters} on {on} ({_in_days(on, today)}) for account {account.name}"


def _in_days(day: date, today: date) -> str:
    days = (day - today).days
    if days < 0:
        return "past"
    return "today" if days == 0 else "tomorrow" if days == 1 else f"in {days} days"


def rolls_of(keys: Iterable[str], account: Account, form: str, today: date) -> list[str]:
    """The rolls ahead, in words, of contracts that were entered (as `contract_key` gives them)."""
    found = (contract_of_key(key, today) for key in sorted(keys))
    names = (write_contract(root, year, month, today, "ninjatrader") for root, year, month in filter(None, found))
    return [words for name in names if (words := roll_ahead(name, account, form, today))]


_CONTINUOUS = re.compile(r"(?<![A-Z0-9])[A-Z0-9]{1,5}1!", re.ASCII)


def rolls_named(value: Any, accounts: Iterable[tuple[Account, str]], today: date) -> Iterator[tuple[Where, str]]:
    """The rolls ahead of the continuous symbols (`ES1!`) that stand in the texts of a file, each once, with its place.

    `accounts`: those that trade them, with how their broker writes contracts.
    """
    places: dict[str, Where] = {}
    for where, text in _texts(value, ()):
        for symbol in _CONTINUOUS.findall(text):
            places.setdefault(symbol, where)
    for account, form in accounts:
        for symbol, where in places.items():
            if words := roll_ahead(symbol, account, form, today):
                yield where, words


def _texts(value: Any, where: Where) -> Iterator[tuple[Where, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, (dict, list)):
        for step, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(each, (*where, step))


def other_months(symbol: str, entered: Mapping[str, int], form: str, today: date) -> Iterator[str]:
    """The other months of an exit's product that were entered after the last entry of the month that it names, newest
    first, as the broker names them.

    `entered`: the contracts (as `contract_key` gives them) with the rank of the newest entry that was queued for each.
    A month that is over holds nothing any more.
    """
    own = contract_of_key(contract_key(symbol), today)
    if form == "none" or own is None:
        return
    last = entered.get(contract_key(symbol), 0)
    for key, rank in sorted(entered.items(), key=lambda each: -each[1]):
        found = contract_of_key(key, today)
        if rank > last and found is not None and found[0] == own[0] and found != own and not is_over(*found[1:], today):
            yield write_contract(*found, today, cast(Form, form))
