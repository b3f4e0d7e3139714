"""A broker's Retry-After, in each form that RFC 9110 allows, and what is no such thing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.call import Reply
from bridge.waits import LONGEST_S, retry_after_s

SAID = "Sat, 21 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(("written", "seconds"), [
    ("30", 30), (" 1.5 ", 1.5), ("0", 0), ("3600", 3600), ("1000000", LONGEST_S),
    ("Sat, 21 Nov 2026 10:05:00 GMT", 300), ("Sat, 21 Nov 2026 09:00:00 GMT", 0), ("Fri, 21 Nov 2036 10:00:00 GMT", LONGEST_S),
    ("-5", None), ("soon", None), ("", None), ("١٢", None), ("1e3", None), ("Sat, 99 Nov 2026", None)])
def test_it_is_read_in_seconds_or_as_a_date_and_never_guessed(written: str, seconds: float | None) -> None:
    assert retry_after_s(Reply(status=429, headers={"Retry-After": written, "Date": SAID})) == seconds


def test_a_date_without_the_brokers_own_cannot_be_read() -> None:
    assert retry_after_s(Reply(status=429, headers={"retry-after": "Sat, 21 Nov 2026 10:05:00 GMT"})) is None
    assert retry_after_s(Reply(status=429)) is None


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_breaks_it(written: str, said: str) -> None:
    found = retry_after_s(Reply(status=429, headers={"retry-after": written, "date": said}))
    assert found is None or 0 <= found <= LONGEST_S
