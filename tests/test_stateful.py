"""The ledger and its lanes under random interleavings, against a simple model of what they promise.

Two workers share two lanes over a real ledger and a toy broker over HTTP. Alerts arrive, also twice and half-written;
leases change hands; workers die, pause or are overtaken between any two steps of a write; the broker loses replies,
executes late, or shows nothing; hours pass. After every step, and once more when a healthy broker was given the time to
clear everything up, the model looks whether a promise was broken.

Time is moved, never waited for. STATEFUL_EXAMPLES=5000 makes a long run of it, with another seed each time
(`--hypothesis-seed=N` repeats one).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from bridge.call import Call, Reply, Seen
from bridge.lane import Lane, LaneLost, Ownership
from bridge.ledger import Ledger, Stored, connection
from bridge.life import GONE_ON
from bridge.order import Leg, Order
from bridge.record import Delivery, Enqueued, NewOrder, alert_id, order_id
from bridge.session import Held, Session
from bridge.settings import read_settings
from bridge.transport import NotSent
from bridge.work import Account
from bridge.worker import Worker
from tests.book_broker import BookBroker, BookServer
from tests.rig import toy_account

SETTINGS = read_settings({"BRIDGE_SECRET": "a-test-secret-0123456789"})
ACCOUNTS = ("a", "b")
OWNERS = ("A", "B")
HOME = "a"
DEDUPE_S = 30
LATEST_ARRIVAL_S = SETTINGS.settle - 1
"""How long after it was sent a late write is executed: before the settle time is over, as the setting promises."""
NEVER_LEFT = ("expired", "cancelled", "refused", "dry_run")
WITH_REASON = ("rejected", "unknown", *NEVER_LEFT)
POINTS = ("before submit", "after submit", "before send", "after send", "before settle", "after settle")
WORDS = ("ok", "ok", "drop_after", "drop_before", "late", "trash", "no", "busy")
_MOST_PASSES = 1000
"""So many are more than enough to bring a lane to its end."""
_LONG = int(os.environ.get("STATEFUL_EXAMPLES", "0"))


class Crash(BaseException):
    """A process died here."""


class Clock:
    """Stands in for the module `time` in bridge.clock, and can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def clock_gettime(self, which: int) -> float:
        return time.clock_gettime(which) + self.ahead

    def time(self) -> float:
        return time.time() + self.ahead


class Wait:
    """Stands in for a threading.Event that is waited for: the time is moved instead."""

    def __init__(self, move: Callable[[float], None]) -> None:
        self._move = move

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float | None = None) -> bool:
        self._move(seconds or 0.0)
        return False


class HookedLedger(Ledger):
    """A ledger whose caller can be stopped around each change of an order's state."""

    reached: Callable[[str, str], None]

    def submit(self, lease: Any, stored: Stored, **more: Any) -> tuple[str, int | str]:
        self.reached("before submit", stored.id)
        found = super().submit(lease, stored, **more)
        self.reached("after submit", stored.id)
        return found

    def settle(self, lease: Any, stored: Stored, *args: Any, **more: Any) -> str:
        self.reached("before settle", stored.id)
        found = super().settle(lease, stored, *args, **more)
        self.reached("after settle", stored.id)
        return found

    def set_aside(self, lease: Any, order: str, entry: str, reason: str) -> str:
        if reason:
            self.reached(reason, order)
        return super().set_aside(lease, order, entry, reason)


class HookedSession(Session):
    """The same around each write."""

    reached: Callable[[str, str], None]

    def send(self, call: Call, *args: Any, **more: Any) -> Reply | NotSent | Held:
        if not call.write:
            return super().send(call, *args, **more)
        self.reached("before send", call.body["id"])
        found = super().send(call, *args, **more)
        self.reached("after send", call.body["id"])
        return found


class HookedWorker(Worker):
    """A worker whose sessions are hooked; nothing of it runs by itself."""

    reached: Callable[[str, str], None]

    def session(self, account: Account) -> Session:
        session = HookedSession(account, self._logins[account.login], self._settings.call_timeout)
        session.reached = self.reached
        return session


@dataclass
class Hook:
    """What happens to a worker when it reaches a point for the `countdown`th time."""

    point: str
    what: str
    countdown: int = 1


@dataclass
class Holding:
    """A lane as the worker knows it that holds it."""

    lane: Lane
    session: Session
    own: Ownership
    is_new: bool = True


@dataclass
class Owner:
    """A worker: what it would forget when it dies."""

    worker: HookedWorker
    ledger: HookedLedger
    lanes: dict[str, Holding] = field(default_factory=dict)
    hook: Hook | None = None


@dataclass
class Sent:
    """An order in the model. `queued_at` is its place in the journal, `targets` what a cancel by ref is to end."""

    new: NewOrder
    alert: str
    queued_at: int = -1
    received: int = 0
    submit_at: int = -1
    alarmed: bool = False
    state: str = ""
    target: str = ""


@dataclass
class Alert:
    """An accepted alert in the model."""

    delivery: Delivery
    key: str
    at: float
    whole: bool


SPECS = st.tuples(
    st.sampled_from(ACCOUNTS), st.sampled_from(["plain", "plain", "plain", "oco", "cancel", "cancel ref", "close"]),
    st.sampled_from(["ESZ6", "NQZ6"]), st.sampled_from(["", "r", "s"]), st.booleans())
FAULTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3)
WHICH = st.integers(0, 20)
"""Which of the newest; what is drawn never depends on what is there, so that a run can be repeated."""
PASSES = st.sampled_from([1, 3, 15, 15])
HOOKS = st.tuples(st.sampled_from(POINTS), st.sampled_from(["", "", "crash", "crash", "pause", "close", "cancel", "overslept", "overtaken"]),
                  st.sampled_from([1, 1, 2]))


class Lanes(RuleBasedStateMachine):
    """The machine. `url` is an empty ledger's, `server` the broker, `clock` the one that bridge.clock reads."""

    def __init__(self, url: str, server: BookServer, clock: Clock) -> None:
        super().__init__()
        self.url, self.server, self.clock = url, server, clock
        self.redis: redis.Redis = redis.Redis.from_url(url, decode_responses=True)
        self.redis.flushdb()
        server.empty()
        server.on_write, server.on_executed, server.on_read = self.on_write, self.on_executed, self.arrive_in_time
        self.ledger = self.new_ledger()
        self.accounts = {name: toy_account(server.url, name) for name in ACCOUNTS}
        self.owners = {name: self.new_owner() for name in (*OWNERS, "last")}
        self.orders: dict[str, Sent] = {}
        self.alerts: dict[str, Alert] = {}
        self.journal: list[tuple[str, str, str]] = []
        self.broken: list[str] = []
        self.numbers: Iterator[int] = iter(range(1, 100_000))
        self.nested = False
        self.in_flight_since = 0.0

    # -- the world ---------------------------------------------------------------------------------------------------

    def new_ledger(self) -> HookedLedger:
        ledger = HookedLedger(self.url)
        ledger.reached = lambda point, order: None
        return ledger

    def new_owner(self) -> Owner:
        ledger = self.new_ledger()
        worker = HookedWorker(SETTINGS, self.accounts, {"toy": BookBroker()}, ledger)
        worker.stop = Wait(self.move)  # type: ignore[assignment]
        owner = Owner(worker, ledger)
        ledger.reached = worker.reached = lambda point, order: self.reached(owner, point, order)
        return owner

    def move(self, seconds: float) -> None:
        """Time passes: for processes, for the lanes' clocks and for what Redis forgets."""
        self.arrive_in_time(seconds)
        self.clock.ahead += seconds
        pipe = self.redis.pipeline()
        for account in ACCOUNTS:
            pipe.hincrby(f"bridge:{{{account}}}:clock", "behind", int(seconds * 1000))
        pipe.execute()
        for key in self.redis.keys(f"bridge:{{{HOME}}}:same:*"):
            left = self.redis.pttl(key) - int(seconds * 1000)
            self.redis.pexpire(key, left) if left > 0 else self.redis.delete(key)

    def arrive_in_time(self, seconds: float = 0.0) -> None:
        """What is in flight arrives, if it would be later than it may be that many seconds from now."""
        if self.server.in_flight and self.now() + seconds - self.in_flight_since > LATEST_ARRIVAL_S:
            self.server.arrive()

    def now(self) -> float:
        return self.clock.monotonic()

    def read(self, order: str) -> dict[str, str]:
        return self.redis.hgetall(f"bridge:{{{self.orders[order].new.account}}}:order:{order}")

    def read_all(self) -> list[dict[str, str]]:
        pipe = self.redis.pipeline(transaction=False)
        for order, sent in self.orders.items():
            pipe.hgetall(f"bridge:{{{sent.new.account}}}:order:{order}")
        return pipe.execute()

    def age_ms(self, order: str) -> int:
        stored = self.ledger.load(self.orders[order].new.account, order)
        assert stored is not None
        return stored.age_ms

    # -- what the broker sees ----------------------------------------------------------------------------------------

    def on_write(self, operation: str, body: dict[str, Any]) -> None:
        """A write has arrived at the broker."""
        order = body["id"].split(".")[0]
        if not self.server.in_flight:
            self.in_flight_since = self.now()
        if operation == "place":
            sent, found = self.orders[order], self.read(order)
            if found["state"] not in ("submitting", "unknown"):
                self.broken.append(f"{order} reached the broker while it was on record as {found['state']}")
            if self.age_ms(order) > sent.new.max_age_ms + 500:
                self.broken.append(f"{order} reached the broker {self.age_ms(order)} ms old")
            before = self.read(sent.new.follows)["state"] if sent.new.follows else "accepted"
            if before not in GONE_ON:
                self.broken.append(f"{order} reached the broker while the one before it was {before}")
            self.broken += [f"{order} reached the broker after {each} was queued, which covers it"
                            for each in self.covering(order) if self.orders[each].queued_at < sent.submit_at]

    def on_executed(self, operation: str, body: dict[str, Any]) -> None:
        """The broker executes a write, perhaps later."""
        client_id = body["id"]
        if operation == "place" and self.server.executed[client_id]:
            self.broken.append(f"{client_id} was executed twice")
        if operation == "close":
            last = next((at for at in reversed(range(len(self.journal)))
                         if self.journal[at] == ("close", client_id, body["contract"])), None)
            if last is not None and any(what == "place" and contract == body["contract"] and
                                        self.orders[each.split(".")[0]].new.account == body["account"]
                                        for what, each, contract in self.journal[last:]):
                self.broken.append(f"the close {client_id} was executed again, over a newer entry")
        self.journal.append((operation, client_id, body["contract"]))

    def covering(self, order: str) -> list[str]:
        """Queued cancels and closes of other alerts, received after this order, that cover its contract."""
        sent = self.orders[order]
        return [each for each, exit_ in self.orders.items()
                if exit_.queued_at >= 0 and exit_.new.order.is_exit and not exit_.new.dry_run and exit_.new.account == sent.new.account
                and exit_.alert != sent.alert and exit_.received > sent.received
                and (exit_.target == order or exit_.new.order.symbol == sent.new.order.symbol
                     or exit_.new.order.ref and exit_.new.order.ref == sent.new.order.ref and sent.queued_at > exit_.queued_at)]

    # -- taking in ---------------------------------------------------------------------------------------------------

    def make(self, key: str, specs: list[Any], age_s: int, quick: bool) -> Delivery:
        number = next(self.numbers)
        alert, made = alert_id("t", key, number), list[NewOrder]()
        for index, (account, kind, symbol, ref, dry) in enumerate(specs):
            order = _order(kind, symbol, ref)
            max_age_ms = 900_000 if order.is_exit else 6_000 if quick else 60_000
            before = next((each.id for each in reversed(made) if each.account == account), "")
            made.append(NewOrder(id=order_id(alert, "t", index, account), index=index, account=account, broker="toy",
                                 order=order, max_age_ms=max_age_ms, follows=before, dry_run=dry and index > 0))
        return Delivery(template="t", home=HOME, id=alert, key=key, dedupe_ms=DEDUPE_S * 1000, nonce=str(number),
                        fingerprint=json.dumps(specs), age_ms=age_s * 1000, body="{}", state="accepted", orders=tuple(made))

    def enqueue(self, delivery: Delivery, cut: str = "") -> Enqueued | None:
        """Take it in as a receiver that dies at `cut`; None: it died."""
        receiver = Ledger(self.url)
        join, run = receiver._join, receiver._run

        def cut_join(*args: Any) -> Any:
            if cut == "before join":
                raise Crash
            found = join(*args)
            if cut == "after join":
                raise Crash
            return found

        def cut_run(name: str, *args: Any) -> Any:
            found = run(name, *args)
            if name == "enqueue" and cut == "after enqueue":
                raise Crash
            return found

        receiver._join, receiver._run = cut_join, cut_run  # type: ignore[method-assign]
        first = next((alert for alert in reversed(self.alerts.values()) if alert.key == delivery.key), None)
        answer = None
        try:
            answer = receiver.enqueue(delivery)
        except Crash:
            pass
        finally:
            receiver.close()
            self.note(delivery)
        if answer is not None:
            self.check_answer(delivery, answer, first)
        return answer

    def note(self, delivery: Delivery) -> None:
        """Bring the model up to what the ledger has on record of this alert."""
        found = self.redis.hgetall(f"bridge:{{{HOME}}}:alert:{delivery.id}")
        if found and found["state"] == "accepted" and delivery.id not in self.alerts:
            self.alerts[delivery.id] = Alert(delivery, delivery.key, self.now(), False)
            self.orders |= {new.id: Sent(new, delivery.id) for new in delivery.orders}
        self.note_arrivals()

    def note_arrivals(self) -> None:
        """Orders that have come on record since."""
        for order, sent in self.orders.items():
            if sent.queued_at >= 0 or not (found := self.read(order)):
                continue
            sent.queued_at, sent.received = len(self.journal), int(found["received"])
            self.journal.append(("queued", order, sent.new.order.symbol or ""))
            if sent.new.order.kind == "cancel" and sent.new.order.ref:
                sent.target = self.newest(sent, int(found["rank"]), int(found["received"]))

    def newest(self, exit_: Sent, rank: int, received: int) -> str:
        """What a cancel by ref means when it is queued: the newest older order of that ref that has not ended."""
        found = [(int(fields["rank"]), order) for order, sent in self.orders.items()
                 if sent.new.account == exit_.new.account and sent.alert != exit_.alert
                 and sent.new.order.ref == exit_.new.order.ref and not sent.new.order.is_exit
                 and (fields := self.read(order)) and int(fields["rank"]) < rank and int(fields["received"]) < received
                 and (fields["state"] in ("submitting", "unknown") or self.was_open(order, fields))]
        return max(found, default=(0, ""))[1]

    def was_open(self, order: str, fields: dict[str, str]) -> bool:
        history = self.redis.lrange(f"bridge:{{{self.orders[order].new.account}}}:history:{order}", 0, -1)
        withdrawn_now = (fields["state"] == "cancelled" and self.orders[order].state != "cancelled"
                         and "withdrawn: the cancel" in json.loads(history[-1])[2])
        return bool(fields["state"] == "queued" or withdrawn_now
                    or (fields["state"] == "accepted" and self.server.standing(order)))

    def check_answer(self, delivery: Delivery, answer: Enqueued, first: Alert | None) -> None:
        since = self.now() - first.at if first else 1e9
        if answer.duplicate_of:
            assert first is not None and since < DEDUPE_S + 3, "a duplicate of what was forgotten, or never was"
            assert answer.duplicate_of == first.delivery.id
            assert [each["id"] for each in answer.orders] == [new.id for new in first.delivery.orders]
            assert answer.conflict == (delivery.fingerprint != first.delivery.fingerprint)
        else:
            assert since > DEDUPE_S - 3 or (first and first.delivery.nonce == delivery.nonce), "a twin became an order"
            assert [each["id"] for each in answer.orders] == [new.id for new in delivery.orders]
        self.alerts[answer.duplicate_of or answer.alert].whole = True
        assert all(each["state"] for each in answer.orders)

    @rule(key=st.sampled_from(["k1", "k2", "k3"]), specs=st.lists(SPECS, min_size=1, max_size=4),
          age_s=st.sampled_from([0, 0, 0, 5]), quick=st.booleans(),
          cut=st.sampled_from(["", "", "", "before join", "after join", "after enqueue"]))
    def an_alert_arrives(self, key: str, specs: list[Any], age_s: int, quick: bool, cut: str) -> None:
        self.enqueue(self.make(key, specs, age_s, quick), cut)

    @rule(spec=SPECS, cut=st.sampled_from(["", "", "before join"]))
    def another_alert_arrives(self, spec: Any, cut: str) -> None:
        self.enqueue(self.make(f"n{next(self.numbers)}", [spec], 0, False), cut)

    @rule(which=WHICH, same_request=st.booleans(), other_body=st.booleans())
    def it_arrives_again(self, which: int, same_request: bool, other_body: bool) -> None:
        if not self.alerts:
            return
        delivery = list(self.alerts.values())[-1 - which % len(self.alerts)].delivery
        if not same_request:
            specs = [("a", "plain", "ESZ6", "", False)] if other_body else json.loads(delivery.fingerprint)
            delivery = self.make(delivery.key, specs, delivery.age_ms // 1000, delivery.orders[0].max_age_ms == 6000)
        elif self.now() - self.alerts[delivery.id].at > DEDUPE_S - 3:
            return  # a client library does not resend for that long
        self.enqueue(delivery)

    @rule(older_than_s=st.sampled_from([0, 3]))
    def half_written_alerts_are_swept(self, older_than_s: int) -> None:
        self.ledger.sweep(HOME, older_than_s * 1000)
        if not older_than_s:
            for alert in self.alerts.values():
                alert.whole = True
        self.note_arrivals()

    # -- working -----------------------------------------------------------------------------------------------------

    def claim(self, name: str, account: str) -> bool:
        owner = self.owners[name]
        if account in owner.lanes:
            return True
        lease = self.redis.hgetall(f"bridge:{{{account}}}:lease")
        own = owner.worker._take(self.accounts[account])
        if own is None:
            return False
        assert not lease.get("owner") or lease["owner"] == own.lease.owner or (
            int(lease["until"]) <= self.ledger.lane_clock(account)), "a lease was taken from its owner"
        session = owner.worker.session(self.accounts[account])
        lane = Lane(BookBroker(), owner.ledger, session, SETTINGS, owner.worker.stop)
        owner.lanes[account] = Holding(lane, session, own)
        return True

    def drop(self, name: str, account: str, *, release: bool = True) -> None:
        held = self.owners[name].lanes.pop(account)
        held.session.close()
        if release:
            self.owners[name].ledger.release_lease(held.own.lease)

    def die(self, name: str) -> None:
        for account in list(self.owners[name].lanes):
            self.drop(name, account, release=False)
        self.owners[name].ledger.close()
        self.owners[name] = self.new_owner()

    def renew(self, name: str, account: str) -> None:
        """As a worker does it for its lanes."""
        owner, held = self.owners[name], self.owners[name].lanes[account]
        asked_at = self.now()
        lease = owner.ledger.take_lease(account, owner.worker._owner, int(SETTINGS.lease * 1000))
        if lease is not None and lease.fence == held.own.lease.fence:
            held.own.renewed(asked_at + SETTINGS.lease)
        else:
            held.own.lost()

    def work(self, name: str, account: str) -> float | None:
        """One pass of this worker over the lane, as far as it gets."""
        owner, held = self.owners[name], self.owners[name].lanes[account]
        if not held.own.holds():
            self.drop(name, account)
            return 0.0
        try:
            if held.is_new:
                owner.worker._clear_up(held.lane, held.own)
                held.is_new = False
            return owner.worker._pass(held.lane, held.own, "0-0")[0]
        except LaneLost:
            self.drop(name, account)
            return 0.0
        except Crash:
            self.die(name)
            return 0.0
        finally:
            self.note_arrivals()
            assert not self.broken, self.broken

    def reached(self, owner: Owner, point: str, order: str) -> None:
        order = order.split(".")[0]
        if point not in POINTS:
            self.broken.append(f"{order} could not be handled: {point}")
        self.stand_still(owner, point, order)
        if point == "before submit":
            self.orders[order].submit_at = len(self.journal)
            self.journal.append(("submit", order, ""))

    def stand_still(self, owner: Owner, point: str, order: str) -> None:
        hook = owner.hook
        if hook is None or hook.point != point or self.nested:
            return
        hook.countdown -= 1
        if hook.countdown:
            return
        owner.hook = None
        event(f"{hook.what} {point}")
        if hook.what == "crash":
            raise Crash
        self.nested = True
        try:
            self.meanwhile(owner, hook.what, order)
        finally:
            self.nested = False

    def meanwhile(self, owner: Owner, what: str, order: str) -> None:
        """What happens while a worker stands still in the middle of an order."""
        account = self.orders[order].new.account
        other = next(name for name in OWNERS if self.owners[name] is not owner)
        if what == "pause":
            self.move(7.0)
        elif what in ("close", "cancel"):
            concerned = self.orders[order].new.order
            kind = "cancel ref" if what == "cancel" and concerned.ref else what
            spec = (account, kind, concerned.symbol or "ESZ6", concerned.ref, False)
            self.enqueue(self.make(f"n{next(self.numbers)}", [spec], 0, False))
        elif what in ("overslept", "overtaken"):
            if what == "overslept":
                self.move(SETTINGS.lease + 1)
            else:  # it does not notice by its own clock
                self.redis.hset(f"bridge:{{{account}}}:lease", "until", 0)
            if account in self.owners[other].lanes:
                self.drop(other, account, release=False)
            assert self.claim(other, account)
            words, self.server.script = list(self.server.script), type(self.server.script)()
            self.work(other, account)
            self.server.script.extend(words)

    @rule(words=FAULTS, hook=HOOKS, passes=PASSES, account=st.sampled_from(ACCOUNTS))
    def the_first_worker_works(self, words: list[str], hook: tuple[str, str, int], passes: int, account: str) -> None:
        self.takes_turns("A", account, words, hook, passes)

    @rule(words=FAULTS, hook=HOOKS, passes=PASSES, account=st.sampled_from(ACCOUNTS))
    def the_second_worker_works(self, words: list[str], hook: tuple[str, str, int], passes: int, account: str) -> None:
        self.takes_turns("B", account, words, hook, passes)

    @rule(specs=st.lists(SPECS, min_size=1, max_size=3), words=FAULTS, hook=HOOKS, name=st.sampled_from(OWNERS),
          quick=st.booleans())
    def an_alert_arrives_and_is_worked_on(self, specs: list[Any], words: list[str], hook: tuple[str, str, int],
                                          name: str, quick: bool) -> None:
        self.enqueue(self.make(f"n{next(self.numbers)}", specs, 0, quick))
        for account in sorted({spec[0] for spec in specs}):
            self.takes_turns(name, account, words, hook, 1)

    @rule(kind=st.sampled_from(["plain", "oco"]), exit_kind=st.sampled_from(["close", "cancel"]),
          word=st.sampled_from(["late", "busy", "drop_before", "drop_after"]), account=st.sampled_from(ACCOUNTS),
          point=st.sampled_from(POINTS), passes=PASSES)
    def a_way_out_comes_while_an_entry_is_sent(self, kind: str, exit_kind: str, word: str, account: str, point: str,
                                               passes: int) -> None:
        for spec in ((account, kind, "ESZ6", "r", False), (account, "plain", "NQZ6", "", False)):
            self.enqueue(self.make(f"n{next(self.numbers)}", [spec], 0, False))
        self.takes_turns("A", account, [word], (point, exit_kind, 1), passes)

    @rule(kind=st.sampled_from(["plain", "oco"]), account=st.sampled_from(ACCOUNTS), quick=st.sampled_from([True, True, False]),
          point=st.sampled_from(POINTS[:4]), what=st.sampled_from(["pause", "overslept", "overtaken", "crash"]), passes=PASSES)
    def a_worker_stands_still_while_it_sends(self, kind: str, account: str, quick: bool, point: str, what: str,
                                             passes: int) -> None:
        self.enqueue(self.make(f"n{next(self.numbers)}", [(account, kind, "ESZ6", "", False)], 0, quick))
        self.takes_turns("B", account, [], (point, what, 1), passes)

    @rule(kind=st.sampled_from(["plain", "oco"]), exit_kind=st.sampled_from(["close", "cancel", "cancel ref"]),
          account=st.sampled_from(ACCOUNTS))
    def a_way_out_comes_before_an_entry_is_sent(self, kind: str, exit_kind: str, account: str) -> None:
        for each in (kind, exit_kind):
            self.enqueue(self.make(f"n{next(self.numbers)}", [(account, each, "ESZ6", "r", False)], 0, False))
            self.move(0.1)
        self.takes_turns("A", account, [], ("", "", 1), 1)

    @rule(kinds=st.lists(st.sampled_from(["plain", "oco"]), min_size=2, max_size=3), account=st.sampled_from(ACCOUNTS),
          words=FAULTS)
    def a_list_meets_faults(self, kinds: list[str], account: str, words: list[str]) -> None:
        specs = [(account, kind, "NQZ6", "", False) for kind in kinds]
        self.enqueue(self.make(f"n{next(self.numbers)}", specs, 0, False))
        self.takes_turns("A", account, words, ("", "", 1), 3)

    @rule(kind=st.sampled_from(["plain", "oco"]), word=st.sampled_from(["drop_after", "late", "drop_before", "trash"]),
          account=st.sampled_from(ACCOUNTS), exit_kind=st.sampled_from(["close", "cancel", "cancel ref"]),
          when=st.sampled_from(["at once", "when a person was told", "never"]))
    def a_blind_broker_loses_a_reply(self, kind: str, word: str, account: str, exit_kind: str, when: str) -> None:
        shows = self.server.blind, self.server.book_is_complete
        self.server.blind = True
        self.enqueue(self.make(f"n{next(self.numbers)}", [(account, kind, "ESZ6", "r", False)], 0, False))
        self.takes_turns("B", account, [word], ("", "", 1), 1 if when == "at once" else 15)
        if when != "never":
            self.enqueue(self.make(f"n{next(self.numbers)}", [(account, exit_kind, "ESZ6", "r", False)], 0, False))
            self.takes_turns("B", account, [], ("", "", 1), 2)
        self.server.blind, self.server.book_is_complete = shows

    @rule(kind=st.sampled_from(["plain", "oco"]), exit_kind=st.sampled_from(["close", "cancel", "cancel ref"]))
    def a_way_out_passes_a_half_written_alert(self, kind: str, exit_kind: str) -> None:
        self.enqueue(self.make(f"n{next(self.numbers)}", [("b", kind, "ESZ6", "r", False)], 0, False), "before join")
        self.move(1.0)
        self.enqueue(self.make(f"n{next(self.numbers)}", [("b", exit_kind, "ESZ6", "r", False)], 0, False))
        self.half_written_alerts_are_swept(0)

    def takes_turns(self, name: str, account: str, words: list[str], hook: tuple[str, str, int], passes: int) -> None:
        """This worker, or else the one whose lane it is, passes over the lane."""
        name = next((each for each in sorted(OWNERS, key=lambda each: each != name) if self.claim(each, account)), "")
        if not name:  # its owner has died
            self.move(SETTINGS.lease)
            name = next(each for each in OWNERS if self.claim(each, account))
        self.server.script.clear()
        self.server.script.extend(words)
        owner = self.owners[name]
        if hook[1]:
            owner.hook = Hook(*hook)
        for number in range(passes):
            wait_s = self.work(name, account)
            if wait_s is None or account not in self.owners[name].lanes:
                break
            self.move(wait_s if number % 2 else wait_s / 2)
            self.renew(name, account)
        self.server.script.clear()

    @rule(name=st.sampled_from(OWNERS))
    def a_worker_dies(self, name: str) -> None:
        self.die(name)

    @rule(seconds=st.sampled_from([1, 1, 6, 12, 12, 25, 70, 1000]))
    def time_passes(self, seconds: int) -> None:
        self.move(seconds)

    @rule(shows=st.sampled_from(["all", "what is there", "nothing", "nothing"]))
    def the_broker_shows(self, shows: str) -> None:
        self.server.blind, self.server.book_is_complete = shows == "nothing", shows == "all"

    @rule()
    def a_late_write_arrives(self) -> None:
        self.server.arrive()

    @rule(which=WHICH)
    def a_person_looks(self, which: int) -> None:
        if waiting := self.waiting():
            self.decide(waiting[which % len(waiting)])

    def waiting(self) -> list[str]:
        return [each for account in ACCOUNTS for each in self.redis.zrange(f"bridge:{{{account}}}:waiting", 0, -1)]

    def decide(self, order: str) -> None:
        """A person looks at the broker and says what is true."""
        account, state = self.orders[order].new.account, self.read(order)["state"]
        self.orders[order].alarmed = True
        event(f"a person looks at one that is {state}")
        if state != "unknown":
            assert self.ledger.resolve(account, order, "seen", "a person saw it") == ("ok", "")
            return
        self.server.arrive()
        stood = self.server.executed[order] and not self.orders[order].new.order.is_exit
        verdict = "accepted" if stood or self.orders[order].new.order.is_exit else "rejected"
        assert self.ledger.resolve(account, order, verdict, "a person looked", "forever")[0] == "ok"

    @rule(which=WHICH, event=st.sampled_from(["accept", "expire", "retry", "lose", "submit", "see", "set aside"]))
    def one_with_an_old_fence_wants_to_write(self, which: int, event: str) -> None:
        if not self.orders:
            return
        order = list(self.orders)[-1 - which % len(self.orders)]
        account = self.orders[order].new.account
        stored = self.ledger.load(account, order)
        if stored is None:
            return
        lease = self.redis.hgetall(f"bridge:{{{account}}}:lease")
        old = self.ledger.take_lease("elsewhere", "x", 1)
        assert old is not None
        old = replace(old, account=account, owner=lease.get("owner", "x") or "x", fence=int(lease.get("fence", 1)) - 1)
        before = self.dump(account)
        if event == "submit":
            answer = self.ledger.submit(old, stored, record=stored.records + 2, attempt=9, send_within_ms=1,
                                        client_order_id="x", counter=None, look_at_age=False, records=["x", "y"])[0]
        elif event == "see":
            self.ledger.see(old, stored, Seen(broker_status="canceled"), ["x"])
            answer = "lost"
        elif event == "set aside":
            answer = self.ledger.set_aside(old, order, self.read(order).get("entry", ""), "x")
        else:
            answer = self.ledger.settle(old, stored, event, "accepted", nonce="x", reason="x", records=["x"])
        assert answer == "lost" and self.dump(account) == before, f"an old fence could {event}"

    def dump(self, account: str) -> dict[str, Any]:
        """All that is kept of a lane, but what ends by itself."""
        keys = sorted(key for key in self.redis.keys(f"bridge:{{{account}}}:*") if self.redis.ttl(key) == -1)
        client = self.redis
        read = {"hash": client.hgetall, "list": lambda key: client.lrange(key, 0, -1), "string": client.get,
                "zset": lambda key: client.zrange(key, 0, -1, withscores=True), "stream": client.xrange}
        return {key: read[client.type(key)](key) for key in keys}

    # -- what has to hold --------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_lost_or_turned_back(self) -> None:
        assert not self.broken, self.broken
        lanes = {account: [order for _, order in self.ledger.lane(account, count=1000)] for account in ACCOUNTS}
        exits = {account: set(self.ledger.exits(account)) for account in ACCOUNTS}
        waiting = set(self.waiting())
        for (order, sent), found in zip(self.orders.items(), self.read_all(), strict=True):
            account = sent.new.account
            if not found:
                assert not self.alerts[sent.alert].whole and account != HOME, f"{order} of an accepted alert is not on record"
                continue
            state = found["state"]
            sent.alarmed = sent.alarmed or order in waiting
            if state in ("queued", "submitting"):
                assert order in lanes[account], f"{order} is {state} and in no lane"
                assert not sent.new.order.is_exit or order in exits[account]
            if state == "unknown":
                assert order in lanes[account] or order in waiting, f"{order} is unknown and nobody cares"
            assert "fault in Bridge" not in found["reason"] and "played back" not in found["reason"], found["reason"]
            assert state not in WITH_REASON or found["reason"], f"{order} is {state} without a reason"
            last = sent.state or state
            again = sent.new.order.is_exit and last == "accepted" and int(found.get("arming", 0)) > 0
            if last not in ("queued", "submitting", "unknown") and not again:
                assert state == last, f"{order} ended as {last} and is {state} now"
            if state in NEVER_LEFT and not sent.new.order.is_exit:
                assert not any(self.server.executed[each] for each in self.client_ids(order)), f"{order} is {state}, but stands"
            if state != last:
                event(f"{last} to {state}")
            sent.state = state

    def client_ids(self, order: str) -> list[str]:
        return [each for each in self.server.executed if each.split(".")[0] == order]

    def teardown(self) -> None:
        try:
            if self.broken:
                self.tell_the_story()
            else:
                self.drain()
                self.check_the_end(resolved=False)
                for order in self.waiting():
                    self.decide(order)
                self.drain()
                self.check_the_end(resolved=True)
                self.check_that_it_still_works()
        except AssertionError:
            self.tell_the_story()
            raise
        finally:
            for name in self.owners:
                for account in list(self.owners[name].lanes):
                    self.drop(name, account, release=False)
                self.owners[name].ledger.close()
            self.ledger.close()
            self.redis.close()

    def tell_the_story(self) -> None:
        """What is on record, for whoever has to find out."""
        print("=== at the broker:", *self.journal, sep="\n  ")
        for order, sent in self.orders.items():
            print(order, sent.new.order.kind, sent.new.account, sent.new.order.symbol, sent.new.order.ref, sent.new.follows,
                  "stands" if self.server.standing(order) else "", "alarm" if sent.alarmed else "", "target", sent.target)
            for each in self.redis.lrange(f"bridge:{{{sent.new.account}}}:history:{order}", 0, -1):
                print("    ", *json.loads(each))

    def drain(self) -> None:
        """Everybody dies; a healthy broker and one worker have all the time that they need."""
        self.server.blind, self.server.book_is_complete = False, True
        self.server.script.clear()
        for name in OWNERS:
            self.die(name)
        self.half_written_alerts_are_swept(0)
        for account in ACCOUNTS:
            for _ in range(_MOST_PASSES):
                if not self.claim("last", account):
                    self.move(SETTINGS.lease)
                    continue
                self.renew("last", account)
                wait_s = self.work("last", account)
                if wait_s is None and not self.ledger.lane(account):
                    break
                self.nothing_is_lost_or_turned_back()
                self.move(max(wait_s or 0.0, 2.0))
        self.server.arrive()
        self.nothing_is_lost_or_turned_back()

    def check_the_end(self, *, resolved: bool) -> None:
        for account in ACCOUNTS:
            assert not self.ledger.lane(account) and not self.ledger.exits(account)
        for order, sent in self.orders.items():
            found = self.read(order)
            state, placed = found["state"], [self.server.executed[each] for each in self.client_ids(order)]
            assert state not in ("queued", "submitting") and not (resolved and state == "unknown")
            assert all(count == 1 for count in placed)
            if not sent.new.order.is_exit:
                steps = 2 if sent.new.order.kind == "oco" else 1
                assert state != "accepted" or placed and (
                    sent.alarmed or len(placed) == steps or not self.server.standing(order)), f"{order} is accepted, but was not executed"
                assert state != "rejected" or not self.server.standing(order), f"{order} is rejected, but stands"
                assert not placed or state in ("accepted", "rejected", "unknown")
            elif state == "accepted":
                self.check_exit(order, sent)
        for account in ACCOUNTS:
            self.check_order_of_arrival(account)

    def check_that_it_still_works(self) -> None:
        """A new order is sent at once, whatever came before."""
        last = self.make("last", [(account, "plain", "YMZ6", "", False) for account in ACCOUNTS], 0, False)
        self.enqueue(last)
        for account in ACCOUNTS:
            self.renew("last", account)
            self.work("last", account)
        assert all(self.server.standing(new.id) for new in last.orders), "a healthy lane does not go on"

    def check_exit(self, exit_id: str, exit_: Sent) -> None:
        """Nothing stands that an accepted cancel or close was to end, unless a person was told."""
        for order, sent in self.orders.items():
            if exit_id in self.covering(order) and self.server.standing(order):
                assert sent.alarmed or exit_.alarmed, f"{order} stands, though {exit_id} was to end it"

    def check_order_of_arrival(self, account: str) -> None:
        """Entries are executed in the order of the lane; one that waits for its predecessor lets others pass."""
        first: dict[str, int] = {}
        for at, (what, client_id, _) in enumerate(self.journal):
            if what == "place":
                first.setdefault(client_id.split(".")[0], at)
        ranks = {order: int(self.read(order)["rank"]) for order in first
                 if self.orders[order].new.account == account and not self.orders[order].new.follows}
        executed = sorted(ranks, key=lambda order: first[order])
        assert executed == sorted(ranks, key=lambda order: ranks[order]), "entries passed each other"


def _order(kind: str, symbol: str, ref: str) -> Order:
    if kind == "cancel ref":
        return Order(kind="cancel", ref=ref or "r")
    if kind in ("cancel", "close"):
        return Order(kind=kind, symbol=symbol)
    entry = Order(kind="plain", symbol=symbol, side="buy", quantity=Decimal(1), type="limit", price=Decimal(5300),
                  time_in_force="day", ref=ref or None)
    return entry if kind == "plain" else replace(
        entry, kind="oco", side="sell", other=Leg(role="other", side="sell", type="stop", stop_price=Decimal(5200)))


@pytest.fixture
def book_server() -> Iterator[BookServer]:
    server = BookServer()
    yield server
    server.close()


def test_whatever_happens_in_between_no_order_is_lost_doubled_stale_or_silent(
        redis_url: str, book_server: BookServer, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    machines: list[Lanes] = []

    def machine() -> Lanes:
        machines[:] = [Lanes(redis_url, book_server, clock)]
        return machines[0]

    monkeypatch.setattr("bridge.clock.time", clock)
    scripts = connection._read_scripts()
    monkeypatch.setattr(connection, "_read_scripts", lambda: scripts)
    for module in ("bridge.attempt", "bridge.session"):
        monkeypatch.setattr(f"{module}.threading", SimpleNamespace(
            Event=lambda: Wait(lambda seconds: machines[0].move(seconds)), Lock=threading.Lock))
    run_state_machine_as_test(machine, settings=settings(
        max_examples=_LONG or 40, stateful_step_count=40 if _LONG else 25, derandomize=not _LONG, database=None,
        deadline=None, suppress_health_check=list(HealthCheck), print_blob=True,
        phases=[Phase.generate]))
