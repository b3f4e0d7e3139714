"""Orders in a trader's words: what is bought or sold, at which prices, what rests then, and what that is in money.

Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from bridge.masking import MASK, is_secret
from bridge.numbers import EXACT, is_multiple, shortest
from bridge.order import Leg, Order

_STOPS = ("stop", "stop_limit", "trailing_stop", "trailing_stop_limit")
_VERBS = {"buy": "buys", "sell": "sells"}
_TIMES = {
    "day": "good for the day",
    "gtc": "good until it is cancelled",
    "ioc": "immediate or cancel: what does not fill at once is cancelled",
    "fok": "fill or kill: all of it fills at once, or nothing",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What a move of one point in one contract or share is worth; `point_value` is None where `unknown` says why."""

    tick: Decimal | None = None
    point_value: Decimal | None = None
    currency: str = ""
    unknown: str = ""

    def of(self, points: Decimal, quantity: Decimal | None) -> Decimal | None:
        """So many points in money, exact."""
        if self.point_value is None or quantity is None:
            return None
        return EXACT.multiply(EXACT.multiply(points, self.point_value), quantity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """A leg beside its entry: how far from it, and what that comes to. `points` is None where nobody can know it."""

    leg: Leg
    protects: bool
    points: Decimal | None
    money: Decimal | None

    def to_json(self, worth: Worth) -> dict[str, Any]:
        """Its figures; what is unknown is left out."""
        found: dict[str, Any] = {"role": self.leg.role, "points": self.points, "money": self.money}
        if self.money is not None:
            found["currency"] = worth.currency
        if self.points is not None and worth.tick is not None:
            found["ticks"] = EXACT.divide(self.points, worth.tick)
        return {name: value for name, value in found.items() if value is not None}


# -- numbers -----------------------------------------------------------------------------------------------------------


def number(value: Decimal) -> str:
    """A price or quantity as it is written: 5300.25."""
    return shortest(value)


def in_money(value: Decimal, currency: str) -> str:
    """1,000 USD; 62.50 USD."""
    whole = value == value.to_integral_value()
    rounded = value.quantize(Decimal(1) if whole else Decimal("0.01"), rounding=ROUND_HALF_UP, context=EXACT)
    return f"{rounded:,f} {currency}".strip()


def distance_in_words(points: Decimal, tick: Decimal | None) -> str:
    """20 ticks; 5 points where the tick is not known."""
    if tick is not None and is_multiple(points, tick):
        return _count(EXACT.divide(points, tick), "tick")
    return _count(points, "point")


def _count(value: Decimal, word: str) -> str:
    return f"{number(value)} {word}{'' if value == 1 else 's'}"


# -- an order ----------------------------------------------------------------------------------------------------------


def base_of(order: Order) -> Decimal | None:
    """The price that an entry is expected to fill at: its limit, or its trigger. None at market."""
    if order.type in ("stop", "trailing_stop"):
        return order.stop_price
    return order.price


def exits_of(order: Order, worth: Worth) -> list[Exit]:
    """The legs of an entry (none of an oco), each with its distance from the entry and what it is worth."""
    return [] if order.kind == "oco" else [_exit(order, leg, worth) for leg in order.legs]


def _exit(order: Order, leg: Leg, worth: Worth) -> Exit:
    protects = leg.type in _STOPS
    points = leg.offset
    base = base_of(order)
    at = leg.stop_price if protects else leg.price
    if protects and leg.type == "stop_limit" and leg.price is not None and at is not None:
        at = min(at, leg.price) if leg.side == "sell" else max(at, leg.price)
    if points is None and base is not None and at is not None:
        points = EXACT.abs(EXACT.subtract(at, base))
    return Exit(leg=leg, protects=protects, points=points,
                money=None if points is None else worth.of(points, order.quantity))


def sentences_of(order: Order, worth: Worth) -> Iterator[str]:
    """What the order does, a sentence for each thing that happens."""
    if order.kind == "cancel":
        yield from _cancel(order)
    elif order.kind == "close":
        yield f"closes the whole position in {order.symbol}, if one stands, at market: at whatever price it gets"
        yield "nothing open counts as done"
    elif order.kind == "oco" and order.other is not None:
        yield from _oco(order, order.other)
    else:
        yield entry_in_words(order)
        yield from _after_the_fill(order, worth)


def entry_in_words(order: Order) -> str:
    """`buys 2 ESZ6 with a limit at 5300.25`."""
    what = f"{_VERBS[str(order.side)]} {number(order.quantity or Decimal(0))} {order.symbol}"
    return f"{what} {_how(str(order.side), str(order.type), order.price, order.stop_price, order.trail)}"


def _how(side: str, kind: str, price: Decimal | None, stop: Decimal | None, trail: Decimal | None) -> str:
    worse = "higher" if side == "buy" else "lower"
    better = "lower" if side == "buy" else "higher"
    at, trigger = ("?" if value is None else number(value) for value in (price, stop))
    behind = "" if trail is None else number(trail)
    return {
        "market": "at market: at whatever price it gets",
        "limit": f"with a limit at {at} (that or {better})",
        "stop": f"with a stop at {trigger}: once it trades there or {worse}, at market",
        "stop_limit": f"with a stop at {trigger} and a limit at {at}: once it trades at {trigger} or {worse}, "
                      f"at {at} or {better}",
        "mit": f"if touched at {at}: once it trades there or {better}, at market",
        "trailing_stop": f"with a trailing stop that begins at {trigger} and follows the market {behind} behind it; "
                         "once touched, at market",
        "trailing_stop_limit": f"with a trailing stop that begins at {trigger} and follows the market {behind} behind "
                               f"it; once touched, with a limit at {at}",
    }.get(kind, kind)


def _after_the_fill(order: Order, worth: Worth) -> Iterator[str]:
    exits = exits_of(order, worth)
    if exits:
        words = " and ".join(exit_in_words(each, worth) for each in exits)
        one = len(exits) == 1
        yield f"when it fills, {words} rest{'s' if one else ''}" + ("" if one else "; one cancels the other")
    if order.kind == "oso" and not exits:
        owners = ", ".join(f"{name} {value}" for name, value in order.options.items())
        yield f"its stop and target are not Bridge's: they are what the broker keeps under {owners}" if owners else (
            "it comes out without stop and target")
    elif not any(each.protects for each in exits):
        yield "no stop goes with it: this order by itself does not limit what can be lost"


def exit_in_words(found: Exit, worth: Worth) -> str:
    """`a stop at 5295.25 (20 ticks below, 500 USD lost if it fills there)`."""
    leg = found.leg
    below = (leg.side == "sell") == found.protects
    where = "below" if below else "above"
    name = _leg_name(found)
    told = []
    if leg.offset is not None:
        name = f"{name} {distance_in_words(leg.offset, worth.tick)} {where} the fill"
        if worth.tick is not None:
            told.append(_count(leg.offset, "point"))
    else:
        at = leg.stop_price if found.protects else leg.price
        name = f"{name} at {'?' if at is None else number(at)}"
        if found.points is not None:
            told.append(f"{distance_in_words(found.points, worth.tick)} {where}")
    if found.money is not None:
        money = in_money(found.money, worth.currency)
        told.append(f"{money} lost if it fills there" if found.protects else f"+{money}")
    extra = []
    if found.protects and leg.type in ("stop_limit", "trailing_stop_limit") and leg.price is not None:
        extra.append(f"with a limit at {number(leg.price)}")
    if leg.trail is not None:
        extra.append(f"following the market {number(leg.trail)} behind it")
    return " ".join([name, *extra]) + (f" ({', '.join(told)})" if told else "")


def _leg_name(found: Exit) -> str:
    if found.protects:
        return "a trailing stop" if found.leg.type.startswith("trailing") else "a stop"
    return "a target (market if touched)" if found.leg.type == "mit" else "a target"


def _oco(order: Order, other: Leg) -> Iterator[str]:
    second = f"{_VERBS[other.side]} {number(order.quantity or Decimal(0))} {order.symbol} " + _how(
        other.side, other.type, other.price, other.stop_price, other.trail)
    yield "rests two orders, of which one cancels the other:"
    yield f"either it {entry_in_words(order)}"
    yield f"or it {second}"
    if order.side == other.side:
        yield "both are meant to end a position that stands; where none stands, the one that fills opens one"
    else:
        yield "whichever fills is a new position, and no stop goes with it"


def _cancel(order: Order) -> Iterator[str]:
    if order.ref:
        yield f"withdraws the newest order named {order.ref!r} (its `ref`) that has not ended"
    elif order.symbol:
        yield f"withdraws every order of ours on {order.symbol} that has not ended"
    if order.options:
        named = ", ".join(f"{name} {value}" for name, value in order.options.items())
        yield (f"withdraws the broker's order {named}" if not (order.ref or order.symbol) else f"sent with {named}")
    yield ("the legs of a filled entry are withdrawn too: its position then stands without a stop" if order.legs_too
           else "the legs of an entry that has filled stay, and so does its position")


# -- how long it is good -----------------------------------------------------------------------------------------------


def good_for(order: Order, received_at: datetime) -> Iterator[str]:
    """How long the order and its legs may stand at the broker."""
    if order.is_exit or order.time_in_force is None:
        return
    yield _time_in_words(order.time_in_force, order.expire_time, received_at)
    different: Mapping[str, None] = dict.fromkeys(
        _time_in_words(leg.time_in_force, leg.expire_time, received_at) for leg in order.legs)
    if order.legs and list(different) != [_time_in_words(order.time_in_force, order.expire_time, received_at)]:
        yield "its legs: " + "; ".join(different)
    if order.kind != "oco" and any(leg.time_in_force == "day" for leg in order.legs):
        yield "the legs end with that day: a position held longer stands without them"


def _time_in_words(time_in_force: str, expire_time: datetime | None, received_at: datetime) -> str:
    if time_in_force == "gtd":
        return f"good until {moment(expire_time)}" if expire_time else "good till date"
    words = _TIMES.get(time_in_force, time_in_force)
    if time_in_force == "day":
        words += f": the exchange's trading day that {received_at:%A} {received_at:%Y-%m-%d %H:%M} UTC falls in"
    return words


def moment(when: datetime) -> str:
    """2026-11-20 15:30:01 UTC."""
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"


# -- spans of time -----------------------------------------------------------------------------------------------------


def span(ms: int) -> str:
    """60 s; 15 min; 2 h; 3 days: in the largest unit of which there are two or more."""
    for size, word in ((86_400_000, "days"), (3_600_000, "h"), (60_000, "min")):
        if ms >= 2 * size:
            return f"{shortest(Decimal(ms * 10 // size) / 10)} {word}"
    return f"{shortest(Decimal(ms // 100) / 10)} s"


# -- what is not to be shown -------------------------------------------------------------------------------------------

_SECRET_NAME = re.compile(r"secret|token|passw|passphrase|passcode|api_?key|(?:^|_)(?:key|pin|auth|pwd)$",
                          re.IGNORECASE)


def hidden(name: str, value: Any) -> Any:
    """A field's value, or *** where its name says that it is a secret (other tools' alerts carry theirs in the body).

    A `token` of digits alone is an instrument's, and shown.
    """
    if value is None or not (is_secret(name) or _SECRET_NAME.search(name)):
        return value
    is_instrument = "token" in name.lower() and re.fullmatch(r'"?[0-9]{1,10}"?', str(value), re.ASCII)
    return value if is_instrument else MASK
