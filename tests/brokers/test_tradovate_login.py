"""Logging in at Tradovate: one token, renewed while it lives, and never a loop of failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradovate_kit import ACCOUNT, BROKER, HOME, SECRETS, account, shared

from bridge.call import Call, LoginRefused, Reply, Token
from bridge.work import Credentials

NOW = 1_795_188_600.0  # 2026-11-20T15:30:00Z
ALIVE = Token(value="old-leak-me", expires_at=NOW + 600)
ENDING = Token(value="old-leak-me", expires_at=NOW + 20)
GOOD = Reply.of({"accessToken": "new", "mdAccessToken": "md", "expirationTime": "2026-11-20T17:00:00.000Z", "userId": 5,
                 "userStatus": "Active", "hasLive": True})
BAD = Reply.of({"errorText": "Incorrect username or password. Please try again"})


def log_in(replies: Sequence[Reply], token: Token | None = None,
           **more: Any) -> tuple[list[Call], Token | LoginRefused]:
    steps = BROKER.log_in(replace(ACCOUNT, **more), NOW, token)
    calls: list[Call] = []
    left = list(replies)
    try:
        call = next(steps)
        while True:
            calls.append(call)
            call = steps.send(left.pop(0))
    except StopIteration as done:
        assert not left
        got: Token | LoginRefused = done.value
        return calls, got


def test_a_log_in_sends_the_credentials_with_cid_as_a_number() -> None:
    (call,), token = log_in([GOOD])

    assert (call.method, call.url) == ("POST", f"{HOME}auth/accesstokenrequest")
    assert call.body == {"name": SECRETS["name"], "password": SECRETS["password"], "appId": "Bridge",
                         "appVersion": "1.0", "deviceId": SECRETS["device_id"], "cid": 815, "sec": SECRETS["sec"]}
    assert token == Token(value="new", expires_at=NOW + 90 * 60)


def test_every_field_of_a_log_in_is_described_though_cid_is_called_a_string() -> None:
    known = shared("tradovate-openapi-orders.json")["components"]["schemas"]["AccessTokenRequest"]["properties"]

    (call,), _ = log_in([GOOD])

    assert set(call.body) == set(known)
    for name in set(call.body) - {"cid"}:
        assert isinstance(call.body[name], str) and len(call.body[name]) <= known[name]["maxLength"]


def test_app_names_come_from_the_account_and_a_cid_of_letters_stays_text() -> None:
    (call,), _ = log_in([GOOD], options=account(app_id="Desk", app_version="2.1").options,
                        credentials=Credentials({**SECRETS, "cid": "8a"}))

    assert (call.body["appId"], call.body["appVersion"], call.body["cid"]) == ("Desk", "2.1", "8a")


def test_a_token_that_lives_is_renewed_and_nothing_else_is_asked() -> None:
    (call,), token = log_in([GOOD], ALIVE)

    assert (call.method, call.url) == ("GET", f"{HOME}auth/renewaccesstoken")
    assert call.headers["Authorization"] == "Bearer old-leak-me" and call.body is None
    assert token == Token(value="new", expires_at=NOW + 5400)


def test_a_token_that_is_past_its_end_is_not_renewed() -> None:
    (call,), _ = log_in([GOOD], Token(value="old", expires_at=NOW - 1))

    assert call.url.endswith("accesstokenrequest")


NO = (Reply(status=401, text="Expired Access Token"), Reply(status=404), Reply(status=408), Reply.of({"errorText": "x"}))
NO_ANSWER = (Reply(status=None, fault="x"), Reply(status=500), Reply(status=502), Reply(status=423), Reply(status=429),
             Reply(status=200, text="<html>maintenance"))


@pytest.mark.parametrize(("reply", "token"), [*((reply, ALIVE) for reply in NO), *((reply, ENDING) for reply in NO_ANSWER)])
def test_a_renewal_that_is_refused_or_fails_at_the_last_moment_is_followed_by_one_new_log_in(reply: Reply,
                                                                                             token: Token) -> None:
    calls, got = log_in([reply, GOOD], token)

    assert [call.operation for call in calls] == ["renewaccesstoken", "accesstokenrequest"]
    assert isinstance(got, Token)


@pytest.mark.parametrize("reply", NO_ANSWER)
def test_a_renewal_without_a_yes_or_a_no_is_tried_again_while_the_old_token_works_and_costs_no_log_in(
        reply: Reply) -> None:
    (call,), got = log_in([reply], ALIVE)

    assert call.operation == "renewaccesstoken"
    assert isinstance(got, LoginRefused) and got.wait_s == 120 and "still works" in got.reason


@pytest.mark.parametrize(("told", "left_s", "wait_s"), [("300", 600, 300), ("3600", 600, 570), ("5", 600, 120),
                                                        ("soon", 600, 120), ("5", 100, 70), ("3600", 31, 1)])
def test_a_renewal_waits_as_long_as_it_is_told_to_but_not_past_the_last_moment_of_its_token(told: str, left_s: float,
                                                                                            wait_s: float) -> None:
    limit = Reply(status=429, headers={"Retry-After": told})

    (_,), got = log_in([limit], Token(value="old", expires_at=NOW + left_s))

    assert isinstance(got, LoginRefused) and got.wait_s == wait_s


def test_renewals_tried_again_until_a_token_ends_stay_below_the_fifteen_an_hour_that_tradovate_takes() -> None:
    left_s, renewals = BROKER.renew_before_s, 0
    while left_s > 0:
        steps = BROKER.log_in(ACCOUNT, NOW, Token(value="old", expires_at=NOW + left_s))
        assert next(steps).operation == "renewaccesstoken"
        renewals += 1
        try:
            steps.send(Reply(status=None, fault="x"))
            break
        except StopIteration as done:
            assert 0 < done.value.wait_s < left_s
            left_s -= done.value.wait_s

    assert 1 < renewals <= 15


@pytest.mark.parametrize(("reply", "wait_s"), [
    (Reply(status=429), 3600), (Reply(status=429, headers={"retry-after": "30"}), 30),
    (Reply.of({"p-ticket": "12345", "p-time": 2, "p-captcha": False}), 2),
    (Reply.of({"p-ticket": "12345", "p-time": 2, "p-captcha": True}), 3600)])
def test_a_limit_or_penalty_ends_the_attempt_at_once(reply: Reply, wait_s: float | None) -> None:
    for token in (None,) if reply.status == 429 else (None, ALIVE):
        calls, got = log_in([reply], token)

        assert len(calls) == 1
        assert isinstance(got, LoginRefused) and got.wait_s == wait_s


def test_bad_credentials_are_said_once_and_wait_for_a_person() -> None:
    calls, got = log_in([BAD])

    assert len(calls) == 1
    assert isinstance(got, LoginRefused) and got.wait_s is None
    assert "Incorrect username or password" in got.reason


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_log_in_refused_by_status_waits_for_a_person(status: int) -> None:
    _, got = log_in([Reply(status=status, text="no")])

    assert isinstance(got, LoginRefused) and got.wait_s is None


@pytest.mark.parametrize("reply", [Reply(status=None, fault="no complete reply"), Reply(status=500), Reply(status=503)])
def test_a_log_in_nobody_answered_is_repeated_once_and_then_spaced_out(reply: Reply) -> None:
    cured_calls, cured = log_in([reply, GOOD])
    calls, got = log_in([reply, reply])

    assert len(cured_calls) == 2 and isinstance(cured, Token)
    assert len(calls) == 2 and isinstance(got, LoginRefused)
    assert got.wait_s is not None and len(calls) * 3600 / got.wait_s <= (BROKER.most_log_ins_per_hour or 0)


def test_an_answer_without_a_token_is_asked_again_at_most_five_times_an_hour() -> None:
    calls, got = log_in([Reply.of({})])

    assert isinstance(got, LoginRefused) and got.wait_s is not None and len(calls) * 3600 / got.wait_s <= 5


def test_a_log_in_that_never_left_is_no_log_in_and_tried_again_soon() -> None:
    calls, got = log_in([Reply(status=None, fault="refused", not_executed=True)])

    assert len(calls) == 1 and isinstance(got, LoginRefused) and got.wait_s == 15


@pytest.mark.parametrize("text", ["", "null", "[]", '{"accessToken": ""}', '{"accessToken": 5}', "<html>", "{}"])
def test_an_answer_without_a_token_is_none(text: str) -> None:
    _, got = log_in([Reply(status=200, text=text)])

    assert isinstance(got, LoginRefused) and got.wait_s == 720


@pytest.mark.parametrize("told", [None, "soon", 5, "2020-01-01T00:00:00Z", [], "9999-99-99"])
def test_a_missing_or_impossible_end_of_a_token_is_ninety_minutes(told: Any) -> None:
    _, got = log_in([Reply.of({"accessToken": "new", "expirationTime": told})])

    assert got == Token(value="new", expires_at=NOW + 5400)


@given(st.text(max_size=60), st.sampled_from([None, 200, 201, 400, 401, 404, 408, 423, 429, 500]))
def test_no_answer_whatever_makes_logging_in_raise_or_leak(text: str, status: int | None) -> None:
    reply = Reply(status=status, text=text, fault="x")
    for token in (None, ALIVE):
        steps = BROKER.log_in(ACCOUNT, NOW, token)
        got: Any = None
        try:
            next(steps)
            for _ in range(5):
                steps.send(reply)
        except StopIteration as done:
            got = done.value
        assert isinstance(got, LoginRefused)
        assert not any(secret in got.reason for secret in SECRETS.values() if "leak" in secret)


def test_neither_credentials_nor_tokens_show_in_a_repr() -> None:
    assert "leak-me" not in repr(ACCOUNT) + repr(ALIVE)


def test_credentials_longer_than_the_log_in_takes_are_a_fault_of_the_account() -> None:
    long = replace(ACCOUNT, credentials=Credentials({**SECRETS, "device_id": "x" * 65}))

    assert list(BROKER.account_faults(ACCOUNT)) == []
    assert [name for name, _ in BROKER.account_faults(long)] == ["credentials.device_id"]


# -- what the session sees of a log-in's answers -----------------------------------------------------------------------

PENALTY = {"p-ticket": "12345", "p-time": 2, "p-captcha": False}


def driven(answer: Callable[[Call], Reply], token: Token | None = None) -> tuple[list[Call], float, Any]:
    """Log in as the session does: what was not executed is waited for and asked again with its ticket."""
    steps, calls, waited = BROKER.log_in(ACCOUNT, NOW, token), [], 0.0
    try:
        call = next(steps)
        while len(calls) < 20:
            calls.append(call)
            reply = answer(call)
            hold = BROKER.nothing_done(call, reply)
            if hold is None or hold.person:
                call = steps.send(reply)
                continue
            waited += hold.wait_s
            if hold.ticket and call.body is not None:
                call = replace(call, body={**call.body, **hold.ticket})
    except StopIteration as done:
        return calls, waited, done.value
    raise AssertionError("the log-in does not end")


def test_the_ticket_of_a_penalised_log_in_goes_back_with_the_same_body_after_its_time() -> None:
    def answer(call: Call) -> Reply:
        return GOOD if call.body.get("p-ticket") == "12345" else Reply.of(PENALTY)

    (first, second), waited, got = driven(answer)

    assert second.body == {**first.body, "p-ticket": "12345"} and waited == 2
    assert isinstance(got, Token)


def test_a_captcha_at_the_log_in_is_for_a_person_and_asked_once() -> None:
    calls, waited, got = driven(lambda call: Reply.of(PENALTY | {"p-captcha": True}))

    assert len(calls) == 1 and waited == 0
    assert isinstance(got, LoginRefused) and got.wait_s == 3600 and "captcha" in got.reason


@pytest.mark.parametrize("operation", ["accesstokenrequest", "renewaccesstoken"])
def test_a_log_in_s_penalty_holds_the_log_in_and_its_429_the_next_log_ins_alone(operation: str) -> None:
    call = Call(operation=operation, method="POST", url="", step="log-in", write=False)
    penalty = BROKER.nothing_done(call, Reply.of(PENALTY))
    captcha = BROKER.nothing_done(call, Reply.of(PENALTY | {"p-captcha": True}))
    limit, told = (BROKER.nothing_done(call, Reply(status=429, headers=headers)) for headers in ({}, {"retry-after": "9"}))

    assert penalty is not None and dict(penalty.ticket) == {"p-ticket": "12345"}
    assert (penalty.wait_s, penalty.whole_login, penalty.person) == (2, True, False)
    assert captcha is not None and (captcha.wait_s, captcha.whole_login, captcha.person) == (3600, True, True)
    assert limit is not None and (limit.wait_s, limit.whole_login, limit.person, limit.grows) == (3600, False, True, False)
    assert told is not None and told.wait_s == 9


@pytest.mark.parametrize("reply", [BAD, GOOD, Reply(status=401, text="Invalid access token"), Reply(status=408),
                                   Reply(status=423), Reply(status=500), Reply(status=None, fault="x"),
                                   Reply.of({"accessToken": "new", "p-ticket": "t", "p-time": 5})])
def test_no_other_answer_to_a_log_in_may_be_asked_for_again(reply: Reply) -> None:
    for operation in ("accesstokenrequest", "renewaccesstoken"):
        call = Call(operation=operation, method="POST", url="", step="log-in", write=False)
        assert BROKER.nothing_done(call, reply) is None


def test_a_token_beside_a_ticket_is_a_token() -> None:
    assert log_in([Reply.of({"accessToken": "new", "p-ticket": "t", "p-time": 5})])[1] == Token(
        value="new", expires_at=NOW + 5400)


def test_a_locked_user_is_asked_for_again_after_its_hour_and_a_refused_one_never_by_itself() -> None:
    _, locked = log_in([Reply.of({"errorText": "Too many attempts", "userStatus": "TemporaryLocked"})])
    _, closed = log_in([Reply.of({"errorText": "Access is denied", "userStatus": "Closed"})])

    assert isinstance(locked, LoginRefused) and locked.wait_s == 3600
    assert isinstance(closed, LoginRefused) and closed.wait_s is None


def test_log_ins_in_an_hour_stay_below_the_five_that_tradovate_takes() -> None:
    assert BROKER.most_log_ins_per_hour == 4
