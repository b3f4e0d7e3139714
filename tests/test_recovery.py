"""What a worker that died left behind is cleared up: found, sent when it is proven absent, or told; never doubled."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import redis

from bridge.call import Call, Reply
from bridge.ledger import Ledger
from bridge.playback import Diverged, last_attempt, play_back
from bridge.settings import read_settings
from bridge.views import begin_record, call_record, reply_record
from tests.rig import ToyBroker, ToyServer, left_by_a_dead_worker, plain, wait_for
from tests.test_lane import FAST, oco, send, state, until, working

GIVEN = {"attempt": 1, "arming": 1, "counter": None, "broker_ids": {}, "submitted": None, "targets": []}


def test_what_is_proven_absent_and_still_fresh_is_sent_with_the_same_id(ledger: Ledger, server: ToyServer) -> None:
    order = send(ledger, plain())
    left_by_a_dead_worker(ledger, server, order, [None])
    server.book_is_complete = True

    with working(ledger, server):
        found = until(ledger, order, "accepted")

    assert [each["id"] for each in server.sent()] == [order]
    assert [each["state"] for each in found["history"]][:6] == [
        "queued", "submitting", "unknown", "queued", "submitting", "accepted"]


def test_absence_is_not_believed_before_the_send_deadline_and_the_settle_time_are_over(
        ledger: Ledger, server: ToyServer) -> None:
    order = send(ledger, plain())
    left_by_a_dead_worker(ledger, server, order, [None])
    server.book_is_complete = True

    def looked_up_twice() -> bool:
        return sum(each["path"].startswith("/find/") for each in server.requests) >= 2

    with working(ledger, server):
        wait_for(looked_up_twice)
        server.placed[order] = {}  # the write of the dead worker arrives after all
        found = until(ledger, order, "accepted")

    assert server.sent() == [] and "found at the broker" in found["reason"]


def test_a_book_that_was_read_too_early_proves_nothing_however_late_it_is_heard(ledger: Ledger, server: ToyServer) -> None:
    server.script.append("drop_before")
    server.book_is_complete = True
    order = send(ledger, plain())

    def booked_late_and_told_later() -> None:
        if not server.placed:
            server.placed[order] = {}
            threading.Event().wait(0.8)  # the slow answer that is played: longer than the settle time

    server.on_find = booked_late_and_told_later
    with working(ledger, server, settings=read_settings({**FAST, "BRIDGE_SETTLE": "500ms"})):
        found = until(ledger, order, "accepted")

    assert [each["id"] for each in server.sent()] == [order] and "found at the broker" in found["reason"]


def test_what_is_proven_absent_and_too_old_by_then_expires(ledger: Ledger, server: ToyServer) -> None:
    order = send(ledger, plain(), max_age_ms=300)
    left_by_a_dead_worker(ledger, server, order, [None])
    server.book_is_complete = True

    with working(ledger, server):
        found = until(ledger, order, "expired")

    assert server.sent() == [] and "max_age" in found["reason"]


def test_the_second_half_of_an_oco_is_found_through_the_recorded_plan(ledger: Ledger, server: ToyServer) -> None:
    order = send(ledger, oco())
    left_by_a_dead_worker(ledger, server, order, [Reply.of({"id": 1}), None])
    server.placed |= {order: {}, f"{order}.other": {}}

    with working(ledger, server):
        until(ledger, order, "accepted")

    assert server.sent() == []


def test_the_second_half_that_is_proven_absent_is_placed_and_the_first_is_not_placed_again(
        ledger: Ledger, server: ToyServer) -> None:
    order = send(ledger, oco())
    left_by_a_dead_worker(ledger, server, order, [Reply.of({"id": 1}), None])
    server.placed[order] = {}
    server.book_is_complete = True

    with working(ledger, server):
        until(ledger, order, "accepted")

    assert [each["id"] for each in server.sent()] == [f"{order}.other"]


def test_a_found_first_half_is_followed_by_the_second(ledger: Ledger, server: ToyServer) -> None:
    order = send(ledger, oco())
    left_by_a_dead_worker(ledger, server, order, [None])
    server.placed[order] = {}

    with working(ledger, server):
        until(ledger, order, "accepted")

    assert [each["id"] for each in server.sent()] == [f"{order}.other"]


def test_half_an_order_whose_other_half_cannot_be_looked_up_is_told_to_a_person(
        ledger: Ledger, server: ToyServer) -> None:
    order = send(ledger, oco())
    left_by_a_dead_worker(ledger, server, order, [Reply.of({"id": 1}), None])

    with working(ledger, server):
        wait_for(lambda: ledger.orders(waiting=True))

    assert state(ledger, order) == "unknown" and server.sent() == []


def test_a_doubtful_second_half_is_cleared_up_without_a_crash_too(ledger: Ledger, server: ToyServer) -> None:
    server.script.extend(["ok", "drop_before"])
    server.book_is_complete = True
    order = send(ledger, oco())

    with working(ledger, server):
        until(ledger, order, "accepted")

    assert [each["id"] for each in server.sent()] == [order, f"{order}.other", f"{order}.other"]
    assert set(server.placed) == {order, f"{order}.other"}


def test_an_answer_that_was_lost_is_not_doubled_when_the_book_is_complete(ledger: Ledger, server: ToyServer) -> None:
    server.script.append("drop_after")
    server.book_is_complete = True
    order = send(ledger, plain())

    with working(ledger, server):
        until(ledger, order, "accepted")

    assert [each["id"] for each in server.sent()] == [order]


def test_a_plan_that_does_not_make_the_recorded_call_is_told_to_a_person(
        ledger: Ledger, server: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    order = send(ledger, plain())
    left_by_a_dead_worker(ledger, server, order, [None])
    server.book_is_complete = True
    original = ToyBroker._call

    def changed(self: ToyBroker, *args: object, **more: object) -> Call:
        return replace(original(self, *args, **more), body={"id": "another"})  # type: ignore[arg-type]

    monkeypatch.setattr(ToyBroker, "_call", changed)
    with working(ledger, server):
        wait_for(lambda: ledger.orders(waiting=True))

    assert state(ledger, order) == "unknown" and server.sent() == []
    assert "on record" in ledger.orders(waiting=True)[0]["reason"]


def test_a_damaged_order_is_told_to_a_person_and_not_traded(ledger: Ledger, server: ToyServer, redis_url: str) -> None:
    order, good = send(ledger, plain(), "bad"), send(ledger, plain(), "good")
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    payload = client.hget(f"bridge:{{toy}}:order:{order}", "order")
    client.hset(f"bridge:{{toy}}:order:{order}", "order", str(payload).replace("5300.25", "5399.25"))

    with working(ledger, server):
        until(ledger, good, "accepted")

    assert state(ledger, order) == "refused" and "damaged" in ledger.orders(waiting=True)[0]["reason"]
    assert [each["id"] for each in server.sent()] == [good]


def test_orders_that_the_lane_no_longer_names_are_told_to_a_person(ledger: Ledger, server: ToyServer,
                                                                   redis_url: str) -> None:
    sent = send(ledger, plain(), "being sent")
    left_by_a_dead_worker(ledger, server, sent, [None])
    queued, gone, good = (send(ledger, plain(), each) for each in ("queued", "gone", "good"))
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    for entry, order in ledger.lane("toy"):
        if order != good:
            client.xdel("bridge:{toy}:lane", entry)
    client.delete(f"bridge:{{toy}}:order:{gone}")
    assert sorted(ledger.astray("toy")) == sorted([sent, queued, gone])

    with working(ledger, server):
        until(ledger, good, "accepted")

    assert (state(ledger, queued), state(ledger, sent)) == ("refused", "unknown")
    assert {each["id"] for each in ledger.orders(waiting=True)} == {queued, sent}
    assert [each["id"] for each in server.sent()] == [good] and ledger.astray("toy") == [gone]


def call(step: str, *, write: bool = True) -> Call:
    return Call(operation="place", method="POST", url="http://127.0.0.1:1/place", step=step, write=write, body={"id": step})


def test_only_the_last_attempt_is_read_and_what_was_not_executed_is_not_played_back() -> None:
    first, second = call("entry"), call("other")
    held = reply_record(first, Reply(status=429), 1, held=True)
    records = [begin_record(GIVEN, 1), call_record(second, 1), begin_record({**GIVEN, "attempt": 2}, 1),
               call_record(first, 1), held, call_record(first, 1), reply_record(first, Reply.of({"id": 1}), 1),
               call_record(second, 1)]

    attempt = last_attempt(records)

    assert attempt is not None and attempt.number == 2
    assert [(each.step, each.reply is None, each.held) for each in attempt.exchanges] == [
        ("entry", False, False), ("other", True, False)]
    assert attempt.last_write == 1 and attempt.writes_before(1) and not attempt.writes_before(0)


def test_playing_back_a_call_that_is_not_the_recorded_one_is_refused() -> None:
    def plan() -> object:
        yield call("entry")

    attempt = last_attempt([begin_record(GIVEN, 1), call_record(call("another"), 1),
                            reply_record(call("another"), Reply.of({}), 1)])

    assert attempt is not None
    with pytest.raises(Diverged):
        play_back(plan(), attempt.exchanges)  # type: ignore[arg-type]
