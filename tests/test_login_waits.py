"""Log-ins that many use: the longest wait counts, one limit counts once, and the last log-ins are kept for orders."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import redis
import structlog

import bridge.session
from bridge.broker import Broker
from bridge.call import Call, Hold, LogIn, LoginRefused, Reply, Token
from bridge.errors import LedgerAway
from bridge.ledger import Ledger
from bridge.session import Held, Login, Session
from bridge.work import Account, Budget
from tests.rig import ToyBroker, ToyServer, toy_account

SECRET = "a-test-secret-0123456789"


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger keeps the configuration of its first use, which may have been another test's."""
    monkeypatch.setattr("bridge.session.log", structlog.get_logger("bridge.session"))


@pytest.fixture
def account(server: ToyServer) -> Account:
    return toy_account(server.url)


class Clock:
    """Stands in for both clocks of the session."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0.0
        monkeypatch.setattr(bridge.session, "monotonic", lambda: time.monotonic() + self.ahead_s)
        monkeypatch.setattr(bridge.session, "epoch", lambda: time.time() + self.ahead_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def place(account: Account, order: str = "o1") -> Call:
    return Call(operation="place", method="POST", url=f"{account.rest_url}/place", step="entry", write=True,
                body={"id": order})


def look(account: Account) -> Call:
    return replace(place(account, "look"), operation="look", write=False)


@contextmanager
def session_of(ledger: Ledger, account: Account, broker: Broker | None = None) -> Iterator[Session]:
    """A lane of a worker of its own: no other object shares its log-in."""
    found = Session(account, Login(broker or ToyBroker(), account, ledger, SECRET), 2.0)
    try:
        yield found
    finally:
        found.close()


def left_s(ledger: Ledger, login: str) -> float:
    found = ledger.login_hold(login)
    return found[1] / 1000 if found else 0.0


# -- the longest wait counts -------------------------------------------------------------------------------------------


def test_a_shorter_wait_never_ends_an_hours_wait_in_any_worker(ledger: Ledger, account: Account, redis_url: str) -> None:
    one = Login(ToyBroker(), account, ledger, SECRET)
    other = Login(ToyBroker(), account, Ledger(redis_url), SECRET)

    one.wait("a captcha", 3600)
    assert one.wait("a short limit", 1) > 3590
    assert other.wait("a short limit", 1) == 1, "it has not looked yet, and says so with its own wait"

    for login in (one, other):
        login._looked_at = 0.0
        held = login.hold()
        assert held is not None and held.wait_s > 3590 and held.reason == "a captcha"
    assert left_s(ledger, account.login) > 3590


def test_a_longer_wait_takes_the_place_of_a_shorter_one(ledger: Ledger, account: Account) -> None:
    login = Login(ToyBroker(), account, ledger, SECRET)
    login.wait("a short limit", 1)
    login.wait("a captcha", 3600)

    held = login.hold()
    assert held is not None and held.wait_s > 3590 and held.reason == "a captcha"
    assert left_s(ledger, account.login) > 3590


def test_waits_and_tokens_are_kept_when_memory_is_short(ledger: Ledger, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.config_set("maxmemory", "1")
        try:
            with pytest.raises(redis.ResponseError):
                server.set("plain", "1")
            ledger.hold_login("L", "a captcha", 3_600_000)
            ledger.store_token("L", "sealed", 60_000)
        finally:
            server.config_set("maxmemory", "0")

    assert left_s(ledger, "L") > 3590 and ledger.token("L") == "sealed"


# -- one limit counts once ---------------------------------------------------------------------------------------------


class Growing(ToyBroker):
    """Its limit doubles the wait."""

    def nothing_done(self, call: Call, reply: Reply) -> Hold | None:
        if reply.status == 429:
            return Hold(reason="limit", wait_s=60, whole_login=True, grows=True)
        return super().nothing_done(call, reply)


def test_one_limit_that_answers_everything_in_flight_doubles_nothing(ledger: Ledger, server: ToyServer,
                                                                     account: Account) -> None:
    shared = Login(Growing(), account, ledger, SECRET)
    sessions = [Session(replace(account, name=f"a{number}"), shared, 5.0) for number in range(8)]
    assert isinstance(shared.token(account, sessions[0]._transport), Token)
    all_there = threading.Barrier(8, timeout=5)

    def limited() -> tuple[int, dict[str, str]]:
        all_there.wait()
        return 429, {}

    server.script.extend([limited] * 8)
    threads = [threading.Thread(target=each.send, args=(place(account, each.account.name),)) for each in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    for each in sessions:
        each.close()

    assert len(server.sent()) == 8
    assert 55 < left_s(ledger, account.login) <= 60


def test_a_limit_that_is_met_again_after_its_wait_doubles_it_until_something_succeeds(ledger: Ledger, account: Account,
                                                                                      clock: Clock) -> None:
    login = Login(Growing(), account, ledger, SECRET)
    waits = []
    for _ in range(8):
        waits.append(round(login.wait("limit", 60, grows=True)))
        login.succeeded()  # what had left before the wait began
        clock.ahead_s += waits[-1] + 1
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]

    login.succeeded()
    assert round(login.wait("limit", 60, grows=True)) == 60


def test_a_wait_grows_neither_without_end_nor_below_what_the_broker_asked_for(ledger: Ledger, account: Account,
                                                                              clock: Clock) -> None:
    login = Login(Growing(), account, ledger, SECRET)
    login._strikes = 1100  # of as many hours: 2 to this power is no number of seconds any more
    assert 3590 < login.wait("limit", 60.0, grows=True) <= 3601

    clock.ahead_s += 3601
    assert login.wait("limit for the day", 86_400, grows=True) > 86_390


# -- the last log-ins of an hour ---------------------------------------------------------------------------------------


class FourAnHour(ToyBroker):
    """Locks the user when he logs in too often."""

    most_log_ins_per_hour = 4
    log_in_operations = frozenset({"login"})

    def warm(self, account: Account) -> Call | None:
        return replace(look(account), url=account.rest_url.replace("http:", "https:") + "/warm")


class Kicked(ToyServer):
    """Something else logs in as the same user all the time: each token is dead after its log-in."""

    kicking = True

    def _act(self, handler: object, word: object, body: object) -> None:
        super()._act(handler, (401, {}) if self.kicking else word, body)


@pytest.fixture
def kicked() -> Iterator[Kicked]:
    server = Kicked()
    yield server
    server.close()


def test_what_can_wait_leaves_the_last_two_log_ins_of_an_hour_to_orders(ledger: Ledger, kicked: Kicked) -> None:
    account = toy_account(kicked.url)
    with session_of(ledger, account, FourAnHour()) as session:
        for _ in range(6):
            held = session.send(look(account), patient=True)
        assert kicked.logins == 2 and len(kicked.sent()) == 3, "the dead token is tried once more, then nothing is asked"
        assert isinstance(held, Held) and not held.person and "kept for orders" in held.reason
        assert held.wait_s <= 60, "it sees soon that an order has logged in"

        kicked.kicking = False
        closed = session.send(place(account, "the close"), first=True)

    assert isinstance(closed, Reply) and closed.status == 200 and kicked.logins == 3


def test_keeping_warm_leaves_them_too(ledger: Ledger, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        ledger.count_log_in(account.login, name, 4, 3_600_000)
    with session_of(ledger, account, FourAnHour()) as session:
        session.keep_warm()
        assert session._warm_failures == 1
        assert ledger.token(account.login) is None

        assert isinstance(session.send(place(account)), Reply)


def test_what_can_wait_takes_no_request_of_the_budget_for_a_log_in_that_it_may_not_make(ledger: Ledger,
                                                                                        server: ToyServer) -> None:
    account = toy_account(server.url, budget=Budget(per_minute=1, burst=2))
    for name in ("one", "two"):
        ledger.count_log_in(account.login, name, 4, 3_600_000)
    with session_of(ledger, account, FourAnHour()) as session:
        for _ in range(5):
            assert isinstance(session.send(look(account), patient=True), Held)

        assert isinstance(session.send(place(account)), Reply), "a log-in and an order: all that the budget holds"


def test_a_log_in_that_the_budget_put_off_does_not_count(ledger: Ledger, server: ToyServer,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.session, "_PATIENCE_S", 0.0)
    account = toy_account(server.url, budget=Budget(per_minute=1, burst=1))
    with session_of(ledger, account, FourAnHour()) as session:
        session.login.allowance.take("another")
        for _ in range(6):
            held = session.send(place(account))

    assert isinstance(held, Held) and held.ours
    assert ledger.count_log_in(account.login, "first", 1, 3_600_000) == 0


def test_the_wait_for_fewer_log_ins_lasts_until_so_many_are_past(ledger: Ledger, redis_url: str) -> None:
    now = time.time() * 1000
    redis.Redis.from_url(redis_url).zadd("bridge:{login:L}:logins", {
        name: now - minutes * 60_000 for name, minutes in (("a", 50), ("b", 40), ("c", 30), ("d", 20))})

    assert ledger.count_log_in("L", "order", 4, 3_600_000) == pytest.approx(10 * 60_000, abs=2000)
    assert ledger.count_log_in("L", "patient", 2, 3_600_000) == pytest.approx(30 * 60_000, abs=2000)


# -- renewals ------------------------------------------------------------------------------------------------------------


class ShortTokens(ToyBroker):
    """Its tokens end `lasts_s` after they were made, by this machine's clock."""

    def __init__(self, lasts_s: float) -> None:
        self.lasts_s = lasts_s

    def log_in(self, account: Account, now: float, token: Token | None) -> LogIn:
        reply = yield Call(operation="login", method="POST", url=f"{account.rest_url}/login", step="login", write=False)
        return Token(value=str(reply.json["token"]), expires_at=now + self.lasts_s)


@pytest.mark.parametrize("lasts_s", [600, 920, -3600])
def test_a_token_that_ends_soon_is_not_renewed_with_every_call(ledger: Ledger, server: ToyServer, account: Account,
                                                               redis_url: str, clock: Clock, lasts_s: float) -> None:
    broker = ShortTokens(lasts_s)
    with session_of(ledger, account, broker) as one, session_of(Ledger(redis_url), account, broker) as two, \
            structlog.testing.capture_logs() as logs:
        for number in range(3):
            for session in (one, two):
                assert isinstance(session.send(place(account, f"o{number}")), Reply)
        assert server.logins == 1

        for number in range(15):  # half an hour
            clock.ahead_s += 120
            for session in (one, two):
                assert isinstance(session.send(place(account, f"p{number}")), Reply)

    assert 2 <= server.logins <= 7, "at most once in five minutes"
    warnings = [each for each in logs if "check the clock" in each["event"]]
    assert len(warnings) == (lasts_s < 900) and all(each["log_level"] == "warning" for each in warnings)


class RefusesRenewals(ToyBroker):
    """Lets in who has no token, and renews none for two minutes."""

    def log_in(self, account: Account, now: float, token: Token | None) -> LogIn:
        reply = yield Call(operation="login", method="POST", url=f"{account.rest_url}/login", step="login", write=False)
        if token is not None:
            return LoginRefused(reason="not now", wait_s=120)
        return Token(value=str(reply.json["token"]), expires_at=now + 5400)


def test_a_renewal_that_is_put_off_while_the_old_token_works_troubles_nobody(ledger: Ledger, server: ToyServer,
                                                                             account: Account, redis_url: str,
                                                                             clock: Clock) -> None:
    with session_of(ledger, account, RefusesRenewals()) as session, structlog.testing.capture_logs() as logs:
        assert isinstance(session.send(place(account, "o1")), Reply)
        clock.ahead_s += 5400 - 600
        for name in ("o2", "o3"):
            assert isinstance(session.send(place(account, name)), Reply)
        with session_of(Ledger(redis_url), account, RefusesRenewals()) as restarted:
            assert isinstance(restarted.send(place(account, "o4")), Reply), "the shared token works for it, too"
        clock.ahead_s += 500  # the token ends before a renewal may be tried again
        redis.Redis.from_url(redis_url).delete(f"bridge:{{login:{session.login._refused_name}}}:hold")
        assert isinstance(session.send(place(account, "o5")), Reply)

    assert [each["log_level"] for each in logs] == ["warning", "error"] and server.logins == 3


# -- penalty tickets of orders -----------------------------------------------------------------------------------------


def test_a_penalty_ticket_of_an_order_outlives_the_worker_and_is_shown_once_after_its_time(
        ledger: Ledger, server: ToyServer, account: Account, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server.script.append((200, {"ticket": "secret-leak-me"}))
    with session_of(ledger, account) as one:
        assert isinstance(one.send(place(account)), Held)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client, \
            session_of(Ledger(redis_url), account) as two:
        kept = client.keys(f"bridge:{{login:{account.login}}}:ticket:*")
        assert len(kept) == 1 and "leak-me" not in client.get(kept[0])
        assert client.pttl(kept[0]) > 3_590_000
        early = two.send(place(account))
        assert isinstance(early, Held) and 0 < early.wait_s <= 0.1 and len(server.sent()) == 1
        assert isinstance(two.send(place(account, "another order")), Reply)

        client.pexpire(kept[0], 3_600_000)  # its time has come
        assert isinstance(two.send(place(account)), Reply)
        assert server.sent()[1:] == [{"id": "another order"}, {"id": "o1", "ticket": "secret-leak-me"}]
        assert not client.exists(kept[0])


def test_a_ledger_that_goes_away_after_a_ticket_was_shown_takes_no_reply_back(
        ledger: Ledger, server: ToyServer, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object) -> None:
        raise LedgerAway("gone")

    server.script.append((200, {"ticket": "T"}))
    with session_of(ledger, account) as session:
        assert isinstance(session.send(place(account)), Held)
        monkeypatch.setattr(ledger, "drop_ticket", away)
        assert isinstance(session.send(place(account)), Reply)

    assert server.sent() == [{"id": "o1"}, {"id": "o1", "ticket": "T"}]


def test_a_ticket_that_the_ledger_cannot_take_is_shown_by_the_worker_that_got_it(
        ledger: Ledger, server: ToyServer, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object) -> None:
        raise LedgerAway("gone")

    monkeypatch.setattr(ledger, "store_ticket", away)
    server.script.append((200, {"ticket": "T"}))
    with session_of(ledger, account) as session:
        held = session.send(place(account))
        assert isinstance(held, Held) and held.reason == "penalty" and held.reply is not None
        assert isinstance(session.send(place(account)), Reply)

    assert server.sent()[-1] == {"id": "o1", "ticket": "T"}
