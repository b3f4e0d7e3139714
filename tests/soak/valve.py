"""A pipe between a receiver and the ledger's server that breaks at the byte that a scenario names."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable


class Valve:
    """Passes bytes to `port`; once `armed` sees what it waits for, that is not passed on, and all is `shut`."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._server.getsockname()[1]
        self.armed: Callable[[bytes], bool] | None = None
        self.shut = threading.Event()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, name="valve", daemon=True).start()

    def close(self) -> None:
        """Break everything for good."""
        self._server.close()
        self._break()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                if self.shut.is_set():
                    client.close()
                    continue
                there = socket.create_connection(("127.0.0.1", self._to))
                self._open += [client, there]
                threading.Thread(target=self._pass_on, args=(client, there, True), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(there, client, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, to: socket.socket, out: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if out and self.armed is not None and self.armed(data):
                    self.armed = None
                    self.shut.set()
                    self._break()
                    return
                to.sendall(data)
        for each in (source, to):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _break(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()
