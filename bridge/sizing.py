"""How many: a quantity by risk, and an account's multiplier and symbols.

A size is rounded down to the product's step, never up: what is risked is never more than was said. A way out is the
exception: it is never rounded down to nothing. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal, localcontext
from types import MappingProxyType

from bridge.contracts import parse_symbol, root_fault
from bridge.futures import Futures
from bridge.numbers import EXACT, shortest
from bridge.order import Leg, Order, Product
from bridge.schemas import Where, meant

ONE = Decimal(1)
_FINEST = Decimal("1E-8")
_NOTHING: Mapping[str, str] = MappingProxyType({})
_TRAILING = ("trailing_stop", "trailing_stop_limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountUse:
    """How a template uses an account: its sizes times `multiplier`, its products by `symbols`.

    None and empty are what the file does not say: where an order names its accounts, the template's word counts then.
    """

    name: str
    multiplier: Decimal | None = None
    symbols: Mapping[str, str] = field(default_factory=lambda: _NOTHING)

    @property
    def times(self) -> Decimal:
        """The multiplier; 1 where none is given."""
        return ONE if self.multiplier is None else self.multiplier

    def over(self, general: AccountUse | None) -> AccountUse:
        """This use, with what it leaves out taken from a more general one."""
        if general is None:
            return self
        return AccountUse(name=self.name, symbols=self.symbols or general.symbols,
                          multiplier=general.multiplier if self.multiplier is None else self.multiplier)


@dataclass(frozen=True, slots=True)
class Size:
    """A quantity, or why it comes to nothing (then `quantity` is zero)."""

    quantity: Decimal
    refused: str = ""


class SizeFault(ValueError):
    """A size that cannot be worked out: `field` is the part of the order at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def scaled(quantity: Decimal, use: AccountUse, product: Product, *, is_exit: bool, unit: str) -> Size:
    """A quantity times the account's multiplier, rounded down to the product's step; of an exit at least one step."""
    if use.times == ONE:
        return Size(quantity)
    found = _down(EXACT.multiply(quantity, use.times), product)
    if found > 0 or quantity <= 0:
        return Size(found)
    if is_exit:
        return Size(_step(product))
    what = f"{shortest(use.times)} × {shortest(quantity)} {unit}".strip()
    return Size(found, f"size: {what} is less than {'one' if _step(product) == ONE else f'the lot of {product.lot}'}")


def by_risk(order: Order, money: Decimal, use: AccountUse, product: Product, point_value: Decimal | None, *,
            base: Decimal | None, unit: str) -> Size:
    """The most of `order` that loses no more than `money` times the account's multiplier at its stop.

    `base` is the price that a market entry without one is expected at. Raises SizeFault where the loss cannot be known.
    """
    if order.stop_loss is None:
        raise SizeFault("risk", "needs a stop_loss, and this alert's order has none: how far away is what is risked?")
    if point_value is None:
        give = ("`point_value` under `products:` in accounts.yaml, or a quantity in place of risk" if unit
                else "a quantity in place of it")
        raise SizeFault("risk", f"the value of one point of {order.symbol} is not known: give {give}")
    distance = stop_distance(order, order.stop_loss, base)
    if distance is None:
        raise SizeFault("risk", "how far the stop is away is not known: give `reference`, or the stop as points or ticks")
    with localcontext(EXACT) as context:
        context.rounding = ROUND_DOWN
        each, most = distance * point_value, money * use.times
        if each <= 0:
            raise SizeFault("stop_loss", "stands at the entry: the loss at the stop would be nothing, and the size without "
                                         "end")
        found = _down(most / each, product)
    if found > 0:
        return Size(found)
    shared = "" if use.times == ONE else f" ({shortest(use.times)} × {shortest(money)})"
    least = f"one of a lot of {product.lot}" if product.lot and product.lot > 1 else f"one {unit or 'piece'}"
    return Size(found, f"size: {least} loses {shortest(each)} at its stop ({shortest(distance)} points × "
                       f"{shortest(point_value)}); the risk is {shortest(most)}{shared}")


def stop_distance(order: Order, stop: Leg, base: Decimal | None) -> Decimal | None:
    """The furthest that the stop can be from the entry; None where nobody can know before the fill."""
    if stop.offset is not None:
        known = [stop.offset]
    else:
        entries = [price for price in (order.price, order.stop_price) if price is not None] or (
            [] if base is None else [base])
        exits = [price for price in (stop.stop_price, stop.price) if price is not None]
        known = [EXACT.abs(EXACT.subtract(one, other)) for one in entries for other in exits]
    if not known:
        return None
    return max([*known, stop.trail] if stop.trail is not None and stop.type in _TRAILING else known)


def _down(quantity: Decimal, product: Product) -> Decimal:
    step = _step(product)
    return EXACT.multiply(EXACT.divide_int(quantity, step), step)


def _step(product: Product) -> Decimal:
    """What a quantity is a multiple of: the lot, else one; eight decimals where parts of one are traded."""
    return Decimal(product.lot) if product.lot else ONE if product.whole_quantity else _FINEST


# -- symbols ---------------------------------------------------------------------------------------------------------


def root_in(symbol: str, futures: Futures) -> str:
    """The product of a futures contract in any form, as the table names it; "" for what is none."""
    try:
        return parse_symbol(symbol, futures).future.root
    except ValueError:
        return ""


def mapped(symbol: str, symbols: Mapping[str, str], futures: Futures) -> str:
    """The symbol that an account trades in place of this one: by the whole symbol, else by its product.

    The exchange before it stays, unless the map names one.
    """
    whole = symbol.strip()
    if not symbols or whole in symbols:
        return symbols.get(whole, symbol)
    exchange, colon, name = whole.rpartition(":")
    root = root_in(symbol, futures)
    if name.strip() in symbols:
        target = symbols[name.strip()]
    elif root in symbols:
        target = f"{symbols[root]}{name.strip()[len(root):]}"
    else:
        return symbol
    return target if ":" in target else f"{exchange}{colon}{target}"


def symbols_faults(symbols: Mapping[str, str], futures: Futures, *, trades_futures: bool) -> Iterator[tuple[Where, str]]:
    """What is wrong with an account's map, as (path below `symbols`, message)."""
    for source, target in symbols.items() if trades_futures else ():
        if source in futures:
            if target not in futures:
                yield (source,), f"{target!r} is no product that is known; {meant(target, futures)}"
        elif fault := symbol_fault(source, futures):
            yield (source,), fault
        elif fault := symbol_fault(target, futures):
            yield (source,), fault


def symbol_fault(symbol: str, futures: Futures) -> str:
    """What is wrong with a product or contract that a file names, or ""."""
    try:
        parse_symbol(symbol, futures)
    except ValueError as error:
        return f"{symbol!r} is no product or contract that is known; {_meant(symbol, futures)}" if not root_fault(
            symbol) else str(error)
    return ""


def _meant(symbol: str, futures: Futures) -> str:
    words = meant(symbol, futures)
    return words if words.startswith("did") else "`products:` in accounts.yaml adds one"
