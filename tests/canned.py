"""A canned broker: a real server on the loopback that answers every write with the bytes a test gives it.

It speaks HTTP and CrossTrade's WebSocket. Log-ins succeed; look-ups show a book in which nothing can be found. It keeps
every write that arrived: the witness of what was sent.
"""

from __future__ import annotations

import base64
import datetime
import io
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bridge.accounts import load_accounts
from bridge.sandbox.websocket import TEXT, WebSocket, frame, handshake
from bridge.sandbox.wire import Request
from bridge.work import Account

SECRET = "leak-me"
"""Stands in every credential, token and log-in of a canned broker: it must be seen nowhere."""

_ACCOUNTS = {
    "tradovate": "{broker: tradovate, environment: demo, account: DEMO123456, account_id: 123456, credentials: {name: "
                 "'${NAME}', password: '${PASSWORD}', cid: '${CID}', sec: '${SEC}', device_id: '${DEVICE}'}",
    "crosstrade": "{broker: crosstrade, account: Sim101, transport: rest, credentials: {token: '${TOKEN}'}",
    "crosstrade-ws": "{broker: crosstrade, account: Sim101, transport: websocket, credentials: {token: '${TOKEN}'}",
    "pocketful": "{broker: pocketful, client_id: YG1234, credentials: {token: '${TOKEN}'}, options: {stop_loss_value: "
                 "price, product: MIS}",
}
WAYS = tuple(_ACCOUNTS)
"""Every broker, CrossTrade over both of its transports."""
_SECRETS = {"NAME": f"name-{SECRET}", "PASSWORD": f"password-{SECRET}", "CID": "8", "SEC": f"sec-{SECRET}",
            "DEVICE": f"device-{SECRET}", "TOKEN": f"token-{SECRET}"}


def accounts_at(folder: Path, places: Mapping[str, tuple[str, str]]) -> dict[str, Account]:
    """Accounts read from an accounts file: our name of each → (way, address of its broker)."""
    lines = [f"  {name}: {_ACCOUNTS[way]}, base_url: '{url}'}}" for name, (way, url) in places.items()]
    path = folder / "accounts.yaml"
    path.write_text("\n".join(["accounts:", *lines, ""]))
    loaded = load_accounts(path, _SECRETS)
    assert not loaded.faults, loaded.faults
    return dict(loaded.accounts)


@dataclass(frozen=True)
class Answer:
    """What a write is answered with. `ends`: a fault in place of an answer, or in the middle of it.

    `closed`: hung up without a byte; `reset`: the same with a TCP reset; `silent`: nothing is ever said; `cut`: hung up
    in the middle of the body. Over a WebSocket the body is the frame's `data`; there is no status.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    ends: str = ""
    repeat: int = 1

    @classmethod
    def json(cls, value: Any, status: int = 200, **headers: str) -> Answer:
        """An answer with a JSON body."""
        return cls(status, {"Content-Type": "application/json", **headers}, json.dumps(value).encode())

    @classmethod
    def recorded(cls, reply: Mapping[str, Any]) -> Answer:
        """A reply as the shared files write it: a text, `base64`, or `repeat`."""
        body = reply["body"]
        if isinstance(body, str):
            return cls(reply["status"], reply["headers"], body.encode())
        if "base64" in body:
            return cls(reply["status"], reply["headers"], base64.b64decode(body["base64"]))
        return cls(reply["status"], reply["headers"], body["repeat"]["byte"].encode(), repeat=body["repeat"]["count"])


@dataclass(frozen=True)
class Write:
    """A write that arrived whole: `path` is the frame's `api` over a WebSocket."""

    path: str
    body: Any


def _tradovate_book(path: str) -> Answer:
    if path.startswith("/v1/auth/"):
        return Answer.json({"accessToken": f"token-{SECRET}", "expirationTime": "2099-01-01T00:00:00Z", "userId": 1})
    if "contract/find" in path:
        return Answer.json({"id": 7, "name": "ESZ6"})
    return Answer(404) if "/item" in path else Answer.json([])


def _crosstrade_book(path: str) -> Answer:
    if path in ("ListOrders", "ListPositions") or path.partition("?")[0].endswith(("/orders", "/positions")):
        return Answer.json({"orders": [], "positions": [], "count": 0, "success": True})
    return Answer.json({"error": "unknown order id", "success": False})


def _pocketful_book(path: str) -> Answer:
    """One of the two books cannot be read: so nothing is proven absent."""
    if "type=completed" in path:
        return Answer(503, {"Content-Type": "text/html"}, b"<html>later</html>")
    return whole_books(path)


def whole_books(path: str) -> Answer:
    """Pocketful's books, both of them empty and complete."""
    return Answer.json({"data": {"orders": []}, "message": "", "status": "success"})


BOOKS: dict[str, Callable[[str], Answer]] = {
    "tradovate": _tradovate_book, "crosstrade": _crosstrade_book, "crosstrade-ws": _crosstrade_book,
    "pocketful": _pocketful_book}
_WRITING_FRAMES = ("PlaceOrder", "Cancel", "ClosePosition")


class CannedBroker:
    """Answers each write with the next of `answers` and from then on with the last of them."""

    def __init__(self, way: str, *answers: Answer, tls: ssl.SSLContext | None = None, listening: bool = True) -> None:
        self.writes: list[Write] = []
        self.answers = list(answers)
        self.book = BOOKS[way]
        self._tls, self._open = tls, set[socket.socket]()
        self._closing, self._lock = threading.Event(), threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"
        if listening:
            self.listen()

    def listen(self) -> None:
        """Begin to answer: until then, connections to its address are refused."""
        self._listener.listen(16)
        self._start(self._accept)

    def close(self) -> None:
        """Hang up and stop."""
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
            assert not thread.is_alive()
        self._listener.close()

    # -- connections -----------------------------------------------------------------------------------------------

    def _start(self, run: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                if self._tls:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                with self._lock:
                    self._open.add(connection)
                if self._closing.is_set():
                    return
                with connection, connection.makefile("rb") as stream:
                    self._talk(connection, stream)
            except (OSError, ValueError):
                return  # the other side hung up, or did not trust our certificate
            finally:
                with self._lock:
                    self._open.discard(connection)

    def _talk(self, connection: socket.socket, stream: io.BufferedReader) -> None:
        while (request := _read(stream)) is not None:
            if "sec-websocket-key" in request.lower:
                connection.sendall(handshake(request))
                self._talk_in_frames(connection, stream)
                return
            answer = self._answer_to(request.method != "GET", request.path, request.body)
            if not self._say(connection, answer):
                return

    def _talk_in_frames(self, connection: socket.socket, stream: io.BufferedReader) -> None:
        going = threading.Event()
        going.set()

        def heard(_: WebSocket, text: str) -> None:
            asked = json.loads(text)
            answer = self._answer_to(asked["api"] in _WRITING_FRAMES, asked["api"], asked)
            if not self._say_in_frame(connection, asked["id"], answer):
                going.clear()

        ws = WebSocket(heard)
        ws.opened(connection.sendall, going.clear)
        while going.is_set() and (data := stream.read1(65536)):
            ws.received(data)

    # -- answers ---------------------------------------------------------------------------------------------------

    def _answer_to(self, writes: bool, path: str, body: Any) -> Answer:
        if not writes or path.startswith("/v1/auth/"):
            return self.book(path)
        with self._lock:
            self.writes.append(Write(path, body))
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def _say(self, connection: socket.socket, answer: Answer) -> bool:
        """Answer over HTTP; returns whether the connection goes on."""
        if answer.ends and answer.ends != "cut":
            self._end(connection, answer.ends)
            return False
        headers = dict(answer.headers)
        if "Transfer-Encoding" not in headers:
            headers["Content-Length"] = str(len(answer.body) * answer.repeat + 100 * bool(answer.ends))
        lines = [f"HTTP/1.1 {answer.status} Canned", *(f"{name}: {each}" for name, each in headers.items()), "", ""]
        connection.sendall("\r\n".join(lines).encode("latin-1"))
        for piece in _pieces(answer):
            connection.sendall(piece)
        return not answer.ends

    def _say_in_frame(self, connection: socket.socket, frame_id: str, answer: Answer) -> bool:
        if answer.ends and answer.ends != "cut":
            self._end(connection, answer.ends)
            return False
        text = b'{"id": "%s", "data": %s}' % (frame_id.encode(), b"".join(_pieces(answer)) or b'""')
        whole = frame(TEXT, text)
        connection.sendall(whole[:-10] if answer.ends else whole)
        return not answer.ends

    def _end(self, connection: socket.socket, how: str) -> None:
        if how == "silent":
            self._closing.wait(60)
        elif how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
        else:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def canned(way: str, *answers: Answer, tls: ssl.SSLContext | None = None, listening: bool = True,
           ) -> Iterator[CannedBroker]:
    """A canned broker for as long as the block lasts."""
    broker = CannedBroker(way, *answers, tls=tls, listening=listening)
    try:
        yield broker
    finally:
        broker.close()


def untrusted(folder: Path) -> ssl.SSLContext:
    """TLS with a certificate that nobody has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                   .serial_number(1).not_valid_before(today - datetime.timedelta(days=1))
                   .not_valid_after(today + datetime.timedelta(days=1)).sign(key, hashes.SHA256()))
    path = folder / "certificate.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def _pieces(answer: Answer) -> Iterator[bytes]:
    many = max(1, 65536 // max(1, len(answer.body)))
    left = answer.repeat
    while left > 0:
        yield answer.body * min(many, left)
        left -= many


def _read(stream: io.BufferedReader) -> Request | None:
    """One request with its JSON body, or None at the end of the stream."""
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while line := stream.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    size = int(headers.get("content-length", 0))
    content = stream.read(size)
    if len(content) < size:
        return None
    return Request(first[0], first[1], {}, "", headers, headers, json.loads(content) if content else None)
