"""Pocketful under `/api`: log-in, routing, reads, and its ways of saying no.

The token comes as `Authorization: Bearer` or as `x-authorization-token`; the broker's pages and clients disagree, so
both are taken. A success is an acknowledgement: a rejection shows later, in the order's row.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from . import jsontext
from .book import DEFAULT_PRICE, Book
from .broker import Broker
from .faults import Armed
from .pocketful_checks import Refused, blank, invalid, success
from .pocketful_orders import NAME, Orders
from .pocketful_rows import PENDING, history_rows, order_row, order_status, position_row, trade_row
from .pocketful_scrips import EXCHANGES, find, master, scrip
from .wire import Record, Reply, Request, bearer

DEFAULT_CLIENT = "DEMO1"
_ORDERS = "/api/v1/orders"
_KART = "/api/v1/orders/kart"
_READS = (
    "orders", "history", "trades", "positions", "holdings", "trading_info", "profile", "contract", "search",
    "marketdata", "view", "login", "twofa",
)  # fmt: skip


class Pocketful(Broker):
    name = NAME
    operations = (
        "place", "place_co", "place_bo", "modify", "modify_kart", "cancel", "cancel_kart", *_READS, "any",
    )  # fmt: skip
    settings = {
        "stop_loss_value": ("price", "distance"),  # of cover orders; the sources disagree
        "exchange_id_delay": int,
        "error_status": (400, 200, 403, 500),
        "twofa": ("pin", "totp"),
    }

    def __init__(self, book: Book) -> None:
        super().__init__(book)
        self.orders = Orders(book, self.behaviour, self.submit)
        self._clients: dict[str, str] = {}
        self._second_factors: dict[str, str] = {}

    def reset(self, *, tokens: bool) -> None:
        self.orders.clear()
        self._second_factors.clear()
        if tokens:
            self._clients.clear()

    # -- routing ----------------------------------------------------------------------------------

    def operation(self, request: Request) -> str:
        path, method = request.path.rstrip("/"), request.method
        if path == _KART or path.startswith(_KART + "/"):
            if method == "POST":
                kind = request.body.get("execution_type") if isinstance(request.body, dict) else None
                return "place_bo" if str(kind).upper() == "BO" else "place_co"
            return {"PUT": "modify_kart", "DELETE": "cancel_kart"}.get(method, "kart")
        if path == _ORDERS or path.startswith(_ORDERS + "/"):
            return {"POST": "place", "PUT": "modify", "DELETE": "cancel"}.get(method, "orders")
        for area in ("contract", "marketdata"):
            if f"/{area}/" in path:
                return area
        return path.rpartition("/")[2]

    def execute(self, request: Request, record: Record) -> Reply:
        try:
            return self._execute(request, record)
        except Refused as refused:
            return refused.reply(self.behaviour["error_status"])

    def _execute(self, request: Request, record: Record) -> Reply:
        operation = self.operation(request)
        open_calls: dict[str, Callable[[Request], Reply]] = {
            "login": self._log_in,
            "twofa": self._second_factor,
            "contract": self._contract,
        }
        if operation in open_calls:
            return open_calls[operation](request)
        token = _token(request)
        if not token or token == "wrong":
            raise Refused(40000, "Request forbidden" if request.method == "GET" else "Request Unauthorised")
        if operation in self._writes:
            if request.broken:
                raise Refused(44000, "request body is invalid")
            return self._writes[operation](self, self._parameters(request), record)
        read = self._reads.get(operation)
        if read is None or request.method != "GET":
            return Reply(404, {"data": {}, "message": "Not found", "status": "error"})
        return read(self, request)

    _writes: dict[str, Callable[[Pocketful, dict[str, Any], Record], Reply]] = {
        "place": lambda self, body, record: self.orders.place(body, record),
        "place_co": lambda self, body, record: self.orders.place_basket(body, record),
        "place_bo": lambda self, body, record: self.orders.place_basket(body, record),
        "modify": lambda self, body, record: self.orders.modify(body, record),
        "modify_kart": lambda self, body, record: self.orders.modify_basket(body, record),
        "cancel": lambda self, body, record: self.orders.cancel(body, record),
        "cancel_kart": lambda self, body, record: self.orders.cancel_basket(body, record),
    }

    @staticmethod
    def _parameters(request: Request) -> dict[str, Any]:
        """A DELETE's come by query, JSON body, both, or as JSON text in place of the query (one client does that)."""
        merged: dict[str, Any] = dict(request.query)
        if request.raw_query.startswith(("{", "%7B")):
            try:
                merged = dict(jsontext.loads(next(iter(request.query), "") or "{}"))
            except (jsontext.NotJson, TypeError, ValueError):
                raise Refused(44000, "query is invalid") from None
        if isinstance(request.body, dict):
            merged.update(request.body)
        if request.method == "DELETE":
            base = _KART if request.path.startswith(_KART) else _ORDERS
            named = request.path.removeprefix(base).strip("/")
            if named:
                merged["oms_order_id"] = named
        return merged

    # -- reads ------------------------------------------------------------------------------------

    def _order_book(self, request: Request) -> Reply:
        """Two books: `pending` and `completed`."""
        client = _client(request)
        kind = request.query.get("type")
        if kind not in ("pending", "completed"):
            raise invalid("type")
        rows = []
        for order in self.orders.orders.values():
            if order.account == client and (order_status(order) in PENDING) == (kind == "pending"):
                rows.append(order_row(order))
                order.extra["hidden_reads"] = max(0, order.extra["hidden_reads"] - 1)
        return success({"orders": rows})

    def _history(self, request: Request) -> Reply:
        order = self.orders.orders.get(request.path.split("/")[-2])
        if order is None or order.account != _client(request):
            raise Refused(45000, "no data found with this id")
        # The key has a space, and message and status are inside `data`, as at the broker.
        return Reply(200, {"data": {"order history": history_rows(order), "message": "", "status": "success"}})

    def _trades(self, request: Request) -> Reply:
        client = _client(request)
        fills = [f for f in self.book.fills if f.order.broker == NAME and f.order.account == client]
        return success({"trades": [trade_row(fill) for fill in fills]})

    def _positions(self, request: Request) -> Reply:
        client = _client(request)
        if request.query.get("type") not in ("live", "historical"):
            raise invalid("type")
        held = [p for p in self.book.positions.values() if p.broker == NAME and p.account == client]
        return success([position_row(self.book, position) for position in held])

    def _holdings(self, request: Request) -> Reply:
        _client(request)
        return success({"holdings": []})

    def _funds(self, request: Request) -> Reply:
        return success(
            {
                "client_id": _client(request),
                "headers": ["", "ALL"],
                "values": [["Available Margin", "1000000"]],
            }
        )

    def _trading_info(self, request: Request) -> Reply:
        client = self._clients.get(_token(request), DEFAULT_CLIENT)
        info = {
            "client_id": client,
            "exchanges_subscribed": list(EXCHANGES),
            "products_enabled": ["CNC", "MIS", "NRML", "CO", "BO"],
            "status": "ACTIVE",
        }
        return success(info)

    def _search(self, request: Request) -> Reply:
        rows = [
            {
                "exchange": one.exchange,
                "token": one.token,
                "trading_symbol": one.trading_symbol,
                "symbol": one.symbol,
                "company": one.company,
                "is_tradable": True,
            }
            for one in find(request.query.get("key", ""))
        ]
        return Reply(200, {"error": {"code": 0, "message": ""}, "result": rows})

    def _market_data(self, request: Request) -> Reply:
        exchange = request.path.split("/marketdata/")[1].partition("/")[0]
        token = request.query.get("token", "")
        last = self.book.last(f"{exchange}:{token}")
        last = DEFAULT_PRICE if last is None else last
        if request.query.get("key"):
            return success(last)
        return success({"exchange": exchange, "instrument_token": token, "last_trade_price": last})

    def _contract(self, request: Request) -> Reply:
        """Instrument master (no log-in needed) and the facts of one instrument."""
        exchange = request.path.split("/contract/")[1].partition("/")[0]
        if request.query.get("info") == "download":
            wanted = [name for name in request.query.get("exchanges", "").split(",") if name in EXCHANGES]
            return Reply(200, content=master(wanted or list(EXCHANGES)), content_type="application/zip")
        token = request.query.get("token", "")
        if exchange not in EXCHANGES or not token.isdigit():
            return Reply(200, {"error": {"code": 45010, "message": "Something Went Wrong"}, "result": None})
        one = scrip(exchange, int(token))
        result = {
            "exchange": one.exchange,
            "instrument_token": one.token,
            "trading_symbol": one.trading_symbol,
            "symbol": one.symbol,
            "tick_size": one.tick,
            "board_lot_quantity": one.lot,
            "tradable": True,
            "dpr": "0.0500 - 1000000.0000",
            "lower_circuit_limit": "0.05",
            "higher_circuit_limit": "1000000.00",
        }
        return Reply(200, {"error": {"code": 0, "message": ""}, "result": result})

    _reads: dict[str, Callable[[Pocketful, Request], Reply]] = {
        "orders": _order_book,
        "history": _history,
        "trades": _trades,
        "positions": _positions,
        "holdings": _holdings,
        "view": _funds,
        "trading_info": _trading_info,
        "profile": _trading_info,
        "search": _search,
        "marketdata": _market_data,
    }

    # -- log-in -----------------------------------------------------------------------------------

    def _log_in(self, request: Request) -> Reply:
        body = request.body if isinstance(request.body, dict) else {}
        name, secret = body.get("channel_id"), body.get("channel_secret")
        if not name or not secret or secret == "wrong":
            raise Refused(40000, "Request Unauthorised")
        token = secrets.token_hex(16)
        self._second_factors[token] = str(name)
        question = "100" if self.behaviour["twofa"] == "totp" else "22"
        return success({"twofa": {"twofa_token": token, "questions": [{"question_id": question}]}})

    def _second_factor(self, request: Request) -> Reply:
        """TOTP when the question's id is "100", else PIN; any answer but "wrong" is right."""
        body = request.body if isinstance(request.body, dict) else {}
        answers = body.get("twofa")
        first = answers[0] if isinstance(answers, list) and answers and isinstance(answers[0], dict) else {}
        client = self._second_factors.get(str(body.get("twofa_token")))
        wanted = "TOTP" if first.get("question_id") == "100" else "PIN"
        if client is None or client != body.get("login_id") or body.get("type") != wanted:
            raise Refused(40000, "Request Unauthorised")
        if not first.get("answer") or first.get("answer") == "wrong":
            raise Refused(40000, "Request Unauthorised")
        del self._second_factors[str(body["twofa_token"])]
        token = f"{secrets.token_urlsafe(24)}.{secrets.token_urlsafe(24)}"
        self._clients[token] = client
        return success({"auth_token": token, "client_id": client})

    # -- misbehaving ------------------------------------------------------------------------------

    def misbehave(self, fault: Armed, request: Request, operation: str) -> Reply:
        if fault.fault == "rate_limit":
            # No page shows this reply; it has no error code, for none is documented.
            return Reply(429, {"data": {}, "message": "Too many requests", "status": "error"})
        if fault.fault == "expired_token":
            word = "Request forbidden" if request.method == "GET" else "Request Unauthorised"
            return Refused(40000, word).reply(401)
        if fault.fault == "http_500_after":
            return Reply(500, content=b"Internal Server Error", content_type="text/plain; charset=utf-8")
        if fault.fault.startswith("http_408"):
            return Reply(408, content=b"Request Timeout", content_type="text/plain; charset=utf-8")
        if operation in self._writes:
            code = int(fault.reason) if fault.reason and fault.reason.isdigit() else 44000
            return Refused(code, fault.text or "order price is out of DPR range").reply(self.behaviour["error_status"])
        return Refused(40000, fault.text or "Request forbidden").reply(401)


def _token(request: Request) -> str:
    return request.lower.get("x-authorization-token", "").strip() or bearer(request)


def _client(request: Request) -> str:
    client = request.query.get("client_id")
    if not client:
        raise blank("client_id")
    return client
