"""Real parts as processes, and HTTP spoken byte by byte."""

from __future__ import annotations

import itertools
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SECRET = "test-secret-0123456789abcdef"
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = 1_500
_counter = itertools.count(random.randrange(_PORTS))


def free_port() -> int:
    """A port of the loopback that nobody listens on, and that nobody else is given before something listens there.

    Each process of a parallel run has a range of its own, below those that the system gives to outgoing connections and
    to port 0, and goes round in it.
    """
    for _ in range(_PORTS):
        port = 20_000 + _WORKER % 8 * _PORTS + next(_counter) % _PORTS
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def moment(seconds_ago: float = 0.0) -> str:
    """A time as TradingView writes it."""
    return datetime.fromtimestamp(time.time() - seconds_ago, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """The environment of a part: nothing of ours but these settings (`bind="…"` for BRIDGE_BIND)."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")}
    chosen = {"data": str(folder / "data"), "log_format": "json", **settings}
    return {**given, "PYTHONPATH": str(ROOT), **{f"BRIDGE_{name.upper()}": value for name, value in chosen.items()}}


@contextmanager
def part(name: str, environ: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A part that has said that it is ready. What it writes goes to `log`."""
    reading, writing = os.pipe()
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-m", "bridge", name, "--ready-fd", str(writing)], env=dict(environ),
                                   cwd=ROOT, pass_fds=(writing,), stdout=output, stderr=output, start_new_session=True)
    os.close(writing)
    try:
        ready = select.select([reading], [], [], 20)[0] and os.read(reading, 10)
        assert ready, f"the {name} did not start:\n{log.read_text()}"
        yield process
    finally:
        os.close(reading)
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours and all that it started."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(6)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


@dataclass
class Answer:
    """What came back on a connection. `status` is 0 when it was closed without an answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    raw: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def read_answer(connection: socket.socket, *, head_only: bool = False) -> Answer:
    """One whole answer; one to HEAD has no body."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        data = _receive(connection)
        if not data:
            return Answer(0, raw=raw)
        raw += data
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    while not head_only and len(body) < int(headers.get("content-length", 0)):
        data = _receive(connection)
        if not data:
            break
        body += data
        raw += data
    return Answer(int(lines[0].split()[1]), headers, body, raw)


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionError:
        return b""


@dataclass
class Hook:
    """A receiver's address."""

    port: int
    log: Path

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def talk(self, request: bytes) -> Answer:
        """Send exactly these bytes and read one answer."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_answer(connection)

    def post(self, path: str, body: bytes | str | Mapping[str, Any], headers: Mapping[str, str] = {}) -> Answer:
        if isinstance(body, Mapping):
            body = json.dumps(body)
        content = body.encode() if isinstance(body, str) else body
        lines = [f"POST {path} HTTP/1.1", "Host: bridge.test", f"Content-Length: {len(content)}",
                 *(f"{name}: {value}" for name, value in headers.items())]
        return self.talk("\r\n".join(lines).encode() + b"\r\n\r\n" + content)

    def send(self, template: str, body: bytes | str | Mapping[str, Any], secret: str = SECRET) -> Answer:
        return self.post(f"/hook/{template}/{secret}", body)

    def get(self, path: str) -> Answer:
        return self.talk(f"GET {path} HTTP/1.1\r\nHost: bridge.test\r\n\r\n".encode())
