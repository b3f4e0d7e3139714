"""How many requests a log-in may make: one bucket for all workers, in the ledger."""

from __future__ import annotations

from bridge.ledger import Ledger
from bridge.work import Budget


class Allowance:
    """The request budget of one log-in. Without figures nothing is asked of the ledger and nothing waits.

    In any `w` seconds at most burst + rate · w requests pass, over all workers together; the rate is the tighter one of
    `per_second` and `per_minute`.
    """

    def __init__(self, budget: Budget, ledger: Ledger, login: str) -> None:
        rates = [rate for rate in (budget.per_second, budget.per_minute and budget.per_minute / 60) if rate]
        self._rate = min(rates, default=None)
        self._size = max(1.0, float(budget.burst or budget.per_second or 1))
        self._ledger, self._login = ledger, login

    def take(self, who: str, *, first: bool = False, spare: bool = False) -> float:
        """Take one request; returns the seconds to wait instead when there is none.

        `first`: an exit asks. When it has to wait, nothing else gets a request before it has come back (`who` tells it
        from others). `spare`: only while half of the bucket would be left.
        """
        if self._rate is None:
            return 0.0
        left_over = min(self._size / 2, self._size - 1) if spare else 0.0
        return self._ledger.take_request(self._login, self._rate, self._size, who, exit_=first, spare=left_over) / 1000
