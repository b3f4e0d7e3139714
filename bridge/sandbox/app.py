"""The sandbox as a whole: which broker a request is for, which fault it meets, and what the witness notes of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from . import jsontext, websocket
from .book import Book
from .broker import Broker
from .control import Control
from .crosstrade import CrossTrade
from .faults import Armed, Faults
from .pocketful import Pocketful
from .server import Answer, Upgrade
from .tradovate import Tradovate
from .wire import Record, Reply, Request, bearer, now_iso, text_reply

MAX_RECORDS = 200_000
STREAM = "/ws/stream"
_GARBAGE = b"<html><body>\xff\xfe not what you asked for"
_BEFORE = ("reject", "rate_limit", "penalty_ticket", "expired_token", "http_408_before")
_AFTER = ("http_500_after", "http_408_after")


class App:
    def __init__(self) -> None:
        self.book = Book()
        self.tradovate = Tradovate(self.book)
        self.crosstrade = CrossTrade(self.book)
        self.pocketful = Pocketful(self.book)
        brokers: tuple[Broker, ...] = (self.tradovate, self.crosstrade, self.pocketful)
        self.brokers = {broker.name: broker for broker in brokers}
        self.faults = Faults({broker.name: broker.operations for broker in brokers})
        self.records: deque[Record] = deque(maxlen=MAX_RECORDS)
        self.quotes: dict[websocket.WebSocket, set[str]] = {}  # sockets and the instruments they subscribed to
        self.control = Control(self)

    def handle(self, request: Request) -> Answer | Upgrade:
        path = request.path.lower()
        if path.startswith("/_control/"):
            return Answer(self.control.handle(request))
        if path == STREAM:
            return self._open_stream(request)
        if path.startswith("/v1/api/"):
            return self._serve(self.crosstrade, request)
        if path.startswith("/v1/"):
            return self._serve(self.tradovate, request)
        if path.startswith("/api/"):
            return self._serve(self.pocketful, request)
        return Answer(
            text_reply(404, "No broker's API is here. See /_control/health and the sandbox's page in the docs.\n")
        )

    def reset(self, *, tokens: bool) -> None:
        self.book.clear()
        self.faults.clear()
        self.records.clear()
        for broker in self.brokers.values():
            broker.reset(tokens=tokens)
            broker.default_behaviour()

    # -- one request ------------------------------------------------------------------------------

    def _serve(self, broker: Broker, request: Request) -> Answer:
        operation = broker.operation(request)
        record = Record(
            broker.name,
            operation,
            request.method,
            request.path,
            request.query,
            request.headers,
            request.body,
            now_iso(),
        )
        fault = self._meet(broker, operation, request, record)
        reply = self._play(broker, operation, fault, request, lambda: broker.execute(request, record))
        record.status = reply.status if reply is not None else None
        return Answer(reply, float(fault.seconds) if fault is not None and fault.fault == "delay" else 0.0)

    def _meet(self, broker: Broker, operation: str, request: Request, record: Record) -> Armed | None:
        self.records.append(record)
        self.book.expire_due(datetime.now(UTC))
        return self.faults.take(broker.name, operation, ticket=broker.holds_ticket(request))

    @staticmethod
    def _play(
        broker: Broker, operation: str, fault: Armed | None, request: Request, execute: Callable[[], Reply]
    ) -> Reply | None:
        """Execute, or not, and say what the fault wants said; None closes the connection."""
        name = fault.fault if fault is not None else ""
        if name == "drop_before":
            return None
        if name == "garbage":
            return Reply(200, content=_GARBAGE, content_type="text/html")
        if fault is not None and name in _BEFORE:
            return broker.misbehave(fault, request, operation)
        broker.doomed = name == "reject_later"
        try:
            reply = execute()
        finally:
            broker.doomed = False
        if name == "drop_after":
            return None
        if fault is not None and name in _AFTER:
            return broker.misbehave(fault, request, operation)
        return reply

    # -- CrossTrade's WebSocket -------------------------------------------------------------------

    def _open_stream(self, request: Request) -> Answer | Upgrade:
        """The handshake needs the bearer; no fault is spent on it."""
        record = Record(
            self.crosstrade.name,
            "connect",
            request.method,
            request.path,
            request.query,
            request.headers,
            None,
            now_iso(),
        )
        self.records.append(record)
        token = bearer(request)
        if not token or token == "wrong":
            record.status = 401
            return Answer(Reply(401, {"error": "Unauthorized"}))
        if not websocket.wants_upgrade(request):
            record.status = 400
            return Answer(Reply(400, {"error": "WebSocket upgrade expected"}))
        record.status = 101
        socket = websocket.WebSocket(lambda socket, text: self._on_text(socket, text, request), self._forget)
        return Upgrade(websocket.handshake(request), socket)

    def _on_text(self, socket: websocket.WebSocket, text: str, opening: Request) -> None:
        try:
            frame = jsontext.loads(text)
        except jsontext.NotJson:
            frame = None
        action = frame.get("action") if isinstance(frame, dict) else None
        if action == "rpc" and isinstance(frame.get("api"), str):
            self._remote_call(socket, frame, opening)
        elif action == "ping":
            socket.send('{"type":"pong"}')
        elif action in ("subscribe", "unsubscribe"):
            self._subscribe(socket, action, frame.get("instruments"))
        elif action != "streamPnl":  # accepted in silence: the sandbox streams no P&L
            socket.send(jsontext.dumps({"success": False, "error": "Invalid request"}))

    def _remote_call(self, socket: websocket.WebSocket, frame: dict[str, Any], opening: Request) -> None:
        api, broker = frame["api"], self.crosstrade
        operation = broker.rpc_operation(api)
        record = Record(broker.name, operation, "WS", STREAM, {}, opening.headers, frame, now_iso())
        fault = self._meet(broker, operation, opening, record)
        reply = self._play(
            broker, operation, fault, opening, lambda: broker.execute_rpc(api, frame.get("args", {}), record)
        )
        record.status = reply.status if reply is not None else None
        if reply is None:
            socket.drop()
            return
        if reply.content is not None:
            answer = "<html> not what you asked for"
        else:
            answer = jsontext.dumps({"id": frame.get("id"), "data": broker.rpc_data(reply)})
        if fault is not None and fault.fault == "delay":
            asyncio.get_running_loop().call_later(float(fault.seconds), socket.send, answer)
        else:
            socket.send(answer)

    def _forget(self, socket: websocket.WebSocket) -> None:
        self.quotes.pop(socket, None)

    def _subscribe(self, socket: websocket.WebSocket, action: str, names: Any) -> None:
        wanted = self.quotes.setdefault(socket, set())
        for name in names if isinstance(names, list) else []:
            market = self.crosstrade.reads.market(name)
            if market is None:
                continue
            if action == "subscribe":
                wanted.add(market)
                self._quote(socket, market)
            else:
                wanted.discard(market)

    def price_moved(self, market: str) -> None:
        """Tell the sockets that subscribed to the instrument."""
        for socket, wanted in self.quotes.items():
            if market in wanted:
                self._quote(socket, market)

    def _quote(self, socket: websocket.WebSocket, market: str) -> None:
        row = self.crosstrade.reads.quote({"instrument": market}, None)
        row.pop("success", None)
        socket.send(jsontext.dumps({"type": "marketData", "quotes": [row]}))
