"""TradingView's alert log as its "Export" button writes it: a CSV, one row for each alert that fired. Pure.

Its columns are `Alert ID,Ticker,Name,Description,Time`, since 2026 also `Webhook status`; the newest row comes first.
`Description` is the alert's message as it was sent, quoted and over several lines where it has some; `Time` is UTC like
`2026-11-20T15:30:00Z`. Files that went through a spreadsheet are read too: other separators, other cases, other order.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from bridge.alert import MAX_BYTES
from bridge.errors import Fault, InputError
from bridge.values import read_time

MOST_BYTES = 64 << 20
MOST_ROWS = 500_000
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "body": ("description", "message", "alert message", "body"),
    "time": ("time", "time (utc)", "date", "timestamp"),
    "id": ("alert id", "id"),
    "ticker": ("ticker", "symbol"),
    "name": ("name", "alert name"),
}
"""What a column is, and the names that it may have, in small letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One alert of the log. `line` is where it begins in the file; `at` is None where the log has no time."""

    line: int
    body: str
    at: datetime | None
    id: str = ""
    ticker: str = ""
    name: str = ""


def read_log(raw: bytes, file: str) -> tuple[list[Row], list[Fault]]:
    """The rows, oldest first, and what is wrong with those that could not be read, each with its line.

    Raises InputError for a file that is no such log at all.
    """
    if len(raw) > MOST_BYTES:
        raise InputError(Fault(file=file, line=1, column=1,
                               message=f"has {len(raw)} bytes; at most {MOST_BYTES} are read: export fewer days"))
    reader = csv.reader(io.StringIO(_text(raw, file), newline=""), delimiter=_separator(raw), strict=True)
    columns = _columns(reader, file)
    rows: list[Row] = []
    faults: list[Fault] = []
    for line, cells in _records(reader, file, faults):
        if not any(cell.strip() for cell in cells):
            continue
        try:
            rows.append(_row(line, cells, columns))
        except ValueError as error:
            faults.append(Fault(file=file, line=line, column=1, message=f"this row is left out: {error}"))
        if len(rows) > MOST_ROWS:
            raise InputError(Fault(file=file, line=line, column=1, message=f"has more than {MOST_ROWS} rows"))
    return _oldest_first(rows), faults


def _text(raw: bytes, file: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(Fault(file=file, line=line, column=1, message="is no UTF-8 text: save the log as CSV (UTF-8)")
                         ) from None


def _separator(raw: bytes) -> str:
    """A comma, or what a spreadsheet wrote in its place."""
    head = raw.split(b"\n", 1)[0]
    return max(",;\t", key=lambda each: head.count(each.encode()))


def _columns(reader: Iterator[list[str]], file: str) -> dict[str, int]:
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise InputError(Fault(file=file, line=1, column=1, message=f"is no CSV: {error}")) from None
    names = [cell.strip().lower() for cell in header]
    found = {what: names.index(name) for what, known in COLUMNS.items() for name in reversed(known) if name in names}
    if "body" not in found:
        shown = ", ".join(cell.strip()[:40] for cell in header[:10]) or "nothing"
        raise InputError(Fault(file=file, line=1, column=1, message=(
            "has no column Description: TradingView's alert log has Alert ID, Ticker, Name, Description, Time in its first "
            f"line; this file has {shown}")))
    return found


def _records(reader: Iterator[list[str]], file: str, faults: list[Fault]) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line that it begins on."""
    csv.field_size_limit(max(csv.field_size_limit(), 4 * MAX_BYTES))
    while True:
        line = reader.line_num + 1  # type: ignore[attr-defined]
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.append(Fault(file=file, line=line, column=1, message=(
                f"is no CSV from here on: {error} (a quote that is not closed?); this row and those below it are left "
                "out")))
            return
        yield line, cells


def _row(line: int, cells: Sequence[str], columns: Mapping[str, int]) -> Row:
    values = {what: cells[place] if place < len(cells) else "" for what, place in columns.items()}
    body = values["body"]
    if columns["body"] >= len(cells):
        raise ValueError(f"it has {len(cells)} cells, and the Description would be number {columns['body'] + 1}")
    if not body.strip():
        raise ValueError("its Description is empty: the alert had no message")
    if len(body.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ValueError(f"its Description has more than {MAX_BYTES} bytes")
    at = None
    if "time" in columns:
        try:
            at = read_time(values["time"], ZoneInfo("UTC"))
        except ValueError as error:
            raise ValueError(f"its Time {values['time'][:40]!r} {error}") from None
    return Row(line=line, body=body, at=at,
               **{what: values.get(what, "").strip()[:200] for what in ("id", "ticker", "name")})


def _oldest_first(rows: list[Row]) -> list[Row]:
    """By time; rows of one second as they were written, which is newest first where the file is."""
    if any(row.at is None for row in rows):
        return rows
    times = [row.at for row in rows if row.at is not None]
    newest_first = bool(times) and times[0] > times[-1]
    return sorted(reversed(rows) if newest_first else rows, key=lambda row: row.at or times[0])
