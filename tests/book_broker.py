"""A toy broker that keeps a book: which orders it executed, how often, and which of them stand.

Its file places (`plain` with one write, `oco` with two and an undo), cancels and closes, and looks up an exit by its
effect. Its server can lose a reply before or after it executed, execute late, say no, be busy, and be blind.
"""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

from bridge.call import Absent, Accepted, Call, Hold, LookUp, Outcome, Plan, Rejected, Reply, Seen, Unknown
from bridge.work import Work
from tests.rig import ToyBroker, ToyServer


class BookBroker(ToyBroker):
    """The file of that broker."""

    def submit(self, work: Work) -> Plan:
        if work.order.kind == "cancel":
            return self._cancel(work)
        return self._close(work) if work.order.kind == "close" else self._place(work)

    def nothing_done(self, call: Call, reply: Reply) -> Hold | None:
        return Hold(reason="busy", wait_s=0.2) if reply.status == 429 else super().nothing_done(call, reply)

    def _write(self, work: Work, operation: str, client_id: str, step: str) -> Call:
        order = work.order
        return Call(operation=operation, method="POST", url=f"{work.account.rest_url}/{operation}", step=step, write=True,
                    body={"id": client_id, "account": work.account.name, "price": order.price,
                          "contract": order.symbol or ""}, assumed={"id": 1, "ended": []})

    def _read(self, work: Work, path: str) -> Call:
        return Call(operation="find", method="GET", step="look_up", write=False, assumed={"status": "working"},
                    url=f"{work.account.rest_url}/{path}")

    def _place(self, work: Work) -> Plan:
        reply = Reply(status=None)
        for step in _steps(work):
            reply = yield self._write(work, "place", work.ids.client_id(_leg(step)), step)
            if reply.seen is not None:
                continue
            if reply.not_executed or reply.status == 400:
                reason = f"{step} was not executed: {reply.fault or reply.text}"
                return (yield from self._undo(work, reason)) if step == "other" else Rejected(reason=reason)
            if not _is_heard(reply):
                return Unknown(reason=reply.words)
        return Accepted(broker_ids={"order": work.ids.order_id}, broker_status="working")

    def _undo(self, work: Work, reason: str) -> Generator[Call, Any, Outcome]:
        reply = yield self._write(work, "cancel", work.ids.client_id(), "undo.entry")
        if reply.status == 400:
            return Accepted(alarm=f"{reason}; half of it stands: {reply.text}")
        if reply.seen is not None or _is_heard(reply):
            return Rejected(reason=reason)
        return Unknown(reason=reply.words)

    def _cancel(self, work: Work) -> Plan:
        ended: dict[str, Seen] = {}
        for target in work.targets:
            all_there = True  # a part that is not there may still be on its way
            for step in _steps(target):
                reply = yield self._write(target, "cancel", target.ids.client_id(_leg(step)), f"cancel.{step}")
                if reply.status == 400:
                    return Rejected(reason=reply.words)
                if not _is_heard(reply):
                    return Unknown(reason=reply.words)
                all_there = all_there and reply.status == 200
            if all_there:
                ended[target.ids.order_id] = Seen(broker_status="canceled")
        return Accepted(reason="" if ended else "nothing to cancel", targets=ended)

    def _close(self, work: Work) -> Plan:
        reply = yield self._write(work, "close", work.ids.client_id(), "close")
        if reply.status == 400:
            return Rejected(reason=reply.words)
        if not _is_heard(reply):
            return Unknown(reason=reply.words)
        return Accepted(reason=f"ended {len(reply.json['ended'])}")

    def look_up(self, work: Work) -> LookUp:
        if work.order.kind == "close":
            return self._is_flat(work)
        return self._are_ended(work) if work.order.kind == "cancel" else self._find(work, work.ids.client_id())

    def look_up_step(self, work: Work, call: Call) -> LookUp:
        return self._is_undone(work, call) if call.operation == "cancel" else self._find(work, call.body["id"])

    def _find(self, work: Work, client_id: str) -> LookUp:
        reply = yield self._read(work, f"find/{client_id}")
        if reply.status == 410:  # the whole book was looked through
            return Absent(reason="the complete book does not hold it")
        if reply.status != 200:
            return None
        return Seen(broker_status=reply.json["status"], broker_ids={"order": client_id}, by_our_id=True)

    def _is_flat(self, work: Work) -> LookUp:
        reply = yield self._read(work, f"open/{work.account.name}/{work.order.symbol}")
        if reply.status != 200:
            return None
        return Absent(reason="not everything is closed") if reply.json["open"] else Seen(broker_status="filled")

    def _are_ended(self, work: Work) -> LookUp:
        for target in work.targets:
            for step in _steps(target):
                found = yield from self._find(work, target.ids.client_id(_leg(step)))
                if found is None or (isinstance(found, Seen) and not found.ended):
                    return found and Absent(reason="it still works")
        return Seen(broker_status="canceled")

    def _is_undone(self, work: Work, call: Call) -> LookUp:
        found = yield from self._find(work, call.body["id"])
        return Absent(reason="it still works") if isinstance(found, Seen) and not found.ended else found


def _is_heard(reply: Reply) -> bool:
    """Whether the broker said what it did; 404: there was nothing to cancel."""
    return reply.status in (200, 404) and isinstance(reply.json, dict)


def _steps(work: Work) -> tuple[str, ...]:
    return ("entry", "other") if work.order.kind == "oco" else ("entry",)


def _leg(step: str) -> str:
    return "" if step == "entry" else step


class BookServer(ToyServer):
    """The broker itself. `script` holds the words for the next writes:

    ok, drop_before and drop_after (it hangs up before or after executing), late (it hangs up, and executes when `arrive`
    is called), trash (it executes and answers what is no JSON), no (400), busy (429); or a function that gives one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_write: Callable[[str, dict[str, Any]], None] = lambda operation, body: None
        self.on_read: Callable[[], None] = lambda: None
        self.on_executed: Callable[[str, dict[str, Any]], None] = lambda operation, body: None
        self.empty()

    def empty(self) -> None:
        """As if nothing had ever been sent to it."""
        self.script.clear()
        self.requests.clear()
        self.book: dict[str, str] = {}
        self.places: dict[str, tuple[str, str]] = {}
        self.executed: Counter[str] = Counter()
        self.in_flight: list[tuple[str, dict[str, Any]]] = []
        self.blind = False
        self.book_is_complete = True

    def arrive(self) -> None:
        """What was on its way is executed now."""
        while self.in_flight:
            self._execute(*self.in_flight.pop(0))

    def standing(self, order: str) -> list[str]:
        """The client ids of an order that stand in the book."""
        return [each for each, status in self.book.items() if each.split(".")[0] == order and status == "working"]

    def _execute(self, operation: str, body: dict[str, Any]) -> tuple[int, Any]:
        client_id, ended = body["id"], []
        self.on_executed(operation, body)
        if operation == "place":
            self.executed[client_id] += 1
            self.book[client_id], self.places[client_id] = "working", (body["account"], body["contract"])
        elif operation == "cancel":
            if client_id not in self.book:
                return 404, {}
            self.book[client_id] = "canceled"
        else:
            ended = self._open(body["account"], body["contract"])
            self.book |= dict.fromkeys(ended, "canceled")
        return 200, {"id": client_id, "ended": ended}

    def _open(self, account: str, contract: str) -> list[str]:
        return [each for each, status in self.book.items()
                if status == "working" and self.places[each] == (account, contract)]

    def _handle(self, handler: Any) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else None
        operation, _, rest = handler.path.strip("/").partition("/")
        if operation == "login":
            return self._say(handler, 200, {"token": "t"})
        if operation in ("find", "open"):
            self.on_read()
            return self._say(handler, *self._tell(operation, rest))
        self.on_write(operation, body)
        word = self.script.popleft() if self.script else "ok"
        if callable(word):
            word = word()
        if word == "ok":
            return self._say(handler, *self._execute(operation, body))
        if word in ("no", "busy"):
            return self._say(handler, 400 if word == "no" else 429, {})
        if word == "late":
            self.in_flight.append((operation, body))
        elif word in ("drop_after", "trash"):
            self._execute(operation, body)
        if word == "trash":
            return self._say(handler, 200, b'{"id"')
        handler.close_connection = True
        with suppress(OSError):
            handler.connection.shutdown(socket.SHUT_RDWR)

    def _say(self, handler: Any, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """In one piece: two would wait for each other's acknowledgement."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.wfile.write(f"HTTP/1.1 {status} .\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)

    def _tell(self, operation: str, what: str) -> tuple[int, Any]:
        if self.blind:
            return 404, {}
        if operation == "open":
            account, _, contract = what.partition("/")
            return 200, {"open": self._open(account, contract)}
        if what in self.book:
            return 200, {"status": self.book[what]}
        return (410 if self.book_is_complete else 404), {}
