"""What all workers share of a log-in: its token, its budget, its waits, and who may log in how often."""

from __future__ import annotations

from typing import cast

from bridge.ledger.connection import Connection, away
from bridge.ledger.keys import login_key


class Logins(Connection):
    """The session's part of the ledger."""

    def token(self, login: str) -> str | None:
        """The log-in's token as it was stored (encrypted by the session), or None."""
        return self._sealed(login, "token")

    def store_token(self, login: str, sealed: str, keep_ms: int) -> None:
        """Share a token with all workers."""
        self._store(login, "token", sealed, keep_ms)

    def drop_token(self, login: str, sealed: str) -> None:
        """Forget a token that is dead, unless another has been stored meanwhile."""
        self._run("forget", login_key(login, "token"), [sealed])

    def log_in_ticket(self, login: str) -> str | None:
        """What the broker wants to see when the log-in is made again (encrypted by the session), or None."""
        return self._sealed(login, "ticket")

    def store_log_in_ticket(self, login: str, sealed: str, keep_ms: int) -> None:
        """Whoever logs in next shows this to the broker."""
        self._store(login, "ticket", sealed, keep_ms)

    def ticket(self, login: str, call: str) -> tuple[str, int] | None:
        """(what the broker wants to see when this call is made again, sealed by the session, ms that it is kept), or None."""
        return self._timed(login, f"ticket:{call}")

    def store_ticket(self, login: str, call: str, sealed: str, keep_ms: int) -> None:
        """Whoever makes this call (its digest) again shows this to the broker."""
        self._store(login, f"ticket:{call}", sealed, keep_ms)

    def drop_ticket(self, login: str, call: str) -> None:
        """The broker has seen this call's ticket."""
        with away():
            self._redis.delete(login_key(login, f"ticket:{call}"))

    def lock_login(self, login: str, owner: str, ms: int) -> bool:
        """Whether this owner may log in now, or go on doing so; others wait for the token."""
        return bool(self._run("login_lock", login_key(login, "lock"), [owner, ms]))

    def unlock_login(self, login: str, owner: str) -> None:
        """Let others log in."""
        self._run("forget", login_key(login, "lock"), [owner])

    def count_log_in(self, login: str, name: str, most: int, within_ms: int) -> int:
        """Count a log-in that is about to be made: 0, or the ms to wait when there were `most` (≥ 1) within this time."""
        return int(self._run("count_login", login_key(login, "logins"), [name, most, within_ms]))

    def uncount_log_in(self, login: str, name: str) -> None:
        """A log-in that was counted has certainly not left."""
        with away():
            self._redis.zrem(login_key(login, "logins"), name)

    def take_request(self, login: str, per_second: float, size: float, who: str, *, exit_: bool, spare: float) -> int:
        """Take one request from the log-in's budget: 0, or the ms after which to ask again.

        An exit that has to wait is served before everything else; `spare` requests have to be left over.
        """
        return int(self._run("budget", login_key(login, "budget"), [repr(per_second), repr(size), who, int(exit_), spare]))

    def hold_login(self, login: str, reason: str, ms: int) -> None:
        """Everything for this log-in waits, in every worker; a longer wait that it is in already stays."""
        self._run("hold", login_key(login, "hold"), [reason, max(1, ms)])

    def login_hold(self, login: str) -> tuple[str, int] | None:
        """(reason, ms left) while everything for this log-in waits."""
        return self._timed(login, "hold")

    def tell_once(self, login: str, what: str, every_ms: int) -> bool:
        """Whether it is this worker that tells a person of `what` now; none does again for this long."""
        with away():
            return bool(self._redis.set(login_key(login, f"told:{what}"), "1", px=every_ms, nx=True))

    def _sealed(self, login: str, what: str) -> str | None:
        with away():
            return cast("str | None", self._redis.get(login_key(login, what)))

    def _timed(self, login: str, what: str) -> tuple[str, int] | None:
        with away():
            pipe = self._redis.pipeline(transaction=False)
            pipe.get(login_key(login, what))
            pipe.pttl(login_key(login, what))
            text, left = pipe.execute()
        return (text, left) if text and left > 0 else None

    def _store(self, login: str, what: str, text: str, keep_ms: int) -> None:
        self._run("store", login_key(login, what), [text, max(1, keep_ms)])
