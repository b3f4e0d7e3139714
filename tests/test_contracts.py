"""Chart symbols become the contract that the broker trades, by the roll rule."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contracts import contract, parse_symbol, product_of
from bridge.futures import FUTURES, MONTHS, Roll

TODAY = date(2026, 11, 20)
DAYS = st.dates(date(2000, 1, 1), date(2090, 12, 31))
NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


@pytest.mark.parametrize(("symbol", "tradovate", "ninjatrader"), [
    ("ES1!", "ESZ6", "ES 12-26"), ("ES2!", "ESH7", "ES 03-27"), ("CME_MINI:ES1!", "ESZ6", "ES 12-26"),
    ("ES", "ESZ6", "ES 12-26"), ("ESZ6", "ESZ6", "ES 12-26"), ("ESZ26", "ESZ6", "ES 12-26"),
    ("ESZ2026", "ESZ6", "ES 12-26"), ("MESZ2026", "MESZ6", "MES 12-26"), ("ES 12-26", "ESZ6", "ES 12-26"),
    ("ES DEC26", "ESZ6", "ES 12-26"), ("6E1!", "6EZ6", "6E 12-26"), ("M2KH7", "M2KH7", "M2K 03-27"),
    ("CL1!", "CLF7", "CL 01-27"), ("GC1!", "GCZ6", "GC 12-26"), ("NG1!", "NGF7", "NG 01-27"),
    ("esz6", "ESZ6", "ES 12-26"), ("ZN1!", "ZNZ6", "ZN 12-26"), ("ES 03-27", "ESH7", "ES 03-27"),
    ("GCX6", "GCX6", "GC 11-26")])
def test_every_way_to_write_a_contract_is_understood(symbol: str, tradovate: str, ninjatrader: str) -> None:
    assert contract(symbol, today=TODAY, form="tradovate") == tradovate
    assert contract(symbol, today=TODAY, form="ninjatrader") == ninjatrader


@given(st.sampled_from(sorted(FUTURES)), st.integers(1, 12), st.integers(-3, 5), DAYS)
def test_a_dated_contract_goes_round_through_every_form(root: str, month: int, ahead: int, today: date) -> None:
    year = today.year + ahead
    letter = MONTHS[month - 1]
    future = FUTURES[root]
    if letter not in future.months and not future.serial:
        with pytest.raises(ValueError, match="has no contract of month"):
            contract(f"{root}{letter}{year % 10}", today=today)
        return
    written = [f"{root}{letter}{year % 10}", f"{root}{letter}{year % 100:02}", f"{root}{letter}{year}",
               f"{root} {month:02}-{year % 100:02}", f"{root} {NAMES[month - 1]}{year % 100:02}"]
    if (year, month) < (today.year, today.month):
        for symbol in written:
            if year // 100 == today.year // 100 or symbol.endswith(str(year)):
                with pytest.raises(ValueError, match="is over"):
                    contract(symbol, today=today)
        return
    if year // 100 != today.year // 100:
        written = [symbol for symbol in written if symbol.endswith(str(year))]

    for symbol in written:
        assert contract(symbol, today=today, form="tradovate") == f"{root}{letter}{year % 10}"
        assert contract(symbol, today=today, form="ninjatrader") == f"{root} {month:02}-{year % 100:02}"
        assert parse_symbol(symbol).future is future


@given(st.sampled_from(sorted(FUTURES)), DAYS, st.integers(0, 30))
def test_the_front_contract_is_the_first_that_is_not_to_be_rolled_out_of(root: str, today: date, roll: int) -> None:
    future = FUTURES[root]
    dates = sorted(future.expiry(year, MONTHS.index(letter) + 1)
                   for year in range(today.year - 1, today.year + 4) for letter in future.months)
    expected = [day for day in dates if day - timedelta(days=roll) > today]

    for place in (1, 2):
        found = parse_symbol(contract(f"{root}{place}!", today=today, roll=Roll(roll), form="ninjatrader"))
        assert found.month is not None
        century = today.year // 100 * 100
        assert future.expiry(century + int(found.year), found.month) == expected[place - 1]


@pytest.mark.parametrize(("root", "year", "month", "day"), [
    ("ES", 2026, 12, date(2026, 12, 18)), ("ES", 2027, 3, date(2027, 3, 19)), ("CL", 2026, 11, date(2026, 10, 20)),
    ("CL", 2027, 1, date(2026, 12, 22)), ("CL", 2026, 5, date(2026, 4, 21)), ("NG", 2026, 11, date(2026, 10, 28)),
    ("GC", 2026, 12, date(2026, 11, 30)), ("ZN", 2026, 12, date(2026, 11, 30)), ("6E", 2026, 12, date(2026, 12, 14)),
    ("6C", 2026, 12, date(2026, 12, 15)), ("BTC", 2026, 11, date(2026, 11, 27)), ("NKD", 2026, 12, date(2026, 12, 10)),
    ("HE", 2026, 12, date(2026, 12, 14)), ("GF", 2026, 10, date(2026, 10, 29)), ("LE", 2026, 12, date(2026, 12, 7)),
    ("RB", 2026, 12, date(2026, 11, 30)), ("MCL", 2026, 11, date(2026, 10, 19))])
def test_days_of_expiry_follow_the_exchanges_rules_without_holidays(root: str, year: int, month: int, day: date) -> None:
    assert FUTURES[root].expiry(year, month) == day


def test_the_roll_happens_so_many_days_before_expiry() -> None:
    assert contract("ES1!", today=date(2026, 12, 9), roll=Roll(8)) == "ESZ6"
    assert contract("ES1!", today=date(2026, 12, 10), roll=Roll(8)) == "ESH7"
    assert contract("ES1!", today=date(2026, 12, 17), roll=Roll(0)) == "ESZ6"


@pytest.mark.parametrize(("symbol", "words"), [
    ("CME_MINI_DL:ES1!", "delayed"), ("NYMEX_DLY:CL1!", "delayed"), ("ES1!-NQ1!", "no futures contract"),
    ("AAPL", "no futures"), ("XYZZ6", "not in the table"), ("NASDAQ:ES1!", "exchange NASDAQ"), ("", "no futures"),
    ("ES0!", "no futures"), ("ESF7", "has no contract of month F"), ("ESZ5", "is over"), ("ESZ36", "too far away"),
    ("ESZ0000", "no year"), ("ESZ9999", "no year"), ("ES 13-26", "no futures"), ("BTCUSDT.P", "no futures"),
    ("E" * 100, "too long"), ("ＥＳ1!", "no futures")])
def test_what_names_no_contract_is_refused_in_words(symbol: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        contract(symbol, today=TODAY)


@given(st.text(max_size=20), DAYS)
def test_no_symbol_raises_anything_but_value_errors(symbol: str, today: date) -> None:
    for form in ("tradovate", "ninjatrader", "none"):
        try:
            contract(symbol, today=today, form=form)
        except ValueError as error:
            assert str(error)


def test_brokers_without_futures_get_the_symbol_without_its_exchange() -> None:
    assert contract("NSE:SBIN", today=TODAY, form="none") == "SBIN"
    assert contract("M_M", today=TODAY, form="none") == "M_M"
    with pytest.raises(ValueError, match="delayed"):
        contract("NSE_DLY:SBIN", today=TODAY, form="none")


def test_products_have_their_tick_and_point_value() -> None:
    es, zn, crude = product_of("ES1!"), product_of("ZN 12-26"), product_of("CLF7")

    assert es is not None and zn is not None and crude is not None
    assert (es.tick, es.point_value, es.may_be_negative) == (Decimal("0.25"), Decimal(50), False)
    assert zn.tick == Decimal("0.015625")
    assert crude.may_be_negative
    assert product_of("AAPL") is None


def test_only_oil_and_gas_prices_may_be_negative() -> None:
    assert {root for root, future in FUTURES.items() if future.product.may_be_negative} == {
        "CL", "MCL", "QM", "NG", "QG", "MNG"}
