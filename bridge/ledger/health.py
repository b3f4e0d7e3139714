"""What `bridge doctor` reads of the ledger: its servers, the lanes' leases, and whether what stands in them is whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from bridge.errors import DamagedRecord
from bridge.ledger.connection import ServerFacts, away
from bridge.ledger.history import History
from bridge.ledger.keys import key
from bridge.ledger.lanes import Lanes

__all__ = ["Health", "LaneFacts", "ServerFacts"]

_LOOK_AT = 1000


@dataclass(frozen=True, slots=True)
class LaneFacts:
    """A lane: how many orders stand in it, how many wait for a person, and its lease.

    `owned_ms`: how long the owner's lease lasts yet; negative: since when it has ended; None: nobody owns it.
    """

    account: str
    length: int
    waiting: int
    owned_ms: int | None
    damaged: tuple[str, ...] = ()


class Health(History, Lanes):
    """A connection to the ledger for looking only: it changes nothing of an order."""

    def lanes(self) -> list[LaneFacts]:
        """Every lane that there is. Raises LedgerAway."""
        return [self._lane(account) for account in self.accounts()]

    def _lane(self, account: str) -> LaneFacts:
        with away():
            owner, until = cast("list[str | None]", self._redis.hmget(key(account, "lease"), ["owner", "until"]))
            length = int(self._redis.xlen(key(account, "lane")))
        owned = int(until or 0) - self.lane_clock(account) if owner else None
        return LaneFacts(account, length, self.waiting_count([account]), owned, self._damaged(account))

    def _damaged(self, account: str) -> tuple[str, ...]:
        """The orders that stand in the lane, or are open, and are not what was written (the first thousand are read), and
        those that wait though the lane does not name them."""
        with away():
            open_ones = cast("list[str]", self._redis.zrange(key(account, "open"), 0, _LOOK_AT - 1))
        found = []
        for order in dict.fromkeys([*(order for _, order in self.lane(account, count=_LOOK_AT)), *open_ones]):
            try:
                self.load(account, order)
            except (DamagedRecord, ValueError, KeyError, TypeError):
                found.append(order)
        return tuple(dict.fromkeys([*found, *self.astray(account)]))
