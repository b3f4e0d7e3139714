"""What all workers share of a log-in: its token, its waits and who may log in."""

from __future__ import annotations

from typing import cast

from bridge.ledger.connection import Connection, away
from bridge.ledger.keys import login_key


class Logins(Connection):
    """The session's part of the ledger."""

    def token(self, login: str) -> str | None:
        """The log-in's token as it was stored (encrypted by the session), or None."""
        with away():
            return cast("str | None", self._redis.get(login_key(login, "token")))

    def store_token(self, login: str, sealed: str, keep_ms: int) -> None:
        """Share a token with all workers."""
        with away():
            self._redis.set(login_key(login, "token"), sealed, px=max(1, keep_ms))

    def drop_token(self, login: str, sealed: str) -> None:
        """Forget a token that is dead, unless another has been stored meanwhile."""
        with away():
            if self._redis.get(login_key(login, "token")) == sealed:
                self._redis.delete(login_key(login, "token"))

    def lock_login(self, login: str, owner: str, ms: int) -> bool:
        """Whether this owner may log in now; others wait for the token."""
        return bool(self._run("login_lock", login_key(login, "lock"), [owner, ms]))

    def unlock_login(self, login: str, owner: str) -> None:
        """Let others log in."""
        with away():
            if self._redis.get(login_key(login, "lock")) == owner:
                self._redis.delete(login_key(login, "lock"))

    def hold_login(self, login: str, reason: str, ms: int) -> None:
        """Everything for this log-in waits, in every worker."""
        with away():
            self._redis.set(login_key(login, "hold"), reason, px=max(1, ms))

    def login_hold(self, login: str) -> tuple[str, int] | None:
        """(reason, ms left) while everything for this log-in waits."""
        with away():
            pipe = self._redis.pipeline(transaction=False)
            pipe.get(login_key(login, "hold"))
            pipe.pttl(login_key(login, "hold"))
            reason, left = pipe.execute()
        return (reason, left) if reason and left > 0 else None
