"""What travels: one request in, one reply out, and the record that the witness keeps of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, unquote

from . import jsontext

MASK = "***"
_SECRET_HEADERS = {
    "authorization", "proxy-authorization", "cookie", "x-authorization-token", "x-auth-token", "x-privatekey",
}  # fmt: skip
_SECRET_FIELDS = {
    "password", "sec", "secret", "token", "channel_secret", "answer", "accesstoken", "access_token", "client_secret",
}  # fmt: skip


@dataclass(slots=True)
class Request:
    """One HTTP request, its body decoded. `broken` says that a body was there and was not JSON."""

    method: str
    path: str
    query: dict[str, str]
    raw_query: str
    headers: dict[str, str]
    lower: dict[str, str]
    body: Any
    broken: bool = False

    def parameters(self) -> dict[str, Any]:
        """Query and JSON body together; the body wins where both name a field."""
        merged: dict[str, Any] = dict(self.query)
        if isinstance(self.body, dict):
            merged.update(self.body)
        return merged


@dataclass(slots=True)
class Reply:
    """A status with a JSON value, or with literal bytes when `content` is set."""

    status: int = 200
    data: Any = None
    content: bytes | None = None
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        if self.content is not None:
            return self.content
        return jsontext.dumps(self.data).encode("ascii")


def text_reply(status: int, text: str) -> Reply:
    return Reply(status, content=text.encode("utf-8"), content_type="text/plain; charset=utf-8")


@dataclass(slots=True)
class Record:
    """A broker request as it arrived; `status` is what was answered, None when the connection was closed instead."""

    broker: str
    operation: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    at: str
    status: int | None = None

    def request(self) -> dict[str, Any]:
        """The `request` object of the witness, secrets masked."""
        shown: dict[str, Any] = {
            "method": self.method,
            "path": self.path,
            "headers": {
                name: MASK if name.lower() in _SECRET_HEADERS else value for name, value in self.headers.items()
            },
            "body": masked(self.body),
        }
        if self.query:
            shown["query"] = masked(self.query)
        return shown


def masked(value: Any) -> Any:
    """The same JSON value with every password, secret and token replaced."""
    if isinstance(value, dict):
        return {
            name: MASK if str(name).lower() in _SECRET_FIELDS and item else masked(item) for name, item in value.items()
        }
    if isinstance(value, list):
        return [masked(item) for item in value]
    return value


def make_request(method: str, target: str, headers: list[tuple[str, str]], raw: bytes) -> Request:
    """Decode target and body. Never fails: what is not JSON stays text and is marked `broken`."""
    path, _, raw_query = target.partition("?")
    if "%" in path:
        path = unquote(path)
    body: Any = None
    broken = False
    if raw:
        try:
            body = jsontext.loads(raw)
        except jsontext.NotJson:
            body, broken = raw.decode("utf-8", "replace"), True
    query = dict(parse_qsl(raw_query, keep_blank_values=True)) if raw_query else {}
    lower = {name.lower(): value for name, value in headers}
    return Request(method, path, query, raw_query, dict(headers), lower, body, broken)


def bearer(request: Request) -> str:
    """The token of `Authorization: Bearer …`, or an empty string."""
    scheme, _, token = request.lower.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def plain_number(value: Any) -> Decimal | None:
    """A JSON number of sane size as Decimal; None for everything else (a bool is no number)."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        return None
    exact = Decimal(value)
    return exact if abs(exact.adjusted()) <= 30 else None


def now_iso() -> str:
    """The present moment as brokers write it: 2026-11-20T15:30:00.123Z."""
    return iso(datetime.now(UTC))


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def parse_iso(text: str) -> datetime | None:
    """An ISO 8601 moment with a zone, or None."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
