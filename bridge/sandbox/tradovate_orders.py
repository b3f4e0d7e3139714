"""Tradovate's order operations: place, OCO, OSO, order strategies, modify, cancel, liquidate."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from . import jsontext
from .book import Order
from .instruments import Contract, by_contract_id, on_tick, tradovate_contract
from .tradovate_desk import LIFT, NAME, Desk, Strategy
from .tradovate_schema import TIMES, TYPES, Refused, check, check_prices, failure, violation
from .wire import Record, Reply, now_iso, parse_iso, plain_number, text_reply

Submit = Callable[..., None]
_PARENT_FIELDS = ("isAutomated", "customTag50")
_BAD_PARAMS = Refused(Reply(200, {"errorText": "Invalid or missed parameters"}))


class Orders:
    def __init__(self, desk: Desk, submit: Submit) -> None:
        self.desk = desk
        self.book = desk.book
        self._submit = submit
        self.operations: dict[str, Callable[[Any, Record], Reply]] = {
            "placeorder": self.place,
            "placeoco": self.place_oco,
            "placeoso": self.place_oso,
            "modifyorder": self.modify,
            "cancelorder": self.cancel,
            "liquidateposition": self.liquidate,
            "liquidatepositions": self.liquidate_several,
            "startorderstrategy": self.start_strategy,
            "interruptorderstrategy": self.interrupt_strategy,
        }

    # -- placing ----------------------------------------------------------------------------------

    def place(self, body: Any, record: Record) -> Reply:
        fields = check("placeorder", body)
        account, contract = self._account_and_contract(fields)
        self._check_leg(fields, contract)
        order = self._order(fields, fields, account, contract, record)
        self._enter(order, fields, fields)
        return self._accepted({"orderId": int(order.broker_id)})

    def place_oco(self, body: Any, record: Record) -> Reply:
        """Both orders work at once; `ocoId` is the id of the second. Two that cannot both rest are refused."""
        fields = check("placeoco", body)
        other = check("leg", fields["other"], "other.")
        account, contract = self._account_and_contract(fields)
        for leg in (fields, other):
            self._check_leg(leg, contract, "" if leg is fields else "other.")
            # A stop with a limit price beside it is refused in an OCO (seen in the field).
            if leg["orderType"] == "Stop" and leg.get("price") is not None:
                raise failure("InvalidPrice", "Wrong OCO combination")
        first = self._order(fields, fields, account, contract, record)
        second = self._order(other, fields, account, contract, record)
        if not _both_can_rest(first, second, self.book.last(first.market)):
            raise failure("InvalidPrice", "Wrong OCO combination")
        self.book.link([first, second], second.broker_id)
        self._enter(first, fields, fields)
        if first.open or first.state == "rejected":
            self._enter(second, other, fields)
        else:  # a market leg has filled: its partner never gets to work
            self._enter(second, other, fields, suspended=True)
            self.book.cancel(second, "OCO")
        return self._accepted({"orderId": int(first.broker_id), "ocoId": int(second.broker_id)})

    def place_oso(self, body: Any, record: Record) -> Reply:
        """The brackets are `Suspended` until the whole entry has filled; two brackets become one OCO."""
        fields = check("placeoso", body)
        legs = [
            check("leg", fields[name], f"{name}.") for name in ("bracket1", "bracket2") if fields.get(name) is not None
        ]
        account, contract = self._account_and_contract(fields)
        self._check_leg(fields, contract)
        for number, leg in enumerate(legs, start=1):
            self._check_leg(leg, contract, f"bracket{number}.")
        entry = self._order(fields, fields, account, contract, record)
        children = [self._order(leg, fields, account, contract, record) for leg in legs]
        if len(children) == 2:
            self.book.link(children, children[1].broker_id)
        entry.reference = _middle([child.stop_price or child.price for child in children])
        for child in children:
            child.parent = entry
            child.stop_through_is_rejected = True
        entry.children = children
        self.desk.orders[int(entry.broker_id)] = entry
        self.book.list_first(entry)  # a market entry fills as it enters, so its children must wait there already
        for child, leg in zip(children, legs, strict=True):
            self._enter(child, leg, fields, suspended=True)
        self._enter(entry, fields, fields)
        reply: dict[str, Any] = {"orderId": int(entry.broker_id)}
        if self.desk.behaviour["oso_ids"]:
            for number, child in enumerate(children, start=1):
                reply[f"oso{number}Id"] = int(child.broker_id)
        return self._accepted(reply)

    # -- order strategies -------------------------------------------------------------------------

    def start_strategy(self, body: Any, record: Record) -> Reply:
        """A multibracket: an entry whose stop and target are made from its fill, by signed offsets in points."""
        if isinstance(body, dict) and "params" in body and not isinstance(body["params"], str):
            raise _BAD_PARAMS  # the usual slip: an object in place of its JSON text
        fields = check("startorderstrategy", body)
        if fields["orderStrategyTypeId"] != 2:
            raise _BAD_PARAMS
        entry_fields, brackets = _strategy_params(fields)
        account, contract = self._account_and_contract(fields, strategy=True)
        whole = {**entry_fields, "action": fields["action"], "symbol": fields["symbol"]}
        whole |= {name: fields[name] for name in _PARENT_FIELDS if fields.get(name) is not None}
        whole.pop("clOrdId", None)
        try:
            check("placeorder", whole)
            self._check_leg(whole, contract)
            for bracket in brackets:
                _check_bracket(bracket, 1 if fields["action"] == "Buy" else -1, contract)
        except Refused as refused:
            raise _as_strategy_error(refused) from None
        strategy = Strategy(
            self.desk.next_id(), int(fields["accountId"]), contract, fields["action"], fields["params"],
            fields.get("uuid"), now_iso(),
        )  # fmt: skip
        self.desk.strategies[strategy.id] = strategy
        entry = self._order(whole, whole, account, contract, record)
        entry.client_id = strategy.uuid
        entry.extra["strategy"] = strategy
        strategy.orders.append((self.desk.next_id(), entry, "Entry"))
        entry.on_filled = lambda filled: self._bracket(strategy, filled, whole, brackets, account, record)
        self._enter(entry, whole, whole)
        return self._accepted({"orderStrategy": strategy_entity(strategy)})

    def _bracket(
        self, strategy: Strategy, entry: Order, parent: dict[str, Any], brackets: list[dict[str, Any]], account: str,
        record: Record,
    ) -> None:  # fmt: skip
        """The entry has filled: make the exits from its average price."""
        out = "Sell" if entry.side == "buy" else "Buy"
        for bracket in brackets:
            made: list[tuple[Order, dict[str, Any], str]] = []
            quantity = bracket.get("qty") or entry.quantity
            common = {"action": out, "orderQty": quantity, "timeInForce": parent.get("timeInForce", "Day")}
            if bracket.get("stopLoss") is not None:
                leg = {**common, "orderType": "Stop", "stopPrice": entry.average + bracket["stopLoss"]}
                if bracket.get("trailingStop"):
                    leg |= {"orderType": "TrailingStop", "pegDifference": abs(Decimal(bracket["stopLoss"]))}
                made.append((self._order(leg, leg, account, strategy.contract, record), leg, "StopLoss"))
            if bracket.get("profitTarget") is not None:
                leg = {**common, "orderType": "Limit", "price": entry.average + bracket["profitTarget"]}
                made.append((self._order(leg, leg, account, strategy.contract, record), leg, "ProfitTarget"))
            if len(made) == 2:
                self.book.link([order for order, _, _ in made], made[1][0].broker_id)
            for order, leg, label in made:
                order.parent = entry
                strategy.orders.append((self.desk.next_id(), order, label))
                self._enter(order, leg, parent)

    def interrupt_strategy(self, body: Any, record: Record) -> Reply:
        strategy = self.desk.strategies.get(check("interruptorderstrategy", body)["orderStrategyId"])
        if strategy is None:
            raise Refused(text_reply(404, ""))
        if strategy.status() == "ActiveStrategy":
            for _, order, _ in strategy.orders:
                self.book.cancel(order)
            strategy.interrupted = True
        return self._accepted({"orderStrategy": strategy_entity(strategy)})

    # -- afterwards -------------------------------------------------------------------------------

    def modify(self, body: Any, record: Record) -> Reply:
        """A full replacement. A time in force that differs is dropped without a word: only the report tells."""
        fields = check("modifyorder", body)
        check_prices(fields)
        order = self._known(fields["orderId"])
        contract: Contract = order.extra["contract"]
        self._check_ticks(fields, contract)
        if not order.open:
            raise failure("TooLate", "Too late to modify")
        if order.type == "trailing_stop" and plain_number(fields.get("stopPrice")) != order.stop_price:
            raise failure("TrailingStopNonOrderQtyModify", "Only the quantity of a trailing stop can be modified")
        command = self.desk.command(order, "Modify", fields)
        if TIMES[fields.get("timeInForce", "Day")] != order.time_in_force:
            command.status, command.reject_reason = "ExecutionRejected", "OtherExecutionRelated"
            command.text = "cannot modify time-in-force"
            return self._accepted({"commandId": command.id})
        order.quantity = int(fields["orderQty"])
        order.type = TYPES[fields["orderType"]]
        order.price = plain_number(fields.get("price"))
        order.stop_price = plain_number(fields.get("stopPrice"))
        order.trail = plain_number(fields.get("pegDifference"))
        self.desk.version(order, command, fields)
        self.book.modify(order)
        return self._accepted({"commandId": command.id})

    def cancel(self, body: Any, record: Record) -> Reply:
        fields = check("cancelorder", body)
        order = self._known(fields["orderId"])
        if not order.open:
            raise failure("TooLate", "Too late to cancel")
        command = self.desk.command(order, "Cancel", fields)
        self.book.cancel(order)
        command.ord_status = "Canceled"
        return self._accepted({"commandId": command.id})

    def liquidate(self, body: Any, record: Record) -> Reply:
        """Cancel every order on the contract, whoever placed it, and close the position at market."""
        if isinstance(body, dict) and body.get("customTag50") is not None:
            raise Refused(text_reply(404, ""))  # seen in the field: the tag makes it a 404
        fields = check("liquidateposition", body)
        contract = by_contract_id(int(fields["contractId"]))
        account = self.desk.account(int(fields["accountId"]), None)
        if contract is None or account is None:
            raise failure("UnknownReason", "Access is denied")
        order = self._flatten(account, int(fields["accountId"]), contract, record)
        if order is not None:
            return self._accepted({"orderId": int(order.broker_id)})
        # No source says what a flat contract answers; every field of the reply is optional.
        wanted = self.desk.behaviour["flat_liquidation"]
        if wanted == "refused":
            raise failure("UnknownReason", "No position to liquidate")
        return self._accepted({"orderId": self.desk.next_id()} if wanted == "order_id" else {})

    def liquidate_several(self, body: Any, record: Record) -> Reply:
        fields = check("liquidatepositions", body)
        wanted = {str(number) for number in fields["positions"]}
        names = {name: number for number, name in self.desk.accounts.items()}
        found = [p for p in self.book.positions.values() if p.broker == NAME and str(p.number + LIFT) in wanted]
        if len(found) != len(wanted):
            return Reply(200, {"ok": False, "errorText": "Operation failed"})
        for position in found:
            self._flatten(position.account, names[position.account], position.extra["contract"], record)
        return Reply(200, {"ok": True})

    def _flatten(self, account: str, account_id: int, contract: Contract, record: Record) -> Order | None:
        for order in self.book.working(NAME, account, contract.ninja):
            self.book.cancel(order, "liquidation")
        position = self.book.position(NAME, account, contract.ninja)
        if position is None or position.net == 0:
            return None
        action = "Sell" if position.net > 0 else "Buy"
        fields = {
            "accountId": account_id,
            "action": action,
            "orderQty": abs(position.net),
            "orderType": "Market",
        }
        order = self._order(fields, fields, account, contract, record)
        order.reference = position.price
        self._enter(order, fields, {})
        return order

    # -- parts ------------------------------------------------------------------------------------

    def _account_and_contract(self, fields: dict[str, Any], *, strategy: bool = False) -> tuple[str, Contract]:
        if fields.get("accountId") is None and fields.get("accountSpec") is None:
            raise violation("accountId", None, "accountId should be specified")
        contract = tradovate_contract(fields["symbol"])
        # accountId is optional in the description and required in practice.
        number = fields.get("accountId")
        account = self.desk.account(int(number), fields.get("accountSpec")) if number is not None else None
        if contract is None or account is None:
            denied = failure("UnknownReason", "Access is denied")
            raise _as_strategy_error(denied) if strategy else denied
        return account, contract

    def _check_leg(self, fields: dict[str, Any], contract: Contract, prefix: str = "") -> None:
        check_prices(fields, prefix)
        self._check_ticks(fields, contract)

    @staticmethod
    def _check_ticks(fields: dict[str, Any], contract: Contract) -> None:
        for name in ("price", "stopPrice", "pegDifference"):
            value = plain_number(fields.get(name))
            if value is not None and not on_tick(value, contract.product.tick):
                raise failure("InvalidPrice", "Invalid price increment")

    def _order(
        self, fields: dict[str, Any], parent: dict[str, Any], account: str, contract: Contract, record: Record
    ) -> Order:
        """An order with its id, not yet in the book. What a leg lacks (symbol, quantity) is its parent's."""
        kind = TYPES[fields["orderType"]]
        order = Order(
            broker=NAME,
            account=account,
            symbol=contract.tradovate,
            market=contract.ninja,
            side=fields["action"].lower(),
            quantity=int(parent["orderQty"]),
            type=kind,
            broker_id=str(self.desk.next_id()),
            record=record,
            price=plain_number(fields.get("price")) if kind in _USES_PRICE else None,
            stop_price=plain_number(fields.get("stopPrice")) if kind in _USES_STOP else None,
            trail=plain_number(fields.get("pegDifference")),
            time_in_force=TIMES[fields.get("timeInForce") or "Day"],
            client_id=fields.get("clOrdId"),
        )
        order.extra["contract"] = contract
        order.extra["account_id"] = self.desk.account_id(account)
        order.extra["position"] = {"contract": contract}
        return order

    def _enter(self, order: Order, fields: dict[str, Any], parent: dict[str, Any], *, suspended: bool = False) -> None:
        """Give the order its command and version, and put it into the book."""
        self.desk.orders[int(order.broker_id)] = order
        inherited = {name: parent[name] for name in _PARENT_FIELDS if parent.get(name) is not None}
        status = "ExecutionSuspended" if suspended else "AtExecution"
        command = self.desk.command(order, "New", {**inherited, "clOrdId": fields.get("clOrdId")}, status=status)
        self.desk.version(order, command, fields)
        self._submit(order, suspended=suspended)
        if order.state == "rejected":
            command.status, command.reject_reason = "ExecutionRejected", "OtherExecutionRelated"
            command.text = order.events[-1].text
        command.ord_status = "Suspended" if suspended else _at_first(order)
        if order.time_in_force == "gtd" and order.open and (moment := parse_iso(fields["expireTime"])):
            self.book.expire_on(order, moment)

    def _known(self, order_id: Any) -> Order:
        order = self.desk.orders.get(int(order_id))
        if order is None:
            raise Refused(text_reply(404, ""))
        return order

    def _accepted(self, data: dict[str, Any]) -> Reply:
        if self.desk.behaviour["success_word"]:
            data = {"failureReason": "Success", "failureText": "", **data}
        return Reply(200, data)


_USES_PRICE = ("limit", "mit", "stop_limit", "trailing_stop_limit")
_USES_STOP = ("stop", "stop_limit", "trailing_stop", "trailing_stop_limit")


def _at_first(order: Order) -> str:
    return "Rejected" if order.state == "rejected" else "Working"


def _middle(prices: list[Decimal | None]) -> Decimal | None:
    known = [price for price in prices if price is not None]
    return sum(known, Decimal(0)) / len(known) if known else None


def _both_can_rest(first: Order, second: Order, last: Decimal | None) -> bool:
    """Whether a market price exists (or the last one is such) at which neither leg would trade at once."""
    below: list[Decimal] = []  # the market must be below these
    above: list[Decimal] = []
    for leg in (first, second):
        if leg.type in ("limit", "mit") and leg.price is not None:
            (above if leg.side == "buy" else below).append(leg.price)
        elif leg.stop_price is not None:
            (below if leg.side == "buy" else above).append(leg.stop_price)
    if below and above and max(above) >= min(below):
        return False
    return last is None or (all(last < price for price in below) and all(last > price for price in above))


def _strategy_params(fields: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Entry and brackets out of the JSON text in `params`."""
    try:
        params = jsontext.loads(fields.get("params") or "")
    except jsontext.NotJson:
        raise _BAD_PARAMS from None
    entry = params.get("entryVersion") if isinstance(params, dict) else None
    brackets = params.get("brackets") if isinstance(params, dict) else None
    if not isinstance(entry, dict) or not isinstance(brackets, list) or not brackets:
        raise _BAD_PARAMS
    if not all(isinstance(bracket, dict) for bracket in brackets):
        raise _BAD_PARAMS
    return entry, brackets


def _check_bracket(bracket: dict[str, Any], sign: int, contract: Contract) -> None:
    """Offsets are signed points: a long has its target above zero and its stop below."""
    target, stop = bracket.get("profitTarget"), bracket.get("stopLoss")
    if target is None and stop is None:
        raise _BAD_PARAMS
    for value, wanted in ((target, sign), (stop, -sign)):
        if value is None:
            continue
        points = plain_number(value)
        if points is None or points * wanted <= 0:
            raise _BAD_PARAMS
        if not on_tick(points, contract.product.tick):
            raise failure("InvalidPrice", "Invalid price increment")
    quantity = bracket.get("qty")
    if quantity is not None and (isinstance(quantity, bool) or not isinstance(quantity, int) or quantity <= 0):
        raise _BAD_PARAMS


def _as_strategy_error(refused: Refused) -> Refused:
    """Order strategies name their errors in `errorText`."""
    data = refused.reply.data
    if refused.reply.status != 200 or not isinstance(data, dict) or "errorText" in data:
        return refused
    if "violations" in data:
        return _BAD_PARAMS
    return Refused(Reply(200, {"errorText": data["failureText"]}))


def strategy_entity(strategy: Strategy) -> dict[str, Any]:
    entity: dict[str, Any] = {
        "id": strategy.id,
        "accountId": strategy.account_id,
        "timestamp": strategy.at,
        "contractId": strategy.contract.id,
        "orderStrategyTypeId": 2,
        "action": strategy.action,
        "params": strategy.params,
        "status": strategy.status(),
    }
    if strategy.uuid is not None:
        entity["uuid"] = strategy.uuid
    return entity
