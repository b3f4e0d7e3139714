"""What happened: alerts, orders, and what waits for a person, newest first and by index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from bridge.ledger.connection import away
from bridge.ledger.keys import key
from bridge.ledger.lanes import Lanes
from bridge.numbers import load_own_json
from bridge.views import alert_view, calls_view, legs_view, order_view, replay_view, sent_view

_AT_ONCE = 200
"""Alerts that are read together: few trips, and little in memory."""


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

    def stored_alert(self, alert: str) -> dict[str, Any] | None:
        """One alert as `stored_alerts` gives it; None when there is none."""
        for account in self.accounts():
            if found := self._stored([(account, alert)], ""):
                return found[0]
        return None

    def stored_alerts(self, *, since_ms: int = 0, until_ms: int | None = None, template: str = "",
                      limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Alerts that were received in this time, newest first, to be replayed.

        Each as `bridge alerts --json` has it, its orders with what was decided `at_receipt`, `state`, `reason`, `order`,
        `broker`, `dry_run` and the `calls` on record.
        """
        until = "+inf" if until_ms is None else str(until_ms * 1000 + 999)
        with away():
            index = [(score, account, each) for account in self.accounts()
                     for each, score in cast("list[tuple[str, float]]", self._redis.zrangebyscore(
                         key(account, "alerts"), str(since_ms * 1000), until, withscores=True))]
        index.sort(reverse=True)
        left = len(index) if limit is None else limit
        for start in range(0, len(index), _AT_ONCE):
            for each in self._stored([(account, alert) for _, account, alert in index[start:start + _AT_ONCE]], template):
                if left <= 0:
                    return
                left -= 1
                yield each

    def _stored(self, places: Sequence[tuple[str, str]], template: str) -> list[dict[str, Any]]:
        """These alerts with their orders, in two trips to the server."""
        with away():
            pipe = self._redis.pipeline(transaction=False)
            for account, alert in places:
                pipe.hgetall(key(account, "alert", alert))
            alerts = [replay_view(alert, values) for (_, alert), values in zip(places, pipe.execute(), strict=True)
                      if values and template in ("", values.get("template"))]
            pipe = self._redis.pipeline(transaction=False)
            for order in (order for each in alerts for order in each["orders"]):
                pipe.hgetall(key(order["account"], "order", order["id"]))
                pipe.lrange(key(order["account"], "calls", order["id"]), 0, -1)
            found = iter(pipe.execute())
        for each in alerts:
            each["orders"] = [view for order in each["orders"]
                              if (view := sent_view(order, next(found), next(found))) is not None]
        return alerts

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
