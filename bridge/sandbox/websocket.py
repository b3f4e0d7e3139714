"""The server side of RFC 6455: handshake, frames, pings and the closing handshake. Text messages only."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable

from .wire import Request

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MAX_MESSAGE = 8 * 1024 * 1024
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def wants_upgrade(request: Request) -> bool:
    return (
        request.method == "GET"
        and request.lower.get("upgrade", "").lower() == "websocket"
        and "upgrade" in request.lower.get("connection", "").lower()
        and bool(request.lower.get("sec-websocket-key"))
    )


def handshake(request: Request) -> bytes:
    """The 101 head that accepts the client's key."""
    digest = hashlib.sha1(request.lower["sec-websocket-key"].encode("latin-1") + _GUID).digest()
    accept = base64.b64encode(digest).decode("ascii")
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode("ascii")


def frame(opcode: int, payload: bytes) -> bytes:
    """One final, unmasked frame, as servers send it."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, size)
    return head + payload


class WebSocket:
    """One open socket. `on_text` gets each message; `send` and `close` answer it."""

    def __init__(
        self, on_text: Callable[[WebSocket, str], None], on_closed: Callable[[WebSocket], None] | None = None
    ) -> None:
        self._on_text = on_text
        self._on_closed = on_closed
        self._buffer = bytearray()
        self._message = bytearray()
        self._opcode = 0
        self._write: Callable[[bytes], None] = lambda data: None
        self._drop: Callable[[], None] = lambda: None
        self.alive = False

    # -- the connection's side --------------------------------------------------------------------

    def opened(self, send: Callable[[bytes], None], close: Callable[[], None]) -> None:
        self._write, self._drop, self.alive = send, close, True

    def received(self, data: bytes) -> None:
        self._buffer += data
        while self.alive and self._one_frame():
            pass

    def closed(self) -> None:
        self.alive = False
        if self._on_closed is not None:
            self._on_closed(self)

    # -- the application's side -------------------------------------------------------------------

    def send(self, text: str) -> None:
        if self.alive:
            self._write(frame(TEXT, text.encode("utf-8")))

    def drop(self) -> None:
        """Close the connection without a word, as a lost network would."""
        self.alive = False
        self._drop()

    def shut(self, code: int, reason: str = "") -> None:
        """Close in good order."""
        if self.alive:
            self._write(frame(CLOSE, struct.pack("!H", code) + reason.encode("utf-8")[:120]))
            self.drop()

    # -- frames -----------------------------------------------------------------------------------

    def _one_frame(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        final, opcode, masked, size = buffer[0] & 0x80, buffer[0] & 0x0F, buffer[1] & 0x80, buffer[1] & 0x7F
        start = 2
        if size == 126:
            if len(buffer) < 4:
                return False
            size, start = struct.unpack_from("!H", buffer, 2)[0], 4
        elif size == 127:
            if len(buffer) < 10:
                return False
            size, start = struct.unpack_from("!Q", buffer, 2)[0], 10
        if not masked or buffer[0] & 0x70 or (opcode >= CLOSE and (size > 125 or not final)):
            self.shut(1002, "protocol error")
            return False
        if size + len(self._message) > MAX_MESSAGE:
            self.shut(1009, "message too big")
            return False
        if len(buffer) < start + 4 + size:
            return False
        key = buffer[start : start + 4]
        payload = _unmask(bytes(buffer[start + 4 : start + 4 + size]), bytes(key))
        del buffer[: start + 4 + size]
        self._take(opcode, bool(final), payload)
        return True

    def _take(self, opcode: int, final: bool, payload: bytes) -> None:
        if opcode == PING:
            self._write(frame(PONG, payload))
        elif opcode == CLOSE:
            self._write(frame(CLOSE, payload[:2]))
            self.drop()
        elif opcode == PONG:
            pass
        elif opcode not in (TEXT, BINARY, CONTINUATION) or (opcode == CONTINUATION) != bool(self._opcode):
            self.shut(1002, "protocol error")
        else:
            self._opcode = opcode or self._opcode
            self._message += payload
            if final:
                self._deliver()

    def _deliver(self) -> None:
        message, opcode = bytes(self._message), self._opcode
        self._message.clear()
        self._opcode = 0
        if opcode == BINARY:
            self.shut(1003, "text only")
            return
        try:
            text = message.decode("utf-8")
        except UnicodeDecodeError:
            self.shut(1007, "not UTF-8")
            return
        self._on_text(self, text)


def _unmask(payload: bytes, key: bytes) -> bytes:
    """XOR with the repeated key, as one big integer: quick without a C extension."""
    if not payload:
        return payload
    mask = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(payload), "big")
