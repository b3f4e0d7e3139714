"""Two real workers on the same lanes, each behind a gate to the ledger of its own, and one gate before the broker.

So a test can stop one of them at an exact step, watch the other take over, and count what came to the broker.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis

from bridge.embedded import EmbeddedServer
from bridge.ledger import Ledger
from bridge.order import Order
from bridge.record import Delivery, NewOrder, alert_id, order_id
from bridge.sandbox import Sandbox
from tests.gate import Gate, Hold, gate
from tests.rig import wait_for
from tests.serving import SECRET, environment, part

SEND_WITHIN_S, SETTLE_S = 0.4, 0.6
SETTINGS = {"lease": "1500ms", "call_timeout": "800ms", "settle": "600ms", "lookup_patience": "1200ms"}
ACCOUNTS = """
accounts:
  nt: {broker: crosstrade, environment: sandbox, account: Sim101, transport: rest}
  pf: {broker: pocketful, environment: sandbox, client_id: YG1234, options: {stop_loss_value: price, product: MIS}}
  tv: {broker: tradovate, environment: sandbox, account: DEMO123456, account_id: 123456}
"""
BROKERS = {"nt": "crosstrade", "pf": "pocketful", "tv": "tradovate"}
PLACES = {"nt": "POST /v1/api/accounts/Sim101/orders/place", "pf": "POST /api/v1/orders", "tv": "POST /v1/order/placeorder"}
LOOKS = {"nt": "/lifecycle", "pf": "GET /api/v1/orders", "tv": "GET /v1/command/list"}
_SYMBOLS = {"nt": "ES 12-26", "pf": "IDEA-EQ", "tv": "ESZ6"}
_OPTIONS = {"pf": {"exchange": "NSE", "instrument_token": "14366"}}
_numbers = itertools.count(1)


@dataclass
class Slept:
    """A worker that can be stopped; `gate` is its way to the ledger."""

    process: subprocess.Popen[bytes]
    gate: Gate
    log: Path

    def stop(self) -> None:
        """SIGSTOP: when this returns, nothing of it runs any more until `go_on`."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)  # on a busy machine its threads run on for a while

    def go_on(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def said(self, *words: str) -> bool:
        """Whether a line of its log has all these words."""
        return any(all(word in line for word in words) for line in self.log.read_text().splitlines())


@dataclass
class Pair:
    """The two workers, the ledger, and the gate before the sandbox."""

    workers: list[Slept]
    ledger: Ledger
    redis_url: str
    broker: Gate
    sandbox: Sandbox

    def owner(self, account: str) -> Slept | None:
        """The worker that has this lane's lease."""
        with redis.Redis.from_url(self.redis_url, decode_responses=True) as client:
            owner = str(client.hget(f"bridge:{{{account}}}:lease", "owner") or "")
        return next((each for each in self.workers if f":{each.process.pid}:" in owner), None)

    def the_owner(self, account: str) -> Slept:
        """The same, as soon as there is one."""
        found: Slept = wait_for(lambda: self.owner(account))
        return found

    def taken_from(self, account: str, sleeper: Slept) -> None:
        """Wait until the other worker owns the lane."""
        wait_for(lambda: (owner := self.owner(account)) is not None and owner is not sleeper)

    def on_record(self, script: str, order: str, sleeper: Slept, *words: str, answer: bool = False) -> Hold:
        """Stop this worker when its call of a script for the order stands at its gate, or the answer to it."""
        return sleeper.gate.hold(self.ledger._scripts[script][0], order, *words, answer=answer, then=sleeper.stop)

    def queue(self, delivery: Delivery) -> str:
        """Queue an alert's one order; its id."""
        return str(self.ledger.enqueue(delivery).orders[0]["id"])

    def until(self, order: str, *states: str) -> dict[str, Any]:
        """The order once it is in one of these states."""
        def there() -> dict[str, Any] | None:
            found = self.ledger.order(order)
            return found if found and found["state"] in states else None

        try:
            found: dict[str, Any] = wait_for(there, 15)
        except AssertionError:
            raise AssertionError(f"{self.ledger.order(order)}\n" + "\n".join(
                each.log.read_text()[-3000:] for each in self.workers)) from None
        return found

    def looked(self, account: str, order: str) -> list[float]:
        """When each look-up of this order came there; where the broker's books are read whole, any look-up."""
        return self.broker.passed(LOOKS[account], *([] if account == "pf" else [order]))

    def sent(self, account: str, order: dict[str, Any]) -> list[float]:
        """When each writing of this order came to the broker's gate."""
        return self.broker.passed(PLACES[account], str(order["client_order_id"]))


def limit_order(account: str, *, max_age_ms: int = 60_000, age_ms: int = 0) -> Delivery:
    """An alert for one resting order, unlike any other."""
    key = f"k{next(_numbers)}"
    alert = alert_id("t", key, 1000)
    order = Order(kind="plain", symbol=_SYMBOLS[account], side="buy", quantity=Decimal(1), type="limit",
                  price=Decimal("5.25"), time_in_force="day", options=_OPTIONS.get(account, {}))
    made = NewOrder(id=order_id(alert, "t", 0, account), index=0, account=account, broker=BROKERS[account], order=order,
                    max_age_ms=max_age_ms)
    return Delivery(template="t", home=account, id=alert, key=key, dedupe_ms=30_000, nonce=key, fingerprint=key,
                    age_ms=age_ms, body="{}", state="accepted", orders=(made,))


@contextmanager
def pair(folder: Path, workers: int = 2, *, environ: Mapping[str, str] = {}, of_server: Mapping[str, str] = {},
         **settings: str) -> Iterator[Pair]:
    """Start them, and have the account at CrossTrade show us an id of ours, so that it can prove an absence.

    `environ` and `of_server` are added to the environments of the workers and of the ledger's server.
    """
    (folder / "accounts.yaml").write_text(ACCOUNTS)
    server = EmbeddedServer(folder / "data")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name, value in of_server.items():
            patch.setenv(name, value)
        server.start()
        for name in of_server:
            patch.delenv(name)
        stack.callback(server.stop)
        sandbox = stack.enter_context(Sandbox())
        broker = stack.enter_context(gate(sandbox.url))
        ledger = Ledger(server.url)
        stack.callback(ledger.close)
        found = Pair([], ledger, server.url, broker, sandbox)
        for number in range(workers):
            way = stack.enter_context(gate(server.url))
            given = environment(folder, redis_url=f"redis://127.0.0.1:{way.port}", secret=SECRET,
                                accounts=str(folder / "accounts.yaml"), sandbox=f"http://127.0.0.1:{broker.port}",
                                **{**SETTINGS, **settings})
            log = folder / f"worker{number}.log"
            process = stack.enter_context(part("worker", {**given, **environ}, log))
            stack.callback(process.kill)
            found.workers.append(Slept(process, way, log))
        found.until(found.queue(limit_order("nt")), "accepted")
        wait_for(lambda: ledger.shows_our_ids("nt"))
        yield found
