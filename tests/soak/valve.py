"""A pipe between a part and the ledger's server that breaks at the request that a scenario names."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable


class Valve:
    """Passes bytes to `port`; once `armed` sees what it waits for, that is not passed on, and all is `shut`.

    While it is shut, every connection is refused; clear `shut` to let the part through again.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._server.getsockname()[1]
        self.armed: Callable[[bytes], bool] | None = None
        self.shut = threading.Event()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, name="valve", daemon=True).start()

    def close(self) -> None:
        """Break everything for good."""
        self._server.close()
        with self._lock:
            self._break()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._server.accept()
                with self._lock:
                    self._join(client)

    def _join(self, client: socket.socket) -> None:
        if self.shut.is_set():
            client.close()
            return
        try:
            there = socket.create_connection(("127.0.0.1", self._to))
        except OSError:  # the server is not there now
            client.close()
            return
        for each in (client, there):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open += [client, there]
        threading.Thread(target=self._pass_on, args=(client, there, True), daemon=True).start()
        threading.Thread(target=self._pass_on, args=(there, client, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, to: socket.socket, out: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if out and self._shuts_at(data):
                    return
                to.sendall(data)
        for each in (source, to):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _shuts_at(self, data: bytes) -> bool:
        with self._lock:
            if self.armed is None or not self.armed(data):
                return False
            self.armed = None
            self.shut.set()
            self._break()
            return True

    def _break(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()
