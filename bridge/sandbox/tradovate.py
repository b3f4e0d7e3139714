"""Tradovate under `/v1`: log-in, routing, and its ways of saying no.

Facts that look like mistakes and are the broker's: rejections and penalties are HTTP 200; a bad log-in is HTTP 200 with
`errorText` alone; a read without a token is 404; paths are matched without case and the method hardly matters.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from .book import Book
from .broker import Broker
from .faults import Armed
from .tradovate_desk import NAME, USER_ID, Desk
from .tradovate_orders import Orders
from .tradovate_reads import VERBS, Reads
from .tradovate_schema import Refused
from .wire import Record, Reply, Request, bearer, iso, text_reply

TOKEN_LIFE = timedelta(minutes=90)
_BAD_LOGIN = "Incorrect username or password. Please try again, noting that passwords are case-sensitive."
_AREAS = {
    "order": (
        "placeorder", "placeoco", "placeoso", "modifyorder", "cancelorder", "liquidateposition", "liquidatepositions",
    ),
    "orderstrategy": ("startorderstrategy", "interruptorderstrategy"),
    "auth": ("accesstokenrequest", "renewaccesstoken", "me"),
}  # fmt: skip
_WRITES = _AREAS["order"] + _AREAS["orderstrategy"]
_LIQUIDATION_ONLY = "Your account is set to liquidation only."


class Session:
    __slots__ = ("dead", "expires", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.expires = datetime.now(UTC) + TOKEN_LIFE
        self.dead = False


class Tradovate(Broker):
    name = NAME
    operations = (*_WRITES, *_AREAS["auth"], *VERBS, "any")
    settings = {
        "oso_ids": (True, False),
        "success_word": (False, True),
        "flat_liquidation": ("empty", "order_id", "refused"),
        "entity_cap": int,
    }

    def __init__(self, book: Book) -> None:
        super().__init__(book)
        self.desk = Desk(book, self.behaviour)
        self.orders = Orders(self.desk, self.submit)
        self.reads = Reads(self.desk)
        self.sessions: dict[str, Session] = {}
        self.tickets: set[str] = set()

    def operation(self, request: Request) -> str:
        return request.path.rstrip("/").rpartition("/")[2].lower()

    def reset(self, *, tokens: bool) -> None:
        self.desk.clear()
        self.tickets.clear()
        if tokens:
            self.sessions.clear()

    # -- doing it ---------------------------------------------------------------------------------

    def execute(self, request: Request, record: Record) -> Reply:
        area, _, verb = request.path.lower().removeprefix("/v1/").rstrip("/").partition("/")
        if area == "auth" and verb == "accesstokenrequest":
            return self._log_in(request)
        known = verb in _AREAS.get(area, ()) or self.reads.knows(area, verb)
        if not known:
            return text_reply(404, f"Not found: {area}/{verb}" if verb else f"Not found: {area}")
        session = self.sessions.get(bearer(request))
        if not bearer(request):
            # Seen at the broker: a list call without a token is 404; what needs a permission is 401.
            return text_reply(404, "") if verb in VERBS else text_reply(401, "Access is denied")
        if session is None or session.dead or session.expires <= datetime.now(UTC):
            return text_reply(401, "Expired Access Token")
        if area == "auth":
            return self._granted(session.name) if verb == "renewaccesstoken" else self._me(session)
        if verb in VERBS:
            return self.reads.read(area, verb, request.parameters())
        if request.broken or request.body is None:
            return Reply(400, {"errorText": "The request body is not a JSON object"})
        self._spend_ticket(request)
        try:
            return self.orders.operations[verb](request.body, record)
        except Refused as refused:
            return refused.reply

    def _log_in(self, request: Request) -> Reply:
        body = request.body if isinstance(request.body, dict) else {}
        name, password = body.get("name"), body.get("password")
        if not (isinstance(name, str) and name and isinstance(password, str) and password) or password == "wrong":
            return Reply(200, {"errorText": _BAD_LOGIN})
        if not body.get("cid") or not body.get("sec"):
            return Reply(200, {"errorText": "The app is not registered"})
        self._spend_ticket(request)
        return self._granted(name)

    def _granted(self, name: str) -> Reply:
        token = secrets.token_urlsafe(48)
        session = self.sessions[token] = Session(name)
        self.desk.users.add(name)
        return Reply(
            200,
            {
                "accessToken": token,
                "mdAccessToken": secrets.token_urlsafe(48),
                "expirationTime": iso(session.expires),
                "passwordExpirationTime": iso(session.expires + timedelta(days=365)),
                "userStatus": "Active",
                "userId": USER_ID,
                "name": name[:64],
                "hasLive": False,
                "outdatedTaC": False,
                "hasFunded": False,
                "hasMarketData": False,
                "outdatedLiquidationPolicy": False,
            },
        )

    def _me(self, session: Session) -> Reply:
        return Reply(
            200,
            {
                "userId": USER_ID,
                "name": session.name[:64],
                "fullName": "Sandbox Trader",
                "email": "trader@example.com",
                "emailVerified": True,
                "isTrial": False,
            },
        )

    # -- misbehaving ------------------------------------------------------------------------------

    def holds_ticket(self, request: Request) -> bool:
        return isinstance(request.body, dict) and str(request.body.get("p-ticket")) in self.tickets

    def _spend_ticket(self, request: Request) -> None:
        if isinstance(request.body, dict):
            self.tickets.discard(str(request.body.get("p-ticket")))

    def misbehave(self, fault: Armed, request: Request, operation: str) -> Reply:
        if fault.fault == "rate_limit":
            # an empty body, Content-Length 0; the header is the sandbox's own, so that a trial need not wait a minute
            return Reply(429, headers={"Retry-After": "1"})
        if fault.fault == "penalty_ticket":
            ticket = secrets.token_hex(24)
            self.tickets.add(ticket)
            return Reply(200, {"p-ticket": ticket, "p-time": fault.seconds, "p-captcha": fault.captcha})
        if fault.fault == "expired_token":
            session = self.sessions.get(bearer(request))
            if session is not None:
                session.dead = True
            return text_reply(401, "Expired Access Token")
        if fault.fault == "http_500_after":
            return text_reply(500, f"Internal server error, error id {secrets.token_hex(8)}")
        if fault.fault.startswith("http_408"):
            return text_reply(408, "")
        return self._rejection(fault, operation)

    @staticmethod
    def _rejection(fault: Armed, operation: str) -> Reply:
        if operation in ("accesstokenrequest", "renewaccesstoken", "me"):
            return Reply(200, {"errorText": fault.text or _BAD_LOGIN})
        if operation in ("startorderstrategy", "interruptorderstrategy"):
            return Reply(200, {"errorText": fault.text or _LIQUIDATION_ONLY})
        if operation == "liquidatepositions":
            return Reply(200, {"ok": False, "errorText": fault.text or "Operation failed"})
        if operation in ("placeorder", "placeoco", "placeoso"):
            reason, text = "LiquidationOnly", _LIQUIDATION_ONLY
        elif operation in _WRITES:
            reason, text = "TradingLocked", "Trading is locked for this account"
        else:
            return text_reply(401, fault.text or "Access is denied")
        data: dict[str, Any] = {"failureReason": fault.reason or reason, "failureText": fault.text or text}
        return Reply(200, data)
