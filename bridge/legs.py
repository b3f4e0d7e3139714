"""Legs: from what a template says of an exit (a price, points, ticks, percent) to the leg that goes to the broker.

Distances count from the entry's price; of a market entry from the fill, where the broker can count so, and from
`reference` otherwise. A leg may offer several forms as expressions, of which one has a value. Worked-out prices are
rounded to the tick so that neither is worse than asked: a stop toward the entry (never looser), a target away from it
(its limit is never a worse price). Prices that are given stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_UP, Decimal, localcontext
from typing import Any, cast

from bridge.numbers import EXACT
from bridge.order import Leg, LegRole, Side, none_of, opposite

DISTANCES = ("points", "ticks", "percent")
EXIT_TYPES: Mapping[str, tuple[str, ...]] = {
    "stop_loss": ("stop", "stop_limit", "trailing_stop"), "take_profit": ("limit", "mit")}
EXIT_DEFAULTS: Mapping[str, str] = {"stop_loss": "stop", "take_profit": "limit"}
_BY_STOP_PRICE = ("stop", "trailing_stop")
_REST = ("day", "gtc")


class LegFault(ValueError):
    """A leg that cannot be worked out: `field` is the part below the leg ("" for the leg itself)."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What legs need to know of their entry. `from_fill`: its broker can count distances from the fill. `absolute`:
    the template says `legs: absolute`. `has_gtc`: its broker knows gtc."""

    side: Side
    type: str
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: str = "day"
    expire_time: datetime | None = None
    reference: Decimal | None = None
    absolute: bool = False
    from_fill: bool = False
    has_gtc: bool = True
    tick: Decimal | None = None

    @property
    def base(self) -> Decimal | None:
        """The price that distances count from: the entry's own, or the reference of a market entry."""
        if self.type == "market":
            return self.reference
        return self.stop_price if self.type in _BY_STOP_PRICE else self.price


def market_faults(kind: str, role: str, given: Mapping[str, Any], *, reference: bool, absolute: bool,
                  from_fill: bool) -> Iterator[tuple[str, str]]:
    """What a market entry cannot have of a leg, as (field below the leg, message). Known when a template loads."""
    offered = [name for name in ("price", *DISTANCES) if name in given]
    if role in EXIT_TYPES and len(offered) > 1:
        for name in offered:
            yield from market_faults(kind, role, {name: given[name]}, reference=reference, absolute=absolute,
                                     from_fill=from_fill)
        return
    form = next((name for name in DISTANCES if name in given), None)
    if role not in EXIT_TYPES:
        if not absolute:
            yield "", ("has absolute prices on a market entry, which can fill elsewhere and leave the position naked; "
                       "use stop_loss / take_profit with points or ticks, or accept the risk with `legs: absolute`")
    elif form is None and not absolute and not (reference and from_fill):
        wanted = "give `reference` (they become distances from the fill)" if from_fill else "use a limit entry"
        yield "", ("is an absolute price on a market entry, which can fill elsewhere and leave the position naked; "
                   f"{wanted}, or accept the risk with `legs: absolute`")
    elif form == "percent" and from_fill and not reference:
        yield "percent", "on a market entry needs `reference`: a percent of which price?"
    elif form is not None and not from_fill and not (reference and absolute):
        yield form, (f"this broker does not count the legs of a market {kind} order from the fill; use a limit entry, "
                     "or give `reference` and accept the risk with `legs: absolute`")


def is_left_out(role: str, given: Mapping[str, Any]) -> bool:
    """Whether a leg's price came out as none, so that the leg is left out.

    `given` holds the leg's fields as they came out of the template: Decimals and texts, None where an expression
    yielded none.
    """
    prices = [given[name] for name in _prices_of(role) if name in given]
    return bool(prices) and all(price is None for price in prices)


def settled(role: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """A stop_loss or take_profit without the forms that came out as none. Raises LegFault where two have a value."""
    if role not in EXIT_TYPES:
        return given
    forms = ("price", *DISTANCES)
    valued = [name for name in forms if given.get(name) is not None]
    if len(valued) > 1:
        shown = " and ".join(f"{name} {given[name]}" for name in valued)
        raise LegFault("", f"has {shown}: only one of price, points, ticks, percent can say where it lies")
    several = sum(name in given for name in forms) > 1
    is_stop_limit = given.get("type") == "stop_limit"
    return {name: value for name, value in given.items()
            if value is not None or not (name in forms and several or name == "stop_price" and not is_stop_limit)}


def _prices_of(role: str) -> tuple[str, ...]:
    return ("price", "stop_price", *DISTANCES) if role in EXIT_TYPES else ("price", "stop_price")


def resolve_exit(role: str, given: Mapping[str, Any], entry: Entry) -> Leg:
    """The stop_loss or take_profit of an entry. Raises LegFault.

    A stop_loss's `price` or distance is its trigger. Of type stop_limit its limit is the same price, unless both are
    given: then `stop_price` is the trigger and `price` the limit. Of type trailing_stop it trails by its distance from
    the entry, unless `trail` says otherwise; a `trail` alone makes it a trailing_stop.
    """
    for name in _prices_of(role):
        if name in given and given[name] is None:
            raise LegFault(name, "came out empty although the leg has another price: give both, or neither")
    form = next((name for name in ("price", *DISTANCES) if name in given), None)
    if form is None:
        raise LegFault("", "needs exactly one of price, points, ticks, percent")
    kind = given.get("type") or ("trailing_stop" if role == "stop_loss" and given.get("trail") is not None
                                 else EXIT_DEFAULTS[role])
    if kind not in EXIT_TYPES[role]:
        raise LegFault("type", none_of(kind, EXIT_TYPES[role]))
    if given.get("trail") is not None and kind != "trailing_stop":
        raise LegFault("trail", f"is for `type: trailing_stop`, not {kind}")
    if "stop_price" in given and kind != "stop_limit":
        raise LegFault("stop_price", f"is for `type: stop_limit`, not {kind}: there `price` is the trigger")
    if form == "price":
        at, offset = _from_price(role, given, entry)
    else:
        at, offset = _from_distance(role, form, given[form], entry)
    common: dict[str, Any] = {
        "role": cast(LegRole, role), "side": opposite(entry.side), "type": kind,
        "time_in_force": given.get("time_in_force") or exit_time_in_force(entry)}
    if kind == "trailing_stop":
        common["trail"] = _trail(given, at, offset, entry)
    if offset is not None:
        return Leg(offset=offset, **common)
    if role == "take_profit":
        return Leg(price=at, **common)
    if kind != "stop_limit":
        return Leg(stop_price=at, **common)
    if "stop_price" in given:
        return Leg(stop_price=given["stop_price"], price=given["price"], **common)
    return Leg(stop_price=at, price=at, **common)


def resolve_leg(role: str, given: Mapping[str, Any], entry: Entry, side: Side) -> Leg:
    """A leg that was given with all its fields (`other`, `brackets`). Raises LegFault."""
    if not given.get("type"):
        raise LegFault("type", "is missing")
    return Leg(role=cast(LegRole, role), side=given.get("side") or side, type=given["type"], price=given.get("price"),
               stop_price=given.get("stop_price"), trail=given.get("trail"),
               time_in_force=given.get("time_in_force") or exit_time_in_force(entry),
               expire_time=given.get("expire_time"))


def exit_time_in_force(entry: Entry) -> str:
    """A leg's time in force: its entry's, where that lets it rest; else gtc (day where the broker has none)."""
    if entry.time_in_force in _REST:
        return entry.time_in_force
    return "gtc" if entry.has_gtc else "day"


def _from_price(role: str, given: Mapping[str, Any], entry: Entry) -> tuple[Decimal, Decimal | None]:
    """(price, distance from the fill or None)."""
    price: Decimal = given["stop_price"] if "stop_price" in given else given["price"]
    if entry.type != "market" or entry.absolute or not entry.from_fill or entry.reference is None:
        return price, None
    sign = _sign(role, entry.side)
    with localcontext(EXACT):
        offset = (price - entry.reference) * sign
    if offset <= 0:
        word = "below" if sign < 0 else "above"
        raise LegFault("price", f"{price} must be {word} the reference {entry.reference}: the order is a {entry.side}")
    return price, _round_offset(role, offset, entry.tick)


def _from_distance(role: str, form: str, value: Decimal, entry: Entry) -> tuple[Decimal, Decimal | None]:
    """(price, distance from the fill or None)."""
    if value <= 0:
        raise LegFault(form, f"{value} must be above zero: it is a distance")
    distance = _in_points(form, value, entry)
    if entry.type == "market" and entry.from_fill:
        return distance, _round_offset(role, distance, entry.tick)
    if entry.base is None:
        raise LegFault(form, "has nothing to count from: the entry has no price and there is no `reference`")
    with localcontext(EXACT):
        return _on_tick(role, entry.base, distance * _sign(role, entry.side), entry.tick), None


def _in_points(form: str, value: Decimal, entry: Entry) -> Decimal:
    with localcontext(EXACT):
        if form == "points":
            return value
        if form == "ticks":
            if entry.tick is None:
                raise LegFault("ticks", "the tick of this symbol is not known; give points or price")
            return value * entry.tick
        if entry.base is None:
            raise LegFault("percent", "has nothing to count from: give `reference`")
        return abs(entry.base) * value / 100


def _sign(role: str, side: str) -> int:
    """-1 where the leg stands below the entry, 1 above: a buy's stop and a sell's target are below."""
    return -1 if (side == "buy") == (role == "stop_loss") else 1


def _on_tick(role: str, base: Decimal, move: Decimal, tick: Decimal | None) -> Decimal:
    """The price on the tick: a stop's the nearer to the entry, a target's the further from it."""
    at = base + move
    if tick is None:
        return _trimmed(at)
    upward = (move < 0) == (role == "stop_loss")
    return (at / tick).to_integral_value(ROUND_CEILING if upward else ROUND_FLOOR) * tick


def _round_offset(role: str, offset: Decimal, tick: Decimal | None) -> Decimal:
    """The distance on the tick: a stop's no longer, a target's no shorter."""
    with localcontext(EXACT):
        if tick is None:
            return _trimmed(offset)
        rounded = (offset / tick).to_integral_value(ROUND_DOWN if role == "stop_loss" else ROUND_UP) * tick
    if rounded <= 0:
        raise LegFault("", f"its distance {offset} is less than one tick of {tick}")
    return rounded


def _trimmed(value: Decimal) -> Decimal:
    """At most 12 decimals, for a percent of a price whose tick nobody knows."""
    exponent = value.as_tuple().exponent
    return value if isinstance(exponent, int) and exponent >= -12 else value.quantize(Decimal(1).scaleb(-12))


def _trail(given: Mapping[str, Any], at: Decimal, offset: Decimal | None, entry: Entry) -> Decimal:
    """The trailing distance: given, or the leg's distance from the entry."""
    if given.get("trail") is not None:
        trail: Decimal = given["trail"]
        return trail
    if offset is not None:
        return offset
    if entry.base is None:
        raise LegFault("trail", "is missing: the entry has no price that the distance could be counted from")
    with localcontext(EXACT):
        distance = abs(entry.base - at)
    return distance if "price" in given else _round_offset("stop_loss", distance, entry.tick)
