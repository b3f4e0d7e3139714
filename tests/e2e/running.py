"""A whole Bridge in processes of its own: HTTP body → gunicorn → Valkey → worker → sandbox, for one test module."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import requests

from bridge.embedded import find
from bridge.ledger import Ledger
from bridge.numbers import dump_json
from bridge.settings import read_settings
from tests.conftest import GIVEN_REDIS
from tests.e2e.cells import BROKER_ACCOUNTS, write
from tests.rig import wait_for
from tests.serving import free_port

SECRET = "an-end-to-end-secret-0123456789"


class Running:
    """`bridge up --sandbox` in a folder of its own. BRIDGE_REDIS_URL of the test run is used where it is given."""

    def __init__(self, folder: Path, more: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        port, sandbox_port = free_port(), free_port()
        self.url, self.sandbox = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{sandbox_port}"
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")}
        self.environ |= {"BRIDGE_SECRET": SECRET, "BRIDGE_BIND": f"127.0.0.1:{port}",
                         "BRIDGE_SANDBOX_BIND": f"127.0.0.1:{sandbox_port}", "BRIDGE_LOG_FORMAT": "json",
                         "BRIDGE_LOOKUP_PATIENCE": "2s", "BRIDGE_SETTLE": "300ms", "BRIDGE_CALL_TIMEOUT": "3s", "BRIDGE_LEASE": "8s",
                         "PYTHONPATH": str(Path(__file__).resolve().parents[2]), **(more or {})}
        if GIVEN_REDIS:
            self.environ["BRIDGE_REDIS_URL"] = GIVEN_REDIS
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen([sys.executable, "-m", "bridge", "up", "--sandbox", "--json"], cwd=folder,
                                        env=self.environ, stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], 60)[0]:
            self.stop()
        self.ready = self.process.stdout.readline()
        assert self.ready, f"it did not start: {self.words()}"
        self.ledger = Ledger(find(read_settings({**self.environ, "BRIDGE_DATA": str(folder / ".bridge")})))

    def words(self) -> str:
        """What it has logged so far."""
        return (self.folder / "log").read_text()

    def stop(self) -> None:
        """Ctrl-C; fails when it does not end."""
        if hasattr(self, "ledger"):
            self.ledger.close()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.log.close()
            if self.process.stdout is not None:
                self.process.stdout.close()

    def post(self, template: str, body: Any = None, **fields: Any) -> requests.Response:
        """Send an alert: these fields as JSON, unlike any other alert, or this body as it is."""
        data = json.dumps({**fields, "unique": uuid.uuid4().hex}) if body is None else body
        return requests.post(f"{self.url}/hook/{template}/{SECRET}", data=data, timeout=5)

    def send(self, template: str, **fields: Any) -> str:
        """Send an alert that makes one order; returns its id."""
        answer = self.post(template, **fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["orders"][0]["id"])

    def bridge(self, *args: str, stdin: str | None = None, code: int = 0) -> Any:
        """Run a `bridge` command here; its JSON."""
        done = subprocess.run([sys.executable, "-m", "bridge", *args, "--json"], cwd=self.folder, env=self.environ,
                              capture_output=True, text=True, input=stdin, timeout=30, check=False)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def show(self, order: str) -> dict[str, Any]:
        """What `bridge show` prints, read from the ledger itself: a process for each look would take too long."""
        found = self.ledger.order(order)
        assert found is not None
        return found

    def until(self, order: str, *states: str, status: str = "") -> dict[str, Any]:
        """The order once it is in one of these states (and its broker_status is this)."""
        def there() -> dict[str, Any] | None:
            found = self.show(order)
            return found if found["state"] in states and status in ("", found["broker_status"]) else None

        try:
            found: dict[str, Any] = wait_for(there, 15)
        except AssertionError:
            raise AssertionError(f"{dump_json(self.show(order), indent=1)}\n{self.words()[-3000:]}") from None
        return found

    def accepted(self, template: str, **fields: Any) -> dict[str, Any]:
        """Send an alert and wait until its order is accepted."""
        return self.until(self.send(template, **fields), "accepted")

    def control(self, path: str, **body: Any) -> Any:
        """Ask the sandbox's control for something, or tell it something."""
        url = f"{self.sandbox}/_control/{path}"
        answer = requests.post(url, json=body, timeout=5) if body else requests.get(url, timeout=5)
        assert answer.ok, answer.text
        return json.loads(answer.text, parse_float=str)

    def price(self, symbol: str, price: str) -> None:
        """Move the market."""
        self.control("price", symbol=symbol, price=price)

    def fault(self, broker: str, operation: str, fault: str, count: int = 1, **more: Any) -> None:
        """Let the sandbox misbehave."""
        self.control("faults", broker=broker, operation=operation, fault=fault, count=count, **more)

    def at_broker(self, found: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The witness: this order and its legs as they really reached the broker, oldest first."""
        rows = [row for row in self.control("orders") if row["account"] == BROKER_ACCOUNTS[found["account"]]]
        ours = [row for row in rows if str(row["client_order_id"] or "").split(".")[0] == found["client_order_id"]]
        parents = {row["broker_id"] for row in ours}
        baskets = {row["parent_id"] for row in ours if row["parent_id"]}
        return [row for row in rows if row in ours or row["parent_id"] in parents or row["parent_id"] in baskets]

    def position(self, account: str, symbol: str) -> int:
        """The signed position at the sandbox."""
        rows = [row for row in self.control("positions") if row["account"] == account and row["symbol"] == symbol]
        return sum(int(row["quantity"]) for row in rows)

    def settled(self, found: Mapping[str, Any], *states: str) -> list[dict[str, Any]]:
        """The witness once its rows are in these states, in order."""
        def there() -> list[dict[str, Any]] | None:
            rows = self.at_broker(found)
            return rows if [row["state"] for row in rows] == list(states) else None

        try:
            rows: list[dict[str, Any]] = wait_for(there, 10)
        except AssertionError:
            raise AssertionError(f"{json.dumps(self.at_broker(found), indent=1)}\n{self.words()[-2000:]}") from None
        return rows


@contextmanager
def running(folder: Path, more: Mapping[str, str] | None = None) -> Iterator[Running]:
    """A running Bridge with every cell's template."""
    write(folder)
    if GIVEN_REDIS:
        redis.Redis.from_url(GIVEN_REDIS).flushdb()
    found = Running(folder, more)
    try:
        yield found
    finally:
        found.stop()
