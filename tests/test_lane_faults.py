"""What may go wrong around an order, on our side, and what must come of it all the same."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
import redis
import structlog

import bridge.transport
import bridge.worker
from bridge.call import Call, Hold, LogIn, LoginRefused, Reply, Seen, Token
from bridge.errors import LedgerAway, SettingsError
from bridge.ledger import Ledger
from bridge.order import Order
from bridge.settings import read_settings
from bridge.work import Account, Budget
from bridge.worker import Worker
from tests.rig import ToyBroker, ToyServer, delivery, plain, toy_account, wait_for
from tests.test_lane import FAST, oco, running, send, state, until, working


def test_a_ledger_that_is_away_for_a_moment_before_sending_makes_nobody_say_no(
        ledger: Ledger, server: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = ledger.login_hold, []

    def blip(login: str) -> Any:
        asked.append(login)
        if len(asked) <= 2:
            raise LedgerAway("a blip")
        return real(login)

    monkeypatch.setattr(ledger, "login_hold", blip)
    order = send(ledger, plain())

    with working(ledger, server):
        until(ledger, order, "accepted")

    assert len(server.sent()) == 1


def test_a_fault_of_ours_after_the_byte_left_is_never_called_not_sent(ledger: Ledger, server: ToyServer,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    def trips(self: ToyBroker, call: Call, reply: Reply) -> Hold | None:
        if call.write:
            raise KeyError("a surprising reply")
        return None

    monkeypatch.setattr(ToyBroker, "nothing_done", trips)
    order = send(ledger, plain())

    with working(ledger, server):
        found = until(ledger, order, "accepted", "rejected")

    assert found["state"] == "accepted" and "found at the broker" in found["reason"]
    assert len(server.sent()) == 1


def test_an_order_that_cannot_be_handled_is_set_aside_and_the_lane_goes_on(ledger: Ledger, server: ToyServer,
                                                                           redis_url: str) -> None:
    bad, good = send(ledger, plain(), "bad"), send(ledger, plain(), "good")
    redis.Redis.from_url(redis_url).hset(f"bridge:{{toy}}:order:{bad}", "max_age", "not a number")

    with working(ledger, server):
        until(ledger, good, "accepted")

    assert state(ledger, bad) == "refused" and [each["id"] for each in ledger.orders(waiting=True)] == [bad]
    assert [each["id"] for each in server.sent()] == [good]


def test_an_entry_whose_order_is_gone_or_has_ended_leaves_the_lane(ledger: Ledger, server: ToyServer,
                                                                   redis_url: str) -> None:
    ended = send(ledger, plain(), "ended", state="expired", reason="too old")
    client = redis.Redis.from_url(redis_url)
    for order in ("o-that-is-gone", ended):
        client.xadd("bridge:{toy}:lane", {"order": order})
    good = send(ledger, plain(), "good")

    with working(ledger, server):
        until(ledger, good, "accepted")

    assert ledger.lane("toy") == [] and state(ledger, ended) == "expired"
    assert [each["id"] for each in server.sent()] == [good]


def test_a_number_longer_than_any_that_is_read_is_read_back_from_the_ledger(ledger: Ledger, server: ToyServer) -> None:
    order = send(ledger, plain("4.440892098500626e-16"))

    with working(ledger, server):
        until(ledger, order, "accepted")

    assert server.sent()[0]["price"] == plain("4.440892098500626e-16").price


def test_a_half_written_alert_that_is_completed_late_is_as_old_as_it_is(ledger: Ledger, server: ToyServer,
                                                                        redis_url: str) -> None:
    made = delivery("k", ("toy", plain()), ("other", plain()), age_ms=500)

    def dies(*args: Any) -> None:
        raise LedgerAway("the receiver died here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "_join", dies)
        with pytest.raises(LedgerAway):
            ledger.enqueue(made)
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    alert = f"bridge:{{toy}}:alert:{made.id}"
    client.hset(alert, "received", int(client.hget(alert, "received") or 0) - 100_000)  # a hundred seconds pass

    ledger.enqueue(delivery("k", ("toy", plain()), ("other", plain()), nonce="resent", window=5000))

    stored = ledger.load("other", made.orders[1].id)
    assert stored is not None and stored.age_ms >= 100_500
    with working(ledger, server, "other"):
        until(ledger, stored.id, "expired")
    assert server.sent() == []


def test_stopping_between_two_steps_finishes_the_order(ledger: Ledger, server: ToyServer) -> None:
    stop = threading.Event()

    def first() -> str:
        stop.set()
        return "ok"

    server.script.append(first)
    order = send(ledger, oco())
    worker = Worker(read_settings(FAST), {"toy": toy_account(server.url)}, {"toy": ToyBroker()}, ledger)

    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    thread.join(10)

    assert state(ledger, order) == "accepted" and len(server.sent()) == 2


def test_stopping_before_the_first_byte_sends_nothing(ledger: Ledger, server: ToyServer) -> None:
    stop = threading.Event()
    order = send(ledger, plain())
    real = ledger.submit

    def submit(*args: Any, **more: Any) -> Any:
        stop.set()
        return real(*args, **more)

    ledger.submit = submit  # type: ignore[method-assign]
    worker = Worker(read_settings(FAST), {"toy": toy_account(server.url)}, {"toy": ToyBroker()}, ledger)
    worker.run(stop)

    assert server.sent() == [] and state(ledger, order) == "queued"


def test_what_a_broker_said_is_kept_by_a_worker_that_lost_its_lane(ledger: Ledger, server: ToyServer,
                                                                   redis_url: str) -> None:
    def steal() -> str:
        redis.Redis.from_url(redis_url).hset("bridge:{toy}:lease", mapping={
            "owner": "thief", "fence": 99, "until": 99_999_999_999_999})
        return "ok"

    server.script.append(steal)
    order = send(ledger, oco())

    with working(ledger, server):
        wait_for(lambda: (ledger.order(order) or {})["calls"] and ledger.order(order)["calls"][0]["reply"])  # type: ignore[index]

    assert len(server.sent()) == 1


def test_an_outcome_whose_record_was_heard_but_not_answered_is_recorded_once(ledger: Ledger, server: ToyServer,
                                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    real, lost = ledger._run, []

    def lossy(name: str, keys: Any, args: Any) -> Any:
        answer = real(name, keys, args)
        if name == "settle" and not lost:
            lost.append(name)
            raise LedgerAway("the answer was lost")
        return answer

    monkeypatch.setattr(ledger, "_run", lossy)
    order = send(ledger, plain())

    with structlog.testing.capture_logs() as logs, working(ledger, server):
        until(ledger, order, "accepted")
        wait_for(lambda: ledger.order(order)["broker_status"])  # type: ignore[index]

    assert not any("no longer ours" in each["event"] for each in logs)
    assert len([call for call in ledger.order(order)["calls"] if call["write"]]) == 1  # type: ignore[index]


def test_our_own_budget_delays_the_steps_of_an_exit_and_never_ends_it(ledger: Ledger, server: ToyServer) -> None:
    orders = [send(ledger, plain(ref="x"), f"k{n}") for n in range(8)]
    with working(ledger, server):
        for each in orders:
            until(ledger, each, "accepted")
    close = send(ledger, Order(kind="cancel", symbol="ESZ6"), "cancel")
    settings = read_settings({**FAST, "BRIDGE_STEP_PATIENCE": "100ms"})
    account = replace(toy_account(server.url), budget=Budget(per_second=4, burst=1))
    worker, stop = Worker(settings, {"toy": account}, {"toy": ToyBroker()}, ledger), threading.Event()

    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    until(ledger, close, "accepted")
    stop.set()
    thread.join(10)

    assert {each["id"] for each in server.sent("/cancel")} == set(orders)


def test_taking_back_half_an_order_is_repeated_until_it_is_done(ledger: Ledger, server: ToyServer) -> None:
    server.script.extend(["ok", (400, {"error": "no"}), *[(429, b"")] * 12])
    order = send(ledger, oco())

    with working(ledger, server):
        wait_for(lambda: [each["id"] for each in ledger.orders(waiting=True)] == [order])
        found = until(ledger, order, "rejected")

    assert len(server.sent("/cancel")) == 13 and "no" in found["reason"]
    assert any("half of it stands" in each["reason"] for each in found["history"]) and ledger.orders(waiting=True) == []


def test_a_refused_early_renewal_does_not_stop_a_token_that_still_lives(ledger: Ledger, server: ToyServer,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    real = ToyBroker.log_in

    def log_in(self: ToyBroker, account: Account, now: float, token: Token | None) -> LogIn:
        if token is not None:
            yield Call(operation="renew", method="POST", url=f"{account.rest_url}/login", step="login", write=False,
                       body={})
            return LoginRefused(reason="no renewal today")
        fresh = yield from real(self, account, now, token)
        assert isinstance(fresh, Token)
        return replace(fresh, expires_at=now + 60)  # so near its end that each use asks for a renewal

    monkeypatch.setattr(ToyBroker, "log_in", log_in)
    monkeypatch.setattr("bridge.session._RENEWAL_APART_S", -860.0)  # so that each use does
    orders = [send(ledger, plain(), f"k{n}") for n in range(3)]

    with working(ledger, server):
        for each in orders:
            until(ledger, each, "accepted")

    assert server.logins == 2


def test_fifty_waiting_orders_do_not_hide_the_rest_of_the_lane(ledger: Ledger, server: ToyServer) -> None:
    server.script.extend(["drop_before"])
    ledger.enqueue(delivery("k", *[("toy", plain()) for _ in range(60)]))
    other = send(ledger, plain(), "other")

    with working(ledger, server):
        until(ledger, other, "accepted")


def test_look_ups_that_a_killed_worker_left_are_made_by_the_next(ledger: Ledger, server: ToyServer,
                                                                 redis_url: str) -> None:
    orders = [send(ledger, plain(), f"k{n}") for n in range(14)]
    with working(ledger, server):
        for each in orders:
            until(ledger, each, "accepted")
    client = redis.Redis.from_url(redis_url)
    client.zadd("bridge:{toy}:lookups", dict.fromkeys(orders, 1))
    server.find_status = "filled"

    with working(ledger, server):
        wait_for(lambda: all(each["broker_status"] == "filled" for each in ledger.orders()))

    assert client.zcard("bridge:{toy}:lookups") == 0


def test_a_try_that_was_not_sent_is_shown_as_not_sent(ledger: Ledger, server: ToyServer,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    real, tries = bridge.transport.Transport.send, []

    def once_not(self: Any, call: Call, last_look: Any = lambda: None, **more: Any) -> Any:
        if call.write and not tries:
            tries.append(1)
            return bridge.transport.NotSent("the connection was refused")
        return real(self, call, last_look, **more)

    monkeypatch.setattr(bridge.transport.Transport, "send", once_not)
    order = send(ledger, plain())

    with working(ledger, server):
        found = until(ledger, order, "accepted")

    first, second = (call for call in found["calls"] if call["write"])
    assert "not sent" in first["reply"]["fault"] and second["reply"]["status"] == 200


def test_half_a_surrogate_pair_in_a_brokers_words_is_kept_escaped(ledger: Ledger, server: ToyServer,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reply, "words", property(lambda self: "odd \ud800 words"))
    server.script.append((500, b""))
    order = send(ledger, plain())

    with working(ledger, server):
        found = until(ledger, order, "unknown")

    assert "odd \\ud800 words" in found["reason"]


def test_leases_are_renewed_whatever_error_one_of_them_meets(ledger: Ledger, server: ToyServer,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    renewed, real = [], ledger.take_lease

    def odd(account: str, owner: str, ttl_ms: int) -> Any:
        if threading.current_thread().name == "leases":
            renewed.append(account)
            if len(renewed) == 1:
                raise redis.exceptions.ResponseError("something new")
        return real(account, owner, ttl_ms)

    monkeypatch.setattr(ledger, "take_lease", odd)

    with working(ledger, server):
        wait_for(lambda: len(renewed) >= 3)


def test_orders_of_an_account_that_no_worker_has_are_ended_and_told(ledger: Ledger, server: ToyServer,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.worker, "_STRAYS_EVERY_S", 0.1)
    order = str(ledger.enqueue(delivery("k", ("renamed", plain()), home="renamed", max_age_ms=1)).orders[0]["id"])

    with working(ledger, server):
        found = until(ledger, order, "expired")

    assert "no worker has the account renamed" in found["reason"]
    assert [each["id"] for each in ledger.orders(waiting=True)] == [order]


def test_an_order_whose_day_is_over_counts_as_ended_and_is_forgotten_in_time(redis_url: str,
                                                                             server: ToyServer) -> None:
    ledger = Ledger(redis_url, retention_ms=-1000)
    order = send(ledger, plain())
    with working(Ledger(redis_url), server):
        until(ledger, order, "accepted")
        wait_for(lambda: ledger.order(order)["broker_status"])  # type: ignore[index]
    redis.Redis.from_url(redis_url).zadd("bridge:{toy}:open", {order: 1})

    ledger.retire("toy")

    assert ledger.order(order) is None


def test_a_call_that_may_outlast_the_lease_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match="BRIDGE_LEASE"):
        read_settings({"BRIDGE_CALL_TIMEOUT": "30s", "BRIDGE_LEASE": "20s"})


def test_a_look_up_that_could_not_be_made_stays_due_until_it_is(ledger: Ledger, server: ToyServer) -> None:
    account = toy_account(server.url, budget=Budget(per_second=0.5, burst=1))
    server.find_status = "rejected"
    order = ledger.enqueue(delivery("k", ("toy", plain()))).orders[0]["id"]

    with running(Worker(read_settings(FAST), {"toy": account}, {"toy": ToyBroker()}, ledger)):
        found = wait_for(lambda: (it := ledger.order(order)) and it["broker_status"] == "rejected" and it)

    assert found["state"] == "accepted" and "rejected after it was accepted" in found["reason"]
    assert [each["id"] for each in ledger.orders(waiting=True)] == [order] and ledger.due_look_ups("toy") == []


def test_an_order_that_its_broker_shows_late_is_looked_up_again(ledger: Ledger, server: ToyServer) -> None:
    server.findable = False
    order = ledger.enqueue(delivery("k", ("toy", plain()))).orders[0]["id"]

    with working(ledger, server):
        wait_for(lambda: any(each["path"].startswith("/find/") for each in server.requests))
        server.findable, server.find_status = True, "filled"
        wait_for(lambda: (it := ledger.order(order)) and it["broker_status"] == "filled")


def test_a_rejection_that_a_person_has_seen_does_not_wait_again(ledger: Ledger, server: ToyServer) -> None:
    order = ledger.enqueue(delivery("k", ("toy", plain()))).orders[0]["id"]
    server.find_status = "rejected"
    with working(ledger, server):
        wait_for(lambda: ledger.orders(waiting=True))
    ledger.resolve("toy", order, "seen", "looked at")

    lease, stored = ledger.take_lease("toy", "another", 1000), ledger.load("toy", order)
    assert lease is not None and stored is not None
    told = ledger.see(lease, stored, Seen(broker_status="rejected", broker_ids={"order": "9"}))

    assert not told and ledger.orders(waiting=True) == []
