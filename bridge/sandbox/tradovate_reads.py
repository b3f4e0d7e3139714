"""Tradovate's entities as its read calls give them: `list`, `item`, `items`, `deps`, `find` and `suggest`.

An `order` has no symbol, price, quantity or type: those are in its `orderVersion`, its client id is in its `command`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from .book import Event, Fill, Order, Position
from .instruments import (
    BY_ID,
    PRODUCTS,
    Contract,
    Product,
    by_contract_id,
    front,
    tradovate_contract,
    upcoming,
)
from .tradovate_desk import LIFT, NAME, ORD_STATUS, USER_ID, Command, Desk
from .tradovate_orders import strategy_entity
from .wire import Reply, text_reply

Entity = dict[str, Any]
_EXEC_TYPE = {
    "accepted": "New",
    "working": "New",
    "trade": "Trade",
    "canceled": "Canceled",
    "rejected": "Rejected",
    "expired": "Expired",
    "modified": "Replaced",
}
VERBS = ("list", "item", "items", "deps", "find", "suggest")


class Reads:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.book = desk.book
        # entity → (all of them, the field that `deps` asks by)
        self._tables: dict[str, tuple[Any, str]] = {
            "order": (self._orders, "accountId"),
            "orderversion": (self._versions, "orderId"),
            "command": (self._commands, "orderId"),
            "commandreport": (self._command_reports, "commandId"),
            "executionreport": (self._execution_reports, "commandId"),
            "fill": (self._fills, "orderId"),
            "orderstrategy": (self._strategies, "accountId"),
            "orderstrategylink": (self._links, "orderStrategyId"),
            "position": (self._positions, "accountId"),
            "account": (self._accounts, "userId"),
            "product": (self._products, "exchangeId"),
            "contract": (self._contracts, "contractMaturityId"),
            "contractmaturity": (self._maturities, "productId"),
        }
        self._unlisted = ("contract", "contractmaturity")  # they have no `list`

    def knows(self, entity: str, verb: str) -> bool:
        return entity in self._tables and verb in VERBS and not (verb == "list" and entity in self._unlisted)

    def read(self, entity: str, verb: str, parameters: dict[str, Any]) -> Reply:
        """An unknown id or name is an empty 404, as at the broker."""
        if verb == "list":
            return self._capped(self._tables[entity][0]())
        if verb == "deps":
            return self._capped(self._deps(entity, _number(parameters.get("masterid"))))
        if verb == "item":
            found = self._item(entity, _number(parameters.get("id")))
            return text_reply(404, "") if found is None else Reply(200, found)
        if verb == "items":
            numbers = [_number(word) for word in str(parameters.get("ids", "")).split(",")]
            rows = [self._item(entity, number) for number in numbers]
            return Reply(200, [row for row in rows if row is not None])
        name = str(parameters.get("name" if verb == "find" else "t", ""))
        if verb == "find":
            found = self._find(entity, name)
            return text_reply(404, "") if found is None else Reply(200, found)
        limit = _number(parameters.get("l")) or 10
        return Reply(200, self._suggest(entity, name)[:limit])

    def _capped(self, rows: Iterable[Entity]) -> Reply:
        """The broker cuts long lists at a size it does not tell; here it is a setting (0: whole)."""
        cap = self.desk.behaviour["entity_cap"]
        found = list(rows)
        return Reply(200, found[-cap:] if cap else found)

    def _deps(self, entity: str, master: int) -> Iterable[Entity]:
        order = self.desk.orders.get(master)
        if entity == "orderversion":
            return order.extra["versions"] if order else []
        if entity == "command":
            return [command_entity(command) for command in self.desk.of_order.get(master, [])]
        rows, field = self._tables[entity]
        return [row for row in rows() if row.get(field) == master]

    def _item(self, entity: str, number: int) -> Entity | None:
        if entity == "order":
            order = self.desk.orders.get(number)
            return order_entity(order) if order else None
        if entity == "command":
            command = self.desk.commands.get(number)
            return command_entity(command) if command else None
        if entity == "contract":
            contract = by_contract_id(number)
            return contract_entity(contract) if contract else None
        if entity == "contractmaturity":
            contract = by_contract_id(number - 10_000_000)
            return maturity_entity(contract) if contract else None
        if entity == "product":
            return product_entity(BY_ID[number]) if number in BY_ID else None
        return next((row for row in self._tables[entity][0]() if row["id"] == number), None)

    def _find(self, entity: str, name: str) -> Entity | None:
        if entity == "contract":
            contract = tradovate_contract(name)
            return contract_entity(contract) if contract else None
        return next((row for row in self._tables[entity][0]() if row.get("name") == name), None)

    def _suggest(self, entity: str, text: str) -> list[Entity]:
        text = text.upper()
        if entity == "contract":
            near = [contract for product in PRODUCTS.values() for contract in upcoming(product, 4)]
            near.sort(key=lambda contract: (not contract.tradovate.startswith(text), contract.product.root != text))
            return [contract_entity(contract) for contract in near if text in contract.tradovate]
        return [row for row in self._tables[entity][0]() if text in str(row.get("name", "")).upper()]

    # -- rows -------------------------------------------------------------------------------------

    def _orders(self) -> Iterable[Entity]:
        return (order_entity(order) for order in self.desk.orders.values())

    def _versions(self) -> Iterable[Entity]:
        return (version for order in self.desk.orders.values() for version in order.extra["versions"])

    def _commands(self) -> Iterable[Entity]:
        return (command_entity(command) for command in self.desk.commands.values())

    def _command_reports(self) -> Iterable[Entity]:
        return (command_report(command) for command in self.desk.commands.values())

    def _execution_reports(self) -> Iterable[Entity]:
        for order in self.desk.orders.values():
            yield from self._reports_of(order)

    def _reports_of(self, order: Order) -> Iterable[Entity]:
        first = self.desk.of_order[int(order.broker_id)][0].id
        done, value = 0, order.average * 0
        for event in order.events:
            if event.kind == "trade" and event.price is not None:
                value += event.price * event.quantity
                done += event.quantity
            yield execution_report(order, event, first, done, value / done if done else None)

    def _fills(self) -> Iterable[Entity]:
        return (fill_entity(fill) for fill in self.book.fills if fill.order.broker == NAME)

    def _strategies(self) -> Iterable[Entity]:
        return (strategy_entity(strategy) for strategy in self.desk.strategies.values())

    def _links(self) -> Iterable[Entity]:
        for strategy in self.desk.strategies.values():
            for link_id, order, label in strategy.orders:
                yield {
                    "id": link_id,
                    "orderStrategyId": strategy.id,
                    "orderId": int(order.broker_id),
                    "label": label,
                }

    def _positions(self) -> Iterable[Entity]:
        """Rows of a position that is flat again stay, with netPos 0."""
        numbers = {name: number for number, name in self.desk.accounts.items()}
        for position in self.book.positions.values():
            if position.broker == NAME:
                yield position_entity(position, numbers[position.account])

    def _accounts(self) -> Iterable[Entity]:
        return (account_entity(number, name) for number, name in self.desk.accounts.items())

    def _products(self) -> Iterable[Entity]:
        return (product_entity(product) for product in PRODUCTS.values())

    def _contracts(self) -> Iterable[Entity]:
        return (contract_entity(contract) for product in PRODUCTS.values() for contract in upcoming(product, 4))

    def _maturities(self) -> Iterable[Entity]:
        return (maturity_entity(contract) for product in PRODUCTS.values() for contract in upcoming(product, 4))


def order_entity(order: Order) -> Entity:
    contract: Contract = order.extra["contract"]
    entity: Entity = {
        "id": int(order.broker_id),
        "accountId": order.extra["account_id"],
        "contractId": contract.id,
        "timestamp": order.at,
        "action": order.side.capitalize(),
        "ordStatus": ORD_STATUS[order.state],
        "executionProviderId": 1,
        "admin": False,
    }
    if order.siblings:
        entity["ocoId"] = int(order.siblings[0].broker_id)
    if order.parent is not None:
        entity["parentId"] = int(order.parent.broker_id)
    return entity


def command_entity(command: Command) -> Entity:
    entity: Entity = {
        "id": command.id,
        "orderId": command.order_id,
        "timestamp": command.at,
        "commandType": command.kind,
        "commandStatus": command.status,
        "senderId": USER_ID,
        "userSessionId": 1,
    }
    if command.cl_ord_id is not None:
        entity["clOrdId"] = command.cl_ord_id
    if command.tag50 is not None:
        entity["customTag50"] = command.tag50
    if command.automated is not None:
        entity["isAutomated"] = command.automated
    return entity


def command_report(command: Command) -> Entity:
    entity: Entity = {
        "id": command.report_id,
        "commandId": command.id,
        "timestamp": command.at,
        "commandStatus": command.status,
        "ordStatus": command.ord_status,
    }
    if command.reject_reason is not None:
        entity["rejectReason"] = command.reject_reason
        entity["text"] = command.text or ""
    return entity


def execution_report(order: Order, event: Event, command_id: int, done: int, average: Any) -> Entity:
    contract: Contract = order.extra["contract"]
    suspended = event.kind == "accepted" and event.state == "suspended"
    entity: Entity = {
        "id": LIFT + event.number,
        "commandId": command_id,
        "name": str(LIFT + event.number),
        "accountId": order.extra["account_id"],
        "contractId": contract.id,
        "timestamp": event.at,
        "tradeDate": trade_date(event.at),
        "orderId": int(order.broker_id),
        "execType": "Suspended" if suspended else _EXEC_TYPE[event.kind],
        "ordStatus": ORD_STATUS[event.state],
        "action": order.side.capitalize(),
        "cumQty": done,
        "exchangeOrderId": str(LIFT + int(order.broker_id)),
    }
    if average is not None:
        entity["avgPx"] = average
    if event.kind == "trade":
        entity |= {"lastQty": event.quantity, "lastPx": event.price}
    if event.kind == "rejected":
        entity |= {"rejectReason": "OtherExecutionRelated", "text": event.text}
    return entity


def fill_entity(fill: Fill) -> Entity:
    contract: Contract = fill.order.extra["contract"]
    return {
        "id": LIFT + fill.number,
        "orderId": int(fill.order.broker_id),
        "contractId": contract.id,
        "timestamp": fill.at,
        "tradeDate": trade_date(fill.at),
        "action": fill.order.side.capitalize(),
        "qty": fill.quantity,
        "price": fill.price,
        "active": True,
        "finallyPaired": 0,
        "external": False,
    }


def position_entity(position: Position, account_id: int) -> Entity:
    contract: Contract = position.extra["contract"]
    entity: Entity = {
        "id": LIFT + position.number,
        "accountId": account_id,
        "contractId": contract.id,
        "timestamp": position.at,
        "tradeDate": trade_date(position.at),
        "netPos": position.net,
        "bought": position.bought,
        "boughtValue": position.bought_value,
        "sold": position.sold,
        "soldValue": position.sold_value,
        "prevPos": 0,
    }
    if position.net:
        entity["netPrice"] = position.price
    return entity


def account_entity(number: int, name: str) -> Entity:
    return {
        "id": number,
        "name": name,
        "userId": USER_ID,
        "accountType": "Customer",
        "active": True,
        "clearingHouseId": 2,
        "riskCategoryId": 16,
        "autoLiqProfileId": 7,
        "marginAccountType": "Speculator",
        "legalStatus": "Individual",
        "timestamp": "2026-01-01T00:00:00.000Z",
        "readonly": False,
    }


def product_entity(product: Product) -> Entity:
    digits = -min(0, int(product.tick.normalize().as_tuple().exponent))
    return {
        "id": product.id,
        "name": product.root,
        "currencyId": 1,
        "productType": "Futures",
        "description": product.description,
        "exchangeId": 2,
        "contractGroupId": 2,
        "riskDiscountContractGroupId": 1,
        "status": "Verified",
        "months": product.months,
        "isSecured": False,
        "valuePerPoint": product.point_value,
        "priceFormatType": "Decimal",
        "priceFormat": -digits,
        "tickSize": product.tick,
    }


def contract_entity(contract: Contract) -> Entity:
    return {
        "id": contract.id,
        "name": contract.tradovate,
        "contractMaturityId": contract.maturity_id,
        "status": "DefinitionChecked",
        "providerTickSize": contract.product.tick,
    }


def maturity_entity(contract: Contract) -> Entity:
    """`expirationMonth` is YYYYMM in real data."""
    return {
        "id": contract.maturity_id,
        "productId": contract.product.id,
        "expirationMonth": contract.year * 100 + contract.month,
        "expirationDate": f"{contract.expiry.isoformat()}T21:30Z",
        "archived": False,
        "seqNo": contract.year % 100 * 12 + contract.month,
        "isFront": contract == front(contract.product),
    }


def trade_date(at: str) -> Entity:
    """The exchange's day: it begins at 22:00 UTC of the day before."""
    moment = datetime.fromisoformat(at).astimezone(UTC) + timedelta(hours=2)
    return {"year": moment.year, "month": moment.month, "day": moment.day}


def _number(value: Any) -> int:
    """An id from a query; -1, which nothing has, where it is none."""
    try:
        return int(str(value))
    except ValueError:
        return -1
