"""What happened: alerts, orders, and what waits for a person, newest first and by index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from bridge.ledger.connection import away
from bridge.ledger.keys import key
from bridge.ledger.lanes import Lanes
from bridge.numbers import load_own_json
from bridge.views import alert_view, calls_view, legs_view, order_view


class History(Lanes):
    """The part of the ledger that people and scripts read."""

    def waiting_count(self, accounts: Iterable[str]) -> int:
        """How many orders wait for a person."""
        with away():
            return sum(int(self._redis.zcard(key(account, "waiting"))) for account in accounts)

    def orders(self, *, limit: int | None = 100, waiting: bool = False) -> list[dict[str, Any]]:
        """Orders, newest first, as `bridge orders --json` prints them."""
        return [self._order_view(account, each) for account, each in
                self._newest("waiting" if waiting else "orders", limit)]

    def order(self, order: str) -> dict[str, Any] | None:
        """One order with its legs and its calls with their replies; None when there is none."""
        with away():
            for account in self.accounts():
                if not self._redis.exists(key(account, "order", order)):
                    continue
                pipe = self._redis.pipeline(transaction=True)  # one moment: the state fits the calls
                pipe.hgetall(key(account, "order", order))
                pipe.lrange(key(account, "history", order), 0, -1)
                pipe.lrange(key(account, "calls", order), 0, -1)
                pipe.lrange(key(account, "late", order), 0, -1)
                values, history, records, late = pipe.execute()
                return {**order_view(values, history), "legs": legs_view(values),
                        "order": load_own_json(values["order"]), "calls": [*calls_view(records), *({**each, "late": True} for each in calls_view(late))]}
        return None

    def alerts(self, *, limit: int | None = 100) -> list[dict[str, Any]]:
        """Alerts, newest first, as `bridge alerts --json` prints them."""
        found = []
        for account, each in self._newest("alerts", limit):
            with away():
                values = cast("dict[str, str]", self._redis.hgetall(key(account, "alert", each)))
            if values:
                found.append(alert_view(each, values))
        return found

    def _newest(self, index: str, limit: int | None) -> Iterator[tuple[str, str]]:
        with away():
            found = [(score, account, each) for account in self.accounts()
                     for each, score in cast("list[tuple[str, float]]", self._redis.zrange(
                         key(account, index), 0, -1 if limit is None else limit - 1, desc=True, withscores=True))]
        found.sort(reverse=True)
        yield from ((account, each) for _, account, each in found[:limit])

    def _order_view(self, account: str, order: str) -> dict[str, Any]:
        with away():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hgetall(key(account, "order", order))
            pipe.lrange(key(account, "history", order), 0, -1)
            values, history = pipe.execute()
        return order_view(values, history)
