"""Sent or not is a fact, a call ends in time, and nothing is sent twice."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import bridge.transport
from bridge.call import NOT_JSON, Call, Reply
from bridge.transport import NotSent, Transport, Withheld
from tests.rig import ToyServer


@pytest.fixture
def transport() -> Iterator[Transport]:
    found = Transport(timeout_s=0.6)
    yield found
    found.close()


def place(url: str) -> Call:
    return Call(operation="place", method="POST", url=f"{url}/place", step="entry", write=True, body={"id": "o1"})


def test_a_call_is_sent_once_and_its_reply_is_read(server: ToyServer, transport: Transport) -> None:
    reply = transport.send(place(server.url))

    assert isinstance(reply, Reply) and reply.status == 200 and reply.json == {"id": 1}
    assert len(server.requests) == 1


def test_a_connection_is_kept_for_the_next_call(server: ToyServer, transport: Transport) -> None:
    connections = []
    original = bridge.transport._HTTPConnection.connect

    def connect(self: Any) -> None:
        connections.append(1)
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bridge.transport._HTTPConnection, "connect", connect)
        for _ in range(5):
            assert isinstance(transport.send(place(server.url)), Reply)

    assert len(connections) == 1


@pytest.mark.parametrize("word", ["drop_before", "drop_after", "cut"])
def test_a_connection_lost_after_the_first_byte_is_perhaps_executed(server: ToyServer, transport: Transport,
                                                                    word: str) -> None:
    server.script.append(word)

    reply = transport.send(place(server.url))

    assert isinstance(reply, Reply) and reply.status is None and reply.fault
    assert len(server.sent()) == 1


def test_a_refused_connection_and_an_unknown_host_are_certainly_not_sent(transport: Transport) -> None:
    assert isinstance(transport.send(place("http://127.0.0.1:1")), NotSent)
    assert isinstance(transport.send(place("http://no-such-host.invalid")), NotSent)


def test_a_tls_handshake_that_fails_is_certainly_not_sent(transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        threading.Thread(target=_say_nothing_of_tls, args=(listener,), daemon=True).start()

        answer = transport.send(place(f"https://127.0.0.1:{port}"))

    assert isinstance(answer, NotSent)


def _say_nothing_of_tls(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(b"this is not TLS")


def test_a_dripping_reply_ends_at_the_total_deadline(server: ToyServer, transport: Transport) -> None:
    server.script.append("drip")
    started_at = time.monotonic()

    reply = transport.send(place(server.url))

    assert isinstance(reply, Reply) and reply.status is None and "0.6 s" in reply.fault
    assert time.monotonic() - started_at < 3


def test_a_huge_reply_is_cut_and_counts_as_not_heard(server: ToyServer, transport: Transport,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.transport, "LARGEST_REPLY", 1000)
    server.script.append((200, b"x" * 5000))

    reply = transport.send(place(server.url))

    assert isinstance(reply, Reply) and reply.status is None


def test_a_redirect_is_not_followed(server: ToyServer, transport: Transport) -> None:
    server.script.append((307, {}, {"Location": f"{server.url}/elsewhere"}))

    reply = transport.send(place(server.url))

    assert isinstance(reply, Reply) and reply.status == 307
    assert len(server.requests) == 1


def test_proxies_of_the_environment_are_not_used(server: ToyServer, transport: Transport,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert isinstance(transport.send(place(server.url)), Reply)


def test_a_withheld_call_sends_no_byte(server: ToyServer, transport: Transport) -> None:
    def no() -> None:
        raise Withheld("too late")

    assert transport.send(place(server.url), no) == NotSent("too late")
    assert isinstance(transport.send(place(server.url)), Reply)
    assert len(server.requests) == 1


def test_the_last_look_is_taken_once_right_before_the_first_byte(server: ToyServer, transport: Transport) -> None:
    looks = []

    transport.send(place(server.url), lambda: looks.append(len(server.requests)))

    assert looks == [0]


def test_a_connection_that_the_broker_closed_meanwhile_is_not_trusted_with_an_order(transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard: list[bytes] = []
        closed = threading.Event()

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    heard.append(connection.recv(65536))
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"id\":1}")
                closed.set()

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert isinstance(transport.send(place(url)), Reply)
        assert closed.wait(5)

        again = transport.send(place(url))

    assert isinstance(again, Reply) and again.status == 200


def test_a_connection_that_was_idle_for_too_long_is_not_trusted_with_an_order(
        server: ToyServer, transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    connections = []
    original = bridge.transport._HTTPConnection.connect

    def connect(self: Any) -> None:
        connections.append(1)
        original(self)

    monkeypatch.setattr(bridge.transport._HTTPConnection, "connect", connect)
    monkeypatch.setattr(bridge.transport, "KEEP_ALIVE_S", 0.0)

    for _ in range(3):
        assert isinstance(transport.send(place(server.url)), Reply)

    assert len(connections) == 3 and len(server.sent()) == 3


def test_undecodable_bytes_are_no_json(server: ToyServer, transport: Transport) -> None:
    server.script.append((200, b'{"id": "\xff\xfe"}'))

    reply = transport.send(place(server.url))

    assert isinstance(reply, Reply) and reply.status == 200 and reply.json is NOT_JSON


def test_a_reply_in_broken_chunks_is_told_without_the_names_of_our_insides(transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n[]")

        threading.Thread(target=serve, daemon=True).start()
        reply = transport.send(place(f"http://127.0.0.1:{listener.getsockname()[1]}"))

    assert isinstance(reply, Reply) and reply.status is None
    assert "Error" not in reply.fault and "broke off" in reply.fault


def test_a_call_may_be_given_less_time_than_others(server: ToyServer, transport: Transport) -> None:
    server.script.append("drip")

    reply = transport.send(place(server.url), within_s=0.2)

    assert isinstance(reply, Reply) and reply.status is None and "0.2 s" in reply.fault


@pytest.fixture
def full() -> Iterator[int]:
    """A port on which connecting hangs: more wait to be taken than may."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
            waiting.append(one)
        yield listener.getsockname()[1]
        for one in waiting:
            one.close()


def resolves_to(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: found)


def order_at(scheme: str, port: int) -> Call:
    return Call(operation="place", method="WS" if scheme == "ws" else "POST", url=f"{scheme}://broker.test:{port}/x",
                step="entry", write=True, body={"id": "o1"})


@pytest.mark.parametrize("scheme", ["http", "https", "ws"])
def test_many_dead_addresses_share_one_deadline(transport: Transport, full: int, scheme: str,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, full, full, full, full)
    began = time.monotonic()

    answer = transport.send(order_at(scheme, full))

    assert isinstance(answer, NotSent) and "in time" in answer.reason
    assert time.monotonic() - began < 1.2


def test_a_dead_address_leaves_time_for_the_next(server: ToyServer, transport: Transport, full: int,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(server.url.rpartition(":")[2])
    resolves_to(monkeypatch, full, 1, port)

    reply = transport.send(order_at("http", port))

    assert isinstance(reply, Reply) and reply.status == 200


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_a_name_that_is_not_resolved_in_time_ends_the_call(transport: Transport, scheme: str,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: over.wait(5) and [])
    began = time.monotonic()

    answer = transport.send(order_at(scheme, 80))

    over.set()
    assert isinstance(answer, NotSent) and "in time" in answer.reason
    assert time.monotonic() - began < 2


def test_no_order_leaves_after_the_deadline(server: ToyServer, transport: Transport,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    original, looks = bridge.transport._HTTPConnection.connect, list[int]()

    def connect(self: Any) -> None:
        original(self)
        threading.Event().wait(0.7)

    monkeypatch.setattr(bridge.transport._HTTPConnection, "connect", connect)

    answer = transport.send(place(server.url), lambda: looks.append(1))

    assert isinstance(answer, NotSent) and "in time" in answer.reason and looks == [] and server.requests == []
