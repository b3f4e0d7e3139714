"""A Bridge in real processes: started, killed, stopped and started again.

`up`: `bridge up` supervises, and one more worker competes with its own. `parts`: server, receiver and two workers are
processes of the harness, which starts again at once what dies. In both the sandbox stands behind a gateway (see there).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import requests

from bridge.embedded import binary
from tests.soak.book import Event

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a-secret-of-the-soak-0123456789"
_LOOK_EVERY_S = 0.05


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@dataclass
class Part:
    """One process of ours, which leads a session, so that all of it can be killed."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = True

    def start(self) -> None:
        """Start it; what it says is appended to its log."""
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(list(self.command), cwd=self.folder, env=dict(self.environ), stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)

    def runs(self) -> bool:
        """Whether it is there."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """`kill -9` of it and of what it started in its session."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


class Site:
    """A running Bridge in `folder`, which holds accounts.yaml and templates/. `code` is where its package is found."""

    def __init__(self, folder: Path, *, form: str = "up", workers: int = 2, code: Path = ROOT,
                 settings: Mapping[str, str] | None = None) -> None:
        self.folder, self.form, self.workers = folder, form, workers
        self.port, sandbox, gateway = free_ports(3)
        self.sandbox = f"http://127.0.0.1:{sandbox}"
        given = {name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")}
        self.environ = {**given, "PYTHONPATH": str(code), "BRIDGE_SECRET": SECRET, "BRIDGE_LOG_FORMAT": "json",
                        "BRIDGE_BIND": f"127.0.0.1:{self.port}", "BRIDGE_SANDBOX": f"http://127.0.0.1:{gateway}",
                        "BRIDGE_DATA": str(folder / "data"), **(settings or {})}
        self.events: list[Event] = []
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._stopped: dict[int, float] = {}
        own = {**given, "PYTHONPATH": str(ROOT)}
        self.witness = Part("sandbox", [sys.executable, "-m", "bridge.sandbox", "--bind", f"127.0.0.1:{sandbox}"], own,
                            folder)
        self.parts = [Part("gateway", [sys.executable, "-m", "tests.soak.gateway", str(gateway), str(sandbox)],
                           {**own, "PYTHONPATH": f"{ROOT}"}, folder), *self._own_parts()]
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def _own_parts(self) -> list[Part]:
        def bridge(name: str, *command: str) -> Part:
            return Part(name, [sys.executable, "-m", "bridge", *command], self.environ, self.folder)

        if self.form == "up":
            others = [bridge(f"worker{number}", "worker") for number in range(2, self.workers + 1)]
            return [bridge("up", "up", "--json"), *others]
        data = self.folder / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        (port,) = free_ports(1)
        self.environ["BRIDGE_REDIS_URL"] = f"redis://127.0.0.1:{port}"
        server = Part("ledger", [str(binary()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data),
                                 "--appendonly", "yes", "--appendfsync", "always", "--save", "",
                                 "--maxmemory-policy", "noeviction", "--loglevel", "warning"], self.environ, self.folder)
        workers = [bridge(f"worker{number}", "worker") for number in range(1, self.workers + 1)]
        return [server, bridge("receiver", "receiver", "--credentials"), *workers]

    # -- coming and going --------------------------------------------------------------------------------------------

    def __enter__(self) -> Site:
        self.witness.start()
        try:
            self.until(lambda: requests.get(f"{self.sandbox}/_control/health", timeout=1).ok, 20, "the sandbox")
            for part in self.parts:
                if part.wanted:
                    part.start()
                if part.name == "ledger":
                    self.until(lambda: bool(self.redis().ping()), 20, "the ledger's server")
            self._watcher.start()
            self.until(self.ready, 60, "the receiver")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *what: object) -> None:
        self._end()

    def _end(self) -> None:
        self._stop.set()
        if self._watcher.is_alive():
            self._watcher.join(5)
        for part in reversed([self.witness, *self.parts]):
            tree = self.tree(part)
            part.kill()
            for pid in tree:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if part.process is not None:
                part.process.wait()

    def _watch(self) -> None:
        """Start again what dies, and wake what was stopped."""
        while not self._stop.wait(_LOOK_EVERY_S):
            with self._lock:
                for part in self.parts:
                    if part.wanted and part.process is not None and not part.runs():
                        part.kill()  # what it left behind
                        part.start()
                for pid, until in list(self._stopped.items()):
                    if time.monotonic() >= until:
                        self.go_on(pid)

    def until(self, condition: Callable[[], Any], seconds: float, what: str) -> Any:
        """The first true value of `condition`, which may fail meanwhile; raises RuntimeError with the logs' ends."""
        ends_at, pause = time.monotonic() + seconds, threading.Event()
        while True:
            with contextlib.suppress(requests.RequestException, redis.RedisError, OSError, LookupError, ValueError):
                if found := condition():
                    return found
            if time.monotonic() > ends_at:
                raise RuntimeError(f"{what}: not within {seconds:.0f} s\n{self.last_words()}")
            pause.wait(0.01)

    def ready(self) -> bool:
        """Whether alerts are accepted."""
        return requests.get(f"http://127.0.0.1:{self.port}/readyz", timeout=1).ok

    def ready_quietly(self) -> bool:
        """The same; False where nothing answers."""
        try:
            return self.ready()
        except requests.RequestException:
            return False

    def last_words(self, size: int = 2500) -> str:
        """The ends of the logs."""
        said = [(path.name, path.read_text(errors="replace")[-size:]) for path in sorted(self.folder.glob("*.log"))]
        return "\n".join(f"--- {name}\n{text}" for name, text in said if text)

    # -- processes ---------------------------------------------------------------------------------------------------

    def part(self, name: str) -> Part:
        """The part of that name. Raises StopIteration."""
        return next(part for part in self.parts if part.name == name)

    def tree(self, part: Part) -> list[int]:
        """The process ids of a part and of all below it."""
        if not part.runs() or part.process is None:
            return []
        found, children = [part.process.pid], _children()
        for pid in found:
            found += children.get(pid, [])
        return found

    def pids(self, target: str) -> list[int]:
        """The processes that a target names now: worker, receiver, child, ledger, broker, all."""
        with self._lock:
            if target == "broker":
                return self.tree(self.part("gateway"))
            if target == "all":
                return [pid for part in self.parts if part.name != "gateway" for pid in self.tree(part)]
            found = []
            for part in self.parts:
                for pid in self.tree(part):
                    if _role(pid) == target:
                        found.append(pid)
            if target in ("receiver", "child"):  # the receiver's first process is gunicorn's master, below it its children
                masters = [pid for pid in self._role("receiver") if _parent(pid) not in self._role("receiver")]
                found = masters if target == "receiver" else [p for p in self._role("receiver") if p not in masters]
            return found

    def _role(self, role: str) -> list[int]:
        return [pid for part in self.parts for pid in self.tree(part) if _role(pid) == role]

    def kill(self, target: str, pick: float = 0.0) -> bool:
        """`kill -9` of one process (of all: `all`) that the target names; whether there was one."""
        with self._lock:
            pids = self.pids(target)
            if target not in ("all", "broker") and pids:
                pids = [pids[int(pick * len(pids))]]
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                self._stopped.pop(pid, None)
            self.note(f"kill -9 {target} {' '.join(map(str, pids)) or '(not there)'}")
            return bool(pids)

    def stop(self, target: str, seconds: float, pick: float = 0.0) -> int | None:
        """SIGSTOP of one process that the target names; SIGCONT comes by itself. Its id, None when there is none."""
        with self._lock:
            pids = [pid for pid in self.pids(target) if pid not in self._stopped]
            if not pids:
                return None
            pid = pids[int(pick * len(pids))]
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
            self._stopped[pid] = time.monotonic() + seconds
            self.note(f"SIGSTOP {target} {pid} for {seconds:.1f} s")
            return pid

    def go_on(self, pid: int) -> None:
        """SIGCONT."""
        with self._lock:
            self._stopped.pop(pid, None)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            self.note(f"SIGCONT {pid}")

    def rest(self) -> None:
        """Wake everything that is stopped."""
        for pid in list(self._stopped):
            self.go_on(pid)

    def note(self, words: str) -> None:
        """Put an event on record."""
        self.events.append(Event(time.time(), words))

    # -- asking ------------------------------------------------------------------------------------------------------

    def redis(self) -> redis.Redis:
        """A client of the ledger's server. Raises OSError while a server that is started again has not said where it is."""
        url = self.environ.get("BRIDGE_REDIS_URL") or (self.folder / "data" / "url").read_text().strip()
        if not url:
            raise OSError("the server has not said yet where it is")
        return redis.Redis.from_url(url, socket_timeout=2, decode_responses=True)

    def backlog(self) -> int:
        """How many orders stand in lanes; 0 when the server is away."""
        try:
            with self.redis() as client:
                return sum(int(client.xlen(key)) for key in client.scan_iter(match="*", count=1000, _type="stream"))
        except (redis.RedisError, OSError):
            return 0

    def bridge(self, *args: str) -> Any:
        """A `bridge` command's JSON. Raises RuntimeError with what it said."""
        done = subprocess.run([sys.executable, "-m", "bridge", *args, "--json"], cwd=self.folder, env=self.environ,
                              capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"bridge {' '.join(args)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return json.loads(done.stdout)

    def control(self, path: str, **body: Any) -> Any:
        """Ask the sandbox's control for something, or tell it something."""
        url = f"{self.sandbox}/_control/{path}"
        answer = requests.post(url, json=body, timeout=60) if body else requests.get(url, timeout=60)
        if not answer.ok:
            raise RuntimeError(f"{path}: {answer.text[:500]}")
        return json.loads(answer.text, parse_float=str)

    def fault(self, broker: str, operation: str, fault: str, count: int = 1, **more: Any) -> None:
        """Let the sandbox misbehave."""
        self.control("faults", broker=broker, operation=operation, fault=fault, count=count, **more)
        self.note(f"fault {broker} {operation} {fault} ×{count} {more or ''}".rstrip())

    def clear_faults(self) -> None:
        """Let the sandbox behave."""
        for each in self.control("faults"):
            self.control("faults", broker=each["broker"], operation=each["operation"], fault=each["fault"], count=0)
        self.note("no more faults")


def _children() -> dict[int, list[int]]:
    """Parent → children, of all processes."""
    found: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (parent := _parent(int(entry.name))):
            found.setdefault(parent, []).append(int(entry.name))
    return found


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def _role(pid: int) -> str:
    """What a process is, by its command line."""
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            words = file.read().split("\0")
    except OSError:
        return ""
    if words[0].endswith(("valkey-server", "redis-server")) or words[0].rpartition("/")[2].startswith("valkey-server"):
        return "ledger"
    return next((role for role in ("worker", "receiver") if role in words), "")


