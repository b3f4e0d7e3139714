"""What Tradovate remembers beside the book: accounts, commands, strategies, and the ids of all of them."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import Any

from .book import Book, Order
from .instruments import Contract
from .wire import now_iso

NAME = "tradovate"
USER_ID = 900001
DEFAULT_ACCOUNT = (123456, "DEMO123456")
# Ids of fills, reports and positions come from the book's numbering, lifted so that they never look like an order's.
LIFT = 10_000_000_000


@dataclass(slots=True)
class Command:
    id: int
    order_id: int
    kind: str
    status: str
    at: str
    report_id: int
    ord_status: str
    cl_ord_id: str | None = None
    automated: bool | None = None
    tag50: str | None = None
    reject_reason: str | None = None
    text: str | None = None


@dataclass(slots=True)
class Strategy:
    id: int
    account_id: int
    contract: Contract
    action: str
    params: str
    uuid: str | None
    at: str
    orders: list[tuple[int, Order, str]] = field(default_factory=list)  # link id, order, label
    interrupted: bool = False

    def status(self) -> str:
        if self.interrupted:
            return "ExecutionInterrupted"
        if any(order.open for _, order, _ in self.orders):
            return "ActiveStrategy"
        entry = self.orders[0][1] if self.orders else None
        if entry is None or entry.state == "rejected":
            return "ExecutionFailed"
        return "ExecutionFinished" if entry.state == "filled" else "ExecutionInterrupted"


class Desk:
    def __init__(self, book: Book, behaviour: dict[str, Any]) -> None:
        self.book = book
        self.behaviour = behaviour
        # Starting at the clock keeps ids of an earlier run from meaning another order in this one.
        self._ids = itertools.count(int(time.time()) * 10)
        self.users: set[str] = set()  # names that have logged in; one may stand where an account's name belongs
        self.clear()

    def clear(self) -> None:
        self.accounts: dict[int, str] = dict([DEFAULT_ACCOUNT])
        self._named: set[int] = set()  # accounts whose name a request has settled
        self.orders: dict[int, Order] = {}
        self.commands: dict[int, Command] = {}
        self.of_order: dict[int, list[Command]] = {}
        self.strategies: dict[int, Strategy] = {}

    def next_id(self) -> int:
        return next(self._ids)

    def account(self, account_id: int, spec: str | None) -> str | None:
        """The name of an account, made on first sight; None where Tradovate says "Access is denied".

        `accountId` decides; `accountSpec` may be the account's or the user's name. Refused are the name of another
        account and the user's id in place of the account's, the usual slip.
        """
        if account_id == USER_ID:
            return None
        if spec is None or spec in self.users:
            return self.accounts.setdefault(account_id, str(account_id))
        if any(name == spec and known != account_id for known, name in self.accounts.items()):
            return None
        if account_id not in self._named:
            self._named.add(account_id)
            if not any(order.extra["account_id"] == account_id for order in self.orders.values()):
                self.accounts[account_id] = spec
        return self.accounts[account_id]

    def account_id(self, name: str) -> int:
        return next(number for number, known in self.accounts.items() if known == name)

    def command(self, order: Order, kind: str, fields: dict[str, Any], *, status: str = "AtExecution") -> Command:
        """Note a command for an order that has its id; the order's state is taken as it stands."""
        order_id = int(order.broker_id)
        command = Command(
            self.next_id(), order_id, kind, status, now_iso(), self.next_id(),
            ORD_STATUS.get(order.state, "PendingNew"), fields.get("clOrdId"), fields.get("isAutomated"),
            fields.get("customTag50"),
        )  # fmt: skip
        self.commands[command.id] = command
        self.of_order.setdefault(order_id, []).append(command)
        return command

    def version(self, order: Order, command: Command, fields: dict[str, Any]) -> None:
        """Note what an order asks for from this command on; the version's id is the command's."""
        version: dict[str, Any] = {
            "id": command.id,
            "orderId": int(order.broker_id),
            "orderQty": order.quantity,
            "orderType": fields["orderType"],
        }
        for name in ("price", "stopPrice", "maxShow", "pegDifference"):
            if fields.get(name) is not None:
                version[name] = fields[name]
        version["timeInForce"] = fields.get("timeInForce", "Day")
        for name in ("expireTime", "text"):
            if fields.get(name) is not None:
                version[name] = fields[name]
        order.extra.setdefault("versions", []).append(version)


ORD_STATUS = {
    "working": "Working",
    "partially_filled": "Working",  # Tradovate has no PartiallyFilled
    "suspended": "Suspended",
    "filled": "Filled",
    "canceled": "Canceled",
    "rejected": "Rejected",
    "expired": "Expired",
}
