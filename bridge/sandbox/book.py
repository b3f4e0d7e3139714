"""The broker-neutral matching engine: orders, what links them, prices, fills and positions.

The rules, in one place:

* A price on the tape fills what it crosses: a limit at its own price, a stop, MIT or market order at the tape's price.
* An order that arrives while a price is known is judged by it at once. While none is known, limits and stops rest,
  and a market order fills at `default_price(order)`.
* An order that fills cancels the rest of its OCO group; a part fill takes its quantity from the rest of the group.
* Children wait (`suspended`) for the whole fill of their parent and are cancelled with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from .wire import Record, now_iso

WORKING = ("working", "partially_filled")
DEFAULT_PRICE = Decimal(100)
_TRIGGERED = {
    "stop": "market",
    "mit": "market",
    "stop_limit": "limit",
    "trailing_stop": "market",
    "trailing_stop_limit": "limit",
}


@dataclass(slots=True)
class Event:
    """One step in an order's life."""

    number: int
    at: str
    kind: str  # accepted, working, trade, canceled, rejected, expired, modified
    state: str
    quantity: int = 0
    price: Decimal | None = None
    text: str = ""


@dataclass(slots=True, eq=False)
class Order:
    broker: str
    account: str
    symbol: str
    market: str
    side: str
    quantity: int
    type: str
    broker_id: str
    record: Record
    price: Decimal | None = None
    stop_price: Decimal | None = None
    trail: Decimal | None = None
    time_in_force: str = "day"
    client_id: str | None = None
    parent: Order | None = None
    oco_id: str | None = None
    bucket: str = ""  # what keeps positions of one symbol apart (Pocketful's product)
    reference: Decimal | None = None  # where a market order fills while no price is known
    stop_through_is_rejected: bool = False
    state: str = "new"
    filled: int = 0
    average: Decimal = Decimal(0)
    triggered: bool = False
    at: str = ""
    children: list[Order] = field(default_factory=list)
    siblings: list[Order] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    on_filled: Callable[[Order], None] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        return self.state in WORKING or self.state == "suspended"

    @property
    def remaining(self) -> int:
        return self.quantity - self.filled

    @property
    def sign(self) -> int:
        return 1 if self.side == "buy" else -1

    def effective_type(self) -> str:
        """What the order is to the market now: a triggered stop is a market order, a triggered stop limit a limit."""
        return _TRIGGERED.get(self.type, self.type) if self.triggered else self.type


@dataclass(slots=True)
class Fill:
    number: int
    order: Order
    quantity: int
    price: Decimal
    at: str


@dataclass(slots=True)
class Position:
    broker: str
    account: str
    symbol: str
    market: str
    bucket: str
    number: int
    at: str
    net: int = 0
    price: Decimal = Decimal(0)
    bought: int = 0
    bought_value: Decimal = Decimal(0)
    sold: int = 0
    sold_value: Decimal = Decimal(0)
    realized: Decimal = Decimal(0)
    extra: dict[str, Any] = field(default_factory=dict)

    def apply(self, side: str, quantity: int, price: Decimal) -> None:
        signed = quantity if side == "buy" else -quantity
        if side == "buy":
            self.bought += quantity
            self.bought_value += price * quantity
        else:
            self.sold += quantity
            self.sold_value += price * quantity
        if self.net * signed >= 0:
            total = self.net + signed
            self.price = (self.price * abs(self.net) + price * quantity) / abs(total)
        else:
            closed = min(quantity, abs(self.net))
            direction = 1 if self.net > 0 else -1
            self.realized += (price - self.price) * closed * direction
            if quantity > abs(self.net):
                self.price = price
            elif quantity == abs(self.net):
                self.price = Decimal(0)
        self.net += signed


class Book:
    """Every order of every broker, oldest first, with the tape and the positions."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.fills: list[Fill] = []
        self.positions: dict[tuple[str, str, str, str], Position] = {}
        self.prices: dict[str, Decimal] = {}
        self._numbers = itertools.count(1)
        self._live: dict[str, dict[int, Order]] = {}
        self._dated: list[tuple[datetime, Order]] = []

    def clear(self) -> None:
        """Forget everything but the numbering, so that no id is ever given twice."""
        self.orders.clear()
        self.fills.clear()
        self.positions.clear()
        self.prices.clear()
        self._live.clear()
        self._dated.clear()

    def last(self, market: str) -> Decimal | None:
        """The last price; a Pocketful market `NSE:14366` also hears a price given for `14366`."""
        price = self.prices.get(market)
        return price if price is not None or ":" not in market else self.prices.get(market.partition(":")[2])

    def default_price(self, order: Order) -> Decimal:
        """Where a market order fills: the last price, else the price it carries, else 100."""
        last = self.last(order.market)
        if last is not None:
            return last
        return order.reference if order.reference is not None else DEFAULT_PRICE

    # -- what brokers do --------------------------------------------------------------------------

    def list_first(self, order: Order) -> None:
        """Give an order its place in the list before it works, so that its children can wait for it behind it."""
        if not order.at:
            order.at = now_iso()
            self.orders.append(order)

    def add(self, order: Order, *, suspended: bool = False) -> None:
        """Take an order in; it may be filled, or cancelled (IOC, FOK), when this returns."""
        self.list_first(order)
        if suspended:
            self._move(order, "suspended", "accepted")
            return
        self._move(order, "working", "accepted")
        self._start(order)

    def reject(self, order: Order, text: str) -> None:
        """Take an order in that the exchange then refuses: it ends as `rejected` and its children with it."""
        self.list_first(order)
        self._end(order, "rejected", "rejected", text)

    def link(self, orders: list[Order], oco_id: str) -> None:
        """Make the orders one OCO group."""
        for order in orders:
            order.oco_id = oco_id
            order.siblings = [other for other in orders if other is not order]

    def cancel(self, order: Order, text: str = "") -> bool:
        """Cancel an open order and its waiting children; False when it had ended before."""
        if not order.open:
            return False
        self._end(order, "canceled", "canceled", text)
        return True

    def modify(self, order: Order, text: str = "") -> None:
        """Judge a working order anew after its fields were changed by the caller."""
        self._note(order, "modified", text=text)
        if order.state in WORKING:
            if order.remaining <= 0:
                self._end(order, "filled" if order.filled else "canceled", "modified")
                return
            self._judge_on_arrival(order)

    def expire_on(self, order: Order, moment: datetime) -> None:
        self._dated.append((moment, order))

    def expire_due(self, now: datetime) -> None:
        """End the GTD orders whose time has come."""
        if self._dated:
            due = [order for moment, order in self._dated if moment <= now]
            self._dated = [(moment, order) for moment, order in self._dated if moment > now and order.open]
            for order in due:
                if order.open:
                    self._end(order, "expired", "expired")

    def end_session(self) -> int:
        """Expire every open day order; the number of those that expired."""
        due = [order for order in self.orders if order.open and order.time_in_force == "day"]
        for order in due:
            if order.open:
                self._end(order, "expired", "expired")
        return len(due)

    def position(self, broker: str, account: str, market: str, bucket: str = "") -> Position | None:
        return self.positions.get((broker, account, market, bucket))

    def working(self, broker: str, account: str, market: str | None = None) -> list[Order]:
        """Open orders of an account, children that wait included, oldest first."""
        return [
            order
            for order in self.orders
            if order.open and order.broker == broker and order.account == account and market in (None, order.market)
        ]

    # -- the tape ---------------------------------------------------------------------------------

    def tape(self, market: str, price: Decimal, quantity: int | None = None) -> list[Order]:
        """A trade prints: fill what it crosses, `quantity` of each order at most; the orders that were filled."""
        self.prices[market] = price
        if ":" not in market:
            for name in [name for name in self.prices if name.partition(":")[2] == market]:
                del self.prices[name]
        before = len(self.fills)
        for name in self._markets(market):
            for order in list(self._live.get(name, {}).values()):
                if order.state in WORKING:
                    at = self._crossed(order, price, arrival=False)
                    if at is not None:
                        self._fill(order, min(order.remaining, quantity or order.remaining), at)
        filled: list[Order] = []
        for fill in self.fills[before:]:
            if fill.order not in filled:
                filled.append(fill.order)
        return filled

    def _markets(self, market: str) -> list[str]:
        if ":" in market:
            return [market]
        return [name for name in self._live if name == market or name.partition(":")[2] == market]

    def _start(self, order: Order) -> None:
        """An order begins to work."""
        self._live.setdefault(order.market, {})[id(order)] = order
        if order.type == "market":
            self._fill(order, order.remaining, self.default_price(order))
            return
        self._judge_on_arrival(order)
        if order.state in WORKING and order.time_in_force in ("ioc", "fok"):
            self._end(order, "canceled", "canceled", "not filled at once")

    def _judge_on_arrival(self, order: Order) -> None:
        last = self.last(order.market)
        if last is not None:
            at = self._crossed(order, last, arrival=True)
            if at is not None:
                self._fill(order, order.remaining, at)

    def _crossed(self, order: Order, price: Decimal, *, arrival: bool) -> Decimal | None:
        """The price at which the order trades now, or None. Moves trailing stops and triggers stops on the way."""
        sign = order.sign
        if order.type.startswith("trailing_stop") and not order.triggered:
            self._trail(order, price)
        kind = order.effective_type()
        if kind in ("stop", "stop_limit", "trailing_stop", "trailing_stop_limit"):
            if order.stop_price is None or (price - order.stop_price) * sign < 0:
                return None
            order.triggered = True
            kind = order.effective_type()
        elif kind == "mit":
            if order.price is None or (price - order.price) * sign > 0:
                return None
            order.triggered = True
            kind = "market"
        if kind == "market":
            return price
        if order.price is not None and (price - order.price) * sign <= 0:
            return price if arrival or order.type != "limit" else order.price
        return None

    @staticmethod
    def _trail(order: Order, price: Decimal) -> None:
        """Pull the stop behind the best price; the distance is `trail`, else that of the first price seen."""
        sign = order.sign
        if order.trail is None:
            if order.stop_price is None:
                return
            order.trail = abs(price - order.stop_price)
        wanted = price + order.trail * sign
        if order.stop_price is None or (order.stop_price - wanted) * sign > 0:
            if order.stop_price is not None and order.price is not None:
                order.price += wanted - order.stop_price  # the limit keeps its distance to the stop
            order.stop_price = wanted

    def _fill(self, order: Order, quantity: int, price: Decimal) -> None:
        if quantity <= 0:
            return
        order.average = (order.average * order.filled + price * quantity) / (order.filled + quantity)
        order.filled += quantity
        done = order.remaining <= 0
        order.state = "filled" if done else "partially_filled"
        number = next(self._numbers)
        at = now_iso()
        self.fills.append(Fill(number, order, quantity, price, at))
        order.events.append(Event(number, at, "trade", order.state, quantity, price))
        self._account(order, quantity, price)
        if done:
            self._live.get(order.market, {}).pop(id(order), None)
        for sibling in order.siblings:
            if sibling.open:
                sibling.quantity -= 0 if done else min(quantity, sibling.remaining)
                if done or sibling.remaining <= 0:
                    self._end(sibling, "canceled", "canceled", "OCO")
        if done:
            for child in order.children:
                if child.state == "suspended":
                    self._release(child)
            if order.on_filled is not None:
                order.on_filled(order)

    def _release(self, child: Order) -> None:
        """The parent has filled: the child works, unless its stop is already through the market."""
        last = self.last(child.market)
        through = last is not None and child.stop_price is not None and (last - child.stop_price) * child.sign >= 0
        if through and child.stop_through_is_rejected:
            self._end(child, "rejected", "rejected", "stop price is through the market")
            return
        self._move(child, "working", "working")
        self._start(child)

    def _account(self, order: Order, quantity: int, price: Decimal) -> None:
        key = (order.broker, order.account, order.market, order.bucket)
        position = self.positions.get(key)
        if position is None:
            number = next(self._numbers)
            position = Position(order.broker, order.account, order.symbol, order.market, order.bucket, number, order.at)
            position.extra.update(order.extra.get("position", {}))
            self.positions[key] = position
        position.at = now_iso()
        position.apply(order.side, quantity, price)

    def _end(self, order: Order, state: str, kind: str, text: str = "") -> None:
        self._live.get(order.market, {}).pop(id(order), None)
        self._move(order, state, kind, text)
        for child in order.children:
            if child.state == "suspended":
                ended = "rejected" if state == "rejected" else "canceled"
                self._end(child, ended, ended, "parent ended")

    def _move(self, order: Order, state: str, kind: str, text: str = "") -> None:
        order.state = state
        self._note(order, kind, text=text)

    def _note(self, order: Order, kind: str, *, text: str = "") -> None:
        order.events.append(Event(next(self._numbers), now_iso(), kind, order.state, text=text))
