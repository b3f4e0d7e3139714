"""Taking alerts in: one script takes the dedupe key, stores the alert and queues its home account's orders; the other
lanes follow by scripts that can be repeated, and an alert left half-written is completed from what it stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from bridge.clock import monotonic
from bridge.errors import DamagedRecord
from bridge.ledger.connection import away
from bridge.ledger.keys import alert_fields, answer, check_alert, flat, key, order_args, other_lanes, prefix
from bridge.ledger.lanes import Lanes
from bridge.numbers import load_own_json
from bridge.record import Delivery, Enqueued, NewOrder

_SAME_DELIVERY_MS = 60_000
"""How long a delivery that is its own key is remembered, for the client library's own resending."""


class Intake(Lanes):
    """The receiver's part of the ledger."""

    def __init__(self, url: str, *, retention_ms: int = 90 * 86_400_000, copies: int = 0) -> None:
        super().__init__(url, retention_ms=retention_ms, copies=copies)
        self._homes: dict[str, str] = {}
        self._known: set[str] = set()

    def home_of(self, template: str, first_account: str) -> str:
        """The account in whose slot this template's alerts live: the first that was ever named for it."""
        if template not in self._homes:
            with away():
                name = f"bridge:home:{template}"
                self._redis.set(name, first_account, nx=True)
                self._homes[template] = cast(str, self._redis.get(name)) or first_account
        return self._homes[template]

    def enqueue(self, delivery: Delivery) -> Enqueued:
        """Take an alert in with all its orders, or find that it is a duplicate. Safe to repeat, even half-way."""
        self._know({delivery.home, *(order.account for order in delivery.orders)})
        home = delivery.home
        at_home = [order for order in delivery.orders if order.account == home]
        half = len(at_home) < len(delivery.orders)
        fields = alert_fields(delivery, half=half)
        found = self._run("enqueue", prefix(home), [
            _same(delivery.template, delivery.key), delivery.id, delivery.nonce,
            delivery.dedupe_ms or _SAME_DELIVERY_MS, int(delivery.takes_key), delivery.fingerprint, int(half),
            len(fields), *flat(fields), *order_args(delivery, at_home)])
        if found[0] == "duplicate":
            orders = self._completed(home, found[1])
            return Enqueued(alert=delivery.id, duplicate_of=found[1], conflict=bool(found[2]), orders=orders)
        stand = _states(found[2:])
        if half:
            stand |= self._complete(home, delivery, int(found[1]), monotonic(), 0)
        return Enqueued(alert=delivery.id, orders=tuple(answer(order.id, order.account, *stand[order.id])
                                                        for order in delivery.orders))

    def find_duplicate(self, home: str, template: str, dedupe_key: str) -> Enqueued | None:
        """The alert that holds this key, if there is one."""
        with away():
            first = cast("str | None", self._redis.hget(prefix(home) + _same(template, dedupe_key), "alert"))
        if not first:
            return None
        self.await_copies(prefix(home))
        return Enqueued(alert=first, duplicate_of=first, orders=self._completed(home, first))

    def sweep(self, home: str, older_than_ms: int, most: int = 50) -> int:
        """Complete alerts that were left half-written in this home for that long; returns how many.

        Raises DamagedRecord when what was stored of one cannot be trusted; it is then swept no more.
        """
        now = self.lane_clock(home)
        with away():
            alerts = cast("list[str]", self._redis.zrangebyscore(key(home, "halves"), "-inf", now - older_than_ms,
                                                                 start=0, num=most))
        for alert in alerts:
            self._completed(home, alert)
        return len(alerts)

    def _join(self, account: str, delivery: Delivery, orders: Sequence[NewOrder], raw_ms: int,
              waited_ms: int) -> dict[str, tuple[str, str]]:
        return _states(self._run("join", prefix(account), [raw_ms, waited_ms, *order_args(delivery, orders)]))

    def _completed(self, home: str, alert: str) -> tuple[Mapping[str, Any], ...]:
        """The orders of an alert as they stand now; one left half-written is completed from its stored orders first."""
        with away():
            found = cast("dict[str, str]", self._redis.hgetall(key(home, "alert", alert)))
        if not found:
            self._run("whole", prefix(home), [alert])
            return ()
        if found.get("half"):
            try:
                check_alert(alert, found)
            except DamagedRecord:
                self._run("whole", prefix(home), [alert])
                raise
        orders = load_own_json(found.get("orders") or "[]")
        if found.get("half"):
            asked_at = monotonic()
            waited_ms = max(0, self.lane_clock(home) - int(found["received"]))
            self._complete(home, other_lanes(home, alert, found, orders), int(found["raw"]), asked_at, waited_ms)
        with away():
            pipe = self._redis.pipeline(transaction=False)
            for order in orders:
                pipe.hmget(key(order["account"], "order", order["id"]), "state", "reason")
            states = pipe.execute()
        return tuple(answer(order["id"], order["account"], state or order["state"], reason or "")
                     for order, (state, reason) in zip(orders, states, strict=True))

    def _complete(self, home: str, delivery: Delivery, raw_ms: int, since: float,
                  waited_ms: int) -> dict[str, tuple[str, str]]:
        """Bring the orders of other accounts into their lanes, then note that the alert is whole.

        It had waited `waited_ms` at the moment `since` of the monotonic clock; its receipt was `raw_ms` by TIME.
        """
        stand: dict[str, tuple[str, str]] = {}
        for account in sorted({order.account for order in delivery.orders} - {home}):
            waited = waited_ms + int((monotonic() - since) * 1000)
            stand |= self._join(account, delivery, [order for order in delivery.orders if order.account == account],
                                raw_ms, waited)
        self._run("whole", prefix(home), [delivery.id])
        return stand

    def _know(self, accounts: set[str]) -> None:
        if new := accounts - self._known:
            with away():
                self._redis.sadd("bridge:accounts", *sorted(new))
            self._known |= new


def _same(template: str, dedupe_key: str) -> str:
    return f"same:{template}:{dedupe_key}"


def _states(found: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Order id → (state, reason) of what a script answered."""
    return {found[at]: (found[at + 1], found[at + 2]) for at in range(0, len(found), 3)}
