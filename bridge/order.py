"""The order: canonical, broker-neutral, immutable; and the rules that every broker would refuse it by.

Words are FIX's in lower snake case. Prices and quantities are Decimals. An `Order` that passed `faults_of` is sound in
itself; what one broker cannot do is that broker's file's business.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal, localcontext
from types import MappingProxyType
from typing import Any, Literal

from bridge.numbers import EXACT, is_multiple, is_plain

Side = Literal["buy", "sell"]
Kind = Literal["plain", "cover", "oco", "oso", "cancel", "close"]

SIDES: tuple[str, ...] = ("buy", "sell")
KINDS = ("plain", "cover", "oco", "oso", "cancel", "close")
LATER_KINDS = ("modify", "target")
"""Kinds that the design names and this version does not do yet."""

TYPES = ("market", "limit", "stop", "stop_limit", "mit", "trailing_stop", "trailing_stop_limit")
TIMES_IN_FORCE = ("day", "gtc", "ioc", "fok", "gtd")
EXITS = ("cancel", "close")

NEEDS_PRICE = ("limit", "stop_limit", "mit", "trailing_stop_limit")
"""Types that carry `price`: the limit, or for `mit` the price to be touched."""
NEEDS_STOP = ("stop", "stop_limit", "trailing_stop", "trailing_stop_limit")
"""Types that carry `stop_price`: the trigger; for trailing stops the first one."""
NEEDS_TRAIL = ("trailing_stop", "trailing_stop_limit")

LegRole = Literal["other", "stop_loss", "take_profit", "bracket1", "bracket2"]
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def none_of(word: str, words: Sequence[str]) -> str:
    """What is said of a word that is not among those that are known, with the one that was probably meant."""
    close = difflib.get_close_matches(word, words, 1)
    return f"{word!r} is none of {', '.join(words)}" + (f"; did you mean {close[0]!r}?" if close else "")


def opposite(side: str) -> Side:
    """The other side."""
    return "sell" if side == "buy" else "buy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One side of a composed order, with its own side, type and prices worked out.

    `offset` is a positive distance in price units from the entry's fill; a leg has either absolute prices or an offset
    (market entries whose broker counts from the fill). `trail` is the trailing distance in price units.
    """

    role: LegRole
    side: Side
    type: str
    price: Decimal | None = None
    stop_price: Decimal | None = None
    offset: Decimal | None = None
    trail: Decimal | None = None
    time_in_force: str = "day"
    expire_time: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields that are set."""
        return _known(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a template makes of an alert for one account.

    `ref` is the trader's own name for the order; on a `cancel` it names the order to withdraw. `legs_too` is a cancel's
    `legs: true`. `options` are fields only one broker knows, under that broker's names.
    """

    kind: Kind
    symbol: str | None = None
    side: Side | None = None
    quantity: Decimal | None = None
    type: str | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    trail: Decimal | None = None
    time_in_force: str | None = None
    expire_time: datetime | None = None
    ref: str | None = None
    other: Leg | None = None
    stop_loss: Leg | None = None
    take_profit: Leg | None = None
    brackets: tuple[Leg, ...] = ()
    legs_too: bool = False
    options: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    @property
    def is_exit(self) -> bool:
        """Whether it can only reduce a position or withdraw something."""
        return self.kind in EXITS

    @property
    def legs(self) -> tuple[Leg, ...]:
        """The exits or the other half, in the order: other, stop_loss, take_profit, brackets."""
        single = (self.other, self.stop_loss, self.take_profit)
        return tuple(leg for leg in single if leg is not None) + self.brackets

    def to_json(self) -> dict[str, Any]:
        """The fields that are set, legs as objects: what `render --json`, the ledger and `expect:` see."""
        found = _known(self)
        if found.pop("legs_too", None):
            found["legs"] = True
        return found


def _known(thing: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in fields(thing):
        value = getattr(thing, each.name)
        if value is None or value is False or (each.name in ("brackets", "options") and not value):
            continue
        if isinstance(value, Leg):
            value = value.to_json()
        elif isinstance(value, tuple):
            value = [leg.to_json() for leg in value]
        elif isinstance(value, datetime):
            value = value.isoformat().replace("+00:00", "Z")
        elif isinstance(value, Mapping):
            value = dict(value)
        found[each.name] = value
    return found


def order_from_json(found: Mapping[str, Any]) -> Order:
    """The order that `Order.to_json` wrote; it comes from our own ledger, so a wrong shape is a KeyError."""
    values = dict(found)
    values["legs_too"] = bool(values.pop("legs", False))
    for name in ("other", "stop_loss", "take_profit"):
        if name in values:
            values[name] = _leg_from_json(values[name])
    values["brackets"] = tuple(_leg_from_json(leg) for leg in values.get("brackets", ()))
    values["options"] = MappingProxyType(dict(values.get("options", {})))
    return Order(**_typed(values))


def _leg_from_json(found: Mapping[str, Any]) -> Leg:
    return Leg(**_typed(dict(found)))


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    for name in ("quantity", "price", "stop_price", "offset", "trail"):
        if name in values:
            values[name] = Decimal(values[name])
    if "expire_time" in values:
        values["expire_time"] = datetime.fromisoformat(values["expire_time"].replace("Z", "+00:00"))
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """What the rules need to know of what is traded. `tick`, `point_value` and `lot` (a quantity is a multiple of it) are
    None where unknown. `told`: the broker itself says so, so that an entry between two ticks is known to be refused."""

    tick: Decimal | None = None
    point_value: Decimal | None = None
    lot: int | None = None
    told: bool = False
    whole_quantity: bool = True
    may_be_negative: bool = False


def faults_of(order: Order, product: Product) -> Iterator[tuple[str, str]]:
    """Each broken rule as (field, message). Nothing for a sound order. Pure."""
    if order.kind == "cancel":
        yield from _cancel_faults(order)
        return
    if order.symbol is None or not order.symbol.strip():
        yield "symbol", _NO_CLOSE_ALL if order.kind == "close" else "is missing: what is to be traded?"
    if order.kind == "close":
        return
    yield from _entry_faults(order, product)
    for name, leg in _named_legs(order):
        yield from _leg_faults(order, name, leg, product)
    if order.kind == "plain":
        yield from _plain_faults(order)
    if order.kind == "cover":
        yield from _cover_faults(order)
    if order.kind == "oco":
        yield from _oco_faults(order)
    if order.kind == "oso":
        yield from _oso_faults(order)


_TOO_LONG = "has more digits than a price can have; round it, for example with `| tick(0.25)`"
_NO_CLOSE_ALL = "is missing: a close names what it closes; closing everything at once cannot be expressed"


def _cancel_faults(order: Order) -> Iterator[tuple[str, str]]:
    if not (order.ref or order.symbol or order.options):
        yield "ref", "a cancel names what it withdraws: `ref`, `symbol`, or a broker's own id in `options`"


def _named_legs(order: Order) -> Iterator[tuple[str, Leg]]:
    for number, leg in enumerate(order.brackets):
        yield f"brackets.{number}", leg
    for name in ("other", "stop_loss", "take_profit"):
        found: Leg | None = getattr(order, name)
        if found is not None:
            yield name, found


def _entry_faults(order: Order, product: Product) -> Iterator[tuple[str, str]]:
    if order.side not in SIDES:
        yield "side", f"{order.side!r} is neither buy nor sell" if order.side else "is missing: buy or sell?"
    if order.quantity is None:
        yield "quantity", "is missing: how many?"
    elif order.quantity <= 0:
        yield "quantity", f"{order.quantity} must be above zero"
    elif product.whole_quantity and order.quantity != order.quantity.to_integral_value():
        yield "quantity", f"{order.quantity} must be a whole number of contracts"
    elif order.quantity > 2_147_483_647:
        yield "quantity", f"{order.quantity} is more than any broker takes"
    elif product.lot is not None and order.quantity % product.lot:
        yield "quantity", (f"{order.quantity} is no multiple of the lot of {product.lot}: round it with "
                           f"`| round_down({product.lot})`")
    if order.type not in TYPES:
        yield "type", none_of(order.type, TYPES) if order.type else "is missing"
        return
    wrong = list(_price_faults("", order.type, order.price, order.stop_price, order.trail, product,
                               trail_allowed=order.kind == "cover"))
    yield from wrong or (_off_tick_faults("", order, product.tick) if product.told else ())
    yield from _time_faults("", order.time_in_force, order.expire_time)


def _leg_faults(order: Order, name: str, leg: Leg, product: Product) -> Iterator[tuple[str, str]]:
    if leg.type not in TYPES:
        yield f"{name}.type", none_of(leg.type, TYPES)
        return
    if leg.offset is not None:
        if leg.offset <= 0:
            yield name, f"its distance {leg.offset} must be above zero"
        elif not is_plain(leg.offset):
            yield name, _TOO_LONG
    else:
        wrong = list(_price_faults(f"{name}.", leg.type, leg.price, leg.stop_price, leg.trail, product, trail_allowed=True))
        yield from wrong or _off_tick_faults(f"{name}.", leg, product.tick)
        yield from _wrong_side(order, name, leg)
    yield from _time_faults(f"{name}.", leg.time_in_force, leg.expire_time)


def _wrong_side(order: Order, name: str, leg: Leg) -> Iterator[tuple[str, str]]:
    """A protective leg on the wrong side of the entry fills at once or is refused while the entry stands."""
    base = order.price if order.price is not None else order.stop_price
    if name not in ("stop_loss", "take_profit") or base is None or order.side not in SIDES or order.kind == "oco":
        return
    at = leg.stop_price if name == "stop_loss" else leg.price
    if at is None:
        return
    below = (order.side == "buy") == (name == "stop_loss")
    if (at >= base) if below else (at <= base):
        word = "below" if below else "above"
        yield name, f"{at} must be {word} the entry's {base}: the order is a {order.side}"


def _price_faults(prefix: str, kind: str, price: Decimal | None, stop_price: Decimal | None, trail: Decimal | None,
                  product: Product, *, trail_allowed: bool) -> Iterator[tuple[str, str]]:
    for name, value, wanted in (("price", price, kind in NEEDS_PRICE), ("stop_price", stop_price, kind in NEEDS_STOP)):
        if wanted and value is None:
            yield f"{prefix}{name}", f"is missing: a {kind} order needs it"
        elif value is not None and not wanted:
            yield f"{prefix}{name}", f"a {kind} order has no {name}"
        elif value is not None and value <= 0 and not product.may_be_negative:
            yield f"{prefix}{name}", f"{value} must be above zero"
        elif value is not None and not is_plain(value):
            yield f"{prefix}{name}", _TOO_LONG
    if trail is not None and trail <= 0:
        yield f"{prefix}trail", f"{trail} must be above zero"
    elif trail is not None and not is_plain(trail):
        yield f"{prefix}trail", _TOO_LONG
    if trail is None and kind in NEEDS_TRAIL:
        yield f"{prefix}trail", f"is missing: a {kind} order needs its distance in price units"
    elif trail is not None and kind not in NEEDS_TRAIL and not trail_allowed:
        yield f"{prefix}trail", f"a {kind} order does not trail"


def _off_tick_faults(prefix: str, one: Leg | Order, tick: Decimal | None) -> Iterator[tuple[str, str]]:
    """A leg between two ticks: brokers refuse it, some of them only when its entry has been taken."""
    for name, value in (("price", one.price), ("stop_price", one.stop_price), ("trail", one.trail)):
        if value is not None and (off := off_tick(value, tick)):
            yield f"{prefix}{name}", off


def off_tick(value: Decimal, tick: Decimal | None) -> str:
    """In words, that a price lies between two ticks, which any exchange refuses; "" where it does not."""
    if tick is None or is_multiple(value, tick):
        return ""
    with localcontext(EXACT):
        below = (value / tick).to_integral_value(ROUND_FLOOR) * tick
        return (f"{value:f} is not a multiple of the tick {tick:f}; {below:f} and {below + tick:f} are the nearest: round it "
                f"with `| tick({tick:f})`")


def _time_faults(prefix: str, time_in_force: str | None, expire_time: datetime | None) -> Iterator[tuple[str, str]]:
    if time_in_force is not None and time_in_force not in TIMES_IN_FORCE:
        yield f"{prefix}time_in_force", none_of(time_in_force, TIMES_IN_FORCE)
    elif time_in_force == "gtd" and expire_time is None:
        yield f"{prefix}expire_time", "is missing: gtd (good till date) needs it"
    elif expire_time is not None and time_in_force != "gtd":
        yield f"{prefix}expire_time", "is only for `time_in_force: gtd`"


def _plain_faults(order: Order) -> Iterator[tuple[str, str]]:
    for name in ("other", "stop_loss", "take_profit", "brackets"):
        if getattr(order, name):
            yield name, "a plain order has no legs; use kind: oso, cover or oco"


def _cover_faults(order: Order) -> Iterator[tuple[str, str]]:
    if order.stop_loss is None:
        yield "stop_loss", "is missing: a cover order is an entry with a compulsory stop_loss"
    for name in ("take_profit", "other", "brackets"):
        if getattr(order, name):
            yield name, "a cover order has only a stop_loss; use kind: oso"


def _oso_faults(order: Order) -> Iterator[tuple[str, str]]:
    if order.other is not None:
        yield "other", "belongs to kind: oco"
    if order.brackets and (order.stop_loss or order.take_profit):
        yield "brackets", "give either brackets or stop_loss / take_profit, not both"
    if len(order.brackets) > 2:
        yield "brackets", f"has {len(order.brackets)} legs; at most two"


def _oco_faults(order: Order) -> Iterator[tuple[str, str]]:
    for name in ("stop_loss", "take_profit", "brackets"):
        if getattr(order, name):
            yield name, "an oco has only its `other` order"
    if order.other is None:
        yield "other", "is missing: an oco needs the other order"
        return
    if order.type == "market" or order.other.type == "market":
        yield "type", "a market order fills at once and leaves nothing to cancel: an oco takes resting orders"
        return
    if order.side not in SIDES or order.type not in TYPES:
        return
    yield from _same_side_faults(order, order.other) if order.side == order.other.side else _straddle_faults(
        order, order.other)


_STOPS = ("stop", "stop_limit", "trailing_stop", "trailing_stop_limit")


def _same_side_faults(order: Order, other: Leg) -> Iterator[tuple[str, str]]:
    """One limit and one stop, the sell limit above the sell stop (buy: below)."""
    one_is_stop, other_is_stop = order.type in _STOPS, other.type in _STOPS
    if one_is_stop == other_is_stop:
        yield "other.type", f"two {order.side} legs are one limit and one stop"
        return
    limit = other.price if one_is_stop else order.price
    stop = order.stop_price if one_is_stop else other.stop_price
    if limit is None or stop is None:
        return
    if order.side == "sell" and limit <= stop:
        yield "other", f"the sell limit {limit} must be above the sell stop {stop}"
    if order.side == "buy" and limit >= stop:
        yield "other", f"the buy limit {limit} must be below the buy stop {stop}"


def _straddle_faults(order: Order, other: Leg) -> Iterator[tuple[str, str]]:
    """A buy stop above a sell stop, or a buy limit below a sell limit."""
    one_is_stop, other_is_stop = order.type in _STOPS, other.type in _STOPS
    if one_is_stop != other_is_stop:
        yield "other.type", "a buy and a sell leg are two stops or two limits"
        return
    ours = order.stop_price if one_is_stop else order.price
    theirs = other.stop_price if other_is_stop else other.price
    if ours is None or theirs is None:
        return
    buy, sell = (ours, theirs) if order.side == "buy" else (theirs, ours)
    if one_is_stop and buy <= sell:
        yield "other", f"the buy stop {buy} must be above the sell stop {sell}"
    if not one_is_stop and buy >= sell:
        yield "other", f"the buy limit {buy} must be below the sell limit {sell}"
