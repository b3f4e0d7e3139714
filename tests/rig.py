"""A toy broker over real HTTP, for tests of what happens between an order and any broker.

Its file speaks a made-up protocol (`POST /place`, `GET /find/<id>`); its server answers as the test scripts it.
"""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from marshmallow import Schema

from bridge.broker import Broker, Capabilities
from bridge.call import Absent, Accepted, Call, Hold, LogIn, LookUp, Plan, Rejected, Reply, Seen, Token, Unknown
from bridge.lane import work_of
from bridge.ledger import Ledger
from bridge.order import Order
from bridge.playback import following
from bridge.record import Delivery, NewOrder, alert_id, order_id
from bridge.views import begin_record, call_record, reply_record
from bridge.work import Account, Budget, Credentials, Work


class ToyBroker(Broker):
    """Places with one POST, or with two for `oco`; looks up with one GET."""

    name = "toy"
    capabilities = Capabilities(kinds={"plain": "native", "oco": "composed", "cancel": "native", "close": "native"})
    environments = {"live": ("http://127.0.0.1:1", "ws://127.0.0.1:1")}
    default_environment = "live"
    real_money = frozenset()
    budget = Budget()
    account_schema = Schema
    credential_names = {"token": True}
    sandbox_credentials = {"token": "toy"}
    options_schema = Schema

    def login_name(self, account: Account) -> str:
        return "toy"

    def submit(self, work: Work) -> Plan:
        if work.order.kind == "cancel":
            return self._cancel(work)
        return self._place(work)

    def _cancel(self, work: Work) -> Plan:
        for target in work.targets:
            reply = yield self._call(work, "cancel", target.ids.order_id)
            if reply.status != 200:
                return Rejected(reason=reply.words)
        return Accepted(reason="" if work.targets else "nothing to cancel")

    def _place(self, work: Work) -> Plan:
        for step in ("entry", "other") if work.order.kind == "oco" else ("entry",):
            reply = yield self._call(work, "place", work.ids.client_id("" if step == "entry" else step), step)
            if reply.seen is not None:
                reply = Reply.of({"id": reply.seen.broker_ids["order"]})
            if reply.not_executed or (reply.status == 400 and step == "other"):
                if step == "other":
                    yield self._call(work, "cancel", work.ids.client_id(), "undo.entry")
                return Rejected(reason=f"{step} was not executed: {reply.fault or reply.text}")
            if reply.status == 400:
                return Rejected(reason=f"the toy broker said no: {reply.text}")
            if reply.status != 200 or "id" not in (reply.json if isinstance(reply.json, dict) else {}):
                return Unknown(reason=reply.words)
        return Accepted(broker_ids={"order": str(reply.json["id"])}, broker_status="working")

    def _call(self, work: Work, operation: str, client_id: str, step: str = "entry") -> Call:
        order = work.order
        return Call(operation=operation, method="POST", url=f"{work.account.rest_url}/{operation}", step=step, write=True,
                    body={"id": client_id, "price": order.price}, assumed={"id": 1})

    def look_up(self, work: Work) -> LookUp:
        return self._find(work, work.ids.order_id)

    def look_up_step(self, work: Work, call: Call) -> LookUp:
        return self._find(work, call.body["id"])

    def _find(self, work: Work, client_id: str) -> LookUp:
        reply = yield Call(operation="find", method="GET", step="look_up", write=False, assumed={"status": "working"},
                           url=f"{work.account.rest_url}/find/{client_id}")
        if reply.status == 410:  # the whole book was looked through
            return Absent(reason="the toy broker's complete book does not hold it")
        if reply.status != 200:
            return None
        return Seen(broker_status=reply.json["status"], broker_ids={"order": "9"}, by_our_id=True)

    def log_in(self, account: Account, now: float, token: Token | None) -> LogIn:
        reply = yield Call(operation="login", method="POST", url=f"{account.rest_url}/login", step="login", write=False,
                           body={"secret": account.credentials["token"]})
        return Token(value=str(reply.json["token"]), expires_at=now + 5400)

    def dress(self, call: Call, account: Account, token: Token, frame_id: str) -> Call:
        return Call(operation=call.operation, method=call.method, url=call.url, step=call.step, write=call.write,
                    headers={**call.headers, "Authorization": token.value}, body=call.body)

    def nothing_done(self, call: Call, reply: Reply) -> Hold | None:
        if reply.status == 429:
            return Hold(reason="rate limit", wait_s=0.2, whole_login=True)
        if reply.status == 401:
            return Hold(reason="dead token", wait_s=0.0, renew=True)
        if reply.status == 200 and isinstance(reply.json, dict) and "ticket" in reply.json:
            return Hold(reason="penalty", wait_s=0.1, ticket={"ticket": reply.json["ticket"]})
        return None


class ToyServer:
    """Answers each `place` as the next scripted word says, everything else as a broker would."""

    def __init__(self) -> None:
        self.script: deque[Any] = deque()
        self.requests: list[dict[str, Any]] = []
        self.placed: dict[str, Any] = {}
        self.find_status = "working"
        self.findable = True
        self.book_is_complete = False
        self.on_find: Callable[[], None] = lambda: None
        """Called when the book was looked at and the answer is about to leave."""
        self.logins = 0
        self.changed = threading.Condition()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                owner._handle(self)

            def do_GET(self) -> None:
                owner._handle(self)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, handler: Any) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length), parse_float=Decimal) if length else None
        with self.changed:
            self.requests.append({"path": handler.path, "body": body, "headers": dict(handler.headers)})
            self.changed.notify_all()
        if handler.path == "/login":
            self.logins += 1
            return self._say(handler, 200, {"token": f"t{self.logins}"})
        if handler.path.startswith("/find/"):
            known = self.findable and handler.path.removeprefix("/find/") in self.placed
            missing = 410 if self.book_is_complete else 404
            self.on_find()
            return self._say(handler, 200, {"status": self.find_status}) if known else self._say(handler, missing, {})
        word = self.script.popleft() if self.script else "ok"
        if callable(word):
            word = word()
        self._act(handler, word, body)

    def _act(self, handler: Any, word: Any, body: Any) -> None:
        if word == "ok":
            self.placed[body["id"]] = body
            self._say(handler, 200, {"id": len(self.placed)})
        elif word == "drop_after":
            self.placed[body["id"]] = body
            handler.connection.close()
        elif word == "drop_before":
            handler.connection.close()
        elif word == "drip":
            self.placed[body["id"]] = body
            self._drip(handler)
        elif word == "cut":
            self.placed[body["id"]] = body
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"id\"")
            handler.close_connection = True
        else:
            self._say(handler, *word)

    def _drip(self, handler: Any) -> None:
        """One byte at a time, for longer than any caller waits; ends when the caller hangs up."""
        try:
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b" " * 1_000_000:
                handler.connection.sendall(bytes([byte]))
                time.sleep(0.05)  # the dripping is the fault that is played, nobody waits for it
        except OSError:
            handler.close_connection = True

    def _say(self, handler: Any, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def sent(self, path: str = "/place") -> list[Any]:
        """Bodies of the requests that arrived at `path`."""
        return [each["body"] for each in self.requests if each["path"] == path]


@contextmanager
def toy_server() -> Iterator[ToyServer]:
    server = ToyServer()
    try:
        yield server
    finally:
        server.close()


def toy_account(url: str, name: str = "toy", **more: Any) -> Account:
    return Account(name=name, broker="toy", rest_url=url, login=f"toy:{url}", real_money=False,
                   credentials=Credentials({"token": "secret-leak-me"}), **more)


def plain(price: str = "5300.25", **more: Any) -> Order:
    return Order(**{"kind": "plain", "symbol": "ESZ6", "side": "buy", "quantity": Decimal(2), "type": "limit",
                    "price": Decimal(price), "time_in_force": "day", **more})


def delivery(key: str, *orders: tuple[str, Order], window: int = 1000, nonce: str | None = None, home: str = "toy",
             age_ms: int = 0, max_age_ms: int = 60_000, dedupe_ms: int = 30_000, broker: str = "toy",
             **more: Any) -> Delivery:
    """A delivery of an alert with these (account, order) pairs; those of one account follow each other."""
    alert = alert_id("t", key, window)
    made: list[NewOrder] = []
    for index, (account, order) in enumerate(orders):
        before = next((each.id for each in reversed(made) if each.account == account), "")
        made.append(NewOrder(id=order_id(alert, "t", index, account), index=index, account=account, broker=broker,
                             order=order, max_age_ms=max_age_ms, follows=before, **more))
    return Delivery(template="t", home=home, id=alert, key=key, dedupe_ms=dedupe_ms, nonce=nonce or key,
                    fingerprint=key, age_ms=age_ms, body="{}", state="accepted", orders=tuple(made))


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """The first true value of `condition`; fails when there is none in time."""
    ends_at = time.monotonic() + seconds
    pause = threading.Event()
    while not (found := condition()):
        if time.monotonic() > ends_at:
            raise AssertionError(f"not within {seconds} s: {condition}")
        pause.wait(0.01)
    return found


def left_by_a_dead_worker(ledger: Ledger, server: ToyServer, order: str, replies: Sequence[Reply | None],
                          account: str = "toy") -> None:
    """What is on record when a worker died: its plan was driven with these replies; None: the write was about to leave."""
    lease = ledger.take_lease(account, f"dead {order}", 1)
    while lease is None:
        lease = ledger.take_lease(account, f"dead {order}", 1)
    stored = ledger.load(account, order)
    assert stored is not None
    work = work_of(stored, toy_account(server.url, account), None)
    given = {"attempt": 1, "arming": 1, "counter": None, "broker_ids": {}, "submitted": None, "targets": []}
    plan, asked, records = ToyBroker().submit(work), None, [begin_record(given, 1)]
    for number, reply in enumerate([None, *replies]):
        if number and reply is None:
            break
        if number:
            records.append(reply_record(asked, reply, 1))
        asked = following(plan, reply)
        assert isinstance(asked, Call)
        records.append(call_record(asked, 1))
    assert ledger.submit(lease, stored, record=len(records), attempt=1, send_within_ms=1, client_order_id=order,
                         counter=None, look_at_age=True, records=records)[0] == "ok"
    ledger.release_lease(lease)
