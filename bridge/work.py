"""What a plan is given: the account, the order with its ids, and the other orders of ours that it concerns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from bridge.futures import DEFAULT_ROLL, FUTURES, Futures, Roll
from bridge.guards import NONE, Guards
from bridge.order import Order

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Credentials(Mapping[str, str]):
    """A log-in's secrets by name. Its repr shows none of them."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Credentials({', '.join(self._values)}: <secret>)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Requests that a log-in may make; None where there is no such limit."""

    per_second: float | None = None
    per_minute: float | None = None
    burst: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A named broker log-in and broker account.

    `rest_url` and `ws_url` are scheme, host and port without a trailing slash (`base_url` applied). `login` names the
    log-in: accounts with the same one share token, budget and waits; it holds no secret. `options` are the account's
    broker-specific settings with defaults filled in (`stop_loss_value`, `cancel_parameters`, …). `futures` is the product
    table with what `products:` says of it, `roll` when continuous symbols go to the next month.
    """

    name: str
    broker: str
    environment: str = "live"
    account: str = ""
    account_id: int | None = None
    client_id: str = ""
    transport: str = "rest"
    rest_url: str = ""
    ws_url: str = ""
    login: str = ""
    credentials: Credentials = field(default_factory=lambda: Credentials({}))
    options: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    futures: Futures = FUTURES
    roll: Roll = DEFAULT_ROLL
    budget: Budget = field(default_factory=Budget)
    guards: Guards = NONE
    dry_run: bool = False
    real_money: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Ids:
    """The ids of one order's steps. `arming` counts how often it was armed anew after being accepted and undone.

    `counter` is the broker-side integer id that comes from the ledger, for brokers that want one (Pocketful's
    `user_order_id`); a Placeholder in render.
    """

    order_id: str
    arming: int = 1
    counter: int | str | None = None

    def client_id(self, leg: str = "") -> str:
        """The client order id of the order itself or of a leg: `o4f…`, `o4f….sl`, `o4f….sl.2`."""
        parts = [self.order_id, leg, str(self.arming) if self.arming > 1 else ""]
        return ".".join(part for part in parts if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One order to be submitted, looked up, withdrawn or closed.

    `broker_ids` is what earlier replies and look-ups told of it. `targets` (of a cancel or close) are our orders that
    have not ended and that it covers, newest first. `created_at` is when it was enqueued; `submitted_at` when it was
    first sent, if it was. For a look-up, `looked_at` is the present moment, and `shows_our_ids` says whether this
    account's books have ever shown us one of our own ids.
    """

    order: Order
    account: Account
    ids: Ids
    broker_ids: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    targets: tuple[Work, ...] = ()
    created_at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    submitted_at: datetime | None = None
    looked_at: datetime | None = None
    shows_our_ids: bool = False
