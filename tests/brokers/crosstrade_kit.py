"""What the tests of the CrossTrade file share: an account, orders, and a driver that feeds a plan its replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from bridge.brokers.crosstrade import CrossTrade
from bridge.call import Absent, Call, LookUp, Outcome, Pause, Plan, Reply, Seen
from bridge.order import Leg, Order
from bridge.work import Account, Credentials, Ids, Work

BROKER = CrossTrade()
HOME = "https://app.crosstrade.io/v1/api/accounts/Sim101"
STREAM = "wss://app.crosstrade.io/ws/stream"
TOKEN = "hunter2-leak-me"
D = Decimal

REST = Account(name="nt8", broker="crosstrade", account="Sim101", rest_url="https://app.crosstrade.io",
               ws_url="wss://app.crosstrade.io", credentials=Credentials({"token": TOKEN}))
WS = replace(REST, transport="websocket")

PLAIN = Order(kind="plain", symbol="ES 12-26", side="buy", quantity=D("2"), type="limit", price=D("5300.250"),
              time_in_force="day")
STOP = Order(kind="plain", symbol="ES 12-26", side="sell", quantity=D("1"), type="stop_limit", price=D("5290.5"),
             stop_price=D("5291"), time_in_force="gtc")
OSO = Order(kind="oso", symbol="MNQ 12-26", side="buy", quantity=D("1"), type="market", time_in_force="day",
            options={"strategy": "My ATM", "maxPositions": 1, "requireMarketPosition": "flat, long"})
OCO = Order(kind="oco", symbol="ES 12-26", side="sell", quantity=D("1"), type="limit", price=D("5310"),
            time_in_force="gtc",
            other=Leg(role="other", side="sell", type="stop", stop_price=D("5290"), time_in_force="gtc"))
CANCEL = Order(kind="cancel", ref="breakout")
CLOSE = Order(kind="close", symbol="ES 12-26")
ORDERS = {"plain": PLAIN, "stop": STOP, "oso": OSO, "oco": OCO, "cancel": CANCEL, "close": CLOSE}


def work(order: Order = PLAIN, account: Account = REST, order_id: str = "o1", arming: int = 1, **more: Any) -> Work:
    return Work(order=order, account=account, ids=Ids(order_id=order_id, arming=arming), **more)


def drive(plan: Plan | LookUp, replies: Sequence[Reply] = ()) -> tuple[list[Call], Any]:
    """The calls made and the outcome. Every reply has to be asked for, and none more."""
    calls: list[Call] = []
    left = list(replies)
    answer: Reply | None = None
    try:
        while True:
            asked = plan.send(answer)
            if isinstance(asked, Pause):
                answer = None
                continue
            calls.append(asked)
            assert left, f"the plan asks for more than was foreseen: {asked.step} {asked.url}"
            answer = left.pop(0)
    except StopIteration as done:
        assert not left, f"never asked for: {left}"
        outcome: Outcome | Seen | Absent | None = done.value
        return calls, outcome


def yes(order_id: str = "nt1") -> Reply:
    return Reply.of({"orderId": order_id, "success": True})


def no(words: str = "Invalid request", status: int = 400) -> Reply:
    return Reply.of({"error": words}, status)


def gone(order_id: str = "nt1") -> Reply:
    return no(f"Order linked to '{order_id}' not found or already terminal.")


TIMED_OUT = Reply.of({"success": False, "error": "timeout"}, 408)
SILENT = Reply(status=None, fault="no complete reply within 10 s")


def life(client_id: str, *states: str | None, order_id: str = "nt1", **more: Any) -> Reply:
    """A lifecycle reply: what was received, then one event for each state."""
    events: list[dict[str, Any]] = [
        {"source": "api_received", "event": "PlaceOrder", "orderState": None, "orderId": client_id}]
    events += [{"source": "order_update", "event": state, "orderState": state, **more} for state in states]
    return Reply.of({"success": True, "orderId": order_id, "originalOrderId": client_id, "account": "Sim101",
                     "count": len(events), "events": events})


def book(*rows: dict[str, Any]) -> Reply:
    return Reply.of({"orders": list(rows), "count": len(rows), "success": True})


UNKNOWN_COMMAND = no("Unknown API command")
"""What an add-on before 1.13.2 says to a lifecycle."""
SENT_AT = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)
KNOWN = {"shows_our_ids": True, "submitted_at": SENT_AT, "looked_at": SENT_AT + timedelta(seconds=8)}
"""What a look-up is given on an account that has shown us one of our ids."""


def nowhere(order_id: str = "o1") -> Reply:
    """A lifecycle's word that no such order is known."""
    return no(f"Order linked to '{order_id}' not found.")


def heard(seen: Seen) -> Reply:
    """What stands in for an answer that was not heard."""
    return Reply(status=None, fault="no complete reply within 10 s", seen=seen)
