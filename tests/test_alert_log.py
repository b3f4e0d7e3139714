"""TradingView's exported alert log: read as it is, also after a spreadsheet, and every bad row named by its line."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import alert_log
from bridge.alert_log import read_log
from bridge.errors import InputError
from bridge.values import read_time

HEADER = "Alert ID,Ticker,Name,Description,Time"
TEN = read_time("2026-11-20T10:00:00Z")


def read(text: str | bytes) -> tuple[list[alert_log.Row], list[str]]:
    rows, faults = read_log(text.encode() if isinstance(text, str) else text, "log.csv")
    return rows, [str(fault) for fault in faults]


def test_a_log_is_read_as_tradingview_writes_it() -> None:
    rows, faults = read(HEADER + ',Webhook status\r\n2069,"CME_MINI:ES1!, 1m",ES long,"{\n  ""side"": ""buy"",\n  ""price"": 1.5\n}",'
                        '2026-11-20T10:00:00.000Z,\r\n2070,NQ1!,,BUY NQ1! 2,2026-11-20T09:00:00Z,200\r\n')

    assert faults == []
    assert [(row.line, row.id, row.ticker, row.name, row.at) for row in rows] == [
        (6, "2070", "NQ1!", "", read_time("2026-11-20T09:00:00Z")), (2, "2069", "CME_MINI:ES1!, 1m", "ES long", TEN)]
    assert rows[1].body == '{\n  "side": "buy",\n  "price": 1.5\n}' and rows[0].body == "BUY NQ1! 2"


@pytest.mark.parametrize("text", [
    "\ufeffTime,Description\n2026-11-20T10:00:00Z,go\n",
    "description;TIME\ngo;2026-11-20 10:00:00\n",
    "Date\tMessage\n2026-11-20T10:00:00Z\tgo\n",
    "\ufeff alert id , Time (UTC), Message \n1,2026-11-20T10:00:00Z,go\n\n , ,\n",
])
def test_a_log_that_went_through_a_spreadsheet_is_read_too(text: str) -> None:
    rows, faults = read(text)

    assert faults == [] and [(row.body, row.at) for row in rows] == [("go", TEN)]


def test_alerts_of_one_second_stay_in_the_order_in_which_they_fired() -> None:
    same = "2026-11-20T10:00:00Z"

    newest_first, _ = read(f"{HEADER}\n9,,,last,2026-11-20T10:00:01Z\n,,,second,{same}\n,,,first,{same}\n")
    oldest_first, _ = read(f"{HEADER}\n,,,first,{same}\n,,,second,{same}\n9,,,last,2026-11-20T10:00:01Z\n")

    assert [row.body for row in newest_first] == [row.body for row in oldest_first] == ["first", "second", "last"]


def test_each_bad_row_is_named_by_its_line_and_the_others_are_read() -> None:
    rows, faults = read(f'{HEADER}\n1,,,"two\nlines",2026-11-20T10:00:00Z\n2,,,,2026-11-20T10:00:00Z\n3,,,x,yesterday\n4,x\n'
                        "5,,,good,2026-11-20T10:00:00Z\n")

    assert [row.body for row in rows] == ["two\nlines", "good"]
    assert [fault.split(": ", 1)[0] for fault in faults] == ["log.csv:4:1", "log.csv:5:1", "log.csv:6:1"]
    assert "Description is empty" in faults[0] and "'yesterday'" in faults[1] and "has 2 cells" in faults[2]


def test_a_quote_that_is_not_closed_costs_the_rows_below_it_and_says_so() -> None:
    rows, faults = read(f'{HEADER}\n1,,,good,2026-11-20T10:00:00Z\n2,,,"never closed,2026-11-20T10:00:00Z\n3,,,x,2026-11-20T10:00:00Z\n')

    assert [row.body for row in rows] == ["good"]
    assert len(faults) == 1 and faults[0].startswith("log.csv:3:1: ") and "below it are left out" in faults[0]


def test_a_message_larger_than_any_alert_is_left_out() -> None:
    rows, faults = read(f"{HEADER}\n1,,,{'x' * 70_000},2026-11-20T10:00:00Z\n2,,,good,2026-11-20T10:00:00Z\n")

    assert [row.body for row in rows] == ["good"] and "more than 65536 bytes" in faults[0]


@pytest.mark.parametrize(("raw", "words"), [
    (b"Trade #,Type,Signal\n1,Entry,Long\n", "no column Description"),
    (b"", "this file has nothing"),
    (b"\xff\xfe\x00", "no UTF-8 text"),
    (b"Description,Time\nx\xe4,2026\n", "log.csv:2:1"),
])
def test_a_file_that_is_no_such_log_is_refused_with_what_was_expected(raw: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(raw)


def test_its_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_log, "MOST_ROWS", 2)
    with pytest.raises(InputError, match="more than 2 rows"):
        read(f"{HEADER}\n" + "1,,,x,2026-11-20T10:00:00Z\n" * 3)
    monkeypatch.setattr(alert_log, "MOST_BYTES", 10)
    with pytest.raises(InputError, match="at most 10 are read"):
        read(HEADER)


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=60)
                .filter(lambda text: bool(text.strip())), max_size=6))
def test_whatever_a_message_holds_comes_back_as_it_was(messages: list[str]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(HEADER.split(","))
    writer.writerows([number, "T", "N", message, f"2026-11-20T10:00:{number:02}Z"] for number, message in enumerate(messages))

    rows, faults = read(text.getvalue())

    assert faults == [] and [row.body for row in rows] == messages


@given(st.binary(max_size=300))
def test_no_file_breaks_it(raw: bytes) -> None:
    for content in (raw, HEADER.encode() + b"\n" + raw):
        try:
            read_log(content, "log.csv")
        except InputError:
            pass
