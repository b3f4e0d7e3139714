"""A worker that is stopped (SIGSTOP) at any step, for longer than its lease and its send deadline, and then goes on.

Its successor, a second real worker, clears up. Whatever step it was: one order at the broker at most, an end with a name,
and the one that slept sends nothing. The steps are met exactly, at gates between the processes, not by waiting.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bridge.embedded import binary
from tests.e2e.pair import PLACES, SEND_WITHIN_S, SETTLE_S, Pair, Slept, limit_order, pair
from tests.rig import wait_for
from tests.wait import not_at_midnight_in_india


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    binary()
    with pair(tmp_path_factory.mktemp("two")) as found:
        yield found


def wakes_up_too_late(sleeper: Slept, order: str) -> None:
    """It goes on, and learns that the lane is another's: what it does about the order ends there."""
    sleeper.go_on()
    wait_for(lambda: sleeper.said("the lane is no longer ours", order))


def placed(two: Pair, account: str, order: str) -> list[dict[str, Any]]:
    """The calls on record that placed the order, with their replies."""
    found = two.ledger.order(order)
    assert found is not None
    return [each for each in found["calls"] if each["method"] == "POST"]


def test_stopped_before_an_order_is_on_record_it_sends_nothing(two: Pair) -> None:
    alert, sleeper = limit_order("nt"), two.the_owner("nt")
    hold = two.on_record("submit", alert.orders[0].id, sleeper)
    order = two.queue(alert)
    hold.wait()

    two.taken_from("nt", sleeper)
    found = two.until(order, "accepted")
    hold.let_go()  # what it had asked for reaches the ledger now, with a fence that is no longer good
    wakes_up_too_late(sleeper, order)

    assert len(two.sent("nt", found)) == 1
    assert [each["state"] for each in found["history"]] == ["queued", "submitting", "accepted"]


@pytest.mark.parametrize("account", ["nt", "pf"])
def test_stopped_between_record_and_first_byte_it_sends_nothing_and_absence_is_believed_late(two: Pair,
                                                                                             account: str) -> None:
    if account == "pf":
        not_at_midnight_in_india()
    alert, sleeper = limit_order(account), two.the_owner(account)
    hold = two.on_record("submit", alert.orders[0].id, sleeper, answer=True)
    order = two.queue(alert)
    hold.wait()
    hold.let_go()  # "ok, you may send" lies in its socket, unread

    two.taken_from(account, sleeper)
    found = two.until(order, "accepted")
    wakes_up_too_late(sleeper, order)

    (sent_at,) = two.sent(account, found)
    assert sent_at - two.looked(account, order)[0] >= SEND_WITHIN_S + SETTLE_S - 0.15
    assert sleeper.said("the send deadline had passed", order)
    assert [each["state"] for each in found["history"]] == [
        "queued", "submitting", "unknown", "queued", "submitting", "accepted"]


def test_woken_while_its_successor_is_in_doubt_it_sends_nothing_and_says_so_on_record(two: Pair) -> None:
    alert, sleeper = limit_order("nt"), two.the_owner("nt")
    hold = two.on_record("submit", alert.orders[0].id, sleeper, answer=True)
    order = two.queue(alert)
    hold.wait()
    hold.let_go()

    two.taken_from("nt", sleeper)
    wait_for(lambda: two.looked("nt", order))
    wakes_up_too_late(sleeper, order)
    found = two.until(order, "accepted")

    assert len(two.sent("nt", found)) == 1 and sleeper.said("the send deadline had passed", order)
    assert "not sent: the send deadline had passed" in str(placed(two, "nt", order))


def test_stopped_between_record_and_first_byte_at_a_broker_that_proves_no_absence_a_person_is_told(two: Pair) -> None:
    alert, sleeper = limit_order("tv"), two.the_owner("tv")
    hold = two.on_record("submit", alert.orders[0].id, sleeper, answer=True)
    order = two.queue(alert)
    hold.wait()
    hold.let_go()

    two.taken_from("tv", sleeper)
    wait_for(lambda: two.ledger.waiting_count(["tv"]) == 1)
    wakes_up_too_late(sleeper, order)

    found = two.until(order, "unknown")
    assert not two.sent("tv", found) and "a worker ended while it was sending" in found["reason"]


def test_stopped_after_the_first_byte_what_arrives_late_is_found_and_not_sent_again(two: Pair) -> None:
    alert, sleeper = limit_order("nt"), two.the_owner("nt")
    order = alert.orders[0].id
    hold = two.broker.hold(PLACES["nt"], order, then=sleeper.stop)
    two.queue(alert)
    hold.wait()

    two.taken_from("nt", sleeper)
    wait_for(lambda: len(two.looked("nt", order)) >= 2)  # its successor saw that it is not there, twice
    hold.let_go()
    found = two.until(order, "accepted")
    wakes_up_too_late(sleeper, order)

    assert len(two.sent("nt", found)) == 1 and "found at the broker" in found["reason"]


def test_stopped_with_the_reply_unread_the_order_is_found_and_the_reply_is_kept(two: Pair) -> None:
    alert, sleeper = limit_order("nt"), two.the_owner("nt")
    order = alert.orders[0].id
    hold = two.broker.hold(PLACES["nt"], order, answer=True, then=sleeper.stop)
    two.queue(alert)
    hold.wait()
    hold.let_go()

    two.taken_from("nt", sleeper)
    found = two.until(order, "accepted")
    wakes_up_too_late(sleeper, order)

    assert len(two.sent("nt", found)) == 1 and "found at the broker" in found["reason"]
    wait_for(lambda: [each.get("reply") for each in placed(two, "nt", order)][-1:] not in ([], [None]))


def test_stopped_before_the_outcome_is_on_record_it_is_found_and_the_reply_is_kept(two: Pair) -> None:
    alert, sleeper = limit_order("nt"), two.the_owner("nt")
    order = alert.orders[0].id
    hold = two.on_record("settle", order, sleeper, "accepted")
    two.queue(alert)
    hold.wait()

    two.taken_from("nt", sleeper)
    found = two.until(order, "accepted")
    hold.let_go()
    wakes_up_too_late(sleeper, order)

    assert len(two.sent("nt", found)) == 1 and "found at the broker" in found["reason"]
    assert [each["state"] for each in found["history"]] == ["queued", "submitting", "accepted"]
    wait_for(lambda: [each["reply"]["status"] for each in placed(two, "nt", order) if each.get("reply")] == [200])
