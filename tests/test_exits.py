"""A way out is worth more than a way in: cancels and closes withdraw, overtake and repeat themselves."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.ledger import Ledger
from bridge.order import Order
from bridge.record import Delivery
from tests.rig import ToyServer, delivery, left_by_a_dead_worker, plain, wait_for
from tests.test_lane import oco, send, state, until, working


def close(symbol: str = "ESZ6") -> Order:
    return Order(kind="close", symbol=symbol)


def cancel(**what: Any) -> Order:
    return Order(kind="cancel", **what)


def test_a_close_withdraws_the_queued_entries_of_its_contract_however_it_is_written(ledger: Ledger) -> None:
    covered, other = send(ledger, plain(), "covered"), send(ledger, plain(symbol="NQZ6"), "other")

    exit_id = send(ledger, close("ES 12-26"), "close")

    found = ledger.order(covered)
    assert found is not None and found["state"] == "cancelled" and exit_id in found["reason"]
    assert state(ledger, other) == "queued" and [order for _, order in ledger.lane("toy")] == [other, exit_id]


def test_an_entry_of_the_same_alert_as_the_close_is_not_covered_by_it(ledger: Ledger) -> None:
    answer = ledger.enqueue(delivery("turn", ("toy", close()), ("toy", plain())))

    assert [each["state"] for each in answer.orders] == ["queued", "queued"]


def late(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, key: str, order: Order) -> Delivery:
    """An alert whose receiver died between its two lanes."""
    made = delivery(key, ("toy", plain(symbol="YMZ6")), ("second", order))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "_join", killed)
        with pytest.raises(KeyboardInterrupt):
            ledger.enqueue(made)
    return made


def test_an_entry_received_before_a_close_that_reaches_the_lane_after_it_is_cancelled(
        ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    made = late(ledger, monkeypatch, "entry", plain())
    before = ledger.lane_clock("second")
    wait_for(lambda: ledger.lane_clock("second") > before + 2)
    ledger.enqueue(delivery("close", ("second", close()), home="second"))

    assert ledger.sweep("toy", 0) == 1

    found = ledger.order(made.orders[1].id)
    assert found is not None and found["state"] == "cancelled" and "covers it" in found["reason"]
    assert ledger.sweep("toy", 0) == 0


def test_a_half_written_alert_is_completed_by_a_worker(
        ledger: Ledger, server: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.worker._SWEEP_AFTER_MS", 0)
    made = late(ledger, monkeypatch, "entry", plain())

    with working(ledger, server, "toy", "second"):
        wait_for(lambda: ledger.state_of("second", made.orders[1].id) == "accepted")

    assert sorted(each["id"] for each in server.sent()) == sorted(order.id for order in made.orders)


def test_a_close_does_not_wait_for_an_unknown_entry(ledger: Ledger, server: ToyServer) -> None:
    server.script.append("drop_after")
    server.findable = False
    entry = send(ledger, plain())

    with working(ledger, server):
        until(ledger, entry, "unknown")
        exit_id = send(ledger, close("NQZ6"), "close")
        until(ledger, exit_id, "accepted")
        assert not ledger.orders(waiting=True)  # the entry is still being looked up
        wait_for(lambda: ledger.orders(waiting=True))

    assert state(ledger, entry) == "unknown"


def test_a_close_overtakes_an_entry_that_has_to_wait(ledger: Ledger, server: ToyServer) -> None:
    server.script.extend(["drop_before"])
    server.findable = False
    first = send(ledger, plain(symbol="NQZ6"), "first")
    behind = send(ledger, plain(symbol="NQZ6"), "behind")

    with working(ledger, server):
        until(ledger, first, "unknown")
        exit_id = send(ledger, close(), "close")
        until(ledger, exit_id, "accepted")
        assert state(ledger, behind) == "queued"
        until(ledger, behind, "accepted")


@pytest.mark.parametrize("verdict", ["accepted", "rejected"])
def test_a_close_is_repeated_when_an_unknown_entry_turns_out_to_stand(ledger: Ledger, server: ToyServer,
                                                                     verdict: str) -> None:
    server.script.append("drop_after")
    server.findable = False
    entry = send(ledger, plain())

    with working(ledger, server):
        wait_for(lambda: ledger.orders(waiting=True))
        exit_id = send(ledger, close(), "close")
        until(ledger, exit_id, "accepted")
        sent = len(server.sent())
        answer = ledger.resolve("toy", entry, verdict, "a person looked", "forever")
        if verdict == "accepted":
            wait_for(lambda: len(server.sent()) == sent + 1 and state(ledger, exit_id) == "accepted")

    assert answer == ("ok", "repeated" if verdict == "accepted" else "")
    found = ledger.order(exit_id)
    assert found is not None
    assert [each["state"] for each in found["history"]].count("queued") == (2 if verdict == "accepted" else 1)


def test_a_close_is_not_repeated_over_a_newer_entry_but_told(ledger: Ledger, server: ToyServer) -> None:
    server.script.append("drop_after")
    server.findable = False
    entry = send(ledger, plain())

    with working(ledger, server):
        wait_for(lambda: ledger.orders(waiting=True))
        until(ledger, send(ledger, close(), "close"), "accepted")
        until(ledger, send(ledger, plain(), "newer"), "accepted")
        answer = ledger.resolve("toy", entry, "accepted", "a person looked", "forever")

    assert answer == ("ok", "alarm")
    assert "newer entry" in ledger.orders(waiting=True)[0]["reason"]


def test_an_entry_that_was_being_sent_when_the_close_came_is_not_queued_again(ledger: Ledger, server: ToyServer) -> None:
    entry = send(ledger, plain())
    left_by_a_dead_worker(ledger, server, entry, [None])
    server.book_is_complete = True
    send(ledger, close(), "close")

    with working(ledger, server):
        found = until(ledger, entry, "cancelled")

    assert "covers it" in found["reason"]
    assert [each["id"] for each in server.sent() if each["id"] == entry] == []


def test_half_an_order_is_taken_back_when_a_close_covers_it(ledger: Ledger, server: ToyServer) -> None:
    came: list[str] = []

    def close_comes() -> Any:
        came.append(send(ledger, close(), "close"))
        return (429, b"")

    server.script.extend(["ok", close_comes])
    entry = send(ledger, oco())

    with working(ledger, server):
        found = until(ledger, entry, "rejected")
        until(ledger, came[0], "accepted")

    assert "cancel or close" in found["reason"]
    assert [each["id"] for each in server.sent("/cancel")] == [entry]
    assert [each["id"] for each in server.sent()][:2] == [entry, f"{entry}.other"]


def test_a_cancel_that_leaves_an_entry_naked_is_told(ledger: Ledger, server: ToyServer) -> None:
    server.script.append((200, b'{"id": 1}'))
    entry = plain()
    stop = plain(symbol="ESZ6", side="sell", ref="stop")

    answer = ledger.enqueue(delivery("list", ("toy", entry), ("toy", stop)))
    left_by_a_dead_worker(ledger, server, str(answer.orders[0]["id"]), [None])
    send(ledger, cancel(ref="stop"), "cancel")

    waiting = ledger.orders(waiting=True)
    assert [each["id"] for each in waiting] == [answer.orders[1]["id"]]
    assert "look whether it is protected" in waiting[0]["reason"]


def test_a_person_resolves_only_what_is_unknown_and_ticks_off_only_what_waits(ledger: Ledger, server: ToyServer) -> None:
    server.script.append("drop_after")
    server.findable = False
    order = send(ledger, plain())
    assert ledger.resolve("toy", order, "accepted", "x", "forever") == ("state", "queued")

    with working(ledger, server):
        wait_for(lambda: ledger.orders(waiting=True))

    assert ledger.resolve("toy", order, "seen", "x") == ("state", "unknown")
    assert ledger.resolve("toy", order, "rejected", "a person: it is not there") == ("ok", "")
    assert state(ledger, order) == "rejected" and ledger.orders(waiting=True) == []
    assert ledger.resolve("toy", order, "rejected", "again") == ("state", "rejected")
