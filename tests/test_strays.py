"""Lanes of accounts that no worker has: what stands in them is told, and never passes for something that goes on."""

from __future__ import annotations

import itertools

import pytest
import redis

import bridge.worker
from bridge.errors import LedgerAway
from bridge.ledger import Lease, Ledger
from bridge.settings import read_settings
from bridge.worker import Worker
from tests.rig import ToyBroker, ToyServer, delivery, left_by_a_dead_worker, plain, toy_account, wait_for
from tests.test_lane import FAST, running, state, until, working

NOBODY = "no worker has the account renamed"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.worker, "_STRAYS_EVERY_S", 0.05)


def sent_to(ledger: Ledger, account: str, key: str = "k", max_age_ms: int = 60_000) -> str:
    made = delivery(key, (account, plain()), home=account, max_age_ms=max_age_ms)
    return str(ledger.enqueue(made).orders[0]["id"])


def half_sent(ledger: Ledger, server: ToyServer) -> str:
    order = sent_to(ledger, "renamed")
    left_by_a_dead_worker(ledger, server, order, [None], account="renamed")
    return order


def rounds(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The accounts whose lanes were tended, each time."""
    tended: list[str] = []
    real = Worker._tend_stray

    def tend(self: Worker, name: str) -> None:
        real(self, name)
        tended.append(name)

    monkeypatch.setattr(Worker, "_tend_stray", tend)
    return tended


def test_what_was_being_sent_there_is_told_once(ledger: Ledger, server: ToyServer,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    tended = rounds(ledger, monkeypatch)
    order = half_sent(ledger, server)

    with working(ledger, server):
        wait_for(lambda: ledger.orders(waiting=True))
        so_far = len(tended)
        wait_for(lambda: len(tended) >= so_far + 3)

    found = ledger.order(order)
    assert found is not None and NOBODY in found["reason"] and server.sent() == []
    assert [each["state"] for each in found["history"]] == ["queued", "submitting", "unknown"]


def test_an_order_in_doubt_there_is_told_once_with_what_was_known(ledger: Ledger, server: ToyServer,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    tended = rounds(ledger, monkeypatch)
    order = half_sent(ledger, server)
    lease, stored = ledger.take_lease("renamed", "w", 1000), ledger.load("renamed", order)
    assert lease is not None and stored is not None
    ledger.settle(lease, stored, "lose", "unknown", nonce="n", reason="the reply was lost", done=False)
    ledger.release_lease(lease)

    with working(ledger, server):
        wait_for(lambda: ledger.orders(waiting=True))
        so_far = len(tended)
        wait_for(lambda: len(tended) >= so_far + 3)

    found = ledger.order(order)
    assert found is not None and found["reason"].startswith("the reply was lost; ") and NOBODY in found["reason"]
    assert [each["state"] for each in found["history"]] == ["queued", "submitting", "unknown", "unknown"]


def test_a_worker_that_has_the_account_again_finds_it_and_nobody_waits_any_more(ledger: Ledger,
                                                                                server: ToyServer) -> None:
    order = half_sent(ledger, server)
    with working(ledger, server):
        wait_for(lambda: ledger.orders(waiting=True))

    server.placed[order] = {}
    with working(ledger, server, "renamed"):
        until(ledger, order, "accepted")

    assert ledger.orders(waiting=True) == [] and server.sent() == []


def test_a_lane_that_is_without_an_owner_for_a_moment_alarms_nobody(ledger: Ledger, server: ToyServer,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own worker takes it again and again, as when it is replaced."""
    tended = rounds(ledger, monkeypatch)
    half_sent(ledger, server)
    real, asked = ledger.take_lease, itertools.count(1)

    def take(account: str, owner: str, ttl_ms: int) -> Lease | None:
        if account == "renamed" and not next(asked) % 3:
            return None
        return real(account, owner, ttl_ms)

    monkeypatch.setattr(ledger, "take_lease", take)
    with working(ledger, server):
        wait_for(lambda: tended.count("renamed") >= 3 * bridge.worker._STRAY_ROUNDS)

    assert ledger.orders(waiting=True) == []


@pytest.mark.parametrize("damage", ["an order", "a lane"])
def test_a_damaged_one_keeps_no_other_waiting(ledger: Ledger, server: ToyServer, redis_url: str, damage: str) -> None:
    bad, next_to_it = (sent_to(ledger, "aaa", key, max_age_ms=1) for key in ("bad", "next to it"))
    good = sent_to(ledger, "bbb", "good", max_age_ms=1)
    client = redis.Redis.from_url(redis_url)
    if damage == "an order":
        client.hset(f"bridge:{{aaa}}:order:{bad}", "max_age", "2")
    else:
        client.delete("bridge:{aaa}:lane")
        client.set("bridge:{aaa}:lane", "no stream any more")

    with working(ledger, server):
        until(ledger, good, "expired")
        if damage == "an order":
            until(ledger, next_to_it, "expired")
            found = until(ledger, bad, "refused")
            assert "damaged" in found["reason"] and bad in {each["id"] for each in ledger.orders(waiting=True)}


def test_a_server_that_is_away_keeps_no_other_lane_waiting(ledger: Ledger, server: ToyServer,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    sent_to(ledger, "aaa", "away", max_age_ms=1)
    good = sent_to(ledger, "bbb", "good", max_age_ms=1)
    real = ledger.lane

    def lane(account: str, *more: object, **other: object) -> object:
        if account == "aaa":
            raise LedgerAway("that server is away")
        return real(account, *more, **other)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger, "lane", lane)
    with working(ledger, server):
        until(ledger, good, "expired")


def test_every_order_of_a_long_lane_is_looked_at(ledger: Ledger, server: ToyServer) -> None:
    for number in range(501):
        sent_to(ledger, "renamed", f"k{number}")
    last = sent_to(ledger, "renamed", "last", max_age_ms=1)

    with running(Worker(read_settings(FAST), {"toy": toy_account(server.url)}, {"toy": ToyBroker()}, ledger)):
        until(ledger, last, "expired")

    assert state(ledger, ledger.lane("renamed")[0][1], "renamed") == "queued"
