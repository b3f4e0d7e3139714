"""Paper brokers: the APIs of Tradovate, CrossTrade and Pocketful on one port, with an order book, faults and a witness.

`serve` runs it until it is told to stop; `Sandbox` runs it in the background of a test. It is written from the brokers'
pages and uses nothing of the rest of the product, so that one misreading cannot pass twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from types import TracebackType

from .app import App
from .server import Connection

__all__ = ["Sandbox", "serve"]


def serve(host: str, port: int, *, ready: Callable[[int], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then stop at once. Port 0 takes a free one; `ready` is told which.

    Raises OSError when the address cannot be had.
    """

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Only the main thread may take signals, and not on every platform.
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
                loop.add_signal_handler(number, stop.set)
        await _serve_until(stop, host, port, ready)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


async def _serve_until(stop: asyncio.Event, host: str, port: int, ready: Callable[[int], None] | None) -> None:
    app = App()
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(app.handle, connections), host, port, backlog=512)
    try:
        if ready is not None:
            ready(server.sockets[0].getsockname()[1])
        await stop.wait()
    finally:
        server.close()
        for connection in list(connections):
            connection.abort()


class Sandbox:
    """A sandbox in a background thread, as a context manager: `with Sandbox() as sandbox: … sandbox.url …`."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self.host}:{self.port}"

    def __enter__(self) -> Sandbox:
        started = threading.Event()

        async def run() -> None:
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()

            def ready(port: int) -> None:
                self.port = port
                started.set()

            await _serve_until(self._stop, self.host, self.port, ready)

        def body() -> None:
            try:
                asyncio.run(run())
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
                self._error = error
            finally:
                started.set()

        self._thread = threading.Thread(target=body, name="sandbox", daemon=True)
        self._thread.start()
        started.wait()
        if self._error is not None:
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None and self._thread is not None:
            with contextlib.suppress(RuntimeError):  # it may have ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(5)
