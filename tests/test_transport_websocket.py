"""A call over a WebSocket has the promises of one over HTTP: it ends in time, a reply has a largest size, no proxy."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import bridge.transport
from bridge.call import Call, Reply
from bridge.sandbox.websocket import CLOSE, PING, TEXT, frame, handshake
from bridge.sandbox.wire import Request
from bridge.transport import NotSent, Transport
from tests.soak.window import tls_server

LIMIT_S = 0.5
IN_TIME_S = 1.5
ANSWER = b'{"id":"f1","data":{"success":true}}'


class Broker:
    """Does with each connection what the test says; counts them and keeps what was sent as a frame."""

    def __init__(self, act: Callable[[Broker, socket.socket], None], tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.frames: list[bytes] = []
        self.over = threading.Event()
        self._act = act
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def _attend(self, connection: socket.socket) -> None:
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # "came" in a test means that it is here
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                self._act(self, connection)

    def close(self) -> None:
        self.over.set()
        self._listener.close()

    def drip(self, connection: socket.socket, data: bytes) -> None:
        """A byte each twentieth of a second, until the other side has had enough."""
        for byte in data:
            connection.sendall(bytes([byte]))
            if self.over.wait(0.05):
                return

    def answer(self, connection: socket.socket, *answers: bytes) -> bool:
        """Hear one frame and answer it; whether there was one."""
        if heard := connection.recv(65536):
            self.frames.append(heard)
            connection.sendall(b"".join(answers) or frame(TEXT, ANSWER))
        return bool(heard)


def head(connection: socket.socket) -> dict[str, str]:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionError
        data += piece
    lines = data.decode().split("\r\n")[1:-2]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def upgrade(connection: socket.socket) -> None:
    headers = head(connection)
    connection.sendall(handshake(Request("GET", "/", {}, "", headers, headers, None)))


def faithful(broker: Broker, connection: socket.socket) -> None:
    upgrade(connection)
    while broker.answer(connection):
        pass


def first_then(extra: Callable[[Broker, socket.socket], None]) -> Callable[[Broker, socket.socket], None]:
    """On its first connection a broker that answers one frame and then does this; a faithful one on the next."""
    def act(broker: Broker, connection: socket.socket) -> None:
        if broker.connections > 1:
            return faithful(broker, connection)
        upgrade(connection)
        broker.answer(connection)
        extra(broker, connection)
        broker.over.wait(10)

    return act


def answering(*answers: bytes) -> Callable[[Broker, socket.socket], None]:
    def act(broker: Broker, connection: socket.socket) -> None:
        upgrade(connection)
        broker.answer(connection, *answers)
        broker.over.wait(10)

    return act


@pytest.fixture
def started() -> Iterator[Callable[..., Broker]]:
    brokers: list[Broker] = []

    def start(act: Callable[[Broker, socket.socket], None], tls: ssl.SSLContext | None = None) -> Broker:
        brokers.append(Broker(act, tls))
        return brokers[-1]

    yield start
    for broker in brokers:
        broker.close()


@pytest.fixture
def transport() -> Iterator[Transport]:
    found = Transport(timeout_s=LIMIT_S)
    yield found
    found.close()


def place(broker: Broker, scheme: str = "ws") -> Call:
    body = {"action": "rpc", "id": "f1", "api": "PlaceOrder", "args": {}}
    return Call(operation="place", method="WS", url=f"{scheme}://127.0.0.1:{broker.port}/ws/stream", step="entry",
                write=True, body=body)


def timed(transport: Transport, call: Call, **more: Any) -> tuple[Reply | NotSent, float]:
    began = time.monotonic()
    return transport.send(call, **more), time.monotonic() - began


Start = Callable[..., Broker]


def test_proxies_of_the_environment_are_not_used(started: Start, transport: Transport,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, broker = started(faithful), started(faithful)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{proxy.port}")

    reply = transport.send(place(broker))

    assert isinstance(reply, Reply) and reply.status == 200
    assert (proxy.connections, broker.connections) == (0, 1)


def test_a_dripping_handshake_ends_at_the_total_deadline_and_nothing_was_sent(started: Start,
                                                                              transport: Transport) -> None:
    def act(broker: Broker, connection: socket.socket) -> None:
        head(connection)
        broker.drip(connection, b"HTTP/1.1 101 Switching Protocols\r\nX-A: " + b"a" * 200)

    looks: list[int] = []

    answer, took = timed(transport, place(started(act)), last_look=lambda: looks.append(1))

    assert isinstance(answer, NotSent) and "in time" in answer.reason
    assert took < IN_TIME_S and looks == []


def test_a_tls_handshake_that_is_never_answered_ends_at_the_deadline(started: Start, transport: Transport) -> None:
    answer, took = timed(transport, place(started(lambda broker, _: broker.over.wait(10)), "wss"))

    assert isinstance(answer, NotSent) and "in time" in answer.reason and took < IN_TIME_S


def test_over_tls_the_brokers_certificate_is_asked_for_and_its_frames_are_read(started: Start, transport: Transport,
                                                                               tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tls_server(tmp_path) as (_, authority):
        context.load_cert_chain(authority, tmp_path / "key.pem")
    broker = started(faithful, context)

    untrusted = transport.send(place(broker, "wss"))
    transport._tls = ssl.create_default_context(cafile=str(authority))
    trusted = [transport.send(place(broker, "wss")) for _ in range(2)]

    assert isinstance(untrusted, NotSent) and "certificate" in untrusted.reason
    assert [each.status for each in trusted if isinstance(each, Reply)] == [200, 200]
    assert len(broker.frames) == 2 and broker.connections == 2


def test_a_dripping_answer_ends_at_the_total_deadline_and_the_order_is_perhaps_executed(started: Start,
                                                                                        transport: Transport) -> None:
    def act(broker: Broker, connection: socket.socket) -> None:
        upgrade(connection)
        connection.recv(65536)
        broker.drip(connection, frame(TEXT, ANSWER.ljust(100)))

    reply, took = timed(transport, place(started(act)))

    assert isinstance(reply, Reply) and reply.status is None and f"{LIMIT_S:g} s" in reply.fault
    assert took < IN_TIME_S


@pytest.mark.parametrize("noise", ["flood", "dripped notice", "pings"])
def test_what_comes_unasked_does_not_hold_the_next_order(started: Start, noise: str) -> None:
    came = threading.Event()

    def make_noise(broker: Broker, connection: socket.socket) -> None:
        if noise == "dripped notice":
            connection.sendall(frame(TEXT, b"y" * 100)[:2])
            came.set()
            return broker.drip(connection, b"y" * 99)
        much = {"flood": frame(TEXT, b'{"x":"%s"}' % (b"y" * 900)) * 1000, "pings": frame(PING, b"") * 200_000}[noise]
        connection.sendall(much)
        came.set()
        while not broker.over.is_set():
            connection.sendall(much)

    broker, patient = started(first_then(make_noise)), Transport(timeout_s=5)
    assert isinstance(patient.send(place(broker)), Reply)
    assert came.wait(5)

    reply, took = timed(patient, place(broker))

    patient.close()
    assert isinstance(reply, Reply) and reply.status == 200 and broker.connections == 2
    assert took < IN_TIME_S


def test_a_notice_or_two_is_read_past_on_the_same_connection(started: Start, transport: Transport) -> None:
    came = threading.Event()

    def act(broker: Broker, connection: socket.socket) -> None:
        upgrade(connection)
        while broker.answer(connection):
            connection.sendall(frame(TEXT, b'{"type":"marketData"}') + frame(PING, b"you"))
            came.set()

    broker = started(act)
    assert isinstance(transport.send(place(broker)), Reply) and came.wait(5)

    again = transport.send(place(broker))

    assert isinstance(again, Reply) and again.status == 200 and broker.connections == 1


@pytest.mark.parametrize("pieces", [1, 5])
def test_a_huge_answer_is_cut_and_counts_as_not_heard(started: Start, transport: Transport,
                                                      monkeypatch: pytest.MonkeyPatch, pieces: int) -> None:
    monkeypatch.setattr(bridge.transport, "LARGEST_REPLY", 4000)
    answer = json.dumps({"id": "f1", "data": {"success": True, "x": "y" * 5000}}).encode()
    size = len(answer) // pieces + 1
    frames = [frame(0 if at else TEXT, answer[at:at + size]) for at in range(0, len(answer), size)]
    split = [bytes([one[0] & 0x7F]) + one[1:] for one in frames[:-1]] + frames[-1:]

    reply = transport.send(place(started(answering(*split))))

    assert isinstance(reply, Reply) and reply.status is None and "larger than 4000 bytes" in reply.fault


def test_many_notices_before_the_answer_do_not_count_as_one_huge_answer(started: Start, transport: Transport,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.transport, "LARGEST_REPLY", 1000)

    reply = transport.send(place(started(answering(frame(TEXT, b'{"x":"%s"}' % (b"y" * 800)) * 5, frame(TEXT, ANSWER)))))

    assert isinstance(reply, Reply) and reply.status == 200


def test_a_large_answer_is_read_in_time(started: Start, transport: Transport) -> None:
    answer = json.dumps({"id": "f1", "data": {"success": True, "x": "y" * 5_000_000}}).encode()

    reply, took = timed(transport, place(started(answering(frame(TEXT, answer)))))

    assert isinstance(reply, Reply) and reply.status == 200 and took < IN_TIME_S


def test_an_endless_handshake_is_cut(started: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.transport, "LARGEST_REPLY", 10_000)

    def act(broker: Broker, connection: socket.socket) -> None:
        head(connection)
        connection.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: 1000000\r\n\r\n")
        while not broker.over.is_set():
            connection.sendall(b"x" * 1000)

    answer, took = timed(Transport(timeout_s=10), place(started(act)))

    assert isinstance(answer, NotSent) and "larger" in answer.reason and took < IN_TIME_S


def test_a_connection_that_was_idle_for_too_long_is_not_trusted_with_an_order(
        started: Start, transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    broker, ahead = started(faithful), [0.0]
    monkeypatch.setattr(bridge.transport, "monotonic", lambda: time.monotonic() + ahead[0])

    for idle_s in (0, 15, 15, 25):
        ahead[0] += idle_s
        assert isinstance(transport.send(place(broker)), Reply)

    assert broker.connections == 2 and len(broker.frames) == 4


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "over TLS, in the record of the last answer"])
def test_a_connection_that_the_broker_closed_is_not_trusted_with_an_order(started: Start, transport: Transport,
                                                                          tmp_path: Path, secure: bool) -> None:
    context = None
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tls_server(tmp_path) as (_, authority):
            context.load_cert_chain(authority, tmp_path / "key.pem")
        transport._tls = ssl.create_default_context(cafile=str(authority))
    broker = started(answering(frame(TEXT, ANSWER) + frame(CLOSE, b"\x03\xe8")), context)
    scheme = "wss" if secure else "ws"

    replies = [transport.send(place(broker, scheme)) for _ in range(2)]

    assert [each.status for each in replies if isinstance(each, Reply)] == [200, 200] and broker.connections == 2


def test_no_order_leaves_after_the_deadline_on_a_kept_connection_either(started: Start, transport: Transport) -> None:
    broker = started(faithful)
    assert isinstance(transport.send(place(broker)), Reply)

    answer = transport.send(place(broker), within_s=0)

    assert isinstance(answer, NotSent) and len(broker.frames) == 1


def test_a_close_in_place_of_an_answer_is_told_at_once(started: Start) -> None:
    reply, took = timed(Transport(timeout_s=10), place(started(answering(frame(CLOSE, b"\x03\xf3")))))

    assert isinstance(reply, Reply) and reply.status is None and "lost" in reply.fault and took < IN_TIME_S


def test_an_answer_that_is_no_utf_8_is_not_heard_and_said_so(started: Start, transport: Transport) -> None:
    reply = transport.send(place(started(answering(frame(TEXT, b'{"id":"f1","data":"\xff\xfe"}')))))

    assert isinstance(reply, Reply) and reply.status is None and "UTF-8" in reply.fault


@pytest.mark.parametrize(("said", "heard"), [
    ('{"id":"f1","data":{"success":true}}', {"success": True}),
    ('{"id":"f1","data":[1]}', [1]),
    ('{"id":"f1","data":null}', None),
    ('{"id":"f1"}', {}),
    ('{"id":"f1","success":false,"error":"margin"}', {"success": False, "error": "margin"}),
    ('{"id":"f1","success":false,"data":{"success":true}}', {"success": False, "data": {"success": True}}),
    ('{"type":"error","id":"f1","data":{"orderId":"n1"}}', {"type": "error", "data": {"orderId": "n1"}}),
])
def test_what_a_frame_says_beside_its_data_is_handed_over_too(started: Start, transport: Transport, said: str,
                                                              heard: Any) -> None:
    reply = transport.send(place(started(answering(frame(TEXT, said.encode())))))

    assert isinstance(reply, Reply) and reply.status == 200 and reply.json == heard
