"""The ledger keeps its promises on a cluster and under a Sentinel as on one server: real servers, on loopback."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from bridge.errors import LedgerAway
from bridge.ledger import Ledger
from bridge.settings import read_settings
from bridge.work import Account
from bridge.worker import Worker
from tests import nodes as servers
from tests import test_lane as of_lanes
from tests import test_ledger as of_the_ledger
from tests.rig import ToyBroker, ToyServer, delivery, plain, toy_account, wait_for


def promises(module: Any, *needs: str) -> list[Any]:
    """The tests of a module that need nothing but these fixtures."""
    return [pytest.param(test, id=name.removeprefix("test_")) for name, test in vars(module).items()
            if name.startswith("test_") and set(inspect.signature(test).parameters) <= set(needs)]


LEDGER = promises(of_the_ledger, "ledger", "monkeypatch")
LANES = [each for each in promises(of_lanes, "ledger", "server")[:12] if "rate_limit" not in str(each.id)
         and "cannot_be_reached" not in str(each.id)]
"""The quick ones about one order between its lane and a broker."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[servers.Node]]:
    with servers.cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Watched]:
    with servers.watched(tmp_path_factory.mktemp("watched")) as found:
        yield found


@pytest.fixture
def on_cluster(cluster: list[servers.Node]) -> Iterator[Ledger]:
    """The second address is a node's: one that is gone is passed over."""
    for one in cluster:
        one.ask("FLUSHALL")
    ledger = Ledger(f"redis+cluster://127.0.0.1:1,127.0.0.1:{cluster[0].port}")
    yield ledger
    ledger.close()


@pytest.fixture
def under_sentinel(watched: servers.Watched) -> Iterator[Ledger]:
    watched.primary.ask("FLUSHALL")
    ledger = Ledger(watched.url)
    yield ledger
    ledger.close()


def keep(promise: Callable[..., None], **fixtures: Any) -> None:
    promise(**{name: value for name, value in fixtures.items() if name in inspect.signature(promise).parameters})


@pytest.mark.parametrize("promise", LEDGER)
def test_the_ledgers_promises_hold_on_a_cluster(promise: Callable[..., None], on_cluster: Ledger,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    keep(promise, ledger=on_cluster, monkeypatch=monkeypatch)


@pytest.mark.parametrize("promise", LEDGER)
def test_the_ledgers_promises_hold_under_a_sentinel(promise: Callable[..., None], under_sentinel: Ledger,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    keep(promise, ledger=under_sentinel, monkeypatch=monkeypatch)


@pytest.mark.parametrize("promise", LANES)
def test_orders_are_carried_out_on_a_cluster(promise: Callable[..., None], on_cluster: Ledger, server: ToyServer) -> None:
    keep(promise, ledger=on_cluster, server=server)


@contextmanager
def working(ledger: Ledger, *accounts: Account) -> Iterator[Worker]:
    settings = read_settings({"BRIDGE_SECRET": "test-secret-0123456789", "BRIDGE_CALL_TIMEOUT": "1s", "BRIDGE_LEASE": "4s"})
    worker = Worker(settings, {account.name: account for account in accounts}, {"toy": ToyBroker()}, ledger)
    with of_lanes.running(worker):
        yield worker


def test_an_alert_for_accounts_on_different_nodes_of_a_cluster_is_carried_out_on_each(
        on_cluster: Ledger, cluster: list[servers.Node], server: ToyServer) -> None:
    names = ("toy", "second", "third")
    accounts = [toy_account(server.url, name) for name in names]

    answer = on_cluster.enqueue(delivery("k", *((name, plain()) for name in names)))
    with working(on_cluster, *accounts):
        wait_for(lambda: [each["state"] for each in on_cluster.orders()] == ["accepted"] * 3)

    assert sorted(each["id"] for each in server.sent()) == sorted(each["id"] for each in answer.orders)
    holding = {one.port for one in cluster for name in names if f"bridge:{{{name}}}:orders" in one.ask("KEYS", "*")}
    assert len(holding) > 1
    shown = on_cluster.order(answer.orders[1]["id"])
    assert shown is not None and [each["state"] for each in shown["history"]] == ["queued", "submitting", "accepted"]


def test_a_slot_whose_node_is_gone_refuses_and_the_others_go_on(tmp_path: Any) -> None:
    with servers.cluster(tmp_path) as nodes:
        for one in nodes:
            one.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        ledger = Ledger(f"redis+cluster://127.0.0.1:{nodes[0].port},127.0.0.1:{nodes[1].port},127.0.0.1:{nodes[2].port}")
        home = next(name for name in map(str, range(100)) if nodes[2].ask("CLUSTER", "KEYSLOT", f"{{{name}}}") > 10922)
        other = next(name for name in map(str, range(100)) if nodes[0].ask("CLUSTER", "KEYSLOT", f"{{{name}}}") < 5461)
        index = nodes[0].ask("CLUSTER", "KEYSLOT", "bridge:accounts")
        ledger.enqueue(delivery("first", (home, plain()), home=home))
        ledger.enqueue(delivery("first", (other, plain()), home=other))
        assert index < 10923, "the index of accounts lives on a node that stays"

        nodes[2].kill()

        with pytest.raises(LedgerAway):
            ledger.enqueue(delivery("second", (home, plain()), home=home))
        assert not ledger.enqueue(delivery("second", (other, plain()), home=other)).duplicate_of
        ledger.close()


def test_a_worker_and_intake_go_on_through_a_fail_over_and_nothing_is_sent_twice(tmp_path: Any, server: ToyServer) -> None:
    with servers.watched(tmp_path) as watched:
        ledger = Ledger(watched.url)
        first = ledger.enqueue(delivery("before", ("toy", plain()))).orders[0]["id"]
        with working(ledger, toy_account(server.url)):
            wait_for(lambda: ledger.state_of("toy", first) == "accepted")
            watched.primary.ask("WAIT", 1, 2000)
            wait_for(lambda: watched.replica.ask("HGET", f"bridge:{{toy}}:order:{first}", "state") == "accepted")

            watched.primary.kill()
            refused = []

            def accepted() -> Any:
                try:
                    return ledger.enqueue(delivery("after", ("toy", plain("5301")), nonce="same sender"))
                except LedgerAway as away:
                    refused.append(str(away))
                    return None

            second = wait_for(accepted).orders[0]["id"]
            wait_for(lambda: _state(ledger, second) == "accepted")
            again = ledger.enqueue(delivery("before", ("toy", plain()), nonce="sent again", window=2000))

        assert refused and watched.primary_port() == watched.replica.port
        assert again.duplicate_of and again.orders[0]["id"] == first
        assert [each["id"] for each in server.sent()] == [first, second]
        ledger.close()


def test_with_replicas_asked_for_nothing_counts_that_only_a_lost_primary_had(tmp_path: Any, server: ToyServer) -> None:
    with servers.watched(tmp_path) as watched:
        ledger = Ledger(watched.url, copies=1)
        first = ledger.enqueue(delivery("copied", ("toy", plain()))).orders[0]["id"]
        assert watched.replica.ask("EXISTS", f"bridge:{{toy}}:order:{first}") == 1

        with stopped(watched.replica):
            for sender in ("one", "the same again"):
                with pytest.raises(LedgerAway, match="0 replicas of the 1"):
                    ledger.enqueue(delivery("only here", ("toy", plain()), nonce=sender, window=60_000))
            lease = ledger.take_lease("toy", "a worker", 60_000)
            stored = ledger.load("toy", first)
            assert lease is not None and stored is not None
            for each in (ledger, Ledger(watched.url, copies=1)):  # a new connection has written nothing itself
                with pytest.raises(LedgerAway, match="0 replicas of the 1"):
                    each.submit(lease, stored, record=1, attempt=1, send_within_ms=1000, client_order_id=first, counter=None,
                                look_at_age=False, records=[])
                each.close()

        again = ledger.enqueue(delivery("only here", ("toy", plain()), nonce="again", window=60_000))
        assert again.duplicate_of and again.orders[0]["state"] == "queued"
        assert watched.replica.ask("HGET", f"bridge:{{toy}}:order:{first}", "state") == "submitting"
        ledger.close()


@contextmanager
def stopped(node: servers.Node) -> Iterator[None]:
    """A server that does nothing, though its connections stand."""
    node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.send_signal(signal.SIGCONT)


def test_replicas_are_asked_for_on_a_cluster_too(cluster: list[servers.Node]) -> None:
    ledger = Ledger(f"redis+cluster://127.0.0.1:{cluster[0].port}", copies=1)

    with pytest.raises(LedgerAway, match="0 replicas of the 1"):
        ledger.enqueue(delivery("copied", ("toy", plain())))
    ledger.close()


def _state(ledger: Ledger, order: str) -> str:
    try:
        return ledger.state_of("toy", order)
    except LedgerAway as away:
        return str(away)


def _fails_over(watched: servers.Watched) -> bool:
    """The Sentinel refuses until it has heard from the replica."""
    try:
        return bool(watched.sentinel.ask("SENTINEL", "FAILOVER", "orders"))
    except redis.exceptions.ResponseError:
        return False


def test_a_primary_that_became_a_replica_is_not_written_to(tmp_path: Any) -> None:
    with servers.watched(tmp_path) as watched:
        ledger = Ledger(watched.url)
        ledger.enqueue(delivery("before", ("toy", plain())))
        wait_for(lambda: watched.replica.ask("EXISTS", "bridge:{toy}:orders"))
        wait_for(lambda: _fails_over(watched))
        wait_for(lambda: watched.primary_port() == watched.replica.port)
        watched.primary.ask("REPLICAOF", "127.0.0.1", watched.replica.port)  # the Sentinel takes seconds to tell it

        def accepted() -> Any:
            try:
                return ledger.enqueue(delivery("after", ("toy", plain())))
            except LedgerAway:
                return None

        order = wait_for(accepted).orders[0]["id"]
        assert watched.replica.ask("EXISTS", f"bridge:{{toy}}:order:{order}") == 1
        ledger.close()
