"""Taking alerts in: one script takes the dedupe key, stores the alert and queues its home account's orders; the other
lanes follow by scripts that can be repeated, and an alert left half-written is completed from what it stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from bridge.clock import monotonic
from bridge.errors import DamagedRecord, LedgerAway
from bridge.ledger.connection import away
from bridge.ledger.keys import alert_fields, answer, check_alert, flat, key, order_args, other_lanes, prefix
from bridge.ledger.lanes import Lanes
from bridge.numbers import load_own_json
from bridge.record import STOPPED, Delivery, Enqueued, NewOrder

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
            delivery.dedupe_ms or _SAME_DELIVERY_MS, _takes_key(delivery), delivery.fingerprint, int(half),
            self._process, int(monotonic() * 1000), len(fields), *flat(fields), *order_args(delivery, at_home)])
        if found[0] == "duplicate":
            orders = self._completed(home, found[1])
            return Enqueued(alert=delivery.id, duplicate_of=found[1], conflict=bool(found[2]), orders=orders)
        stand = _states(found[2:])
        if half:
            stand = self._complete(home, delivery, int(found[1]), monotonic(), 0, stand=stand)
        return Enqueued(alert=delivery.id, alarms=tuple(order.id for order in delivery.orders if stand[order.id].waits),
                        orders=tuple(answer(order.id, order.account, *stand[order.id][:2]) for order in delivery.orders))

    def find_duplicate(self, home: str, template: str, dedupe_key: str, fingerprint: str = "") -> Enqueued | None:
        """The alert that holds this key, if there is one; with `fingerprint`, only one with the same body."""
        with away():
            first, process, steady, window, until, body = cast("list[str | None]", self._redis.hmget(
                prefix(home) + _same(template, dedupe_key),
                ["alert", "process", "steady", "window", "until", "fingerprint"]))
        if not first or (fingerprint and body != fingerprint):
            return None
        over = (monotonic() * 1000 - int(steady or 0) > int(window or 0) if process == self._process
                else self.lane_clock(home) > int(until or 0))
        if over:
            return None
        self.await_copies(prefix(home))
        return Enqueued(alert=first, duplicate_of=first, orders=self._completed(home, first))

    def sweep(self, home: str, older_than_ms: int, most: int = 1000) -> int:
        """Complete alerts that were left half-written in this home for that long; returns how many.

        Each is tried before the first error is raised: LedgerAway, or DamagedRecord for those whose record is gone or
        cannot be trusted. These are marked and swept no more.
        """
        halves = key(home, "halves")
        with away():
            if not self._redis.exists(halves):  # the usual case, and asked often
                return 0
        now = self.lane_clock(home)
        with away():
            alerts = cast("list[str]", self._redis.zrangebyscore(halves, "-inf", now - older_than_ms, start=0, num=most))
        done, damaged, gone = 0, [], dict[str, LedgerAway]()
        trouble: Exception | None = None
        for alert in alerts:
            try:
                done += self._sweep_one(home, alert, gone)
            except DamagedRecord as error:
                damaged.append(str(error))
            except Exception as error:  # noqa: BLE001 the other alerts are not to wait for it
                trouble = trouble or error
                if isinstance(error, LedgerAway) and error not in gone.values():
                    break  # the home itself is away
        if damaged:
            raise DamagedRecord("; ".join(damaged))
        if trouble is not None:
            raise trouble
        return done

    def _sweep_one(self, home: str, alert: str, gone: dict[str, LedgerAway]) -> int:
        found = self._alert(home, alert)
        words = ""
        if not found:
            words = f"the record of alert {alert} is gone: its orders of other accounts are not queued from it"
        elif found.get("half"):
            try:
                self._finish(home, alert, found, gone)
                return 1
            except DamagedRecord as damaged:
                words = str(damaged)
        self._run("whole", prefix(home), [alert, words])
        if words:
            raise DamagedRecord(words)
        return 0

    def _join(self, account: str, delivery: Delivery, orders: Sequence[NewOrder], raw_ms: int,
              waited_ms: int) -> dict[str, _Stand]:
        return _states(self._run("join", prefix(account), [raw_ms, waited_ms, *order_args(delivery, orders)]))

    def _alert(self, home: str, alert: str) -> dict[str, str]:
        with away():
            return cast("dict[str, str]", self._redis.hgetall(key(home, "alert", alert)))

    def _completed(self, home: str, alert: str) -> tuple[Mapping[str, Any], ...]:
        """The orders of an alert as they stand now; one left half-written is completed from its stored orders first.

        A damaged one is not completed (`sweep` tells of it): of its orders, those that are in no lane are `unknown`.
        """
        found = self._alert(home, alert)
        damage = found.get("damaged", "")
        if found.get("half"):
            try:
                self._finish(home, alert, found, {})
            except DamagedRecord as damaged:
                damage = str(damaged)
        try:
            orders = [(each["id"], each["account"], each["state"]) for each in load_own_json(found.get("orders") or "[]")]
        except (ValueError, KeyError, TypeError):
            return ()  # damaged: not even their ids are known
        with away():
            pipe = self._redis.pipeline(transaction=False)
            for order, account, _ in orders:
                pipe.hmget(key(account, "order", order), "state", "reason")
            states = pipe.execute()
        return tuple(answer(order, account, *(_not_on_record(first, damage) if state is None else (state, reason or "")))
                     for (order, account, first), (state, reason) in zip(orders, states, strict=True))

    def _finish(self, home: str, alert: str, found: Mapping[str, str], gone: dict[str, LedgerAway]) -> None:
        """Complete a half-written alert from what it stored. Raises DamagedRecord when that cannot be trusted."""
        check_alert(alert, found)
        try:
            rest = other_lanes(home, alert, found, load_own_json(found["orders"]))
            received, raw_ms = int(found["received"]), int(found["raw"])
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedRecord(f"the record of alert {alert} cannot be read ({type(error).__name__}: {error}). Its orders "
                                "of other accounts are not queued from it") from None
        asked_at = monotonic()
        waited_ms = max(0, self.lane_clock(home) - received)
        self._complete(home, rest, raw_ms, asked_at, waited_ms, gone)

    def _complete(self, home: str, delivery: Delivery, raw_ms: int, since: float, waited_ms: int,
                  gone: dict[str, LedgerAway] | None = None, *,
                  stand: Mapping[str, _Stand] | None = None) -> dict[str, _Stand]:
        """Bring the orders of other accounts into their lanes, then note that the alert is whole.

        It had waited `waited_ms` at the moment `since` of the monotonic clock; its receipt was `raw_ms` by TIME. Each
        account is tried before the first error is raised. `gone` are accounts whose server is known to be away; it is
        added to. `stand` is how its orders at home stand: with it, an alert of which no order was queued gives its key
        back. Returns how all these orders stand.
        """
        gone = {} if gone is None else gone
        found: dict[str, _Stand] = dict(stand or {})
        trouble: Exception | None = None
        for account in sorted({order.account for order in delivery.orders} - {home}):
            waited = waited_ms + int((monotonic() - since) * 1000)
            try:
                if account in gone:
                    raise gone[account]
                found |= self._join(account, delivery, [order for order in delivery.orders if order.account == account],
                                    raw_ms, waited)
            except Exception as error:  # noqa: BLE001 the other accounts are not to wait for it
                trouble = trouble or error
                if isinstance(error, LedgerAway):
                    gone[account] = error
        if trouble is not None:
            raise trouble
        refused = stand is not None and delivery.takes_key and all(each.state in STOPPED for each in found.values())
        self._run("whole", prefix(home), [delivery.id, "", *([
            "; ".join(dict.fromkeys(each.reason for each in found.values())), _same(delivery.template, delivery.key),
        ] if refused else [])])
        return found

    def _know(self, accounts: set[str]) -> None:
        if new := accounts - self._known:
            with away():
                self._redis.sadd("bridge:accounts", *sorted(new))
            self._known |= new


def _same(template: str, dedupe_key: str) -> str:
    return f"same:{template}:{dedupe_key}"


def _not_on_record(first: str, damage: str) -> tuple[str, str]:
    """State and reason of an order of an alert that is on record nowhere; `first` is what it was received as."""
    if first != "queued":
        return first, ""
    return "unknown", damage or "there is no record of it: look at the broker"


class _Stand(NamedTuple):
    """How an order stands after a script has put it on record; `waits`: it was not queued, and waits for a person."""

    state: str
    reason: str
    waits: bool


def _states(found: Sequence[str]) -> dict[str, _Stand]:
    """How each order stands, by its id, of what a script answered."""
    return {found[at]: _Stand(found[at + 1], found[at + 2], bool(found[at + 3])) for at in range(0, len(found), 4)}


def _takes_key(delivery: Delivery) -> int:
    """Whether orders are to be queued: 0 none, 1 only in the home lane, 2 elsewhere too."""
    if not delivery.takes_key:
        return 0
    return 2 if any(order.state == "queued" and order.account != delivery.home for order in delivery.orders) else 1
