"""What goes into the ledger with an alert, and the ids that are derived from it. Pure.

The same alert makes the same ids wherever and however often it is handled, so that enqueueing it twice, even half-way,
makes the same orders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bridge.order import Order

STOPPED = ("refused", "expired")
"""The states of an order that its alert did not queue."""


def alert_id(template: str, key: str, window_ms: int) -> str:
    """The id of the alert with this key in the window that begins at `window_ms`: `a` and 20 hex digits."""
    return "a" + _digest(template, key, str(window_ms))


def order_id(alert: str, template: str, index: int, account: str) -> str:
    """The id of the order at position `index` of `orders` for `account`: `o` and 20 hex digits."""
    return "o" + _digest(alert, template, str(index), account)


def _digest(*parts: str) -> str:
    joined = "\x00".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:20]


class Limit(NamedTuple):
    """How many entries may be queued in one lane: of one template, or of all of them. Counted where they are queued.

    `guard` and `whose` name it in a reason. `scope` is what is counted together. `day` names the day that is counted;
    "" means the minute before.
    """

    guard: str
    whose: str
    scope: str
    most: int
    day: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """A rendered order on its way into a lane.

    `state` is queued, expired or refused (with `reason`). `max_age_ms` counts from the alert's own time. `follows` is
    the id of the order before it in the same alert's list for this account: it waits for that one. `limits` are looked
    at when it is queued: it may be refused then.
    """

    id: str
    index: int
    account: str
    broker: str
    order: Order
    max_age_ms: int
    state: str = "queued"
    reason: str = ""
    dry_run: bool = False
    follows: str = ""
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One alert as the receiver hands it to the ledger.

    `home` is the account whose slot the alert lives in. `key` is what makes two alerts the same; `dedupe_ms` how long
    from the first sight. `takes_key`: at least one order is queued. `nonce` is new with each HTTP request, so that the
    client library's own resending is told from a sender's. `age_ms` is the alert's age at receipt, never negative.
    `state` is accepted, skipped, refused or invalid.
    """

    template: str
    home: str
    id: str
    key: str
    dedupe_ms: int
    nonce: str
    fingerprint: str
    age_ms: int
    body: str
    state: str
    reason: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    orders: tuple[NewOrder, ...] = ()

    @property
    def takes_key(self) -> bool:
        """Whether a later copy of this alert is a duplicate."""
        return any(order.state == "queued" for order in self.orders)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """What the ledger made of a delivery. Everything in it is durable.

    For a duplicate, `alert` is this delivery's own id, `duplicate_of` the first one's, and `orders` are the first
    one's; `conflict` says that the key was the same but the body was not. `alarms` are the orders of this delivery that
    wait for a person from the start.
    """

    alert: str
    orders: tuple[Mapping[str, Any], ...]
    duplicate_of: str = ""
    conflict: bool = False
    alarms: tuple[str, ...] = ()

    @property
    def refusal(self) -> str:
        """Why not one of its orders was queued; "" when one was, or when it has none."""
        if any(order["state"] not in STOPPED for order in self.orders):
            return ""
        return "; ".join(dict.fromkeys(order.get("reason", "") for order in self.orders))
