"""A TCP proxy before a server: what a test names is held at the gate, right there, until the test lets it go.

So a process can be stopped at an exact step without waiting for a time: its request has come this far and no further, or
the answer is there and it has not read it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Hold:
    """One request, or its answer, that is to be held: the first that holds all these words."""

    words: tuple[bytes, ...]
    answer: bool
    then: Callable[[], None]
    _come: threading.Event = field(default_factory=threading.Event)
    _over: threading.Event = field(default_factory=threading.Event)
    _lost: bool = False

    def wait(self, seconds: float = 15.0) -> None:
        """Until it stands at the gate; fails when it does not come."""
        assert self._come.wait(seconds), f"not at the gate within {seconds} s: {self.words}"

    def let_go(self) -> None:
        """Pass it on."""
        self._over.set()

    def lose(self) -> None:
        """Break its connection: it never arrives."""
        self._lost = True
        self._over.set()

    def stand(self) -> bool:
        """Called by the gate; whether it is to be passed on."""
        self.then()
        self._come.set()
        self._over.wait()
        return not self._lost


class Gate:
    """Listens on the loopback and leads to `server` (redis://, unix:// or http://). `log` holds (moment, request)."""

    def __init__(self, server: str) -> None:
        self._server = urlsplit(server)
        self._holds: list[Hold] = []
        self._guard = threading.Lock()
        self.log: list[tuple[float, bytes]] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, name="gate", daemon=True).start()

    def hold(self, *words: str, answer: bool = False, then: Callable[[], None] = lambda: None) -> Hold:
        """Hold the next request with these words, or the answer to it; `then` is done the moment that it is there."""
        found = Hold(tuple(word.encode() for word in words), answer, then)
        with self._guard:
            self._holds.append(found)
        return found

    def passed(self, *words: str) -> list[float]:
        """When each request with these words came, on the monotonic clock."""
        return [at for at, data in list(self.log) if all(word.encode() in data for word in words)]

    def close(self) -> None:
        """Listen no more, and let go of everything."""
        self._listening.close()
        for each in self._holds:
            each.lose()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _connect(self) -> socket.socket:
        if self._server.scheme == "unix":
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server.path)
            return server
        return socket.create_connection((self._server.hostname or "", self._server.port or 6379))

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, self._connect() as server:
            answers: list[Hold] = []
            threading.Thread(target=self._back, args=(server, client, answers), daemon=True).start()
            while data := client.recv(1 << 20):
                self.log.append((time.monotonic(), data))
                hold = self._met(data)
                if hold is not None and hold.answer:
                    answers.append(hold)
                elif hold is not None and not hold.stand():
                    return
                server.sendall(data)

    def _back(self, server: socket.socket, client: socket.socket, answers: list[Hold]) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 20):
                if answers and not answers.pop().stand():
                    break
                client.sendall(data)
        for each in (client, server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _met(self, data: bytes) -> Hold | None:
        with self._guard:
            found = next((each for each in self._holds if all(word in data for word in each.words)), None)
            if found is not None:
                self._holds.remove(found)
            return found


@contextmanager
def gate(server: str) -> Iterator[Gate]:
    """A gate before this server."""
    found = Gate(server)
    try:
        yield found
    finally:
        found.close()
