"""An order leaves in one write: a process that is stopped has sent all of it or nothing."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.call import Call, Reply
from bridge.transport import Transport
from tests.rig import ToyServer
from tests.soak.window import tls_server, trusting


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What each write of this process to a socket that speaks to a broker held."""
    seen: list[bytes] = []
    for kind in (socket.socket, ssl.SSLSocket):
        def sendall(self: Any, data: Any, *flags: Any, _send: Any = kind.sendall) -> None:
            seen.append(bytes(data))
            _send(self, data, *flags)

        monkeypatch.setattr(kind, "sendall", sendall)
    yield seen


def place(url: str, **more: Any) -> Call:
    return Call(operation="place", method="POST", url=f"{url}/place", step="entry", write=True,
                body={"id": "o1", **more}, headers={"Authorization": "t"})


def test_head_and_body_of_an_order_leave_in_one_write(server: ToyServer, writes: list[bytes]) -> None:
    transport = Transport(timeout_s=2)

    for _ in range(2):  # on a new connection, and on a warm one
        assert isinstance(transport.send(place(server.url)), Reply)

    orders = [each for each in writes if b"/place" in each or b'"o1"' in each]
    assert len(orders) == 2 and all(b"POST /place" in each and each.endswith(b'{"id": "o1"}') for each in orders)
    transport.close()


def test_head_and_body_leave_in_one_write_over_tls_too(writes: list[bytes], tmp_path: Path) -> None:
    with tls_server(tmp_path) as (url, authority):
        transport = trusting(Transport(timeout_s=2), authority)

        assert isinstance(transport.send(place(url)), Reply)

        transport.close()
    orders = [each for each in writes if b"/place" in each]
    assert len(orders) == 1 and orders[0].endswith(b'{"id": "o1"}')


def test_a_request_without_a_body_leaves_at_once(server: ToyServer) -> None:
    transport = Transport(timeout_s=2)

    reply = transport.send(Call(operation="find", method="GET", url=f"{server.url}/find/x", step="look_up", write=False))

    assert isinstance(reply, Reply) and reply.status == 404
    transport.close()
