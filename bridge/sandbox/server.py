"""HTTP/1.1 with keep-alive, and the way to a WebSocket, on one port and one thread.

All work on a request is done in memory between two awaits, so there are no locks and a request is either executed
whole or not at all, whatever its client does meanwhile.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable
from typing import Protocol

from .wire import Reply, Request, make_request, text_reply

MAX_HEAD = 64 * 1024
MAX_BODY = 8 * 1024 * 1024
_PHRASES = {
    100: "Continue", 101: "Switching Protocols", 200: "OK", 400: "Bad Request", 401: "Unauthorized",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    413: "Content Too Large", 429: "Too Many Requests", 500: "Internal Server Error",
}  # fmt: skip


class Answer:
    """What is sent for a request: a reply (None closes the connection instead), after so many seconds."""

    __slots__ = ("delay", "reply")

    def __init__(self, reply: Reply | None, delay: float = 0.0) -> None:
        self.reply = reply
        self.delay = delay


class Channel(Protocol):
    """What takes over a connection after an upgrade."""

    def opened(self, send: Callable[[bytes], None], close: Callable[[], None]) -> None: ...

    def received(self, data: bytes) -> None: ...

    def closed(self) -> None: ...


class Upgrade:
    """An answer that turns the connection into a channel after these bytes."""

    __slots__ = ("channel", "head")

    def __init__(self, head: bytes, channel: Channel) -> None:
        self.head = head
        self.channel = channel


Handler = Callable[[Request], Answer | Upgrade]


class BadRequest(Exception):
    """The bytes are not HTTP that can be answered; the status says why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Connection(asyncio.Protocol):
    """One client. Requests are answered in the order of their arrival, a delayed answer holds those behind it."""

    def __init__(self, handler: Handler, everyone: set[Connection]) -> None:
        self._handler = handler
        self._everyone = everyone
        self._buffer = bytearray()
        self._waiting = False
        self._continued = False
        self._channel: Channel | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._everyone.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._everyone.discard(self)
        self._transport = None
        if self._channel is not None:
            self._channel.closed()

    def data_received(self, data: bytes) -> None:
        if self._channel is not None:
            self._channel.received(data)
            return
        self._buffer += data
        self._advance()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _advance(self) -> None:
        while not self._waiting and self._transport is not None and self._channel is None:
            try:
                parsed = self._next_request()
            except BadRequest as error:
                self._send(text_reply(error.status, _PHRASES[error.status]), keep=False)
                return
            if parsed is None:
                return
            request, keep = parsed
            try:
                answer = self._handler(request)
            except Exception:  # noqa: BLE001 - a fault of the sandbox must not look like one of the network
                traceback.print_exc(file=sys.stderr)
                answer = Answer(text_reply(500, "The sandbox failed; see its log."))
            self._finish(answer, keep)

    def _finish(self, answer: Answer | Upgrade, keep: bool) -> None:
        if isinstance(answer, Upgrade):
            assert self._transport is not None
            self._transport.write(answer.head)
            self._channel = answer.channel
            self._channel.opened(self._write, self.close)
            if self._buffer:
                rest, self._buffer = bytes(self._buffer), bytearray()
                self._channel.received(rest)
        elif answer.delay > 0:
            self._waiting = True
            asyncio.get_running_loop().call_later(answer.delay, self._after_delay, answer.reply, keep)
        else:
            self._send(answer.reply, keep)

    def _after_delay(self, reply: Reply | None, keep: bool) -> None:
        self._waiting = False
        self._send(reply, keep)
        self._advance()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _send(self, reply: Reply | None, keep: bool) -> None:
        if self._transport is None:
            return
        if reply is None:
            self._transport.close()
            return
        body = reply.encoded() if reply.status != 429 or reply.data is not None or reply.content else b""
        head = [f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, 'Unknown')}"]
        if body:
            head.append(f"Content-Type: {reply.content_type}")
        head += [f"{name}: {value}" for name, value in reply.headers.items()]
        head.append(f"Content-Length: {len(body)}")
        if not keep:
            head.append("Connection: close")
        self._transport.write("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)
        if not keep:
            self._transport.close()

    # -- reading ----------------------------------------------------------------------------------

    def _next_request(self) -> tuple[Request, bool] | None:
        """The next whole request in the buffer and whether its connection stays open; None while it is incomplete."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise BadRequest(413)
            return None
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise BadRequest(400)
        headers = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise BadRequest(400)
            headers.append((name, value.strip()))
        lower = {name.lower(): value for name, value in headers}
        body = self._body(end + 4, lower)
        if body is None:
            return None
        keep = "close" not in lower.get("connection", "").lower() and words[2] != "HTTP/1.0"
        return make_request(words[0], words[1], headers, body), keep

    def _body(self, start: int, headers: dict[str, str]) -> bytes | None:
        """Take the body out of the buffer; None while it is incomplete."""
        if "transfer-encoding" in headers:
            found = self._chunks(start)
        else:
            length = headers.get("content-length", "0")
            if not length.isascii() or not length.isdigit():
                raise BadRequest(400)
            size = int(length)
            if size > MAX_BODY:
                raise BadRequest(413)
            whole = len(self._buffer) >= start + size
            found = (bytes(self._buffer[start : start + size]), start + size) if whole else None
        if found is None:
            if headers.get("expect", "").lower() == "100-continue" and not self._continued:
                self._continued = True
                self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        body, end = found
        del self._buffer[:end]
        self._continued = False
        return body

    def _chunks(self, start: int) -> tuple[bytes, int] | None:
        body = bytearray()
        while True:
            line_end = self._buffer.find(b"\r\n", start)
            if line_end < 0:
                return None
            try:
                size = int(self._buffer[start:line_end].split(b";")[0], 16)
            except ValueError:
                raise BadRequest(400) from None
            if size < 0 or len(body) + size > MAX_BODY:
                raise BadRequest(413)
            data_end = line_end + 2 + size
            if len(self._buffer) < data_end + 2:
                return None
            body += self._buffer[line_end + 2 : data_end]
            start = data_end + 2
            if size == 0:
                return bytes(body), start
