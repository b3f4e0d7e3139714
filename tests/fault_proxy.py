"""A TCP proxy before a Redis server that plays the faults of a network and of a server, at the command that a test names."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

BEFORE, DURING, AFTER = "before", "during", "after"
"""The connection is lost before the command reaches the server, with half of it sent, or after the server carried it out."""


@dataclass
class Fault:
    """What to do with commands that hold `word`: cut the connection at a point, or answer this error instead."""

    word: bytes
    what: str
    times: int


class FaultProxy:
    """Listens on loopback; `url` leads through it to the server."""

    def __init__(self, server: str) -> None:
        self._server = urlsplit(server)
        self._fault: Fault | None = None
        self._guard = threading.Lock()
        self.met = 0
        """How often the fault was played."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def play(self, what: str, word: str, times: int = 1) -> None:
        """Play a fault at the next `times` commands that hold `word`: before, during, after, or an error to answer."""
        with self._guard:
            self._fault, self.met = Fault(word.encode(), what, times), 0

    def heal(self) -> None:
        """Play no fault any more."""
        with self._guard:
            self._fault = None

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _connect(self) -> socket.socket:
        if self._server.scheme == "unix":
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server.path)
            return server
        return socket.create_connection((self._server.hostname or "", self._server.port or 6379))

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, self._connect() as server:
                waiting = b""
                while data := client.recv(1 << 20):
                    waiting += data
                    while length := _length(waiting):
                        command, waiting = waiting[:length], waiting[length:]
                        if not self._pass(command, client, server):
                            return
        except OSError:
            return

    def _pass(self, command: bytes, client: socket.socket, server: socket.socket) -> bool:
        """Carry one command there and its reply back; False: the connection is lost."""
        what = self._met(command)
        if what in (BEFORE, DURING):
            server.sendall(command[:len(command) // 2] if what == DURING else b"")
            return False
        if what and what != AFTER:
            client.sendall(f"-{what}\r\n".encode())
            return True
        server.sendall(command)
        reply = b""
        while not (length := _length(reply)):
            data = server.recv(1 << 20)
            if not data:
                return False
            reply += data
        if what == AFTER:
            return False
        client.sendall(reply[:length])
        return True

    def _met(self, command: bytes) -> str:
        with self._guard:
            fault = self._fault
            if fault is None or not fault.times or fault.word not in command:
                return ""
            fault.times -= 1
            self.met += 1
            return fault.what


def _length(data: bytes, start: int = 0) -> int:
    """Where the first whole value of the protocol ends; 0 when it is not all there yet."""
    line = data.find(b"\r\n", start)
    if line < 0:
        return 0
    kind, end = data[start:start + 1], line + 2
    if kind == b"$":
        size = int(data[start + 1:line])
        end = end if size < 0 else end + size + 2
        return end if len(data) >= end else 0
    if kind == b"*":
        for _ in range(int(data[start + 1:line])):
            end = _length(data, end)
            if not end:
                return 0
    return end


@contextmanager
def fault_proxy(server: str) -> Iterator[FaultProxy]:
    proxy = FaultProxy(server)
    try:
        yield proxy
    finally:
        proxy.close()
