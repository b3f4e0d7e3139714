"""Real servers on loopback, from the embedded server's own program: a cluster of three, and a primary with a replica that
a Sentinel watches."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from bridge.embedded import binary
from tests.serving import free_port
from tests.wait import until

DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction")


@dataclass
class Node:
    """One running server."""

    port: int
    process: subprocess.Popen[bytes]

    def ask(self, *words: Any) -> Any:
        with redis.Redis(port=self.port, decode_responses=True, protocol=2) as client:
            return client.execute_command(*words)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


def _answers(port: int) -> bool:
    try:
        with redis.Redis(port=port, socket_timeout=1) as client:
            return bool(client.ping())
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
        return False


@contextmanager
def node(folder: Path, *options: str, first: Sequence[str] = ()) -> Iterator[Node]:
    """A server that answers; it ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    process = subprocess.Popen([str(binary()), *first, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder),
                                "--logfile", str(folder / "log"), *options], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        until(lambda: _answers(port), 10, f"the server on {port} answers")
        yield Node(port, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextmanager
def cluster(folder: Path) -> Iterator[list[Node]]:
    """Three primaries that share all slots."""
    with ExitStack() as stack:
        nodes = []
        for number in range(3):
            nodes.append(stack.enter_context(node(
                folder / str(number), *DURABLE, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000",
                "--cluster-port", str(free_port()))))
        ranges = ((0, 5460), (5461, 10922), (10923, 16383))
        for one, (low, high) in zip(nodes, ranges, strict=True):
            one.ask("CLUSTER", "ADDSLOTSRANGE", low, high)
            one.ask("CLUSTER", "SET-CONFIG-EPOCH", low + 1)
        for other in nodes[1:]:
            bus = other.ask("CONFIG", "GET", "cluster-port")[1]
            nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", other.port, bus)
        until(lambda: all("cluster_state:ok" in one.ask("CLUSTER", "INFO")
                          and "cluster_known_nodes:3" in one.ask("CLUSTER", "INFO") for one in nodes), 15, "the cluster")
        yield nodes


@dataclass
class Watched:
    """A primary, its replica and the Sentinel that watches them."""

    primary: Node
    replica: Node
    sentinel: Node

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.sentinel.port}/orders/0"

    def primary_port(self) -> int:
        return int(self.sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "orders")[1])


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """A primary that is replaced by its replica within seconds when it dies."""
    with ExitStack() as stack:
        primary = stack.enter_context(node(folder / "primary", *DURABLE, "--repl-diskless-sync-delay", "0"))
        replica = stack.enter_context(node(folder / "replica", *DURABLE, "--replicaof", f"127.0.0.1 {primary.port}",
                                           "--repl-diskless-sync-delay", "0"))
        until(lambda: "master_link_status:up" in info(replica, "replication"), 10, "the replica follows")
        settings = folder / "sentinel.conf"
        settings.write_text(f"sentinel monitor orders 127.0.0.1 {primary.port} 1\n"
                            "sentinel down-after-milliseconds orders 500\n"
                            "sentinel failover-timeout orders 3000\n")
        os.chmod(settings, 0o600)
        sentinel = stack.enter_context(node(folder / "sentinel", first=(str(settings), "--sentinel")))
        until(lambda: "slaves=1" in info(sentinel, "sentinel"), 15, "the Sentinel knows the replica")
        yield Watched(primary, replica, sentinel)


def info(one: Node, section: str) -> str:
    """INFO as it is on the wire."""
    with redis.Redis(port=one.port, protocol=2) as client:
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command("INFO", section)
            return bytes(connection.read_response()).decode()
        finally:
            client.connection_pool.release(connection)
