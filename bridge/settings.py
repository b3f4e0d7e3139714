"""Every BRIDGE_* setting in one table: read once at start, passed on, printed by `bridge config`.

A secret setting may name a file that holds it: `${file:/run/secrets/bridge_secret}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bridge.errors import SettingsError
from bridge.secret_refs import resolve

_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h|d)?", re.ASCII)
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, None: 1000}


def read_duration(text: str) -> int:
    """`250ms`, `60s`, `15m`, `24h`, `90d`, or plain seconds, in milliseconds. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is not a duration like 60s, 15m or 24h")
    return int(found[1]) * _UNITS_MS[found[2]]


def _seconds(text: str) -> float:
    return read_duration(text) / 1000


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text.strip()):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _bind(text: str) -> str:
    host, colon, port = text.strip().rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f"{text!r} is not HOST:PORT with a port of at most 65535")
    return text.strip()


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where the ledger's servers are: `kind` single, sentinel or cluster.

    `plain` is a URL of one server with the same log-in, database and options. For Sentinel, `hosts` are the Sentinels,
    which know where the primary of `service` is; for Cluster, some of its nodes.
    """

    kind: str
    plain: str
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""

    def __repr__(self) -> str:
        return f"RedisAddress({self.kind})"


_REDIS_FORMS = ("redis://, rediss:// or unix:// (one server), redis+sentinel://HOST:PORT,…/SERVICE (or rediss+sentinel://), "
                "redis+cluster://HOST:PORT,… (or rediss+cluster://)")


def read_redis_url(text: str) -> RedisAddress:
    """The parts of a BRIDGE_REDIS_URL. Raises ValueError in words, without the password."""
    scheme, _, rest = text.partition("://")
    base, _, kind = scheme.partition("+")
    if scheme in ("redis", "rediss", "unix") and rest:
        return RedisAddress("single", text)
    if base not in ("redis", "rediss") or kind not in ("sentinel", "cluster"):
        raise ValueError(f"must be one of {_REDIS_FORMS}")
    rest, question, query = rest.partition("?")
    place, _, path = rest.partition("/")
    login, at, listed = place.rpartition("@")
    hosts = tuple(_host(each, 26379 if kind == "sentinel" else 6379) for each in listed.split(","))
    service, _, database = path.partition("/")
    if kind == "cluster":
        if path not in ("", "0"):
            raise ValueError("names a database, but a cluster has only database 0")
    elif not service or not re.fullmatch(r"\d{0,4}", database, re.ASCII):
        raise ValueError("must name the service that the Sentinels watch: redis+sentinel://HOST:PORT,…/SERVICE or …/SERVICE/DB")
    database = database or "0"
    return RedisAddress(kind, f"{base}://{login}{at}placeholder:1/{database}{question}{query}", hosts,
                        unquote(service) if kind == "sentinel" else "")


def _host(text: str, port: int) -> tuple[str, int]:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]@]+)(?::(\d{1,5}))?", text, re.ASCII)
    if not found or int(found[2] or port) > 65535:
        raise ValueError("must list its hosts as HOST:PORT,HOST:PORT")
    return found[1].strip("[]"), int(found[2] or port)


def _redis_url(text: str) -> str:
    if text:
        read_redis_url(text)
    return text


def _secret(text: str) -> str:
    if text and len(text) < 16:
        raise ValueError("is shorter than 16 characters and could be guessed")
    if text and not re.fullmatch(r"[A-Za-z0-9._~-]+", text):
        raise ValueError("may hold only letters, digits and . _ ~ - (it is a part of the webhook URL)")
    return text


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table. `read` turns the text into the value and raises ValueError in words."""

    name: str
    default: str
    read: Callable[[str], Any]
    meaning: str
    secret: bool = False


SETTINGS: tuple[Setting, ...] = (
    Setting("BRIDGE_REDIS_URL", "", _redis_url,
            "the Redis or Valkey server (redis://, rediss://, unix://, redis+sentinel://, redis+cluster://); "
            "unset: the embedded one in BRIDGE_DATA", True),
    Setting("BRIDGE_REPLICAS", "0", _count,
            "how many replicas must have an alert before it is accepted, and the record that an order is sent before it is"),
    Setting("BRIDGE_TEMPLATES", "templates", Path, "folder of the templates"),
    Setting("BRIDGE_ACCOUNTS", "accounts.yaml", Path, "file that names the accounts"),
    Setting("BRIDGE_SECRET", "", _secret,
            "secret of the webhook URLs and key of the stored broker tokens; unset: `bridge up` makes and keeps one", True),
    Setting("BRIDGE_DATA", ".bridge", Path,
            "folder of the embedded server, where every command finds it, and of brokers' instrument masters"),
    Setting("BRIDGE_BIND", "127.0.0.1:8080", _bind, "where the receiver listens"),
    Setting("BRIDGE_DASHBOARD_BIND", "127.0.0.1:8081", _bind, "where the dashboard will listen"),
    Setting("BRIDGE_SANDBOX_BIND", "127.0.0.1:8082", _bind, "where the broker sandbox listens"),
    Setting("BRIDGE_SANDBOX", "", str, "URL of a sandbox that every account points at; `bridge up --sandbox` sets it"),
    Setting("BRIDGE_RECEIVER_WORKERS", "1", _count, "processes of the receiver"),
    Setting("BRIDGE_RECEIVER_THREADS", "8", _count, "threads in each of them"),
    Setting("BRIDGE_BODY_TIMEOUT", "5s", _seconds, "how long a sender may take to deliver an alert's body"),
    Setting("BRIDGE_CALL_TIMEOUT", "10s", _seconds, "how long a call to a broker may take as a whole"),
    Setting("BRIDGE_LEASE", "20s", _seconds, "how long a worker owns a lane without renewing it"),
    Setting("BRIDGE_LOOKUP_PATIENCE", "10s", _seconds, "how long a doubtful order is looked up before a person is told"),
    Setting("BRIDGE_SETTLE", "10s", _seconds,
            "how long after its send deadline an order may still appear at a broker; before that its absence proves nothing"),
    Setting("BRIDGE_STEP_PATIENCE", "30s", _seconds, "how long a later step of an order is repeated before it is undone"),
    Setting("BRIDGE_SHUTDOWN_TIMEOUT", "4s", _seconds, "how long a process may take to stop"),
    Setting("BRIDGE_RETENTION", "90d", read_duration, "how long ended orders and alerts are kept"),
    Setting("BRIDGE_LOG_FORMAT", "", str, "text or json; unset: text on a terminal, json elsewhere"),
    Setting("BRIDGE_LOG_LEVEL", "info", str, "debug, info, warning or error"),
)


@dataclass(frozen=True)
class Settings:
    """The settings of this process. Attributes are the names without BRIDGE_, in lower case."""

    redis_url: str
    replicas: int
    templates: Path
    accounts: Path
    secret: str
    data: Path
    bind: str
    dashboard_bind: str
    sandbox_bind: str
    sandbox: str
    receiver_workers: int
    receiver_threads: int
    body_timeout: float
    call_timeout: float
    lease: float
    lookup_patience: float
    settle: float
    step_patience: float
    shutdown_timeout: float
    retention: int
    log_format: str
    log_level: str
    sources: Mapping[str, str]
    unknown: tuple[str, ...] = ()
    """Names in the environment that begin like a setting and are none: a slip, or a secret that a file names."""

    def __repr__(self) -> str:
        return "Settings(…)"


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings that `environ` gives. Raises SettingsError that names every wrong one, without a secret's value."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    wrong: list[str] = []
    for setting in SETTINGS:
        given = environ.get(setting.name, "")
        sources[setting.name] = "environment" if given else "default"
        try:
            if setting.secret and given.startswith("${file:"):
                sources[setting.name] = given.removeprefix("${").removesuffix("}")
                given = _of_file(given)
            values[setting.name.removeprefix("BRIDGE_").lower()] = setting.read(given or setting.default)
        except ValueError as error:
            wrong.append(f"{setting.name} {error}")
    if not wrong and values["lease"] * 3 / 4 <= values["call_timeout"]:
        wrong.append("BRIDGE_LEASE must be more than 4/3 of BRIDGE_CALL_TIMEOUT: a lane's lease has to outlast the "
                     "longest call, or nothing is ever sent")
    if wrong:
        raise SettingsError("\n".join(wrong))
    unknown = sorted(name for name in environ if name.startswith("BRIDGE_") and name not in _KNOWN)
    return Settings(**values, sources=sources, unknown=tuple(unknown))


def _of_file(reference: str) -> str:
    try:
        return resolve(reference, {})
    except ValueError as error:
        raise ValueError(f"is to be read from a file: {error}") from None


_KNOWN = {setting.name for setting in SETTINGS} | {"BRIDGE_PARENT_PID"}


def mask_url(url: str) -> str:
    """A URL without its passwords: that of the log-in, and those among its options."""
    scheme, mark, rest = url.partition("://")
    login, at, rest = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    rest = re.sub(r"([^?&=]*password)=[^&]*", r"\1=***", rest)
    return f"{scheme}{mark}{user}{colon}{'***' if colon else ''}{at}{rest}"
