"""CrossTrade's order operations: place, cancel, change, close, flatten, reverse, and an ATM's two exits."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_CEILING, Decimal
from typing import Any

from .book import Order, Position
from .crosstrade_desk import NAME, Desk, Refused, new_id
from .crosstrade_reads import position_row
from .instruments import Contract
from .wire import Record, now_iso, plain_number

Arguments = dict[str, Any]
Submit = Callable[..., None]
ATM_STOP_TICKS = 10
ATM_TARGET_TICKS = 20
_ACTIONS = {"buy": "buy", "sell": "sell"}
_TYPES = {"market": "market", "limit": "limit", "stopmarket": "stop", "stoplimit": "stop_limit"}
_TIMES = {"day": "day", "gtc": "gtc"}
_GONE = "Order linked to '{}' not found or already terminal."


class Orders:
    def __init__(self, desk: Desk, submit: Submit) -> None:
        self.desk = desk
        self.book = desk.book
        self._submit = submit
        self.calls: dict[str, Callable[[Arguments, Record], dict[str, Any]]] = {
            "PlaceOrder": self.place,
            "FlatPlace": self.flat_place,
            "Cancel": self.cancel,
            "CancelOrders": self.cancel_orders,
            "CancelAllOrders": self.cancel_all,
            "Change": self.change,
            "CancelReplace": self.replace,
            "CancelAndBracket": self.cancel_and_bracket,
            "ClosePosition": self.close,
            "Flatten": self.flatten,
            "FlattenEverything": self.flatten_everything,
            "Reverse": self.reverse,
            "ReversePosition": self.reverse_position,
        }

    # -- placing ----------------------------------------------------------------------------------

    def place(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        """`orderId` and `ocoId` are refused the second time: NinjaTrader burns ids that were used."""
        account = self.desk.account(arguments)
        contract, fields = self._fields(arguments)
        original, oco_id, strategy = (_text(arguments, name) for name in ("orderId", "ocoId", "strategy"))
        if original is not None and original in self.desk.originals:
            known = self.desk.originals[original]
            self.desk.attempts.setdefault(known.broker_id, []).append((now_iso(), "PlaceOrder"))
            raise Refused(f"Order id '{original}' has already been used")
        if oco_id is not None and self.desk.burned_group(oco_id):
            raise Refused(f"OCO id '{oco_id}' cannot be reused")
        if strategy is not None and strategy.lower() == "missing":
            raise Refused(f"ATM strategy template '{strategy}' not found")
        self._gates(arguments, account, contract)
        order = self._order(account, contract, fields, record)
        order.client_id = original
        order.extra["strategy"] = strategy
        if strategy is not None:
            order.on_filled = lambda entry: self._atm_exits(entry, contract, record)
        self.desk.orders[order.broker_id] = order
        if original is not None:
            self.desk.originals[original] = order
        if oco_id is not None:
            self.desk.join(order, oco_id)
        self._submit(order)
        return {"orderId": order.broker_id, "success": True}

    def flat_place(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        """Close whatever is open, then place regardless."""
        account = self.desk.account(arguments)
        contract, _ = self._fields(arguments)
        position = self.book.position(NAME, account, contract.ninja)
        if position is not None and position.net:
            self._close_whole(position, record)
        return self.place(arguments, record)

    def _fields(self, arguments: Arguments) -> tuple[Contract, dict[str, Any]]:
        """The fields of a place call; the case of a word does not matter."""
        contract = self.desk.contract(arguments)
        side = _word(arguments, "action", _ACTIONS)
        quantity = _whole(arguments, "quantity")
        kind = _word(arguments, "orderType", _TYPES)
        time = _word(arguments, "timeInForce", _TIMES)
        limit, stop = _price(arguments, "limitPrice"), _price(arguments, "stopPrice")
        if kind in ("limit", "stop_limit") and not limit:
            raise Refused(f"Missing required field: limitPrice for {arguments['orderType']}")
        if kind in ("stop", "stop_limit") and not stop:
            raise Refused(f"Missing required field: stopPrice for {arguments['orderType']}")
        fields = {
            "side": side,
            "quantity": quantity,
            "type": kind,
            "time_in_force": time,
            "price": limit if kind in ("limit", "stop_limit") else None,
            "stop_price": stop if kind in ("stop", "stop_limit") else None,
        }
        return contract, fields

    def _gates(self, arguments: Arguments, account: str, contract: Contract) -> None:
        """`requireMarketPosition` and `maxPositions`: unmet, nothing is placed."""
        position = self.book.position(NAME, account, contract.ninja)
        net = position.net if position else 0
        now = "flat" if net == 0 else "long" if net > 0 else "short"
        wanted = _text(arguments, "requireMarketPosition")
        if wanted is not None and now not in [word.strip().lower() for word in wanted.split(",")]:
            raise Refused(f"Required market position '{wanted}' not met: position is {now}")
        most = arguments.get("maxPositions")
        if most is not None and net == 0 and len(self.desk.positions(account)) >= _whole(arguments, "maxPositions"):
            raise Refused(f"Maximum positions reached: {most}")

    def _order(self, account: str, contract: Contract, fields: dict[str, Any], record: Record) -> Order:
        order = Order(
            broker=NAME, account=account, symbol=contract.ninja, market=contract.ninja, broker_id=new_id(),
            record=record, **fields,
        )  # fmt: skip
        order.extra["contract"] = contract
        order.extra["position"] = {"contract": contract}
        return order

    def _atm_exits(self, entry: Order, contract: Contract, record: Record) -> None:
        """The exits that an ATM template would place: a stop and a target around the fill, as one OCO."""
        out = "sell" if entry.side == "buy" else "buy"
        step = contract.product.tick * entry.sign
        common = {"side": out, "quantity": entry.quantity, "time_in_force": "gtc"}
        stop = {**common, "type": "stop", "stop_price": entry.average - ATM_STOP_TICKS * step}
        target = {**common, "type": "limit", "price": entry.average + ATM_TARGET_TICKS * step}
        exits = [self._order(entry.account, contract, fields, record) for fields in (stop, target)]
        self.desk.groups[group := new_id()] = exits
        self.book.link(exits, group)
        for order, name in zip(exits, ("Stop1", "Target1"), strict=True):
            order.parent = entry
            order.extra |= {"strategy": entry.extra["strategy"], "name": name}
            self.desk.orders[order.broker_id] = order
            self._submit(order)

    # -- cancelling and changing ------------------------------------------------------------------

    def cancel(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        self.desk.account(arguments)
        order = self.desk.order(arguments)
        if order is None or not self.book.cancel(order):
            raise Refused(_GONE.format(arguments.get("orderId", "")))
        return {"orderId": arguments["orderId"], "success": True}

    def cancel_orders(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        """Without an instrument: everything in the account."""
        account = self.desk.account(arguments)
        market = self.desk.contract(arguments).ninja if arguments.get("instrument") else None
        return {"orderIds": self._cancel_working(account, market), "success": True}

    def cancel_all(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        ids = [number for account in self.desk.accounts.values() for number in self._cancel_working(account, None)]
        return {"orderIds": ids, "success": True}

    def change(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        self.desk.account(arguments)
        order = self.desk.order(arguments)
        if order is None or not order.open:
            raise Refused(_GONE.format(arguments.get("orderId", "")))
        quantity = _whole(arguments, "quantity") if arguments.get("quantity") else order.quantity
        limit, stop = _price(arguments, "limitPrice"), _price(arguments, "stopPrice")
        order.quantity = quantity
        if limit and order.price is not None:  # 0 means "leave unchanged", as in NinjaTrader's own interface
            order.price = limit
        if stop and order.stop_price is not None:
            order.stop_price = stop
        self.book.modify(order)
        return {"orderId": order.broker_id, "success": True}

    def replace(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        """Place only if the cancel succeeded; the new order has a new id."""
        self._fields(arguments)
        self.cancel(arguments, record)
        return self.place({name: value for name, value in arguments.items() if name != "orderId"}, record)

    def cancel_and_bracket(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        """Cancel all on the instrument, then a target and a stop in one OCO; `action` is the position's direction."""
        account = self.desk.account(arguments)
        contract = self.desk.contract(arguments)
        side = _word(arguments, "action", _ACTIONS)
        target, stop = _price(arguments, "takeProfit"), _price(arguments, "stopLoss")
        if not target or not stop:
            raise Refused("Missing required field: takeProfit and stopLoss")
        position = self.book.position(NAME, account, contract.ninja)
        held = abs(position.net) if position else 0
        quantity = _whole(arguments, "quantity") if arguments.get("quantity") else held
        if held:
            quantity = min(quantity, held)
        if quantity <= 0:
            raise Refused("Missing required field: quantity")
        self._cancel_working(account, contract.ninja)
        out = "sell" if side == "buy" else "buy"
        common = {"side": out, "quantity": quantity, "time_in_force": "gtc"}
        pair = [
            self._order(account, contract, {**common, "type": "limit", "price": target}, record),
            self._order(account, contract, {**common, "type": "stop", "stop_price": stop}, record),
        ]
        self.desk.groups[group := new_id()] = pair
        self.book.link(pair, group)
        for order in pair:
            self.desk.orders[order.broker_id] = order
            self._submit(order)
        return {"orderIds": [order.broker_id for order in pair], "success": True}

    # -- positions --------------------------------------------------------------------------------

    def close(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        """A whole close also cancels the instrument's working orders; a part leaves them. Flat is an error."""
        account = self.desk.account(arguments)
        contract = self.desk.contract(arguments)
        position = self.book.position(NAME, account, contract.ninja)
        if position is None or position.net == 0:
            raise Refused(f"No positions found for instrument '{arguments['instrument']}'")
        held = abs(position.net)
        quantity = held
        if arguments.get("quantity") is not None:
            quantity = min(_whole(arguments, "quantity"), held)
        elif arguments.get("percent") is not None:
            share = _price(arguments, "percent")
            if share is None or not 0 < share <= 1:
                raise Refused("Invalid value for percent: must be above 0 and at most 1")
            quantity = int((share * held).to_integral_value(ROUND_CEILING))
        row = position_row(self.book, position)
        row["quantity"] = quantity
        if quantity >= held:
            self._close_whole(position, record)
        else:
            self._market_out(position, quantity, record)
        return {"closedPositions": [row], "success": True}

    def flatten(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        """Close positions and cancel their orders. A resting entry without a position is not touched."""
        account = self.desk.account(arguments) if arguments.get("account") else None
        market = self.desk.contract(arguments).ninja if arguments.get("instrument") else None
        direction = str(arguments.get("marketPosition") or "").lower()
        if direction not in ("", "long", "short"):
            raise Refused("Invalid value for marketPosition: must be long or short")
        positions = [
            position
            for position in self.desk.positions(account, market)
            if not direction or (position.net > 0) == (direction == "long")
        ]
        return self._flattened(positions, [], record)

    def flatten_everything(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        """`POST /positions/flatten`: with an empty body every account is flattened and every order cancelled."""
        filters = ("account", "instrument", "marketPosition")
        if record.method != "WS" and any(arguments.get(name) for name in filters):
            return self.flatten(arguments, record)  # over the WebSocket this call ignores its filters
        ids = [number for account in self.desk.accounts.values() for number in self._cancel_working(account, None)]
        return self._flattened(self.desk.positions(), ids, record)

    def _flattened(self, positions: list[Position], ids: list[str], record: Record) -> dict[str, Any]:
        rows = []
        for position in positions:
            rows.append(position_row(self.book, position))
            ids += self._close_whole(position, record)
        reply: dict[str, Any] = {"orderIds": ids, "closedPositions": rows, "success": True}
        if not rows and not ids:
            reply["warning"] = "No open positions"
        return reply

    def reverse(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        """Mirror the position at market; flat stays flat."""
        account = self.desk.account(arguments)
        contract = self.desk.contract(arguments)
        position = self.book.position(NAME, account, contract.ninja)
        if position is None or position.net == 0:
            return {"orderId": None, "success": True}
        order = self._market_out(position, 2 * abs(position.net), record)
        return {"orderId": order.broker_id, "success": True}

    def reverse_position(self, arguments: Arguments, record: Record) -> dict[str, Any]:
        """Close, then place; an error when there is nothing to reverse."""
        account = self.desk.account(arguments)
        contract, _ = self._fields(arguments)
        position = self.book.position(NAME, account, contract.ninja)
        if position is None or position.net == 0:
            raise Refused(f"No positions found for instrument '{arguments['instrument']}'")
        self._close_whole(position, record)
        return self.place(arguments, record)

    def _close_whole(self, position: Position, record: Record) -> list[str]:
        self._cancel_working(position.account, position.market)
        return [self._market_out(position, abs(position.net), record).broker_id]

    def _market_out(self, position: Position, quantity: int, record: Record) -> Order:
        fields = {
            "side": "sell" if position.net > 0 else "buy",
            "quantity": quantity,
            "type": "market",
            "time_in_force": "day",
            "reference": position.price,
        }
        order = self._order(position.account, position.extra["contract"], fields, record)
        order.extra["name"] = "Close"
        self.desk.orders[order.broker_id] = order
        self._submit(order)
        return order

    def _cancel_working(self, account: str, market: str | None) -> list[str]:
        orders = self.book.working(NAME, account, market)
        return [order.broker_id for order in orders if self.book.cancel(order)]


def _text(arguments: Arguments, name: str) -> str | None:
    value = arguments.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise Refused(f"Invalid value for {name}: must be text")
    return value


def _word(arguments: Arguments, name: str, known: dict[str, str]) -> str:
    value = arguments.get(name)
    if value is None or value == "":
        raise Refused(f"Missing required field: {name}")
    found = known.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise Refused(f"Invalid value for {name}: '{value}'")
    return found


def _whole(arguments: Arguments, name: str) -> int:
    value = arguments.get(name)
    if value is None:
        raise Refused(f"Missing required field: {name}")
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise Refused(f"Invalid value for {name}: must be a whole number above zero")
    return value


def _price(arguments: Arguments, name: str) -> Decimal | None:
    value = arguments.get(name)
    if value is None:
        return None
    price = plain_number(value)
    if price is None:
        raise Refused(f"Invalid value for {name}: must be a number")
    return price
