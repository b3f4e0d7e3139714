"""The one room that sends: a Call goes out over HTTP or WebSocket, a Reply comes back.

Sent or not is decided here and nowhere else. "Not sent" is a fact: a flag set right before the first byte of the
request, not a guess from an exception's name. Right before that byte the sender's `last_look` is asked; it may still
withhold the call. After it, whatever goes wrong is a Reply without a status: perhaps executed. Nothing is retried, no
redirect is followed, no proxy of the environment is used, a reply has a largest size, and a call a total deadline:
looking up the host's name, connecting and both handshakes count.
"""

from __future__ import annotations

import heapq
import itertools
import json
import queue
import select
import socket
import ssl
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
from bridge.errors import ServiceError
from bridge.numbers import dump_json, load_json

LARGEST_REPLY = 8 * 1024 * 1024
"""Bytes. Order books of busy accounts fit; a reply beyond it counts as not heard."""
KEEP_ALIVE_S = 20.0
"""A connection that was idle for longer is not trusted with an order: the other side may have closed it."""

_CONNECT_S = 5.0
"""The most that one address of a host is waited for."""
_DRAIN_S = 0.2
"""The most that is spent on reading what a WebSocket said unasked; one that says more is given up for a new one."""
_HANDSHAKE_REFUSALS = (401, 403, 404, 429)


class Withheld(Exception):
    """The last look said no: nothing was sent."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """Certainly not executed: no byte of the request left this machine."""

    reason: str


class _Watch:
    """Whether the first byte of the request in hand has left."""

    def __init__(self, last_look: Callable[[], None], has_body: bool = False) -> None:
        self.last_look = last_look
        self.sent = False
        self.has_body = has_body
        self._head = b""

    def whole(self, data: bytes) -> bytes:
        """Head and body in one piece; b"" for a head whose body is yet to come.

        They leave in one write: a process that was stopped between two would send the rest of an order whenever it goes on.
        """
        if self.has_body and not self.sent and not self._head:
            self._head = data
            return b""
        data, self._head = self._head + data, b""
        return data

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
        deadline.check()
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
        if isinstance(sock, ssl.SSLSocket) and sock.pending():  # read off the wire already: select does not see it
            return True
        return bool(select.select([sock], [], [], 0)[0])
    except (OSError, ValueError):
        return True


def _whole(data: Any) -> Any:
    """The piece that is to be written now, of what urllib3 hands over in two."""
    watch: _Watch | None = getattr(_in_hand, "watch", None)
    return data if watch is None else watch.whole(data)


class _HTTPConnection(urllib3.connection.HTTPConnection):
    def send(self, data: Any) -> None:
        if piece := _whole(data):
            _before_bytes(self)
            super().send(piece)

    def _new_conn(self) -> socket.socket:
        return _dialled(self) or super()._new_conn()


class _HTTPSConnection(urllib3.connection.HTTPSConnection):
    def send(self, data: Any) -> None:
        if piece := _whole(data):
            _before_bytes(self)
            super().send(piece)

    def _new_conn(self) -> socket.socket:
        return _dialled(self) or super()._new_conn()


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

    def check(self) -> None:
        """TimeoutError once it has passed."""
        if monotonic() >= self.at:
            self.passed = True
            raise TimeoutError

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


def _connected(host: str, port: int, deadline: _Deadline) -> socket.socket:
    """A connection to the host itself. The deadline is shared by all of its addresses, so that a dead one leaves time
    for the next. OSError when none takes it, of them TimeoutError."""
    addresses = _addresses(host, port, deadline)
    fault: OSError = OSError("the host has no address")
    for left, (family, kind, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # a kind of address that this machine does not know
            fault = error
            continue
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(min(_CONNECT_S, deadline.left() / left))
            sock.connect(address)
            sock.settimeout(deadline.left())  # TLS's handshake, as a whole, has as long
            return sock
        except OSError as error:
            sock.close()
            fault = error
    raise fault


def _addresses(host: str, port: int, deadline: _Deadline) -> list[Any]:
    """The host's addresses. The system's resolver takes no deadline: it is asked in a thread, left behind if need be."""
    answers: queue.SimpleQueue[list[Any] | OSError | ValueError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except (OSError, ValueError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="resolver", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError("the host's name was not resolved in time") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _dialled(connection: Any) -> socket.socket | None:
    """A connection for the HTTP call in hand, within its deadline; None when there is none in hand."""
    deadline: _Deadline | None = getattr(_in_hand, "deadline", None)
    if deadline is None:
        return None
    try:
        return _connected(connection._dns_host.strip("[]"), connection.port, deadline)
    except socket.gaierror as error:
        raise urllib3.exceptions.NameResolutionError(connection.host, connection, error) from error
    except TimeoutError as error:
        raise urllib3.exceptions.ConnectTimeoutError(connection, "timed out") from error
    except OSError as error:
        raise urllib3.exceptions.NewConnectionError(connection, str(error)) from error


class _Line:
    """The connection below a WebSocket: used until a moment that it is told, and read only so far.

    websocket-client has neither bound: its time limit starts anew with every byte, and a frame has any length.
    """

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock = sock
        self.used_at = monotonic()
        self.allow(until)

    def allow(self, until: float) -> None:
        """Time until then, and room for one reply."""
        self.until, self.room = until, LARGEST_REPLY

    def recv(self, size: int) -> bytes:
        self._bound()
        piece = self._sock.recv(size)
        self.room -= len(piece)
        if self.room < 0:
            raise ValueError(f"the reply is larger than {LARGEST_REPLY} bytes")
        return piece

    def send(self, data: bytes) -> int:
        self._bound()
        return self._sock.send(data)

    def is_readable(self) -> bool:
        return _is_readable(self._sock)

    def _bound(self) -> None:
        left = self.until - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


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
        self._tls: ssl.SSLContext | None = None
        self.used_at: float | None = None
        """When a connection was last seen to work, on the monotonic clock."""

    def close(self) -> None:
        """Close every connection."""
        self._http.close()
        for ws in self._sockets.values():
            with suppress(Exception):
                _line(ws).allow(monotonic() + _DRAIN_S)
                ws.close(timeout=0)
        self._sockets.clear()

    def send(self, call: Call, last_look: Callable[[], None] = lambda: None,
             within_s: float | None = None) -> Reply | NotSent:
        """Send a dressed call once. `last_look` may raise Withheld right before the first byte.

        `within_s`: the whole call may take no longer than this, where that is less than any call may take.
        """
        timeout_s = self._timeout_s if within_s is None else min(within_s, self._timeout_s)
        watch, deadline = _Watch(last_look, call.body is not None), _Deadline(_reaper, timeout_s)
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
            fault = _words(error, deadline, timeout_s, watch.sent)
            return Reply(status=None, fault=fault) if watch.sent else NotSent(fault)
        finally:
            deadline.done()

    def _request(self, call: Call, watch: _Watch, deadline: _Deadline) -> Reply:
        data = None if call.body is None else dump_json(call.body).encode()
        _in_hand.watch, _in_hand.deadline = watch, deadline
        try:
            with self._http.request(call.method, call.url, data=data, headers=dict(call.headers), stream=True,
                                    allow_redirects=False, timeout=(min(5.0, deadline.left()), deadline.left())) as got:
                body = _read(got, deadline, LARGEST_REPLY)
                return Reply(status=got.status_code, text=_text(body), headers=_some_headers(got.headers))
        finally:
            _in_hand.watch = _in_hand.deadline = None

    def _frame(self, call: Call, watch: _Watch, deadline: _Deadline) -> Reply:
        ws = self._socket(call, deadline)
        line = _line(ws)
        frame = dump_json(call.body)
        wanted = call.body.get("id") if isinstance(call.body, dict) else None
        try:
            deadline.check()
            watch.first_byte()
            line.used_at = monotonic()
            line.allow(deadline.at)
            ws.send(frame)
            while True:
                text = _next_text(ws)
                if _frame_id(text) == wanted:
                    return _frame_reply(text)
                line.allow(deadline.at)
        except BaseException:
            self._sockets.pop(_place(call), None)
            _drop(ws)
            raise

    def _socket(self, call: Call, deadline: _Deadline) -> websocket.WebSocket:
        place = _place(call)
        ws = self._sockets.pop(place, None)
        if ws is not None and _has_ended(ws, deadline):
            _drop(ws)
            ws = None
        self._sockets[place] = ws = ws or self._opened(call, deadline)
        return ws

    def _opened(self, call: Call, deadline: _Deadline) -> websocket.WebSocket:
        """A new WebSocket over a connection of our own: the library would use the environment's proxy."""
        where = urlsplit(call.url)
        secure = where.scheme == "wss"
        host = where.hostname or ""
        sock = _connected(host, where.port or (443 if secure else 80), deadline)
        try:
            if secure:
                self._tls = self._tls or ssl.create_default_context()
                sock = self._tls.wrap_socket(sock, server_hostname=host)
            headers = [f"{name}: {value}" for name, value in call.headers.items()]
            # The library's own check of UTF-8 takes seconds for a large reply; `_next_text` makes up for it.
            return websocket.create_connection(call.url, socket=_Line(sock, deadline.at), header=headers,
                                               redirect_limit=0, enable_multithread=False, skip_utf8_validation=True)
        except BaseException:
            sock.close()
            raise


def _place(call: Call) -> str:
    return f"{call.url} {hash(tuple(sorted(call.headers.items())))}"


def _line(ws: websocket.WebSocket) -> _Line:
    line: Any = ws.sock
    if not isinstance(line, _Line):
        raise websocket.WebSocketConnectionClosedException("Connection to remote host was lost.")
    return line


def _drop(ws: websocket.WebSocket) -> None:
    with suppress(Exception):
        ws.shutdown()  # type: ignore[no-untyped-call]


def _has_ended(ws: websocket.WebSocket, deadline: _Deadline) -> bool:
    """Whether a kept WebSocket is not to be trusted with an order. Drains what came unasked (pings, notices)."""
    try:
        line = _line(ws)
        if not ws.connected or monotonic() - line.used_at > KEEP_ALIVE_S:
            return True
        line.allow(min(deadline.at, monotonic() + _DRAIN_S))
        while line.is_readable():
            if ws.recv_data(control_frame=True)[0] == websocket.ABNF.OPCODE_CLOSE:
                return True
    except (websocket.WebSocketException, OSError, ValueError):
        return True
    return False


def _next_text(ws: websocket.WebSocket) -> str:
    """The next message, whoever it is for."""
    opcode, data = ws.recv_data()
    if opcode == websocket.ABNF.OPCODE_CLOSE:
        raise websocket.WebSocketConnectionClosedException("Connection to remote host was lost.")
    return data.decode() if opcode == websocket.ABNF.OPCODE_TEXT else _text(data)


def _frame_id(text: str) -> Any:
    try:
        heard = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return None
    return heard.get("id") if isinstance(heard, dict) else None


def _frame_reply(text: str) -> Reply:
    """The answer's `data`, or all of the frame but its `id` where it says more: what it says beside may contradict.

    One that is no strict JSON goes on whole for the broker's file.
    """
    try:
        heard = load_json(text)
    except ValueError:
        return Reply(status=200, text=text)
    if not isinstance(heard, dict):
        return Reply(status=200, text=text)
    more = {name: value for name, value in heard.items() if name != "id"}
    return Reply(status=200, text=dump_json(more["data"] if set(more) == {"data"} else more))


def download(url: str, *, within_s: float, most: int) -> bytes:
    """What stands at an address, asked for once, without a log-in. Raises ServiceError in words."""
    transport, watch, deadline = Transport(within_s), _Watch(lambda: None), _Deadline(_reaper, within_s)
    _in_hand.watch, _in_hand.deadline = watch, deadline
    try:
        with transport._http.get(url, stream=True, allow_redirects=False,
                                 timeout=(min(_CONNECT_S, deadline.left()), deadline.left())) as got:
            body = _read(got, deadline, most)
        if got.status_code != 200:
            raise ServiceError(f"{host_of(url)} answered with HTTP {got.status_code}")
        return body
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise ServiceError(f"{host_of(url)}: {_words(error, deadline, within_s, watch.sent)}") from None
    finally:
        _in_hand.watch = _in_hand.deadline = None
        deadline.done()
        transport.close()


def _read(got: requests.Response, deadline: _Deadline, most: int) -> bytes:
    pieces, size = [], 0
    for piece in got.raw.stream(65536, decode_content=True):
        size += len(piece)
        if size > most:
            raise ValueError(f"the reply is larger than {most} bytes")
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


_HEADERS = ("retry-after", "date", "content-type")


def _some_headers(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if name.lower() in _HEADERS}


def _words(error: Exception, deadline: _Deadline, timeout_s: float, sent: bool) -> str:
    """What went wrong, without the URL or anything that was sent."""
    if deadline.passed or isinstance(error, _TIMEOUTS):
        return f"no complete reply within {timeout_s:g} s" if sent else "no connection to the broker was made in time"
    text = str(error).lower()
    for mark, words in _WORDS:
        if mark in text:
            return words
    if type(error) is ValueError:
        return str(error)
    return next((words for kinds, words in _WORDS_BY_KIND if isinstance(error, kinds)), "the connection failed")


_TIMEOUTS = (TimeoutError, requests.Timeout, urllib3.exceptions.ReadTimeoutError, websocket.WebSocketTimeoutException)
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
    ("codec can't decode", "the reply's text is no UTF-8"),
    ("decode", "the reply cannot be read: its encoding is damaged"),
    ("connection broken", "the reply broke off"),
)
_WORDS_BY_KIND: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((socket.gaierror,), "the broker's host name cannot be resolved"),
    ((websocket.WebSocketPayloadException, websocket.WebSocketProtocolException), "the reply broke the rules of WebSocket"),
    ((urllib3.exceptions.ProtocolError, requests.exceptions.ChunkedEncodingError), "the reply was no whole HTTP reply"),
)


def host_of(url: str) -> str:
    """Host and port of a URL, for words."""
    return urlsplit(url).netloc
