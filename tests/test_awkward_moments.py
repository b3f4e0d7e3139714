"""What comes late, or twice, or in the middle of an order."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from bridge.ledger import Ledger
from bridge.settings import read_settings
from bridge.worker import Worker
from tests.book_broker import BookBroker, BookServer
from tests.rig import ToyServer, delivery, plain, toy_account, wait_for
from tests.test_exits import cancel, close, late
from tests.test_lane import FAST, oco, send, until, working


@pytest.fixture
def book_server() -> Iterator[BookServer]:
    server = BookServer()
    yield server
    server.close()


def test_a_cancel_that_was_left_half_written_does_not_end_an_order_received_after_it(
        ledger: Ledger, server: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(key: str) -> str:
        return str(ledger.enqueue(delivery(key, ("second", plain(ref="r")), home="second")).orders[0]["id"])

    meant = entry("meant")
    with working(ledger, server, "toy", "second"):
        wait_for(lambda: ledger.state_of("second", meant) == "accepted")
        made = late(ledger, monkeypatch, "cancel", cancel(ref="r"))
        at = ledger.lane_clock("second")
        wait_for(lambda: ledger.lane_clock("second") > at + 2)
        newer = entry("newer")
        wait_for(lambda: ledger.state_of("second", newer) == "accepted")

        ledger.sweep("toy", 0)
        until(ledger, made.orders[1].id, "accepted")

    assert [each["id"] for each in server.sent("/cancel")] == [meant]


def test_half_an_order_that_a_close_covers_is_taken_back_even_when_the_reply_to_that_is_lost(
        ledger: Ledger, book_server: BookServer) -> None:
    exits: list[str] = []

    def close_comes() -> str:
        exits.append(send(ledger, close(), "close"))
        return "ok"

    book_server.script.extend([close_comes, "drop_before"])
    entry = send(ledger, oco())
    worker = Worker(read_settings(FAST), {"toy": toy_account(book_server.url)}, {"toy": BookBroker()}, ledger)
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        found = until(ledger, entry, "rejected")
        until(ledger, exits[0], "accepted")
    finally:
        stop.set()
        thread.join(10)

    assert "cancel or close" in found["reason"] and not book_server.standing(entry)
    assert not ledger.orders(waiting=True)


def test_a_second_half_that_is_lost_twice_and_proven_absent_twice_is_placed_in_the_end(
        ledger: Ledger, server: ToyServer) -> None:
    server.script.extend(["ok", "drop_before", "drop_before"])
    server.book_is_complete = True
    entry = send(ledger, oco())

    with working(ledger, server):
        until(ledger, entry, "accepted")

    assert [each["id"] for each in server.sent()] == [entry, *[f"{entry}.other"] * 3]
