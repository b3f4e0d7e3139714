"""What the three brokers have in common: a book, settings for where the sources disagree, and faults to act out."""

from __future__ import annotations

from typing import Any

from .book import Book, Order
from .faults import Armed
from .wire import Record, Reply, Request


class BadBehaviour(ValueError):
    """A setting that the broker does not have, or a value that it does not take."""


class Broker:
    """One broker's API. `operation` names a request, `execute` does it, `misbehave` says what a fault answers."""

    name = ""
    operations: tuple[str, ...] = ()
    # setting → allowed values, the first is the default; `int` allows every whole number from 0
    settings: dict[str, tuple[Any, ...] | type[int]] = {}

    def __init__(self, book: Book) -> None:
        self.book = book
        self.doomed = False  # the next order is accepted and then rejected (fault `reject_later`)
        self.behaviour: dict[str, Any] = {}
        self.default_behaviour()

    def operation(self, request: Request) -> str:
        raise NotImplementedError

    def execute(self, request: Request, record: Record) -> Reply:
        raise NotImplementedError

    def misbehave(self, fault: Armed, request: Request, operation: str) -> Reply:
        """The reply of `reject`, `rate_limit`, `penalty_ticket`, `expired_token`, `http_500_after`, `http_408_*`."""
        raise NotImplementedError

    def holds_ticket(self, request: Request) -> bool:
        return False

    def reset(self, *, tokens: bool) -> None:
        """Forget what is not in the book."""

    def default_behaviour(self) -> None:
        self.behaviour.clear()
        for name, allowed in self.settings.items():
            self.behaviour[name] = 0 if isinstance(allowed, type) else allowed[0]

    def behave(self, changes: dict[str, Any]) -> None:
        """Change settings, all or none; raises `BadBehaviour`."""
        for name, value in changes.items():
            allowed = self.settings.get(name)
            if allowed is None:
                raise BadBehaviour(f"{self.name} has no setting {name!r}; it has {', '.join(self.settings) or 'none'}")
            if isinstance(allowed, type):
                if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                    raise BadBehaviour(f"{name} must be a whole number, 0 or more")
            elif not any(value is option or (value == option and type(value) is type(option)) for option in allowed):
                raise BadBehaviour(f"{name} must be one of {list(allowed)}")
        self.behaviour.update(changes)

    def submit(self, order: Order, *, suspended: bool = False) -> None:
        """Put an order into the book, or through it as rejected when it is doomed."""
        if self.doomed:
            self.book.reject(order, "rejected by the exchange")
        else:
            self.book.add(order, suspended=suspended)
