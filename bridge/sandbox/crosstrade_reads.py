"""CrossTrade's reads: orders, status, lifecycle, positions, accounts, executions, quotes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from xml.sax.saxutils import escape

from .book import DEFAULT_PRICE, Book, Fill, Order, Position
from .crosstrade_desk import ATM_TEMPLATES, NAME, Desk, Refused, flag
from .instruments import Contract, any_contract
from .wire import Record, now_iso

Arguments = dict[str, Any]
_STATES = {
    "working": "Working",
    "suspended": "Initialized",
    "partially_filled": "PartFilled",
    "filled": "Filled",
    "canceled": "Cancelled",
    "rejected": "Rejected",
    "expired": "Cancelled",
}
_TYPES = {"market": "Market", "limit": "Limit", "stop": "StopMarket", "stop_limit": "StopLimit"}
_TIMES = {"day": "Day", "gtc": "Gtc"}


class Reads:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.book = desk.book
        self.calls: dict[str, Callable[[Arguments, Record], dict[str, Any]]] = {
            "ListAccounts": self.accounts,
            "GetAccount": self.account,
            "GetAccountSummary": self.snapshot,
            "ListPositions": self.positions,
            "GetPosition": self.position,
            "GetAllPositions": self.all_positions,
            "ListOrders": self.orders,
            "GetAllOrders": self.all_orders,
            "GetOrder": self.order,
            "GetOrderStatus": self.status,
            "GetOrderLifecycle": self.lifecycle,
            "ListExecutions": self.executions,
            "GetExecution": self.execution,
            "GetQuote": self.quote,
            "MarketInfo": self.market_info,
            "ListAtmTemplates": self.atm_templates,
        }

    # -- orders -----------------------------------------------------------------------------------

    def orders(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        return self._order_list(self.desk.account(arguments), arguments)

    def all_orders(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        return self._order_list(None, arguments)

    def _order_list(self, account: str | None, arguments: Arguments) -> dict[str, Any]:
        active = flag(arguments.get("activeOnly"), True)
        rows = [
            order_row(order)
            for order in self.desk.orders.values()
            if account in (None, order.account) and (order.open or not active)
        ]
        return {"orders": rows, "count": len(rows), "success": True}

    def order(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        return {**order_row(self._known(arguments)), "success": True}

    def status(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        return {"status": order_state(self._known(arguments)), "success": True}

    def lifecycle(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        """Submission attempts, state changes and fills of one order; the account in the path filters nothing."""
        order = self._known(arguments)
        events = lifecycle_events(order, self.desk.attempts.get(order.broker_id, []))
        if not flag(arguments.get("includeFills"), True):
            events = [event for event in events if event["event"] != "Execution"]
        limit = _limit(arguments.get("limit"))
        return {
            "success": True,
            "orderId": order.broker_id,
            "originalOrderId": order.client_id,
            "account": order.account,
            "count": len(events[:limit]),
            "events": events[:limit],
        }

    def _known(self, arguments: Arguments) -> Order:
        order = self.desk.order(arguments)
        if order is None:
            raise Refused(f"Order linked to '{arguments.get('orderId', '')}' not found.")
        return order

    # -- positions and accounts -------------------------------------------------------------------

    def positions(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        return self._position_list(self.desk.account(arguments), arguments)

    def all_positions(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        return self._position_list(None, arguments)

    def _position_list(self, account: str | None, arguments: Arguments) -> dict[str, Any]:
        flat = flag(arguments.get("includeFlat"), False)
        rows = [{**position_row(self.book, p), "tag": None} for p in self.desk.positions(account, flat=flat)]
        return {"positions": rows, "count": len(rows), "success": True}

    def position(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        account = self.desk.account(arguments)
        contract = self.desk.contract(arguments)
        found = self.desk.positions(account, contract.ninja)
        if not found:
            raise Refused(f"No positions found for instrument '{arguments['instrument']}'")
        return {**position_row(self.book, found[0]), "success": True}

    def accounts(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        rows = [self._account(name) for name in self.desk.accounts.values()]
        return {"accounts": rows, "count": len(rows), "success": True}

    def account(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        name = self.desk.accounts.get(str(arguments.get("account", "")).lower())
        if name is None:
            raise Refused(f"Account '{arguments.get('account', '')}' not found")
        return {**self._account(name), "success": True}

    def snapshot(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        accounts = [
            {
                "account": self._account(name),
                "positions": [position_row(self.book, p) for p in self.desk.positions(name)],
            }
            for name in self.desk.accounts.values()
        ]
        now = now_iso()
        return {
            "type": "snapshot",
            "timestamp": now,
            "epoch": epoch_ms(now),
            "accounts": accounts,
            "success": True,
        }

    def _account(self, name: str) -> dict[str, Any]:
        return {
            "id": list(self.desk.accounts.values()).index(name) + 1,
            "name": name,
            "type": "NinjaTrader.Cbi.Account",
            "displayName": name,
            "provider": "Simulator",
            "denomination": "UsDollar",
            "status": "Enabled",
            "isAccountFlat": not self.desk.positions(name),
            "connectionStatus": "Connected",
        }

    # -- executions, quotes, templates ------------------------------------------------------------

    def executions(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        account = self.desk.account(arguments)
        rows = [execution_row(fill) for fill in self._fills() if fill.order.account == account]
        return {"executions": rows, "count": len(rows), "success": True}

    def execution(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        wanted = arguments.get("executionId")
        for fill in self._fills():
            if execution_id(fill) == wanted:
                return {**execution_row(fill), "success": True}
        raise Refused(f"Execution '{wanted}' not found")

    def _fills(self) -> list[Fill]:
        return [fill for fill in self.book.fills if fill.order.broker == NAME]

    @staticmethod
    def market(name: Any) -> str | None:
        """The market that an instrument's name means, or None."""
        contract = any_contract(name) if isinstance(name, str) else None
        return contract.ninja if contract else None

    def quote(self, arguments: Arguments, record: Record | None) -> dict[str, Any]:
        """One instrument flat in the reply; several (comma separated) as a list."""
        names = [name for name in str(arguments.get("instrument") or "").split(",") if name.strip()]
        rows = [quote_row(self.book, self.desk.contract({"instrument": name})) for name in names]
        if not rows:
            raise Refused("Missing required field: instrument")
        return {**rows[0], "success": True} if len(rows) == 1 else {"quotes": rows, "success": True}

    def market_info(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        return {"instrument": self.desk.contract(arguments).ninja, "isOpen": True, "success": True}

    def atm_templates(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        return {"templates": list(ATM_TEMPLATES), "count": len(ATM_TEMPLATES), "success": True}


def order_state(order: Order) -> str:
    """NinjaTrader shows a stop that waits for its trigger as Accepted."""
    if order.state == "working" and order.type in ("stop", "stop_limit") and not order.triggered:
        return "Accepted"
    return _STATES[order.state]


def order_row(order: Order) -> dict[str, Any]:
    """A caller's own id is echoed for orders under an ATM only, inside `userData`."""
    strategy = order.extra.get("strategy")
    user_data = None
    if strategy is not None and order.client_id is not None:
        inner = escape(order.client_id)
        user_data = f"<NinjaTrader><AutomatedTradingOrderId>{inner}</AutomatedTradingOrderId></NinjaTrader>"
    return {
        "type": "NinjaTrader.Cbi.Order",
        "id": order.broker_id,
        "account": order.account,
        "orderId": order.broker_id,
        "ocoId": order.oco_id or "",
        "instrument": order.symbol,
        "instrumentType": "Future",
        "name": order.extra.get("name", "Entry"),
        "orderAction": order.side.capitalize(),
        "orderType": _TYPES[order.type],
        "orderState": order_state(order),
        "quantity": order.quantity,
        "filled": order.filled,
        "averageFillPrice": order.average,
        "limitPrice": order.price or Decimal(0),
        "stopPrice": order.stop_price or Decimal(0),
        "timeInForce": _TIMES[order.time_in_force],
        "time": order.at,
        "ownerStrategy": strategy,
        "userData": user_data,
        "fromEntrySignal": "",
        "hasOverfill": False,
        "isBacktestOrder": False,
    }


def lifecycle_events(order: Order, attempts: list[tuple[str, str]]) -> list[dict[str, Any]]:
    received = "PlaceOrder" if order.client_id is not None or order.parent is None else "AtmStrategy"
    events = [_event(order.at, "api_received", received, None)]
    for step in order.events:
        if step.kind == "trade":
            event = _event(step.at, "execution", "Execution", _STATES[step.state])
            events.append({**event, "quantity": step.quantity, "price": step.price})
            continue
        if step.kind == "accepted":
            events.append(_event(step.at, "nt8", "OrderUpdate", "Submitted"))
        state = "Accepted" if step.state == "working" and order.stop_price is not None else _STATES[step.state]
        events.append(_event(step.at, "nt8", "OrderUpdate", state))
    events += [_event(at, "api_received", call, None) for at, call in attempts]
    return events


def _event(at: str, source: str, name: str, state: str | None) -> dict[str, Any]:
    return {"timestamp": at, "epoch": epoch_ms(at), "source": source, "event": name, "orderState": state}


def position_row(book: Book, position: Position) -> dict[str, Any]:
    contract: Contract = position.extra["contract"]
    market = book.last(position.market)
    market = position.price if market is None else market
    gain = (market - position.price) * position.net * contract.product.point_value
    return {
        "type": "NinjaTrader.Cbi.Position",
        "account": position.account,
        "instrument": position.symbol,
        "instrumentType": "Future",
        "marketPosition": "Long" if position.net > 0 else "Short" if position.net < 0 else "Flat",
        "quantity": abs(position.net),
        "averagePrice": position.price,
        "marketPrice": market,
        "unrealizedProfitLoss": gain,
    }


def execution_id(fill: Fill) -> str:
    return f"{fill.number:032x}"


def execution_row(fill: Fill) -> dict[str, Any]:
    order = fill.order
    return {
        "id": execution_id(fill),
        "type": "NinjaTrader.Cbi.Execution",
        "time": fill.at,
        "epoch": epoch_ms(fill.at),
        "name": order.extra.get("name", "Entry"),
        "orderId": order.broker_id,
        "account": order.account,
        "serverName": "SANDBOX",
        "instrument": order.symbol,
        "instrumentType": "Future",
        "marketPosition": "Long" if order.side == "buy" else "Short",
        "price": fill.price,
        "quantity": fill.quantity,
    }


def quote_row(book: Book, contract: Contract) -> dict[str, Any]:
    last = book.last(contract.ninja)
    last = DEFAULT_PRICE if last is None else last
    tick = contract.product.tick
    return {
        "instrument": contract.ninja,
        "description": contract.product.description,
        "type": "Future",
        "bid": last - tick,
        "ask": last + tick,
        "last": last,
        "tickSize": tick,
        "pointValue": contract.product.point_value,
        "exchange": "Globex",
        "quoteTime": now_iso(),
    }


def epoch_ms(at: str) -> int:
    return int(datetime.fromisoformat(at).astimezone(UTC).timestamp() * 1000)


def _limit(value: Any) -> int:
    """At most 2000 events, 200 unless asked."""
    try:
        return max(1, min(2000, int(str(value)))) if value is not None else 200
    except ValueError:
        return 200
