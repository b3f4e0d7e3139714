"""`/_control/…`: the switches of the sandbox and its witness."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from .book import Order
from .broker import BadBehaviour
from .faults import BadFault
from .instruments import market_key
from .wire import Record, Reply, Request, plain_number

if TYPE_CHECKING:
    from .app import App


class Control:
    def __init__(self, app: App) -> None:
        self._app = app
        self._calls: dict[tuple[str, str], Callable[[Any], Reply]] = {
            ("GET", "health"): lambda body: Reply(200, {"ok": True}),
            ("GET", "orders"): self._orders,
            ("GET", "requests"): self._requests,
            ("GET", "positions"): self._positions,
            ("GET", "prices"): self._prices,
            ("POST", "price"): self._price,
            ("GET", "faults"): self._list_faults,
            ("POST", "faults"): self._arm,
            ("GET", "behaviour"): self._list_behaviour,
            ("POST", "behaviour"): self._behave,
            ("POST", "session_end"): self._end_session,
            ("POST", "reset"): self._reset,
        }

    def names(self) -> list[tuple[str, str]]:
        """Method and name of every control."""
        return list(self._calls)

    def handle(self, request: Request) -> Reply:
        name = request.path.removeprefix("/_control/").strip("/")
        call = self._calls.get((request.method, name))
        if call is None:
            known = [f"{method} /_control/{path}" for method, path in self._calls]
            status = 405 if any(path == name for _, path in self._calls) else 404
            return Reply(status, {"error": f"no {request.method} /_control/{name}", "valid": known})
        if request.broken:
            return Reply(400, {"error": "the body is not JSON"})
        return call(request.body)

    # -- the witness ------------------------------------------------------------------------------

    def _orders(self, body: Any) -> Reply:
        return Reply(200, [order_witness(order) for order in self._app.book.orders])

    def _requests(self, body: Any) -> Reply:
        return Reply(200, [request_witness(record) for record in self._app.records])

    def _positions(self, body: Any) -> Reply:
        """Open positions only."""
        rows = []
        for position in self._app.book.positions.values():
            if position.net:
                row: dict[str, Any] = {
                    "broker": position.broker,
                    "account": position.account,
                    "symbol": position.symbol,
                    "quantity": position.net,
                    "price": position.price,
                }
                if position.bucket:
                    row["product"] = position.bucket
                rows.append(row)
        return Reply(200, rows)

    def _prices(self, body: Any) -> Reply:
        return Reply(200, dict(self._app.book.prices))

    # -- the switches -----------------------------------------------------------------------------

    def _price(self, body: Any) -> Reply:
        """Print a trade; the answer lists what it filled."""
        if (
            not isinstance(body, dict)
            or not isinstance(body.get("symbol"), (str, int))
            or not str(body["symbol"]).strip()
        ):
            return Reply(400, {"error": 'expected {"symbol": text, "price": number}'})
        price = _price_of(body.get("price"))
        if price is None:
            return Reply(400, {"error": "price must be a number"})
        quantity = body.get("quantity")
        if quantity is not None and (isinstance(quantity, bool) or not isinstance(quantity, int) or quantity <= 0):
            return Reply(400, {"error": "quantity must be a whole number above zero"})
        market = market_key(str(body["symbol"]))
        filled = self._app.book.tape(market, price, quantity)
        self._app.price_moved(market)
        return Reply(200, {"symbol": market, "price": price, "filled": [order_witness(order) for order in filled]})

    def _list_faults(self, body: Any) -> Reply:
        return Reply(200, self._app.faults.shown())

    def _arm(self, body: Any) -> Reply:
        try:
            self._app.faults.arm(body)
        except BadFault as error:
            return Reply(400, {"error": str(error), "valid": error.valid})
        return Reply(200, self._app.faults.shown())

    def _list_behaviour(self, body: Any) -> Reply:
        return Reply(200, {name: broker.behaviour for name, broker in self._app.brokers.items()})

    def _behave(self, body: Any) -> Reply:
        broker = self._app.brokers.get(str(body.get("broker"))) if isinstance(body, dict) else None
        if broker is None:
            return Reply(400, {"error": "unknown broker", "valid": {"broker": list(self._app.brokers)}})
        try:
            broker.behave({name: value for name, value in body.items() if name != "broker"})
        except BadBehaviour as error:
            valid = {name: "int" if isinstance(v, type) else list(v) for name, v in broker.settings.items()}
            return Reply(400, {"error": str(error), "valid": valid})
        return Reply(200, broker.behaviour)

    def _end_session(self, body: Any) -> Reply:
        return Reply(200, {"expired": self._app.book.end_session()})

    def _reset(self, body: Any) -> Reply:
        self._app.reset(tokens=isinstance(body, dict) and body.get("tokens") is True)
        return Reply(200, {"ok": True})


def order_witness(order: Order) -> dict[str, Any]:
    """What really reached the sandbox: one object per order and leg, in one vocabulary for all brokers."""
    return {
        "broker": order.broker,
        "account": order.account,
        "client_order_id": order.client_id,
        "broker_id": order.broker_id,
        "parent_id": order.parent.broker_id if order.parent is not None else None,
        "oco_id": order.oco_id,
        "symbol": order.symbol,
        "side": order.side,
        "quantity": order.quantity,
        "type": order.type,
        "price": order.price,
        "stop_price": order.stop_price,
        "trail": order.trail,
        "time_in_force": order.time_in_force,
        "state": order.state,
        "filled": order.filled,
        "average_price": order.average if order.filled else None,
        "request": order.record.request(),
        "at": order.at,
    }


def request_witness(record: Record) -> dict[str, Any]:
    return {
        **record.request(),
        "broker": record.broker,
        "operation": record.operation,
        "status": record.status,
        "at": record.at,
    }


def _price_of(value: Any) -> Decimal | None:
    """A number, or a number as text."""
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except ArithmeticError:
            return None
        if not value.is_finite():
            return None
    return plain_number(value)
