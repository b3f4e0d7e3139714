"""Pocketful: log-in by a given token, or by password and second factor."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.brokers.pocketful import AccountOptions, Pocketful, totp
from bridge.call import Call, LoginRefused, Reply, Token
from bridge.work import Account, Credentials

BROKER = Pocketful()
NOON = datetime(2026, 11, 20, 6, 30, tzinfo=UTC).timestamp()  # 12:00 in India
MIDNIGHT = datetime(2026, 11, 20, 18, 30, tzinfo=UTC).timestamp()
PASSWORD = {"channel_id": "YG1234", "channel_secret": "leak-me-pw", "totp_secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
            "pin": "246810"}
ASKS = {"data": {"twofa": {"twofa_token": "tf1", "questions": [{"question_id": "100"}]}}, "status": "success"}
LET_IN = {"data": {"auth_token": "jwt1"}, "status": "success"}


def account(credentials: dict[str, str], **options: Any) -> Account:
    given_options = AccountOptions().load(options)
    return Account(name="pf", broker="pocketful", client_id="YG1234", options=given_options,
                   rest_url=BROKER.hosts("live", given_options)[0], credentials=Credentials(credentials))


def log_in(of: Account, *replies: Reply, now: float = NOON, token: Token | None = None) -> tuple[list[Call], Any]:
    plan = BROKER.log_in(of, now, token)
    calls: list[Call] = []
    answer: Reply | None = None
    try:
        while True:
            calls.append(plan.send(answer))
            answer = replies[len(calls) - 1]
    except StopIteration as done:
        return calls, done.value


def with_password(*replies: Reply, **credentials: str) -> tuple[list[Call], Any]:
    return log_in(account({**PASSWORD, **credentials}, api="algo", log_in="password"), *replies)


@pytest.mark.parametrize(("seconds", "code"), [
    (59, "94287082"), (1111111109, "07081804"), (1111111111, "14050471"), (1234567890, "89005924"),
    (2000000000, "69279037"), (20000000000, "65353130")])
def test_one_time_passwords_are_those_of_rfc_6238(seconds: int, code: str) -> None:
    assert totp(b"12345678901234567890", seconds, digits=8) == code
    assert totp(b"12345678901234567890", seconds) == code[2:]


@pytest.mark.parametrize(("now", "end"), [(NOON, MIDNIGHT), (MIDNIGHT - 1, MIDNIGHT), (MIDNIGHT, MIDNIGHT + 86400)])
def test_a_given_token_is_taken_until_midnight_in_india(now: float, end: float) -> None:
    calls, token = log_in(account({"token": "t0"}), now=now)

    assert not calls
    assert (token.value, token.expires_at) == ("t0", end)


@pytest.mark.parametrize(("old", "now", "again"), [
    (Token(value="t0", expires_at=MIDNIGHT), NOON, False),
    (Token(value="t0", expires_at=MIDNIGHT), MIDNIGHT + 1, False),
    (Token(value="t0"), NOON, False),
    (Token(value="yesterday", expires_at=MIDNIGHT), NOON, True),
])
def test_a_given_token_that_was_refused_waits_for_a_person(old: Token, now: float, again: bool) -> None:
    _, answer = log_in(account({"token": "t0"}), now=now, token=old)

    if again:
        assert answer.value == "t0"
    else:
        assert isinstance(answer, LoginRefused)
        assert "midnight" in answer.reason and answer.wait_s == 60 and "t0" not in answer.reason


WHAT_TO_DO = ("midnight in India", "the portal", "credentials.token", "start the worker again")


def test_every_word_about_a_dead_token_tells_the_trader_what_to_do() -> None:
    """Nobody but a person can make the new one, so its end is announced in time."""
    assert BROKER.person_renews
    call = Call(operation="place", method="POST", url="https://x/api/v1/orders", step="entry", write=True)
    dead = {"status": "error", "message": "Request Unauthorised", "error_code": 40000, "data": {}}
    told = [log_in(account({"token": "t0"}), token=Token(value="t0", expires_at=MIDNIGHT), now=MIDNIGHT + 1)[1].reason,
            log_in(account({}))[1].reason]
    for reply in (Reply.of(dead, 401), Reply.of({"message": "token"}, 401), Reply.of("<html>", 403)):
        hold = BROKER.nothing_done(call, reply)
        assert hold is not None and hold.renew and hold.person and hold.whole_login
        told.append(hold.reason)
    for words in told:
        assert all(word in words for word in WHAT_TO_DO), words
        assert words.count("midnight") == 1


def test_a_token_of_unknown_age_is_taken_to_live_until_the_next_midnight() -> None:
    """It is opaque: yesterday's looks like today's until the first call is refused."""
    for now in (MIDNIGHT + 1, MIDNIGHT + 86_399):
        _, token = log_in(account({"token": "yesterdays"}), now=now)

        assert token == Token(value="yesterdays", expires_at=MIDNIGHT + 86_400)


def test_no_token_is_renewed_before_its_end() -> None:
    """One made before midnight ends at midnight too: renewing early would log in again with every call."""
    assert BROKER.renew_before_s == 0


def test_a_password_log_in_is_two_calls_as_the_published_client_makes_them() -> None:
    calls, token = with_password(Reply.of(ASKS), Reply.of(LET_IN))

    first, second = calls
    assert (first.method, first.url) == ("POST", "https://algo.pocketful.in/api/v3/user/login")
    assert first.body == {"channel_id": "YG1234", "channel_secret": "leak-me-pw"}
    assert (second.method, second.url) == ("POST", "https://algo.pocketful.in/api/v3/user/twofa")
    assert second.body == {"login_id": "YG1234", "twofa_token": "tf1", "type": "TOTP", "device_type": "web",
                           "twofa": [{"question_id": "100", "answer": totp(b"12345678901234567890", NOON)}]}
    assert (token.value, token.expires_at) == ("jwt1", MIDNIGHT)


@pytest.mark.parametrize("question", ["22", 22])
def test_any_other_question_is_answered_with_the_pin(question: Any) -> None:
    asks = {"data": {"twofa": {"twofa_token": "tf1", "questions": [{"question_id": question}]}}, "status": "success"}

    calls, _ = with_password(Reply.of(asks), Reply.of(LET_IN))

    assert (calls[1].body["type"], calls[1].body["twofa"]) == ("PIN", [{"question_id": "22", "answer": "246810"}])


def test_a_factor_that_the_account_lacks_is_named() -> None:
    _, answer = with_password(Reply.of(ASKS), totp_secret="")

    assert isinstance(answer, LoginRefused) and "totp_secret" in answer.reason and answer.wait_s is None


@pytest.mark.parametrize(("reply", "wait_s"), [
    (Reply.of({"status": "error", "message": "Invalid credentials", "error_code": 40000, "data": {}}), None),
    (Reply.of({"status": "error", "message": "x", "error_code": 1, "data": {}}, 500), 30),
    (Reply.of({"status": "error", "message": "upstream request timeout", "data": {}}), 30),
    (Reply(status=None, fault="timed out"), 30), (Reply.of("<html>", 502), 30), (Reply.of([]), 30),
    (Reply(status=429, headers={"Retry-After": "120"}), 120),
    (Reply.of({"status": "success", "data": {"twofa": {"twofa_token": "tf1", "questions": []}}}), 30),
    (Reply.of({"status": "success", "data": {"twofa": {"questions": [None]}}}), 30),
])
def test_a_log_in_that_fails_says_why_and_a_definite_no_waits_for_a_person(reply: Reply, wait_s: float | None) -> None:
    for replies in ((reply,), (Reply.of(ASKS), reply)):
        _, answer = with_password(*replies)

        assert isinstance(answer, LoginRefused)
        assert answer.wait_s == wait_s
        assert answer.reason and "leak-me" not in answer.reason


@pytest.mark.parametrize(("credentials", "options", "fields"), [
    ({"token": "t0"}, {}, []),
    ({"token": "t0"}, {"api": "algo"}, []),
    ({}, {}, ["credentials.token"]),
    (PASSWORD, {"api": "algo", "log_in": "password"}, []),
    ({"channel_id": "a", "channel_secret": "b", "pin": "1"}, {"api": "algo", "log_in": "password"}, []),
    (PASSWORD, {"log_in": "password"}, ["options.log_in"]),
    ({"token": "t0"}, {"api": "algo", "log_in": "password"},
     ["credentials.channel_id", "credentials.channel_secret", "credentials.totp_secret"]),
    ({**PASSWORD, "totp_secret": "leak-me!"}, {"api": "algo", "log_in": "password"}, ["credentials.totp_secret"]),
])
def test_an_account_says_what_its_log_in_lacks(credentials: dict[str, str], options: dict[str, str],
                                               fields: list[str]) -> None:
    faults = list(BROKER.account_faults(account(credentials, **options)))

    assert [field for field, _ in faults] == fields
    assert all("leak-me" not in message for _, message in faults)


@pytest.mark.parametrize("secret", ["GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "gezd gnbv gy3t qojq gezd gnbv gy3t qojq",
                                    "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ===="])
def test_a_totp_secret_may_be_written_as_the_app_shows_it(secret: str) -> None:
    calls, _ = with_password(Reply.of(ASKS), Reply.of(LET_IN), totp_secret=secret)

    assert calls[1].body["twofa"][0]["answer"] == totp(b"12345678901234567890", NOON)


def test_the_log_in_and_the_counter_belong_to_the_client() -> None:
    of = account({"token": "leak-me"})

    assert BROKER.counter_name(of) == "pocketful:YG1234"
    assert len(BROKER.login_name(of)) == 12 and "YG1234" not in BROKER.login_name(of)


def test_the_sandbox_needs_no_credentials_of_the_traders_own() -> None:
    for options in ({}, {"api": "algo", "log_in": "password"}):
        assert not list(BROKER.account_faults(account(dict(BROKER.sandbox_credentials), **options)))
