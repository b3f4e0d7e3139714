"""`bridge resolve`: a person decides what Bridge cannot know."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from bridge.cli import main
from bridge.ledger import Ledger
from bridge.order import Order
from tests.rig import ToyServer, plain, wait_for
from tests.test_lane import send, state, until, working


def resolve(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["resolve", *arguments], env={"BRIDGE_REDIS_URL": url})


@pytest.fixture
def doubtful(ledger: Ledger, server: ToyServer) -> str:
    """An order of which nobody can say whether it stands; a person was told."""
    server.script.append("drop_after")
    server.findable = False
    order = send(ledger, plain())
    with working(ledger, server):
        wait_for(lambda: ledger.orders(waiting=True))
    return order


@pytest.mark.parametrize("verdict", ["accepted", "rejected"])
def test_a_person_decides_an_unknown_order(ledger: Ledger, redis_url: str, doubtful: str, verdict: str) -> None:
    result = resolve(redis_url, doubtful, "--as", verdict, "--json")

    assert result.exit_code == 0 and json.loads(result.stdout)["state"] == verdict
    found = ledger.order(doubtful)
    assert found is not None and found["state"] == verdict and "a person says" in found["reason"]
    assert ledger.orders(waiting=True) == []
    assert [each.id for each in ledger.open_orders("toy")] == ([doubtful] if verdict == "accepted" else [])


def test_what_is_certain_cannot_be_decided_again(redis_url: str, ledger: Ledger, server: ToyServer) -> None:
    order = send(ledger, plain())
    with working(ledger, server):
        until(ledger, order, "accepted")

    result = resolve(redis_url, order, "--as", "rejected")

    assert result.exit_code == 1 and "not unknown" in result.output
    assert state(ledger, order) == "accepted"


def test_an_alarm_is_ticked_off(redis_url: str, ledger: Ledger, server: ToyServer) -> None:
    server.script.append((400, b"no"))
    order = send(ledger, Order(kind="close", symbol="ESZ6"))
    with working(ledger, server):
        until(ledger, order, "rejected")
    assert [each["id"] for each in ledger.orders(waiting=True)] == [order]

    assert resolve(redis_url, order, "--as", "seen").exit_code == 0

    assert ledger.orders(waiting=True) == [] and state(ledger, order) == "rejected"
    assert resolve(redis_url, order, "--as", "seen").exit_code == 1


def test_an_order_that_is_not_there_is_named(redis_url: str) -> None:
    result = resolve(redis_url, "o123", "--as", "seen")

    assert result.exit_code == 1 and "o123" in result.output
