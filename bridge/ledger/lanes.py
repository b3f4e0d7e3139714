"""Lanes: who owns one, what stands in it, and every change of an order's state."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from bridge.call import Seen
from bridge.errors import DamagedRecord
from bridge.ledger.connection import Connection, away
from bridge.ledger.keys import Lease, Stored, flat, key, prefix, seen_fields, stored_of
from bridge.life import sources


class Lanes(Connection):
    """The worker's part of the ledger."""

    def accounts(self) -> list[str]:
        """Every account that has had an order or an alert."""
        with away():
            return sorted(cast("set[str]", self._redis.smembers("bridge:accounts")))

    def lane_clock(self, account: str) -> int:
        """The lane's clock in ms."""
        return int(self._run("load", prefix(account), ["-"])[0])

    def take_lease(self, account: str, owner: str, ttl_ms: int) -> Lease | None:
        """Own the lane of `account`, or go on owning it; None while another worker does."""
        fence, now = self._run("lease", prefix(account), [owner, ttl_ms])
        return Lease(account=account, owner=owner, fence=fence, now_ms=now) if fence else None

    def release_lease(self, lease: Lease) -> None:
        """Give the lane up at once."""
        self._run("release", prefix(lease.account), [lease.owner, lease.fence])

    def lane(self, account: str, after: str = "", count: int = 50) -> list[tuple[str, str]]:
        """The oldest `count` of the lane behind the entry `after`: (entry, order id)."""
        with away():
            entries = cast("list[tuple[str, dict[str, str]]]", self._redis.xrange(
                key(account, "lane"), min=f"({after}" if after else "-", count=count))
        return [(entry, values["order"]) for entry, values in entries]

    def exits(self, account: str) -> list[str]:
        """The cancels and closes that stand in the lane, oldest first."""
        with away():
            return cast("list[str]", self._redis.zrange(key(account, "exits"), 0, 999))

    def astray(self, account: str, most: int = 10_000) -> list[str]:
        """Orders that are queued or being sent though no entry of the lane names them, and those whose record is gone.

        Only damage makes them: each script changes the two as one. The newest `most` orders are looked at.
        """
        found: list[str] = []
        for first in range(0, most, 500):
            looked_at, *ids = self._run("astray", prefix(account), [first, 500])
            found += ids
            if looked_at < 500:
                break
        return found

    def set_aside(self, lease: Lease, order: str, entry: str, reason: str) -> str:
        """Take an order that cannot be handled off the lane, for a person; its state then, or "lost"."""
        answer = self._run("set_aside", prefix(lease.account), [lease.owner, lease.fence, order, entry, reason])
        return str(answer[-1])

    def wait_after(self, account: str, entry: str, seconds: float) -> str:
        """Wait until the lane holds an entry newer than `entry`, at most `seconds`; returns the newest id known."""
        with away():
            found = cast("Any", self._waiting.xread({key(account, "lane"): entry}, count=1,
                                                    block=max(1, int(seconds * 1000))))
        if not found:
            return entry
        entries = next(iter(found.values()))[0] if isinstance(found, dict) else found[0][1]
        return str(entries[-1][0])

    def load(self, account: str, order: str) -> Stored | None:
        """One order with its age; None when there is none."""
        found = self._run("load", prefix(account), [order])
        values = dict(zip(found[1::2], found[2::2], strict=True))
        return stored_of(values, int(found[0])) if values else None

    def records(self, stored: Stored) -> list[str]:
        """The recorded calls and replies of an order, in order."""
        with away():
            return cast("list[str]", self._redis.lrange(key(stored.account, "calls", stored.id), 0, -1))

    def state_of(self, account: str, order: str) -> str:
        """The state of one order, or ''."""
        with away():
            return cast("str | None", self._redis.hget(key(account, "order", order), "state")) or ""

    def open_orders(self, account: str, on_damaged: Callable[[str], None] = lambda order: None) -> list[Stored]:
        """Orders of this lane that may still work at the broker, and those that are unknown, newest first.

        One whose record is damaged is left out, and named to `on_damaged`: it must not keep the others from a way out.
        """
        self._lapse(account)
        with away():
            ids = cast("list[str]", self._redis.zrange(key(account, "open"), 0, -1))
        found: list[Stored] = []
        for each in ids:
            try:
                stored = self.load(account, each)
            except (DamagedRecord, ValueError, KeyError, TypeError):
                on_damaged(each)
                continue
            if stored:
                found.append(stored)
        return sorted((stored for stored in found if stored.state in ("accepted", "unknown")),
                      key=lambda stored: stored.rank, reverse=True)

    def entered(self, account: str) -> dict[str, int]:
        """Every contract that an entry was ever queued for, by its key, with the rank of the newest of them."""
        with away():
            found = cast("dict[str, str]", self._redis.hgetall(key(account, "newest")))
        return {contract: int(rank) for contract, rank in found.items()}

    def shows_our_ids(self, account: str) -> bool:
        """Whether the broker has ever shown us one of our own ids on this account."""
        with away():
            return bool(self._redis.exists(key(account, "shows")))

    def note_our_id(self, account: str) -> None:
        """The broker showed us one of our own ids on this account."""
        self._run("shows", prefix(account), [])

    def _lapse(self, account: str) -> None:
        self._run("lapse", prefix(account), [])

    def next_number(self, counter: str) -> int:
        """The next number of a broker's integer ids; it starts at the epoch's seconds and never repeats."""
        return int(self._run("counter", f"bridge:{{counter:{counter}}}", []))

    def submit(self, lease: Lease, stored: Stored, *, record: int, attempt: int, send_within_ms: int,
               client_order_id: str, counter: int | None, look_at_age: bool, look_at_marks: bool = True,
               clock_floor_ms: int = 0, records: Sequence[str]) -> tuple[str, int | str]:
        """Put a write on record before its first byte leaves. `clock_floor_ms`: the lane's clock cannot be earlier.

        Returns ("ok", ms until the send deadline, which is never past max_age when that is looked at), ("expired", age),
        ("covered", "") by a cancel or close received later, ("lost", "") or ("state", the unexpected state).
        """
        found = self._run("submit", prefix(lease.account), [
            lease.owner, lease.fence, stored.id, record, attempt, send_within_ms, client_order_id,
            "" if counter is None else counter, int(look_at_age), int(look_at_marks), clock_floor_ms,
            len(records), *records])
        return found[0], (found[1] if len(found) > 1 else "")

    def settle(self, lease: Lease, stored: Stored, event: str, state: str, *, nonce: str, reason: str, done: bool = True,
               person: bool = False, open_for_ms: int | None | str = None, look_up_in_ms: int | None = None,
               ended: bool = False, fields: Mapping[str, Any] | None = None, records: Sequence[str] = ()) -> str:
        """Put on record what an order came to.

        `event` is a word of bridge.life: the order has to be in a state that it may come from. `done` takes it off the
        lane. Repeating it with the same `nonce` changes nothing. `open_for_ms` says how long it may work at the broker:
        None not at all, "forever", or ms. Returns "ok"; "covered" when it was withdrawn instead of queued again;
        "repeated" or "alarm" for a doubtful order that stands though a cancel or close covered it; "lost" (another
        worker owns the lane); or the unexpected state.
        """
        given = flat(fields or {})
        found = self._run("settle", prefix(lease.account), [
            lease.owner, lease.fence, nonce, stored.id, ",".join(sources(event)), state, reason, int(done),
            int(person), "" if open_for_ms is None else open_for_ms, "" if look_up_in_ms is None else look_up_in_ms,
            int(ended), len(given) // 2, *given, len(records), *records])
        return str(found[-1] or "ok")

    def is_covered(self, stored: Stored) -> bool:
        """Whether a cancel or close that was received after this entry covers it."""
        return bool(self._run("covered", prefix(stored.account), [stored.id]))

    def resolve(self, account: str, order: str, verdict: str, reason: str, open_for_ms: int | str = "",
                nonce: str = "") -> tuple[str, str]:
        """A person decides an unknown order (accepted, rejected) or has `seen` an alarm.

        Returns ("ok", "" | "repeated" | "alarm": see `settle`) or ("state", the state that does not allow it).
        """
        found = self._run("resolve", prefix(account), [order, verdict, reason, open_for_ms, nonce or uuid.uuid4().hex])
        return str(found[0]), str(found[1])

    def see(self, lease: Lease, stored: Stored, seen: Seen | None, records: Sequence[str] = ()) -> bool:
        """Put on record what a look-up saw of an accepted order; None: nothing, it is only ticked off.

        Whether a person is to be told: the broker rejected it, or a leg of it, after it had accepted it. Then it waits.
        """
        given = flat(seen_fields(stored, seen)) if seen else []
        refused = seen is not None and "rejected" in (
            seen.broker_status, *(leg.get("broker_status") for leg in seen.legs))
        told = self._run("seen", prefix(lease.account), [
            lease.owner, lease.fence, stored.id, seen.broker_status if seen else "", int(bool(seen and seen.all_ended)),
            seen.reason if seen else "", int(refused), len(given) // 2, *given, len(records), *records])
        return bool(told[0] == "told")

    def due_look_ups(self, account: str, count: int = 100) -> list[str]:
        """Ids of accepted orders whose look-up is due."""
        with away():
            return cast("list[str]", self._redis.zrangebyscore(key(account, "lookups"), "-inf", self.lane_clock(account),
                                                               start=0, num=count))

    def keep_evidence(self, lease: Lease, stored: Stored, records: Sequence[str]) -> None:
        """Append records to an order's calls, whoever owns the lane now: a reply is always kept.

        Those of a worker that has lost its lane, and whose order another has sent since, are kept apart.
        """
        self._run("evidence", prefix(stored.account), [lease.owner, lease.fence, stored.id, *records])

    def alarm(self, lease: Lease, order: str, reason: str) -> bool:
        """Let an order wait for a person, whatever its state; whether this is news."""
        return bool(self._run("alarm", prefix(lease.account), [lease.owner, lease.fence, order, reason])[0] == "ok")

    def retire(self, account: str, most: int = 100) -> int:
        """Forget ended orders and old alerts past the retention; returns how many orders went."""
        self._lapse(account)
        before = self.lane_clock(account) - self._retention_ms
        with away():
            ids = cast("list[str]", self._redis.zrangebyscore(key(account, "ends"), "-inf", before, start=0, num=most))
        self._run("retire", prefix(account), [before, *ids])
        with away():
            alerts = cast("list[str]", self._redis.zrangebyscore(key(account, "alerts"), "-inf", before * 1000,
                                                                 start=0, num=most))
            for each in alerts:
                self._redis.delete(key(account, "alert", each))
                self._redis.zrem(key(account, "alerts"), each)
        return len(ids)
