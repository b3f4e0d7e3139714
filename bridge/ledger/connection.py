"""The connection to Redis, be it one server, Sentinel or Cluster: time-outs that suit a webhook, its troubles as
LedgerAway, the scripts, and the look at memory and disk before anything new is taken in."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, cast

import redis
import redis.backoff
import redis.cluster
import redis.connection
import redis.retry
import redis.sentinel

from bridge.clock import monotonic
from bridge.errors import LedgerAway
from bridge.settings import RedisAddress, read_redis_url

_MOST_CONNECTIONS = 10_000
"""Each lane of a worker holds one while it waits for news."""
_SOCKET_TIMEOUT_S = 1.5
"""Two tries have to fit into the 3 s after which TradingView gives up, so that 503 is still heard."""
_SENTINEL_TIMEOUT_S = 0.5
"""Several are asked in turn, and one that is gone must not cost the sender's patience."""
_WAITING_TIMEOUT_S = 6.0
"""For a blocking read of a second or so: a server that froze must not hold a lane's thread for longer."""

LEAST_FREE_DISK = 64 << 20
"""With fewer free bytes the embedded server's disk takes nothing new in; outcomes still fit."""
MOST_MEMORY = 0.9
"""Above this share of maxmemory nothing new is taken in; outcomes are recorded even past the limit."""
_ROOM_FOR_S = 1.0
_TAKES_IN = frozenset({"enqueue"})
"""The scripts that take something new in."""

_COPIED = frozenset({"enqueue", "join", "submit"})
"""The scripts whose loss loses an alert, or the record that an order was sent."""
_COPIED_WITHIN_MS = 1000
_MARK = "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1] .. 'copied', '1')"
"""A write of its own: WAIT asks for the last write of its connection, and a script that is repeated writes nothing."""

_ERRORS = redis.exceptions
_AWAY = (_ERRORS.ConnectionError, _ERRORS.TimeoutError, _ERRORS.InvalidResponse)
_REFUSALS = (_ERRORS.ReadOnlyError, _ERRORS.OutOfMemoryError, _ERRORS.NoPermissionError, _ERRORS.ClusterError,
             _ERRORS.AskError, _ERRORS.TryAgainError, _ERRORS.NoScriptError)
_REFUSING_WORDS = ("MISCONF ", "NOREPLICAS ", "LOADING ", "READONLY ", "OOM ", "BUSY ", "CLUSTERDOWN ", "MASTERDOWN ",
                   "NOAUTH ", "UNBLOCKED ")
"""How Redis begins to say that nothing was done. Another error of a script is a fault of ours."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What one server says of itself. `config` is None where it may not be asked (a managed server)."""

    address: str
    info: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, str] | None = None


class Connection:
    """What every part of the ledger has: the client, and a second one for waits. It connects on first use."""

    def __init__(self, url: str, *, retention_ms: int = 90 * 86_400_000, copies: int = 0) -> None:
        """`copies`: how many replicas must have an alert, and the record that an order is sent, before it counts."""
        self._address = _address(url)
        self._copies = copies
        self._process = uuid.uuid4().hex
        self._retention_ms = retention_ms
        self._scripts = {name: (hashlib.sha1(text.encode()).hexdigest(), text) for name, text in _read_scripts().items()}
        self._clients: dict[str, redis.Redis] = {}
        self._opening = threading.Lock()
        self._room: dict[str, tuple[float, str]] = {}
        self._folder: Path | None = None

    @property
    def _redis(self) -> redis.Redis:
        return self._clients.get("quick") or self._open("quick", _SOCKET_TIMEOUT_S, 2)

    @property
    def _waiting(self) -> redis.Redis:
        return self._clients.get("waiting") or self._open("waiting", _WAITING_TIMEOUT_S, 0)

    def _open(self, name: str, timeout_s: float, retries: int) -> redis.Redis:
        with self._opening:
            if name not in self._clients:
                self._clients[name] = _client(self._address, timeout_s, retries)
            return self._clients[name]

    @property
    def kind(self) -> str:
        """single, sentinel or cluster."""
        return self._address.kind

    def close(self) -> None:
        """Give the connections back."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def ping(self) -> None:
        """Raises LedgerAway when Redis does not answer."""
        with away():
            self._redis.ping()

    def check_writable(self) -> None:
        """A tiny durable write. Raises LedgerAway when an alert could not be accepted."""
        self.check_room("bridge:probe")
        with away():
            self._redis.set("bridge:probe", "1", px=60_000)

    def check_room(self, key: str) -> None:
        """Raises LedgerAway when the server of this key is short of memory or disk; it is asked once a second."""
        with away():
            node = self._node_of(key)
            name = node.name if node else ""
            known = self._room.get(name)
            if known is None or monotonic() - known[0] > _ROOM_FOR_S:
                known = self._room[name] = (monotonic(), self._shortage(node))
        if known[1]:
            raise LedgerAway(f"the ledger (Redis) takes in nothing new: {known[1]}")

    def servers(self) -> list[ServerFacts]:
        """What each server that is written to says of itself. Raises LedgerAway when one does not answer."""
        with away():
            client = self._redis
            if isinstance(client, redis.RedisCluster):
                return [_facts(client, node.name, {"target_nodes": node}) for node in client.get_primaries()]
            return [_facts(client, self._address.service or "server", {})]

    def _node_of(self, key: str) -> redis.cluster.ClusterNode | None:
        client = self._redis
        return client.get_node_from_key(key) if isinstance(client, redis.RedisCluster) else None

    def _shortage(self, node: redis.cluster.ClusterNode | None) -> str:
        """What the server is short of, in words, or ''."""
        try:
            found = self._redis.info("memory", **({"target_nodes": node} if node else {}))
        except _ERRORS.NoPermissionError:
            return ""  # a server that does not tell refuses by itself when it is full
        used, most = int(found.get("used_memory", 0)), int(found.get("maxmemory", 0))
        if most and used > most * MOST_MEMORY:
            return f"its memory is nearly full ({used >> 20} of {most >> 20} MB); raise maxmemory"
        free = self.free_disk()
        if free is not None and free < LEAST_FREE_DISK:
            return f"its disk is nearly full ({free >> 20} MB free at {self._folder}); make room"
        return ""

    def free_disk(self) -> int | None:
        """Free bytes where the server of a socket file keeps its data; None for any other, whose disk is elsewhere."""
        if not self._address.plain.startswith("unix://"):
            return None
        try:
            if self._folder is None:
                with away():
                    self._folder = Path(cast("dict[str, str]", self._redis.config_get("dir"))["dir"])
            space = os.statvfs(self._folder)
        except (OSError, LedgerAway, KeyError):
            return None
        return space.f_bavail * space.f_frsize if (self._folder / "appendonlydir").is_dir() else None

    def _run(self, name: str, key: str, args: Sequence[Any]) -> Any:
        """Run a script where its one key, a lane's prefix, lives. Each is one atomic act and safe to repeat."""
        if name in _TAKES_IN:
            self.check_room(key)
        given = [key, *map(encodable, args)]
        with away():
            try:
                sha, text = self._scripts[name]
                if self._copies and name in _COPIED:
                    return self._copied(key, ("EVALSHA", sha, 1, *given), ("EVAL", text, 1, *given))
                try:
                    return self._redis.evalsha(sha, 1, *given)
                except _ERRORS.NoScriptError:  # the first time, flushed, or another server since: the text always does
                    return self._redis.eval(text, 1, *given)
            except _ERRORS.ReadOnlyError:
                if self._address.kind == "single":  # its name may lead to another server by now
                    self._redis.connection_pool.disconnect(inuse_connections=False)
                raise

    def await_copies(self, key: str) -> None:
        """Raises LedgerAway unless everything written so far where this key lives has reached the replicas."""
        if self._copies:
            with away():
                self._copied(key, ("PING",))

    def _copied(self, key: str, *forms: tuple[Any, ...]) -> Any:
        """What the first of these commands that the server knows gives, once the replicas have it.

        Raises LedgerAway when they have not got it in time: it stands, and asking again gives the same answer.
        """
        client = self._redis
        pipe: Any
        for form in forms:
            if isinstance(client, redis.RedisCluster):
                node = client.get_node_from_key(key)
                pipe = client.get_redis_connection(node).pipeline(transaction=False)
            else:
                pipe = client.pipeline(transaction=False)
            pipe.execute_command(*form)
            pipe.eval(_MARK, 1, key)
            pipe.execute_command("WAIT", self._copies, _COPIED_WITHIN_MS)
            try:
                answers = pipe.execute(raise_on_error=False)
            except _AWAY:
                self._look_for_nodes()
                raise
            if form[0] == "EVALSHA" and isinstance(answers[0], _ERRORS.NoScriptError):
                continue
            if wrong := next((each for each in answers if isinstance(each, Exception)), None):
                self._look_for_nodes()
                raise wrong
            if answers[2] < self._copies:
                raise LedgerAway(f"the ledger (Redis) has it on {answers[2]} replicas of the {self._copies} that "
                                 "BRIDGE_REPLICAS asks for")
            return answers[0]
        raise LedgerAway("the ledger (Redis) cannot do it now: its scripts are gone")

    def _look_for_nodes(self) -> None:
        """A cluster may have put another node in the place of one."""
        if isinstance(self._redis, redis.RedisCluster):
            self._redis.nodes_manager.initialize()


@contextmanager
def away() -> Iterator[None]:
    """Turn Redis's own troubles into LedgerAway; anything else is a fault of ours and stays what it is."""
    try:
        yield
    except _AWAY as error:
        raise LedgerAway(f"the ledger (Redis) is away: {_words(error)}") from None
    except (_ERRORS.CrossSlotTransactionError, _ERRORS.InvalidPipelineStack):
        raise
    except (*_REFUSALS, _ERRORS.RedisClusterException) as error:
        raise LedgerAway(f"the ledger (Redis) cannot do it now: {_words(error)}") from None
    except _ERRORS.ResponseError as error:
        if str(error).startswith(_REFUSING_WORDS):
            raise LedgerAway(f"the ledger (Redis) cannot write: {_words(error)}") from None
        raise


def encodable(value: Any) -> Any:
    """A text that a broker or sender wrote may hold half a surrogate pair; it is kept escaped."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode()
    return value


# -- the client for each form of address -----------------------------------------------------------------------------


def _address(url: str) -> RedisAddress:
    try:
        return read_redis_url(url)
    except ValueError as error:
        raise LedgerAway(f"the ledger's address {error}") from None


def _client(address: RedisAddress, timeout_s: float, retries: int) -> redis.Redis:
    """A client that sends again `retries` times when the connection is lost, for every script is safe to repeat."""
    retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), retries, supported_errors=(_ERRORS.ConnectionError,))
    options: dict[str, Any] = {
        "decode_responses": True, "encoding_errors": "backslashreplace",  # a damaged text is for its checksum to find
        "socket_timeout": timeout_s, "socket_connect_timeout": min(timeout_s, _SOCKET_TIMEOUT_S), "protocol": 2,
        "max_connections": _MOST_CONNECTIONS}
    if address.kind == "single":
        return redis.Redis.from_url(address.plain, retry=retry, health_check_interval=0, **options)
    given = redis.connection.parse_url(address.plain)  # type: ignore[no-untyped-call]
    for name in ("host", "port"):
        given.pop(name, None)
    tls = bool(given.pop("connection_class", None))
    options |= {"socket_connect_timeout": _SENTINEL_TIMEOUT_S}
    if address.kind == "cluster":
        given.pop("db", None)
        nodes = [redis.cluster.ClusterNode(*host) for host in address.hosts]  # type: ignore[no-untyped-call]
        cluster = redis.RedisCluster(startup_nodes=nodes, retry=redis.retry.Retry(
            redis.backoff.ConstantBackoff(0.05), min(retries, 1)), ssl=tls, **{**given, **options})
        cluster.cluster_response_callbacks["HGETALL"] = _as_pairs  # a transaction gives them back as they are on the wire
        return cast("redis.Redis", cluster)
    own = {"username": given.pop("sentinel_username", None), "password": given.pop("sentinel_password", None)}
    tls_options = {name: value for name, value in given.items() if name.startswith("ssl_")}
    watchers = redis.sentinel.Sentinel(  # type: ignore[no-untyped-call]
        address.hosts, sentinel_kwargs={
            **own, **tls_options, "ssl": tls, "socket_timeout": _SENTINEL_TIMEOUT_S, "protocol": 2,
            "socket_connect_timeout": _SENTINEL_TIMEOUT_S, "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0)})
    found = watchers.master_for(  # type: ignore[no-untyped-call]
        address.service, ssl=tls, retry=retry, **{**given, **options})
    return cast("redis.Redis", found)


def _as_pairs(found: Any, **_: Any) -> Any:
    return found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))


def _facts(client: Any, name: str, where: Mapping[str, Any]) -> ServerFacts:
    info = cast("dict[str, Any]", client.info("everything", **where))
    try:
        config = cast("dict[str, str]", client.config_get("*", **where))
    except _ERRORS.ResponseError:
        config = None
    return ServerFacts(name, info, config)


def _words(error: Exception) -> str:
    return str(error).split("\n")[0].split(" : <")[0][:200] or type(error).__name__


def _read_scripts() -> dict[str, str]:
    folder = resources.files("bridge") / "lua"
    texts = {each.name.removesuffix(".lua"): each.read_text() for each in folder.iterdir()
             if each.name.endswith(".lua")}
    prelude = texts.pop("_lane")
    scripts = {}
    for name, text in texts.items():
        first, rest = ("", text) if not text.startswith("#!") else text.split("\n", 1)
        scripts[name] = (f"{first}\n" if first else "") + prelude + rest
    return scripts
