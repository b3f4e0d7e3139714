"""Pocketful's order operations: regular, cover (CO) and bracket (BO), their changes and cancels.

A CO or BO is one basket. Its entry row has `leg_order_indicator` ENTRY; when the entry has filled, a BO's target row
(SECOND) and the stop row of either (THIRD) appear under the same `user_order_id`, with ids of their own.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from .book import Book, Order
from .pocketful_checks import (
    SIDES,
    TYPES,
    VALIDITIES,
    Place,
    Refused,
    blank,
    check_place,
    invalid,
    number,
    success,
    whole,
)
from .pocketful_rows import activity_reference, exchange_order_id
from .pocketful_scrips import scrip
from .wire import Record, Reply

NAME = "pocketful"
Submit = Callable[..., None]
Body = dict[str, Any]
_INDIA = timezone(timedelta(hours=5, minutes=30))
_LEGS = {"ENTRY": "ENTRY", "SECOND": "SECOND", "TARGET": "SECOND", "THIRD": "THIRD", "STOPLOSS": "THIRD"}
_NO_DATA = Refused(45000, "Error from backend: (1600)-cannot modify, no data found with this id")


class Orders:
    def __init__(self, book: Book, behaviour: dict[str, Any], submit: Submit) -> None:
        self.book = book
        self.behaviour = behaviour
        self._submit = submit
        # The sequence starts at the second of the day, so that a restart does not give an id of today again.
        self._sequence = itertools.count(int(time.time()) % 86400 * 10)
        self.clear()

    def clear(self) -> None:
        self.orders: dict[str, Order] = {}
        self.baskets: dict[str, list[Order]] = {}

    # -- regular ----------------------------------------------------------------------------------

    def place(self, body: Body, record: Record) -> Reply:
        fields = check_place(body, ("REGULAR", "AMO"))
        order = self._order(fields, record, fields.side, fields.order_type, fields.limit, fields.stop)
        order.reference = fields.price or None
        order.time_in_force = VALIDITIES[fields.validity]
        self._enter(order)
        return success({"oms_order_id": order.broker_id}, "Order place successfully")

    def modify(self, body: Body, record: Record) -> Reply:
        order = self._known(body)
        if not order.open or order.extra["execution_type"] not in ("REGULAR", "AMO"):
            raise _NO_DATA
        kind = str(body.get("order_type", order.extra["order_type"]))
        if kind not in TYPES:
            raise invalid("order_type")
        order.extra["order_type"], order.type = kind, TYPES[kind]
        self._change(order, body)
        return success({"oms_order_id": order.broker_id}, "Order modification request submitted")

    def cancel(self, body: Body, record: Record) -> Reply:
        if not body.get("client_id"):
            raise blank("client_id")
        order = self._known(body)
        if order.account != str(body["client_id"]) or order.extra["execution_type"] not in ("REGULAR", "AMO"):
            raise _NO_DATA
        if not self.book.cancel(order):
            raise _NO_DATA
        message = f"Order cancellation request submitted for OMS Order: {order.broker_id}"
        return success({"oms_order_id": order.broker_id}, message)

    # -- cover and bracket ------------------------------------------------------------------------

    def place_basket(self, body: Body, record: Record) -> Reply:
        """The answer has a `basket_id`, never an order id, and nests it in `data.data`."""
        fields = check_place(body, ("CO", "BO"))
        stop = self._positive(body, "stop_loss_value")
        target = self._positive(body, "square_off_value") if fields.execution_type == "BO" else None
        distance = fields.execution_type == "BO" or self.behaviour["stop_loss_value"] == "distance"
        if not distance:
            self._check_cover(fields, stop)
        entry = self._order(fields, record, fields.side, fields.order_type, fields.limit, fields.stop)
        entry.reference = fields.price or (None if distance else stop)
        entry.time_in_force = VALIDITIES[fields.validity]
        trailing = body.get("is_trailing") is True
        entry.extra |= {
            "leg": "ENTRY",
            "stop_loss_value": stop,
            "square_off_value": target or 0,
            "trailing_stop_loss": number(body, "trailing_stop_loss") or 0,
            "is_trailing": trailing,
            "distance": distance,
        }
        basket = f"{_today()}-{next(self._sequence)}"
        self.baskets[basket] = [entry]
        entry.extra["basket"] = basket
        entry.on_filled = lambda filled: self._exits(filled, fields, record)
        self._enter(entry)
        inner = {"basket_id": basket, "message": "basket Order Placed Successfully"}
        return success({"data": inner}, "Order place successfully")

    def _check_cover(self, fields: Place, stop: Decimal) -> None:
        """The page's rule: a BUY's limit is above its stop, a SELL's below."""
        price = fields.limit if fields.limit is not None else self.book.last(f"{fields.exchange}:{fields.token}")
        if price is None:
            return
        if fields.side == "BUY" and price <= stop:
            raise Refused(44000, "`stop_loss_value` is invalid: a BUY cover order needs a price above its stop loss")
        if fields.side == "SELL" and price >= stop:
            raise Refused(44000, "`stop_loss_value` is invalid: a SELL cover order needs a price below its stop loss")

    def _exits(self, entry: Order, fields: Place, record: Record) -> None:
        """The entry has filled: its stop, and a BO's target, begin to work."""
        out = "SELL" if entry.side == "buy" else "BUY"
        value, target = Decimal(entry.extra["stop_loss_value"]), Decimal(entry.extra["square_off_value"])
        base = entry.price if entry.price is not None else entry.average
        stop = base - value * entry.sign if entry.extra["distance"] else value
        made = []
        if target:
            second = self._order(fields, record, out, "LIMIT", base + target * entry.sign, None)
            second.extra["leg"] = "SECOND"
            made.append(second)
        third = self._order(fields, record, out, "SLM", None, stop)
        third.extra["leg"] = "THIRD"
        if entry.extra["is_trailing"]:
            third.type, third.trail = "trailing_stop", abs(entry.average - stop)
        made.append(third)
        if len(made) == 2:
            self.book.link(made, entry.extra["basket"])
        for leg in made:
            leg.parent = entry
            leg.quantity = entry.quantity
            leg.extra["basket"] = entry.extra["basket"]
            self.baskets[entry.extra["basket"]].append(leg)
            self._enter(leg)

    def modify_basket(self, body: Body, record: Record) -> Reply:
        """Price, trigger and quantity can change; the row's ids and last activity must be given as they stand."""
        order = self._leg(body)
        if not body.get("last_activity_reference"):
            raise blank("last_activity_reference")
        if str(body["last_activity_reference"]) != str(activity_reference(order)):
            raise _NO_DATA
        if order.extra.get("leg") == "ENTRY":
            for field in ("stop_loss_value", "square_off_value", "trailing_stop_loss"):
                value = number(body, field)
                if value is not None:
                    order.extra[field] = value
        self._change(order, body)
        inner = {"basket_id": order.extra["basket"], "message": "basket Order modified Successfully"}
        return success(inner, "Order modified successfully")

    def cancel_basket(self, body: Body, record: Record) -> Reply:
        """An unfilled entry takes its basket with it; a leg of a filled one is an exit at market."""
        order = self._leg(body)
        indicator = str(body.get("leg_order_indicator") or "").upper()
        if not indicator:
            raise blank("leg_order_indicator")
        if _LEGS.get(indicator) != order.extra.get("leg"):
            raise invalid("leg_order_indicator")
        self.book.cancel(order)
        if order.extra["leg"] != "ENTRY":
            self._exit_at_market(order, record)
        inner = {"basket_id": order.extra["basket"], "message": "Order Cancelled Successfully"}
        return success(inner)

    def _exit_at_market(self, leg: Order, record: Record) -> None:
        for other in self.baskets[leg.extra["basket"]]:
            self.book.cancel(other)
        out = self._copy(leg, record)
        out.reference = leg.parent.average if leg.parent is not None else None
        self._enter(out)

    def _leg(self, body: Body) -> Order:
        """The CO or BO row that a kart call means; both its ids are needed."""
        for field in ("client_id", "execution_type"):
            if not body.get(field):
                raise blank(field)
        if str(body["execution_type"]).upper() not in ("CO", "BO"):
            raise invalid("execution_type")
        if not body.get("exchange_order_id"):
            raise blank("exchange_order_id")
        order = self._known(body)
        if (
            not order.open
            or order.account != str(body["client_id"])
            or order.extra["execution_type"] != str(body["execution_type"]).upper()
            or exchange_order_id(order) != str(body["exchange_order_id"])
        ):
            raise _NO_DATA
        return order

    # -- parts ------------------------------------------------------------------------------------

    def _order(
        self,
        fields: Place,
        record: Record,
        side: str,
        order_type: str,
        price: Decimal | None,
        stop: Decimal | None,
    ) -> Order:
        order = Order(
            broker=NAME,
            account=fields.client_id,
            symbol=str(fields.token),
            market=f"{fields.exchange}:{fields.token}",
            side=SIDES[side],
            quantity=fields.quantity,
            type=TYPES[order_type],
            broker_id=f"{_today()}{next(self._sequence)}",
            record=record,
            price=price,
            stop_price=stop,
            client_id=fields.user_order_id or None,
            bucket=fields.product,
        )
        order.extra |= {
            "scrip": scrip(fields.exchange, fields.token),
            "execution_type": fields.execution_type,
            "order_type": order_type,
            "disclosed": fields.disclosed,
            "device": fields.device,
            "hidden_reads": self.behaviour["exchange_id_delay"],
            "exchange_order_id": 1_100_000_000_000_000 + int(order.broker_id[8:]),
        }
        order.extra["position"] = {"scrip": order.extra["scrip"]}
        return order

    def _copy(self, leg: Order, record: Record) -> Order:
        """A market order in the leg's place."""
        order = Order(
            NAME, leg.account, leg.symbol, leg.market, leg.side, leg.remaining, "market",
            f"{_today()}{next(self._sequence)}", record, client_id=leg.client_id, parent=leg.parent, bucket=leg.bucket,
        )  # fmt: skip
        order.extra |= leg.extra | {
            "order_type": "MARKET",
            "exchange_order_id": 1_100_000_000_000_000 + int(order.broker_id[8:]),
        }
        return order

    def _enter(self, order: Order) -> None:
        self.orders[order.broker_id] = order
        self._submit(order)

    def _known(self, body: Body) -> Order:
        number_ = body.get("oms_order_id")
        if number_ is None or number_ == "":
            raise blank("oms_order_id")
        order = self.orders.get(str(number_))
        if order is None:
            raise _NO_DATA
        return order

    def _change(self, order: Order, body: Body) -> None:
        if body.get("quantity") is not None:
            order.quantity = whole(body, "quantity")
        price, trigger = number(body, "price"), number(body, "trigger_price")
        order.price = price or order.price if order.type in ("limit", "stop_limit") else None
        order.stop_price = (
            trigger or order.stop_price if order.type in ("stop", "stop_limit", "trailing_stop") else None
        )
        order.extra["modified"] = True
        self.book.modify(order)

    @staticmethod
    def _positive(body: Body, field: str) -> Decimal:
        if body.get(field) is None or body.get(field) == "":
            raise blank(field)
        value = number(body, field)
        if not value:
            raise invalid(field)
        return value


def _today() -> str:
    return datetime.now(_INDIA).strftime("%Y%m%d")
