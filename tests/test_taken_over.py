"""What a worker does with a lane that another left, and what the troubles of other lanes and of odd jobs cost it: nothing."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator
from typing import Any

import pytest
from structlog.testing import capture_logs

import bridge.worker
from bridge.call import Accepted, Call, Reply
from bridge.errors import LedgerAway
from bridge.ledger import Lease, Ledger
from bridge.order import Order
from bridge.playback import last_attempt, play_back
from bridge.settings import read_settings
from bridge.views import begin_record, call_record, reply_record
from tests.rig import ToyServer, delivery, left_by_a_dead_worker, plain, wait_for
from tests.test_lane import FAST, send, state, until, working
from tests.test_recovery import GIVEN, call

PATIENT = {**FAST, "BRIDGE_LOOKUP_PATIENCE": "3s"}


def looked_up(server: ToyServer, order: str) -> int:
    return sum(each["path"] == f"/find/{order}" for each in server.requests)


@pytest.mark.parametrize("findable", [True, False])
def test_a_cancel_knows_of_an_order_that_was_being_sent_behind_one_that_waits(ledger: Ledger, server: ToyServer,
                                                                             findable: bool) -> None:
    waits = send(ledger, plain(symbol="NQZ6"), "waits")
    sent = send(ledger, plain(), "being sent")
    left_by_a_dead_worker(ledger, server, sent, [None])
    server.placed[sent], server.findable = {}, findable
    server.script.extend([(429, b"")] * 4)
    cancel = send(ledger, Order(kind="cancel", symbol="ESZ6"), "cancel")

    with working(ledger, server):
        until(ledger, cancel, "accepted")
        until(ledger, waits, "accepted")

    assert [each["id"] for each in server.sent("/cancel")][-1] == sent
    assert looked_up(server, sent) >= 1


@pytest.mark.parametrize("part", ["retire", "astray", "due_look_ups", "sweep"])
@pytest.mark.parametrize("error", [LedgerAway("the server of another lane is away"), ValueError("a fault of ours")])
def test_an_odd_job_that_fails_keeps_no_doubt_from_being_cleared_up(
        ledger: Ledger, server: ToyServer, monkeypatch: pytest.MonkeyPatch, part: str, error: Exception) -> None:
    monkeypatch.setattr(bridge.worker, "_TEND_EVERY_S", 0.0)

    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(ledger, part, fails)
    order = send(ledger, plain())
    left_by_a_dead_worker(ledger, server, order, [None])

    with working(ledger, server):
        wait_for(lambda: ledger.orders(waiting=True))

    assert state(ledger, order) == "unknown" and server.sent() == []


def test_a_ledger_that_is_away_for_moments_does_not_begin_the_looking_up_anew(
        ledger: Ledger, server: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    real, times = ledger.wait_after, itertools.count(1)

    def wait_after(*given: Any) -> str:
        if not next(times) % 3:
            raise LedgerAway("for a moment")
        return real(*given)

    monkeypatch.setattr(ledger, "wait_after", wait_after)
    order = send(ledger, plain())
    left_by_a_dead_worker(ledger, server, order, [None])
    server.book_is_complete = True

    with capture_logs() as logs, working(ledger, server, settings=read_settings(PATIENT)):
        until(ledger, order, "accepted")

    assert sum(each["event"] == "owns the lane" for each in logs) == 1


def test_a_server_that_is_away_costs_no_other_lane_its_lease(ledger: Ledger, server: ToyServer,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"far{number}" for number in range(6)]
    away, over = threading.Event(), threading.Event()
    renewed: list[str] = []
    real = ledger.take_lease

    def take(account: str, owner: str, ttl_ms: int) -> Lease | None:
        if account in names and away.is_set():
            over.wait(2.0)  # a server that does not even refuse: the time-out is played
            raise LedgerAway("that server is away")
        renewed.append(account)
        return real(account, owner, ttl_ms)

    monkeypatch.setattr(ledger, "take_lease", take)
    with capture_logs() as logs, working(ledger, server, *names, "toy"):
        wait_for(lambda: {*names, "toy"} <= set(renewed))
        away.set()
        so_far = renewed.count("toy")
        wait_for(lambda: renewed.count("toy") >= so_far + 4)  # a whole lease later
        over.set()

    assert not [each for each in logs if each["event"].startswith("lost the lane") and each["account"] == "toy"]


def test_a_cancel_behind_a_hundred_that_have_to_wait_does_not_wait_for_them(ledger: Ledger, server: ToyServer) -> None:
    head = send(ledger, plain(symbol="NQZ6"), "head")
    left_by_a_dead_worker(ledger, server, head, [None])
    for number in range(101):
        ledger.enqueue(delivery(f"list {number}", ("toy", plain(symbol="NQZ6")), ("toy", Order(kind="cancel", symbol="ESZ6"))))
    cancel = send(ledger, Order(kind="cancel", symbol="YMZ6"), "cancel")

    with working(ledger, server, settings=read_settings({**FAST, "BRIDGE_LOOKUP_PATIENCE": "30s"})):
        until(ledger, cancel, "accepted")
        assert state(ledger, head) == "unknown" and len(ledger.exits("toy")) == 101


# -- what was read twice ---------------------------------------------------------------------------------------------


def written(*exchanges: tuple[Call, str]) -> list[str]:
    """The records of an attempt with these calls and replies; '': none."""
    records = [begin_record(GIVEN, 1)]
    for made, text in exchanges:
        records.append(call_record(made, 1))
        if text:
            records.append(reply_record(made, Reply.of(text), 1))
    return records


def plan() -> Generator[Call, Reply, Accepted]:
    """The second write says what was read last."""
    yield call("entry")
    while (answer := (yield call("poll", write=False))).text == "wait":
        pass
    yield call("book", write=False)
    yield call(f"other {answer.text}")
    return Accepted()


@pytest.mark.parametrize("before", [
    [], ["ready"], ["wait"], ["wait", "ready"], ["ready", "book"], ["wait", "ready", "book"], ["late"], ["late", "book"]])
def test_what_was_read_by_a_worker_that_lost_its_lane_is_not_played_back(before: list[str]) -> None:
    entry, poll, book, other = call("entry"), call("poll", write=False), call("book", write=False), call("other ready")
    lost = [(book, "whole") if each == "book" else (poll, each) for each in before]

    attempt = last_attempt(written((entry, "yes"), *lost, (poll, "ready"), (book, "whole"), (other, "")))

    assert attempt is not None
    assert play_back(plan(), attempt.exchanges[: attempt.last_write]) == other  # type: ignore[arg-type]


def test_reads_of_different_things_are_all_played_back() -> None:
    entry, poll, book, other = call("entry"), call("poll", write=False), call("book", write=False), call("other")

    attempt = last_attempt(written((poll, "ready"), (entry, "yes"), (poll, "ready"), (book, "a"), (book, "b"), (other, "")))

    assert attempt is not None
    assert [each.step for each in attempt.exchanges] == ["poll", "entry", "poll", "book", "book", "other"]
