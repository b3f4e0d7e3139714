"""The one room that sends: a Call goes out over HTTP or WebSocket, a Reply comes back.

Sent or not is decided here and nowhere else. "Not sent" is a fact: a flag set right before the first byte of the
request, not a guess from an exception's name. Right before that byte the sender's `last_look` is asked; it may still
withhold the call. After it, whatever goes wrong is a Reply without a status: perhaps executed. Nothing is retried, no
redirect is followed, no proxy of the environment is used, a call has a total deadline and a reply a largest size.
"""

from __future__ import annotations

import heapq
import itertools
import json
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool
import websocket

from bridge.call import Call, Reply
from bridge.clock import monotonic
from bridge.numbers import dump_json, load_json

LARGEST_REPLY = 8 * 1024 * 1024
"""Bytes. Order books of busy accounts fit; a reply beyond it counts as not heard."""
KEEP_ALIVE_S = 20.0
"""A connection that was idle for longer is not trusted with an order: the other side may have closed it."""

_HANDSHAKE_REFUSALS = (401, 403, 404, 429)


class Withheld(Exception):
    """The last look said no: nothing was sent."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """Certainly not executed: no byte of the request left this machine."""

    reason: str


class _Watch:
    """Whether the first byte of the request in hand has left."""

    def __init__(self, last_look: Callable[[], None]) -> None:
        self.last_look = last_look
        self.sent = False

    def first_byte(self) -> None:
        if not self.sent:
            self.last_look()
            self.sent = True


_in_hand = threading.local()


def _before_bytes(connection: Any) -> None:
    """Called with every piece that is about to be written; on the first one of a request it takes the last look."""
    watch: _Watch | None = getattr(_in_hand, "watch", None)
    if watch is None or watch.sent:
        return
    if connection.sock is not None and _is_stale(connection):
        connection.sock.close()  # not connection.close(): that would reset the request under way
        connection.sock = connection.bridge_used_at = None
    if connection.sock is None:
        connection.connect()
    if deadline := getattr(_in_hand, "deadline", None):
        deadline.guard(connection.sock)
    watch.first_byte()
    connection.bridge_used_at = monotonic()


def _is_stale(connection: Any) -> bool:
    """Whether a connection that was used before may have been closed by the other side. A new one is not: it may be
    readable for TLS's own messages."""
    used_at: float | None = getattr(connection, "bridge_used_at", None)
    return used_at is not None and (monotonic() - used_at > KEEP_ALIVE_S or _is_readable(connection.sock))


def _is_readable(sock: Any) -> bool:
    """A connection that has something to say before it was asked has been closed, or is out of step."""
    try:
        return bool(select.select([sock], [], [], 0)[0])
    except (OSError, ValueError):
        return True


class _HTTPConnection(urllib3.connection.HTTPConnection):
    def send(self, data: Any) -> None:
        _before_bytes(self)
        super().send(data)


class _HTTPSConnection(urllib3.connection.HTTPSConnection):
    def send(self, data: Any) -> None:
        _before_bytes(self)
        super().send(data)


class _HTTPPool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _Adapter(requests.adapters.HTTPAdapter):
    """`requests` over connections that know their first byte, without its retries."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


class _Deadline:
    """Shuts a socket down when a call's total time is over, however slowly bytes drip."""

    def __init__(self, reaper: _Reaper, seconds: float) -> None:
        self._reaper = reaper
        self.at = monotonic() + seconds
        self.passed = False
        self._sock: Any = None

    def guard(self, sock: Any) -> None:
        if self._sock is None:
            self._sock = sock
            self._reaper.add(self)

    def left(self) -> float:
        return max(0.001, self.at - monotonic())

    def done(self) -> None:
        self._sock = None

    def strike(self) -> None:
        sock = self._sock
        if sock is not None:
            self.passed = True
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class _Reaper:
    """One thread that strikes deadlines."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Deadline]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, deadline: _Deadline) -> None:
        with self._changed:
            heapq.heappush(self._heap, (deadline.at, next(self._count), deadline))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            elif self._heap[0][2] is deadline:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0][0] > monotonic():
                    self._changed.wait(self._heap[0][0] - monotonic() if self._heap else None)
                _, _, deadline = heapq.heappop(self._heap)
            deadline.strike()


_reaper = _Reaper()


class Transport:
    """Connections of one lane: used by one thread at a time, kept warm between calls."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers.clear()
        adapter = _Adapter(max_retries=0, pool_connections=4, pool_maxsize=2)
        self._http.mount("http://", adapter)
        self._http.mount("https://", adapter)
        self._sockets: dict[str, websocket.WebSocket] = {}
        self.used_at: float | None = None
        """When a connection was last seen to work, on the monotonic clock."""

    def close(self) -> None:
        """Close every connection."""
        self._http.close()
        for ws in self._sockets.values():
            with suppress(Exception):
                ws.close(timeout=0)
        self._sockets.clear()

    def send(self, call: Call, last_look: Callable[[], None] = lambda: None,
             within_s: float | None = None) -> Reply | NotSent:
        """Send a dressed call once. `last_look` may raise Withheld right before the first byte.

        `within_s`: the whole call may take no longer than this, where that is less than any call may take.
        """
        timeout_s = self._timeout_s if within_s is None else min(within_s, self._timeout_s)
        watch, deadline = _Watch(last_look), _Deadline(_reaper, timeout_s)
        sent_at = monotonic()
        try:
            reply = self._frame(call, watch, deadline) if call.method == "WS" else self._request(call, watch, deadline)
            self.used_at = sent_at  # the transport counts a connection's age from its last request
            return reply
        except Withheld as error:
            return NotSent(str(error))
        except websocket.WebSocketBadStatusException as error:
            if error.status_code in _HANDSHAKE_REFUSALS:  # the broker's word, and certainly before any frame
                return Reply(status=error.status_code)
            return NotSent(f"the WebSocket handshake was answered with HTTP {error.status_code}")
        except (requests.RequestException, urllib3.exceptions.HTTPError, websocket.WebSocketException, OSError,
                ValueError) as error:
            fault = _words(error, deadline, timeout_s)
            return Reply(status=None, fault=fault) if watch.sent else NotSent(fault)
        finally:
            deadline.done()

    def _request(self, call: Call, watch: _Watch, deadline: _Deadline) -> Reply:
        data = None if call.body is None else dump_json(call.body).encode()
        _in_hand.watch, _in_hand.deadline = watch, deadline
        try:
            with self._http.request(call.method, call.url, data=data, headers=dict(call.headers), stream=True,
                                    allow_redirects=False, timeout=(min(5.0, deadline.left()), deadline.left())) as got:
                body = _read(got, deadline)
                return Reply(status=got.status_code, text=_text(body), headers=_some_headers(got.headers))
        finally:
            _in_hand.watch = _in_hand.deadline = None

    def _frame(self, call: Call, watch: _Watch, deadline: _Deadline) -> Reply:
        ws = self._socket(call, deadline)
        frame = dump_json(call.body)
        wanted = call.body.get("id") if isinstance(call.body, dict) else None
        try:
            ws.settimeout(deadline.left())
            deadline.guard(ws.sock)
            watch.first_byte()
            ws.send(frame)
            while True:
                ws.settimeout(deadline.left())
                text = ws.recv()
                if _frame_id(text) == wanted:
                    return _frame_reply(text)
                if monotonic() > deadline.at:
                    raise websocket.WebSocketTimeoutException("no answer in time")
        except BaseException:
            self._sockets.pop(_place(call), None)
            with suppress(Exception):
                ws.shutdown()  # type: ignore[no-untyped-call]
            raise

    def _socket(self, call: Call, deadline: _Deadline) -> websocket.WebSocket:
        place = _place(call)
        ws = self._sockets.pop(place, None)
        if ws is not None and (ws.sock is None or not ws.connected or _has_ended(ws)):
            with suppress(Exception):
                ws.shutdown()  # type: ignore[no-untyped-call]
            ws = None
        if ws is None:
            headers = [f"{name}: {value}" for name, value in call.headers.items()]
            ws = websocket.create_connection(call.url, timeout=min(5.0, deadline.left()), header=headers,
                                             http_no_proxy=["*"], redirect_limit=0, enable_multithread=False)
        self._sockets[place] = ws
        return ws


def _place(call: Call) -> str:
    return f"{call.url} {hash(tuple(sorted(call.headers.items())))}"


def _has_ended(ws: websocket.WebSocket) -> bool:
    """Drain what came unasked (pings, notices); an end of stream means that the connection is gone."""
    try:
        while _is_readable(ws.sock):
            ws.settimeout(0.2)
            if ws.recv_data(control_frame=True)[0] == websocket.ABNF.OPCODE_CLOSE:
                return True
    except (websocket.WebSocketException, OSError):
        return True
    return False


def _frame_id(text: str | bytes) -> Any:
    try:
        heard = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return None
    return heard.get("id") if isinstance(heard, dict) else None


def _frame_reply(text: str | bytes) -> Reply:
    """The answer's `data`; a frame without it, or one that is no strict JSON, goes on whole for the broker's file."""
    try:
        heard = load_json(text)
    except ValueError:
        return Reply(status=200, text=text if isinstance(text, str) else _text(text))
    return Reply(status=200, text=dump_json(heard.get("data", heard)))


def _read(got: requests.Response, deadline: _Deadline) -> bytes:
    pieces, size = [], 0
    for piece in got.raw.stream(65536, decode_content=True):
        size += len(piece)
        if size > LARGEST_REPLY:
            raise ValueError(f"the reply is larger than {LARGEST_REPLY} bytes")
        if monotonic() > deadline.at:
            raise TimeoutError
        pieces.append(piece)
    if deadline.passed:  # the end of the stream was our own doing
        raise TimeoutError
    return b"".join(pieces)


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return "\ufffd" + body.decode("utf-8", "replace")


def _some_headers(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if name.lower() in ("retry-after", "content-type")}


def _words(error: Exception, deadline: _Deadline, timeout_s: float) -> str:
    """What went wrong, without the URL or anything that was sent."""
    if deadline.passed or isinstance(error, TimeoutError | requests.Timeout | websocket.WebSocketTimeoutException):
        return f"no complete reply within {timeout_s:g} s"
    text = str(error).lower()
    for mark, words in _WORDS:
        if mark in text:
            return words
    if type(error) is ValueError:
        return str(error)
    return next((words for kinds, words in _WORDS_BY_KIND if isinstance(error, kinds)), "the connection failed")


_WORDS = (
    ("name or service not known", "the broker's host name cannot be resolved"),
    ("name resolution", "the broker's host name cannot be resolved"),
    ("failed to resolve", "the broker's host name cannot be resolved"),
    ("certificate", "the broker's TLS certificate is not valid"),
    ("connection refused", "the connection was refused"),
    ("remote end closed", "the connection was closed without a reply"),
    ("reset by peer", "the connection was reset"),
    ("incompleteread", "the reply broke off"),
    ("connection to remote host was lost", "the connection was lost"),
    ("cannot decode: ", "the reply's text is no UTF-8"),
    ("decode", "the reply cannot be read: its encoding is damaged"),
    ("connection broken", "the reply broke off"),
)
_WORDS_BY_KIND: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((websocket.WebSocketPayloadException, websocket.WebSocketProtocolException), "the reply broke the rules of WebSocket"),
    ((urllib3.exceptions.ProtocolError, requests.exceptions.ChunkedEncodingError), "the reply was no whole HTTP reply"),
)


def host_of(url: str) -> str:
    """Host and port of a URL, for words."""
    return urlsplit(url).netloc
