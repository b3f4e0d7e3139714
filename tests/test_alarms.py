"""What a person has to hear of waits for him, and no way out is lost on the way: the corners that nobody tries by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis

import bridge.lane
import bridge.transport
from bridge.attempt import Ownership
from bridge.call import Accepted, Call, LookUp, Pause, Plan, Rejected, Seen
from bridge.clock import monotonic
from bridge.lane import Lane, LaneLost
from bridge.ledger import Ledger, connection
from bridge.order import Order
from bridge.settings import read_settings
from bridge.work import Work
from bridge.worker import Worker
from tests.fault_proxy import AFTER, FaultProxy
from tests.rig import ToyBroker, ToyServer, delivery, left_by_a_dead_worker, plain, toy_account, wait_for
from tests.test_lane import FAST, oco, send, state, until, working

STOP = replace(plain(side="sell", type="stop", stop_price=Decimal(5200)), price=None)


def close(symbol: str = "ESZ6") -> Order:
    return Order(kind="close", symbol=symbol)


def cancel(**what: Any) -> Order:
    return Order(kind="cancel", **what)


def client(url: str) -> Any:
    return redis.Redis.from_url(url, decode_responses=True)


def waiting(ledger: Ledger) -> list[str]:
    return [each["id"] for each in ledger.orders(waiting=True)]


def unknown_entry(server: ToyServer, ledger: Ledger, key: str = "k", order: Order | None = None) -> str:
    server.script.append("drop_after")
    server.findable = False
    return send(ledger, order or plain(), key)


def accepted_by_a_dead_worker(ledger: Ledger, order: str) -> None:
    lease = wait_for(lambda: ledger.take_lease("toy", "dead", 1))
    stored = ledger.load("toy", order)
    assert stored is not None
    ledger.submit(lease, stored, record=1, attempt=1, send_within_ms=1, client_order_id=order, counter=None,
                  look_at_age=False, records=[])
    assert ledger.settle(lease, stored, "accept", "accepted", nonce="n", reason="", open_for_ms="forever") == "ok"
    ledger.release_lease(lease)


# -- doubles ---------------------------------------------------------------------------------------------------------


def test_what_a_sleeper_says_of_its_own_write_is_not_taken_for_its_successors(
        ledger: Ledger, server: ToyServer, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asleep, wake = threading.Event(), threading.Event()
    real = bridge.transport.Transport.send

    def slow(self: Any, call: Call, *args: Any, **more: Any) -> Any:
        if call.write and threading.current_thread().name == "sleeper" and not asleep.is_set():
            asleep.set()
            wake.wait(20)
        return real(self, call, *args, **more)

    monkeypatch.setattr(bridge.transport.Transport, "send", slow)
    server.book_is_complete = True
    order = send(ledger, plain())
    settings = read_settings(FAST | {"BRIDGE_LOOKUP_PATIENCE": "5s"})

    def sleep_on_it() -> None:
        own_ledger, account = Ledger(redis_url), toy_account(server.url)
        worker = Worker(settings, {"toy": account}, {"toy": ToyBroker()}, own_ledger)
        asked_at = monotonic()
        lease = own_ledger.take_lease("toy", "sleeper", 1500)
        assert lease is not None
        lane = Lane(ToyBroker(), own_ledger, worker.session(account), settings, threading.Event())
        with pytest.raises(LaneLost):
            lane.handle(Ownership(lease, asked_at + 1.5), own_ledger.lane("toy")[0][0], order)

    sleeper = threading.Thread(target=sleep_on_it, name="sleeper")
    sleeper.start()
    assert asleep.wait(5)

    def executed_unheard() -> str:
        server.book_is_complete = server.findable = False
        return "drop_after"

    server.script.append(executed_unheard)
    with working(ledger, server, settings=settings):
        wait_for(lambda: server.sent() and state(ledger, order) == "unknown")
        wake.set()
        sleeper.join(10)
        server.findable = True
        found = until(ledger, order, "accepted")

    assert len(server.sent()) == 1 and any(each.get("late") for each in found["calls"])


def test_an_order_whose_broker_answered_is_not_sent_again_though_a_fail_over_forgot_that_it_was_sent(
        ledger: Ledger, server: ToyServer, redis_url: str) -> None:
    order, direct = send(ledger, plain()), client(redis_url)
    key = f"bridge:{{toy}}:order:{order}"
    before = direct.hgetall(key)

    def fail_over() -> str:
        direct.hdel(key, *[name for name in direct.hgetall(key) if name not in before])
        direct.hset(key, mapping=before)
        direct.delete(f"bridge:{{toy}}:calls:{order}")
        return "ok"

    server.script.append(fail_over)
    with working(ledger, server):
        until(ledger, order, "accepted")

    assert len(server.sent()) == 1


# -- ways out ----------------------------------------------------------------------------------------------------------


def test_a_damaged_open_order_does_not_keep_another_contract_from_its_way_out(ledger: Ledger, server: ToyServer,
                                                                              redis_url: str) -> None:
    damaged = send(ledger, plain(symbol="NQZ6"), "damaged")
    with working(ledger, server):
        until(ledger, damaged, "accepted")
        client(redis_url).hset(f"bridge:{{toy}}:order:{damaged}", "max_age", "60001")
        until(ledger, send(ledger, close(), "close"), "accepted")

    assert waiting(ledger) == [damaged]


def test_a_rehearsed_close_leaves_real_entries_alone(ledger: Ledger, server: ToyServer) -> None:
    real = send(ledger, plain(), "real")
    send(ledger, close(), "rehearsal", dry_run=True)
    later = send(ledger, plain(), "later")

    assert (state(ledger, real), state(ledger, later)) == ("queued", "queued")


def test_a_cancel_by_ref_that_withdrew_the_newest_is_not_turned_on_an_older_one(ledger: Ledger,
                                                                                server: ToyServer) -> None:
    older = unknown_entry(server, ledger, "older", plain(ref="x"))
    with working(ledger, server):
        wait_for(lambda: waiting(ledger))
    newer = send(ledger, plain(ref="x"), "newer")
    last = send(ledger, cancel(ref="x"), "cancel")
    assert state(ledger, newer) == "cancelled"

    with working(ledger, server):
        until(ledger, last, "accepted")
        answer = ledger.resolve("toy", older, "accepted", "a person", "forever")

    assert answer == ("ok", "") and server.sent("/cancel") == []


class Telling(ToyBroker):
    """A cancel that tells what became of its targets."""

    def _cancel(self, work: Work) -> Plan:
        seen = {}
        for target in work.targets:
            reply = yield self._call(work, "cancel", target.ids.order_id)
            if reply.status != 200:
                return Rejected(reason=reply.words)
            seen[target.ids.order_id] = Seen(broker_status="canceled", broker_ids={"order": "9"})
        return Accepted(reason="" if work.targets else "nothing to cancel", targets=seen)


def test_a_cancel_by_ref_of_a_doubtful_order_does_not_cancel_the_next_one_too(
        ledger: Ledger, server: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_lane.ToyBroker", Telling)
    with working(ledger, server):
        until(ledger, send(ledger, plain(ref="x"), "first"), "accepted")
        doubtful = unknown_entry(server, ledger, "second", plain(ref="x"))
        wait_for(lambda: waiting(ledger))
        last = send(ledger, cancel(ref="x"), "cancel")
        until(ledger, last, "accepted")
        until(ledger, doubtful, "accepted")

    assert [each["id"] for each in server.sent("/cancel")] == [doubtful] and state(ledger, last) == "accepted"


def test_a_doubtful_entry_under_a_close_that_a_person_called_accepted_is_not_forgotten(ledger: Ledger,
                                                                                      server: ToyServer) -> None:
    entry = unknown_entry(server, ledger)
    with working(ledger, server):
        wait_for(lambda: waiting(ledger))
        server.script.append("drop_after")
        last = send(ledger, close(), "close")
        wait_for(lambda: len(waiting(ledger)) == 2)
        assert ledger.resolve("toy", last, "accepted", "a person", "forever")[0] == "ok"
        answer = ledger.resolve("toy", entry, "accepted", "a person", "forever")

    assert answer[1] == "repeated"


def test_a_doubtful_entry_that_was_set_aside_is_not_forgotten_by_a_close(ledger: Ledger, server: ToyServer) -> None:
    entry = send(ledger, plain())
    left_by_a_dead_worker(ledger, server, entry, [None])
    lease = ledger.take_lease("toy", "w", 1000)
    assert lease is not None
    assert ledger.set_aside(lease, entry, ledger.lane("toy")[0][0], "a fault in Bridge") == "unknown"
    ledger.release_lease(lease)

    with working(ledger, server):
        until(ledger, send(ledger, close(), "close"), "accepted")
        answer = ledger.resolve("toy", entry, "accepted", "a person", "forever")

    assert answer[1] == "repeated"


@contextmanager
def memory_out(url: str) -> Iterator[None]:
    client(url).config_set("maxmemory", 1)
    try:
        yield
    finally:
        client(url).config_set("maxmemory", 0)


def test_a_close_is_sent_though_memory_is_out_and_an_open_order_lapses(ledger: Ledger, server: ToyServer,
                                                                       redis_url: str) -> None:
    entry = send(ledger, plain())
    with working(ledger, server):
        until(ledger, entry, "accepted")
        wait_for(lambda: (ledger.order(entry) or {})["broker_status"])
    last = send(ledger, close(), "close")
    client(redis_url).zadd("bridge:{toy}:open", {entry: 1})

    with memory_out(redis_url), working(ledger, server):
        until(ledger, last, "accepted")


class Slow(ToyBroker):
    """Its two-step order pauses between the steps."""

    def submit(self, work: Work) -> Plan:
        return self._slow(work) if work.order.kind == "oco" else super().submit(work)

    def _slow(self, work: Work) -> Plan:
        yield self._call(work, "place", work.ids.client_id(), "entry")
        yield Pause(seconds=0.05)
        yield self._call(work, "place", work.ids.client_id("other"), "other")
        return Accepted(broker_ids={"order": "1"}, broker_status="working")


def test_half_an_order_goes_on_and_a_look_up_is_recorded_though_memory_is_out(
        ledger: Ledger, server: ToyServer, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_lane.ToyBroker", Slow)

    def out() -> str:
        client(redis_url).config_set("maxmemory", 1)
        return "ok"

    halves, doubtful = send(ledger, oco(), "halves"), send(ledger, plain(), "doubtful")
    server.script.extend([out, "ok", "drop_after"])
    try:
        with working(ledger, server):
            until(ledger, halves, "accepted")
            until(ledger, doubtful, "accepted")
    finally:
        client(redis_url).config_set("maxmemory", 0)


def test_a_close_over_ten_thousand_listed_orders_does_not_hold_the_server_up(
        ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        ledger.enqueue(delivery(f"list {number}", *[("toy", plain())] * 100))
    monkeypatch.setattr(connection, "_SOCKET_TIMEOUT_S", 1.5)

    send(ledger, cancel(symbol="ESZ6"), "cancel")  # a receiver that waits for longer raises

    assert not [each for each in ledger.orders(limit=None) if each["state"] == "queued" and each["kind"] == "plain"]


def test_an_order_good_until_a_time_is_open_until_then_though_the_workers_clock_is_ahead(
        ledger: Ledger, server: ToyServer, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setattr(bridge.lane, "now", lambda: datetime.now(UTC) + timedelta(hours=1))
    order = send(ledger, plain(time_in_force="gtd", expire_time=datetime.now(UTC) + timedelta(minutes=30)))
    with working(ledger, server):
        until(ledger, order, "accepted")
        wait_for(lambda: (ledger.order(order) or {})["broker_status"])

    assert client(redis_url).zscore("bridge:{toy}:open", order) - ledger.lane_clock("toy") > 1_700_000


# -- alarms ------------------------------------------------------------------------------------------------------------


def test_an_exit_that_was_too_old_when_it_arrived_waits_for_a_person(ledger: Ledger) -> None:
    late = send(ledger, close(), "late", state="expired", reason="too old: sent 20 min before it was received")

    assert state(ledger, late) == "expired" and waiting(ledger) == [late]


def test_a_protective_order_too_old_on_arrival_is_an_alarm_only_when_its_entry_is_sent(ledger: Ledger) -> None:
    made = delivery("l", ("toy", plain()), ("toy", STOP))
    late = replace(made.orders[1], state="expired", reason="too old", max_age_ms=1)
    ledger.enqueue(replace(made, orders=(made.orders[0], late)))
    assert waiting(ledger) == [late.id]

    both = delivery("m", ("toy", plain()), ("toy", STOP))
    ledger.enqueue(replace(both, orders=tuple(replace(each, state="expired", reason="too old") for each in both.orders)))
    assert waiting(ledger) == [late.id]


def test_a_protective_order_that_is_rejected_after_its_entry_stands_is_an_alarm(ledger: Ledger,
                                                                               server: ToyServer) -> None:
    server.script.extend(["ok", (400, {"error": "stop price too close"})])
    made = ledger.enqueue(delivery("l", ("toy", plain()), ("toy", STOP)))
    stop = str(made.orders[1]["id"])
    with working(ledger, server):
        found = until(ledger, stop, "rejected")

    assert waiting(ledger) == [stop] and "protected" in found["reason"]


def test_a_protective_order_withdrawn_at_the_last_look_is_an_alarm(ledger: Ledger, server: ToyServer) -> None:
    made = ledger.enqueue(delivery("list", ("toy", plain()), ("toy", replace(STOP, ref="stop"))))
    first, stop = (str(each["id"]) for each in made.orders)
    accepted_by_a_dead_worker(ledger, first)
    server.script.append((429, b""))

    def called_off() -> Any:
        send(ledger, cancel(ref="stop"), "cancel")
        return (429, b"")

    server.script.clear()
    server.script.append(called_off)
    with working(ledger, server):
        found = until(ledger, stop, "cancelled")

    assert waiting(ledger) == [stop] and "protected" in found["reason"]


def telling(legs: tuple[dict[str, str], ...]) -> Callable[[ToyBroker, Work, str], LookUp]:
    def find(self: ToyBroker, work: Work, client_id: str) -> LookUp:
        yield Call(operation="find", method="GET", step="look_up", write=False,
                   url=f"{work.account.rest_url}/find/{client_id}")
        return Seen(broker_status="filled", broker_ids={"order": "9"}, legs=legs)
    return find


@pytest.mark.parametrize("word", ["ok", "drop_after"])
def test_a_leg_that_a_look_up_finds_rejected_waits_for_a_person(ledger: Ledger, server: ToyServer, word: str,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToyBroker, "_find", telling(({"role": "stop_loss", "broker_status": "rejected"},)))
    server.script.append(word)
    entry = send(ledger, plain())
    with working(ledger, server):
        wait_for(lambda: waiting(ledger) == [entry])

    assert state(ledger, entry) == "accepted"


def test_what_a_look_up_finds_after_a_person_said_rejected_is_an_alarm(ledger: Ledger, server: ToyServer,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    order = send(ledger, plain())
    said: list[tuple[str, str]] = []

    def find(self: ToyBroker, work: Work, client_id: str) -> LookUp:
        yield Call(operation="find", method="GET", step="look_up", write=False,
                   url=f"{work.account.rest_url}/find/{client_id}")
        if state(ledger, order) != "unknown" or said:
            return None
        said.append(ledger.resolve("toy", order, "rejected", "a person says that the broker rejected it"))
        return Seen(broker_status="working", broker_ids={"order": "9"})

    monkeypatch.setattr(ToyBroker, "_find", find)
    server.script.append("drop_after")
    with working(ledger, server):
        wait_for(lambda: said and waiting(ledger) == [order])

    assert state(ledger, order) == "rejected" and "was found there" in ledger.orders(waiting=True)[0]["reason"]


def test_an_alarm_that_nobody_has_seen_is_not_forgotten_with_the_retention(ledger: Ledger, redis_url: str) -> None:
    order = send(ledger, plain())
    accepted_by_a_dead_worker(ledger, order)
    lease = ledger.take_lease("toy", "w", 9000)
    assert lease is not None and ledger.alarm(lease, order, "look at it") and not ledger.alarm(lease, order, "look at it")
    client(redis_url).zadd("bridge:{toy}:open", {order: 1})

    assert Ledger(redis_url, retention_ms=-1000).retire("toy") == 0 and waiting(ledger) == [order]


def test_what_a_slow_look_up_saw_does_not_undo_an_end_that_was_seen_since(ledger: Ledger) -> None:
    entry = send(ledger, plain())
    accepted_by_a_dead_worker(ledger, entry)
    lease, stored = ledger.take_lease("toy", "w", 9000), ledger.load("toy", entry)
    assert lease is not None and stored is not None
    ledger.see(lease, stored, Seen(broker_status="canceled", broker_ids={"order": "9"}))
    ledger.see(lease, stored, Seen(broker_status="working", broker_ids={}))

    found = ledger.order(entry) or {}
    assert found["broker_status"] == "canceled" and found["broker_ids"] == {"order": "9"}


def test_resolve_says_the_same_when_its_answer_was_lost(ledger: Ledger, server: ToyServer, redis_url: str) -> None:
    entry = unknown_entry(server, ledger)
    with working(ledger, server):
        wait_for(lambda: waiting(ledger))
    proxy = FaultProxy(redis_url)
    through = Ledger(proxy.url)
    through.ping()
    proxy.play(AFTER, "a person looked", 1)
    try:
        assert through.resolve("toy", entry, "accepted", "a person looked", "forever") == ("ok", "")
    finally:
        through.close()
        proxy.close()


def test_an_order_of_an_account_that_has_another_broker_now_is_set_aside(ledger: Ledger, server: ToyServer) -> None:
    order = ledger.enqueue(delivery("k", ("toy", plain()), broker="former")).orders[0]["id"]
    with working(ledger, server):
        found = until(ledger, order, "refused")

    assert "was former when it was queued" in found["reason"] and waiting(ledger) == [order] and server.sent() == []
