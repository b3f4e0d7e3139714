"""Clocks that jump by an hour, either way: of a worker, a receiver, the ledger's server, or the whole machine.

No order is ever sent that is older than its max_age, and none ends without a reason.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.settings import read_settings
from tests.clocks import HOUR_S, Clock
from tests.e2e.pair import PLACES, SETTINGS, Pair, limit_order, pair
from tests.rig import wait_for
from tests.serving import SECRET, Answer, Hook, environment, free_port, part

MAX_AGE_MS = 1200
JUMPS = pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S], ids=["ahead", "back"])
ORDER = 'order: {kind: plain, symbol: "ES 12-26", side: buy, quantity: 1, type: limit, price: "{{ alert.price }}"}\n'
TEMPLATES = {"timed": "account: nt\nalert: {price: number, time: time}\nsent_at: '{{ alert.time }}'\nmax_age: 30s\n" + ORDER,
             "untimed": "account: nt\nalert: {price: number}\nmax_age: 30s\n" + ORDER}
_prices = itertools.count(1)


@dataclass
class Site:
    """A worker, a receiver, and the clock of each; the server's where it can be set."""

    pair: Pair
    worker: Clock
    receiver: Clock
    server: Clock
    hook: Hook

    def alert(self, *, sent_s_ago: float | None = None) -> Answer:
        """Send an alert like no other; its own time is the real one, which the sender's clock shows."""
        body: dict[str, Any] = {"price": f"5{next(_prices):03d}.25"}
        if sent_s_ago is not None:
            body["time"] = (datetime.now(UTC) - timedelta(seconds=sent_s_ago)).isoformat(timespec="milliseconds")
        return self.hook.send("untimed" if sent_s_ago is None else "timed", body)

    def is_sent(self, answer: Answer) -> bool:
        """Whether the alert was accepted, and its order has come to the broker, once."""
        assert answer.status == 202, answer.raw
        found = self.pair.until(answer.json["orders"][0]["id"], "accepted", "expired")
        return found["state"] == "accepted" and len(self.pair.sent("nt", found)) == 1


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("clocks")
    worker, receiver, server = (Clock(folder, name) for name in ("worker", "receiver", "server"))
    (folder / "templates").mkdir()
    for name, text in TEMPLATES.items():
        (folder / "templates" / f"{name}.yaml").write_text(text)
    with pair(folder, 1, environ=worker.of_a_part(), of_server=server.of_the_server()) as found:
        port = free_port()
        environ = {**environment(folder, redis_url=found.redis_url, secret=SECRET, bind=f"127.0.0.1:{port}",
                                 accounts=str(folder / "accounts.yaml"), templates=str(folder / "templates")),
                   **receiver.of_a_part()}
        with part("receiver", environ, folder / "receiver.log"):
            yield Site(found, worker, receiver, server, Hook(port, folder / "receiver.log"))


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """With every clock right before the test."""
    yield running
    for clock in (running.worker, running.receiver, running.server):
        clock.jump(0.0)


@pytest.fixture
def machine(site: Site) -> Site:
    """One whose server's clock can be set too."""
    if shutil.which("cc") is None:
        pytest.skip("a server's clock can only be set with a C compiler (cc)")
    return site


def left_waiting(pair: Pair) -> tuple[str, float]:
    """An order that waits in its lane, its worker stopped; and when it was received, on the monotonic clock."""
    pair.the_owner("nt")
    pair.workers[0].stop()
    received_at = time.monotonic()
    return pair.queue(limit_order("nt", max_age_ms=MAX_AGE_MS)), received_at


def too_old(pair: Pair, order: str) -> bool:
    stored = pair.ledger.load("nt", order)
    return stored is not None and stored.expired


def expires_unsent(pair: Pair, order: str) -> None:
    """Its worker goes on and ends it, with the reason."""
    pair.workers[0].go_on()
    found = pair.until(order, "expired", "accepted", "unknown")
    assert found["state"] == "expired" and "its max_age is 1.2 s" in found["reason"] and not pair.sent("nt", found)


# -- the worker's ----------------------------------------------------------------------------------------------------


@JUMPS
def test_a_jump_of_the_workers_clock_makes_no_order_older_or_younger(site: Site, jump_s: float) -> None:
    order, received_at = left_waiting(site.pair)
    site.worker.jump(jump_s)
    wait_for(lambda: too_old(site.pair, order))
    assert time.monotonic() - received_at < MAX_AGE_MS / 1000 + 0.5
    expires_unsent(site.pair, order)

    assert site.is_sent(site.alert())


@JUMPS
def test_a_jump_while_the_reply_is_lost_doubles_nothing(site: Site, jump_s: float) -> None:
    alert = limit_order("nt")
    hold = site.pair.broker.hold(PLACES["nt"], alert.orders[0].id, answer=True)
    order = site.pair.queue(alert)
    hold.wait()
    site.worker.jump(jump_s)
    hold.lose()

    found = site.pair.until(order, "accepted")
    assert len(site.pair.sent("nt", found)) == 1 and "found at the broker" in found["reason"]


# -- the receiver's --------------------------------------------------------------------------------------------------


def test_a_receiver_whose_clock_is_ahead_refuses_alerts_as_too_old_and_says_so(site: Site) -> None:
    site.receiver.jump(HOUR_S)

    answer = site.alert(sent_s_ago=0)

    assert answer.status == 200 and "too old" in answer.json["refused"]
    (order,) = answer.json["orders"]
    assert order["state"] == "expired" and "60 min" in order["reason"]
    assert site.is_sent(site.alert())  # an alert without a time of its own is as old as its receipt
    site.receiver.jump(0.0)
    assert site.is_sent(site.alert(sent_s_ago=0))


def test_a_receiver_whose_clock_was_set_back_takes_no_old_alert_for_a_new_one(site: Site) -> None:
    site.receiver.jump(-HOUR_S)

    for sent_s_ago in (HOUR_S, HOUR_S + 10, 50):
        answer = site.alert(sent_s_ago=sent_s_ago)
        assert answer.status == 200 and "too old" in answer.json["refused"]

    assert site.is_sent(site.alert(sent_s_ago=0)) and site.is_sent(site.alert())
    assert site.hook.log.read_text().count("the system's clock was set back") == 1


# -- the server's, and the machine's ---------------------------------------------------------------------------------


def lease_quarter_s() -> float:
    return read_settings({f"BRIDGE_{name.upper()}": value for name, value in SETTINGS.items()}).lease / 4


@pytest.mark.parametrize("clocks", [("server",), ("server", "worker", "receiver")], ids=["server", "machine"])
def test_an_order_in_its_lane_grows_old_though_the_clock_is_set_back(machine: Site, clocks: tuple[str, ...]) -> None:
    order, received_at = left_waiting(machine.pair)
    for name in clocks:
        getattr(machine, name).jump(-HOUR_S)

    wait_for(lambda: too_old(machine.pair, order))
    assert time.monotonic() - received_at < MAX_AGE_MS / 1000 + lease_quarter_s() + 0.3
    expires_unsent(machine.pair, order)

    assert machine.is_sent(machine.alert(sent_s_ago=0))
    answer = machine.alert(sent_s_ago=HOUR_S)
    assert answer.status == 200 and "too old" in answer.json["refused"]
    for name in clocks:
        getattr(machine, name).jump(0.0)
    assert machine.is_sent(machine.alert(sent_s_ago=0))


def test_a_jump_ahead_ends_what_waits_with_a_reason_and_the_next_order_is_sent(machine: Site) -> None:
    order, _ = left_waiting(machine.pair)
    for clock in (machine.server, machine.worker, machine.receiver):
        clock.jump(HOUR_S)

    expires_unsent(machine.pair, order)

    assert machine.is_sent(machine.alert())
    for clock in (machine.server, machine.worker, machine.receiver):
        clock.jump(0.0)
    assert machine.is_sent(machine.alert(sent_s_ago=0))
