"""An alert for several accounts whose receiver died, or could not reach one of them, is completed; what cannot be is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

import bridge.worker
from bridge.errors import DamagedRecord, LedgerAway
from bridge.ledger import Ledger
from bridge.record import Delivery, NewOrder
from bridge.worker import sweep
from tests.rig import ToyServer, delivery, plain, wait_for
from tests.test_lane import state, working


def cut_off(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, key: str, *accounts: str, home: str = "toy") -> Delivery:
    """An alert whose receiver died when its home lane was written."""
    made = delivery(key, *((account, plain()) for account in accounts), home=home)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "_join", killed)
        with pytest.raises(KeyboardInterrupt):
            ledger.enqueue(made)
    return made


def resent(ledger: Ledger, key: str, *accounts: str) -> dict[str, tuple[str, str]]:
    """Account → state and reason, as a later delivery of the alert is answered."""
    answer = ledger.enqueue(delivery(key, *((account, plain()) for account in accounts), nonce="resent", window=9))
    return {each["account"]: (each["state"], each.get("reason", "")) for each in answer.orders}


class Nodes:
    """Servers of single accounts that are away."""

    def __init__(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, *away: str) -> None:
        self.away, self.asked = set(away), list[str]()
        real = ledger._join

        def join(account: str, made: Delivery, orders: Sequence[NewOrder], *rest: int) -> dict[str, tuple[str, str]]:
            self.asked.append(account)
            if account in self.away:
                raise LedgerAway(f"the server of {account} is away")
            return real(account, made, orders, *rest)

        monkeypatch.setattr(ledger, "_join", join)


def damage(redis_url: str, alert: str, field: str, value: str) -> None:
    redis.Redis.from_url(redis_url).hset(f"bridge:{{toy}}:alert:{alert}", field, value)


def test_it_is_completed_though_no_worker_has_its_home_account(ledger: Ledger, server: ToyServer,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.worker, "_SWEEP_AFTER_MS", 0)
    made = cut_off(ledger, monkeypatch, "k", "second", home="gone")

    with working(ledger, server, "toy", "second"):
        wait_for(lambda: server.sent())

    assert [each["id"] for each in server.sent()] == [made.orders[0].id]


def test_an_account_whose_server_is_away_keeps_no_other_waiting_and_follows_when_it_is_back(
        ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(ledger, monkeypatch, "away")
    made = delivery("k", ("toy", plain()), ("away", plain()), ("zebra", plain()))

    with pytest.raises(LedgerAway, match="server of away"):
        ledger.enqueue(made)
    assert (state(ledger, made.orders[1].id, "away"), state(ledger, made.orders[2].id, "zebra")) == ("", "queued")

    nodes.away.clear()
    assert ledger.sweep("toy", 0) == 1 and ledger.sweep("toy", 0) == 0
    assert state(ledger, made.orders[1].id, "away") == "queued" and len(ledger.lane("zebra")) == 1


def test_a_sweep_completes_what_it_can_and_asks_a_server_that_is_away_once(ledger: Ledger,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = [cut_off(ledger, monkeypatch, f"stuck {n}", "toy", "away", "zebra") for n in range(3)]
    fine = cut_off(ledger, monkeypatch, "fine", "toy", "second")
    nodes = Nodes(ledger, monkeypatch, "away")

    with pytest.raises(LedgerAway):
        ledger.sweep("toy", 0)

    assert state(ledger, fine.orders[1].id, "second") == "queued"
    assert [state(ledger, each.orders[2].id, "zebra") for each in stuck] == ["queued"] * 3
    assert nodes.asked.count("away") == 1


def test_a_resend_of_a_damaged_one_is_told_that_its_orders_are_unknown(ledger: Ledger, redis_url: str,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    made = cut_off(ledger, monkeypatch, "k", "toy", "second")
    damage(redis_url, made.id, "body", "{damaged}")

    before = resent(ledger, "k", "toy", "second")
    with pytest.raises(DamagedRecord):
        ledger.sweep("toy", 0)
    after = resent(ledger, "k", "toy", "second")

    assert before == after and before["toy"] == ("queued", "")
    assert before["second"][0] == "unknown" and "damaged" in before["second"][1]
    assert ledger.order(made.orders[1].id) is None


@pytest.mark.parametrize(("field", "value"), [("body", "{damaged}"), ("orders", "[{]"), ("raw", "soon"), ("", "")])
def test_a_damaged_one_is_told_once_and_keeps_no_other_waiting(ledger: Ledger, redis_url: str,
                                                              monkeypatch: pytest.MonkeyPatch, field: str,
                                                              value: str) -> None:
    made, fine = (cut_off(ledger, monkeypatch, key, "toy", "second") for key in ("damaged", "fine"))
    if field:
        damage(redis_url, made.id, field, value)
    else:
        redis.Redis.from_url(redis_url).delete(f"bridge:{{toy}}:alert:{made.id}")
    monkeypatch.setattr(bridge.worker, "_SWEEP_AFTER_MS", 0)

    with capture_logs() as logs:
        sweep(ledger, "toy")
        assert state(ledger, fine.orders[1].id, "second") == "queued" and ledger.order(made.orders[1].id) is None
        sweep(ledger, "toy")

    told = [each for each in logs if "told to a person" in each["event"]]
    assert len(told) == 1 and made.id in told[0]["reason"]


def test_the_alerts_say_of_a_damaged_one_what_became_of_it(ledger: Ledger, redis_url: str,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    made = cut_off(ledger, monkeypatch, "k", "toy", "second")
    damage(redis_url, made.id, "age", "1")

    with pytest.raises(DamagedRecord):
        ledger.sweep("toy", 0)

    assert "are not queued" in ledger.alerts()[0]["reason"]


def test_an_order_whose_record_is_gone_is_never_said_to_be_queued(ledger: Ledger, redis_url: str) -> None:
    made = delivery("k", ("toy", plain()), ("second", plain()))
    ledger.enqueue(made)
    redis.Redis.from_url(redis_url).delete(f"bridge:{{second}}:order:{made.orders[1].id}")

    found = resent(ledger, "k", "toy", "second")

    assert found["toy"][0] == "queued" and found["second"][0] == "unknown" and "no record" in found["second"][1]


def test_what_was_refused_when_it_was_received_stays_so_in_the_answer(ledger: Ledger, redis_url: str) -> None:
    made = delivery("k", ("toy", plain()), ("second", plain()))
    ledger.enqueue(made)
    client: Any = redis.Redis.from_url(redis_url, decode_responses=True)
    kept = json.loads(client.hget(f"bridge:{{toy}}:alert:{made.id}", "orders"))
    damage(redis_url, made.id, "orders", json.dumps([kept[0], {**kept[1], "state": "expired"}]))
    client.delete(f"bridge:{{second}}:order:{made.orders[1].id}")

    assert resent(ledger, "k", "toy", "second")["second"][0] == "expired"
