"""Pocketful's rows: order books, history, trades, positions, in the shapes that real replies have."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from .book import Book, Fill, Order, Position
from .pocketful_scrips import Scrip

# `last_activity_reference` counts nanoseconds from 1980-01-01 00:00 in India (worked out from a real row).
_REFERENCE_EPOCH_NS = (315532800 - 19800) * 1_000_000_000
PENDING = ("CONFIRMED", "MODIFY_CONFIRMED", "TRIGGER PENDING", "AMO_REQ_RECEIVED")
_STATES = {
    "filled": "COMPLETE",
    "rejected": "REJECTED",
    "canceled": "CANCEL_CONFIRMED",
    "expired": "CANCEL_CONFIRMED",
}


def order_status(order: Order) -> str:
    amo = order.extra["execution_type"] == "AMO"
    if order.state in _STATES:
        return "AMO_CANCEL_CONFIRMED" if amo and order.state == "canceled" else _STATES[order.state]
    if amo:
        return "AMO_REQ_RECEIVED"
    if order.type in ("stop", "stop_limit", "trailing_stop") and not order.triggered:
        return "TRIGGER PENDING"
    return "MODIFY_CONFIRMED" if order.extra.get("modified") else "CONFIRMED"


def order_row(order: Order) -> dict[str, Any]:
    """A row of the order book. `mode` is NEW whatever happened; ids are text, the instrument token is not."""
    extra = order.extra
    scrip: Scrip = extra["scrip"]
    seen = not extra.get("hidden_reads")
    entered = epoch(order.at)
    rejected = order.state == "rejected"
    return {
        "mode": "NEW",
        "exchange": scrip.exchange,
        "segment": "",
        "login_id": order.account,
        "deposit": 0,
        "order_status": order_status(order),
        "product": order.bucket,
        "order_type": extra["order_type"],
        "rejection_reason": order.events[-1].text if rejected else "NONE",
        "order_side": order.side.upper(),
        "instrument_token": scrip.token,
        "exchange_time": entered if seen else 0,
        "nnf_id": 111111111111100,
        "quantity": order.quantity,
        "trading_symbol": scrip.trading_symbol,
        "client_id": order.account,
        "average_trade_price": 0,
        "underlying_token": None,
        "oms_order_id": order.broker_id,
        "lot_size": scrip.lot,
        "isin": "",
        "disclosed_quantity": extra.get("disclosed", 0),
        "execution_type": extra["execution_type"],
        "source": "",
        "device": extra.get("device", ""),
        "exchange_order_id": exchange_order_id(order),
        "validity": order.time_in_force.upper(),
        "leg_order_indicator": extra.get("leg"),
        "trade_price": 0,
        "spread_token": None,
        "market_protection_percentage": 0,
        "filled_quantity": order.filled,
        "order_tag": "",
        "sl_trigger_price": 0,
        "square_off": False,
        "order_status_info": "",
        "square_off_value": extra.get("square_off_value", 0),
        "tags": None,
        "order_entry_time": entered,
        "last_activity_reference": activity_reference(order),
        "trigger_price": order.stop_price or 0,
        "sl_order_price": 0,
        "stop_loss_value": extra.get("stop_loss_value", 0),
        "rejection_code": 16418 if rejected else 0,
        "average_price": order.average,
        "trailing_stop_loss": extra.get("trailing_stop_loss", 0),
        "price": order.price or 0,
        "user_order_id": order.client_id or "",
        "symbol": scrip.symbol,
        "is_trailing": bool(extra.get("is_trailing")),
        "pro_cli": "CLIENT",
        "remaining_quantity": order.remaining if order.open else 0,
        "contract_description": {},
        "series": scrip.series,
        "target_price_type": "absolute",
        "sl_order_quantity": 0,
    }


def exchange_order_id(order: Order) -> str:
    """Empty until the exchange has answered."""
    return "" if order.extra.get("hidden_reads") or order.state == "rejected" else str(order.extra["exchange_order_id"])


def activity_reference(order: Order) -> str | int:
    """A 19-digit number as text: a binary float could not hold it."""
    if not exchange_order_id(order):
        return 0
    nanoseconds = int(datetime.fromisoformat(order.events[-1].at).timestamp() * 1000) * 1_000_000
    return str(nanoseconds - _REFERENCE_EPOCH_NS + order.events[-1].number % 1_000_000)


def history_rows(order: Order) -> list[dict[str, Any]]:
    """Newest first; its field names differ from those of the order book."""
    rows = []
    done = 0
    for event in order.events:
        done += event.quantity
        rows.append(
            {
                "order_id": f"{event.number:032x}",
                "oms_order_id": order.broker_id,
                "client_order_id": order.client_id or "",
                "exchange_order_id": exchange_order_id(order),
                "status": _history_status(order, event.kind, event.state),
                "fill_quantity": done,
                "quantity": order.quantity,
                "average_price": event.price or 0,
                "price": order.price or 0,
                "trigger_price": order.stop_price or 0,
                "reject_reason": event.text if event.kind == "rejected" else "",
                "order_side": order.side.upper(),
                "order_type": order.extra["order_type"],
                "product": order.bucket,
                "created_at": event.at,
            }
        )
    return rows[::-1]


def _history_status(order: Order, kind: str, state: str) -> str:
    if kind == "trade":
        return "COMPLETE" if state == "filled" else "PARTIAL"
    if state in _STATES:
        return _STATES[state]
    return "MODIFY_CONFIRMED" if kind == "modified" else "CONFIRMED"


def trade_row(fill: Fill) -> dict[str, Any]:
    order = fill.order
    scrip: Scrip = order.extra["scrip"]
    return {
        "book_type": "0",
        "client_id": order.account,
        "exchange": scrip.exchange,
        "exchange_order_id": exchange_order_id(order),
        "exchange_time": epoch(fill.at),
        "filled_quantity": fill.quantity,
        "instrument_token": scrip.token,
        "login_id": order.account,
        "oms_order_id": order.broker_id,
        "order_entry_time": epoch(order.at),
        "order_price": order.price or 0,
        "order_side": order.side.upper(),
        "order_type": order.extra["order_type"],
        "original_vol": order.quantity,
        "pro_cli": 0,
        "product": order.bucket,
        "remaining_quantity": order.remaining,
        "trade_number": str(70_000_000 + fill.number),
        "trade_price": fill.price,
        "trade_quantity": fill.quantity,
        "trade_time": epoch(fill.at),
        "trading_symbol": scrip.trading_symbol,
    }


def position_row(book: Book, position: Position) -> dict[str, Any]:
    scrip: Scrip = position.extra["scrip"]
    last = book.last(position.market)
    zero = Decimal(0)
    return {
        "average_buy_price": position.bought_value / position.bought if position.bought else zero,
        "average_price": 0,
        "average_sell_price": position.sold_value / position.sold if position.sold else zero,
        "buy_amount": position.bought_value,
        "buy_quantity": position.bought,
        "cf_buy_amount": 0,
        "cf_buy_quantity": 0,
        "cf_sell_amount": 0,
        "cf_sell_quantity": 0,
        "client_id": position.account,
        "close_price": 0,
        "exchange": scrip.exchange,
        "instrument_token": scrip.token,
        "ltp": position.price if last is None else last,
        "multiplier": 1,
        "net_amount": position.sold_value - position.bought_value,
        "net_quantity": position.net,
        "previous_close": 0,
        "pro_cli": "CLIENT",
        "prod_type": {"CNC": 1, "MIS": 2, "NRML": 0}[position.bucket],
        "product": position.bucket,
        "realized_mtm": position.realized,
        "segment": scrip.segment,
        "sell_amount": position.sold_value,
        "sell_quantity": position.sold,
        "symbol": scrip.symbol,
        "token": scrip.token,
        "trading_symbol": scrip.trading_symbol,
        "v_login_id": position.account,
    }


def epoch(at: str) -> int:
    return int(datetime.fromisoformat(at).astimezone(UTC).timestamp())
