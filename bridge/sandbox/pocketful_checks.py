"""Bodies of Pocketful's order requests, and its error envelope.

`{"data": {}, "error_code": …, "message": …, "status": "error"}`: 40000 log-in or permission, 44000 a parameter,
45000 price or quantity, 45010 the instrument token. The HTTP status of errors is documented nowhere: it is 401 for
40000 and otherwise what the setting `error_status` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .pocketful_scrips import EXCHANGES
from .wire import Reply, plain_number

SIDES = {"BUY": "buy", "SELL": "sell"}
TYPES = {"LIMIT": "limit", "MARKET": "market", "SL": "stop_limit", "SLM": "stop"}
PRODUCTS = ("CNC", "MIS", "NRML")
VALIDITIES = {"DAY": "day", "IOC": "ioc"}


class Refused(Exception):
    """An error in the documented envelope."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def reply(self, status: int) -> Reply:
        if self.code == 40000:
            status = 401
        data = {"data": {}, "error_code": self.code, "message": self.message, "status": "error"}
        return Reply(status, data)


def invalid(field: str) -> Refused:
    return Refused(44000, f"`{field}` is invalid")


def blank(field: str) -> Refused:
    return Refused(44000, f"`{field}` can't be blank")


def success(data: Any, message: str = "") -> Reply:
    return Reply(200, {"data": data, "message": message, "status": "success"})


@dataclass(slots=True)
class Place:
    """A checked order request."""

    exchange: str
    token: int
    client_id: str
    order_type: str
    price: Decimal
    trigger: Decimal
    quantity: int
    disclosed: int
    validity: str
    product: str
    side: str
    execution_type: str
    user_order_id: str
    device: str

    @property
    def limit(self) -> Decimal | None:
        return self.price if self.order_type in ("LIMIT", "SL") else None

    @property
    def stop(self) -> Decimal | None:
        return self.trigger if self.order_type in ("SL", "SLM") else None


def check_place(body: dict[str, Any], execution_types: tuple[str, ...]) -> Place:
    """The request, if the broker would take it; raises `Refused`."""
    for field in (
        "exchange", "instrument_token", "client_id", "order_type", "quantity", "validity", "product", "order_side",
        "execution_type",
    ):  # fmt: skip
        if body.get(field) is None or body.get(field) == "":
            raise blank(field)
    exchange = _one_of(body, "exchange", EXCHANGES)
    order_type = _one_of(body, "order_type", tuple(TYPES))
    validity = _one_of(body, "validity", tuple(VALIDITIES))
    product = _one_of(body, "product", PRODUCTS)
    side = _one_of(body, "order_side", tuple(SIDES))
    execution_type = str(body["execution_type"]).upper()
    if execution_type not in execution_types:
        raise invalid("execution_type")
    token = str(body["instrument_token"])
    if not (token.isascii() and token.isdigit()):
        raise Refused(45010, "Something Went Wrong")
    price = number(body, "price") or Decimal(0)
    trigger = number(body, "trigger_price") or Decimal(0)
    if order_type in ("LIMIT", "SL") and price <= 0:
        raise Refused(45000, "Invalid `Price`")
    if order_type in ("SL", "SLM") and trigger <= 0:
        raise invalid("trigger_price")
    return Place(
        exchange, int(token), str(body["client_id"]), order_type, price, trigger, whole(body, "quantity"),
        int(number(body, "disclosed_quantity") or 0), validity, product, side, execution_type,
        user_order_id(body), str(body.get("device") or ""),
    )  # fmt: skip


def number(body: dict[str, Any], field: str) -> Decimal | None:
    """A number, also as text ("0.05"), which the broker's own pages mix; None when it is missing."""
    value = body.get(field)
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except ArithmeticError:
            raise invalid(field) from None
        if not value.is_finite():
            raise invalid(field)
    exact = plain_number(value)
    if exact is None or exact < 0:
        raise invalid(field)
    return exact


def whole(body: dict[str, Any], field: str) -> int:
    value = number(body, field)
    if value is None or value <= 0 or value != value.to_integral_value() or value >= 2**31:
        raise Refused(45000, f"Invalid `{field.capitalize()}`")
    return int(value)


def user_order_id(body: dict[str, Any]) -> str:
    """The client's integer; it comes back as text."""
    value = body.get("user_order_id")
    if value is None or value == "":
        return ""
    if isinstance(value, bool) or not str(value).isascii() or not str(value).isdigit():
        raise invalid("user_order_id")
    return str(value)


def _one_of(body: dict[str, Any], field: str, words: tuple[str, ...]) -> str:
    word = body[field]
    if word not in words:
        raise invalid(field)
    return str(word)
