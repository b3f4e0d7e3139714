"""Orders held against guards: what each guard that refuses one says. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from bridge.contracts import parse_symbol, same_contract
from bridge.futures import Futures
from bridge.guards import Guards, named
from bridge.numbers import EXACT, shortest
from bridge.order import Order
from bridge.record import Limit

_FEW = 6


def refusals(order: Order, guards: Guards, whose: str, *, now: datetime, futures: Futures,
             reference: Decimal | None = None) -> Iterator[str]:
    """Why these guards refuse an order, each with its value and its limit; nothing for one that may pass.

    `now` is when its alert was received, `reference` what `max_price_distance` counts from (None: the alert has none).
    Cancels and closes are refused by `symbols` alone.
    """
    if guards.symbols and order.symbol and not any(_is_of(order.symbol, each, futures) for each in guards.symbols):
        yield f"{named('symbols', whose)}: {order.symbol} is none of {_listed(guards.symbols)}"
    if order.is_exit:
        return
    if guards.max_quantity is not None and order.quantity is not None and order.quantity > guards.max_quantity:
        yield (f"{named('max_quantity', whose)}: the quantity is {shortest(order.quantity)}; at most "
               f"{shortest(guards.max_quantity)}")
    if guards.sessions and all(session.day_of(now) is None for session in guards.sessions):
        local = now.astimezone(guards.sessions[0].zone)
        yield (f"{named('sessions', whose)}: {local:%a %Y-%m-%d %H:%M} {local.tzinfo} is outside of "
               f"{_listed([session.text for session in guards.sessions])}")
    yield from _price_refusals(order, guards, whose, reference)


def limits_of(order: Order, guards: Guards, whose: str, scope: str, *, now: datetime) -> Iterator[Limit]:
    """The counts that these guards hold an order to, where it is queued; none for a cancel or close."""
    if order.is_exit:
        return
    if guards.max_orders_per_minute is not None:
        yield Limit("max_orders_per_minute", whose, scope, guards.max_orders_per_minute)
    if guards.max_orders_per_day is not None:
        yield Limit("max_orders_per_day", whose, scope, guards.max_orders_per_day, guards.day_of(now))


def has_prices(order: Order) -> bool:
    """Whether `max_price_distance` has anything to look at."""
    return not order.is_exit and next(_distances(order, Decimal(0)), None) is not None


def _is_of(symbol: str, allowed: str, futures: Futures) -> bool:
    """Whether a symbol is the contract that is allowed, or a contract of the product."""
    if same_contract(symbol, allowed) or (":" not in allowed and symbol.rpartition(":")[2].strip() == allowed):
        return True
    try:
        ours, theirs = parse_symbol(symbol, futures), parse_symbol(allowed, futures)
    except ValueError:
        return False
    return theirs.month is None and ours.future.root == theirs.future.root


def _price_refusals(order: Order, guards: Guards, whose: str, reference: Decimal | None) -> Iterator[str]:
    guard = guards.max_price_distance
    if guard is None or not has_prices(order):
        return
    name = named("max_price_distance", whose)
    if reference is None:
        yield f"{name}: the alert has no price to compare with ({guard.of})"
        return
    most = EXACT.multiply(guard.percent, abs(reference))
    for words, distance in _distances(order, reference):
        if EXACT.multiply(distance, Decimal(100)) > most:
            yield (f"{name}: {words} is {_share(distance, reference)}{shortest(reference)}; at most "
                   f"{shortest(guard.percent)}%")


def _share(distance: Decimal, reference: Decimal) -> str:
    if not reference:
        return f"{shortest(distance)} from "
    share = EXACT.divide(EXACT.multiply(distance, Decimal(100)), abs(reference))
    return f"{share:.2f}% of " if share < 1_000_000 else "over 1000000% of "


def _distances(order: Order, reference: Decimal) -> Iterator[tuple[str, Decimal]]:
    """How far each price of the order and its legs is from `reference`, and the legs' own distances, in words."""
    for prefix, each in (("", order), *((f"{leg.role}.", leg) for leg in order.legs)):
        for name in ("price", "stop_price"):
            price = getattr(each, name)
            if price is not None:
                yield f"the distance of {prefix}{name} {shortest(price)}", EXACT.abs(EXACT.subtract(price, reference))
        for name in ("offset", "trail"):
            distance = getattr(each, name, None)
            if distance is not None:
                yield f"{prefix}{name} {shortest(distance)}", distance


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:_FEW]) + (f" and {len(words) - _FEW} more" if len(words) > _FEW else "")
