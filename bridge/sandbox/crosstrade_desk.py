"""What CrossTrade remembers beside the book: accounts, ids that were used, OCO groups, submission attempts."""

from __future__ import annotations

import uuid
from typing import Any

from .book import Book, Order, Position
from .instruments import Contract, any_contract

NAME = "crosstrade"
DEFAULT_ACCOUNT = "Sim101"
ATM_TEMPLATES = ("MyAtmStrategy", "AtmStrategyTemplate")


class Refused(Exception):
    """The text of an HTTP 400 `{"error": …}`."""


class Desk:
    def __init__(self, book: Book, behaviour: dict[str, Any]) -> None:
        self.book = book
        self.behaviour = behaviour
        self.clear()

    def clear(self) -> None:
        self.accounts: dict[str, str] = {DEFAULT_ACCOUNT.lower(): DEFAULT_ACCOUNT}
        self.orders: dict[str, Order] = {}
        self.originals: dict[str, Order] = {}  # by the id that the caller gave; NinjaTrader never forgets one
        self.groups: dict[str, list[Order]] = {}
        self.attempts: dict[str, list[tuple[str, str]]] = {}  # generated id → (time, call) of later attempts

    def account(self, arguments: dict[str, Any]) -> str:
        """The account in its canonical case; made on first sight."""
        name = arguments.get("account")
        if not isinstance(name, str) or not name.strip():
            raise Refused("Missing required field: account")
        return self.accounts.setdefault(name.strip().lower(), name.strip())

    def contract(self, arguments: dict[str, Any]) -> Contract:
        name = arguments.get("instrument")
        if not isinstance(name, str) or not name.strip():
            raise Refused("Missing required field: instrument")
        contract = any_contract(name)
        if contract is None:
            raise Refused(f"Instrument '{name}' not found")
        return contract

    def order(self, arguments: dict[str, Any]) -> Order | None:
        """An order by the generated id or, unless switched off, by the caller's own."""
        wanted = str(arguments.get("orderId", ""))
        found = self.orders.get(wanted)
        if found is None and self.behaviour["order_id_lookup"]:
            found = self.originals.get(wanted)
        return found

    def burned_group(self, oco_id: str) -> bool:
        """Whether an OCO id is used up: NinjaTrader burns it for good once its group has resolved."""
        group = self.groups.get(oco_id)
        return bool(group) and (any(o.filled for o in group or ()) or not any(o.open for o in group or ()))

    def join(self, order: Order, oco_id: str) -> None:
        group = self.groups.setdefault(oco_id, [])
        group.append(order)
        self.book.link(group, oco_id)

    def positions(self, account: str | None = None, market: str | None = None, *, flat: bool = False) -> list[Position]:
        return [
            position
            for position in self.book.positions.values()
            if position.broker == NAME
            and account in (None, position.account)
            and market in (None, position.market)
            and (flat or position.net)
        ]


def new_id() -> str:
    return uuid.uuid4().hex


def flag(value: Any, default: bool) -> bool:
    """A boolean from a query ("true") or a body (true)."""
    return value if isinstance(value, bool) else default if value is None else str(value).lower() == "true"
