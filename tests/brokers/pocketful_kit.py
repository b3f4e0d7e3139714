"""Pocketful's side of the order books, for tests that run a plan against it: rows, positions, and a desk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bridge.brokers.pocketful import AccountOptions, Pocketful
from bridge.call import Call, Pause, Reply
from bridge.order import Leg, Order
from bridge.work import Account, Ids, Work

BROKER = Pocketful()
NOW = datetime(2026, 11, 20, 4, 50, tzinfo=UTC)
ENTERED = int(NOW.timestamp()) + 1
REFUSED = {"data": {}, "error_code": 45000, "message": "no such order", "status": "error"}
FORBIDDEN = {"status": "error", "message": "Request forbidden", "error_code": 40000, "data": {}}
INSTRUMENT = {"exchange": "NSE", "instrument_token": "14366"}


def account(**options: Any) -> Account:
    return Account(name="pf", broker="pocketful", client_id="YG1234", rest_url="https://trade.pocketful.in",
                   options=AccountOptions().load({"stop_loss_value": "price", **options}))


def plain(counter: int = 101, order_id: str = "o-plain", **values: Any) -> Work:
    """A limit buy of one share that was sent and accepted."""
    one = Order(kind="plain", symbol="IDEA", side="buy", quantity=Decimal(1), type="limit", price=Decimal(13),
                options={**INSTRUMENT, "product": "MIS"})
    one = replace(one, quantity=Decimal(values.pop("quantity", 1)))
    values = {"broker_ids": {"order": f"2026{counter}"}, "submitted_at": NOW} | values
    return Work(order=one, account=account(), ids=Ids(order_id=order_id, counter=counter), **values)


def cover(counter: int = 102, order_id: str = "o-cover", bracket: bool = False, **values: Any) -> Work:
    """A cover (or bracket) buy of one share that was sent and answered with a basket id."""
    target = Leg(role="take_profit", side="sell", type="limit", price=Decimal(15)) if bracket else None
    one = Order(kind="oso" if bracket else "cover", symbol="IDEA", side="buy", quantity=Decimal(1), type="limit",
                price=Decimal(13), take_profit=target, options=INSTRUMENT,
                stop_loss=Leg(role="stop_loss", side="sell", type="stop", stop_price=Decimal(12)))
    values = {"broker_ids": {"basket": "20210531-23"}, "submitted_at": NOW} | values
    return Work(order=one, account=account(), ids=Ids(order_id=order_id, counter=counter), **values)


def row(counter: int = 101, **values: Any) -> dict[str, Any]:
    """An order book row as the pages show it, with only what matters changed."""
    return {"mode": "NEW", "exchange": "NSE", "order_status": "CONFIRMED", "product": "MIS", "order_type": "LIMIT",
            "rejection_reason": "NONE", "rejection_code": 0, "order_side": "BUY", "instrument_token": 14366,
            "quantity": 1, "filled_quantity": 0, "oms_order_id": f"2026{counter}", "execution_type": "REGULAR",
            "exchange_order_id": "1100000029886168", "leg_order_indicator": None, "order_entry_time": ENTERED,
            "last_activity_reference": 1394972885476889611, "user_order_id": str(counter)} | values


def cart_row(counter: int = 102, **values: Any) -> dict[str, Any]:
    return row(counter, **({"execution_type": "CO", "leg_order_indicator": "ENTRY"} | values))


def leg_row(counter: int = 102, **values: Any) -> dict[str, Any]:
    return cart_row(counter, **({"oms_order_id": "2026900", "leg_order_indicator": "THIRD", "order_side": "SELL",
                                 "order_type": "SLM", "exchange_order_id": "1100000029886169"} | values))


class Desk:
    """A broker's side of the books for one plan: what it answers, and what it was asked."""

    def __init__(self, pending: list[Any] | None = None, completed: list[Any] | None = None,
                 positions: list[Any] | None = None) -> None:
        self.pending, self.completed, self.positions = pending or [], completed or [], positions or []
        self.calls: list[Call] = []
        self.paused = 0.0
        self.date = ""
        """The moment that the replies name as theirs."""
        self.on_delete: Callable[[str], Reply] = self.cancel
        self.on_pause: Callable[[], None] = lambda: None
        self.on_read: Callable[[str], Reply | None] = lambda what: None
        self.on_place = Reply.of({"data": {"oms_order_id": "2026999"}, "status": "success"})
        self.closing: dict[str, Any] | None = row(901, oms_order_id="2026999", order_type="MARKET",
                                                  order_side="SELL", order_status="COMPLETE")
        """The row of an opposite order that was placed; None: the books don't show it."""

    def cancel(self, oms_id: str) -> Reply:
        """Take the row out of the pending book and answer as the pages do."""
        for one in [one for one in self.pending if one["oms_order_id"] == oms_id]:
            self.pending.remove(one)
            self.completed.append({**one, "order_status": "CANCEL_CONFIRMED"})
        return Reply.of({"data": {"basket_id": "", "message": "Order Cancelled Successfully"}, "status": "success"})

    def answer(self, call: Call) -> Reply:
        parts = urlsplit(call.url)
        if call.method == "DELETE":
            return self.on_delete(parts.path.rsplit("/", 1)[1])
        if call.method == "POST":
            if self.closing and self.on_place.status == 200 and "success" in self.on_place.text:
                self.completed.append(self.closing)
            return self.on_place
        what = parse_qs(parts.query)["type"][0]
        assert parse_qs(parts.query)["client_id"] == ["YG1234"]
        if (other := self.on_read(what)) is not None:
            return other
        if parts.path == "/api/v1/positions":
            assert what == "live"
            return Reply.of({"data": self.positions, "message": "", "status": "success"})
        assert parts.path == "/api/v1/orders"
        return Reply.of({"data": {"orders": getattr(self, what)}, "message": "", "status": "success"})

    def run(self, plan: Any) -> Any:
        answer: Reply | None = None
        try:
            for _ in range(500):
                asked = plan.send(answer)
                answer = None
                if isinstance(asked, Pause):
                    self.paused += asked.seconds
                    self.on_pause()
                else:
                    self.calls.append(asked)
                    answer = self.answer(asked)
                    answer = replace(answer, headers={"date": self.date}) if self.date else answer
        except StopIteration as done:
            return done.value
        raise AssertionError("the plan does not end")

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.write]


def cancel(*targets: Work, of: Account | None = None, **values: Any) -> Any:
    one = Order(kind="cancel", **{"ref": "x", **values})
    return BROKER.submit(Work(order=one, account=of or account(), ids=Ids(order_id="o-cancel", counter=900),
                              targets=targets))


def close(*targets: Work, **options: Any) -> Any:
    one = Order(kind="close", symbol="IDEA", options={**INSTRUMENT, **options})
    return BROKER.submit(Work(order=one, account=account(), ids=Ids(order_id="o-close", counter=901), targets=targets))


def position(net: Any, product: str = "MIS", **values: Any) -> dict[str, Any]:
    return {"exchange": "NSE", "instrument_token": 14366, "token": 14366, "net_quantity": net,
            "product": product} | values
