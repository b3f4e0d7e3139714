"""The filters of expressions, and the kinds of value that expressions know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal, DecimalException, localcontext
from typing import Any, NoReturn

from bridge.instruments import UNKNOWN_MARKET, Market
from bridge.numbers import EXACT, read_number
from bridge.order import SIDES, opposite
from bridge.values import read_side

_LARGEST = 30
_FINEST = Decimal(1).scaleb(-30)


class ExpressionError(ValueError):
    """An expression that can never work, or that has no value for this alert; in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What an expression is evaluated with. `alert` holds the declared fields and `raw`; `contract` gives the broker's
    name of a chart's symbol, by the account's roll rule on the day of the alert (ValueError in words). `market` is what is
    known of the account's instruments."""

    alert: Mapping[str, Any]
    contract: Callable[[str], str]
    market: Market = UNKNOWN_MARKET


def kind_of(value: Any) -> str:
    """number, text, truth, time, none, list or object."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, Decimal):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, datetime):
        return "time"
    return "list" if isinstance(value, (list, tuple)) else "object"


def is_kind(value: Any, kind: str) -> bool:
    """Whether a value is of that kind; all are of "any"."""
    return kind in ("any", kind_of(value))


def bounded(operation: Callable[[Decimal, Decimal], Decimal], one: Decimal, other: Decimal) -> Decimal:
    """The result of an operation on numbers: below 10^30, to at most 30 decimals, never -0. Raises ExpressionError."""
    try:
        with localcontext(EXACT):
            found = operation(one, other)
            if found.is_finite() and found.adjusted() < _LARGEST:
                exponent = found.as_tuple().exponent
                settled = found if isinstance(exponent, int) and exponent >= -30 else found.quantize(_FINEST)
                return settled or settled.copy_abs()  # there is no -0
    except DecimalException:
        pass
    raise ExpressionError("comes to a number too large")


def plain_text(value: Any) -> str:
    """A value inside a text: numbers in plain digits, as they came."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    kind = kind_of(value)
    raise ExpressionError("none cannot stand inside a text; use `| default(…)`" if kind == "none"
                          else f"{'an' if kind == 'object' else 'a'} {kind} cannot stand inside a text")


# -- the filters -----------------------------------------------------------------------------------------------------


def _contract(context: Context, symbol: str) -> str:
    try:
        return context.contract(symbol)
    except ExpressionError:
        raise
    except ValueError as error:
        raise ExpressionError(str(error)) from None


_WAYS = {"nearest": ROUND_HALF_UP, "down": ROUND_FLOOR, "up": ROUND_CEILING, "buy": ROUND_FLOOR, "sell": ROUND_CEILING}
"""Which way `tick` rounds; for a side so that a limit of that side is never worse: a buy is never dearer."""


def _tick(_: Context, value: Decimal, size: Decimal, way: str = "nearest") -> Decimal:
    return bounded(lambda one, step: (one / step).to_integral_value(_WAYS[way]) * step, value, size)


def _round_down(_: Context, value: Decimal, step: Decimal) -> Decimal:
    return bounded(lambda one, size: (one / size).to_integral_value(ROUND_DOWN) * size, value, step)


def _round(_: Context, value: Decimal, places: Decimal = Decimal(0)) -> Decimal:
    return bounded(lambda one, count: one.quantize(Decimal(1).scaleb(-int(count)), ROUND_HALF_UP), value, places)


def _side(_: Context, value: Any) -> str:
    try:
        return read_side(value)
    except ValueError as error:
        raise ExpressionError(str(error)) from None


def _opposite(_: Context, value: str) -> str:
    if value not in SIDES:
        raise ExpressionError(f"{value[:60]!r} has no opposite: expected buy or sell (put `| side` before it)")
    return opposite(value)


def _map(_: Context, value: Any, table: list[tuple[Any, Any]]) -> Any:
    for key, found in table:
        if kind_of(key) == kind_of(value) and key == value:
            return found
    known = ", ".join(repr(plain_text(key)) for key, _ in table)
    raise ExpressionError(f"{plain_text(value)[:60]!r} is not in the table of `map`; it has {known}")


def _number(_: Context, value: Any) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if not isinstance(value, str):
        raise ExpressionError("what `number` is given is no text")
    try:
        return read_number(value.strip())
    except ValueError as error:
        raise ExpressionError(str(error)) from None


def _refuse(_: Context, reason: str) -> NoReturn:
    raise ExpressionError(reason)


def _int(_: Context, value: Decimal) -> Decimal:
    return bounded(lambda one, _: one.to_integral_value(ROUND_DOWN), value, value)


def _replace(_: Context, value: str, old: str, new: str) -> str:
    if not isinstance(old, str) or not isinstance(new, str) or not old:
        raise ExpressionError("`replace` takes two texts, the first not empty")
    if len(new) > 100:
        raise ExpressionError("`replace` puts at most 100 characters in place")
    found = value.replace(old, new)
    if len(found) > 4096:
        raise ExpressionError(f"comes to {len(found)} characters; at most 4096")
    return found


def _positive(number: int, value: Any) -> None:
    if not isinstance(value, Decimal) or value <= 0:
        shown = plain_text(value) if value is not None else "none"
        raise ExpressionError(f"the step of `tick` or `round_down` is {shown[:40]}; expected a number above zero")


def _tick_arguments(number: int, value: Any) -> None:
    if number == 0:
        _positive(number, value)
    elif not isinstance(value, str) or value not in _WAYS:
        shown = plain_text(value) if value is not None else "none"
        raise ExpressionError(f"`tick` rounds nearest, down or up, or as is never worse for a side, buy or sell; not "
                              f"{shown[:40]!r}")


def _places(number: int, value: Any) -> None:
    if not isinstance(value, Decimal) or value != value.to_integral_value() or not 0 <= value <= 12:
        raise ExpressionError("`round` takes a number of decimals from 0 to 12")


def _table(number: int, value: Any) -> None:
    if not isinstance(value, list):
        raise ExpressionError("`map` takes a table like {'long': 'buy', 'short': 'sell'}")


def _anything(number: int, value: Any) -> None:
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A filter: what kind it takes and gives, how many arguments, and whether constants can be worked out at load.

    None passes through every filter but `default`: an optional field that is absent leaves its place out.
    """

    run: Callable[..., Any]
    takes: str
    gives: str
    least: int = 0
    most: int = 0
    usage: str = "no arguments"
    check: Callable[[int, Any], None] = _anything
    pure: bool = True


FILTERS: Mapping[str, Filter] = {
    "contract": Filter(run=_contract, takes="text", gives="text", pure=False),
    "tick": Filter(run=_tick, takes="number", gives="number", least=1, most=2, check=_tick_arguments,
                   usage="the tick's size and, if you like, which way to round: 'down', 'up', 'nearest', 'buy' or 'sell'"),
    "round_down": Filter(run=_round_down, takes="number", gives="number", least=1, most=1, usage="one step",
                         check=_positive),
    "side": Filter(run=_side, takes="any", gives="text"),
    "opposite": Filter(run=_opposite, takes="text", gives="text"),
    "map": Filter(run=_map, takes="any", gives="any", least=1, most=1, usage="one table {'long': 'buy', …}",
                  check=_table),
    "default": Filter(run=lambda _, value, other: other if value is None else value, takes="any", gives="any", least=1,
                      most=1, usage="one value"),
    "upper": Filter(run=lambda _, value: value.upper(), takes="text", gives="text"),
    "lower": Filter(run=lambda _, value: value.lower(), takes="text", gives="text"),
    "trim": Filter(run=lambda _, value: value.strip(), takes="text", gives="text"),
    "replace": Filter(run=_replace, takes="text", gives="text", least=2, most=2, usage="two texts: old, new"),
    "abs": Filter(run=lambda _, value: value.copy_abs(), takes="number", gives="number"),
    "int": Filter(run=_int, takes="number", gives="number"),
    "round": Filter(run=_round, takes="number", gives="number", most=1, usage="a number of decimals", check=_places),
    "number": Filter(run=_number, takes="any", gives="number"),
    "refuse": Filter(run=_refuse, takes="text", gives="any", pure=False),
}
