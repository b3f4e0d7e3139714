"""Log-ins: one budget, one token owner, one guard for all workers; and connections that are warm when an order comes."""

from __future__ import annotations

import http.server
import ipaddress
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import bridge.session
import bridge.transport
from bridge.broker import Broker
from bridge.call import Call, Hold, LogIn, LoginRefused, Reply, Token
from bridge.errors import LedgerAway
from bridge.ledger import Ledger
from bridge.session import Held, Login, Session
from bridge.work import Account, Budget
from tests.rig import ToyBroker, ToyServer, toy_account, wait_for

SECRET = "a-test-secret-0123456789"
ONE_EVERY_FIVE_S = Budget(per_minute=12, burst=1)


def place(account: Account, order: str = "o1") -> Call:
    return Call(operation="place", method="POST", url=f"{account.rest_url}/place", step="entry", write=True,
                body={"id": order})


@contextmanager
def session_of(ledger: Ledger, account: Account, broker: Broker | None = None) -> Iterator[Session]:
    """A lane of a worker of its own: no other object shares its log-in."""
    found = Session(account, Login(broker or ToyBroker(), account, ledger, SECRET), 2.0)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger keeps the configuration of its first use, which may have been another test's."""
    monkeypatch.setattr("bridge.session.log", structlog.get_logger("bridge.session"))


@pytest.fixture
def account(server: ToyServer) -> Account:
    return toy_account(server.url)


class LoginServer(ToyServer):
    """Answers the log-ins as scripted: (status, body); then with a token. Takes no order with a dead one."""

    def __init__(self) -> None:
        super().__init__()
        self.log_in_script: list[tuple[int, dict[str, Any]]] = []
        self.dead: set[str] = set()

    def _act(self, handler: Any, word: Any, body: Any) -> None:
        super()._act(handler, (401, {}) if handler.headers["Authorization"] in self.dead else word, body)

    def _say(self, handler: Any, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        if handler.path == "/login" and self.log_in_script:
            status, body = self.log_in_script.pop(0)
        super()._say(handler, status, body, headers)


@pytest.fixture
def strict() -> Iterator[LoginServer]:
    server = LoginServer()
    yield server
    server.close()


class Arrivals:
    """When the orders reached the broker."""

    def __init__(self, server: ToyServer) -> None:
        self.times: list[float] = []
        server.script.extend([self._note] * 10_000)

    def _note(self) -> str:
        self.times.append(time.monotonic())
        return "ok"


def send_until(session: Session, stop: Callable[[], bool], name: str) -> None:
    """Order after order, as fast as the budget lets them, each repeated as a lane would."""
    pause, number = threading.Event(), 0
    while not stop():
        answer = session.send(place(session.account, f"{name}.{number}"))
        number += 1
        if isinstance(answer, Held):
            pause.wait(min(answer.wait_s, 0.2))


# -- the budget --------------------------------------------------------------------------------------------------------


def test_two_workers_share_one_budget_and_no_window_ever_sees_more(ledger: Ledger, server: ToyServer,
                                                                   redis_url: str) -> None:
    rate, burst = 20.0, 5
    account = toy_account(server.url, budget=Budget(per_second=rate, per_minute=60_000, burst=burst))
    other = Ledger(redis_url)
    ends_at = time.monotonic() + 1.5
    with session_of(ledger, account) as one, session_of(other, account) as two:
        for session in (one, two):  # logged in beforehand: what follows are orders alone
            assert isinstance(session.login.token(account, session._transport), Token)
        arrivals = Arrivals(server)
        threads = [threading.Thread(target=send_until, args=(session, lambda: time.monotonic() > ends_at, name))
                   for session, name in ((one, "a"), (two, "b"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    other.close()

    times = arrivals.times
    assert len(times) >= rate  # the budget is used, too
    slack = 2  # what was let go early may arrive a little later
    for i, begins in enumerate(times):
        for j in range(i, len(times)):
            assert j - i + 1 <= burst + rate * (times[j] - begins) + slack


def test_the_tighter_of_two_rates_holds(ledger: Ledger, server: ToyServer) -> None:
    account = toy_account(server.url, budget=Budget(per_second=1000, per_minute=12, burst=1))
    with session_of(ledger, account) as session:
        assert session.login.allowance.take("x") == 0
        assert 4.5 < session.login.allowance.take("x") <= 5


def test_without_a_budget_the_ledger_is_not_asked(ledger: Ledger, account: Account,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "take_request", None)
    with session_of(ledger, account) as session:
        assert isinstance(session.send(place(account)), Reply)


def test_an_exit_gets_the_next_request_though_entries_asked_before_and_after_it(
        ledger: Ledger, server: ToyServer, redis_url: str) -> None:
    account = toy_account(server.url, budget=Budget(per_second=5, burst=1))
    done = threading.Event()
    with session_of(ledger, account) as entries, session_of(Ledger(redis_url), account) as exits:
        wait_for(lambda: not isinstance(entries.send(place(account, "empties it")), Held))
        assert isinstance(exits.login.token(account, exits._transport), Token)
        thread = threading.Thread(target=send_until, args=(entries, done.is_set, "entry"))
        assert isinstance(exits.send(place(account, "exit"), first=True), Held)  # it found none, and is announced by that
        before = len(server.sent())
        thread.start()
        comes_back_at = time.monotonic() + 0.6  # in which time three entries would have been sent
        wait_for(lambda: time.monotonic() > comes_back_at)
        assert isinstance(exits.send(place(account, "exit"), first=True), Reply)
        after = [each["id"] for each in server.sent()][before:]
        wait_for(lambda: len(server.sent()) > before + 1)  # and then the entries go on
        done.set()
        thread.join(10)

    assert after[0] == "exit"


def test_each_waiting_exit_has_a_claim_of_its_own(ledger: Ledger) -> None:
    def ask(who: str, *, exit_: bool) -> int:
        return ledger.take_request("L", 1.0, 1.0, who, exit_=exit_, spare=0)

    assert ask("e", exit_=False) == 0
    assert ask("x1", exit_=True) > 0 and ask("x2", exit_=True) > 0
    refill(ledger, 1.0)
    assert ask("e", exit_=False) > 0, "two claims stand"
    assert ask("x1", exit_=True) == 0
    refill(ledger, 1.0)
    assert ask("e", exit_=False) > 0, "one claim is left"
    assert ask("x2", exit_=True) == 0
    refill(ledger, 1.0)
    assert ask("e", exit_=False) == 0


def test_a_claim_whose_exit_never_comes_back_falls(ledger: Ledger, redis_url: str) -> None:
    assert ledger.take_request("L", 100.0, 1.0, "e", exit_=False, spare=0) == 0
    ledger.take_request("L", 0.001, 1.0, "x", exit_=True, spare=0)
    refill(ledger, 1.0)
    assert ledger.take_request("L", 100.0, 1.0, "e", exit_=False, spare=0) > 0
    claims = "bridge:{login:L}:budget:claims"
    redis.Redis.from_url(redis_url).zadd(claims, {"x": time.time() * 1000 - 1})

    assert ledger.take_request("L", 100.0, 1.0, "e", exit_=False, spare=0) == 0


def refill(ledger: Ledger, left: float) -> None:
    ledger._redis.hset("bridge:{login:L}:budget", "left", str(left))


def test_a_clock_that_was_set_back_stops_the_budget_for_no_longer_than_usual(ledger: Ledger, redis_url: str) -> None:
    assert ledger.take_request("L", 50.0, 1.0, "e", exit_=False, spare=0) == 0
    redis.Redis.from_url(redis_url).hset("bridge:{login:L}:budget", "at", str(time.time() * 1000 + 3_600_000))

    assert 0 < ledger.take_request("L", 50.0, 1.0, "e", exit_=False, spare=0) <= 20
    wait_for(lambda: ledger.take_request("L", 50.0, 1.0, "e", exit_=False, spare=0) == 0, 2)


def test_a_ledger_that_is_away_is_no_fault_of_the_brokers(ledger: Ledger, server: ToyServer,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    account = toy_account(server.url, budget=ONE_EVERY_FIVE_S)

    def away(*args: Any, **more: Any) -> int:
        raise LedgerAway("gone")

    monkeypatch.setattr(ledger, "take_request", away)
    with session_of(ledger, account) as session:
        held = session.send(place(account))

    assert isinstance(held, Held) and held.ours and server.sent() == []


def test_a_log_in_takes_part_in_the_budget_and_goes_first(ledger: Ledger, server: ToyServer) -> None:
    account = toy_account(server.url, budget=ONE_EVERY_FIVE_S)
    with session_of(ledger, account) as session:
        held = session.send(place(account))

    assert isinstance(held, Held) and held.ours and held.wait_s > 4
    assert server.logins == 1 and server.sent() == []


# -- one owner of the token --------------------------------------------------------------------------------------------


def send_at_once(*sessions: Session) -> list[Reply]:
    """One order from each at the same time, repeated as a lane would; what the broker said in the end."""
    begin, answers = threading.Barrier(len(sessions)), []

    def work(session: Session) -> None:
        begin.wait()
        pause = threading.Event()
        while isinstance(answer := session.send(place(session.account)), Held):
            pause.wait(answer.wait_s)
        assert isinstance(answer, Reply)
        answers.append(answer)

    threads = [threading.Thread(target=work, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return answers


def test_two_workers_make_one_log_in(ledger: Ledger, server: ToyServer, account: Account, redis_url: str) -> None:
    with session_of(ledger, account) as one, session_of(Ledger(redis_url), account) as two:
        answers = send_at_once(one, two)

    assert server.logins == 1 and [each.status for each in answers] == [200, 200]


def test_a_kicked_token_is_renewed_once_and_forgotten_by_every_worker(ledger: Ledger, strict: LoginServer,
                                                                      redis_url: str) -> None:
    account = toy_account(strict.url)
    with session_of(ledger, account) as one, session_of(Ledger(redis_url), account) as two:
        for session in (one, two):
            assert isinstance(session.send(place(account)), Reply)
        assert strict.logins == 1
        strict.dead.add("t1")

        answers = send_at_once(one, two)

    assert strict.logins == 2 and [each.status for each in answers] == [200, 200]
    sent = [each["headers"]["Authorization"] for each in strict.requests if each["path"] == "/place"]
    assert sent.count("t1") <= 2 + 2, "each worker tries the dead token once and never again"


class UnsureBroker(ToyBroker):
    """A broker whose 408 may mean a dead token, or nothing but a slow moment."""

    def nothing_done(self, call: Call, reply: Reply) -> Hold | None:
        if reply.status == 408:
            return Hold(reason="perhaps a dead token", wait_s=0, renew=True, unsure=True)
        return super().nothing_done(call, reply)


@pytest.mark.parametrize(("said", "log_ins", "asked"), [(1, 1, 3), (2, 2, 4)])
def test_a_read_is_asked_once_more_before_a_log_in_is_spent_on_a_suspicion(ledger: Ledger, strict: LoginServer, said: int,
                                                                           log_ins: int, asked: int) -> None:
    account = toy_account(strict.url)
    with session_of(ledger, account, UnsureBroker()) as session:
        assert isinstance(session.send(place(account)), Reply)
        strict.script.extend([(408, {})] * said)

        answer = session.send(replace(place(account), write=False, operation="look"))

    assert isinstance(answer, Reply) and answer.status == 200
    assert strict.logins == log_ins and len([each for each in strict.requests if each["path"] == "/place"]) == asked


def test_a_dead_token_is_not_used_again_while_a_log_in_is_not_possible(ledger: Ledger, strict: LoginServer) -> None:
    account = toy_account(strict.url)
    with session_of(ledger, account) as session:
        assert isinstance(session.send(place(account)), Reply)
        strict.dead.add("t1")
        ledger.lock_login(account.login, "another worker", 60_000)

        for _ in range(3):
            assert isinstance(session.send(place(account)), Held)

    assert len(strict.sent()) == 2, "one order, and one that found the token dead"


def test_the_lock_of_another_worker_is_not_given_back(ledger: Ledger) -> None:
    assert ledger.lock_login("L", "one", 60_000)
    ledger.unlock_login("L", "two")

    assert not ledger.lock_login("L", "two", 60_000)
    ledger.unlock_login("L", "one")
    assert ledger.lock_login("L", "two", 60_000)


# -- log-ins that a broker does not take ---------------------------------------------------------------------------------


class StrictBroker(ToyBroker):
    """Counts log-ins, holds them for a while or for a person, and says no."""

    most_log_ins_per_hour = 4
    log_in_operations = frozenset({"login"})

    def log_in(self, account: Account, now: float, token: Token | None) -> LogIn:
        reply = yield Call(operation="login", method="POST", url=f"{account.rest_url}/login", step="login", write=False,
                           body={"secret": account.credentials["token"]})
        body = reply.json
        if reply.status != 200 or "token" not in body:
            return LoginRefused(reason=f"the toy broker said {reply.status}", wait_s=body.get("again"))
        return Token(value=str(body["token"]), expires_at=now + 5400)

    def nothing_done(self, call: Call, reply: Reply) -> Hold | None:
        body = reply.json if isinstance(reply.json, dict) else {}
        if "p-ticket" in body:
            return Hold(reason="penalty", wait_s=float(body["p-time"]), ticket={"p-ticket": body["p-ticket"]})
        if body.get("captcha"):
            return Hold(reason="a captcha", wait_s=3600, person=True, whole_login=True)
        return super().nothing_done(call, reply)


def test_a_penalty_ticket_of_a_log_in_is_sent_back_after_its_time(ledger: Ledger, strict: LoginServer) -> None:
    account = toy_account(strict.url)
    strict.log_in_script = [(200, {"p-ticket": "T", "p-time": 0.2})]
    began = time.monotonic()

    with session_of(ledger, account, StrictBroker()) as session:
        assert isinstance(session.send(place(account)), Reply)

    first, second = strict.sent("/login")
    assert "p-ticket" not in first and second == {**first, "p-ticket": "T"}
    assert time.monotonic() - began >= 0.2


def test_a_long_penalty_is_left_to_the_next_try_of_whichever_worker(ledger: Ledger, strict: LoginServer, redis_url: str,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.session, "_PATIENCE_S", 0.1)
    account = toy_account(strict.url)
    strict.log_in_script = [(200, {"p-ticket": "T", "p-time": 0.5})]

    with session_of(ledger, account, StrictBroker()) as one, session_of(Ledger(redis_url), account, StrictBroker()) as two:
        held = one.send(place(account))
        assert isinstance(held, Held) and held.wait_s == 0.5 and held.reply is None
        assert isinstance(two.send(place(account)), Held) and len(strict.sent("/login")) == 1, "it waits, too"
        wait_for(lambda: isinstance(two.send(place(account)), Reply), 3)

    assert [each.get("p-ticket") for each in strict.sent("/login")] == [None, "T"]


def test_a_captcha_reaches_the_brokers_file_and_holds_everything(ledger: Ledger, strict: LoginServer) -> None:
    account = toy_account(strict.url)
    strict.log_in_script = [(200, {"captcha": True, "again": 3600})]

    with session_of(ledger, account, StrictBroker()) as session, structlog.testing.capture_logs() as logs:
        held = session.send(place(account))
        again = session.send(place(account))

    assert isinstance(held, Held) and held.person and isinstance(again, Held) and again.wait_s > 3500
    assert len(strict.sent("/login")) == 1 and sum("told to a person" in each["event"] for each in logs) == 1


def test_no_more_log_ins_leave_in_an_hour_than_the_broker_safely_takes(ledger: Ledger, strict: LoginServer,
                                                                       redis_url: str) -> None:
    account = toy_account(strict.url)
    with session_of(ledger, account, StrictBroker()) as one, session_of(Ledger(redis_url), account, StrictBroker()) as two, \
            structlog.testing.capture_logs() as logs:
        kicked_for_ever(strict)
        for number in range(8):
            (one, two)[number % 2].send(place(account))
        held = one.send(place(account))

    assert strict.logins == 4
    assert isinstance(held, Held) and held.wait_s > 3500 and "log-ins within an hour" in held.reason
    assert sum("told to a person" in each["event"] for each in logs) == 1
    counted, later = f"bridge:{{login:{account.login}}}:logins", redis.Redis.from_url(redis_url)
    later.zpopmin(counted)  # the hour of the oldest is over
    assert ledger.count_log_in(account.login, "fifth", 4, 3_600_000) == 0
    assert ledger.count_log_in(account.login, "sixth", 4, 3_600_000) > 0


def kicked_for_ever(server: ToyServer) -> None:
    server.script.extend([(401, {"error": "dead"})] * 100)


def test_a_log_in_that_never_left_does_not_count(ledger: Ledger) -> None:
    account = toy_account("http://127.0.0.1:1")
    with session_of(ledger, account, StrictBroker()) as session:
        for _ in range(6):
            held = session.send(place(account))

    assert isinstance(held, Held) and "could not be sent" in held.reason
    assert ledger.count_log_in(account.login, "first", 1, 3_600_000) == 0


def test_log_ins_that_lie_ahead_of_a_clock_set_back_count_from_now(ledger: Ledger, redis_url: str) -> None:
    redis.Redis.from_url(redis_url).zadd("bridge:{login:L}:logins", {"old": time.time() * 1000 + 86_400_000})

    assert 3_590_000 < ledger.count_log_in("L", "new", 1, 3_600_000) <= 3_600_000


def test_a_log_in_that_is_counted_twice_by_a_lost_answer_counts_once(ledger: Ledger) -> None:
    assert ledger.count_log_in("L", "one", 2, 3_600_000) == 0
    assert ledger.count_log_in("L", "one", 2, 3_600_000) == 0
    assert ledger.count_log_in("L", "two", 2, 3_600_000) == 0


def test_a_refusal_for_good_is_held_until_the_credentials_change(ledger: Ledger, strict: LoginServer) -> None:
    account = toy_account(strict.url)
    strict.log_in_script = [(403, {"error": "wrong password"})]
    with session_of(ledger, account, StrictBroker()) as session:
        for _ in range(3):
            held = session.send(place(account))
            assert isinstance(held, Held) and held.wait_s > 86_000 and "with these credentials" in held.reason
    assert len(strict.sent("/login")) == 1

    changed = replace(account, credentials=type(account.credentials)({"token": "the right one"}))
    with session_of(ledger, changed, StrictBroker()) as session:
        assert isinstance(session.send(place(changed)), Reply)


# -- tokens that a person renews -----------------------------------------------------------------------------------------


class GivenToken(ToyBroker):
    """Takes the token that it was given, until `ends_in` seconds from now."""

    person_renews = True
    ends_in = 3600.0

    def log_in(self, account: Account, now: float, token: Token | None) -> LogIn:
        yield from ()
        return Token(value="given", expires_at=now + self.ends_in)


def told(broker: Broker, ledger: Ledger, times: int = 3, **account_fields: Any) -> list[str]:
    account = toy_account("http://127.0.0.1:1", **account_fields)
    with structlog.testing.capture_logs() as logs:
        for _ in range(times):
            Login(broker, account, ledger, SECRET).announce(account)
    return [each["event"] for each in logs if each["log_level"] == "error"]


def test_the_end_of_a_token_that_a_person_renews_is_told_before_once_an_hour(ledger: Ledger, redis_url: str) -> None:
    words = told(GivenToken(), ledger)

    assert len(words) == 1 and words[0].startswith("told to a person: the token of toy ends at")
    assert "60 min" in words[0] and "UTC" in words[0]
    assert 0 < redis.Redis.from_url(redis_url).pttl("bridge:{login:toy:http://127.0.0.1:1}:told:end") <= 3_600_000


def test_no_end_is_told_that_is_far_or_that_needs_nobody(ledger: Ledger) -> None:
    far = GivenToken()
    far.ends_in = 8000.0

    class LogsInByItself(ToyBroker):
        person_renews = True

    assert told(far, ledger) == [] and told(ToyBroker(), ledger) == [] and told(LogsInByItself(), ledger) == []
    assert told(GivenToken(), ledger, environment="sandbox") == []


# -- warm connections --------------------------------------------------------------------------------------------------


class WarmBroker(ToyBroker):
    """Its cheap read is a look for nobody's order."""

    def warm(self, account: Account) -> Call | None:
        return Call(operation="warm", method="GET", url=f"{account.rest_url}/warm", step="warm", write=False)


class TlsServer:
    """Takes orders over TLS and counts the handshakes."""

    def __init__(self, folder: Path) -> None:
        self.certificate = certificate_in(folder)
        self.handshakes, self.warm_status = 0, 200
        self.requests: list[str] = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                self.request.do_handshake()
                owner.handshakes += 1
                super().setup()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(200, b'{"id": 1, "token": "t"}')

            def do_GET(self) -> None:
                self._answer(owner.warm_status, b"{}")

            def _answer(self, status: int, body: bytes) -> None:
                owner.requests.append(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, folder / "key.pem")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def certificate_in(folder: Path) -> str:
    """A certificate for this machine, signed by itself, valid for a day."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    now = datetime.now(UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
            .sign(key, hashes.SHA256()))
    (folder / "key.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return str(folder / "certificate.pem")


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[TlsServer]:
    server = TlsServer(tmp_path)
    yield server
    server.close()


@pytest.fixture
def warm(ledger: Ledger, tls: TlsServer) -> Iterator[Session]:
    with session_of(ledger, toy_account(tls.url), WarmBroker()) as session:
        session._transport._http.verify = tls.certificate
        yield session


class Clock:
    """Stands in for the monotonic clock where idleness is measured; every other second still takes a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0.0
        for module in (bridge.transport, bridge.session):
            monkeypatch.setattr(module, "monotonic", lambda: time.monotonic() + self.ahead_s)


def two_orders_25_s_apart(session: Session, clock: Clock, *, tended: bool) -> None:
    assert isinstance(session.send(place(session.account)), Reply)
    for _ in range(25):
        clock.ahead_s += 1
        if tended:
            session.keep_warm()
    assert isinstance(session.send(place(session.account)), Reply)


def test_an_order_after_25_idle_seconds_pays_for_no_tls_handshake(warm: Session, tls: TlsServer,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    two_orders_25_s_apart(warm, Clock(monkeypatch), tended=True)

    assert tls.handshakes == 1
    assert tls.requests == ["/login", "/place", "/warm", "/warm", "/place"]


def test_without_tending_the_second_order_pays_for_one(warm: Session, tls: TlsServer,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    two_orders_25_s_apart(warm, Clock(monkeypatch), tended=False)

    assert tls.handshakes == 2


def test_the_first_order_finds_a_warm_connection_too(warm: Session, tls: TlsServer) -> None:
    warm.keep_warm()
    assert tls.requests == ["/login", "/warm"]

    assert isinstance(warm.send(place(warm.account)), Reply) and tls.handshakes == 1


def test_what_cannot_be_kept_warm_is_asked_less_and_less(warm: Session, tls: TlsServer,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    tls.warm_status, clock = 404, Clock(monkeypatch)

    for _ in range(600):
        clock.ahead_s += 1
        warm.keep_warm()

    assert 3 <= tls.requests.count("/warm") <= 5


@pytest.mark.parametrize("kept", ["plain http", "dry run", "held", "short budget"])
def test_nothing_is_asked_to_stay_warm_where_it_is_not_worth_it(ledger: Ledger, server: ToyServer, tls: TlsServer,
                                                                kept: str) -> None:
    account = toy_account(server.url if kept == "plain http" else tls.url, dry_run=kept == "dry run",
                          budget=Budget(per_minute=1, burst=4) if kept == "short budget" else Budget())
    with session_of(ledger, account, WarmBroker()) as session:
        session._transport._http.verify = tls.certificate
        if kept == "held":
            session.login.wait("a penalty", 60)
        if kept == "short budget":
            assert session.login.allowance.take("x") == 0
        session.keep_warm()

    assert "/warm" not in tls.requests and server.requests == []
