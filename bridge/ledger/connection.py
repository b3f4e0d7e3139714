"""The connection to Redis: time-outs that suit a webhook, its troubles as LedgerAway, and the scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any

import redis
import redis.backoff
import redis.retry

from bridge.errors import LedgerAway

_SOCKET_TIMEOUT_S = 1.5
"""Two tries have to fit into the 3 s after which TradingView gives up, so that 503 is still heard."""

_REFUSALS = (redis.exceptions.ReadOnlyError, redis.exceptions.OutOfMemoryError, redis.exceptions.BusyLoadingError,
             redis.exceptions.NoPermissionError, redis.exceptions.AuthenticationError)
_AWAY_WORDS = ("MISCONF", "NOREPLICAS", "LOADING", "READONLY", "OOM", "BUSY", "CLUSTERDOWN", "MASTERDOWN", "NOAUTH")


class Connection:
    """What every part of the ledger has: the client, and a second one for waits."""

    def __init__(self, url: str, *, retention_ms: int = 90 * 86_400_000) -> None:
        self._redis = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=_SOCKET_TIMEOUT_S, socket_connect_timeout=_SOCKET_TIMEOUT_S,
            retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 2,
                                    supported_errors=(redis.exceptions.ConnectionError,)),
            health_check_interval=0, protocol=2)
        self._waiting = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=30, socket_connect_timeout=_SOCKET_TIMEOUT_S,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0), protocol=2)
        self._retention_ms = retention_ms
        self._scripts = {name: self._redis.register_script(text) for name, text in _read_scripts().items()}

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()
        self._waiting.close()

    def ping(self) -> None:
        """Raises LedgerAway when Redis does not answer."""
        with away():
            self._redis.ping()

    def check_writable(self) -> None:
        """A tiny durable write. Raises LedgerAway when an alert could not be accepted."""
        with away():
            self._redis.set("bridge:probe", "1", px=60_000)

    def _run(self, name: str, key: str, args: Sequence[Any]) -> Any:
        with away():
            return self._scripts[name](keys=[key], args=[encodable(each) for each in args])


@contextmanager
def away() -> Iterator[None]:
    """Turn Redis's own troubles into LedgerAway; anything else is a fault of ours and stays what it is."""
    try:
        yield
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, *_REFUSALS) as error:
        raise LedgerAway(f"the ledger (Redis) is away: {_words(error)}") from None
    except redis.exceptions.ResponseError as error:
        if str(error).startswith(_AWAY_WORDS) or any(word in str(error) for word in ("MISCONF", "OOM command")):
            raise LedgerAway(f"the ledger (Redis) cannot write: {_words(error)}") from None
        raise


def encodable(value: Any) -> Any:
    """A text that a broker or sender wrote may hold half a surrogate pair; it is kept escaped."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def _words(error: Exception) -> str:
    return str(error).split("\n")[0][:200] or type(error).__name__


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
