"""CrossTrade for NinjaTrader 8: routes under `/v1/api`, remote calls over `/ws/stream`, and its ways of saying no.

Every route is a remote call: path, query and body are merged into its arguments, over REST as over the WebSocket.
Errors are HTTP 400 with only `{"error": …}`; over the WebSocket the answer is `{"id", "data"}` and a failed one says
`"success": false` inside `data`.
"""

from __future__ import annotations

import difflib
from typing import Any

from .book import Book
from .broker import Broker
from .crosstrade_desk import Desk, Refused
from .crosstrade_orders import Orders
from .crosstrade_reads import Reads
from .faults import Armed
from .wire import Record, Reply, Request, bearer

NAME = "crosstrade"
_A = "accounts/{account}/"
# method, path under /v1/api/, remote call, operation (what a fault is armed for)
ROUTES: tuple[tuple[str, str, str, str], ...] = (
    ("GET", "accounts", "ListAccounts", "accounts"),
    ("GET", "accounts/snapshot", "GetAccountSummary", "snapshot"),
    ("GET", "accounts/{account}", "GetAccount", "account"),
    ("GET", _A + "positions", "ListPositions", "positions"),
    ("GET", _A + "position", "GetPosition", "position"),
    ("GET", "positions", "GetAllPositions", "positions"),
    ("POST", _A + "positions/close", "ClosePosition", "close"),
    ("POST", _A + "positions/flatten", "Flatten", "flatten"),
    ("POST", "positions/flatten", "FlattenEverything", "flatten"),
    ("POST", _A + "positions/reverse", "Reverse", "reverse"),
    ("POST", _A + "positions/reverseposition", "ReversePosition", "reverseposition"),
    ("GET", _A + "orders", "ListOrders", "orders"),
    ("POST", _A + "orders/place", "PlaceOrder", "place"),
    ("POST", _A + "orders/flatplace", "FlatPlace", "flatplace"),
    ("POST", _A + "orders/cancel", "CancelOrders", "cancel"),
    ("POST", _A + "orders/cancel_and_bracket", "CancelAndBracket", "cancel_and_bracket"),
    ("POST", "orders/cancelall", "CancelAllOrders", "cancelall"),
    ("GET", _A + "orders/{orderId}", "GetOrder", "order"),
    ("GET", _A + "orders/{orderId}/status", "GetOrderStatus", "status"),
    ("GET", _A + "orders/{orderId}/lifecycle", "GetOrderLifecycle", "lifecycle"),
    ("POST", _A + "orders/{orderId}/cancel", "Cancel", "cancel"),
    ("PUT", _A + "orders/{orderId}/change", "Change", "change"),
    ("POST", _A + "orders/{orderId}/replace", "CancelReplace", "replace"),
    ("GET", _A + "executions", "ListExecutions", "executions"),
    ("GET", _A + "executions/{executionId}", "GetExecution", "execution"),
    ("GET", _A + "quote", "GetQuote", "quote"),
    ("GET", "market/quote", "GetQuote", "quote"),
    ("GET", "market/info", "MarketInfo", "info"),
    ("GET", "atm-templates", "ListAtmTemplates", "atm-templates"),
    ("GET", "_endpoints", "ListEndpoints", "_endpoints"),
)
_BY_RPC = {rpc: operation for _, _, rpc, operation in ROUTES} | {"GetAllOrders": "orders"}
_SPLIT = tuple((method, path.split("/"), rpc, operation) for method, path, rpc, operation in ROUTES)


class CrossTrade(Broker):
    name = NAME
    operations = (*dict.fromkeys(_BY_RPC.values()), "any")
    settings = {
        # Older add-ons know an order only by the id that they generated.
        "order_id_lookup": (True, False),
    }

    def __init__(self, book: Book) -> None:
        super().__init__(book)
        self.desk = Desk(book, self.behaviour)
        self.orders = Orders(self.desk, self.submit)
        self.reads = Reads(self.desk)
        self.calls: dict[str, Any] = {
            **self.orders.calls,
            **self.reads.calls,
            "ListEndpoints": self._endpoints,
        }

    def reset(self, *, tokens: bool) -> None:
        self.desk.clear()

    # -- REST -------------------------------------------------------------------------------------

    def operation(self, request: Request) -> str:
        found = self._route(request)
        return found[1] if found else request.path.rpartition("/")[2].lower()

    def execute(self, request: Request, record: Record) -> Reply:
        token = bearer(request)
        if not token or token == "wrong":
            return Reply(401, {"error": "Unauthorized"})
        found = self._route(request)
        if found is None:
            return self._not_found(request)
        rpc, _, path_arguments = found
        if request.broken or not isinstance(request.body, (dict, type(None))):
            return Reply(400, {"error": "Invalid request"})
        arguments = {**request.query, **(request.body or {}), **path_arguments}
        return self._call(rpc, arguments, record)

    def _route(self, request: Request) -> tuple[str, str, dict[str, str]] | None:
        words = request.path.removeprefix("/v1/api/").strip("/").split("/")
        for method, pattern, rpc, operation in _SPLIT:
            if method != request.method or len(pattern) != len(words):
                continue
            arguments = {}
            for wanted, word in zip(pattern, words, strict=True):
                if wanted.startswith("{"):
                    arguments[wanted[1:-1]] = word
                elif wanted != word:
                    break
            else:
                return rpc, operation, arguments
        return None

    def _not_found(self, request: Request) -> Reply:
        asked = f"{request.method} {request.path}"
        known = [f"{method} /v1/api/{path}" for method, path, _, _ in ROUTES]
        near = difflib.get_close_matches(asked, known, n=1, cutoff=0)
        return Reply(404, {"error": "Not found", "did_you_mean": near[0].partition(" ")[2] if near else None})

    # -- WebSocket --------------------------------------------------------------------------------

    def rpc_operation(self, api: str) -> str:
        return _BY_RPC.get(api, api.lower())

    def execute_rpc(self, api: str, arguments: Any, record: Record) -> Reply:
        if not isinstance(arguments, dict):
            return Reply(400, {"error": "Invalid request"})
        if api not in self.calls:
            return Reply(400, {"error": f"Unknown api '{api}'"})
        return self._call(api, dict(arguments), record)

    @staticmethod
    def rpc_data(reply: Reply) -> Any:
        """What goes into `data` of the answering frame."""
        data = reply.data if isinstance(reply.data, dict) else {}
        return data if reply.status == 200 else {"success": False, **data}

    # -- both -------------------------------------------------------------------------------------

    def _call(self, rpc: str, arguments: dict[str, Any], record: Record) -> Reply:
        try:
            data = self.calls[rpc](arguments, record)
        except Refused as refused:
            return Reply(400, {"error": str(refused)})
        return Reply(200, data)

    def _endpoints(self, arguments: dict[str, Any], record: Record) -> dict[str, Any]:
        rows = [{"method": method, "path": f"/v1/api/{path}", "rpc": rpc} for method, path, rpc, _ in ROUTES]
        return {"endpoints": rows, "count": len(rows), "success": True}

    def misbehave(self, fault: Armed, request: Request, operation: str) -> Reply:
        if fault.fault == "rate_limit":
            return Reply(429, {"error": "Rate limit exceeded"}, headers={"Retry-After": "1"})  # as one client reports
        if fault.fault == "expired_token":
            return Reply(401, {"error": "Unauthorized"})
        if fault.fault == "http_500_after":
            return Reply(500, {"error": "Internal server error"})
        if fault.fault.startswith("http_408"):
            return Reply(408, {"error": "NinjaTrader add-on did not answer in time"})
        return Reply(400, {"error": fault.text or "Order rejected by NinjaTrader"})
