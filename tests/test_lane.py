"""What happens to an order between its lane and a broker: once, in time, never silently."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
import redis

from bridge.ledger import Ledger
from bridge.order import Leg, Order
from bridge.settings import Settings, read_settings
from bridge.worker import Worker
from tests.rig import ToyBroker, ToyServer, delivery, left_by_a_dead_worker, plain, toy_account, wait_for

FAST = {"BRIDGE_SECRET": "a-test-secret-0123456789", "BRIDGE_LOOKUP_PATIENCE": "500ms", "BRIDGE_CALL_TIMEOUT": "1500ms",
        "BRIDGE_LEASE": "3s", "BRIDGE_SETTLE": "200ms", "BRIDGE_STEP_PATIENCE": "1s", "BRIDGE_SHUTDOWN_TIMEOUT": "3s"}


@contextmanager
def working(ledger: Ledger, server: ToyServer, *names: str, settings: Settings | None = None) -> Iterator[None]:
    """A worker in this process, for as long as the block lasts."""
    accounts = {name: toy_account(server.url, name) for name in names or ("toy",)}
    with running(Worker(settings or read_settings(FAST), accounts, {"toy": ToyBroker()}, ledger)):
        yield


@contextmanager
def running(worker: Worker) -> Iterator[Worker]:
    """A worker at work, whose idle lanes look ten times a second for whether they are to stop."""
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("bridge.worker._WAIT_S", 0.1)
        thread.start()
        try:
            yield worker
        finally:
            stop.set()
            thread.join(10)
            assert not thread.is_alive()


def state(ledger: Ledger, order: str, account: str = "toy") -> str:
    return ledger.state_of(account, order)


def until(ledger: Ledger, order: str, *states: str) -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        found = ledger.order(order)
        return found if found and found["state"] in states else None

    found: dict[str, Any] = wait_for(there)
    return found


def oco() -> Order:
    return plain(kind="oco", side="sell", price="5400",
                 other=Leg(role="other", side="sell", type="stop", stop_price=Decimal(5200)))


def send(ledger: Ledger, order: Order, key: str = "k", **more: Any) -> str:
    return str(ledger.enqueue(delivery(key, ("toy", order), **more)).orders[0]["id"])


def test_an_order_is_sent_once_and_accepted(ledger: Ledger, server: ToyServer) -> None:
    order = send(ledger, plain("5300.250"))

    with working(ledger, server):
        found = until(ledger, order, "accepted")
        wait_for(lambda: ledger.order(order)["broker_status"] == "working")  # type: ignore[index]

    assert server.sent() == [{"id": order, "price": Decimal("5300.25")}]
    assert [each["state"] for each in found["history"]][:3] == ["queued", "submitting", "accepted"]
    assert found["calls"][0]["operation"] == "place" and found["calls"][0]["reply"]["status"] == 200


def test_submitting_is_on_record_before_the_first_byte_arrives(ledger: Ledger, server: ToyServer) -> None:
    seen: list[str] = []

    def look() -> str:
        seen.append(ledger.orders()[0]["state"])
        return "ok"

    server.script.append(look)
    order = send(ledger, plain())

    with working(ledger, server):
        until(ledger, order, "accepted")

    assert seen == ["submitting"]


def test_a_definite_no_is_rejected_with_the_brokers_words(ledger: Ledger, server: ToyServer) -> None:
    server.script.append((400, {"error": "bad tick"}))
    order = send(ledger, plain())

    with working(ledger, server):
        found = until(ledger, order, "rejected")

    assert "bad tick" in found["reason"] and len(server.sent()) == 1


@pytest.mark.parametrize("fault", ["drop_after", "cut", "drip"])
def test_an_executed_order_whose_reply_was_lost_is_found_and_never_sent_again(ledger: Ledger, server: ToyServer,
                                                                              fault: str) -> None:
    server.script.append(fault)
    order = send(ledger, plain())

    with working(ledger, server):
        found = until(ledger, order, "accepted")

    assert len(server.sent()) == 1
    assert "found at the broker" in found["reason"] and found["broker_ids"] == {"order": "9"}
    assert [each["state"] for each in found["history"]][-3:] == ["submitting", "unknown", "accepted"]


@pytest.mark.parametrize("fault", ["drop_before", (500, {"oops": 1}), (200, b"<html>"), (200, b'{"id": NaN}')])
def test_a_doubtful_order_that_is_not_found_is_unknown_and_told_to_a_person(ledger: Ledger, server: ToyServer,
                                                                            fault: Any) -> None:
    server.script.append(fault)
    order = send(ledger, plain())
    later = send(ledger, plain(), "later")

    with working(ledger, server):
        until(ledger, later, "accepted")
        found = until(ledger, order, "unknown")

    assert [each["id"] for each in server.sent()] == [order, later]
    assert [each["id"] for each in ledger.orders(waiting=True)] == [order]
    assert "prove" in found["reason"]


def test_a_broker_that_cannot_be_reached_is_tried_again_until_max_age(ledger: Ledger, server: ToyServer) -> None:
    order = send(ledger, plain(), max_age_ms=1500)
    closed = replace_url(server)

    with working(ledger, closed):  # type: ignore[arg-type]
        found = until(ledger, order, "expired")

    assert "refused" in found["reason"] and "max_age" in found["reason"]
    assert "submitting" in [each["state"] for each in found["history"]]


def replace_url(server: ToyServer) -> Any:
    class Nobody:
        url = "http://127.0.0.1:1"

    return Nobody()


def test_an_order_too_old_when_its_turn_comes_is_expired_and_never_sent(ledger: Ledger, server: ToyServer) -> None:
    order = send(ledger, plain(), age_ms=61_000)

    with working(ledger, server):
        found = until(ledger, order, "expired")

    assert server.sent() == [] and "max_age" in found["reason"]


def test_a_rate_limit_holds_the_order_and_it_is_sent_later(ledger: Ledger, server: ToyServer) -> None:
    server.script.extend([(429, b""), (429, b"")])
    order = send(ledger, plain())

    with working(ledger, server):
        found = until(ledger, order, "accepted")

    assert len(server.sent()) == 3 and len(server.placed) == 1
    assert "queued" in [each["state"] for each in found["history"][1:]]


def test_a_penalty_ticket_goes_with_the_repeat_and_is_not_recorded(ledger: Ledger, server: ToyServer) -> None:
    server.script.append((200, {"ticket": "p1"}))
    order = send(ledger, plain())

    with working(ledger, server):
        found = until(ledger, order, "accepted")

    assert [each.get("ticket") for each in server.sent()] == [None, "p1"]
    assert all("ticket" not in (call["body"] or {}) for call in found["calls"] if call["operation"])


def test_a_dead_token_is_renewed_once_and_the_order_sent(ledger: Ledger, server: ToyServer) -> None:
    server.script.append((401, {}))
    order = send(ledger, plain())

    with working(ledger, server):
        until(ledger, order, "accepted")

    assert server.logins == 2 and len(server.placed) == 1


def test_the_same_no_with_a_fresh_token_is_the_brokers_no(ledger: Ledger, server: ToyServer) -> None:
    server.script.extend([(401, {})] * 20)
    order = send(ledger, plain())

    with working(ledger, server):
        until(ledger, order, "unknown")

    assert 2 <= len(server.sent()) <= server.logins + 1  # no log-in but for a token that was refused


def test_lanes_share_one_log_in_and_a_restart_is_no_new_one(ledger: Ledger, server: ToyServer, redis_url: str) -> None:
    for name in ("toy", "second", "third"):
        ledger.enqueue(delivery(name, (name, plain()), home=name))
    with working(ledger, server, "toy", "second", "third"):
        wait_for(lambda: len(server.placed) == 3)

    again = send(ledger, plain(), "again")
    with working(ledger, server, "toy"):
        until(ledger, again, "accepted")

    assert server.logins == 1
    raw = b" ".join(redis.Redis.from_url(redis_url).get(key) or b""  # type: ignore[misc]
                    for key in redis.Redis.from_url(redis_url).scan_iter("bridge:{login:*}:token"))
    assert raw and b"t1" not in raw.split(b"gAAAA")[0]


def test_a_lane_is_served_in_the_order_of_arrival_and_lanes_run_side_by_side(ledger: Ledger,
                                                                              server: ToyServer) -> None:
    both_in = threading.Barrier(2, timeout=5)

    def meet() -> str:
        both_in.wait()
        return "ok"

    server.script.extend([meet, meet])
    ids = [ledger.enqueue(delivery(f"{name}{n}", (name, plain()), home=name)).orders[0]["id"]
           for n in range(3) for name in ("toy", "second")]

    with working(ledger, server, "toy", "second"):
        wait_for(lambda: len(server.placed) == 6)

    arrived = [each["id"] for each in server.sent()]
    assert [each for each in arrived if each in ids[::2]] == ids[::2]
    assert [each for each in arrived if each in ids[1::2]] == ids[1::2]


def test_a_listed_order_waits_for_the_one_before_it(ledger: Ledger, server: ToyServer) -> None:
    server.script.append((400, {"error": "no"}))
    answer = ledger.enqueue(delivery("k", ("toy", plain()), ("toy", plain()), ("toy", plain())))
    first, second, third = (str(each["id"]) for each in answer.orders)

    with working(ledger, server):
        until(ledger, third, "cancelled")

    assert state(ledger, first) == "rejected" and state(ledger, second) == "cancelled"
    assert len(server.sent()) == 1


def test_withdrawing_after_an_entry_that_stands_is_told_to_a_person(ledger: Ledger, server: ToyServer) -> None:
    server.script.extend(["ok", (400, {"error": "no"})])
    answer = ledger.enqueue(delivery("k", ("toy", plain()), ("toy", plain()), ("toy", plain())))

    with working(ledger, server):
        found = until(ledger, str(answer.orders[2]["id"]), "cancelled")

    assert "protected" in found["reason"]
    rejected = answer.orders[1]["id"]
    assert {each["id"] for each in ledger.orders(waiting=True)} == {rejected, found["id"]}
    assert state(ledger, rejected) == "rejected"


def test_an_order_that_waits_for_an_unknown_one_lets_others_pass(ledger: Ledger, server: ToyServer) -> None:
    server.script.append("drop_before")
    answer = ledger.enqueue(delivery("k", ("toy", plain()), ("toy", plain())))
    other = send(ledger, plain(), "other")

    with working(ledger, server):
        until(ledger, other, "accepted")

    assert state(ledger, str(answer.orders[1]["id"])) == "queued"
    assert [each["id"] for each in server.sent()] == [answer.orders[0]["id"], other]


def test_a_dry_run_sends_nothing_and_keeps_the_exact_calls(ledger: Ledger, server: ToyServer) -> None:
    order = send(ledger, plain(), dry_run=True)

    with working(ledger, server):
        found = until(ledger, order, "dry_run")

    assert server.requests == []
    assert found["calls"][0]["body"] == {"id": order, "price": Decimal("5300.25")}


def test_a_cancel_by_ref_withdraws_the_newest_that_has_not_ended_and_nothing_else(ledger: Ledger,
                                                                                   server: ToyServer) -> None:
    old, new = send(ledger, plain(ref="x"), "old"), send(ledger, plain(ref="x"), "new")
    cancel = send(ledger, Order(kind="cancel", ref="x"), "cancel")
    nothing = send(ledger, Order(kind="cancel", ref="other"), "nothing")

    assert state(ledger, new) == "cancelled" and state(ledger, old) == "queued"
    with working(ledger, server):
        found = until(ledger, cancel, "accepted")
        assert until(ledger, nothing, "accepted")["reason"] == "nothing to cancel"
        until(ledger, old, "accepted")
        assert new in found["reason"] and server.sent("/cancel") == []
        until(ledger, send(ledger, Order(kind="cancel", ref="x"), "again"), "accepted")

    assert [each["id"] for each in server.sent("/cancel")] == [old]


def test_an_order_found_in_submitting_is_looked_up_and_never_sent_without_proof(ledger: Ledger, server: ToyServer) -> None:
    found_one, lost_one = send(ledger, plain(), "found"), send(ledger, plain(), "lost")
    for order in (found_one, lost_one):
        left_by_a_dead_worker(ledger, server, order, [None])
    server.placed[found_one] = {}

    with working(ledger, server):
        until(ledger, found_one, "accepted")
        wait_for(lambda: ledger.orders(waiting=True))

    assert server.sent() == [] and state(ledger, lost_one) == "unknown"
    assert [each["id"] for each in ledger.orders(waiting=True)] == [lost_one]


def test_only_the_failed_step_is_repeated_after_an_accepted_one(ledger: Ledger, server: ToyServer) -> None:
    server.script.extend(["ok", (429, b""), "ok"])
    order = send(ledger, oco())

    with working(ledger, server):
        until(ledger, order, "accepted")

    assert [each["id"] for each in server.sent()] == [order, f"{order}.other", f"{order}.other"]


def test_a_later_step_that_is_refused_for_too_long_reaches_the_plan_as_not_executed(ledger: Ledger,
                                                                                    server: ToyServer) -> None:
    server.script.extend(["ok", *[(429, b"")] * 20])
    order = send(ledger, oco())

    with working(ledger, server):
        found = until(ledger, order, "rejected")

    assert "other was not executed" in found["reason"]


def test_two_workers_send_an_order_once(ledger: Ledger, server: ToyServer) -> None:
    ids = [send(ledger, plain(), f"k{n}") for n in range(20)]

    with working(ledger, server), working(Ledger(ledger_url(ledger)), server):
        wait_for(lambda: len(server.placed) == 20)
        wait_for(lambda: all(state(ledger, each) == "accepted" for each in ids))

    assert sorted(each["id"] for each in server.sent()) == sorted(ids)


def ledger_url(ledger: Ledger) -> str:
    options = ledger._redis.connection_pool.connection_kwargs
    return f"unix://{options['path']}" if "path" in options else f"redis://{options['host']}:{options['port']}"


def test_a_worker_waits_while_the_ledger_is_away_and_goes_on(ledger: Ledger, server: ToyServer, redis_url: str,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """Settling fails a few times after the broker took the order: the outcome is recorded all the same."""
    from bridge.errors import LedgerAway

    original: Callable[..., str] = ledger.settle
    failures = iter([True, True, True])

    def flaky(*args: Any, **more: Any) -> str:
        if next(failures, False):
            raise LedgerAway("away")
        return original(*args, **more)

    monkeypatch.setattr(ledger, "settle", flaky)
    order = send(ledger, plain())

    with working(ledger, server):
        until(ledger, order, "accepted")

    assert len(server.sent()) == 1


def test_no_secret_stands_in_the_ledger(ledger: Ledger, server: ToyServer, redis_url: str) -> None:
    order = send(ledger, plain())
    with working(ledger, server):
        until(ledger, order, "accepted")

    client = redis.Redis.from_url(redis_url)
    everything = b"".join(client.dump(key) or b"" for key in client.keys("*"))

    assert b"leak-me" not in everything
    assert "leak-me" not in str(ledger.order(order)) and "leak-me" not in repr(toy_account(server.url))


def test_a_fault_in_a_broker_file_rejects_the_order_and_the_lane_goes_on(ledger: Ledger, server: ToyServer,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    original = ToyBroker.submit

    def broken(self: ToyBroker, work: Any) -> Any:
        if work.order.price == 1:
            def plan() -> Any:
                raise KeyError("oops")
                yield
            return plan()
        return original(self, work)

    monkeypatch.setattr(ToyBroker, "submit", broken)
    bad, good = send(ledger, plain("1"), "bad"), send(ledger, plain(), "good")

    with working(ledger, server):
        until(ledger, good, "accepted")

    assert state(ledger, bad) == "rejected"
